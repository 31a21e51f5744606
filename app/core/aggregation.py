"""From event values to the units of a usage window.

The event store aggregates in its own language; the functions here say what its results must be. Metering spec
1.13, 2.4, 2.5, 2.8.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from msgspec import Struct

from app.core.money import ZERO, ceil_to, decimal_places, exact, floor_to, round_half_up

VALUE_PLACES = 18
"""Decimal places an event value is stored with."""

VALUE_DIGITS = 20
"""Integer digits an event value may have; with the places this fills a Decimal(38, 18) column."""

MAX_VALUE_TEXT = 128
"""Longer texts are not numbers: no meter needs them and reading them costs time."""

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?"
"""What a number looks like, as a regular expression that the event store understands, too."""

# ASCII digits only, unlike what Decimal itself reads (other scripts' digits, underscores, NaN, spaces).
is_stored_as_it_is = re.compile(rf"[+-]?[0-9]{{1,{VALUE_DIGITS}}}(?:\.[0-9]{{1,{VALUE_PLACES}}})?").fullmatch
"""Whether a property's text is a number whose ``decimal_value`` has the same digits: it need not be read to be kept."""

_NUMBER = re.compile(NUMBER).fullmatch


class Aggregation(StrEnum):
    """``aggregation_type`` of a billable metric (metering spec 2.1)."""

    COUNT = "count_agg"
    SUM = "sum_agg"
    MAX = "max_agg"
    UNIQUE_COUNT = "unique_count_agg"
    LATEST = "latest_agg"
    WEIGHTED_SUM = "weighted_sum_agg"
    CUSTOM = "custom_agg"


SUPPORTED = frozenset(Aggregation) - {Aggregation.CUSTOM}

WEIGHTED_PLACES = 20
"""Decimal places that weighted units are rounded up to."""

_SECOND_MS = 1_000
_DAY_SECONDS = 86_400


class Sample(Struct, frozen=True):
    """One event of a window: its instant (milliseconds since 1970), id, decimal value (0 when the event has
    none), for unique count the item and what happens to it ("add" or "remove"), and where it stands in the order
    of ingestion.
    """

    timestamp_ms: int
    transaction_id: str
    value: Decimal
    item: str | None
    operation: str
    ingested: int = 0


class Units(Struct, frozen=True):
    """Result of an aggregation: exact units, the number of events behind them, the level at the end of the window
    where units are weighted by time (else None), and the sum of the events' own precise amounts in minor units.
    """

    units: Decimal
    events_count: int
    level: Decimal | None = None
    precise_total_amount_cents: Decimal = ZERO

    @property
    def total_aggregated_units(self) -> Decimal:
        """The level at the end for a weighted sum, else the units (metering spec 2.6, 3.10)."""
        return self.units if self.level is None else self.level


