"""Proration of recurring metrics, and the prices of what is prorated."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation, Sample, aggregate, present_items
from app.core.charges.events import in_order
from app.core.charges.fees import fee_amounts
from app.core.charges.pricing import compile_price, price
from app.core.charges.proration import (
    ProratedSpan,
    ProratedUnits,
    prorate,
    prorate_sum,
    prorate_unique_count,
    prorated_quantity,
)
from app.core.charges.usage import BucketUsage, Portion, Waterfall
from app.core.periods import local_date, local_end, local_start
from tests.pricing import (
    APRIL,
    GRADUATED,
    STANDARD,
    UTC_ZONE,
    VOLUME,
    Table,
    fraction,
    graduated,
    quick,
    ranged,
    ranges_of,
    span,
    tables,
    tier,
    tier_of,
    used,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(
    moment: str | datetime, value: object = 0, item: str | None = None, operation: str = "add", number: int = 0
) -> Sample:
    instant = datetime.fromisoformat(moment).replace(tzinfo=UTC) if isinstance(moment, str) else moment
    ms = (instant - EPOCH) // timedelta(milliseconds=1)
    return Sample(ms, f"{item}{number:04}", Decimal(str(value)), item, operation)


def item(moment: str, name: str, operation: str = "add") -> Sample:
    return at(moment, item=name, operation=operation)


def usage(of: ProratedUnits, events_count: int = 1) -> BucketUsage:
    return BucketUsage(of.units, events_count, of.full_units, waterfall=of.waterfall)


def test_sum_example() -> None:
    events = [at("2024-04-21T15:00", -6), at("2024-04-11", 10)]
    found = prorate_sum(Decimal(40), events, APRIL)
    assert (found.units, found.full_units) == (Decimal("44.66667"), 44)
    assert found.waterfall.portions == (Portion(Decimal(40), 30), Portion(Decimal(10), 20), Portion(Decimal(-6), 10))


def test_unique_count_example() -> None:
    events = [item("2024-04-11T10:00", "b"), item("2024-04-10T10:00", "c", "remove")]
    found = prorate_unique_count(["a", "c"], events, APRIL)
    assert (found.units, found.full_units) == (2, 2)


def test_the_day_of_an_upgrade_is_not_carried_over() -> None:
    upgraded = span("2024-04-01", "2024-04-18", ends_by_upgrade=True)
    found = prorate_sum(Decimal(30), [at("2024-04-17", 30)], upgraded)
    assert found.waterfall.portions == (Portion(Decimal(30), 17), Portion(Decimal(30), 2))
    seats = prorate_unique_count(["a"], [item("2024-04-17", "b")], upgraded)
    assert seats.waterfall.portions == (Portion(Decimal(1), 17), Portion(Decimal(1), 2))
    same_day = span("2024-04-01", "2024-04-01", ends_by_upgrade=True)
    assert prorate_sum(Decimal(30), [], same_day).units == 0


def test_nothing() -> None:
    for found in (prorate_sum(Decimal(0), [], APRIL), prorate_unique_count([], [], APRIL)):
        assert (found.units, found.full_units, found.waterfall.portions) == (0, 0, ())


@pytest.mark.parametrize(
    ("events", "units", "full"),
    [
        # Present on three days, a day each time.
        ([item("2024-04-09T01:00", "a"), item("2024-04-09T02:00", "a", "remove"), item("2024-04-14", "a"),
          item("2024-04-14T01:00", "a", "remove"), item("2024-04-19", "a"), item("2024-04-19T05:00", "a", "remove")],
         "0.1", 0),
        # Away for some hours of one day: not away.
        ([item("2024-04-09", "a"), item("2024-04-12T02:00", "a", "remove"), item("2024-04-12T05:00", "a")],
         "0.73334", 1),
        # Away over midnight: still present on both days.
        ([item("2024-04-09", "a"), item("2024-04-12T23:00", "a", "remove"), item("2024-04-13T01:00", "a")],
         "0.73334", 1),
        # Away for a whole day.
        ([item("2024-04-09", "a"), item("2024-04-12T23:00", "a", "remove"), item("2024-04-14T01:00", "a")],
         "0.7", 1),
        # Repeated and void operations.
        ([item("2024-04-21", "a"), item("2024-04-23", "a"), item("2024-04-22", "b", "remove")], "0.33334", 1),
        ([at("2024-04-21", item=""), at("2024-04-21", item=None)], "0", 0),
    ],
)  # fmt: skip
def test_stays(events: list[Sample], units: str, full: int) -> None:
    found = prorate_unique_count([], events, APRIL)
    assert (found.units, found.full_units) == (Decimal(units), full)


RANGES = graduated(tier(0, 10, "2", "5"), tier(11, 20, "1", "3"), tier(21, None, "0.5"))


def test_graduated_example() -> None:
    events = [at("2024-04-11", 6), at("2024-04-21", 10)]
    priced = price(GRADUATED, RANGES, usage(prorate_sum(Decimal(8), events, APRIL)), prorated=True)
    assert (priced.amount, priced.amount_details) == (32, {})
    assert abs(priced.unit_amount * 24 - 32) < Decimal("1e-20")


def test_standard_and_volume() -> None:
    forty = usage(prorate_sum(Decimal(40), [at("2024-04-11", 10), at("2024-04-21", -6)], APRIL))
    standard = price(STANDARD, {"amount": "2"}, forty, prorated=True)
    assert standard.amount == Decimal("89.33334")
    assert abs(standard.unit_amount * 44 - standard.amount) < Decimal("1e-20")
    fee = fee_amounts(forty, standard, "EUR")
    assert (fee.units, fee.amount_cents, fee.precise_amount_cents) == (44, 8933, Decimal("8933.334"))
    # 44 units choose the tier, 44.66667 are multiplied.
    ranges = ranged(VOLUME, [tier(0, 44, "1", "7"), tier(45, None, "100")])
    volume = price(VOLUME, ranges, forty, prorated=True)
    assert volume.amount == Decimal("51.66667")
    details = volume.amount_details
    assert (details["flat_unit_amount"], details["per_unit_total_amount"]) == ("7.0", "44.66667")
    assert details["per_unit_amount"] == "1.015151590909091"


TEN_FIVE = graduated(tier(0, 5, "10", "100"), tier(6, None, "5", "50"))
THREE = graduated(tier(0, 5, "10", "100"), tier(6, 15, "5", "50"), tier(16, None, "2", "0"))


@pytest.mark.parametrize(
    ("month", "properties", "carried", "changes", "cents"),
    [
        (10, TEN_FIVE, 0, {10: 1, 20: 4, 25: 1, 27: -5, 30: -1}, 16581),
        (9, TEN_FIVE, 0, {10: 5, 16: 2, 19: -4, 25: 10}, 19000),
        (9, THREE, 0, {1: 75}, 37000),
        (10, THREE, 75, {17: 20}, 38935),
        (11, THREE, 95, {}, 41000),
        (12, graduated(tier(0, 5, "0"), tier(6, None, "12")), 10, {}, 6000),
        (1, graduated(tier(0, 5, "0"), tier(6, None, "12")), 10, {6: 2}, 8013),
        (12, THREE, 0, {}, 10000),
        # Less than nothing in the end is nothing.
        (9, THREE, 0, {1: 7, 20: -8}, 0),
        # Below 0 there is nothing to price: 4 of 10 units make up for what was taken.
        (9, THREE, 0, {1: -4, 16: 10}, 10000 + 5000 + (5 * 1000 + 500) // 2),
    ],
)
def test_graduated_stories(
    month: int, properties: dict[str, object], carried: int, changes: dict[int, int], cents: int
) -> None:
    whole = span(f"2023-{month:02}-01", f"2023-{month:02}-{30 + (month in (1, 10, 12))}")
    events = [at(f"2023-{month:02}-{day:02}", value) for day, value in changes.items()]
    found = usage(prorate_sum(Decimal(carried), events, whole))
    assert fee_amounts(found, price(GRADUATED, properties, found, prorated=True), "EUR").amount_cents == cents


def test_graduated_upgrade() -> None:
    upgraded = span("2023-10-01", "2023-10-18", ends_by_upgrade=True)
    old = usage(prorate_sum(Decimal(75), [at("2023-10-17", 20)], upgraded))
    assert fee_amounts(old, price(GRADUATED, THREE, old, prorated=True), "EUR").amount_cents == 27323
    new = usage(prorate_sum(Decimal(95), [], span("2023-10-18", "2023-10-31")))
    assert fee_amounts(new, price(GRADUATED, THREE, new, prorated=True), "EUR").amount_cents == 26787 - 45


def test_a_value_that_was_removed_earlier_takes_no_place() -> None:
    properties = graduated(tier(0, 1, "0"), tier(2, None, "10"))
    found = usage(prorate_unique_count(["73283", "78924"], [], span("2024-11-01", "2024-11-30")))
    assert (found.full, price(GRADUATED, properties, found, prorated=True).amount) == (2, 10)


def test_a_removed_value_frees_its_place() -> None:
    properties = graduated(tier(0, 1, "30"), tier(2, None, "3"))
    events = [item("2024-04-11", "a", "remove"), item("2024-04-21", "b")]
    found = usage(prorate_unique_count(["a"], events, APRIL))
    assert price(GRADUATED, properties, found, prorated=True).amount == 11 + 10


def test_graduated_needs_the_events() -> None:
    with pytest.raises(ValueError, match="single events"):
        price(GRADUATED, RANGES, used(24), prorated=True)


days = st.integers(0, 40)
zones = st.sampled_from([UTC_ZONE, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Pacific/Apia")])


@st.composite
def spans(draw: st.DrawFn) -> ProratedSpan:
    """A span of up to a month, that begins or ends within a day, in a zone, around a change of the clocks."""
    tz = draw(zones)
    first = date(2024, 3, 1) + timedelta(days=draw(days))
    from_ = local_start(first, tz) + timedelta(minutes=draw(st.integers(0, 1439)))
    to = local_end(first + timedelta(days=draw(st.integers(0, 30))), tz) - timedelta(minutes=draw(st.integers(0, 1400)))
    return ProratedSpan(from_, max(from_, to), draw(st.integers(28, 31)), tz)


def instants(of: ProratedSpan) -> st.SearchStrategy[datetime]:
    minutes = (of.to - of.from_) // timedelta(minutes=1)
    return st.integers(0, minutes).map(lambda minute: of.from_ + timedelta(minutes=minute))


def days_of(of: ProratedSpan) -> list[date]:
    first, last = local_date(of.from_, of.tz), local_date(of.to, of.tz)
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def day_of(event: Sample, tz: ZoneInfo) -> date:
    return local_date(EPOCH + timedelta(milliseconds=event.timestamp_ms), tz)


def rounded_up(units: Fraction) -> Fraction:
    return -(-units * 100_000 // 1) / Fraction(100_000)


@quick
@given(st.data())
def test_a_sum_is_the_mean_of_its_levels(data: st.DataObject) -> None:
    """Day by day: what has come until the end of the day, over the days of the period."""
    of = data.draw(spans())
    amounts = st.decimals(-50, 50, places=18)
    carried = data.draw(amounts)
    moments = data.draw(st.lists(instants(of), max_size=8))
    events = [at(moment, data.draw(amounts), number=number) for number, moment in enumerate(moments)]
    found = prorate_sum(carried, data.draw(st.permutations(events)), of)
    levels = [
        Fraction(carried) + sum((Fraction(event.value) for event in events if day_of(event, of.tz) <= day), Fraction(0))
        for day in days_of(of)
    ]
    assert fraction(found.units) == rounded_up(sum(levels, Fraction(0)) / of.period_days)
    assert fraction(found.full_units) == levels[-1]
    if all(event.value >= 0 for event in events) and carried >= 0:
        assert fraction(found.units) <= rounded_up(levels[-1] * len(levels) / of.period_days)


@quick
@given(st.data())
def test_items_count_for_the_days_they_are_seen(data: st.DataObject) -> None:
    """Day by day: the items that are present at some moment of the day, over the days of the period."""
    of = data.draw(spans())
    carried = data.draw(st.lists(st.sampled_from("abc"), unique=True))
    drawn = data.draw(
        st.lists(st.tuples(instants(of), st.sampled_from("abcd"), st.sampled_from(["add", "remove"])), max_size=14)
    )
    events = [at(when, item=name, operation=what, number=number) for number, (when, name, what) in enumerate(drawn)]
    found = prorate_unique_count(carried, data.draw(st.permutations(events)), of)
    present, seen = set(carried), 0
    for day in days_of(of):
        today = set(present)
        for event in in_order(events):
            if day_of(event, of.tz) == day and event.item:
                (present.discard if event.operation == "remove" else present.add)(event.item)
                today |= present
        seen += len(today)
    assert fraction(found.units) == rounded_up(Fraction(seen, of.period_days))
    assert found.full_units == len(present)


@quick
@given(st.data())
def test_what_came_before_is_carried_over(data: st.DataObject) -> None:
    """All events at once, and the ones inside on top of what those before have come to."""
    of = data.draw(spans())
    when = st.integers(-90 * 24, 0).map(lambda hours: of.from_ + timedelta(hours=hours)) | instants(of)
    drawn = data.draw(
        st.lists(
            st.tuples(when, st.sampled_from("abcd"), st.sampled_from(["add", "remove"]), st.integers(-9, 9)),
            max_size=14,
        )
    )
    events = [at(one, value, name, what, number) for number, (one, name, what, value) in enumerate(drawn)]
    mixed = data.draw(st.permutations(events))
    first_ms = at(of.from_).timestamp_ms
    before = [event for event in in_order(events) if event.timestamp_ms < first_ms]
    inside = [event for event in in_order(events) if event.timestamp_ms >= first_ms]
    carried = sum((event.value for event in before), Decimal(0))
    assert prorate(Aggregation.SUM, mixed, of) == prorate_sum(carried, inside, of)
    items = present_items(before)
    assert prorate(Aggregation.UNIQUE_COUNT, mixed, of) == prorate_unique_count(items, inside, of)
    assert len(items) == aggregate(Aggregation.UNIQUE_COUNT, before).units
    full = [prorate(kind, mixed, of).full_units for kind in (Aggregation.SUM, Aggregation.UNIQUE_COUNT)]
    assert full == [aggregate(kind, mixed).units for kind in (Aggregation.SUM, Aggregation.UNIQUE_COUNT)]


def test_only_sums_and_items_are_prorated() -> None:
    for aggregation in set(Aggregation) - {Aggregation.SUM, Aggregation.UNIQUE_COUNT}:
        with pytest.raises(ValueError, match="cannot be prorated"):
            prorate(aggregation, [], APRIL)


def naive_waterfall(table: Table, portions: Sequence[Portion], period_days: int) -> Fraction:
    """Unit after unit: put on the stack or taken off it, each at the price of its place."""
    height, highest, cost = 0, 0, Fraction(0)
    for portion in portions:
        for _ in range(abs(int(portion.value))):
            up = portion.value > 0
            place = height + 1 if up else height
            height += 1 if up else -1
            highest = max(highest, height)
            if place > 0:
                each = Fraction(table[tier_of(table, place)][1]) * portion.days / period_days
                cost += each if up else -each
    flats = sum((Fraction(flat) for _, _, flat in table[: tier_of(table, highest) + 1]), Fraction(0))
    return flats + cost if height >= 0 else Fraction(0)


portions_ = st.lists(st.builds(Portion, st.integers(-15, 25).map(Decimal), st.integers(0, 30)), max_size=8)


@quick
@given(tables, portions_)
def test_a_waterfall_is_priced_unit_by_unit(table: Table, portions: list[Portion]) -> None:
    usage_ = used(0, waterfall=Waterfall(tuple(portions), 30))
    for step in (0, 1):
        priced = price(GRADUATED, graduated(*ranges_of(table, step)), usage_, prorated=True)
        assert abs(fraction(priced.amount) - naive_waterfall(table, portions, 30)) < Fraction(1, 10**60)


@quick
@given(tables, st.lists(st.integers(0, 30).map(Decimal), max_size=6))
def test_what_lasts_for_the_whole_period_costs_what_it_costs_unprorated(table: Table, values: list[Decimal]) -> None:
    portions = tuple(Portion(value, 30) for value in values)
    total = sum(values, Decimal(0))
    plain, prorated = (compile_price(GRADUATED, graduated(*ranges_of(table, 1)), prorated=one) for one in (False, True))
    found = prorated(used(total, waterfall=Waterfall(portions, 30)))
    assert found.amount == plain(used(total)).amount
    assert found.unit_amount == plain(used(total)).unit_amount


def test_half_cents_stay_half_cents() -> None:
    third = Waterfall((Portion(Decimal("1.5"), 10),), 30)
    free = graduated(tier(0, None, "0.01"))
    assert (
        fee_amounts(used(1), price(GRADUATED, free, used(1, waterfall=third), prorated=True), "EUR").amount_cents == 1
    )


@pytest.mark.parametrize(
    ("quantity", "days_", "prorated"), [("1", 20, "0.66667"), ("3", 30, "3"), ("0", 5, "0"), ("1", 1, "0.03334")]
)
def test_prorated_quantity(quantity: str, days_: int, prorated: str) -> None:
    assert prorated_quantity(Decimal(quantity), days_, 30) == Decimal(prorated)
