"""One running Meterhouse: its settings, its two stores, and what works on them."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from alembic.util.exc import CommandError
from clickhouse_connect.driver.exceptions import ClickHouseError
from sqlalchemy.exc import SQLAlchemyError

from app.billing.advance_billing import AdvanceBilling
from app.billing.advance_worker import AdvanceWorker
from app.billing.due import DueRunner
from app.billing.late_drafts import LateDrafts
from app.billing.remembered import PriceBook
from app.billing.runs import BillingRuns
from app.billing.usage_watch import UsageWatch
from app.billing.wallet_upkeep import WalletUpkeep
from app.config import Settings
from app.errors import StoreDown
from app.metering.definitions import Definitions
from app.metering.event_errors import EventChecks
from app.metering.ingest import Ingest
from app.metering.journal import Journal
from app.metering.meter import Meter
from app.metering.over_time import Question, UsedInBucket, usage_over_time
from app.metering.upkeep import Upkeep
from app.stores.clickhouse import ClickHouse, open_clickhouse
from app.stores.data_dir import CannotStart, DataDir
from app.stores.postgres import Postgres, open_postgres


@dataclass
class Service:
    """What the API and the scheduler share. `ingest` and `upkeep` run in the event loop between `start` and `stop`.

    `stopping` tells those who would go on for long that they must come to an end.
    """

    settings: Settings
    postgres: Postgres
    clickhouse: ClickHouse
    definitions: Definitions
    upkeep: Upkeep
    meter: Meter = field(init=False)
    billing_meter: Meter = field(init=False)
    wallets: WalletUpkeep = field(init=False)
    due: DueRunner = field(init=False)
    runs: BillingRuns = field(init=False)
    event_checks: EventChecks = field(init=False)
    advance: AdvanceWorker = field(init=False)
    usage_watch: UsageWatch = field(init=False)
    journal: Journal | None = None
    data_dir: DataDir | None = None
    price_book: PriceBook = field(default_factory=PriceBook)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ingest: Ingest | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        self.meter = Meter(self.clickhouse, self.upkeep, for_billing=False)
        self.billing_meter = Meter(self.clickhouse, self.upkeep, for_billing=True)
        delay = timedelta(seconds=settings.billing_delay_seconds)
        self.wallets = WalletUpkeep(self.postgres, self.clickhouse, self.meter, self.price_book, settings.close_chunk)
        late = LateDrafts(self.postgres, self.clickhouse)
        self.due = DueRunner(self.postgres, self.billing_meter, self.wallets, late, settings.close_chunk, delay)
        self.runs = BillingRuns(self.postgres, self.billing_meter, self.due, settings.close_chunk)
        self.event_checks = EventChecks(self.postgres, self.clickhouse)
        self.advance = AdvanceWorker(
            AdvanceBilling(self.postgres, self.clickhouse, self.meter, self.price_book),
            embedded=self.clickhouse.embedded,
            readable=self.upkeep.wait_until_readable,
        )
        self.usage_watch = UsageWatch(
            self.postgres,
            self.clickhouse,
            self.meter,
            self.billing_meter,
            self.price_book,
            self.upkeep.wait_until_readable,
        )

    @property
    def ingest(self) -> Ingest:
        """Where events go."""
        if self._ingest is None:
            raise RuntimeError("the service takes no events: it was not started for that")
        return self._ingest

    async def start(self, *, takes_events: bool = True) -> None:
        """Put the event store right after whatever happened before, and begin to work."""
        if takes_events:
            self._ingest = Ingest(
                self.clickhouse, self.definitions, self.settings, self.upkeep.learn_keys, self.journal
            )
        await self.upkeep.start(self._ingest, self.journal)
        await asyncio.to_thread(self.usage_watch.start, self._ingest)
        await asyncio.to_thread(self.advance.start, self._ingest)
        if self._ingest is not None:
            self._ingest.start()

    async def stop(self) -> None:
        """Finish what was accepted and stop."""
        await asyncio.to_thread(self.runs.stop)
        if self._ingest is not None:
            await self._ingest.stop()
        await asyncio.to_thread(self.advance.stop)
        await self.upkeep.stop()

    def close(self) -> None:
        """Close the stores and let the data directory go."""
        if self.journal is not None:
            self.journal.close()
        self.clickhouse.close()
        self.postgres.close()
        if self.data_dir is not None:
            self.data_dir.release()

    def metrics_changed(self, organization_id: UUID, code: str) -> None:
        """A billable metric was made, changed or deleted, and that is committed. From any thread."""
        self.definitions.forget(organization_id, code)
        self.upkeep.metric_changed(organization_id, code)

    def wait_until_readable(self, organization_id: UUID) -> None:
        """Wait until every event acknowledged so far counts in what is read, and has its fees where it is billed by itself;
        on a test clock, also until usage thresholds and alerts have been looked at. For threads other than the loop's that
        have locked nothing."""
        self.upkeep.wait_until_readable(organization_id)
        self.advance.wait(organization_id)
        self.usage_watch.wait(organization_id)

    def wait_until_billed(self, organization_id: UUID) -> None:
        """Wait only where events are billed by themselves, or usage is watched on a test clock: before something is changed
        that the outcome depends on. On the same conditions."""
        self.advance.wait(organization_id)
        self.usage_watch.wait(organization_id)

    def usage_over_time(self, question: Question, most: int) -> list[UsedInBucket]:
        """Usage in buckets of time, as the rollups have it.

        Raises:
            TooManyRows: there are more than `most`.
        """
        with self.upkeep.reading() as unreliable:
            return usage_over_time(self.clickhouse, question, most, unreliable)


def open_service(settings: Settings) -> Service:
    """Open both stores and bring them up to date.

    Raises:
        CannotStart: with one line that says why and what to do.
    """
    data_dir = None
    if settings.embedded:
        data_dir = DataDir(settings.data_dir)
        data_dir.hold()
    root = data_dir.path if data_dir else settings.data_dir
    postgres = open_postgres(settings.database_url, root, settings.database_connections)
    clickhouse = open_clickhouse(settings.clickhouse_url, root, settings.clickhouse_handles)
    try:
        with postgres.start_lock():
            postgres.migrate()
            clickhouse.migrate()
    except (SQLAlchemyError, CommandError, ClickHouseError, StoreDown) as error:
        reason = str(error).splitlines()[0][:300]
        raise CannotStart(f"The stores' tables cannot be brought up to date: {reason}") from error
    if data_dir is not None:
        data_dir.ready()
    upkeep = Upkeep(postgres, clickhouse, settings.reconcile_seconds)
    journal = Journal(root / "journal") if clickhouse.embedded else None
    return Service(settings, postgres, clickhouse, Definitions(postgres), upkeep, journal, data_dir)
