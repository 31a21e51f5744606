"""When stored events are read back into memory: enough at a time, each once, and never while they are changed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from app.metering.remembering import Remembering

AT_ONCE = 10


class Read:
    """What was asked to be remembered; each time waits until it is let go."""

    def __init__(self) -> None:
        self.spans: list[tuple[datetime, datetime]] = []
        self.gate = asyncio.Semaphore(0)
        self.is_broken = False

    async def remember(self, after: datetime, until: datetime) -> None:
        self.spans.append((after, until))
        await self.gate.acquire()
        if self.is_broken:
            raise ConnectionError


@asynccontextmanager
async def running(read: Read) -> AsyncIterator[Remembering]:
    remembering = Remembering(read.remember, AT_ONCE)
    task = asyncio.create_task(remembering.run_forever())
    yield remembering
    task.cancel()


async def turns() -> None:
    """Give every task the time to do what it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def at(second: int) -> datetime:
    return datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def test_spans_follow_each_other() -> None:
    """Events of trips that are made meanwhile are remembered the next time, also after a failure."""

    async def story() -> None:
        read = Read()
        async with running(read) as remembering:
            remembering.made(AT_ONCE - 1, at(1))
            await turns()
            assert not read.spans
            remembering.made(1, at(2))
            await turns()
            for second in (3, 4):
                remembering.made(AT_ONCE, at(second))
                await turns()
            assert [until for _, until in read.spans] == [at(2)]
            read.is_broken = True
            read.gate.release()
            await turns()
            remembering.made(AT_ONCE - 1, at(5))
            read.gate.release()
            await turns()
            assert read.spans[1:] == [(at(2), at(4))]
            remembering.made(1, at(6))
            await turns()
            assert read.spans[2:] == [(at(4), at(6))]

    asyncio.run(story())


def test_nothing_is_remembered_while_stored_events_are_changed() -> None:
    async def story() -> None:
        read = Read()
        async with running(read) as remembering:
            async with remembering.paused():
                remembering.made(AT_ONCE, at(1))
                await turns()
                assert not read.spans
            await turns()
            assert len(read.spans) == 1
            change = asyncio.create_task(remembering.paused().acquire())
            await turns()
            assert not change.done()
            read.gate.release()
            await change

    asyncio.run(story())
