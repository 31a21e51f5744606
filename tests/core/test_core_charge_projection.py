"""Projections of usage, whatever the usage and the day (metering spec 5.5)."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.core.charges.pricing import compile_price
from app.core.charges.projection import Progress, project
from app.core.charges.usage import BucketUsage
from tests.pricing import DYNAMIC, STANDARD, fraction, quick, used

progresses = st.integers(1, 366).flatmap(lambda of: st.builds(Progress, st.integers(1, of), st.just(of)))
amounts = st.decimals(0, 10**9, places=3)
PRICE = compile_price(STANDARD, {"amount": "0.07"})


@quick
@given(amounts, progresses)
def test_units_grow_with_the_days_and_are_priced_again(units: Decimal, progress: Progress) -> None:
    found = project(STANDARD, PRICE, used(units), "EUR", progress, recurring=False)
    grown = fraction(units) * progress.of_days / progress.days
    assert abs(fraction(found.units) - grown) <= Fraction(1, 200)
    assert found.amount_cents == (fraction(found.units) * 7 + Fraction(1, 2)) // 1


@quick
@given(amounts, progresses)
def test_amounts_of_events_grow_with_the_days(amount: Decimal, progress: Progress) -> None:
    usage = BucketUsage(Decimal(3), 2, precise_total_amount=amount)
    found = project(DYNAMIC, compile_price(DYNAMIC, {}), usage, "EUR", progress, recurring=False)
    assert found.amount_cents == (fraction(amount) * 100 * progress.of_days / progress.days + Fraction(1, 2)) // 1


@quick
@given(st.decimals(-(10**9), 10**9, places=3), progresses, st.booleans())
def test_a_projection_is_never_below_nothing(units: Decimal, progress: Progress, recurring: bool) -> None:
    found = project(STANDARD, PRICE, used(units), "EUR", progress, recurring=recurring)
    assert found.units >= 0
    assert found.amount_cents >= 0
    if recurring and units >= 0:
        assert found.units == units
