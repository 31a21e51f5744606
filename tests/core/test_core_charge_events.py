"""Package, percentage and dynamic prices."""

from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation, Sample
from app.core.charges.events import runs
from app.core.charges.instant_estimates import INSTANT_MODELS, compile_instant
from app.core.charges.pricing import compile_price, needs_events, price
from app.core.charges.properties import default_properties
from app.core.charges.usage import SUPPORTED_MODELS, BucketUsage, ChargeModel, Priced, Run, ones
from tests.pricing import DYNAMIC, PACKAGE, PERCENTAGE, STANDARD, fraction, money_text, quantities, quick, spent, used

PACKAGES: dict[str, object] = {"amount": "4.5", "package_size": 100, "free_units": 50}


@pytest.mark.parametrize(
    ("units", "amount", "unit_amount"),
    [
        ("0", "0", "0"), ("50", "0", "0"), ("50.1", "4.5", "45"), ("350", "13.5", "0.045"), ("351", "18", None),
        ("-5", "0", "0"), ("150", "4.5", "0.045"), ("150.000000000000000001", "9", None),
    ],
)  # fmt: skip
def test_package_table(units: str, amount: str, unit_amount: str | None) -> None:
    priced = price(PACKAGE, PACKAGES, used(units))
    assert priced.amount == Decimal(amount)
    if unit_amount is not None:
        assert priced.unit_amount == Decimal(unit_amount)


def test_package_details() -> None:
    priced = compile_price(PACKAGE, PACKAGES)
    assert priced(used(0, 0)).amount_details == {
        "free_units": "0.0", "paid_units": "0.0", "per_package_size": 0, "per_package_unit_amount": "0.0",
    }  # fmt: skip
    terms = {"free_units": "50.0", "per_package_size": 100, "per_package_unit_amount": "4.5"}
    assert priced(used(20)).amount_details == {**terms, "paid_units": "0.0"}
    assert priced(used("350.5")).amount_details == {**terms, "paid_units": "300.5"}


@quick
@given(money_text, st.integers(1, 12), st.integers(0, 20), st.integers(0, 90), st.integers(0, 17))
def test_packages_are_bought_one_by_one(amount: str, size: int, free: int, units: int, places: int) -> None:
    properties: dict[str, object] = {"amount": amount, "package_size": size, "free_units": free}
    bought, left = 0, units - free
    while left > 0:
        bought, left = bought + 1, left - size
    at = price(PACKAGE, properties, used(units))
    assert fraction(at.amount) == bought * Fraction(amount)
    # A fraction of a unit more needs a package more, where all are used up.
    more = price(PACKAGE, properties, used(units + Decimal(1).scaleb(-1 - places)))
    begins = units >= free and (units - free) % size == 0
    assert fraction(more.amount) == (bought + begins) * Fraction(amount)


