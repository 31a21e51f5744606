"""The dates of invoices (billing spec 3.2)."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.issuing_dates import Adjustment, Anchor, IssuingRules, finalized_dates, issuing_dates

BILLED_ON = date(2027, 6, 1)
days = st.integers(0, 400)
rules = st.builds(IssuingRules, days, st.sampled_from(Anchor), st.sampled_from(Adjustment), days)


@pytest.mark.parametrize(
    ("anchor", "adjustment", "grace", "shift"),
    [
        ("next_period_start", "align_with_finalization_date", 0, 0),
        ("next_period_start", "align_with_finalization_date", 3, 3),
        ("next_period_start", "keep_anchor", 0, 0),
        ("next_period_start", "keep_anchor", 3, 0),
        ("current_period_end", "keep_anchor", 0, -1),
        ("current_period_end", "keep_anchor", 3, -1),
        ("current_period_end", "align_with_finalization_date", 0, -1),
        ("current_period_end", "align_with_finalization_date", 3, 3),
    ],
)
def test_periodic_invoices(anchor: str, adjustment: str, grace: int, shift: int) -> None:
    found = issuing_dates(
        BILLED_ON, IssuingRules(grace, Anchor(anchor), Adjustment(adjustment), 14), has_grace=True, is_periodic=True
    )
    assert found.issuing == BILLED_ON + timedelta(days=shift)
    assert found.finalization == BILLED_ON + timedelta(days=grace)
    assert found.payment_due == found.issuing + timedelta(days=14)


@given(rules)
def test_other_invoices_wait_for_their_grace_period_and_look_at_nothing_else(rules: IssuingRules) -> None:
    found = issuing_dates(BILLED_ON, rules, has_grace=True, is_periodic=False)
    assert found.issuing == found.finalization == BILLED_ON + timedelta(days=rules.grace_period)


@given(rules, st.booleans())
def test_what_has_no_grace_period_is_issued_when_it_is_billed(rules: IssuingRules, is_periodic: bool) -> None:
    found = issuing_dates(BILLED_ON, rules, has_grace=False, is_periodic=is_periodic)
    assert found.issuing == found.finalization == BILLED_ON


@given(rules, st.booleans(), st.integers(-40, 400))
def test_finalizing_moves_the_issuing_date_unless_it_is_kept(rules: IssuingRules, is_periodic: bool, late: int) -> None:
    before = issuing_dates(BILLED_ON, rules, has_grace=True, is_periodic=is_periodic)
    today = before.finalization + timedelta(days=late)
    after = finalized_dates(before, today, rules, is_periodic=is_periodic)
    keeps = is_periodic and rules.adjustment is Adjustment.KEEP_ANCHOR
    assert after.issuing == (before.issuing if keeps else today)
    assert after.payment_due == after.issuing + timedelta(days=rules.net_payment_term)
    assert after.finalization == before.finalization
