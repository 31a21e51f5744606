"""What can be asked of the two stores: versions, migrations, clocks, and whether what they hold is in order."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from clickhouse_connect.driver.exceptions import ClickHouseError
from sqlalchemy import func, or_, select, text, union
from sqlalchemy.exc import SQLAlchemyError

from app.billing.ledger import find_imbalances
from app.clock import system_now
from app.config import Settings
from app.doctor.findings import Finding, note, ok, problem, warning
from app.doctor.machine import disk_finding
from app.errors import StoreDown
from app.metering.parity import count_differences
from app.metering.upkeep import MARK, UNSETTLED
from app.models import BillableMetric, BillingEntity, Customer, Organization, Setting, Subscription
from app.stores.clickhouse import ClickHouse, Query
from app.stores.clickhouse import migrations as clickhouse_migrations
from app.stores.postgres import Postgres, migrations

OLDEST_POSTGRES = 14
OLDEST_CLICKHOUSE = (25, 3)
CLOCK_WARNING, CLOCK_PROBLEM = timedelta(seconds=2), UNSETTLED
OVERDUE = timedelta(hours=1)
STALE = timedelta(minutes=5)
SHOWN = 3

Failure = (StoreDown, SQLAlchemyError, ClickHouseError)
RESTART = "Start the newest Meterhouse: a start brings the tables up to date."


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, and whether a service is known to work on them now."""

    settings: Settings
    postgres: Postgres
    clickhouse: ClickHouse
    running: bool


def check_stores(stores: Stores) -> list[Finding]:
    """Everything there is to ask; what could not be answered is a finding, too."""
    findings = _asked("PostgreSQL", _check_postgres, stores) + _asked("ClickHouse", _check_clickhouse, stores)
    tables = _asked("migrations", _check_migrations, stores)
    findings += tables
    if any(one.status != "ok" for one in findings if one.subject == "migrations") or len(tables) < 2:  # noqa: PLR2004
        return [*findings, note("contents", "Not looked at.", "First put right what is said above.")]
    for subject, check in (
        ("parity", _check_parity), ("back-fills", _check_backfills), ("reconciling", _check_mark),
        ("billing", _check_overdue), ("ledgers", _check_ledgers), ("timezones", _check_timezones),
        ("events", _check_events),
    ):  # fmt: skip
        findings += _asked(subject, check, stores)
    return findings


def _asked(subject: str, check: Callable[[Stores], list[Finding]], stores: Stores) -> list[Finding]:
    try:
        return check(stores)
    except Failure as error:
        cause = error.__cause__ if isinstance(error, StoreDown) and error.__cause__ else error
        reason = str(cause).strip().splitlines()[0][:300]
        return [problem(subject, f"Could not be asked: {reason}", "See that the store runs and answers.")]


def _check_postgres(stores: Stores) -> list[Finding]:
    before = system_now()
    with stores.postgres.session() as db:
        number, shown, there = db.execute(
            text(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'), clock_timestamp()"
            )
        ).one()
    clock = _clock("PostgreSQL", before, there, system_now())
    where = "embedded" if not stores.settings.database_url else "a server"
    found = f"PostgreSQL {shown}, {where}."
    if number // 10_000 < OLDEST_POSTGRES:
        return [warning("PostgreSQL", found, f"Use version {OLDEST_POSTGRES} or later."), clock]
    return [ok("PostgreSQL", found), clock]


def _check_clickhouse(stores: Stores) -> list[Finding]:
    before = system_now()
    ((shown, there),) = stores.clickhouse.rows(Query("version"))
    clock = _clock("ClickHouse", before, there, system_now())
    where = "embedded" if stores.clickhouse.embedded else "a server"
    found = f"ClickHouse {shown}, {where}."
    findings = [ok("ClickHouse", found), clock]
    if tuple(int(part) for part in shown.split(".")[:2]) < OLDEST_CLICKHOUSE:
        findings[0] = warning("ClickHouse", found, f"Use version {'.'.join(map(str, OLDEST_CLICKHOUSE))} or later.")
    if not stores.clickhouse.embedded:
        for name, free, total in stores.clickhouse.rows(Query("disks")):
            findings.append(disk_finding(f"on ClickHouse's disk {name}", free, total))
    return findings


def _clock(store: str, before: datetime, there: datetime, after: datetime) -> Finding:
    """The difference between this machine's clock and a store's, less what the question may have taken."""
    apart = max(before - there, there - after, timedelta(0))
    found = f"{store}'s clock and this machine's are {apart.total_seconds():.1f} s apart."
    if apart > CLOCK_PROBLEM:
        advice = "Set both by NTP: events are dated here, and which are settled is told by that date."
        return problem("clock", found, advice)
    if apart > CLOCK_WARNING:
        return warning("clock", found, "Set both by NTP.")
    return ok("clock", f"{store}'s clock and this machine's agree.")


def _check_migrations(stores: Stores) -> list[Finding]:
    with stores.postgres.engine.connect() as connection:
        done = set(MigrationContext.configure(connection).get_current_heads())
    script = ScriptDirectory.from_config(migrations())
    known = {one.revision for one in script.walk_revisions()}
    findings = [_tables("PostgreSQL", behind=done != set(script.get_heads()), others=not done <= known)]
    files = {(one.name, one.hash) for one in clickhouse_migrations()}
    there = {*map(tuple, stores.clickhouse.rows(Query("migrations_applied")))}
    findings.append(_tables("ClickHouse", behind=not files <= there, others=not there <= files))
    return findings