@quick
@given(money_text, st.integers(1, 10**19), st.integers(0, 10**19), quantities)
def test_packages_of_any_size(amount: str, size: int, free: int, units: Decimal) -> None:
    properties: dict[str, object] = {"amount": amount, "package_size": size, "free_units": free}
    packages = max(-((free - Fraction(units)) // size), 0)
    assert fraction(price(PACKAGE, properties, used(units)).amount) == packages * Fraction(amount)


EVENTS = spent(200, 50, 300, 120)
RATE: dict[str, object] = {"rate": "2", "fixed_amount": "0.5"}


def allowance(events: int | None, units: str | None, **more: object) -> dict[str, object]:
    return {**RATE, "free_units_per_events": events, "free_units_per_total_aggregation": units, **more}


@pytest.mark.parametrize(
    ("events", "units", "amount", "free_units", "free_events"),
    [
        (None, None, "15.4", "0.0", 0),
        (2, None, "9.4", "250.0", 2),
        (None, "260", "9.2", "260.0", 2),
        (3, "260", "9.2", "260.0", 2),
        (1, "260", "10.9", "200.0", 1),
        (None, "0", "15.4", "0.0", 0),
        (9, None, "0", "670.0", 4),
        (None, "670", "0.5", "670.0", 3),
        (None, "671", "0", "670.0", 4),
        (None, "100", "13.4", "100.0", 0),
    ],
)
def test_percentage_table(
    events: int | None, units: str | None, amount: str, free_units: str, free_events: int
) -> None:
    priced = price(PERCENTAGE, allowance(events, units), EVENTS)
    assert priced.amount == Decimal(amount)
    assert abs(priced.unit_amount * 670 - priced.amount) < Decimal("1e-20")
    assert priced.amount_details["free_units"] == free_units
    assert priced.amount_details["free_events"] == free_events


@pytest.mark.parametrize(
    ("events", "units", "amount", "adjustment"),
    [(None, None, "14.4", "-1.0"), (1, None, "9.9", "-1.0"), (None, "260", "7.9", "-1.3"), (1, "260", "7.9", "-3.0")],
)
def test_transaction_bounds_table(events: int | None, units: str | None, amount: str, adjustment: str) -> None:
    bounded = allowance(events, units, per_transaction_min_amount="2", per_transaction_max_amount="5")
    priced = price(PERCENTAGE, bounded, EVENTS)
    assert priced.amount == Decimal(amount)
    assert priced.amount_details["min_max_adjustment_total_amount"] == adjustment
    within = {key: value for key, value in bounded.items() if not key.startswith("per_transaction")}
    unbounded = price(PERCENTAGE, within, EVENTS).amount_details
    assert priced.amount_details == {**unbounded, "min_max_adjustment_total_amount": adjustment}


def test_percentage_details() -> None:
    assert price(PERCENTAGE, allowance(1, None), EVENTS).amount_details == {
        "units": "670.0", "free_units": "200.0", "free_events": 1, "paid_units": "470.0", "rate": "2.0",
        "per_unit_total_amount": "9.4", "paid_events": 3, "fixed_fee_unit_amount": "0.5",
        "fixed_fee_total_amount": "1.5", "min_max_adjustment_total_amount": "0.0",
    }  # fmt: skip
    assert price(PERCENTAGE, allowance(7, None), EVENTS).amount_details == {
        "units": "670.0", "free_units": "670.0", "free_events": 4, "paid_units": "0.0", "rate": "2.0",
        "per_unit_total_amount": "0.0", "paid_events": 0, "fixed_fee_unit_amount": "0.0",
        "fixed_fee_total_amount": "0.0", "min_max_adjustment_total_amount": "0.0",
    }  # fmt: skip


def test_percentage_of_nothing() -> None:
    bounded = {**RATE, "per_transaction_min_amount": "1.75"}
    nothing = BucketUsage(Decimal(0), 0, runs=())
    for properties in (RATE, allowance(2, "10"), bounded):
        priced = price(PERCENTAGE, properties, nothing)
        assert (priced.amount, priced.unit_amount) == (0, 0)
        assert priced.amount_details["fixed_fee_unit_amount"] == "0.0"
    # Without units there is no fixed amount, whatever the number of events; the bounds hold for each of them.
    assert price(PERCENTAGE, RATE, spent(0, 0)).amount == 0
    assert price(PERCENTAGE, bounded, spent(0, 0)).amount == Decimal("3.5")


def test_free_units_beyond_the_rounded_units() -> None:
    rounded_down = BucketUsage(Decimal(100), 2, runs=spent("60", "49").runs)
    priced = price(PERCENTAGE, allowance(2, None), rounded_down)
    assert (priced.amount, priced.amount_details["free_units"], priced.amount_details["paid_units"]) == (
        0,
        "100.0",
        "0.0",
    )


def test_counted_events_are_each_one_unit() -> None:
    five = BucketUsage(Decimal(5), 5, runs=ones(5))
    assert price(PERCENTAGE, allowance(2, None), five).amount == Decimal("0.06") + Decimal("1.5")
    assert price(PERCENTAGE, allowance(None, "2.5"), five).amount == Decimal("0.05") + Decimal("1.5")
    bounded = allowance(1, None, per_transaction_min_amount="3")
    assert price(PERCENTAGE, bounded, five).amount == 12
    assert ones(0) == ()
    assert ones(Decimal(-1)) == ()


def test_a_billion_counted_events_are_priced_at_once() -> None:
    many = 10**9
    usage = BucketUsage(Decimal(many), many, runs=ones(many))
    bounds: dict[str, object] = {"per_transaction_min_amount": "0.1", "per_transaction_max_amount": "0.4"}
    assert price(PERCENTAGE, allowance(many - 3, None), usage).amount == 3 * Decimal("0.52")
    assert price(PERCENTAGE, allowance(many // 2, None, **bounds), usage).amount == many // 2 * Decimal("0.4")
    assert price(PERCENTAGE, allowance(None, str(many // 2), **bounds), usage).amount == (many // 2 + 1) * Decimal(
        "0.4"
    )


values = st.lists(st.decimals(-20, 60, places=2) | st.sampled_from([Decimal(0), Decimal(10)]), max_size=12)
free_amounts = st.none() | st.decimals("0.01", 120, places=2).map(str) | st.sampled_from(["10", "20", "0"])
bounds_ = st.none() | st.decimals(0, 3, places=2)


def running_totals(events: list[Fraction], free_events: int, free_units: Fraction) -> list[Fraction]:
    totals: list[Fraction] = []
    so_far = Fraction(0)
    for value in events[:free_events] if free_events else events:
        if not free_events and so_far > free_units:
            break
        so_far += value
        totals.append(so_far)
    return totals


def naive_percentage(
    events: list[Fraction], rate: Fraction, fixed: Fraction, free_events: int, free_units: Fraction
) -> Fraction:
    """The rule of metering spec 3.7, word by word."""
    units, number = sum(events, Fraction(0)), len(events)
    totals = running_totals(events, free_events, free_units) if free_events or free_units else []
    last = totals[-1] if totals else Fraction(0)
    free = min(last, free_units) if free_units else last
    share = Fraction(0) if free > units and free else (units - free) * rate / 100
    counts = [free_events, sum(total < free_units for total in totals) if free_units else 0]
    free_number = min((count for count in counts if count), default=0)
    return share + (0 if units == 0 or free_number >= number else (number - free_number) * fixed)


@quick
@given(values, money_text, money_text, st.none() | st.integers(1, 8), free_amounts)
def test_percentage_follows_the_rule(
    events: list[Decimal], rate: str, fixed: str, free_events: int | None, free_units: str | None
) -> None:
    properties = {**allowance(free_events, free_units), "rate": rate, "fixed_amount": fixed}
    priced = price(PERCENTAGE, properties, spent(*events))
    exact_events = [Fraction(value) for value in events]
    expected = naive_percentage(
        exact_events, Fraction(rate), Fraction(fixed), free_events or 0, Fraction(free_units or 0)
    )
    assert fraction(priced.amount) == expected
    details: Any = priced.amount_details
    assert Fraction(details["free_units"]) + Fraction(details["paid_units"]) == sum(exact_events)
    total = Fraction(details["per_unit_total_amount"]) + Fraction(details["fixed_fee_total_amount"])
    assert total == expected
    assert Fraction(details["fixed_fee_unit_amount"]) * details["paid_events"] == Fraction(
        details["fixed_fee_total_amount"]
    )


def naive_bounded(
    events: list[Fraction],
    cost: Any,
    free_events: int,
    free_units: Fraction,
) -> Fraction:
    """One event after the other: free while it is below what is left of the units, or among the first ones."""
    total, left, alive = Fraction(0), free_units, free_units > 0
    for position, value in enumerate(events):
        if alive:
            if value < left:
                left -= value
                continue
            total += cost(value - left)
            alive = False
        elif free_units > 0 or position >= free_events:
            total += cost(value)
    return total


@quick
@given(values, money_text, st.none() | st.integers(1, 8), free_amounts, bounds_, bounds_)
def test_transactions_are_priced_one_by_one(
    events: list[Decimal],
    rate: str,
    free_events: int | None,
    free_units: str | None,
    one: Decimal | None,
    other: Decimal | None,
) -> None:
    low, high = (one, other) if one is None or other is None else sorted((one, other))
    if low is None and high is None:
        return
    properties = allowance(
        free_events,
        free_units,
        rate=rate,
        per_transaction_min_amount=None if low is None else str(low),
        per_transaction_max_amount=None if high is None else str(high),
    )

    def cost(value: Fraction) -> Fraction:
        amount = value * Fraction(rate) / 100 + Fraction("0.5")
        amount = amount if low is None else max(amount, Fraction(low))
        return amount if high is None else min(amount, Fraction(high))

    expected = naive_bounded([Fraction(value) for value in events], cost, free_events or 0, Fraction(free_units or 0))
    assert fraction(price(PERCENTAGE, properties, spent(*events)).amount) == expected


@quick
@given(values.filter(len), money_text, st.none() | st.integers(1, 8), free_amounts)
def test_runs_are_only_a_shorter_way_to_write_values(
    events: list[Decimal], rate: str, free_events: int | None, free_units: str | None
) -> None:
    whole = spent(*events)
    single = BucketUsage(
        whole.units, whole.events_count, runs=tuple(run for value in events for run in spent(value).runs or ())
    )
    for more in ({}, {"per_transaction_min_amount": "0.6", "per_transaction_max_amount": "0.9"}):
        properties = allowance(free_events, free_units, rate=rate, **more)
        assert price(PERCENTAGE, properties, whole) == price(PERCENTAGE, properties, single)


@quick
@given(st.lists(st.decimals(0, 60, places=2), max_size=10), st.integers(1, 8), st.decimals("0.01", 120, places=2))
def test_more_usage_never_costs_less(events: list[Decimal], free_events: int, free_units: Decimal) -> None:
    for properties in (
        RATE,
        allowance(free_events, None),
        allowance(None, str(free_units)),
        allowance(free_events, None, per_transaction_min_amount="0.7", per_transaction_max_amount="0.9"),
        allowance(None, str(free_units), per_transaction_min_amount="0.7"),
    ):
        priced = compile_price(PERCENTAGE, properties)
        amounts = [priced(spent(*events[:count])).amount for count in range(len(events) + 1)]
        assert amounts == sorted(amounts)


def test_runs_follow_time_and_then_transaction_ids() -> None:
    events = [
        Sample(2, "b", Decimal(1), None, "add"), Sample(1, "z", Decimal(3), None, "add"),
        Sample(2, "a", Decimal(2), None, "add"),
    ]  # fmt: skip
    for order in permutations(events):
        assert runs(order) == (Run(Decimal(3)), Run(Decimal(2)), Run(Decimal(1)))
    assert runs([]) == ()


def test_dynamic() -> None:
    usage = BucketUsage(Decimal(15), 2, precise_total_amount=Decimal("12.3475"))
    priced = price(DYNAMIC, {}, usage)
    assert (priced.amount, priced.amount_details) == (Decimal("12.3475"), {})
    assert round(priced.unit_amount, 8) == Decimal("0.82316667")
    assert price(DYNAMIC, {}, BucketUsage(Decimal(0), 2, precise_total_amount=Decimal(5))) == Priced(
        Decimal(0), Decimal(0), {}
    )


COUNTED = (Aggregation.COUNT, Aggregation.UNIQUE_COUNT)


@pytest.mark.parametrize("aggregation", sorted(Aggregation))
def test_who_needs_events(aggregation: Aggregation) -> None:
    for model in SUPPORTED_MODELS:
        assert not needs_events(model, default_properties(model), aggregation)
        assert needs_events(model, default_properties(model), aggregation, prorated=True)
    for properties in (
        allowance(2, None),
        allowance(None, "10"),
        {**RATE, "per_transaction_min_amount": "0"},
        {**RATE, "per_transaction_max_amount": "5"},
    ):
        assert needs_events(PERCENTAGE, properties, aggregation) is (aggregation not in COUNTED)
        assert needs_events(PERCENTAGE, properties, str(aggregation)) is (aggregation not in COUNTED)
    neutral = allowance(None, "0.0", per_transaction_min_amount="", per_transaction_max_amount=None)
    assert not needs_events(PERCENTAGE, neutral, aggregation)
    assert price(PERCENTAGE, neutral, used(670, 4)).amount == Decimal("15.4")


def test_events_that_are_missing_are_not_guessed() -> None:
    for properties in (allowance(2, None), {**RATE, "per_transaction_min_amount": "1"}):
        with pytest.raises(ValueError, match="single events"):
            price(PERCENTAGE, properties, used(670, 4))


@pytest.mark.parametrize(
    ("model", "properties", "units", "amount"),
    [
        (STANDARD, {"amount": "0.25"}, "10", "2.5"),
        (STANDARD, {"amount": "0.25"}, "-10", "0"),
        (PERCENTAGE, {"rate": "2", "fixed_amount": "0.5"}, "200", "4.5"),
        (PERCENTAGE, {"rate": "2", "fixed_amount": "0.5"}, "0", "0.5"),
        (PERCENTAGE, {"rate": "2", "fixed_amount": "0.5"}, "-1", "0"),
        (PERCENTAGE, allowance(5, "1000", per_transaction_min_amount="2", per_transaction_max_amount="5"), "50", "2"),
        (PERCENTAGE, allowance(5, "1000", per_transaction_min_amount="2", per_transaction_max_amount="5"), "300", "5"),
    ],
)
def test_instant_estimates(model: ChargeModel, properties: dict[str, object], units: str, amount: str) -> None:
    assert compile_instant(model, properties)(Decimal(units)) == Decimal(amount)


@pytest.mark.parametrize("model", sorted(set(ChargeModel) - INSTANT_MODELS))
def test_no_instant_estimate(model: ChargeModel) -> None:
    with pytest.raises(ValueError, match="instant"):
        compile_instant(model, default_properties(model))
