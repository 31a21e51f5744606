"""Levels of charges paid in advance: what events come to, told one after the other in any order."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation, Sample, present_items
from app.core.charges.advance_level import Level, Presence, told
from app.core.charges.pay_in_advance import event_fee
from app.core.charges.percentage import Percentage, percentage
from app.core.charges.pricing import compile_price
from app.core.charges.usage import BucketUsage, Spent
from app.core.money import ZERO, exact
from app.core.values import replace
from tests.pricing import GRADUATED, PERCENTAGE, fraction, quick, ranged, ranges_of, spent, tables

SUM, UNIQUE = Aggregation.SUM, Aggregation.UNIQUE_COUNT

values = st.decimals(-20, 40, places=2)
properties = st.fixed_dictionaries(
    {"rate": st.sampled_from(["0", "2", "12.5"])},
    optional={
        "fixed_amount": st.sampled_from(["0.5", "3"]),
        "free_units_per_events": st.integers(1, 4),
        "free_units_per_total_aggregation": st.sampled_from(["1", "25", "60.5"]),
        "per_transaction_min_amount": st.sampled_from(["0.2", "1"]),
        "per_transaction_max_amount": st.sampled_from(["1", "4"]),
    },
)


@quick
@given(properties, st.lists(values, max_size=10))
def test_allowances_told_one_by_one(terms: dict[str, Any], events: list[Decimal]) -> None:
    """The price is the same as with all events at once."""
    allowance, price = Percentage.of(terms), percentage(terms)
    so_far = allowance.unspent
    for count in range(len(events) + 1):
        whole = spent(*events[:count])
        assert price(replace(whole, runs=None, spent=so_far)) == price(whole)
        if count < len(events):
            so_far = allowance.spend(so_far, events[count])


def test_without_events_a_price_that_looks_at_them_has_none() -> None:
    price = percentage({"rate": "1", "free_units_per_events": 1})
    with pytest.raises(ValueError, match="single events"):
        price(BucketUsage(Decimal(1), 1))
    assert price(BucketUsage(Decimal(0), 0, spent=Spent())).amount == 0


def level_of(events: list[Decimal], terms: dict[str, Any] | None = None) -> Level:
    """Where the events of a sum lead to."""
    level, allowance = Level(), Percentage.of(terms) if terms else None
    for number, value in enumerate(events):
        sample = Sample(number, str(number), value, None, "add")
        level, _ = told(SUM, level, sample, value, value, value / 100, allowance)
    return level


@quick
@given(st.lists(values, max_size=8), st.randoms(use_true_random=False))
def test_the_level_does_not_depend_on_the_order(events: list[Decimal], chance: Any) -> None:
    mixed = chance.sample(events, len(events))
    one, other = level_of(events), level_of(mixed)
    assert (
        (one.water.current, one.events_count)
        == (other.water.current, other.events_count)
        == (
            sum(events, ZERO),
            len(events),
        )
    )
    assert one.precise_total_amount_cents == sum(events, ZERO)


@quick
@given(st.lists(st.decimals(0, 40, places=2), min_size=1, max_size=8), tables, st.randoms(use_true_random=False))
def test_what_was_billed_is_the_price_of_it_all_in_any_order(events: list[Decimal], table: Any, chance: Any) -> None:
    """Before rounding: an event that comes late bills what it adds."""
    terms = ranged(GRADUATED, ranges_of(table, 1))
    price = compile_price(GRADUATED, terms)
    totals = []
    for order in (events, chance.sample(events, len(events))):
        level, total = Level(), fraction(ZERO)
        for number, value in enumerate(order):
            sample = Sample(number, str(number), value, None, "add")
            level, event = told(SUM, level, sample, value, ZERO, ZERO, None)
            usage = BucketUsage(level.water.current, level.events_count)
            total += fraction(event_fee(GRADUATED, price, usage, event, "EUR").precise_amount_cents)
        totals.append(total)
    with exact():
        assert totals == [fraction(price(spent(*events)).amount) * 100] * 2


def test_a_percentage_is_the_difference_that_an_event_makes() -> None:
    terms: dict[str, Any] = {"rate": "10", "fixed_amount": "1", "free_units_per_total_aggregation": "10"}
    price, allowance, level, found = percentage(terms), Percentage.of(terms), Level(), []
    for number, value in enumerate(map(Decimal, (8, 4, 5))):
        before = level
        level, event = told(SUM, level, Sample(number, str(number), value, None, "add"), value, ZERO, ZERO, allowance)
        usage = BucketUsage(level.water.current, level.events_count, spent=level.spent)
        fee = event_fee(PERCENTAGE, price, usage, event, "EUR", before.spent or allowance.unspent)
        found.append((fee.amount_cents, fee.amount_details["free_units"], fee.amount_details["paid_events"]))
    assert found == [(0, "8.0", 0), (120, "2.0", 1), (150, "0.0", 1)]


operations = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.sampled_from(["add", "remove"])), max_size=10
)


@quick
@given(operations, st.integers(0, 10), st.randoms(use_true_random=False))
def test_items_told_in_any_order(moves: list[tuple[int, str, str]], known: int, chance: Any) -> None:
    """The changes add up to the items that are there after all of them, whatever was known before."""
    events = [Sample(at, f"t{number:02}", ZERO, item, move) for number, (at, item, move) in enumerate(moves)]
    chance.shuffle(events)
    before, after = events[:known], events[known:]
    last: dict[str, tuple[tuple[int, str], bool]] = {}
    for one in before:
        state = (one.timestamp_ms, one.transaction_id), one.operation == "add"
        last[one.item or ""] = max(last.get(one.item or "", state), state)
    presence = Presence(last)
    changes = [presence.change(one) for one in after]
    assert len(present_items(before)) + sum(changes) == len(present_items(events))
    assert all(abs(one) <= 1 for one in changes)


def test_no_item_changes_nothing() -> None:
    assert Presence({}).change(Sample(1, "t", ZERO, "", "add")) == 0