def _tables(store: str, *, behind: bool, others: bool) -> Finding:
    if others:
        advice = "Install the one that made them again."
        return problem("migrations", f"{store}'s tables were made by another Meterhouse.", advice)
    if behind:
        return warning("migrations", f"{store}'s tables are not up to date.", RESTART)
    return ok("migrations", f"{store}'s tables are up to date.")


def _check_parity(stores: Stores) -> list[Finding]:
    cells = count_differences(stores.clickhouse, settled_before(stores))
    if not cells:
        return [ok("parity", "Every rollup holds as many events as there are.")]
    each = ", ".join(f"{aggregation}: {number:,}" for aggregation, number in sorted(cells.items()))
    found = f"{sum(cells.values()):,} hourly cells hold another number of events than there are ({each})."
    advice = "Run `meterhouse doctor --mend`: they are made anew. (What is invoiced is always compared first.)"
    return [warning("parity", found, advice)]


def settled_before(stores: Stores) -> datetime:
    """Until when what was ingested is surely in the rollups, too. Where nobody else works on the stores, all of it is."""
    now = system_now()
    return now - UNSETTLED if stores.running or not stores.clickhouse.embedded else now + timedelta(days=1)


def _check_backfills(stores: Stores) -> list[Finding]:
    pending = select(BillableMetric.code).where(
        or_(
            BillableMetric.deleted_at.is_(None) & (BillableMetric.backfill_pending | BillableMetric.dimensions_pending),
            BillableMetric.events_to_delete.is_not(None),
        )
    )
    with stores.postgres.session() as db:
        codes = list(db.scalars(pending.order_by(BillableMetric.code)))
    if not codes:
        return [ok("back-fills", "None is pending.")]
    named = ", ".join(codes[:SHOWN]) + (", …" if len(codes) > SHOWN else "")
    advice = "It is under way; look again in a minute." if stores.running else "The next start does it."
    return [note("back-fills", f"The stored events of {len(codes)} metrics are yet to be read anew: {named}.", advice)]


def _check_mark(stores: Stores) -> list[Finding]:
    with stores.postgres.session() as db:
        mark = db.get(Setting, MARK)
    if mark is None:
        return [note("reconciling", "Nothing has been compared yet.", "The next start does it.")]
    age = system_now() - datetime.fromisoformat(mark.value["at"])
    found = f"Raw events and rollups were last compared {_ago(age)} ago."
    allowed = max(STALE, timedelta(seconds=3 * stores.settings.reconcile_seconds))
    if age > allowed and (stores.running or not stores.clickhouse.embedded):
        advice = "Start `meterhouse worker`, or look for reconcile.failed in the log."
        return [warning("reconciling", found, advice)]
    return [ok("reconciling", found)]


def _check_overdue(stores: Stores) -> list[Finding]:
    due = system_now() - timedelta(seconds=stores.settings.billing_delay_seconds) - OVERDUE
    with stores.postgres.session() as db:
        number, first = db.execute(
            select(func.count(), func.min(Subscription.next_billing_at))
            .join(Organization, Organization.id == Subscription.organization_id)
            .where(Organization.sandbox.is_(False), Subscription.status == "active", Subscription.next_billing_at < due)
        ).one()
    if first is None:
        return [ok("billing", "No period waits to be closed.")]
    since = f"{first.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    found = f"{number:,} subscriptions wait for their period to be closed, the first since {since}."
    if stores.running:
        return [warning("billing", found, "Start `meterhouse worker`, or look for close.failed in the log.")]
    return [warning("billing", found, "Start `meterhouse up` or `meterhouse worker`: it closes them.")]


def _check_ledgers(stores: Stores) -> list[Finding]:
    """Whether invoices, coupons, credit notes, wallets and payments agree with each other."""
    with stores.postgres.session() as db:
        found = find_imbalances(db, most=SHOWN)
        customers = 0 if found.number else db.scalar(select(func.count()).select_from(Customer))
    if not found.number:
        return [ok("ledgers", f"What {customers:,} customers were billed, credited and paid balances.")]
    named = "; ".join(map(str, found.first)) + ("; …" if found.number > SHOWN else "")
    what = "amount does" if found.number == 1 else "amounts do"
    advice = "Nothing mends that by itself: see what changed the tables, compare with a backup, and report a defect."
    return [problem("ledgers", f"{found.number:,} {what} not follow from the others: {named}.", advice)]


def _check_timezones(stores: Stores) -> list[Finding]:
    with stores.postgres.session() as db:
        names = db.scalars(
            union(
                select(BillingEntity.timezone),
                select(Customer.timezone).where(Customer.timezone.is_not(None), Customer.deleted_at.is_(None)),
            )
        )
        unknown = sorted(name for name in names if not _is_timezone(name))
    if not unknown:
        return []
    advice = "Update the tzdata package: their periods cannot be told."
    return [problem("timezones", f"No timezone data for {', '.join(unknown[:SHOWN])}.", advice)]


def _check_events(stores: Stores) -> list[Finding]:
    ((number, newest),) = stores.clickhouse.rows(Query("newest_ingested"))
    if not number:
        return [ok("events", "There are none yet.")]
    ahead = newest.replace(tzinfo=UTC) - system_now()
    if ahead > CLOCK_WARNING:
        found = f"The newest of {number:,} events is dated {ahead.total_seconds():.0f} s in the future."
        return [warning("events", found, "The clock of the machine that took it was wrong; set clocks by NTP.")]
    return [ok("events", f"There are {number:,}.")]


def _is_timezone(name: Any) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True


def _ago(age: timedelta) -> str:
    seconds = max(int(age.total_seconds()), 0)
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}"
    return f"{seconds} seconds"
