"""From event values to the units of a usage window.

The event store aggregates in its own language; the functions here say what its results must be. Metering spec
1.13, 2.4, 2.5, 2.8.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from app.core.money import ZERO, ceil_to, decimal_places, exact, floor_to, round_half_up

VALUE_PLACES = 18
"""Decimal places an event value is stored with."""

VALUE_DIGITS = 20
"""Integer digits an event value may have; with the places this fills a Decimal(38, 18) column."""

MAX_VALUE_TEXT = 128
"""Longer texts are not numbers: no meter needs them and reading them costs time."""

# ASCII digits only, unlike what Decimal itself reads (other scripts' digits, underscores, NaN, spaces).
_FITTING = re.compile(rf"[+-]?[0-9]{{1,{VALUE_DIGITS}}}(?:\.[0-9]{{1,{VALUE_PLACES}}})?").fullmatch
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?").fullmatch


class Aggregation(StrEnum):
    """``aggregation_type`` of a billable metric (metering spec 2.1)."""

    COUNT = "count_agg"
    SUM = "sum_agg"
    MAX = "max_agg"
    UNIQUE_COUNT = "unique_count_agg"
    LATEST = "latest_agg"
    WEIGHTED_SUM = "weighted_sum_agg"
    CUSTOM = "custom_agg"


SUPPORTED = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.MAX, Aggregation.UNIQUE_COUNT})


@dataclass(frozen=True, slots=True)
class Sample:
    """One event of a window: its instant (milliseconds since 1970), id, decimal value (0 when the event has
    none), and for unique count the item and what happens to it ("add" or "remove").
    """

    timestamp_ms: int
    transaction_id: str
    value: Decimal
    item: str | None
    operation: str


@dataclass(frozen=True, slots=True)
class Units:
    """Result of an aggregation: exact units and the number of events behind them."""

    units: Decimal
    events_count: int


def decimal_value(text: str | None) -> Decimal | None:
    """The decimal value of an event property's text (metering spec 0.1, 1.13).

    Plain and exponent notation in ASCII; digits past ``VALUE_PLACES`` decimals are cut, not rounded. None when
    the text is absent, not a finite number, longer than ``MAX_VALUE_TEXT`` characters, has an exponent of more
    than nine digits, or reaches 10**20 in size. The result has 0 to 18 decimal places and is no negative zero.
    """
    if text is None:
        return None
    if _FITTING(text):
        return Decimal(text) or ZERO
    if len(text) > MAX_VALUE_TEXT or not _NUMBER(text):
        return None
    return _fitted(Decimal(text))


def _fitted(value: Decimal) -> Decimal | None:
    # The size is looked at first: a huge exponent must not be written out.
    if not value or value.adjusted() < -VALUE_PLACES:
        return ZERO
    if value.adjusted() >= VALUE_DIGITS:
        return None
    places = min(max(decimal_places(value), 0), VALUE_PLACES)
    with exact():
        return value.quantize(Decimal((0, (1,), -places)), rounding=ROUND_DOWN)


def aggregate(kind: Aggregation, samples: Iterable[Sample]) -> Units:
    """Units of the samples of one bucket, unrounded (metering spec 2.4).

    The samples are already deduplicated, filtered and inside the window; their order does not matter. Sums and
    maxima may be negative; no sample gives 0. ``ValueError`` for a kind outside ``SUPPORTED``.
    """
    if kind not in SUPPORTED:
        raise ValueError(f"{kind} is not supported")
    events = list(samples)
    if kind is Aggregation.UNIQUE_COUNT:
        present = _present_items(events)
        return Units(Decimal(present), present)
    if kind is Aggregation.COUNT:
        return Units(Decimal(len(events)), len(events))
    if kind is Aggregation.MAX:
        return Units(max((event.value for event in events), default=ZERO), len(events))
    with exact():
        return Units(sum((event.value for event in events), ZERO), len(events))


def _present_items(events: list[Sample]) -> int:
    """Number of items whose last operation is an addition (metering spec 2.5).

    Repeated additions and removals of something absent change nothing, so the last operation alone decides. Same
    instant: the greater transaction id is the later one. Anything but "remove" adds. No item: ignored.
    """
    last: dict[str, tuple[tuple[int, str], bool]] = {}
    for event in events:
        if not event.item:
            continue
        moment = (event.timestamp_ms, event.transaction_id)
        seen = last.get(event.item)
        if seen is None or moment > seen[0]:
            last[event.item] = (moment, event.operation != "remove")
    return sum(added for _, added in last.values())


def round_units(units: Decimal, function: str | None, precision: int | None) -> Decimal:
    """Units after the metric's rounding (metering spec 2.8).

    ``function`` is None (nothing happens), "round" (half-up), "ceil" or "floor"; ``precision`` decimals, None
    meaning 0, negative for tens, hundreds... ``ValueError`` for another function or a precision below
    ``-money.PLACES_LIMIT``.
    """
    if function is None:
        return units
    places = precision or 0
    match function:
        case "round":
            return round_half_up(units, places)
        case "ceil":
            return ceil_to(units, places)
        case "floor":
            return floor_to(units, places)
        case _:
            raise ValueError(f"{function} is not a rounding function")
