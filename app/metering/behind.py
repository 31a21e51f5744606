"""The very events behind an amount: those of its window, filter and group that had come when it was measured, and those
that came too late (metering spec 1.9, 1.10, 2.7, 3.4, 3.5).

Which filter an event belongs to is decided by the same router that splits usage. The store tells which combinations of
values there are, the router which of them are wanted, and the store gives their events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.aggregation import Aggregation
from app.core.buckets import Router, Values
from app.metering.listing import ReadEvent
from app.metering.stored import END, event_of
from app.metering.windows import FIRST_MS
from app.stores.clickhouse import ClickHouse, Query


@dataclass(frozen=True, slots=True)
class Behind:
    """Which events: of a metric and a subscription with `from_ms <= timestamp < end_ms`, from the beginning of time where
    the metric is `recurring`, or the one with a transaction id. Without an `aggregation` it is whichever the metric has.

    `filters` are all of the charge's, oldest first, and `filter` the position of the wanted one, None for the default
    bucket. `group` has the values of the group keys, `only` those that are wanted of some properties, None for an
    absent property. What was ingested after `measured_at` came too late; None: nothing did.
    """

    organization_id: UUID
    external_subscription_id: str
    code: str
    aggregation: Aggregation | None
    from_ms: int
    end_ms: int
    recurring: bool = False
    filters: Sequence[Values] = ()
    filter: int | None = None
    group: Mapping[str, str | None] = field(default_factory=dict)
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    transaction_id: str | None = None
    measured_at: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the queries are told of it, but for the filter."""
        wanted = [*((key, [value or ""]) for key, value in self.group.items()), *self.only.items()]
        return {
            "organization_id": self.organization_id,
            "external_subscription_id": self.external_subscription_id,
            "code": self.code,
            "aggregation": self.aggregation or "",
            "from_ms": FIRST_MS if self.recurring else self.from_ms,
            "window_ms": self.from_ms,
            "end_ms": self.end_ms,
            "transaction_id": self.transaction_id or "",
            "group_keys": [key for key, _ in wanted],
            "group_values": [list(values) for _, values in wanted],
            "until": END if self.measured_at is None else self.measured_at,
        }


@dataclass(frozen=True, slots=True)
class BehindCounts:
    """How many events came before the window, within it, and too late."""

    before: int
    within: int
    late: int


def count_behind(clickhouse: ClickHouse, wanted: Behind) -> BehindCounts:
    """How many events there are."""
    [[before, within, late]] = clickhouse.rows(Query("behind_count", _bucket(clickhouse, wanted)))
    return BehindCounts(int(before), int(within), int(late))


def list_behind(
    clickhouse: ClickHouse, wanted: Behind, *, late: bool, limit: int, offset: int
) -> tuple[list[ReadEvent], int]:
    """A page of the events, or of those that came too late, in the order of time, and how many there are in all."""
    bucket = _bucket(clickhouse, wanted)
    [[before, within, too_late]] = clickhouse.rows(Query("behind_count", bucket))
    total = int(too_late if late else before + within)
    if offset >= total or not limit:
        return [], total
    page = Query("behind_page", {**bucket, "late": late, "limit": limit, "offset": offset})
    return [ReadEvent(event_of(row[:9]), *row[9:]) for row in clickhouse.rows(page)], total


def _bucket(clickhouse: ClickHouse, wanted: Behind) -> dict[str, Any]:
    """The parameters of a bucket: besides its group, the combinations of values that are routed to its filter."""
    router = Router(wanted.filters)
    known = {key: sorted({value for one in wanted.filters for value in one.get(key, ())}) for key in router.keys}
    parameters = {**wanted.parameters, "route_keys": list(router.keys), "known_values": list(known.values())}
    routed = bool(router.keys) and wanted.transaction_id is None
    routes: list[list[str]] = []
    if routed:
        found = clickhouse.rows(Query("behind_routes", parameters))
        routes = [list(route) for (route,) in found if router.route_values(route) == wanted.filter]
    return {**parameters, "routed": routed, "routes": routes}
