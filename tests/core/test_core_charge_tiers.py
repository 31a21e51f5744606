"""Standard, graduated, graduated percentage and volume prices."""

from decimal import ROUND_UP, Context, Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.charges.fees import fee_amounts
from app.core.charges.pricing import compile_price, price
from app.core.charges.usage import BucketUsage, ChargeModel, Portion, Priced, Waterfall
from tests.pricing import (
    GRADUATED,
    GRADUATED_PERCENTAGE,
    MIXED,
    NEXT_BOUND,
    RANGES_OF,
    SHARED_BOUND,
    STANDARD,
    VOLUME,
    Table,
    fraction,
    money_text,
    quantities,
    quick,
    ranged,
    ranges_of,
    tables,
    tier,
    tier_of,
    uppers,
    used,
)

PERCENT_RANGES = [tier(0, 1000, "1.5", "1"), tier(1001, None, "0.9", "3")]


def test_standard() -> None:
    assert price(STANDARD, {"amount": "0.25"}, used(10, 3)) == Priced(Decimal("2.5"), Decimal("0.25"), {})
    assert price(STANDARD, {"amount": "0.25"}, used(0, 0)) == Priced(Decimal(0), Decimal(0), {})
    assert price(STANDARD, {"amount": "2"}, used("-1.5")).amount == -3


@pytest.mark.parametrize("ranges", [NEXT_BOUND, SHARED_BOUND, MIXED])
@pytest.mark.parametrize(
    ("units", "amount"), [("0", "5"), ("100", "15"), ("100.5", "17.04"), ("250", "29"), ("1500", "114"), ("1000", "89")]
)
def test_graduated_table(ranges: list[dict[str, object]], units: str, amount: str) -> None:
    priced = price(GRADUATED, ranged(GRADUATED, ranges), used(units))
    assert priced.amount == Decimal(amount)
    if units == "0":
        assert priced.unit_amount == 0
    else:
        assert abs(priced.unit_amount * Decimal(units) - priced.amount) < Decimal("1e-20")


@pytest.mark.parametrize("ranges", [NEXT_BOUND, SHARED_BOUND, MIXED])
@pytest.mark.parametrize(
    ("units", "amount"),
    [("0", "5"), ("-3", "5"), ("100", "15"), ("100.5", "10.04"), ("250", "22"), ("1000.1", "50.005")],
)
def test_volume_table(ranges: list[dict[str, object]], units: str, amount: str) -> None:
    priced = price(VOLUME, ranged(VOLUME, ranges), used(units))
    assert priced.amount == Decimal(amount)
    each = Decimal(amount) / Decimal(units) if Decimal(units) > 0 else Decimal(0)
    assert abs(priced.unit_amount - each) < Decimal("1e-20")


@pytest.mark.parametrize(("units", "amount"), [("0", "1"), ("1000", "16"), ("1000.1", "19.0009"), ("2500", "32.5")])
@pytest.mark.parametrize("second_from", [1000, 1001])
def test_graduated_percentage_table(units: str, amount: str, second_from: int) -> None:
    ranges = [PERCENT_RANGES[0], {**PERCENT_RANGES[1], "from_value": second_from}]
    priced = price(GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, ranges), used(units))
    assert priced.amount == Decimal(amount)


def test_graduated_details() -> None:
    assert price(GRADUATED, ranged(GRADUATED, NEXT_BOUND), used("100.5")).amount_details == {
        "graduated_ranges": [
            {
                "from_value": 0,
                "to_value": 100,
                "flat_unit_amount": "5.0",
                "per_unit_amount": "0.1",
                "units": "100.0",
                "per_unit_total_amount": "10.0",
                "total_with_flat_amount": "15.0",
            },
            {
                "from_value": 101,
                "to_value": 1000,
                "flat_unit_amount": "2.0",
                "per_unit_amount": "0.08",
                "units": "0.5",
                "per_unit_total_amount": "0.04",
                "total_with_flat_amount": "2.04",
            },
        ]
    }


