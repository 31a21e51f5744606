"""When stored events are read back into memory, to be told from there when they are sent again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from app.clock import system_now

log = structlog.get_logger(__name__)


class Remembering:
    """Has the events of the last trips remembered, beside the trips that follow: of so many at a time that it costs them
    little. Belongs to one event loop."""

    def __init__(self, remember: Callable[[datetime, datetime], Awaitable[None]], at_once: int):
        """`remember` is for stored events ingested after an instant, until another; `at_once` for how many it is called at
        least."""
        self._remember = remember
        self._at_once = at_once
        self._until = self._wanted = system_now()
        self._events = 0
        self._enough = asyncio.Event()
        self._busy = asyncio.Lock()

    def made(self, events: int, until: datetime) -> None:
        """A trip has stored so many events, all that were ingested until an instant."""
        self._wanted = until
        self._events += events
        if self._events >= self._at_once:
            self._enough.set()

    def paused(self) -> asyncio.Lock:
        """For `async with`: a time in which nothing is being remembered, so that stored events can be changed."""
        return self._busy

    async def run_forever(self) -> None:
        """Remember whenever there is enough of it."""
        while True:
            await self._enough.wait()
            async with self._busy:
                self._enough.clear()
                wanted, self._events = self._wanted, 0
                try:
                    await self._remember(self._until, wanted)
                except Exception as error:  # noqa: BLE001 (they are found in the store)
                    log.warning("ingest.not_remembered", error=str(error)[:500])
                self._until = wanted
