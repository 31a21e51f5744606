"""Events as they are in the store, found by key or by transaction id (metering spec 1.7)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.metering.events import Event, plain
from app.metering.instants import EPOCH, ingestion_instant
from app.metering.keys import Key, content_of, slot_of
from app.metering.told import UNKNOWN, ToldInMemory, ToldRows, firsts
from app.stores.clickhouse import ClickHouse, Query

END = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


def find_replayed(
    clickhouse: ClickHouse, told: ToldInMemory, sent: Mapping[Key, Event], evaluated: Collection[Key]
) -> dict[Key, Event]:
    """The stored events with the keys of those that were sent. Mostly they are the same, which memory tells of the last
    ones, and of all the key table; only the others are looked at themselves, and those of `evaluated`, which are stored
    with more than was sent."""
    slots = {key: slot_of(key[0], key[2]) for key in sent}
    contents = {
        key: content
        for key, event in sent.items()
        if key not in evaluated and (content := _content_of(event)) is not None
    }
    found = _replayed(told.parts, sent, slots, contents)
    left = [key for key in sent if key not in found]
    if not left:
        return found
    not_found = {key: contents[key] for key in left if key in contents}
    # As texts, for the driver would write numbers one by one, in as long as finding some of them takes.
    sought = {"slots": str([slots[key] for key in left]), "contents": str([int(UNKNOWN), *not_found.values()])}
    stored = clickhouse.table(Query("stored_keys", sought))
    found |= _replayed([ToldRows.of_table(stored)], sent, slots, not_found)
    there = set(stored["slot"].to_pylist())
    others = sorted(key for key in left if key not in found and slots[key] in there)
    return found | find_events(clickhouse, others, ()) if others else found


def _content_of(event: Event) -> int | None:
    return content_of(event.key, event.code, event.properties, plain(event.precise_total_amount_cents) or "")


def _replayed(
    parts: Sequence[ToldRows], sent: Mapping[Key, Event], slots: Mapping[Key, int], contents: Mapping[Key, int]
) -> dict[Key, Event]:
    """The stored events of those that were sent whose content is told of their slot."""
    found = {}
    keys = [*contents]
    for place, at, ingested_us in firsts(parts, [slots[key] for key in keys], contents.values()):
        key = keys[place]
        event = sent[key]
        precise, ingested_at = event.precise_total_amount_cents, ingestion_instant(ingested_us)
        found[key] = Event(key, event.code, at, True, event.properties, event.echo, precise, ingested_at)
    return found


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
        received_at=ingested_at.replace(tzinfo=UTC),
        replaced=replaced or None,
    )