def test_graduated_details_without_usage() -> None:
    for units in ("0", "-3"):
        assert price(GRADUATED, ranged(GRADUATED, MIXED), used(units, 0)).amount_details == {
            "graduated_ranges": [
                {
                    "from_value": 1,
                    "to_value": 100,
                    "flat_unit_amount": "5.0",
                    "per_unit_amount": "0.0",
                    "units": "0.0",
                    "per_unit_total_amount": "0.0",
                    "total_with_flat_amount": "5.0",
                }
            ]
        }


def test_graduated_percentage_details() -> None:
    properties = ranged(GRADUATED_PERCENTAGE, PERCENT_RANGES)
    assert price(GRADUATED_PERCENTAGE, properties, used(2500)).amount_details == {
        "graduated_percentage_ranges": [
            {
                "from_value": 0,
                "to_value": 1000,
                "flat_unit_amount": "1.0",
                "rate": "1.5",
                "units": "1000.0",
                "per_unit_total_amount": "15.0",
                "total_with_flat_amount": "16.0",
            },
            {
                "from_value": 1001,
                "to_value": None,
                "flat_unit_amount": "3.0",
                "rate": "0.9",
                "units": "1500.0",
                "per_unit_total_amount": "13.5",
                "total_with_flat_amount": "16.5",
            },
        ]
    }
    unused: Any = price(GRADUATED_PERCENTAGE, properties, used(0, 0)).amount_details
    (only,) = unused["graduated_percentage_ranges"]
    assert (only["rate"], only["units"], only["total_with_flat_amount"]) == ("1.5", "0.0", "1.0")


def test_volume_details() -> None:
    priced = compile_price(VOLUME, ranged(VOLUME, NEXT_BOUND))
    assert priced(used(250)).amount_details == {
        "flat_unit_amount": "2.0",
        "per_unit_amount": "0.08",
        "per_unit_total_amount": "20.0",
    }
    assert priced(used(0, 0)).amount_details == {
        "flat_unit_amount": "5.0",
        "per_unit_amount": "0.0",
        "per_unit_total_amount": "0.0",
    }


def test_details_are_new_each_time() -> None:
    priced = compile_price(GRADUATED, ranged(GRADUATED, NEXT_BOUND))
    details: Any = priced(used(5000)).amount_details
    for one in details["graduated_ranges"]:
        one.clear()
    again: Any = priced(used(5000)).amount_details
    assert all(again["graduated_ranges"])


def test_bounds_are_shown_as_configured() -> None:
    details: Any = price(GRADUATED, ranged(GRADUATED, SHARED_BOUND), used(5000)).amount_details
    shown = [(entry["from_value"], entry["to_value"]) for entry in details["graduated_ranges"]]
    assert [(type(low), type(high)) for low, high in shown] == [(str, str), (Decimal, int), (int, type(None))]


def naive_graduated(table: Table, units: int) -> Fraction:
    """Price unit after unit, each at the tier it falls in."""
    total = Fraction(table[0][2])
    entered = 0
    for unit in range(1, units + 1):
        position = tier_of(table, unit)
        while entered < position:
            entered += 1
            total += Fraction(table[entered][2])
        total += Fraction(table[position][1])
    return total


def naive_volume(table: Table, units: int) -> Fraction:
    """Price each unit at the tier of the last one."""
    _, each, flat = table[tier_of(table, units)]
    return sum((Fraction(each) for _ in range(units)), Fraction(flat))


@quick
@given(tables, st.integers(0, 70))
def test_ranges_are_priced_unit_by_unit(table: Table, units: int) -> None:
    percent = [(width, rate, flat) for width, rate, flat in table]
    for step in (0, 1):
        ranges = ranges_of(table, step)
        assert fraction(price(GRADUATED, ranged(GRADUATED, ranges), used(units)).amount) == naive_graduated(
            table, units
        )
        assert fraction(price(VOLUME, ranged(VOLUME, ranges), used(units)).amount) == naive_volume(table, units)
        shares = [(width, str(Decimal(rate) / 100), flat) for width, rate, flat in percent]
        amount = price(GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, ranges), used(units)).amount
        assert fraction(amount) == naive_graduated(shares, units)


