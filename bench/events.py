"""Lists of events, and usage over time, in a store of many events: ours, and beside each the plain query it replaces.

    python -m bench.events [MILLIONS]

10 million events unless told otherwise, written straight into the tables: one organization, 10,000 subscriptions, 12
metrics, 100 days. Fully merged, as a store is after a while. The goals: a page of a list in 0.3 s at 10 million events, and
usage over time in 0.3 s.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.config import Settings
from app.core.aggregation import Aggregation
from app.core.timeline import Granularity, bounds
from app.logs import configure_logging
from app.metering.listing import EventFilter, list_events
from app.metering.over_time import MeteredBy, Owner, Question, usage_over_time
from app.metering.windows import floor_ms
from app.stores.clickhouse import ClickHouse, open_clickhouse
from bench.load import folder

ORGANIZATION = UUID("11111111-1111-1111-1111-111111111111")
MILLION = 1_000_000
DAYS = 100
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = (Aggregation.COUNT, Aggregation.SUM, Aggregation.MAX, Aggregation.UNIQUE_COUNT)
CODES = 12
SUBSCRIPTIONS = 10_000
ROUNDS = 5
GOAL_MS = 300

ROWS = """
SELECT
    toUUID({organization:String}) AS organization_id,
    concat('sub_', toString(cityHash64(number) % {subscriptions:UInt32})) AS external_subscription_id,
    concat('metric_', toString(cityHash64(number, 1) % {codes:UInt32})) AS code,
    concat('tx-', toString(cityHash64(number, 2))) AS transaction_id,
    fromUnixTimestamp64Milli({first_ms:Int64} + intDiv(number * {span_ms:Int64}, {total:Int64}), 'UTC') AS timestamp,
    toInt32(intDiv(toUnixTimestamp64Milli(timestamp), 3600000)) AS hour,
    map(
        'region', ['eu', 'us', 'asia'][1 + number % 3],
        'value', toString(cityHash64(number, 3) % 100000),
        'path', concat('/search/', toString(cityHash64(number, 4) % 5000))
    ) AS properties,
    NULL AS precise_total_amount_cents,
    {kinds:Array(String)}[1 + cityHash64(number, 1) % {codes:UInt32} % 4] AS aggregation,
    toDecimal128(cityHash64(number, 3) % 100000, 18) AS value,
    if(aggregation = 'unique_count_agg', toString(cityHash64(number, 4) % 5000), '') AS item,
    'add' AS operation,
    map('region', ['eu', 'us', 'asia'][1 + number % 3]) AS dimensions,
    fromUnixTimestamp64Micro(
        1000 * ({first_ms:Int64} + intDiv(intDiv(number, 100) * 100 * {span_ms:Int64}, {total:Int64})), 'UTC'
    ) AS ingested_at
FROM numbers({from:UInt64}, {count:UInt64})
"""
COLUMNS = (
    "organization_id, external_subscription_id, code, transaction_id, timestamp, hour, properties,"
    " precise_total_amount_cents, aggregation, value, item, operation, dimensions, ingested_at"
)
FED = COLUMNS.replace(" properties,", "")

PLAIN_PAGE = """
SELECT organization_id, external_subscription_id, transaction_id, code, timestamp, properties,
    precise_total_amount_cents, ingested_at
FROM events WHERE {matching} ORDER BY ingested_at DESC, transaction_id LIMIT {limit:UInt32} OFFSET {offset:UInt64}
"""
PLAIN_COUNT = "SELECT count() FROM events WHERE {matching}"
PLAIN_USAGE = """
SELECT intDiv(toUnixTimestamp64Milli(timestamp), {step_ms:Int64}) AS bucket, {split} AS split, {units} AS units
FROM events
WHERE organization_id = {organization_id:UUID} AND code = {code:String}
    AND ({any_subscription:Bool} OR external_subscription_id = {external_subscription_id:String})
    AND timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
    AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY bucket, split ORDER BY bucket, split
