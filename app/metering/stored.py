"""Events as they are in the store, found by key or by transaction id (metering spec 1.7)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.metering.events import Event
from app.metering.keys import Key
from app.stores.clickhouse import ClickHouse, Query

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def find_events(clickhouse: ClickHouse, keys: Sequence[Key], doubtful: Sequence[Key]) -> dict[Key, Event]:
    """The stored events with these keys. `doubtful` ones may lack their row in the key table and are looked for among
    the events themselves."""
    found: list[Sequence[Any]] = []
    if keys:
        found += clickhouse.rows(Query("events_by_key", {"keys": _ordered(keys)}))
    if doubtful:
        found += clickhouse.rows(Query("events_by_key_raw", {"keys": _ordered(doubtful)}))
    events = map(event_of, found)
    return {event.key: event for event in events}


def find_event(clickhouse: ClickHouse, organization_id: UUID, transaction_id: str) -> Event | None:
    """The event with a transaction id; where several subscriptions have one, the latest ingested."""
    rows = clickhouse.rows(
        Query("event_by_transaction", {"organization_id": organization_id, "transaction_id": transaction_id})
    )
    return event_of(rows[0]) if rows else None


def recent_keys(clickhouse: ClickHouse, since: datetime) -> Iterator[Sequence[Key]]:
    """The keys of events ingested at or after an instant, in parts of bounded size."""
    return clickhouse.row_parts(Query("keys_since", {"since": since}))


def within(instant: datetime | None) -> datetime:
    """The nearest instant that the store can hold; for None the last."""
    return END if instant is None else min(max(instant, EPOCH), END)


def _ordered(keys: Sequence[Key]) -> list[tuple[UUID, str, str]]:
    return [(UUID(organization), transaction, subscription) for organization, subscription, transaction in keys]


def event_of(row: Sequence[Any]) -> Event:
    """An event from a row of the queries above."""
    organization, subscription, transaction, code, milliseconds, properties, precise, ingested_at, replaced = row
    return Event(
        key=(str(organization), subscription, transaction),
        code=code,
        timestamp_ms=milliseconds,
        timestamp_given=True,
        properties=properties,
        echo=properties,
        precise_total_amount_cents=precise,
        received_at=ingested_at.replace(tzinfo=UTC),
        replaced=replaced or None,
    )
