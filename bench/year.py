"""A year of events in one organization, or its end, written past HTTP as fast as the store takes them.

They go through the very tables and views that ingest uses, so the rollups are made as they always are. Everything about
event `k` follows from its number, so it is the same wherever it is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import system_now
from app.config import Settings
from app.logs import configure_logging
from app.metering.reconcile import reconcile_since
from app.metering.rollups import ROLLUPS
from app.models.base import Base
from app.service import open_service
from app.stores.clickhouse import ClickHouse, Query
from bench.load import METRICS, new_account, set_up
from tests.copying import copies
from tests.support import running

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 12, 31, 12, tzinfo=UTC)
"""The organization's own time: nearly all of the last period is over, so a read has a whole month to add up."""

TABLES = Base.metadata.tables

BLOCK = 500_000
INGESTED_AFTER = timedelta(seconds=1)

SINCE = "ingested_at >= {since:DateTime64(6, 'UTC')}"

COLUMNS = {
    "organization_id": "{organization_id:UUID}",
    "external_subscription_id": "concat('sub_', toString(subscription))",
    "code": "code",
    "transaction_id": "concat('year-', toString(k))",
    "timestamp": "fromUnixTimestamp64Milli(at, 'UTC')",
    "hour": "toInt32(intDiv(at, 3600000))",
    "properties": "if(field = '', map('region', region), map('region', region, field, given))",
    "precise_total_amount_cents": "NULL",
    "aggregation": "aggregation",
    "value": "multiIf(aggregation = 'count_agg', '1', aggregation = 'unique_count_agg', '0', given)::Decimal(38, 18)",
    "item": "if(aggregation = 'unique_count_agg', given, '')",
    "operation": "'add'",
    "dimensions": "map()",
    "ingested_at": "fromUnixTimestamp64Micro((at + {ingested_after_ms:Int64}) * 1000, 'UTC')",
}
"""A row of `events`, as ingest would have made it."""

NUMBERED = """
    SELECT
        number AS k,
        {first_ms:Int64} + intDiv(toInt64(k) * {span_ms:Int64}, {events:Int64}) AS at,
        k % {subscriptions:UInt64} AS subscription,
        1 + intDiv(k, {subscriptions:UInt64}) % length({codes:Array(String)}) AS turn,
        {codes:Array(String)}[turn] AS code,
        {aggregations:Array(String)}[turn] AS aggregation,
        {fields:Array(String)}[turn] AS field,
        ['eu', 'us', 'asia'][1 + k % 3] AS region,
        intDiv(k * 2654435761 % 4294967296, 1024) AS spread,
        if(
            aggregation = 'unique_count_agg',
            concat('u', toString(spread % 5000)),
            concat(toString(intDiv(spread % 100000, 100)), '.', leftPad(toString(spread % 100), 2, '0'))
        ) AS given
    FROM numbers({begin:UInt64}, {count:UInt64})
"""


@dataclass(frozen=True, slots=True)
class Statement(Query):
    """A statement of a bench, which has no file."""

    text: str = field(kw_only=True)

    def to_sql(self) -> tuple[str, dict[str, Any]]:
        """The text and the parameters, as they are sent."""
        return self.text, dict(self.parameters)


