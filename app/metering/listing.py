"""Lists of events, newest ingested first, of any number of them (metering spec 1.7).

The order of a list is not that of `events`, and sorting tens of millions of rows for a page takes seconds. `event_arrivals`
has the events in the order they came, with little more than their keys: a page is read from its end. The events of the
page are then fetched by key. A page far down is found by how many events came in each hour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.metering.events import Event
from app.metering.instants import EPOCH
from app.metering.stored import END, event_of, within
from app.stores.clickhouse import ClickHouse, Query

MOST_PASSED_OVER = 100_000
"""So many events are read and passed over, or sorted, rather than looked for in a cleverer way."""
STRETCHES = (3600, 1)
"""Seconds: the hour that a far page is in is found first, and where an hour has too many events, the second."""

Place = tuple[str, str, int, str, datetime]
"""External subscription id, code, timestamp in milliseconds, transaction id, and when it was ingested."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of an organization are wanted. Both bounds of their timestamps are inclusive; None means all."""

    organization_id: UUID
    external_subscription_id: str | None = None
    code: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    @property
    def _conditions(self) -> Iterator[tuple[str, str, Any]]:
        """Each condition in the store's language, and the name and the value of its parameter."""
        yield "organization_id = {organization_id:UUID}", "organization_id", self.organization_id
        if self.external_subscription_id is not None:
            condition = "external_subscription_id = {external_subscription_id:String}"
            yield condition, "external_subscription_id", self.external_subscription_id
        if self.code is not None:
            yield "code = {code:String}", "code", self.code
        if self.from_ is not None:
            yield "timestamp >= {from:DateTime64(3, 'UTC')}", "from", within(self.from_)
        if self.to is not None:
            yield "timestamp <= {to:DateTime64(3, 'UTC')}", "to", within(self.to)

    @property
    def parameters(self) -> dict[str, Any]:
        """The values bound in `matching`."""
        return {name: value for _, name, value in self._conditions}

    @property
    def matching(self) -> str:
        """The conditions that there are, and no others: one that is always true costs the reading of its column."""
        return " AND ".join(condition for condition, _, _ in self._conditions)


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """An event with what its metric reads of it: `value`, or for a unique count `item`. `aggregation` is empty while no
    metric has its code."""

    event: Event
    aggregation: str
    value: Decimal
    item: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of a list: what was ingested between two instants, both included, and how much of it is before the page."""

    ingested_from: datetime
    ingested_to: datetime
    offset: int

    @property
    def bounds(self) -> dict[str, datetime]:
        """As the queries take it."""
        return {"ingested_from": self.ingested_from, "ingested_to": self.ingested_to}


def list_events(clickhouse: ClickHouse, wanted: EventFilter, *, limit: int, offset: int) -> tuple[list[Event], int]:
    """A page of the matching events, newest ingested first and then by transaction id, and how many match in all."""
    places, total = _page(clickhouse, wanted, limit, offset)
    found = _events_at(clickhouse, wanted.organization_id, places, "0")
    return [event for event, _ in found], total


def list_read_events(
    clickhouse: ClickHouse, wanted: EventFilter, *, limit: int, offset: int
) -> tuple[list[ReadEvent], int]:
    """The same with what their metrics read of them."""
    places, total = _page(clickhouse, wanted, limit, offset)
    found = _events_at(clickhouse, wanted.organization_id, places, "toString(aggregation), value, item")
    return [ReadEvent(event, *reading) for event, reading in found], total


def _page(clickhouse: ClickHouse, wanted: EventFilter, limit: int, offset: int) -> tuple[list[Place], int]:
    scope, matching = wanted.parameters, wanted.matching
    # The key of `events` begins with the subscription: those of one are counted there, and when they are few, sorted.
    table = "event_arrivals" if wanted.external_subscription_id is None else "events"
    total = int(clickhouse.rows(Query("events_count", scope, {"table": table, "matching": matching}))[0][0])
    if offset >= total or not limit:
        return [], total
    stretch = _Stretch(EPOCH, END, offset)
    if total > MOST_PASSED_OVER:
        table = "event_arrivals"
    if table == "event_arrivals":
        stretch = _reached(clickhouse, wanted, _narrowed(clickhouse, wanted, stretch, limit), limit)
    page = {**scope, **stretch.bounds, "limit": limit, "offset": stretch.offset}
    rows = clickhouse.rows(Query("events_page", page, {"table": table, "matching": matching}))
    # A place that was put right by two processes at once is there twice.
    return list(dict.fromkeys(tuple(row) for row in rows)), total


def _narrowed(clickhouse: ClickHouse, wanted: EventFilter, stretch: _Stretch, limit: int) -> _Stretch:
    """The part of a list that has a page, with no more before the page than may be passed over."""
    for seconds in STRETCHES:
        if stretch.offset <= MOST_PASSED_OVER:
            break
        scope = {**wanted.parameters, **stretch.bounds, "seconds": seconds}
        found = clickhouse.rows(Query("arrivals_by_time", scope, {"matching": wanted.matching}))
        stretch = _around(stretch, found, seconds, limit)
    return stretch


def _around(whole: _Stretch, counts: Sequence[Sequence[int]], seconds: int, limit: int) -> _Stretch:
    """Of a list whose stretches have so many events each, newest first, those that have the page."""
    passed, size = 0, 0
    newest = oldest = None
    for stretch, count in counts:
        if newest is None and passed + count <= whole.offset:
            passed += count
            continue
        newest = stretch if newest is None else newest
        oldest, size = stretch, size + count
        if passed + size >= whole.offset + limit:
            break
    if newest is None or oldest is None:
        return whole
    return _Stretch(
        EPOCH + timedelta(seconds=oldest * seconds),
        EPOCH + timedelta(seconds=(newest + 1) * seconds, microseconds=-1),
        whole.offset - passed,
    )


def _reached(clickhouse: ClickHouse, wanted: EventFilter, stretch: _Stretch, limit: int) -> _Stretch:
    """The part of a list that has a page and hardly anything else."""
    scope = {**wanted.parameters, **stretch.bounds, "offset": stretch.offset, "end": stretch.offset + limit}
    [[newest, oldest, newer]] = clickhouse.rows(Query("events_reach", scope, {"matching": wanted.matching}))
    return _Stretch(oldest, newest, stretch.offset - newer)


def _events_at(
    clickhouse: ClickHouse, organization_id: UUID, places: Sequence[Place], readings: str
) -> list[tuple[Event, Sequence[Any]]]:
    """The events at these places, in their order, each with the columns that are asked for besides."""
    if not places:
        return []
    parameters = {
        "organization_id": organization_id,
        "places": [place[:4] for place in places],
        "first_ms": min(place[2] for place in places),
        "last_ms": max(place[2] for place in places),
    }
    found: dict[Place, tuple[Event, Sequence[Any]]] = {}
    for row in clickhouse.rows(Query("events_at", parameters, {"readings": readings})):
        *place, properties, precise, replaced = row[:8]
        subscription, code, milliseconds, transaction, ingested_at = place
        stored = (
            organization_id, subscription, transaction, code, milliseconds, properties, precise, ingested_at, replaced,
        )  # fmt: skip
        # A metric's events are for a moment there twice while they are read anew; the copy that is read counts.
        if tuple(place) not in found or row[8]:
            found[tuple(place)] = (event_of(stored), row[8:])
    return [found[place] for place in places if place in found]