@quick
@given(
    st.sampled_from([GRADUATED, GRADUATED_PERCENTAGE]),
    tables,
    st.decimals(0, 70, places=18),
    st.decimals(0, 70, places=18),
)
def test_graduated_is_monotone_and_adds_up(model: ChargeModel, table: Table, one: Decimal, other: Decimal) -> None:
    shared, following = (compile_price(model, ranged(model, ranges_of(table, step))) for step in (0, 1))
    low, high = sorted((one, other))
    assert shared(used(low)).amount == following(used(low)).amount
    assert shared(used(low)).amount <= shared(used(high)).amount
    details: Any = shared(used(high)).amount_details
    entries = details[RANGES_OF[model][0]]
    assert sum(Fraction(entry["units"]) for entry in entries) == Fraction(high)
    assert sum(Fraction(entry["total_with_flat_amount"]) for entry in entries) == fraction(shared(used(high)).amount)
    assert len(entries) == 1 + sum(high > end for end in uppers(table))


@quick
@given(tables, st.decimals(0, 70, places=18))
def test_volume_details_add_up(table: Table, units: Decimal) -> None:
    one, other = (price(VOLUME, ranged(VOLUME, ranges_of(table, step)), used(units)) for step in (0, 1))
    assert one.amount == other.amount
    details: Any = one.amount_details
    total = Fraction(details["per_unit_total_amount"]) + Fraction(details["flat_unit_amount"])
    assert total == fraction(one.amount)
    assert Fraction(details["per_unit_amount"]) * Fraction(units) == Fraction(details["per_unit_total_amount"])


@quick
@given(tables, st.integers(1, 4))
def test_graduated_jumps_by_the_flat_amount_only(table: Table, index: int) -> None:
    if index >= len(table):
        return
    priced = compile_price(GRADUATED, ranged(GRADUATED, ranges_of(table, 1)))
    bound = Decimal(uppers(table)[index - 1])
    tiny = Decimal("1e-18")
    jump = priced(used(bound + tiny)).amount - priced(used(bound)).amount
    assert jump == Decimal(table[index][2]) + tiny * Decimal(table[index][1])


@quick
@given(money_text, quantities)
def test_one_open_tier_is_the_standard_price(amount: str, units: Decimal) -> None:
    standard = price(STANDARD, {"amount": amount}, used(units))
    assert fraction(standard.amount) == Fraction(amount) * Fraction(units)
    for model in (GRADUATED, VOLUME):
        assert price(model, ranged(model, [tier(0, None, amount)]), used(units)).amount == standard.amount


def test_nothing_is_lost_of_the_largest_numbers() -> None:
    most = "999999999999999.999999999999999"
    units = Decimal("99999999999999999999.999999999999999999")
    ranges = [tier(0, "99999999999999999998.5", most, most), tier("99999999999999999999.5", None, most, most)]
    whole = Fraction(most) * Fraction(units)
    assert fraction(price(STANDARD, {"amount": most}, used(units)).amount) == whole
    assert fraction(price(GRADUATED, ranged(GRADUATED, ranges), used(units)).amount) == whole + 2 * Fraction(most)
    assert fraction(price(VOLUME, ranged(VOLUME, ranges), used(units)).amount) == whole + Fraction(most)
    assert fraction(
        price(GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, ranges), used(units)).amount
    ) == whole / 100 + 2 * Fraction(most)


def test_callers_context_has_no_influence() -> None:
    def prices() -> list[Priced]:
        usage = used("1234.56789", 7)
        shorter = BucketUsage(Decimal("7.12345"), 3, Decimal("9.87654"))
        flow = Waterfall((Portion(Decimal("8.7654321"), 30), Portion(Decimal("3.1"), 11)), 31)
        return [
            price(STANDARD, {"amount": "1.23456"}, usage),
            price(STANDARD, {"amount": "1.23456"}, shorter),
            *(price(model, ranged(model, NEXT_BOUND), usage) for model in RANGES_OF),
            price(VOLUME, ranged(VOLUME, NEXT_BOUND), shorter),
            price(GRADUATED, ranged(GRADUATED, NEXT_BOUND), used(1, waterfall=flow), prorated=True),
        ]

    free = prices()
    with localcontext(Context(prec=2, rounding=ROUND_UP, traps=[Inexact])):
        bound = prices()
        fees = [fee_amounts(used(7), priced, "EUR") for priced in bound]
    assert free == bound
    assert fees == [fee_amounts(used(7), priced, "EUR") for priced in free]
