"""From prices to fees: rounding, fixed charges, projections, and what cannot be combined."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation
from app.core.charges.combinations import combination_errors
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.fixed_charges import (
    UnitsChange,
    advance_units,
    already_paid,
    fixed_charge_errors,
    prorated_units,
    units_in_force,
)
from app.core.charges.pricing import compile_price
from app.core.charges.projection import Progress, Projection, project
from app.core.charges.usage import SUPPORTED_MODELS, BucketUsage, ChargeModel, Priced
from app.core.money import UnknownCurrency
from app.core.periods import local_date
from tests.pricing import (
    APRIL,
    DYNAMIC,
    GRADUATED,
    GRADUATED_PERCENTAGE,
    NEXT_BOUND,
    PACKAGE,
    PERCENTAGE,
    STANDARD,
    UTC_ZONE,
    VOLUME,
    fraction,
    quick,
    ranged,
    span,
    spent,
    used,
)


def cost(amount: object, each: object = "0.8") -> Priced:
    return Priced(Decimal(str(amount)), Decimal(str(each)), {"a": 1})


@pytest.mark.parametrize(
    ("amount", "currency", "cents", "precise"),
    [
        ("12.3475", "EUR", 1235, "1234.75"),
        ("12.5", "JPY", 13, "12.5"),
        ("1.2345", "KWD", 1235, "1234.5"),
        ("0.00005", "CLF", 1, "0.5"),
        ("0", "EUR", 0, "0"),
        ("0.005", "EUR", 1, "0.5"),
        ("0.004999999999999999999999", "EUR", 0, "0.4999999999999999999999"),
    ],
)
def test_fee_amounts(amount: str, currency: str, cents: int, precise: str) -> None:
    fee = fee_amounts(used(15), cost(amount), currency)
    assert (fee.units, fee.amount_cents, fee.precise_unit_amount) == (15, cents, Decimal("0.8"))
    assert fee.precise_amount_cents == Decimal(precise)
    assert fee.amount_details == {"a": 1}


@pytest.mark.parametrize(("units", "amount"), [("-1", "5"), ("1", "-5"), ("-1", "-5")])
def test_negative_fees_are_zero(units: str, amount: str) -> None:
    zero = FeeAmounts(Decimal(0), 0, Decimal(0), Decimal(0), {})
    assert fee_amounts(used(units), cost(amount), "EUR") == zero
    assert fee_amounts(used(units, full_units=Decimal(7)), cost(amount), "EUR") == zero


def test_prorated_fees_show_full_units() -> None:
    fee = fee_amounts(used("44.66667", full_units=Decimal(44)), cost("89.33334"), "EUR")
    assert (fee.units, fee.amount_cents) == (44, 8933)
    # Used for most of the period, and more taken back on its last day than there was.
    fee = fee_amounts(used("9.63334", full_units=Decimal(-1)), cost("9.63334"), "EUR")
    assert (fee.units, fee.amount_cents, fee.precise_unit_amount) == (0, 963, 0)


def test_fee_needs_a_currency() -> None:
    with pytest.raises(UnknownCurrency):
        fee_amounts(used(-1), cost(1), "XAU")


@quick
@given(st.integers(0, 10**33), st.sampled_from([("JPY", 0), ("EUR", 2), ("KWD", 3), ("CLF", 4)]))
def test_fees_are_rounded_half_up_once(number: int, currency: tuple[str, int]) -> None:
    """Amounts up to 10**15 with 18 decimals, without loss."""
    amount = Decimal(f"{number}E-18")
    fee = fee_amounts(used(1), cost(amount), currency[0])
    minor = Fraction(number, 10**18) * 10 ** currency[1]
    assert fraction(fee.precise_amount_cents) == minor
    assert fee.amount_cents == (minor + Fraction(1, 2)) // 1


def moment(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def change(units: object, effective: str, created: str | None = None) -> UnitsChange:
    return UnitsChange(Decimal(str(units)), moment(effective), moment(created or effective))


@pytest.mark.parametrize(
    ("changes", "full", "prorated"),
    [
        ([], "0", "0"),
        ([change(10, "2024-03-05")], "10", "10"),
        ([change(10, "2024-03-05"), change(20, "2024-03-20")], "20", "20"),
        ([change(10, "2024-03-05"), change(20, "2024-04-11")], "20", "16.666666"),
        ([change(10, "2024-04-13")], "10", "6"),
        # Twice on one day: the later one.
        ([change(10, "2024-04-01"), change(20, "2024-04-16T08:00"), change(4, "2024-04-16T09:00")], "4", "7"),
        # For the next period: not yet.
        ([change(10, "2024-04-01"), change(20, "2024-05-01", "2024-04-10")], "10", "10"),
        # For the next period, then at once: what was planned is superseded.
        ([change(10, "2024-03-01"), change(20, "2024-04-01", "2024-03-10"), change(4, "2024-03-15")], "4", "4"),
        ([change(10, "2024-03-01"), change(20, "2024-04-01", "2024-03-10"), change(4, "2024-04-01", "2024-03-12")],
         "4", "4"),
        # Each term is rounded: 1 * 10/30 + 1 * 20/30.
        ([change("0.000001", "2024-03-01"), change("0.000002", "2024-04-11")], "0.000002", "0.000001"),
    ],
)  # fmt: skip
def test_fixed_charge_units(changes: list[UnitsChange], full: str, prorated: str) -> None:
    for order in (changes, changes[::-1]):
        assert units_in_force(order, APRIL.to) == Decimal(full)
        assert prorated_units(order, APRIL) == Decimal(prorated)


@quick
@given(
    st.lists(
        st.tuples(st.integers(-2400, 1000), st.integers(0, 900), st.integers(0, 50)),
        max_size=6,
        unique_by=lambda c: c[0],
    ),
    st.integers(1, 30),
)
def test_fixed_charge_units_day_by_day(drawn: list[tuple[int, int, int]], first: int) -> None:
    """Each day counts with what is in force at its end, less the last change of it (which counts from its own day)."""
    of = span(f"2024-04-{first:02}", "2024-04-30")
    start = moment("2024-04-01")
    changes = [
        UnitsChange(Decimal(units), start + timedelta(hours=created + later), start + timedelta(hours=created))
        for created, later, units in drawn
    ]
    total = Fraction(0)
    for number in range(first, 31):
        day = date(2024, 4, number)
        standing = [one for one in changes if local_date(one.effective_at, UTC_ZONE) <= day]
        newest = max(standing, key=lambda one: one.created_at, default=None)
        total += Fraction(newest.units) if newest else 0
    assert abs(fraction(prorated_units(changes, of)) - total / 30) <= Fraction(len(changes), 2_000_000)
    standing = [one for one in changes if one.effective_at <= of.to]
    newest = max(standing, key=lambda one: one.created_at, default=None)
    assert units_in_force(changes, of.to) == (newest.units if newest else 0)


def test_fixed_charges_in_advance() -> None:
    assert advance_units(Decimal(15), Decimal(10)) == 5
    assert advance_units(Decimal(15), Decimal(10), 11, 31) == Decimal("1.774194")
    assert advance_units(Decimal(5), Decimal(10)) == 0
    assert advance_units(Decimal(5), Decimal(10), 11, 31) == 0


def test_an_upgrade_deducts_what_was_paid() -> None:
    new = compile_price(STANDARD, {"amount": "10"})(used(advance_units(Decimal(10), Decimal(0), 11, 31)))
    paid = already_paid(Decimal(1500), 31, 11)
    assert round(new.amount * 100 - paid) == 3016


@pytest.mark.parametrize(
    ("model", "in_advance", "prorated", "errors"),
    [
        (STANDARD, True, True, {}),
        (VOLUME, False, True, {}),
        (GRADUATED, False, True, {}),
        (GRADUATED, True, False, {}),
        (VOLUME, True, False, {"pay_in_advance": ["invalid_charge_model"]}),
        (GRADUATED, True, True, {"prorated": ["invalid_charge_model"]}),
        (PACKAGE, False, False, {"charge_model": ["value_is_invalid"]}),
    ],
)
def test_fixed_charge_errors(model: ChargeModel, in_advance: bool, prorated: bool, errors: dict[str, Any]) -> None:
    assert fixed_charge_errors(model, pay_in_advance=in_advance, prorated=prorated) == errors


WEEK = Progress(7, 30)
OF_PERIOD = [
    (STANDARD, {"amount": "0.10"}),
    (GRADUATED, ranged(GRADUATED, NEXT_BOUND)),
    (VOLUME, ranged(VOLUME, NEXT_BOUND)),
    (PACKAGE, {"amount": "4.5", "package_size": 100, "free_units": 50}),
]


def test_projection() -> None:
    price = compile_price(STANDARD, {"amount": "0.10"})
    assert project(STANDARD, price, used(100), "EUR", WEEK, recurring=False) == Projection(Decimal("428.57"), 4286)
    assert project(STANDARD, price, used(100), "EUR", WEEK, recurring=True) == Projection(Decimal(100), 1000)
    assert project(STANDARD, price, used(-100), "EUR", WEEK, recurring=False) == Projection(Decimal(0), 0)
    assert project(STANDARD, price, used(-100), "EUR", WEEK, recurring=True) == Projection(Decimal(0), 0)


@pytest.mark.parametrize(
    ("model", "properties", "usage", "cents"),
    [
        (GRADUATED, OF_PERIOD[1][1], used(100), 500 + 1000 + 200 + 2629),
        (VOLUME, OF_PERIOD[2][1], used(100), 200 + 3429),
        (PACKAGE, OF_PERIOD[3][1], used(100), 4 * 450),
        (PERCENTAGE, {"rate": "2", "fixed_amount": "0.5"}, spent(200, 50, 300, 120), 6600),
        (GRADUATED_PERCENTAGE, ranged(GRADUATED_PERCENTAGE, NEXT_BOUND), used(0, 0), 2143),
        (DYNAMIC, {}, BucketUsage(Decimal(1), 1, precise_total_amount=Decimal("0.07")), 30),
    ],
)
def test_projected_models(model: ChargeModel, properties: dict[str, object], usage: BucketUsage, cents: int) -> None:
    price = compile_price(model, properties)
    projected = project(model, price, usage, "EUR", WEEK, recurring=False)
    assert projected.amount_cents == cents
    assert project(model, price, usage, "EUR", Progress(0, 30), recurring=False) == Projection(Decimal(0), 0)
    present = fee_amounts(usage, price(usage), "EUR")
    over = project(model, price, usage, "EUR", Progress(30, 30), recurring=False)
    assert over == Projection(present.units, present.amount_cents)


def test_no_flat_amount_is_projected_from_nothing() -> None:
    for model, properties in OF_PERIOD:
        price = compile_price(model, properties)
        assert project(model, price, used(0, 0), "EUR", WEEK, recurring=False) == Projection(Decimal(0), 0)


def test_progress() -> None:
    def at(day: str) -> Progress:
        return Progress.at(moment(day), APRIL.from_, APRIL.to, APRIL.tz)

    assert at("2024-03-31T23:59") == Progress(0, 30)
    assert at("2024-04-01") == Progress(1, 30)
    assert at("2024-04-07T12:00") == WEEK
    assert at("2024-04-30T23:59") == Progress(30, 30)
    assert at("2024-05-09") == Progress(30, 30)


MISMATCH = "invalid_aggregation_type_or_charge_model"
BAD_PRORATED = {"prorated": ["invalid_billable_metric_or_charge_model"]}


def combined(model: ChargeModel | None, aggregation: Aggregation, **fields: Any) -> dict[str, list[str]]:
    neutral = {
        "recurring": False, "pay_in_advance": False, "prorated": False, "invoiceable": True, "regroup_paid_fees": False,
        "min_amount_cents": 0,
    }  # fmt: skip
    return combination_errors(model, aggregation, **{**neutral, **fields})


@pytest.mark.parametrize(
    ("model", "aggregation", "fields", "errors"),
    [
        (VOLUME, Aggregation.SUM, {"pay_in_advance": True}, {"pay_in_advance": [MISMATCH]}),
        (STANDARD, Aggregation.MAX, {"pay_in_advance": True}, {"pay_in_advance": [MISMATCH]}),
        (STANDARD, Aggregation.LATEST, {"pay_in_advance": True}, {"pay_in_advance": [MISMATCH]}),
        (STANDARD, Aggregation.WEIGHTED_SUM, {"pay_in_advance": True}, {"pay_in_advance": [MISMATCH]}),
        (DYNAMIC, Aggregation.COUNT, {}, {"charge_model": [MISMATCH]}),
        (DYNAMIC, Aggregation.MAX, {"pay_in_advance": True},
         {"pay_in_advance": [MISMATCH], "charge_model": [MISMATCH]}),
        (ChargeModel.CUSTOM, Aggregation.SUM, {}, {"charge_model": [MISMATCH]}),
        (ChargeModel.CUSTOM, Aggregation.CUSTOM, {}, {}),
        (STANDARD, Aggregation.SUM, {"prorated": True}, BAD_PRORATED),
        (STANDARD, Aggregation.WEIGHTED_SUM, {"prorated": True, "recurring": True}, BAD_PRORATED),
        (PACKAGE, Aggregation.SUM, {"prorated": True, "recurring": True}, BAD_PRORATED),
        (GRADUATED, Aggregation.SUM, {"prorated": True, "recurring": True, "pay_in_advance": True}, BAD_PRORATED),
        (None, Aggregation.SUM, {"prorated": True, "recurring": True}, {}),
        (None, Aggregation.COUNT, {"prorated": True}, BAD_PRORATED),
        (STANDARD, Aggregation.SUM, {"min_amount_cents": 1}, {}),
        (STANDARD, Aggregation.SUM, {"min_amount_cents": 1, "pay_in_advance": True},
         {"min_amount_cents": ["not_compatible_with_pay_in_advance"]}),
        (STANDARD, Aggregation.SUM, {"min_amount_cents": -1, "pay_in_advance": True},
         {"min_amount_cents": ["value_is_out_of_range"]}),
        (STANDARD, Aggregation.SUM, {"invoiceable": False}, {"invoiceable": ["must_be_true_unless_pay_in_advance"]}),
        (STANDARD, Aggregation.SUM, {"invoiceable": False, "pay_in_advance": True, "regroup_paid_fees": True}, {}),
        (STANDARD, Aggregation.SUM, {"pay_in_advance": True, "regroup_paid_fees": True},
         {"regroup_paid_fees": ["only_compatible_with_pay_in_advance_and_non_invoiceable"]}),
        (STANDARD, Aggregation.SUM, {"regroup_paid_fees": True},
         {"regroup_paid_fees": ["only_compatible_with_pay_in_advance_and_non_invoiceable"]}),
    ],
)  # fmt: skip
def test_combinations(
    model: ChargeModel | None, aggregation: Aggregation, fields: dict[str, Any], errors: dict[str, Any]
) -> None:
    assert combined(model, aggregation, **fields) == errors


def test_allowed_combinations() -> None:
    for model in SUPPORTED_MODELS:
        assert combined(model, Aggregation.SUM) == {}
        assert combined(model, Aggregation.SUM, pay_in_advance=model is not VOLUME) == {}
        prorated = model in (STANDARD, VOLUME, GRADUATED)
        assert combined(model, Aggregation.UNIQUE_COUNT, prorated=prorated, recurring=True).keys() <= {"charge_model"}
    assert combined(STANDARD, Aggregation.SUM, prorated=True, recurring=True, pay_in_advance=True) == {}
