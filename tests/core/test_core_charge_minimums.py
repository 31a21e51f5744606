"""Spending minimums, and prices in pricing units."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.pricing_units import converted, fiat_cents, unit_amount_cents
from app.core.charges.proration import ProratedSpan
from app.core.charges.spending_minimum import true_up
from app.core.charges.usage import Priced
from app.core.money import PRICING_UNIT, UnknownCurrency, is_currency, to_minor
from tests.pricing import APRIL, UTC_ZONE, fraction, quick, span, used

FROM_13TH = span("2024-04-13", "2024-04-30")
THIRD = span("2024-04-01", "2024-04-10")


def billed(cents: int, precise: object = None) -> FeeAmounts:
    return FeeAmounts(Decimal(1), cents, Decimal(str(cents if precise is None else precise)), Decimal(0), {})


def lacks(minimum: int, days: ProratedSpan, *fees: FeeAmounts, currency: str = "EUR") -> tuple[int, Decimal] | None:
    found = true_up(minimum, fees, days, currency)
    if found is None:
        return None
    assert (found.units, found.amount_details) == (1, {})
    assert to_minor(found.precise_unit_amount, currency) == found.precise_amount_cents
    return found.amount_cents, found.precise_amount_cents


def test_true_up() -> None:
    assert lacks(10000, FROM_13TH, billed(4000), billed(210, "210.4")) == (1790, Decimal("1789.6"))
    assert lacks(10000, FROM_13TH, billed(0)) == (6000, Decimal(6000))
    assert lacks(10000, APRIL) == (10000, Decimal(10000))
    assert lacks(10000, APRIL, currency="JPY") == (10000, Decimal(10000))
    assert lacks(10000, APRIL, currency=PRICING_UNIT) == (10000, Decimal(10000))
    for used_cents in (6000, 6001):
        assert lacks(10000, FROM_13TH, billed(used_cents)) is None
    february = lacks(1000, span("2023-02-01", "2023-02-25"), billed(800))
    assert february is not None
    assert february[0] == 93


def test_the_day_of_an_upgrade_needs_no_minimum() -> None:
    assert lacks(3000, span("2024-04-01", "2024-04-11", ends_by_upgrade=True)) == (1000, Decimal(1000))


def test_a_minimum_missed_by_less_than_half_a_cent_is_met() -> None:
    assert lacks(1, THIRD) is None
    assert lacks(2, THIRD) is not None
    assert lacks(1, APRIL, billed(0, "1.2")) == (1, Decimal(0))


def test_a_minimum_is_never_for_more_than_the_period() -> None:
    begins_early = ProratedSpan(APRIL.from_ - timedelta(hours=5), APRIL.to, 30, UTC_ZONE)
    assert begins_early.days == 31
    assert lacks(3000, begins_early) == (3000, Decimal(3000))


@quick
@given(
    st.integers(0, 10**9),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(-499, 500)), max_size=5),
    st.integers(1, 30),
)
def test_a_true_up_fills_the_minimum_and_no_more(minimum: int, used: list[tuple[int, int]], last_day: int) -> None:
    fees = [billed(cents, Decimal(cents) + Decimal(less) / 1000) for cents, less in used]
    found = lacks(minimum, span("2024-04-01", f"2024-04-{last_day:02}"), *fees)
    due = Fraction(minimum * last_day, 30)
    total = sum(cents for cents, _ in used)
    if found is None:
        assert due - total < Fraction(1, 2)
    else:
        assert abs(total + found[0] - due) <= Fraction(1, 2)
        assert found[1] >= 0


def in_pricing_units(amount: object, each: object = "0.8") -> FeeAmounts:
    return fee_amounts(used(3), Priced(Decimal(str(amount)), Decimal(str(each)), {"a": 1}), PRICING_UNIT)


def test_pricing_units() -> None:
    amounts = in_pricing_units("12.345", "4.115")
    assert (amounts.amount_cents, amounts.precise_amount_cents) == (1235, Decimal("1234.5"))
    assert (unit_amount_cents(amounts), amounts.precise_unit_amount) == (412, Decimal("4.115"))
    money = converted(amounts, Decimal("0.5"), "EUR")
    assert (money.units, money.amount_cents, money.precise_amount_cents) == (3, 618, Decimal("617.5"))
    assert (money.precise_unit_amount, money.amount_details) == (Decimal("2.0575"), {"a": 1})
    assert converted(amounts, Decimal("0.5"), "JPY").amount_cents == 6
    assert converted(amounts, Decimal("0.5"), "KWD").precise_amount_cents == 6175
    assert fiat_cents(1790, Decimal("0.5"), "EUR") == 895
    with pytest.raises(UnknownCurrency):
        converted(amounts, Decimal("0.5"), "XAU")


def test_a_pricing_unit_is_no_currency() -> None:
    assert not is_currency(PRICING_UNIT)


def test_negative_pricing_units_are_zero() -> None:
    amounts = in_pricing_units(-5)
    assert (amounts.amount_cents, converted(amounts, Decimal(2), "EUR").amount_cents) == (0, 0)


@quick
@given(
    st.decimals(0, 10**9, places=6),
    st.decimals("0.000001", 10**4, places=6),
    st.sampled_from([("JPY", 0), ("EUR", 2), ("KWD", 3)]),
)
def test_pricing_units_are_rounded_before_they_are_converted(
    amount: Decimal, rate: Decimal, currency: tuple[str, int]
) -> None:
    code, places = currency
    found = converted(in_pricing_units(amount), rate, code)
    units = (fraction(amount) * 100 + Fraction(1, 2)) // 1
    minor = units * fraction(rate) * 10**places / 100
    assert fraction(found.precise_amount_cents) == minor
    assert found.amount_cents == (minor + Fraction(1, 2)) // 1
