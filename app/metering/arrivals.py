"""Events in the order in which they came, for what has to be done once for each of them."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from app.core.aggregation import Aggregation, Sample
from app.core.money import ZERO
from app.metering.rollups import ROLLUPS
from app.metering.stored import END
from app.metering.windows import Window, edges_table
from app.stores.clickhouse import ClickHouse, Query


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that came, as its metric reads it; `precise_total_amount_cents` is its own amount in minor units."""

    external_subscription_id: str
    code: str
    event: Sample
    properties: Mapping[str, str]
    precise_total_amount_cents: Decimal
    ingested_at: datetime

    @property
    def key(self) -> tuple[str, str]:
        """What makes it one event of its organization: external subscription id and transaction id."""
        return self.external_subscription_id, self.event.transaction_id


@dataclass(frozen=True, slots=True)
class Known:
    """Which events are looked back at: those ingested up to an instant, but for these keys."""

    until: datetime = END
    but: Collection[tuple[str, str]] = ()


def last_arrival(clickhouse: ClickHouse, organization_id: UUID, after: datetime) -> datetime | None:
    """When the last of an organization's events after an instant was ingested; None where there is none."""
    rows = clickhouse.rows(Query("last_arrival", {"organization_id": organization_id, "after": after}))
    return rows[0][0] if rows else None


def busy_since(clickhouse: ClickHouse, marks: Sequence[tuple[UUID, datetime]]) -> list[UUID]:
    """Those of some organizations that have events ingested after an instant of each."""
    return [row[0] for row in clickhouse.rows(Query("busy_since", {"marks": list(marks)}))] if marks else []


def busy_subscriptions(clickhouse: ClickHouse, organization_id: UUID, after: datetime, until: datetime) -> list[str]:
    """The external ids of an organization's subscriptions that have events ingested after one instant and up to another.
    Those that no subscription can have, with a NUL, are left out."""
    parameters = {"organization_id": organization_id, "after": after, "until": until}
    rows = clickhouse.rows(Query("busy_subscriptions", parameters))
    return [external_id for (external_id,) in rows if "\x00" not in external_id]


def arrivals(
    clickhouse: ClickHouse, organization_id: UUID, codes: Collection[str], after: datetime, until: datetime, limit: int
) -> list[Arrival]:
    """An organization's events of some codes, ingested after one instant and up to another, in the order in which they
    came: about `limit`, for those of one instant are never parted. An event that was accepted twice comes once."""
    parameters = {
        "organization_id": organization_id,
        "codes": sorted(codes),
        "after": after,
        "until": until,
        "limit": limit,
    }
    return [
        Arrival(
            subscription,
            code,
            Sample(at, transaction, value, item, operation),
            properties,
            precise or ZERO,
            ingested_at,
        )
        for subscription, code, at, transaction, value, item, operation, properties, precise, ingested_at in (
            clickhouse.rows(Query("arrivals", parameters))
        )
    ]


History = list[tuple[Hashable, Sample, Decimal]]
"""Events in the order in which they came, each with its bucket and its own precise amount in minor units."""


def histories(clickhouse: ClickHouse, windows: Sequence[Window], known: Known) -> list[History]:
    """The single events of each window, in the windows' order. They are held in memory."""
    found: list[History] = [[] for _ in windows]
    for aggregation, edges in _edges(windows):
        query = Query("history_many", {**edges, **_looked_back(known)}, ROLLUPS[aggregation].fragments)
        for place, split, *sample, precise in clickhouse.rows(query):
            found[place].append((windows[place].split.bucket(tuple(split)), Sample(*sample), precise or ZERO))
    return found


Last = dict[str, tuple[tuple[int, str], bool]]
"""Of each item the moment of its last operation, and whether that added it."""


def last_operations(
    clickhouse: ClickHouse, windows: Sequence[Window], items: Collection[str], known: Known
) -> list[Mapping[Hashable, Last]]:
    """What is known of some items in each window, by bucket, in the windows' order."""
    found: list[defaultdict[Hashable, Last]] = [defaultdict(dict) for _ in windows]
    for aggregation, edges in _edges(windows):
        parameters = {**edges, **_looked_back(known), "items": sorted(items)}
        for place, split, item, (at, transaction, adds) in clickhouse.rows(
            Query("items_known", parameters, ROLLUPS[aggregation].fragments)
        ):
            last = found[place][windows[place].split.bucket(tuple(split))]
            one = (at, transaction), bool(adds)
            last[item] = max(last.get(item, one), one)
    return list(found)


def _looked_back(known: Known) -> dict[str, object]:
    return {"until": known.until, "but": list(known.but)}


def _edges(windows: Iterable[Window]) -> Iterator[tuple[Aggregation, dict[str, object]]]:
    """The windows of each aggregation as parameters."""
    by_aggregation: dict[Aggregation, list[tuple[int, Window]]] = defaultdict(list)
    for place, one in enumerate(windows):
        if not one.is_empty:
            by_aggregation[one.aggregation].append((place, one))
    for aggregation, mine in by_aggregation.items():
        yield aggregation, edges_table([(place, one, (one.from_ms, one.end_ms)) for place, one in mine])
