"""When blocks go through the rollups: enough at a time, and without keeping others waiting for longer than need be."""

import asyncio
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from app.clock import system_now
from app.config import Settings
from app.metering.definitions import Definitions
from app.metering.events import Event, Receipt
from app.metering.ingest import Ingest
from app.metering.journal import Journal
from app.stores.clickhouse import ClickHouse

ORGANIZATION = str(uuid4())
QUEUED = 10


class Held:
    """A store in which every insert waits until it is let go, as a real one cannot be made to."""

    embedded = True

    def __init__(self) -> None:
        self.trips: list[int] = []
        self.gate = threading.Semaphore(0)

    def insert_file(self, _: str, path: Path) -> None:
        self.trips.append(len(path.read_bytes().splitlines()))
        assert self.gate.acquire(timeout=30)


class NoMetrics:
    """Definitions of which there are none."""

    def unknown(self, _: object) -> list[Any]:
        return []

    def of(self, keys: Collection[Any]) -> dict[Any, None]:
        return dict.fromkeys(keys)


class Driven:
    """Ingest in a loop of its own, which lingers for a reader longer than any test takes."""

    def __init__(self, folder: Path):
        self.store = Held()
        self.journal = Journal(folder / "journal")
        settings = Settings(max_queued_events=QUEUED, rollup_linger_ms=60_000)
        store, definitions = cast("ClickHouse", self.store), cast("Definitions", NoMetrics())
        self.ingest = Ingest(store, definitions, settings, lambda: iter(()), self.journal)
        self._sent = 0

    async def __aenter__(self) -> "Driven":
        self.ingest.start()
        await until(lambda: self.ingest._seen.knows_all)  # before that it looks for keys in the store
        return self

    async def __aexit__(self, *error: object) -> None:
        self.store.gate.release(100)
        await self.ingest.stop()
        self.journal.close()

    async def send(self, count: int) -> None:
        """A request of so many new events."""
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        await self.ingest.accept([an_event(number) for number in numbers], batch=True)

    async def trip_made(self, after: int) -> None:
        """Let the present trip go, and wait until more can be read than after so many blocks."""
        self.store.gate.release()
        await until(lambda: self.ingest.rolled_up > after)

    async def trips_begun(self, count: int) -> None:
        """Wait until so many trips have begun."""
        await until(lambda: len(self.store.trips) >= count)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (nobody tells of it)
        await asyncio.sleep(0)


def an_event(number: int) -> Event:
    return Event((ORGANIZATION, "sub", str(number)), "calls", 0, True, {}, {}, None, Receipt(system_now()))


def test_a_trip_waits_for_enough_events_whatever_another_carries(tmp_path: Path) -> None:
    async def story() -> None:
        async with Driven(tmp_path) as driven:
            await driven.send(QUEUED)
            await driven.trips_begun(1)
            await driven.send(3)
            await driven.trip_made(0)
            assert not driven.ingest.is_settled
            await driven.send(QUEUED - 3)
            await driven.trips_begun(2)
            assert driven.store.trips == [QUEUED, QUEUED]
            await driven.trip_made(1)
            assert driven.ingest.is_settled

    asyncio.run(asyncio.wait_for(story(), 60))


def test_who_waits_for_room_waits_for_one_trip(tmp_path: Path) -> None:
    async def story() -> None:
        async with Driven(tmp_path) as driven:
            await driven.send(QUEUED)
            await driven.trips_begun(1)
            await driven.send(QUEUED + 1)  # more than may wait
            late = asyncio.create_task(driven.send(1))
            await asyncio.sleep(0)
            await driven.trip_made(0)
            await late  # while the second trip is still under way
            assert driven.ingest.rolled_up == 1
            await driven.trips_begun(2)
            assert driven.store.trips == [QUEUED, QUEUED + 1]

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_reader_need_not_wait_for_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with Driven(tmp_path) as driven:
            await driven.send(1)
            reader = asyncio.create_task(driven.ingest.settled())
            await driven.trips_begun(1)
            await driven.trip_made(0)
            await reader
            assert driven.store.trips == [1]

    asyncio.run(asyncio.wait_for(story(), 60))
