"""The peer: the same events in one PostgreSQL table, as a service without an event store of its own would keep them."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from app.stores.postgres import open_postgres
from bench.load import METRICS, event
from bench.year import Year

BLOCK = 500_000

TABLE = """
    CREATE TABLE IF NOT EXISTS events (
        organization_id uuid NOT NULL,
        external_subscription_id text NOT NULL,
        transaction_id text NOT NULL,
        code text NOT NULL,
        timestamp timestamptz NOT NULL,
        properties jsonb NOT NULL,
        value numeric NOT NULL,
        item text
    )
"""
UNIQUE = """
    CREATE UNIQUE INDEX IF NOT EXISTS events_key ON events (organization_id, external_subscription_id, transaction_id)
"""
COVERING = """
    CREATE INDEX IF NOT EXISTS events_usage ON events (organization_id, external_subscription_id, code, timestamp)
    INCLUDE (value, item)
"""

ORGANIZATION = "00000000-0000-0000-0000-000000000001"

YEAR = """
    INSERT INTO events
    SELECT
        %(organization_id)s,
        'sub_' || (k %% %(subscriptions)s),
        'year-' || k,
        code,
        timestamptz 'epoch' + (%(first_ms)s + k * %(span_ms)s / %(events)s) * interval '1 millisecond',
        CASE WHEN field = '' THEN jsonb_build_object('region', region)
            ELSE jsonb_build_object('region', region, field, given) END,
        CASE aggregation WHEN 'count_agg' THEN 1 WHEN 'unique_count_agg' THEN 0 ELSE given::numeric END,
        CASE WHEN aggregation = 'unique_count_agg' THEN given END
    FROM (
        SELECT
            *,
            (%(codes)s::text[])[turn] AS code,
            (%(aggregations)s::text[])[turn] AS aggregation,
            (%(fields)s::text[])[turn] AS field,
            (ARRAY['eu', 'us', 'asia'])[1 + k %% 3] AS region,
            CASE WHEN (%(aggregations)s::text[])[turn] = 'unique_count_agg' THEN 'u' || spread %% 5000
                ELSE spread %% 100000 / 100 || '.' || lpad((spread %% 100)::text, 2, '0') END AS given
        FROM (
            SELECT
                k,
                1 + k / %(subscriptions)s %% cardinality(%(codes)s::text[]) AS turn,
                k * 2654435761 %% 4294967296 / 1024 AS spread
            FROM generate_series(%(begin)s::bigint, %(end)s::bigint - 1) AS k
        ) AS numbered
    ) AS made
"""
"""The events of `bench.year`, by the same arithmetic."""

_OF = """
    FROM events
    WHERE organization_id = %(organization_id)s AND external_subscription_id = %(external_subscription_id)s
        AND code = '{code}' AND timestamp >= %(from)s AND timestamp < %(end)s