@dataclass(frozen=True, slots=True)
class Year:
    """So many events from `begin` to `NOW`, in the order of their time, of subscriptions that take turns."""

    events: int
    subscriptions: int
    begin: datetime = BEGIN

    @property
    def first_ms(self) -> int:
        """When the first event was."""
        return int(self.begin.timestamp()) * 1000

    @property
    def span_ms(self) -> int:
        """How long it goes on."""
        return (NOW - self.begin) // timedelta(milliseconds=1)

    def at(self, k: int) -> datetime:
        """When event `k` was."""
        return self.begin + timedelta(milliseconds=k * self.span_ms // self.events)


class Account(msgspec.Struct):
    """What is noted beside the stores: whose the year is, and how many of its events are surely written."""

    key: str
    organization_id: UUID
    written: int = 0

    @staticmethod
    def of(root: Path) -> "Account":
        """The account that was opened in a folder."""
        return msgspec.json.decode((root / "account.json").read_bytes(), type=Account)

    def note(self, root: Path) -> None:
        """Write it down, all or nothing."""
        fresh = root / "account.json.new"
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.replace(root / "account.json")


def open_account(root: Path) -> None:
    """Make the organization with its metrics, its plan and its first subscription, unless it is there already."""
    if (root / "account.json").exists():
        return
    root.mkdir(parents=True, exist_ok=True)
    with running(root / "data") as server:
        api = new_account(server, sandbox=True)
        api.call("PUT", "/api/v1/test_clock", {"test_clock": {"now": NOW.isoformat()}})
        set_up(api, BEGIN, subscriptions=1)
        organization = api.call("GET", "/api/v1/organizations")["organization"]
    Account(api.key, UUID(organization["lago_id"])).note(root)


def fill(root: Path, year: Year) -> None:
    """Write what of the year is not there yet. Safe to interrupt and to repeat.

    Raises:
        RuntimeError: what is there is not this year.
    """
    account = Account.of(root)
    configure_logging("error")
    service = open_service(Settings(data_dir=root / "data"))
    try:
        with service.postgres.session() as db:
            _fill_subscriptions(db, account.organization_id, year.subscriptions)
        for begin in range(account.written, year.events, BLOCK):
            count = min(BLOCK, year.events - begin)
            _write_block(service.clickhouse, account, year, begin, count)
            account.written = begin + count
            account.note(root)
        _check(service.clickhouse, year.events)
    finally:
        service.close()


def _write_block(clickhouse: ClickHouse, account: Account, year: Year, begin: int, count: int) -> None:
    since = {"since": year.at(begin) + INGESTED_AFTER}
    found = _number(clickhouse, f"SELECT count() FROM events WHERE {SINCE}", since)
    if found == count:  # a run was ended between the two inserts, or in the second one
        reconcile_since(clickhouse, since["since"], system_now())
        return
    if found:
        clickhouse.command(Statement("drop_block", since, text=f"DELETE FROM events WHERE {SINCE}"))
    parameters = {
        "organization_id": account.organization_id,
        "begin": begin,
        "count": count,
        "events": year.events,
        "subscriptions": year.subscriptions,
        "first_ms": year.first_ms,
        "span_ms": year.span_ms,
        "ingested_after_ms": INGESTED_AFTER // timedelta(milliseconds=1),
        "codes": [code for code, _, _ in METRICS],
        "aggregations": [aggregation for _, aggregation, _ in METRICS],
        "fields": [field or "" for _, _, field in METRICS],
    }
    for table, without in (("events", ""), ("rollup_feed", "properties")):
        made = {name: value for name, value in COLUMNS.items() if name != without}
        values = ", ".join(f"{value} AS {name}" for name, value in made.items())
        insertion = f"INSERT INTO {table} ({', '.join(made)}) SELECT {values} FROM ({NUMBERED})"
        clickhouse.command(Statement("fill", parameters, text=f"{insertion} SETTINGS max_block_size = {BLOCK}"))


def _check(clickhouse: ClickHouse, events: int) -> None:
    """Every event must be there, must be found by its key, and must count once."""
    rolled_up = " + ".join(f"(SELECT sum(events_count) FROM {one.table})" for one in ROLLUPS.values())
    for what in ("(SELECT count() FROM events)", "(SELECT count() FROM event_keys)", rolled_up):
        found = _number(clickhouse, f"SELECT {what}")
        if found != events:
            raise RuntimeError(f"{what} is {found:,}, but {events:,} events were written: remove the data directory")


def _number(clickhouse: ClickHouse, text: str, parameters: Mapping[str, Any] | None = None) -> int:
    return int(clickhouse.rows(Statement("number", parameters or {}, text=text))[0][0])


def _fill_subscriptions(db: Session, organization_id: UUID, subscriptions: int) -> None:
    """Copy the first customer and its subscription until there are enough; only ids and numbers differ."""
    owned = {"organization_id": organization_id}
    present = db.scalar(text("SELECT count(*) FROM customers WHERE organization_id = :organization_id"), owned) or 0
    if present == subscriptions:
        return
    numbers = {**owned, "first": present, "last": subscriptions - 1}
    db.execute(
        copies(
            TABLES["customers"],
            {
                "external_id": "'customer_' || number",
                "sequential_id": "number + 1",
                "slug": "origin.slug || '-' || number",
            },
            "customers AS origin JOIN generate_series(CAST(:first AS int), :last) AS number"
            " ON origin.external_id = 'customer_0' WHERE origin.organization_id = :organization_id",
        ),
        numbers,
    )
    db.execute(
        copies(
            TABLES["subscriptions"],
            {"external_id": "'sub_' || (owner.sequential_id - 1)", "customer_id": "owner.id"},
            "subscriptions AS origin JOIN customers AS owner ON origin.external_id = 'sub_0'"
            " AND owner.organization_id = :organization_id AND owner.sequential_id - 1 BETWEEN :first AND :last"
            " WHERE origin.organization_id = :organization_id",
        ),
        numbers,
    )
    db.execute(text("ANALYZE customers, subscriptions"))
