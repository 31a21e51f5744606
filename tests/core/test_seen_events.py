"""Which events are there already: told right whatever is written, remembered, forgotten, deleted or has failed."""

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest.mock import Mock
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.metering import recent
from app.metering.acceptance import Request, decide
from app.metering.events import Event, Receipt
from app.metering.instants import EPOCH
from app.metering.keys import Key, content_of, slot_of
from app.metering.seen import SeenEvents
from app.metering.told import ToldInMemory
from app.stores.clickhouse import ClickHouse, Query

ORGANIZATION = str(UUID(int=7))
AT = datetime(2024, 5, 1, tzinfo=UTC)
NUMBERS = st.integers(0, 11)
BATCHES = st.lists(
    st.tuples(NUMBERS, st.sampled_from(["a", "b"])), min_size=1, max_size=6, unique_by=lambda one: one[0]
)


def an_event(number: int, value: str) -> Event:
    return Event((ORGANIZATION, "sub", str(number)), "calls", 0, True, {"value": value}, {}, None, Receipt(AT))


class Stored:
    """What the store would tell: the key table's rows, and the events that a failed trip has brought without theirs."""

    def __init__(self) -> None:
        self.told: dict[Key, Event] = {}
        self.raw: dict[Key, Event] = {}
        self.lately: Callable[[], list[Event]] = list

    def rows(self, query: Query) -> Iterator[Any]:
        if query.name == "events_by_key":
            yield from map(row, found_in(self.told, query))
        else:
            assert query.name == "events_by_key_raw"
            yield from map(row, found_in(self.told | self.raw, query))

    def table(self, query: Query) -> pa.Table:
        if query.name == "stored_keys":
            slots = set(json.loads(query.parameters["slots"]))
            events = [event for event in self.told.values() if slot(event) in slots]
        else:
            assert query.name == "told_between"
            events = self.lately()
        columns = {"slot": pa.array(map(slot, events), pa.uint64()), "told": pa.array(map(told, events), pa.binary(24))}
        return pa.table(columns)


def slot(event: Event) -> int:
    return slot_of(event.key[0], event.key[2])


def told(event: Event) -> bytes:
    content = content_of(event.key, event.code, event.properties, "")
    assert content is not None
    ingested = (event.received_at - EPOCH) // timedelta(microseconds=1)
    return struct.pack("<Qqq", content, event.timestamp_ms, ingested)


def found_in(events: dict[Key, Event], query: Query) -> Iterator[Event]:
    for organization, transaction, subscription in query.parameters["keys"]:
        event = events.get((str(organization), subscription, transaction))
        if event is not None:
            yield event


def row(event: Event) -> tuple[Any, ...]:
    organization, subscription, transaction = event.key
    properties, received = event.properties, event.received_at
    return organization, subscription, transaction, event.code, event.timestamp_ms, properties, None, received, {}


class Ingesting(RuleBasedStateMachine):
    """Blocks that are looked for and written, as `Ingest` does it; `there` is what must be found."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Stored()
        self.seen = SeenEvents(cast("ClickHouse", self.store))
        self.seen.knows_all = True
        self.there: dict[Key, Event] = {}
        self.blocks: list[dict[Key, Event]] = []
        self.rolled_up = 0
        self.patch = pytest.MonkeyPatch()

    @initialize(chunk=st.integers(1, 4), most=st.integers(1, 12))
    def little_is_remembered(self, chunk: int, most: int) -> None:
        self.patch.setattr(recent, "CHUNK_EVENTS", chunk)
        self.seen._told = ToldInMemory(most)

    def teardown(self) -> None:
        self.patch.undo()

    @rule(batches=st.lists(BATCHES, min_size=1, max_size=3))
    def comes(self, batches: list[list[tuple[int, str]]]) -> None:
        """A block is looked for and written."""
        requests = [Request([an_event(*one) for one in batch], True, Mock()) for batch in batches]
        seen = self.seen.look_up(self.seen.seek(requests, ()))
        sent = {event.key for request in requests for event in request.events}
        assert {key: event.properties for key, event in seen.items()} == {
            key: event.properties for key, event in self.there.items() if key in sent
        }
        fresh = decide(requests, seen, {}).fresh
        if fresh:
            self.there |= fresh
            self.blocks.append(dict(fresh))
            self.seen.write(fresh, len(self.blocks))

    @rule(data=st.data())
    def is_remembered(self, data: st.DataObject) -> None:
        """Of what is stored something is remembered."""
        stored = [*self.store.told.values()]
        self.store.lately = lambda: data.draw(st.lists(st.sampled_from(stored), max_size=6)) if stored else []
        self.seen.remember(AT, AT)

    @rule(data=st.data(), most=st.integers(0, 8), fails=st.booleans())
    def rolls_up(self, data: st.DataObject, most: int, fails: bool) -> None:
        """Some blocks reach the store; of those of a failed trip some keys do not."""
        until = data.draw(st.integers(self.rolled_up, len(self.blocks)))
        if until == self.rolled_up:
            return
        brought = {key: event for block in self.blocks[self.rolled_up : until] for key, event in block.items()}
        kept = {key: event for key, event in brought.items() if self.there.get(key) is event}
        if fails:
            lost = {key for key in kept if data.draw(st.booleans())}
            self.store.raw |= kept
            self.store.told |= {key: event for key, event in kept.items() if key not in lost}
            self.seen.doubt(brought)
        else:
            self.store.told |= kept
        self.rolled_up = until
        self.seen.forget(until, most)

    @rule()
    def is_reconciled(self) -> None:
        """A quiet time: what has come without its keys gets them."""
        self.rolls_up_all()
        self.store.told |= self.store.raw
        self.store.raw = {}
        self.seen.trust()

    @rule(numbers=st.sets(NUMBERS, max_size=4))
    def is_deleted(self, numbers: set[int]) -> None:
        """A quiet time in which stored events are deleted."""
        self.rolls_up_all()
        self.seen.forget_stored(self.rolled_up)
        for number in numbers:
            key = (ORGANIZATION, "sub", str(number))
            for events in (self.there, self.store.told, self.store.raw):
                events.pop(key, None)

    def rolls_up_all(self) -> None:
        for block in self.blocks[self.rolled_up :]:
            self.store.told |= block
        self.rolled_up = len(self.blocks)
        self.seen.forget(self.rolled_up, 3)

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = {key for block in self.blocks[self.rolled_up :] for key in block}
        assert self.there.keys() == self.store.told.keys() | self.store.raw.keys() | waiting


TestIngesting = Ingesting.TestCase
TestIngesting.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
