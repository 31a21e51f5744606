"""Lists of events, newest ingested first, of any number of them (metering spec 1.7).

The order of a list is not that of `events`, and sorting tens of millions of rows for a page takes seconds. `event_arrivals`
has the events in the order they came, with little more than their keys: a page is read from its end. The events of the
page are then fetched by key. A page far down is found by how many events came in each hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.metering.events import Event
from app.metering.stored import END, EPOCH, event_of, within
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
    def parameters(self) -> dict[str, Any]:
        """As `matching_events.sql` takes it."""
        return {
            "organization_id": self.organization_id,
            "external_subscription_id": self.external_subscription_id or "",
            "any_subscription": self.external_subscription_id is None,
            "code": self.code or "",
            "any_code": self.code is None,
            "from": within(self.from_ or EPOCH),
            "to": within(self.to),
        }


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event with what its metric reads of it: `value`, or for a unique count `item`. `aggregation` is empty while no
    metric has its code."""

    event: Event
    aggregation: str
    value: Decimal
    item: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of a list: what was ingested between two instants, half-open, and how much of it comes before the page."""

    ingested_from: datetime
    ingested_before: datetime
    offset: int


def list_events(
    clickhouse: ClickHouse, wanted: EventFilter, *, limit: int, offset: int
) -> tuple[list[ListedEvent], int]:
    """A page of the matching events, newest ingested first and then by transaction id, and how many match in all."""
    scope = wanted.parameters
    total = int(clickhouse.rows(Query("events_count", scope))[0][0])
    if offset >= total or not limit:
        return [], total
    # The key of `events` begins with the subscription, so one with few enough events is read straight from there.
    few = wanted.external_subscription_id is not None and total <= MOST_PASSED_OVER
    stretch = _Stretch(EPOCH, END, offset)
    if not few:
        stretch = _narrowed(clickhouse, scope, stretch, limit)
    page = {
        "ingested_from": stretch.ingested_from,
        "ingested_before": stretch.ingested_before,
        "limit": limit,
        "offset": stretch.offset,
    }
    table = {"table": "events" if few else "event_arrivals"}
    places: list[Place] = [tuple(row) for row in clickhouse.rows(Query("events_page", {**scope, **page}, table))]
    # A place that was put right by two processes at once is there twice.
    return _events_at(clickhouse, wanted.organization_id, list(dict.fromkeys(places))), total


def _narrowed(clickhouse: ClickHouse, scope: dict[str, Any], stretch: _Stretch, limit: int) -> _Stretch:
    """The part of a list that has a page, with no more before the page than may be passed over."""
    for seconds in STRETCHES:
        if stretch.offset <= MOST_PASSED_OVER:
            break
        bounds = {"ingested_from": stretch.ingested_from, "ingested_before": stretch.ingested_before}
        found = clickhouse.rows(Query("arrivals_by_time", {**scope, **bounds, "seconds": seconds}))
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
    return replace(
        whole,
        ingested_from=EPOCH + timedelta(seconds=oldest * seconds),
        ingested_before=EPOCH + timedelta(seconds=(newest + 1) * seconds),
        offset=whole.offset - passed,
    )


def _events_at(clickhouse: ClickHouse, organization_id: UUID, places: Sequence[Place]) -> list[ListedEvent]:
    """The events at these places, in their order."""
    if not places:
        return []
    query = Query(
        "events_at",
        {
            "organization_id": organization_id,
            "places": [place[:4] for place in places],
            "first_ms": min(place[2] for place in places),
            "last_ms": max(place[2] for place in places),
        },
    )
    found: dict[Place, ListedEvent] = {}
    for *stored, aggregation, value, item in clickhouse.rows(query):
        _, subscription, transaction, code, milliseconds, _, _, ingested_at, _ = stored
        place = (subscription, code, milliseconds, transaction, ingested_at)
        # A metric's events are for a moment there twice while they are read anew; the copy that is read counts.
        if place not in found or aggregation:
            found[place] = ListedEvent(event_of(stored), aggregation, value, item)
    return [found[place] for place in places if place in found]
