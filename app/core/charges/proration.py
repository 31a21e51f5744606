"""Proration of recurring metrics: units count for the days that they last (metering spec 3.9)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.core.aggregation import Aggregation, Sample, present_items
from app.core.charges.events import in_order, instant, moment, split_at
from app.core.charges.usage import ONE, Portion, Waterfall
from app.core.money import ZERO, ceil_to, exact
from app.core.periods import calendar_days, local_date

PRORATED_PLACES = 5
"""Decimal places that prorated units are rounded up to."""


@dataclass(frozen=True, slots=True)
class ProratedSpan:
    """The time that units are prorated over: the boundaries of the charges (aware instants, both included), the days
    of the whole period they belong to, and the customer's zone.

    ``ends_by_upgrade``: the subscription ended by an upgrade, whose day belongs to the new plan.
    """

    from_: datetime
    to: datetime
    period_days: int
    tz: ZoneInfo
    ends_by_upgrade: bool = False

    @property
    def days(self) -> int:
        """The days of all of it: how long what was carried over lasts."""
        return max(calendar_days(self.from_, self.to, self.tz) - self.ends_by_upgrade, 0)

    def days_from(self, since: datetime) -> int:
        """How long what is added at an instant lasts, that day included, and that of an upgrade too."""
        return max(calendar_days(max(since, self.from_), self.to, self.tz), 0)


@dataclass(frozen=True, slots=True)
class ProratedUnits:
    """Units by the days they last (to 5 decimals, rounded up), the full ones at the end, and what both are made of."""

    units: Decimal
    full_units: Decimal
    waterfall: Waterfall


def prorate(aggregation: Aggregation, events: Iterable[Sample], span: ProratedSpan) -> ProratedUnits:
    """The prorated units of a bucket from all its events up to the end of the span, since the first one ever.

    ``ValueError`` for an aggregation other than sum and unique count.
    """
    earlier, inside = split_at(events, span.from_)
    match aggregation:
        case Aggregation.SUM:
            with exact():
                carried = sum((event.value for event in earlier), ZERO)
            return prorate_sum(carried, inside, span)
        case Aggregation.UNIQUE_COUNT:
            return prorate_unique_count(present_items(earlier), inside, span)
        case _:
            raise ValueError(f"{aggregation} cannot be prorated")


def prorate_sum(carried: Decimal, events: Iterable[Sample], span: ProratedSpan) -> ProratedUnits:
    """A prorated sum: ``carried`` is the sum of all values before the span, ``events`` are those inside.

    What was carried over lasts for the whole span, a value from its local day on.
    """
    portions = [Portion(carried, span.days)] if carried else []
    portions += [Portion(event.value, span.days_from(instant(event))) for event in in_order(events)]
    return _prorated(portions, span)


def prorate_unique_count(carried: Sequence[str], events: Iterable[Sample], span: ProratedSpan) -> ProratedUnits:
    """A prorated unique count: ``carried`` are the items present when the span begins, in the order in which they were
    added; ``events`` are the additions and removals inside.

    An item counts for the days it is present, both the first and the last one included; one removed and added again
    on the same local day has not been away. In the waterfall a removal frees a place and costs nothing.
    """
    by_item: dict[str, list[Sample]] = {item: [] for item in carried}
    present = set(by_item)
    for event in in_order(events):
        if event.item:
            by_item.setdefault(event.item, []).append(event)
    steps: list[tuple[tuple[int, str], Portion]] = []
    for place, (item, own) in enumerate(by_item.items()):
        steps += _stays(own, span, present_since=(-1, f"{place:020}") if item in present else None)
    steps.sort(key=lambda step: step[0])
    return _prorated([portion for _, portion in steps], span)


def prorated_quantity(quantity: Decimal, days: int, period_days: int) -> Decimal:
    """A quantity that lasts for some days of a period, as it is priced: rounded up to 5 decimals."""
    with exact():
        return ceil_to(quantity * days / period_days, PRORATED_PLACES)


def _stays(
    events: Sequence[Sample], span: ProratedSpan, present_since: tuple[int, str] | None
) -> list[tuple[tuple[int, str], Portion]]:
    """The additions and removals of one item that change something, each with its moment: an addition with the days
    until the removal, a removal with none.
    """
    steps: list[tuple[tuple[int, str], Portion]] = []
    since, began = present_since, span.from_
    for event in _without_short_absences(events, span.tz):
        removes = event.operation == "remove"
        if removes is (since is None):
            continue
        at = instant(event)
        if since is None:
            since, began = moment(event), at
        else:
            days = max(calendar_days(max(began, span.from_), min(at, span.to), span.tz), 0)
            steps += [(since, Portion(ONE, days)), (moment(event), Portion(-ONE, 0))]
            since = None
    if since is not None:
        days = span.days if since is present_since else span.days_from(began)
        steps.append((since, Portion(ONE, days)))
    return steps


def _without_short_absences(events: Sequence[Sample], tz: ZoneInfo) -> list[Sample]:
    """The events of one item without the removals that are followed by another event on the same local day."""
    last_of_day = {local_date(instant(event), tz): event for event in events}
    kept = {id(event) for event in last_of_day.values()}
    return [event for event in events if event.operation != "remove" or id(event) in kept]


def _prorated(portions: Sequence[Portion], span: ProratedSpan) -> ProratedUnits:
    with exact():
        days = sum((portion.value * portion.days for portion in portions), ZERO)
        return ProratedUnits(
            units=ceil_to(days / span.period_days, PRORATED_PLACES),
            full_units=sum((portion.value for portion in portions), ZERO),
            waterfall=Waterfall(tuple(portions), span.period_days),
        )