"""


def main() -> None:
    """Measure and print."""
    total = int(float(sys.argv[1]) * MILLION) if len(sys.argv) > 1 else 10 * MILLION
    settings = Settings()
    configure_logging(settings.log_level)
    with folder() as root:
        store = open_clickhouse("", root, settings.clickhouse_handles)
        store.migrate()
        fill(store, total)
        print(f"\nA page of a list and how many events there are in all, {total:,} events, the median of {ROUNDS}")
        lists(store, total)
        print("\nUsage over time of one metric")
        usage(store)
        store.close()


def fill(store: ClickHouse, total: int) -> None:
    """Write the events, as ingest does: to `events`, and through the views."""
    started = time.perf_counter()
    parameters: dict[str, Any] = {
        "organization": str(ORGANIZATION), "subscriptions": SUBSCRIPTIONS, "codes": CODES, "kinds": [str(k) for k in KINDS],
        "first_ms": floor_ms(FIRST), "span_ms": DAYS * 86_400_000, "total": total, "count": MILLION,
    }  # fmt: skip
    for first in range(0, total, MILLION):
        for table, columns in (("events", COLUMNS), ("rollup_feed", FED)):
            run(store, f"INSERT INTO {table} ({columns}) SELECT {columns} FROM ({ROWS})", {**parameters, "from": first})
    for table in ("events", "event_arrivals", "usage_count", "usage_sum", "usage_max", "usage_unique"):
        run(store, f"OPTIMIZE TABLE {table} FINAL", {})
    print(f"Filled in {time.perf_counter() - started:.0f} s")


def lists(store: ClickHouse, total: int) -> None:
    """Pages of every sort."""
    month = {"from_": FIRST + timedelta(days=30), "to": FIRST + timedelta(days=60)}
    cases: Sequence[tuple[str, dict[str, Any], int, int]] = (
        ("the first 100", {}, 100, 0),
        ("the first 1,000", {}, 1_000, 0),
        ("one metric", {"code": "metric_3"}, 100, 0),
        ("one subscription", {"external_subscription_id": "sub_77"}, 100, 0),
        ("one month", month, 100, 0),
        ("a code that nothing has", {"code": "none"}, 100, 0),
        ("100 in the middle", {}, 100, total // 2),
        ("100 in the middle of one metric", {"code": "metric_3"}, 100, total // 2 // CODES),
        ("the last 100", {}, 100, total - 100),
    )
    for name, fields, limit, offset in cases:
        wanted = EventFilter(ORGANIZATION, **fields)
        found: list[Any] = []

        def ours(
            wanted: EventFilter = wanted, limit: int = limit, offset: int = offset, found: list[Any] = found
        ) -> None:
            found[:] = list_events(store, wanted, limit=limit, offset=offset)

        def plain(wanted: EventFilter = wanted, limit: int = limit, offset: int = offset) -> None:
            page = {**wanted.parameters, "limit": limit, "offset": offset}
            run(store, PLAIN_COUNT.replace("{matching}", wanted.matching), page)
            run(store, PLAIN_PAGE.replace("{matching}", wanted.matching), page)

        compare(name, ours, plain)


def usage(store: ClickHouse) -> None:
    """Usage by hour and by day, as a dashboard shows it."""
    end = FIRST + timedelta(days=DAYS)
    cases: Sequence[tuple[str, int, Granularity, int, str | None, bool]] = (
        ("everybody's sum, 24 hours", 1, Granularity.HOURLY, 1, None, False),
        ("everybody's sum, 30 days", 1, Granularity.DAILY, 30, None, False),
        ("everybody's sum, 30 days by region", 1, Granularity.DAILY, 30, None, True),
        ("everybody's sum, 30 days by the hour", 1, Granularity.HOURLY, 30, None, False),
        ("everybody's users, 30 days", 3, Granularity.DAILY, 30, None, False),
        ("one subscription's sum, 30 days", 1, Granularity.DAILY, 30, "sub_77", False),
        ("one subscription's users, 30 days by region", 3, Granularity.DAILY, 30, "sub_77", True),
    )
    for name, metric, granularity, days, subscription, by_region in cases:
        kind = KINDS[metric % len(KINDS)]
        from_ = end - timedelta(days=days)
        question = Question(
            organization_id=ORGANIZATION,
            metrics=[MeteredBy(f"metric_{metric}", kind, dimension_keys={"region"})],
            bounds_ms=[floor_ms(one) for one in bounds(from_, end, granularity, UTC)],  # type: ignore[arg-type]
            subscriptions=None if subscription is None else {subscription},
            split_by=Owner.NOBODY,
            keys=["region"] if by_region else [],
        )
        units = "uniqExact(external_subscription_id, item)" if kind is Aggregation.UNIQUE_COUNT else "sum(value)"
        text = PLAIN_USAGE.replace("{split}", "properties['region']" if by_region else "''").replace("{units}", units)
        asked = {
            "organization_id": ORGANIZATION, "code": f"metric_{metric}", "first_ms": floor_ms(from_),
            "end_ms": floor_ms(end), "any_subscription": subscription is None,
            "external_subscription_id": subscription or "",
            "step_ms": 3_600_000 if granularity is Granularity.HOURLY else 86_400_000,
        }  # fmt: skip

        def ours(question: Question = question) -> None:
            usage_over_time(store, question, 1_000_000)

        def plain(text: str = text, asked: dict[str, Any] = asked) -> None:
            run(store, text, asked)

        compare(name, ours, plain)


def compare(name: str, ours: Callable[[], None], plain: Callable[[], None]) -> None:
    """Print how long both take."""
    mine, theirs = median_ms(ours), median_ms(plain)
    verdict = "met" if mine <= GOAL_MS else "MISSED"
    print(f"  {name:<45}{mine:>8.0f} ms   plain {theirs:>7.0f} ms   ratio {theirs / mine:>6.1f}   {verdict}")


def median_ms(function: Callable[[], None]) -> float:
    """The middle one of several times."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def run(store: ClickHouse, text: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
    """Run a text of this bench's own."""
    with store._run("bench") as client:  # noqa: SLF001
        if text.lstrip().startswith("SELECT"):
            return client.query(text, parameters=parameters).result_rows
        client.command(text, parameters=parameters)
        return []


if __name__ == "__main__":
    main()
