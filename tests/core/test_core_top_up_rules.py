from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.periods import Interval
from app.core.top_up_rules import Amounts, Limits, Method, Rule, is_paused, is_reached, next_top_up, top_up

quick = settings(max_examples=300, deadline=None, database=None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NO_LIMITS = Limits()


def fixed(threshold: object, paid: object, granted: object = 0) -> Rule:
    at = None if threshold is None else Decimal(str(threshold))
    return Rule(Method.FIXED, at, Amounts(Decimal(str(paid)), Decimal(str(granted))))


def target(of: object, threshold: object = None, *, grants: bool = False) -> Rule:
    at = None if threshold is None else Decimal(str(threshold))
    return Rule(Method.TARGET, at, target=Decimal(str(of)), grants_target=grants)


def tops_up(rule: Rule, ongoing: object, pending: object = 0, limits: Limits = NO_LIMITS) -> Amounts:
    return top_up(rule, Decimal(str(ongoing)), Decimal(str(pending)), limits)


def test_threshold() -> None:
    assert is_reached(Decimal(5), Decimal(5), Decimal(0))
    assert not is_reached(Decimal(5), Decimal("5.00001"), Decimal(0))
    assert not is_reached(Decimal(5), Decimal(4), Decimal(2))
    assert is_reached(Decimal(5), Decimal(4), Decimal(1))


@pytest.mark.parametrize(
    ("rule", "ongoing", "pending", "limits", "paid", "granted"),
    [
        (fixed(100, 50), 30, 0, NO_LIMITS, 100, 0),
        (fixed(100, 50), 51, 0, NO_LIMITS, 50, 0),
        (fixed(100, 50), 50, 0, NO_LIMITS, 100, 0),
        (fixed(100, 50, 10), 30, 0, NO_LIMITS, 100, 10),
        (fixed(100, 50, 21), 30, 0, NO_LIMITS, 50, 21),
        (fixed(100, 50), 0, 40, NO_LIMITS, 100, 0),
        (fixed(100, 50), 0, 0, Limits(most=Decimal(120)), 120, 0),
        (fixed(100, 50), 0, 0, Limits(most=Decimal(20)), 50, 0),
        (fixed(100, 0, 10), 30, 0, NO_LIMITS, 0, 10),
        (fixed(None, 50, 5), -1_000, 0, NO_LIMITS, 50, 5),
        (target(200, 100), 30, 0, NO_LIMITS, 170, 0),
        (target(200, 100), 30, 0, Limits(Decimal(500), Decimal(100)), 500, 0),
        (target(10, 5, grants=True), 4, 0, Limits(Decimal(50)), 0, 6),
        (target(200), 200, 0, Limits(Decimal(500)), 0, 0),
        (target(200), 250, 0, NO_LIMITS, 0, 0),
    ],
)
def test_amounts(rule: Rule, ongoing: object, pending: object, limits: Limits, paid: object, granted: object) -> None:
    assert tops_up(rule, ongoing, pending, limits) == Amounts(Decimal(str(paid)), Decimal(str(granted)))


@pytest.mark.parametrize(
    ("failed", "settled", "paused"),
    [
        (None, None, False),
        (NOW - HOUR, None, False),
        (NOW - HOUR / 2, None, True),
        (NOW - HOUR / 2, NOW - HOUR, True),
        (NOW - HOUR / 2, NOW - HOUR / 4, False),
    ],
)
def test_pause(failed: datetime | None, settled: datetime | None, *, paused: bool) -> None:
    assert is_paused(failed, settled, NOW) is paused


@pytest.mark.parametrize(
    ("interval", "anchor", "after", "due"),
    [
        (Interval.WEEKLY, date(2026, 3, 3), date(2026, 3, 3), date(2026, 3, 10)),
        (Interval.MONTHLY, date(2026, 1, 31), date(2026, 1, 31), date(2026, 2, 28)),
        (Interval.MONTHLY, date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31)),
        (Interval.MONTHLY, date(2028, 1, 30), date(2028, 2, 10), date(2028, 2, 29)),
        (Interval.QUARTERLY, date(2026, 1, 15), date(2026, 1, 15), date(2026, 4, 15)),
        (Interval.SEMIANNUAL, date(2026, 8, 31), date(2026, 8, 31), date(2027, 2, 28)),
        (Interval.YEARLY, date(2024, 2, 29), date(2024, 2, 29), date(2025, 2, 28)),
        (Interval.YEARLY, date(2024, 2, 29), date(2027, 3, 1), date(2028, 2, 29)),
        (Interval.MONTHLY, date(2026, 6, 10), date(2026, 1, 1), date(2026, 6, 10)),
        (Interval.MONTHLY, date(2026, 6, 10), date(2026, 6, 9), date(2026, 6, 10)),
    ],
)
def test_next_day(interval: Interval, anchor: date, after: date, due: date) -> None:
    assert next_top_up(interval, anchor, after) == due


