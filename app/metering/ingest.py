"""Ingest: concurrent requests are gathered into blocks, de-duplicated, and written; rollups follow at once.

A block is first made durable, and its requests are answered then; a moment later it goes through the rollup views,
together with the blocks that have come since. Splitting the two keeps a small request cheap: a materialized view costs
more to run than a small block does to write. A reader waits for that trip of everything that was answered before it came
(`settled`), so a read that follows a write always sees it.

Embedded, a block is made durable in the journal, and reaches `events` on the same trip. Where several processes share a
ClickHouse server it is made durable by its insert into `events`, and as a reader may be in another process, requests are
answered after the trip.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import structlog

from app.clock import system_now
from app.config import Settings
from app.errors import Details, StoreDown, TooManyRequests
from app.metering.acceptance import Request, decide, failures
from app.metering.definitions import CodeKey, Definitions, Metrics, with_expression
from app.metering.events import Event, MetricDefinition
from app.metering.instants import EPOCH
from app.metering.journal import Journal
from app.metering.keys import Key
from app.metering.remembering import Remembering
from app.metering.rows import row_values
from app.metering.seen import SeenEvents
from app.stores.clickhouse import ClickHouse

log = structlog.get_logger(__name__)

MOST_REMEMBERED = 50_000
"""How many stored events are kept in mind at most: about a kilobyte each."""
REMEMBERED_AT_ONCE = MOST_REMEMBERED // 2
"""From how many stored events on it is worth a query to have them told from memory, before they are kept whole no more."""
ONE_STEP = timedelta(microseconds=1)
GATHER_STEPS = 4
GATHER_STEP_SECONDS = 0.0005

encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(slots=True)
class _Block:
    """Rows that are durable and not yet in the rollups. `lines` are the rows themselves; none where the journal has them,
    which are not yet in `events` either."""

    number: int
    lines: bytes
    keys: list[Key]


class Ingest:
    """Accepts events. All methods but the constructor belong to the event loop that called `start`."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        definitions: Definitions,
        settings: Settings,
        learn: Callable[[], Iterator[Sequence[Key]]],
        journal: Journal | None,
    ):
        """`journal` is where events are made durable when the store is embedded. `learn` gives, in parts, the keys that
        may have been written since it was last called: first all there are, later those of other processes."""
        self._clickhouse = clickhouse
        self._learn = learn
        self._definitions = definitions
        self._settings = settings
        self._journal = journal
        self._waiting: list[Request] = []
        self._waiting_events = 0
        self._together = 1
        self._arrived = asyncio.Event()
        self._seen = SeenEvents(clickhouse)
        self._remembering = Remembering(partial(self._run, self._seen.remember), REMEMBERED_AT_ONCE)
        self._blocks: list[_Block] = []
        self._written = 0
        self._rolled_up = 0
        self._to_roll_up = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Condition()
        self._write_lock = asyncio.Lock()
        self._next_trip = 0
        self._this_trip = 0
        self._must_restore = False
        self._stamp = EPOCH
        self._failures = 0
        self._mended_failures = 0
        self._taken: Callable[[Iterable[str], int], None] = lambda _, __: None
        self._readable: Callable[[], None] = lambda: None
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="ingest")
        self._tasks: list[asyncio.Task[None]] = []
        self.needs_reconcile = asyncio.Event()

    def start(self) -> None:
        """Begin to write what arrives. Until all stored keys are known, every key is looked up."""
        self._tasks = [
            asyncio.create_task(self._learn_history()),
            asyncio.create_task(self._write_forever()),
            asyncio.create_task(self._roll_up_forever()),
            asyncio.create_task(self._remembering.run_forever()),
        ]

    async def stop(self) -> None:
        """Write what has been accepted, then stop."""
        # A trip that is only queued when its task is cancelled would never be made.
        while self._waiting or not self.is_settled or self._write_lock.locked():
            self._hurry.set()
            await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=True)

    async def accept(self, events: list[Event], *, batch: bool) -> list[Event]:
        """Store the events of one request, all or none, and return them as stored: a replay gives its first event.

        Raises:
            Invalid: `value_already_exist`, for an event whose key is another event's; `expression_evaluation_failed`, for
                a new one that its metric's expression has no result for.
            TooManyRequests: more is waiting than may wait; nothing was taken.
            StoreDown: ClickHouse does not answer; the request may be sent again.
        """
        if self._waiting_events + len(events) > self._settings.max_queued_events and self._waiting_events:
            raise TooManyRequests
        request = Request(events, batch, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._waiting_events += len(events)
        self._arrived.set()
        return await request.answer

    async def failures(self, events: Mapping[int, Event]) -> dict[int, Details]:
        """Which of these events their metric's expression has no result for, and why."""
        async with self._write_lock:  # definitions are loaded for one purpose at a time
            metrics = with_expression(await self._metrics_of([events.values()]))
        return await self._run(failures, events, metrics) if metrics else {}

    def follow(self, taken: Callable[[Iterable[str], int], None], readable: Callable[[], None]) -> None:
        """Tell somebody of organizations whose events are durable, with the number of their block, before they are
        answered, and whenever more can be read. Both are called in the event loop."""
        self._taken, self._readable = taken, readable

    def stamp_after(self, instant: datetime) -> None:
        """Let everything that comes from now on have come after an instant, whatever the system's clock says."""
        self._stamp = max(self._stamp, instant)

    @property
    def rolled_up(self) -> int:
        """The number of the last block that can be read."""
        return self._rolled_up

    @property
    def is_whole(self) -> bool:
        """Whether all that was rolled up can be read, in the order in which it came: no trip has failed since the store
        was reconciled."""
        return self._failures == self._mended_failures

    @property
    def failed_trips(self) -> int:
        """How many trips have failed so far."""
        return self._failures

    @property
    def _unrolled(self) -> int:
        """How many events are durable that cannot be read yet."""
        return self._this_trip + self._next_trip

    @property
    def is_settled(self) -> bool:
        """Whether everything answered so far is in the rollups. May be asked from any thread."""
        return self._rolled_up >= self._written

    async def settled(self) -> None:
        """Wait until everything answered before this call is in the rollups."""
        wanted = self._written
        if self._rolled_up >= wanted:
            return
        self._hurry.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._rolled_up >= wanted)

    async def _trip_made(self) -> None:
        """Wait until the next trip has been made."""
        self._hurry.set()
        before = self._rolled_up
        async with self._progress:
            await self._progress.wait_for(lambda: self._rolled_up > before)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """A time in which no block is between its two inserts and none begins, and nothing of what is stored is being
        remembered: raw and rollups can be compared, and changed."""
        async with self._write_lock:
            await self.settled()
            async with self._remembering.paused():
                yield

    async def restore(self) -> None:
        """After a failed trip: bring what the journal holds to `events`. Only in a quiet time."""
        if self._must_restore and self._journal is not None:
            await self._run(self._journal.restore, self._clickhouse)
        self._must_restore = False

    def forget_stored(self) -> None:
        """Stored events have been changed or deleted: look at them in the store again. Only in a quiet time."""
        self._seen.forget_stored(self._rolled_up)

    def trust_again(self, failures: int) -> None:
        """The store has been reconciled after so many failures: keys of failed inserts are found there like all others."""
        if failures == self._failures:
            self._seen.trust()
        self._mended_failures = failures
        self._readable()

    async def _learn_history(self) -> None:
        while not self._seen.knows_all:
            try:
                await self._learn_keys()
            except StoreDown:
                await asyncio.sleep(1)
            else:
                self._seen.knows_all = True

    async def _learn_keys(self) -> None:
        parts = self._learn()
        while (part := await self._run(next, parts, None)) is not None:
            self._seen.learn(part)

    async def _write_forever(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            async with self._write_lock:
                requests = self._take()
                try:
                    await self._write(requests)
                    self._together = len(requests) + len(self._waiting)
                except Exception as error:  # noqa: BLE001 (every request must get its answer, whatever went wrong)
                    self._refuse(requests, error)
            if self._unrolled > 2 * self._settings.max_queued_events:
                await self._trip_made()

    async def _gather(self) -> None:
        """Wait a moment for as many requests as there were clients last time: those that were just answered mostly come
        back at once, and a block costs nearly the same whether it holds one request or all of theirs."""
        for _ in range(GATHER_STEPS if self._journal is None else 0):
            if len(self._waiting) >= self._together:
                break
            await asyncio.sleep(GATHER_STEP_SECONDS)

    def _take(self) -> list[Request]:
        """The next block's requests: at least one, and no more events than a block should have."""
        taken, size = 0, 0
        for request in self._waiting:
            if taken and size + len(request.events) > self._settings.max_block_events:
                break
            taken += 1
            size += len(request.events)
        requests, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._waiting_events -= size
        if not self._waiting:
            self._arrived.clear()
        return requests

    @staticmethod
    def _refuse(requests: list[Request], error: Exception) -> None:
        if not isinstance(error, StoreDown):
            log.error("ingest.failed", exc_info=error)
        for request in requests:
            if not request.answer.done():
                request.answer.set_exception(error)

    async def _write(self, requests: list[Request]) -> None:
        if self._must_restore:
            await self.settled()
            await self.restore()
        metrics = await self._metrics_of([request.events for request in requests])
        expressive = with_expression(metrics)
        seen = await self._seen_before(requests, expressive)
        if expressive:  # evaluating takes its time, which the other requests need not wait for
            accepted = await self._run(decide, requests, seen, expressive)
        else:
            accepted = decide(requests, seen, expressive)
        for request, refusal in accepted.refused:
            if not request.answer.done():
                request.answer.set_exception(refusal)
        if accepted.fresh:
            organizations = {_organization_of(request.events) for request, _ in accepted.answers if request.events}
            await self._insert(accepted.fresh, metrics, organizations)
            if self._journal is None:
                await self.settled()
        for request, answer in accepted.answers:
            if not request.answer.done():
                request.answer.set_result(answer)

    async def _metrics_of(self, requests: Iterable[Collection[Event]]) -> Metrics:
        """The definitions that the events of these requests are read with."""
        codes = {
            (_organization_of(events), code)
            for events in requests
            if events
            for code in {event.code for event in events}
        }
        unknown = self._definitions.unknown(codes)
        if unknown:
            await self._run(self._definitions.load, unknown)
        return self._definitions.of(codes)

    async def _seen_before(
        self, requests: list[Request], metrics: Mapping[CodeKey, MetricDefinition]
    ) -> dict[Key, Event]:
        """Those of the requests' events that are there already: written a moment ago, or stored."""
        if not self._clickhouse.embedded:
            await self._learn_keys()
        sought = self._seen.seek(requests, metrics)
        if not sought.suspects.events and not sought.doubtful:
            return sought.seen
        seen: dict[Key, Event] = await self._run(self._seen.look_up, sought)
        return seen

    async def _insert(self, fresh: dict[Key, Event], metrics: Metrics, organizations: Iterable[str]) -> None:
        lines = encode_lines(self._rows(fresh, metrics))
        keys = list(fresh)
        if self._journal is not None:
            try:
                self._journal.append(lines)
            except OSError as error:
                log.error("journal.failed", error=str(error))
                raise StoreDown("journal") from error
        else:
            await self._insert_events(lines, keys)
        self._written += 1
        self._seen.write(fresh, self._written)
        self._taken(organizations, self._written)
        self._blocks.append(_Block(self._written, lines if self._journal is None else b"", keys))
        self._next_trip += len(keys)
        self._to_roll_up.set()
        if self._next_trip >= self._settings.max_queued_events:  # while these are on their way, as many may come
            self._hurry.set()

    async def _insert_events(self, lines: bytes, keys: list[Key]) -> None:
        try:
            await self._run(self._clickhouse.insert_lines, "events", lines)
        except BaseException:
            # Whether the rows are in the store is not known: their keys are looked up there if they come again.
            self._seen.learn(keys)
            self._seen.doubt(keys)
            self.needs_reconcile.set()
            raise

    def _rows(self, fresh: dict[Key, Event], metrics: Metrics) -> list[tuple[Any, ...]]:
        # Each block comes after the one before, whatever the system's clock says: events are looked at in this order.
        self._stamp = max(system_now(), self._stamp + ONE_STEP)
        for event in fresh.values():
            event.receipt.at = self._stamp
        ingested_at = self._stamp.strftime("%Y-%m-%d %H:%M:%S.%f")
        return row_values(fresh.values(), metrics, ingested_at)

    async def _roll_up_forever(self) -> None:
        while True:
            await self._to_roll_up.wait()
            if not self._hurry.is_set() and self._journal is not None:
                await self._linger()
            blocks, self._blocks = self._blocks, []
            file = self._journal.turn() if self._journal is not None else 0
            stamp = self._stamp
            self._next_trip, self._this_trip = 0, self._next_trip
            self._to_roll_up.clear()
            self._hurry.clear()
            try:
                await self._run(self._roll_up, blocks, file)
            except Exception as error:  # noqa: BLE001 (whatever went wrong, it is made right from what is durable)
                # Some tables may have got their rows and some not, so the blocks are not sent again.
                log.warning("ingest.rollup_failed", blocks=len(blocks), error=str(error)[:500])
                self._seen.doubt(key for block in blocks for key in block.keys)
                self._must_restore = True
                self._failures += 1
                self.needs_reconcile.set()
            # Other processes may change what is stored: only where there are none, something is remembered of it.
            if self._journal is not None:
                self._remembering.made(self._this_trip, stamp)
            self._this_trip = 0
            self._seen.forget(blocks[-1].number, MOST_REMEMBERED if self._journal is not None else 0)
            async with self._progress:
                self._rolled_up = blocks[-1].number
                self._progress.notify_all()
            self._readable()

    def _roll_up(self, blocks: list[_Block], file: int) -> None:
        if self._journal is not None:
            self._journal.feed(file, self._clickhouse)
        else:
            self._clickhouse.insert_lines("rollup_feed", b"".join(block.lines for block in blocks))

    async def _linger(self) -> None:
        """Give more blocks the time to share the trip through the views, unless a reader comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.rollup_linger_ms / 1000):
                await self._hurry.wait()

    async def _run(self, function: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _organization_of(events: Collection[Event]) -> str:
    """That of a request's events, which all have the same."""
    return next(iter(events)).key[0]
