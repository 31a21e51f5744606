"""Upkeep of the event store: reconciling it, and reading kept events anew when a metric appears or changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.dialects.postgresql import insert

from app.clock import system_now
from app.errors import ApiError
from app.metering.ingest import Ingest
from app.metering.instants import EPOCH
from app.metering.journal import Journal
from app.metering.keys import Key
from app.metering.parity import differing_cells
from app.metering.reconcile import Cell, reconcile_cells, reconcile_metric, reconcile_since
from app.metering.rereading import MetricKey, pending_dimensions, pending_readings, read_anew, split_anew
from app.metering.stored import recent_keys
from app.models import Setting
from app.stores.clickhouse import ClickHouse
from app.stores.postgres import Postgres

log = structlog.get_logger(__name__)

MARK = "reconciled_through"
OVERLAP = timedelta(minutes=5)
"""How far before the mark a check begins where other processes write: longer than one can hold a block between its two
inserts. Embedded, a mark is set while no block is there."""
UNSETTLED = timedelta(seconds=30)
"""How long a cell must have been left alone before a process may mend what others could be writing."""
OTHERS_SECONDS = 65.0
"""How long other processes may still read, or read events, as a metric was before its change."""
RETRY_SECONDS = 2.0
READERS_STEP_SECONDS = 0.01


class Upkeep:
    """Keeps rollups true to the raw table. With an `ingest` in the same process it works between its blocks."""

    def __init__(self, postgres: Postgres, clickhouse: ClickHouse, interval: float):
        self._postgres = postgres
        self._clickhouse = clickhouse
        self._interval = interval
        self._learned_until = EPOCH
        self._ingest: Ingest | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._readings: dict[UUID, set[asyncio.Task[None]]] = {}
        self._readers: set[object] = set()
        self._unreliable: set[MetricKey] = set()
        self._split_again: set[MetricKey] = set()
        self._one_split = asyncio.Lock()
        self._compared: tuple[int, int] | None = None

    def learn_keys(self) -> Iterator[Sequence[Key]]:
        """Keys of events stored since the last call, by whichever process; of all events at the first call."""
        until = system_now() - UNSETTLED
        yield from recent_keys(self._clickhouse, self._learned_until)
        self._learned_until = until

    async def start(self, ingest: Ingest | None, journal: Journal | None) -> None:
        """Reconcile what the last stop may have left, finish pending back-fills, and keep on in the background."""
        self._loop = asyncio.get_running_loop()
        self._ingest = ingest
        if journal is not None:
            await asyncio.to_thread(journal.restore, self._clickhouse)
        await self.reconcile()
        for organization_id, code in await asyncio.to_thread(pending_readings, self._postgres):
            self._read_again(organization_id, code)
        for key in await asyncio.to_thread(pending_dimensions, self._postgres):
            self._split_when_pending(key)
        self._spawn(self._keep_reconciling())

    async def stop(self) -> None:
        """Stop; what is interrupted is taken up at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reconcile(self) -> int:
        """Compare and mend everything touched since the last clean mark, then move the mark."""
        mark = system_now()
        overlap = timedelta(seconds=1) if self._clickhouse.embedded else OVERLAP
        since = await asyncio.to_thread(self._read_mark) - overlap
        failures, compared = 0, None
        async with self._quiet():
            if self._ingest is not None:
                failures = self._ingest.failed_trips
                await self._ingest.restore()
                compared = (self._ingest.rolled_up, failures)
            thorough = not self._is_whole()
            mended = await asyncio.to_thread(
                reconcile_since, self._clickhouse, since, self._settled_before(), thorough=thorough
            )
        self._compared = compared
        await asyncio.to_thread(self._write_mark, mark)
        if self._ingest is not None:
            self._ingest.trust_again(failures)
        return mended

    def reconcile_before_billing(self) -> int:
        """Compare and mend before something is billed. What was there at the last mark has been compared then, so this
        costs little however much is billed. For threads other than the loop's."""
        if self._nothing_came():
            return 0
        mended: int = self._from_thread(self.reconcile())
        return mended

    def mend_everything(self) -> int:
        """Compare all rollups with the events, however old, and mend what differs; returns the number of cells. For threads
        other than the loop's. Ingest waits only while the cells found are compared once more, and mended."""
        mended = 0
        for cells in differing_cells(self._clickhouse, self._settled_before()):
            mended += self._from_thread(self._reconcile_cells(cells))
        return mended

    @contextlib.contextmanager
    def reading(self) -> Iterator[frozenset[MetricKey]]:
        """The time of a read of usage; gives the metrics whose rollups must not be used. For any thread."""
        reader = object()
        self._readers.add(reader)
        try:
            elsewhere = [] if self._clickhouse.embedded else pending_dimensions(self._postgres)
            yield frozenset([*self._unreliable.copy(), *elsewhere])
        finally:
            self._readers.discard(reader)

    def wait_until_readable(self, organization_id: UUID) -> None:
        """Wait until all acknowledged events count in what is read. For threads other than the loop's."""
        ingest = self._ingest
        if (ingest is None or ingest.is_settled) and not self._readings.get(organization_id):
            return
        self._from_thread(self._readable(organization_id))

    def metric_changed(self, organization_id: UUID, code: str) -> None:
        """A metric was made, changed or deleted (and committed): read its code's kept events anew. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._read_again, organization_id, code)

    async def _reconcile_cells(self, cells: list[Cell]) -> int:
        async with self._quiet():
            return await asyncio.to_thread(reconcile_cells, self._clickhouse, cells)

    async def _readable(self, organization_id: UUID) -> None:
        readings = self._readings.get(organization_id)
        if readings:
            await asyncio.wait(readings)
        if self._ingest is not None:
            await self._ingest.settled()

    @contextlib.asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        if self._ingest is None:
            yield
        else:
            async with self._ingest.quiet():
                yield

    def _nothing_came(self) -> bool:
        """Whether everything has been compared since the last event came and the last trip failed. Only embedded, where
        nobody else writes, can this be known."""
        ingest = self._ingest
        return (
            ingest is not None
            and self._clickhouse.embedded
            and ingest.is_settled
            and self._compared == (ingest.rolled_up, ingest.failed_trips)
        )

    def _is_whole(self) -> bool:
        """Whether no insert can have been cut short since the last comparison, nor anybody else have written: embedded, a
        trip that does not fail brings all tables all of its rows."""
        ingest = self._ingest
        return ingest is not None and self._clickhouse.embedded and self._compared is not None and ingest.is_whole

    def _settled_before(self) -> datetime:
        """Embedded, no other process writes: nothing is left out."""
        return system_now() + timedelta(days=1) if self._clickhouse.embedded else system_now() - UNSETTLED

    async def _keep_reconciling(self) -> None:
        needed = self._ingest.needs_reconcile if self._ingest is not None else asyncio.Event()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await needed.wait()
            try:
                needed.clear()
                await self.reconcile()
            except Exception as error:  # noqa: BLE001 (it is tried again for as long as the process lives)
                log.warning("reconcile.failed", error=str(error)[:500])
                needed.set()
                await asyncio.sleep(RETRY_SECONDS)

    def _read_again(self, organization_id: UUID, code: str) -> None:
        task = self._spawn(self._read_metric(organization_id, code))
        readings = self._readings.setdefault(organization_id, set())
        readings.add(task)
        task.add_done_callback(readings.discard)

    async def _read_metric(self, organization_id: UUID, code: str) -> None:
        while True:
            try:
                async with self._quiet():
                    try:
                        await asyncio.to_thread(
                            read_anew, self._postgres, self._clickhouse, organization_id, code, self._settled_before()
                        )
                    finally:
                        if self._ingest is not None:
                            self._ingest.forget_stored()
            except (ApiError, OSError) as error:
                log.warning("metric.reading_failed", code=code, error=str(error)[:500])
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._split_when_pending((organization_id, code))

    def _split_when_pending(self, key: MetricKey) -> None:
        if key in self._unreliable:
            self._split_again.add(key)
        else:
            self._unreliable.add(key)
            self._spawn(self._split_metric(key))

    async def _split_metric(self, key: MetricKey) -> None:
        """Split a metric's usage by more keys. Meanwhile its windows are read from the raw events."""
        while True:
            self._split_again.discard(key)
            try:
                async with self._one_split:  # they rewrite whole parts: many at once would leave no handle for readers
                    done = await self._split(key)
                if done and key not in self._split_again:
                    self._unreliable.discard(key)
                    return
            except (ApiError, OSError) as error:
                log.warning("metric.splitting_failed", code=key[1], error=str(error)[:500])
                await asyncio.sleep(RETRY_SECONDS)

    async def _split(self, key: MetricKey) -> bool:
        await self._readers_gone()
        async with self._quiet():  # blocks that were made with fewer keys are in the store now
            pass
        if not self._clickhouse.embedded:
            await asyncio.sleep(OTHERS_SECONDS)
        splitting = await asyncio.to_thread(split_anew, self._postgres, self._clickhouse, *key)
        for hours in splitting.stretches if splitting is not None else ():
            async with self._quiet():
                await asyncio.to_thread(reconcile_metric, self._clickhouse, *key, self._settled_before(), hours)
        return splitting is None or await asyncio.to_thread(splitting.finish)

    async def _readers_gone(self) -> None:
        """Wait for those who read now: they may not know yet that a rollup is about to be emptied."""
        now = set(self._readers)
        while now & self._readers:  # noqa: ASYNC110 (readers are threads and cannot set an event of the loop)
            await asyncio.sleep(READERS_STEP_SECONDS)

    def _read_mark(self) -> datetime:
        with self._postgres.session() as db:
            mark = db.get(Setting, MARK)
            return datetime.fromisoformat(mark.value["at"]) if mark is not None else EPOCH + OVERLAP

    def _write_mark(self, mark: datetime) -> None:
        value = {"at": mark.isoformat()}
        with self._postgres.session() as db:
            db.execute(
                insert(Setting)
                .values(name=MARK, value=value)
                .on_conflict_do_update(index_elements=[Setting.name], set_={"value": value})
            )

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _from_thread(self, work: Any) -> Any:
        if self._loop is None:
            return asyncio.run(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
