"""Charges paid in advance: the quantity and the price of one event."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.pay_in_advance import (
    AdvanceEvent,
    HighWater,
    advance,
    event_fee,
    paid_units,
    prorated_event_fee,
    prorated_paid_units,
)
from app.core.charges.pricing import compile_price
from app.core.charges.usage import BucketUsage, ChargeModel, ones
from app.core.money import from_minor
from tests.pricing import (
    APRIL,
    DYNAMIC,
    GRADUATED,
    GRADUATED_PERCENTAGE,
    PACKAGE,
    PERCENTAGE,
    STANDARD,
    fraction,
    graduated,
    money_text,
    quick,
    ranged,
    ranges_of,
    span,
    spent,
    tables,
    tier,
)

SUM, COUNT, UNIQUE = Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE_COUNT


def billed(aggregation: Aggregation, *changes: object) -> tuple[HighWater, list[AdvanceEvent]]:
    """What each of these events bills, and the state in the end."""
    state, events = HighWater(), []
    for change in changes:
        state, event = advance(aggregation, state, Decimal(str(change)))
        events.append(event)
    return state, events


def fees(
    model: ChargeModel, properties: dict[str, object], values: Sequence[object], currency: str = "EUR", carried: int = 0
) -> list[FeeAmounts]:
    """The fee of each event of a sum, sent one after the other."""
    price, state, found = compile_price(model, properties), HighWater(), []
    for count in range(1, len(values) + 1):
        state, event = advance(SUM, state, Decimal(str(values[count - 1])))
        so_far = spent(*([carried] if carried else []), *values[:count])
        found.append(event_fee(model, price, so_far, event, currency))
    return found


def cents(found: Sequence[FeeAmounts]) -> list[int]:
    return [fee.amount_cents for fee in found]


def test_a_sum_bills_what_raises_its_highest_level() -> None:
    state, events = billed(SUM, 5, -2, 4, 3)
    assert [event.billed for event in events] == [5, 0, 2, 3]
    assert [event.shown for event in events] == [5, 0, 2, 3]
    assert (state.current, state.maximum) == (10, 10)
    assert [billed(SUM, *values)[0].maximum for values in ([5], [5, -2], [5, -2, 4])] == [5, 5, 7]


def test_a_first_value_below_zero_bills_nothing() -> None:
    state, events = billed(SUM, -3, 5, 1)
    assert [event.billed for event in events] == [0, 2, 1]
    assert (state.current, state.maximum) == (3, 3)


def test_an_event_that_bills_nothing_shows_its_own_value() -> None:
    _, events = billed(SUM, 5, -5, 3, 0)
    assert [(event.billed, event.shown) for event in events] == [(5, 5), (0, 0), (0, 3), (0, 0)]


def test_counts() -> None:
    _, events = billed(COUNT, 1, 1)
    assert [(event.billed, event.shown, event.counted) for event in events] == [(1, 1, 1)] * 2
    # Items come (1), are there already (0), go (-1): one bills when more are there than ever in the period.
    _, events = billed(UNIQUE, 1, 0, 1, -1, 1, 1)
    assert [event.billed for event in events] == [1, 0, 1, 0, 0, 1]
    assert [(event.shown, event.counted) for event in events] == [(event.billed, event.billed) for event in events]


STAIRS = graduated(tier(0, 5, "0.02", "0.01"), tier(6, None, "0.01", "0.01"))


def test_graduated() -> None:
    found = fees(GRADUATED, STAIRS, [3, 1, 2])
    assert cents(found) == [7, 2, 4]
    assert [(fee.units, fee.amount_details) for fee in found] == [(3, {}), (1, {}), (2, {})]
    assert [found[1].precise_unit_amount, found[2].precise_unit_amount] == [Decimal("0.02"), Decimal("0.02")]
    assert abs(found[0].precise_unit_amount * 3 - Decimal("0.07")) < Decimal("1e-20")


def test_package() -> None:
    assert cents(fees(PACKAGE, {"amount": "100", "package_size": 2, "free_units": 3}, [3, 1, 2])) == [0, 10000, 10000]


def test_percentage_with_free_events() -> None:
    found = fees(PERCENTAGE, {"rate": "5", "fixed_amount": "1", "free_units_per_events": 2}, [8, 5, 3])
    assert cents(found) == [0, 0, 115]
    assert [fee.amount_details for fee in found] == [
        {"units": "8.0", "free_units": "8.0", "free_events": 1, "paid_units": "0.0", "rate": "5.0",
         "per_unit_total_amount": "0.0", "paid_events": 0, "fixed_fee_unit_amount": "0.0",
         "fixed_fee_total_amount": "0.0", "min_max_adjustment_total_amount": "0.0"},
        {"units": "5.0", "free_units": "5.0", "free_events": 1, "paid_units": "0.0", "rate": "5.0",
         "per_unit_total_amount": "0.0", "paid_events": 0, "fixed_fee_unit_amount": "0.0",
         "fixed_fee_total_amount": "0.0", "min_max_adjustment_total_amount": "0.0"},
        {"units": "3.0", "free_units": "0.0", "free_events": 0, "paid_units": "3.0", "rate": "5.0",
         "per_unit_total_amount": "0.15", "paid_events": 1, "fixed_fee_unit_amount": "1.0",
         "fixed_fee_total_amount": "1.0", "min_max_adjustment_total_amount": "0.0"},
    ]  # fmt: skip


def test_percentage_with_bounds() -> None:
    bounds = {
        "rate": "1",
        "fixed_amount": "0.5",
        "per_transaction_min_amount": "1.75",
        "per_transaction_max_amount": "2",
    }
    found = fees(PERCENTAGE, bounds, [100, 1000, 10000])
    assert cents(found) == [175, 200, 200]
    assert [fee.amount_details["min_max_adjustment_total_amount"] for fee in found] == ["0.25", "-8.5", "-98.5"]


def test_graduated_percentage_details() -> None:
    properties = ranged(GRADUATED_PERCENTAGE, [tier(0, 10, "1", "200"), tier(11, None, "2", "300")])
    first, second = fees(GRADUATED_PERCENTAGE, properties, [7, 6])
    assert (first.amount_cents, second.amount_cents) == (20007, 30009)
    assert first.amount_details == {
        "graduated_percentage_ranges": [
            {"from_value": 0, "to_value": 10, "flat_unit_amount": "200.0", "rate": "1.0", "units": "7.0",
             "per_unit_total_amount": "0.01", "total_with_flat_amount": "200.07"},
        ]
    }  # fmt: skip
    assert second.amount_details == {
        "graduated_percentage_ranges": [
            {"from_value": 0, "to_value": 10, "flat_unit_amount": "0.0", "rate": "1.0", "units": "3.0",
             "per_unit_total_amount": "0.01", "total_with_flat_amount": "0.03"},
            {"from_value": 11, "to_value": None, "flat_unit_amount": "300.0", "rate": "2.0", "units": "3.0",
             "per_unit_total_amount": "0.02", "total_with_flat_amount": "300.06"},
        ]
    }  # fmt: skip


def test_dynamic() -> None:
    price, state = compile_price(DYNAMIC, {}), HighWater()
    total = Decimal(0)
    for amount in ("200", "200", "0.4"):
        own = from_minor(Decimal(amount), "EUR")
        total += own
        state, event = advance(SUM, state, Decimal(1), own)
        usage = BucketUsage(state.current, 1, precise_total_amount=total)
        fee = event_fee(DYNAMIC, price, usage, event, "EUR")
        assert (fee.amount_cents, fee.precise_amount_cents) == (round(Decimal(amount)), Decimal(amount))


def test_each_event_is_rounded_alone() -> None:
    assert cents(fees(STANDARD, {"amount": "0.004"}, [1, 1, 1])) == [0, 0, 0]
    three = spent(1, 1, 1)
    arrears = fee_amounts(three, compile_price(STANDARD, {"amount": "0.004"})(three), "EUR")
    assert arrears.amount_cents == 1
    (only,) = fees(STANDARD, {"amount": "0.016"}, [1])
    assert (only.amount_cents, only.precise_amount_cents, only.precise_unit_amount) == (
        2,
        Decimal("1.6"),
        Decimal("0.02"),
    )


@pytest.mark.parametrize(
    ("amount", "currency", "fee"), [("12.5", "JPY", 13), ("1.2345", "KWD", 1235), ("0.00005", "CLF", 1)]
)
def test_currencies(amount: str, currency: str, fee: int) -> None:
    assert cents(fees(STANDARD, {"amount": amount}, [1], currency)) == [fee]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 5], [1, 500]),
        ([-3, 5], [0, 201]),
        ([0, -3, 5], [1, 0, 200]),
        ([5, -5, 5, 1], [501, 0, 0, 100]),
        ([5, -5, 0], [501, 0, 0]),
    ],
)
def test_the_flat_amount_comes_once_with_the_first_event(values: list[int], expected: list[int]) -> None:
    assert cents(fees(GRADUATED, graduated(tier(0, None, "1", "0.01")), values)) == expected


def test_tiers_go_on_above_what_was_carried_over() -> None:
    properties = graduated(tier(0, 10, "1", "7"), tier(11, None, "3", "2"))
    assert cents(fees(GRADUATED, properties, [4, -4, 6], carried=8)) == [200 + 200 + 600, 0, 600]


def test_an_item_that_goes_is_not_a_first_event() -> None:
    price = compile_price(GRADUATED, graduated(tier(0, None, "1", "0.01")))
    state, (gone, come) = billed(UNIQUE, 0, 1)
    assert event_fee(GRADUATED, price, BucketUsage(Decimal(0), 0), gone, "EUR").amount_cents == 0
    assert event_fee(GRADUATED, price, BucketUsage(Decimal(1), 1), come, "EUR").amount_cents == 101
    assert state.started


@pytest.mark.parametrize("bound", [None, "0.2"])
def test_an_item_that_goes_has_no_fixed_amount(bound: str | None) -> None:
    properties = {"rate": "10", "fixed_amount": "1", "per_transaction_min_amount": bound}
    price, state, present = compile_price(PERCENTAGE, properties), HighWater(), 0
    found = []
    for change in (1, 1, -1, 1, 0, 1):
        present += change
        state, event = advance(UNIQUE, state, Decimal(change))
        usage = BucketUsage(Decimal(present), present, runs=ones(present))
        found.append(event_fee(PERCENTAGE, price, usage, event, "EUR").amount_cents)
    assert found == [110, 110, 0, 0, 0, 110]


def test_percentage_of_counted_events() -> None:
    price, state = compile_price(PERCENTAGE, {"rate": "10", "free_units_per_events": 2}), HighWater()
    found = []
    for number in range(1, 5):
        state, event = advance(COUNT, state, Decimal(1))
        found.append(
            event_fee(PERCENTAGE, price, BucketUsage(Decimal(number), number, runs=ones(number)), event, "EUR")
        )
    assert cents(found) == [0, 0, 10, 10]


positive = st.lists(st.decimals(0, 40, places=4), min_size=1, max_size=8)


@quick
@given(positive, tables, money_text, st.integers(0, 20), st.integers(1, 5))
def test_events_add_up_to_the_price_in_arrears(
    values: list[Decimal], table: Any, amount: str, free: int, events: int
) -> None:
    """Before rounding, and as long as no value is negative."""
    charges: list[tuple[ChargeModel, dict[str, object]]] = [
        (STANDARD, {"amount": amount}),
        (PACKAGE, {"amount": amount, "package_size": 7, "free_units": free}),
        (PERCENTAGE, {"rate": amount, "fixed_amount": "0.5", "free_units_per_events": events}),
        (PERCENTAGE, {"rate": "2", "fixed_amount": "0.5", "per_transaction_min_amount": "0.6"}),
        (GRADUATED, ranged(GRADUATED, ranges_of(table, 1))),
        (GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, ranges_of(table, 1))),
    ]
    for model, properties in charges:
        found = fees(model, properties, values)
        whole = compile_price(model, properties)(spent(*values))
        assert sum((fraction(fee.precise_amount_cents) for fee in found), Fraction(0)) == fraction(whole.amount) * 100
        if model is PERCENTAGE:
            for key in (
                "units",
                "free_units",
                "paid_units",
                "per_unit_total_amount",
                "min_max_adjustment_total_amount",
            ):
                parts = sum(Fraction(str(fee.amount_details[key])) for fee in found)
                assert parts == Fraction(str(whole.amount_details[key]))


@quick
@given(st.lists(st.decimals(-40, 40, places=18), max_size=10))
def test_the_high_water_mark(values: list[Decimal]) -> None:
    state, events = billed(SUM, *values)
    levels = [sum((Fraction(value) for value in values[:count]), Fraction(0)) for count in range(len(values) + 1)]
    assert fraction(state.current) == levels[-1]
    assert fraction(state.maximum) == max(levels) == sum((fraction(event.billed) for event in events), Fraction(0))
    assert all(event.billed >= 0 and event.shown >= 0 for event in events)
    # Usage is priced on what has been charged.
    assert paid_units(state.current, state) == state.maximum
    assert paid_units(state.current + 5, state) == state.maximum + 5


def test_prorated() -> None:
    price = compile_price(STANDARD, {"amount": "10"}, prorated=True)
    _, (seat,) = billed(UNIQUE, 1)
    fee = prorated_event_fee(price, seat, 29, 30, "EUR")
    assert (fee.units, fee.amount_cents, fee.precise_unit_amount) == (1, 967, Decimal("9.67"))
    assert fee.precise_amount_cents == Decimal("966.67")  # 0.96667 units, rounded up to 5 decimals
    assert prorated_event_fee(price, seat, 26, 30, "EUR").amount_cents == 867
    _, (_, again) = billed(UNIQUE, 1, 0)
    assert prorated_event_fee(price, again, 26, 30, "EUR") == FeeAmounts(Decimal(0), 0, Decimal(0), Decimal(0), {})


@pytest.mark.parametrize(("day", "amount"), [(11, 2000), (12, 1900), (13, 1800), (14, 1700), (15, 1600)])
def test_prorated_seats(day: int, amount: int) -> None:
    price = compile_price(STANDARD, {"amount": "30"}, prorated=True)
    june = span("2024-06-01", "2024-06-30")
    _, (seat,) = billed(UNIQUE, 1)
    days = june.days_from(june.from_.replace(day=day, hour=10))
    assert prorated_event_fee(price, seat, days, 30, "EUR").amount_cents == amount


def test_prorated_usage_of_what_was_paid() -> None:
    state, events = billed(SUM, 3, -1)
    billed_quantity = sum((event.billed for event in events), Decimal(0)) * 20 / 30
    # 10 units now, 2 of them of this period: 8 were carried over for the whole of it.
    assert prorated_paid_units(Decimal(10), state, billed_quantity, APRIL) == 8 + 2
    below, _ = billed(SUM, -3)
    assert prorated_paid_units(Decimal(5), below, Decimal(0), APRIL) == 5
