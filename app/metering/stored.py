"""Events as they are in the store, found by key or by transaction id (metering spec 1.7)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.metering.events import Event, Receipt
from app.metering.instants import EPOCH
from app.metering.keys import Key, slot_of
from app.metering.suspects import Suspects
from app.metering.told import UNKNOWN, ToldRows
from app.stores.clickhouse import ClickHouse, Query

END = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def find_replayed(clickhouse: ClickHouse, suspects: Suspects) -> dict[Key, Event]:
    """Those of the suspects that are stored. Mostly they were sent as they are there, which the key table tells; only the
    others are looked at themselves."""
    # As texts, for the driver would write numbers one by one, in as long as finding some of them takes.
    contents = [int(UNKNOWN), *suspects.contents.values()]
    sought = {"slots": str([*suspects.slots.values()]), "contents": str(contents)}
    stored = clickhouse.table(Query("stored_keys", sought))
    found = suspects.told([ToldRows.of_table(stored)])
    there = set(stored["slot"].to_pylist())
    others = sorted(key for key, slot in suspects.slots.items() if slot in there and key not in found)
    return found | find_events(clickhouse, others, ()) if others else found


def find_events(clickhouse: ClickHouse, keys: Sequence[Key], doubtful: Sequence[Key]) -> dict[Key, Event]:
    """The stored events with these keys. `doubtful` ones may lack their row in the key table and are looked for among
    the events themselves."""
    found: list[Sequence[Any]] = []
    if keys:
        slots = [slot_of(organization, transaction) for organization, _, transaction in keys]
        found += clickhouse.rows(Query("events_by_key", {"keys": _ordered(keys), "slots": slots}))
    if doubtful:
        found += clickhouse.rows(Query("events_by_key_raw", {"keys": _ordered(doubtful)}))
    events = map(event_of, found)
    return {event.key: event for event in events}


def find_event(clickhouse: ClickHouse, organization_id: UUID, transaction_id: str) -> Event | None:
    """The event with a transaction id; where several subscriptions have one, the latest ingested."""
    slot = slot_of(str(organization_id), transaction_id)
    parameters = {"organization_id": organization_id, "transaction_id": transaction_id, "slot": slot}
    rows = clickhouse.rows(Query("event_by_transaction", parameters))
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
        receipt=Receipt(ingested_at.replace(tzinfo=UTC)),
        replaced=replaced or None,
    )