credits_ = st.builds(lambda n: Decimal(n).scaleb(-5), st.integers(-(10**9), 10**9))
amounts = st.builds(lambda n: Decimal(n).scaleb(-5), st.integers(0, 10**8))
sold = st.builds(lambda n: Decimal(n).scaleb(-5), st.integers(1, 10**8))


@quick
@given(credits_, sold, amounts, credits_, amounts)
def test_fixed_comes_above_the_threshold_and_not_further(
    threshold: Decimal, paid: Decimal, granted: Decimal, ongoing: Decimal, pending: Decimal
) -> None:
    topped = top_up(Rule(Method.FIXED, threshold, Amounts(paid, granted)), ongoing, pending, NO_LIMITS)
    assert topped.paid >= paid
    assert topped.paid % paid == 0
    assert topped.granted == granted
    if is_reached(threshold, ongoing, pending):
        then = ongoing + pending + topped.granted + topped.paid
        assert then > threshold
        assert topped.paid == paid or then - paid <= threshold


@quick
@given(credits_, sold, amounts, credits_, amounts, amounts)
def test_fixed_is_capped_but_never_below_one(
    threshold: Decimal, paid: Decimal, granted: Decimal, ongoing: Decimal, pending: Decimal, most: Decimal
) -> None:
    rule = Rule(Method.FIXED, threshold, Amounts(paid, granted))
    free, capped = top_up(rule, ongoing, pending, NO_LIMITS), top_up(rule, ongoing, pending, Limits(most=most))
    assert paid <= capped.paid <= max(paid, most, Decimal(0))
    assert capped.paid <= free.paid


@quick
@given(credits_, credits_, st.booleans(), amounts)
def test_target_is_reached(goal: Decimal, ongoing: Decimal, grants: bool, least: Decimal) -> None:
    topped = top_up(Rule(Method.TARGET, target=goal, grants_target=grants), ongoing, Decimal(0), Limits(least))
    assert bool(topped) == (ongoing < goal)
    assert not (topped.paid and topped.granted)
    if topped:
        then = ongoing + topped.paid + topped.granted
        assert then == goal if grants else then == goal or topped.paid == least


@quick
@given(st.sampled_from(list(Interval)), st.dates(date(2000, 1, 1), date(2050, 1, 1)), st.integers(0, 2_000))
def test_anniversaries_keep_their_day(interval: Interval, anchor: date, later: int) -> None:
    after = anchor + timedelta(days=later)
    due = next_top_up(interval, anchor, after)
    assert after < due
    assert next_top_up(interval, anchor, due - timedelta(days=1)) == due
    if interval is Interval.WEEKLY:
        assert (due - anchor).days % 7 == 0
    else:
        assert due.day == anchor.day or (due + timedelta(days=1)).day == 1
        assert due.day <= anchor.day
        step = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}[interval.value]
        assert ((due.year - anchor.year) * 12 + due.month - anchor.month) % step == 0