@dataclass(frozen=True, slots=True)
class WeighedSpan:
    """The time a weighted sum is taken over: whole seconds since 1970, the last one rounded up, and the days of the
    whole period it belongs to (metering spec 2.6).
    """

    from_second: int
    end_second: int
    period_days: int

    @classmethod
    def of(cls, from_ms: int, end_ms: int, period_days: int) -> "WeighedSpan":
        """The span of a window that ends before ``end_ms``: its last millisecond is the one before."""
        return cls(from_ms // _SECOND_MS, -(-(end_ms - 1) // _SECOND_MS), period_days)


def decimal_value(text: str | None) -> Decimal | None:
    """The decimal value of an event property's text (metering spec 0.1, 1.13).

    Plain and exponent notation in ASCII; digits past ``VALUE_PLACES`` decimals are cut, not rounded. None when
    the text is absent, not a finite number, longer than ``MAX_VALUE_TEXT`` characters, has an exponent of more
    than nine digits, or reaches 10**20 in size. The result has 0 to 18 decimal places and is no negative zero.
    """
    if text is None:
        return None
    if is_stored_as_it_is(text):
        return Decimal(text) or ZERO
    value = read_number(text)
    return None if value is None else _fitted(value)


def read_number(text: str) -> Decimal | None:
    """The number that a property's text looks like, every digit of it and of any size: plain and exponent notation
    in ASCII. None when it is not a finite number, or longer than ``MAX_VALUE_TEXT`` characters.
    """
    return Decimal(text) if len(text) <= MAX_VALUE_TEXT and _NUMBER(text) else None


def _fitted(value: Decimal) -> Decimal | None:
    # The size is looked at first: a huge exponent must not be written out.
    if not value or value.adjusted() < -VALUE_PLACES:
        return ZERO
    if value.adjusted() >= VALUE_DIGITS:
        return None
    places = min(max(decimal_places(value), 0), VALUE_PLACES)
    with exact():
        return value.quantize(Decimal((0, (1,), -places)), rounding=ROUND_DOWN)


def aggregate(
    kind: Aggregation, samples: Iterable[Sample], span: WeighedSpan | None = None, opening: Decimal = ZERO
) -> Units:
    """Units of the samples of one bucket, unrounded (metering spec 2.4).

    The samples are already deduplicated, filtered and inside the window; their order does not matter. Sums and
    maxima may be negative; no sample gives 0. A weighted sum needs its ``span``, and starts from the ``opening``
    level. ``ValueError`` for a kind outside ``SUPPORTED``, or a missing span.
    """
    events = list(samples)
    with exact():
        match kind:
            case Aggregation.UNIQUE_COUNT:
                present = len(present_items(events))
                return Units(Decimal(present), present)
            case Aggregation.COUNT:
                return Units(Decimal(len(events)), len(events))
            case Aggregation.MAX:
                return Units(max((event.value for event in events), default=ZERO), len(events))
            case Aggregation.LATEST:
                newest = max(events, key=_newness, default=None)
                return Units(latest_units(newest.value if newest else ZERO), len(events))
            case Aggregation.SUM:
                return Units(sum((event.value for event in events), ZERO), len(events))
            case Aggregation.WEIGHTED_SUM if span is not None:
                return _weighted_sum(events, span, opening)
            case _:
                raise ValueError(f"{kind} cannot be aggregated")


def latest_units(newest: Decimal) -> Decimal:
    """The units of a latest aggregation from the newest event's value: a negative one counts as 0 (metering spec 2.4)."""
    return max(newest, ZERO)


def weighted_units(opening: Decimal, total: Decimal, moment: Decimal, span: WeighedSpan) -> Decimal:
    """A weighted sum from its opening level, the sum of the changes, and the sum of each change times its second.

    Each level lasts to the next change, so a change of v at t weighs v * (end - t), and all of them together
    total * end - moment. Over the seconds of the whole period, rounded up at ``WEIGHTED_PLACES`` (metering spec 2.6).
    """
    with exact():
        return ceil_to(_unit_seconds(opening, total, moment, span) / (span.period_days * _DAY_SECONDS), WEIGHTED_PLACES)


def mean_level(opening: Decimal, total: Decimal, moment: Decimal, span: WeighedSpan) -> Decimal:
    """The same over the seconds of the span itself, which must not be empty: the level that it had on average."""
    with exact():
        seconds = _unit_seconds(opening, total, moment, span)
        return ceil_to(seconds / (span.end_second - span.from_second), WEIGHTED_PLACES)


def _unit_seconds(opening: Decimal, total: Decimal, moment: Decimal, span: WeighedSpan) -> Decimal:
    return opening * (span.end_second - span.from_second) + total * span.end_second - moment


def _weighted_sum(events: list[Sample], span: WeighedSpan, opening: Decimal) -> Units:
    """The level walked from change to change, as the rule is told."""
    level, second, seconds = opening, span.from_second, ZERO
    for event in sorted(events, key=lambda one: one.timestamp_ms):
        at = event.timestamp_ms // _SECOND_MS
        seconds += level * (at - second)
        level, second = level + event.value, at
    seconds += level * (span.end_second - second)
    units = ceil_to(seconds / (span.period_days * _DAY_SECONDS), WEIGHTED_PLACES)
    return Units(units, len(events), level=level)


def _newness(event: Sample) -> tuple[int, int, str]:
    return event.timestamp_ms, event.ingested, event.transaction_id


def present_items(events: Iterable[Sample]) -> list[str]:
    """The items that are present after all events, in the order in which they were added (metering spec 2.5).

    Repeated additions and removals of something absent change nothing. Same instant: the greater transaction id is the
    later one. Anything but "remove" adds. No item: ignored.
    """
    present: dict[str, None] = {}
    for event in sorted(events, key=lambda one: (one.timestamp_ms, one.transaction_id)):
        if not event.item:
            continue
        if event.operation == "remove":
            present.pop(event.item, None)
        else:
            present.setdefault(event.item)
    return list(present)


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