"""
_UNITS = {
    "count_agg": "SELECT '{code}', count(*)::numeric" + _OF,
    "sum_agg": "SELECT '{code}', coalesce(sum(value), 0)" + _OF,
    "max_agg": "SELECT '{code}', coalesce(max(value), 0)" + _OF,
    "unique_count_agg": "SELECT '{code}', count(*)::numeric FROM (SELECT DISTINCT item" + _OF + ") AS items",
}
USAGE = " UNION ALL ".join(_UNITS[aggregation].format(code=code) for code, aggregation, _ in METRICS)
"""One subscription's usage of all metrics, in one statement. Items are only ever added in a year, so this need not look at
the last operation on each, as ours does."""

INSERT_CONNECTIONS = 4
INSERT_SIZES = (1_000, 5_000)
INSERT = """
    INSERT INTO events
    SELECT * FROM unnest(
        %s::uuid[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::jsonb[], %s::numeric[], %s::text[]
    )
    ON CONFLICT DO NOTHING
"""
"""Many rows in one statement, in the form that PostgreSQL is fastest with: as `VALUES` they take four times as long."""
FAILURE = "PostgreSQL holds {found:,} events instead of {wanted:,}"


@dataclass(frozen=True, slots=True)
class Way:
    """How rows are inserted: the number of rows of a statement, and whether a commit waits for the disk."""

    size: int
    waits_for_disk: bool


@contextmanager
def postgres(root: Path) -> Iterator[str]:
    """An embedded PostgreSQL server of the peer's own, as it comes; gives what to connect to."""
    root.mkdir(exist_ok=True)
    store = open_postgres("", root, 1)
    try:
        yield store.url.set(drivername="postgresql").render_as_string(hide_password=False)
    finally:
        store.close()


def fill(uri: str, year: Year) -> None:
    """Write what of the year is not there yet, then make the indexes. Safe to interrupt and to repeat."""
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("SET maintenance_work_mem = '512MB'")
        db.execute("SET synchronous_commit = off")
        db.execute(TABLE)
        db.execute("CREATE TABLE IF NOT EXISTS written (events bigint)")
        (written,) = _row(db, "SELECT coalesce(sum(events), 0) FROM written")
        for begin in range(int(written), year.events, BLOCK):
            count = min(BLOCK, year.events - begin)
            with db.transaction():
                db.execute(YEAR, {**_parameters(year), "begin": begin, "end": begin + count})
                db.execute("INSERT INTO written VALUES (%s)", (count,))
        db.execute(UNIQUE)
        db.execute(COVERING)
        if int(written) < year.events:
            db.execute("VACUUM (ANALYZE) events")
        (found,) = _row(db, "SELECT sum(events) FROM written")
        if found != year.events:
            raise RuntimeError(
                f"PostgreSQL holds {found:,} events instead of {year.events:,}: remove the data directory"
            )


def read(uri: str, subscriptions: Sequence[str], begin: datetime, end: datetime) -> tuple[dict[str, Any], list[float]]:
    """The usage of the first subscription by metric, and the seconds that reading each of them took."""
    latencies = []
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("SET work_mem = '64MB'")
        asked = {"organization_id": ORGANIZATION, "from": begin, "end": end}
        rows = db.execute(USAGE, {**asked, "external_subscription_id": subscriptions[0]}).fetchall()
        for one in subscriptions:
            started = time.perf_counter()
            db.execute(USAGE, {**asked, "external_subscription_id": one}).fetchall()
            latencies.append(time.perf_counter() - started)
    return dict(rows), latencies


def insert(uri: str, way: Way, count: int, now: int) -> float:
    """Events a second into an empty table with a unique key and no other index, over several connections, without HTTP.

    The rows are ready before the time is taken; each is sent once.

    Raises:
        RuntimeError: not all rows are there at the end.
    """
    rows = [_sent(event(number, "peer", now - number % 3600)) for number in range(count)]
    blocks = [rows[first : first + way.size] for first in range(0, count, way.size)]
    statements = [[list(values) for values in zip(*block, strict=True)] for block in blocks]
    with psycopg.connect(uri, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS events")
        db.execute(TABLE)
        db.execute(UNIQUE)
        db.execute("CHECKPOINT")
    with ThreadPoolExecutor(INSERT_CONNECTIONS) as threads:
        opened = [psycopg.connect(uri, autocommit=True) for _ in range(INSERT_CONNECTIONS)]
        if not way.waits_for_disk:
            for db in opened:
                db.execute("SET synchronous_commit = off")
        started = time.perf_counter()
        list(threads.map(_insert, opened, (statements[turn::INSERT_CONNECTIONS] for turn in range(INSERT_CONNECTIONS))))
        seconds = time.perf_counter() - started
        (found,) = _row(opened[0], "SELECT count(*) FROM events")
        for db in opened:
            db.close()
    if found != count:
        raise RuntimeError(FAILURE.format(found=found, wanted=count))
    return count / seconds


def _sent(one: Mapping[str, Any]) -> tuple[str | None, ...]:
    """An event as texts, so that nothing has to be converted while the time is taken."""
    _, kind, field = next(metric for metric in METRICS if metric[0] == one["code"])
    given = one["properties"].get(field) if field else None
    return (
        ORGANIZATION,
        one["external_subscription_id"],
        one["transaction_id"],
        one["code"],
        datetime.fromtimestamp(one["timestamp"], UTC).isoformat(),
        json.dumps(one["properties"]),
        "1" if kind == "count_agg" else "0" if kind == "unique_count_agg" else given,
        given if kind == "unique_count_agg" else None,
    )


def _insert(db: psycopg.Connection[Any], statements: Sequence[Sequence[Any]]) -> None:
    for columns in statements:
        db.execute(INSERT, columns)


def _parameters(year: Year) -> dict[str, Any]:
    return {
        "organization_id": ORGANIZATION,
        "subscriptions": year.subscriptions,
        "events": year.events,
        "first_ms": year.first_ms,
        "span_ms": year.span_ms,
        "codes": [code for code, _, _ in METRICS],
        "aggregations": [aggregation for _, aggregation, _ in METRICS],
        "fields": [field or "" for _, _, field in METRICS],
    }


def _row(db: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = db.execute(statement).fetchone() or ()
    return row
