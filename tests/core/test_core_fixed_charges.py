"""What fixed charges are priced by, and what a change of units costs in the middle of a period."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.boundaries import Boundaries, Stretch, Terms, current, joined, periodic, starting, terminating
from app.core.charges.fixed_charges import UnitsChange, is_settled, period_usage, prorated_units, raised
from app.core.charges.pricing import compile_price
from app.core.charges.usage import BucketUsage
from app.core.periods import BillingTime, Interval, local_date, local_start
from tests.core.test_core_periods import billing_times, intervals, zones
from tests.pricing import (
    APRIL,
    GRADUATED,
    STANDARD,
    VOLUME,
    Table,
    fraction,
    quick,
    ranged,
    ranges_of,
    span,
    tables,
    used,
)

START = datetime(2024, 4, 1, tzinfo=UTC)
SMALL = st.integers(0, 60)


def change(units: object, effective: datetime, created: datetime | None = None) -> UnitsChange:
    return UnitsChange(Decimal(str(units)), effective, created or effective)


def by_the_day(drawn: list[tuple[int, int]]) -> list[UnitsChange]:
    """Changes at instants so many hours after the start."""
    return [change(units, START + timedelta(hours=hours)) for hours, units in drawn]


histories = st.lists(st.tuples(st.integers(-800, 719), SMALL), max_size=6, unique_by=lambda one: one[0]).map(by_the_day)


def units_of_day(changes: list[UnitsChange], day: int) -> Decimal:
    """What is in force at the end of a day of April."""
    end = START + timedelta(days=day)
    before = [one for one in changes if one.effective_at < end]
    return max(before, key=lambda one: one.effective_at).units if before else Decimal(0)


@quick
@given(histories)
def test_prorated_units_are_the_mean_of_the_days(changes: list[UnitsChange]) -> None:
    usage = period_usage(changes, APRIL, prorated=True)
    mean = Fraction(sum((Fraction(units_of_day(changes, day)) for day in range(1, 31)), Fraction(0)), 30)
    assert abs(fraction(usage.units) - mean) <= Fraction(len(changes), 2_000_000)
    assert usage.full_units == units_of_day(changes, 30)
    assert period_usage(changes, APRIL, prorated=False) == BucketUsage(units_of_day(changes, 30), 0)


@quick
@given(histories, tables)
def test_graduated_units_cost_the_mean_of_the_days(changes: list[UnitsChange], table: Table) -> None:
    """Without flat amounts: each day costs a thirtieth of what its units cost in a whole period."""
    free = ranged(GRADUATED, ranges_of([(width, price, "0") for width, price, _ in table], 1))
    a_day = compile_price(GRADUATED, free)
    days = sum((Fraction(a_day(used(units_of_day(changes, day))).amount) for day in range(1, 31)), Fraction(0))
    cost = compile_price(GRADUATED, free, prorated=True)(period_usage(changes, APRIL, prorated=True)).amount
    assert abs(fraction(cost) - days / 30) < Fraction(1, 10**20)


def test_flat_amounts_are_those_of_the_most_units() -> None:
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "0", "flat_amount": "1"},
        {"from_value": 10, "to_value": None, "per_unit_amount": "0", "flat_amount": "5"},
    ]
    price = compile_price(GRADUATED, {"graduated_ranges": ranges}, prorated=True)
    hours = timedelta(hours=1)
    up_and_down = [change(3, START), change(40, START + 30 * hours), change(3, START + 60 * hours)]
    assert price(period_usage(up_and_down, APRIL, prorated=True)).amount == 6
    # Corrected on the same day, it does not count.
    corrected = [change(3, START), change(40, START + 30 * hours), change(3, START + 31 * hours)]
    assert price(period_usage(corrected, APRIL, prorated=True)).amount == 1


def test_volume_tiers_are_chosen_by_full_units() -> None:
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "10", "flat_amount": "0"},
        {"from_value": 10, "to_value": None, "per_unit_amount": "3", "flat_amount": "0"},
    ]
    price = compile_price(VOLUME, {"volume_ranges": ranges}, prorated=True)
    usage = period_usage([change(20, START + timedelta(days=15))], APRIL, prorated=True)
    assert (usage.units, price(usage).amount) == (10, 30)


@quick
@given(st.lists(SMALL, min_size=1, max_size=8), tables)
def test_what_is_raised_adds_up_to_the_price_of_the_most(steps: list[int], table: Table) -> None:
    for model, properties in ((STANDARD, {"amount": "0.7"}), (GRADUATED, ranged(GRADUATED, ranges_of(table, 1)))):
        price = compile_price(model, properties)
        billed, total = None, Decimal(0)
        for units in steps:
            usage, priced = raised(price, Decimal(units), billed)
            assert (usage.units > 0) == (units > (billed or 0))
            assert priced.amount >= 0
            if usage.units or priced.amount:
                billed = (billed or Decimal(0)) + usage.units
                total += priced.amount
        assert total == price(used(max(steps))).amount


@quick
@given(SMALL, SMALL, st.integers(1, 30))
def test_a_raise_and_its_days_cost_what_the_period_would_have(before: int, after: int, days: int) -> None:
    """In advance for the whole period, and then for what is more: as if both had been known, unless units went down."""
    price = compile_price(STANDARD, {"amount": "1"})
    usage, priced = raised(price, Decimal(after), Decimal(before), days, 30)
    changes = [change(before, START - timedelta(days=9)), change(after, START + timedelta(days=30 - days))]
    known = prorated_units(changes, APRIL)
    assert usage.full_units == max(after - before, 0)
    assert abs(before + priced.amount - max(known, before)) <= Decimal("0.000002")


@pytest.mark.parametrize(
    ("changes", "now", "next_period"),
    [
        ([], False, False),
        ([change(5, START)], True, True),
        ([change(4, START)], False, False),
        ([change(4, START), change(5, START + timedelta(days=30), START)], False, True),
        ([change(5, START), change(4, START + timedelta(days=30), START)], False, False),
        ([change(5, START), change(5, START + timedelta(days=30), START)], True, True),
    ],
)
def test_settled(changes: list[UnitsChange], now: bool, next_period: bool) -> None:
    five = Decimal(5)
    assert is_settled(changes, five, START + timedelta(days=3)) is now
    assert is_settled(changes, five, START + timedelta(days=30)) is next_period


instants = st.integers(0, 40 * 365 * 86_400).map(
    lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
terms = st.builds(
    Terms,
    interval=intervals,
    billing_time=billing_times,
    pay_in_advance=st.booleans(),
    anchor_at=instants,
    started_at=instants,
    tz=zones.map(ZoneInfo),
)


def fixed(boundaries: Boundaries) -> Stretch:
    assert boundaries.fixed_charges is not None
    return boundaries.fixed_charges


def ahead(boundaries: Boundaries) -> Stretch:
    assert boundaries.fixed_charges_ahead is not None
    return boundaries.fixed_charges_ahead


@quick
@given(terms)
def test_fixed_charges_are_billed_without_gap(of: Terms) -> None:
    """What is billed ahead at a boundary is what is billed in arrears at the next one; nothing is left out or twice."""
    first = starting(of, of.started_at)
    assert ahead(first).from_ == of.started_at
    boundary = of.next_boundary(of.started_at)
    before = ahead(first)
    for _ in range(4):
        boundaries = periodic(of, boundary)
        assert fixed(boundaries) == before
        assert (fixed(boundaries).from_, fixed(boundaries).to) == (boundaries.charges_from, boundaries.charges_to)
        assert ahead(boundaries).from_ == before.to + timedelta(microseconds=1) == boundary
        assert not before.is_same_period(ahead(boundaries).to)
        assert ahead(current(of, boundary)) == ahead(boundaries)
        before, boundary = ahead(boundaries), of.next_boundary(boundary)


@quick
@given(terms, st.timedeltas(timedelta(0), timedelta(days=800)))
def test_the_end_bills_up_to_it_and_nothing_ahead(of: Terms, later: timedelta) -> None:
    boundaries = terminating(of, of.started_at + later)
    assert fixed(boundaries).to == of.started_at + later
    assert boundaries.fixed_charges_ahead is None


@quick
@given(terms, zones.map(ZoneInfo))
def test_a_period_is_the_same_in_every_timezone(of: Terms, tz: ZoneInfo) -> None:
    there = Terms(of.interval, of.billing_time, of.pay_in_advance, of.anchor_at, of.started_at, tz)
    if there.anchor != of.anchor:
        return
    day = local_date(of.started_at, of.tz) + timedelta(days=3)
    ours, theirs = ahead(current(of, local_start(day, of.tz))), ahead(current(there, local_start(day, tz)))
    assert ours.period == theirs.period
    assert ours.is_same_period(theirs.to)


def test_joined_moves_fixed_charges_too() -> None:
    tz = ZoneInfo("America/New_York")
    of = Terms(Interval.MONTHLY, BillingTime.CALENDAR, False, START, START, tz)
    boundaries = periodic(of, datetime(2024, 6, 1, 4, tzinfo=UTC))
    before = datetime(2024, 4, 30, 23, 59, 59, 999999, tzinfo=UTC)
    moved = joined(boundaries, before, before)
    assert fixed(moved).from_ == moved.charges_from == datetime(2024, 5, 1, tzinfo=UTC)
    assert fixed(joined(boundaries, before)) == fixed(boundaries)


def test_a_span_of_part_of_a_period() -> None:
    usage = period_usage([change(30, START)], span("2024-04-11", "2024-04-20"), prorated=True)
    assert (usage.units, usage.full_units) == (10, 30)
