"""Breaks a service's event store in the ways crashes and racing processes do, puts it right, and prints what it counts.

Run as `python -m tests.stores.broken_rollups DATA_DIR`: the embedded engine allows one data directory in a process. The
answer is a JSON object: for each case what was counted, and what should have been.
"""

import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from app.catalog.metrics import create_metric
from app.clock import system_now
from app.config import Settings
from app.core.aggregation import Aggregation
from app.core.values import replace
from app.customers.organizations import create_organization
from app.errors import StoreDown
from app.metering import listing
from app.metering.ingest import Ingest, encode_lines
from app.metering.rereading import pending_readings
from app.metering.rollups import DAYS, MONTHS, ROLLUPS
from app.service import open_service
from app.stores.clickhouse import ClickHouse, Query
from bench.year import Statement
from tests.stores.broken_bench import METRICS, WEIGHTED, Bench
from tests.stores.sent_again import one_transaction_id, sent_again_on_the_way, told_by_their_keys, two_processes
from tests.support import wait_for


async def nothing_broken(bench: Bench) -> None:
    events = bench.events("nothing broken")
    await bench.accept(events)
    await bench.reconcile()
    again = await bench.reconcile()
    bench.note("nothing broken", events, mended=(again, 0))


async def items_by_span(bench: Bench) -> None:
    """Items of whole days and months are read from what is kept of them by the day and the month, not hour by hour."""
    case = "by span"
    events = [bench.event(case, "users", number, operation_type="add") for number in range(40)]
    await bench.accept(events)
    scope = {"organization_id": bench.organization, "external_subscription_id": case, "codes": ["users"]}
    spans = {"day": (DAYS, 0, 100_000), "month": (MONTHS, 197_001, 229_901)}
    found = {}
    for name, (span, first, end) in spans.items():
        parameters = {**scope, "from_span": first, "end_span": end}
        fragments = {**ROLLUPS[Aggregation.UNIQUE_COUNT].fragments, "span": span}
        query = Query("items_added_spans", parameters, fragments)
        text, bound = query.to_sql()
        explained = Statement("plan", bound, text=f"EXPLAIN {text[text.index('SELECT') :]}")
        read = [row[0].split() for row in bench.service.clickhouse.rows(explained) if "ReadFrom" in row[0]]
        found[name] = ([read[0][-1], *bench.service.clickhouse.rows(query)[0]], [f"(items_by_{name})", "users", 5, 0])
    bench.note(case, events, **found)


async def emptied_rollups(bench: Bench) -> None:
    for code, kind in METRICS.items():
        case = f"emptied {code}"
        events = bench.events(case)
        await bench.accept(events)
        scope = {"organization_id": bench.organization, "code": code}
        bench.service.clickhouse.command(Query("clear_metric", scope, ROLLUPS[kind].fragments))
        broken = bench.counted(case)[code]
        mended = await bench.reconcile()
        bench.note(case, events, broken=(broken != bench.right(events)[code], True), mended=(mended > 0, True))


async def raw_only(bench: Bench) -> None:
    """A crash between the two inserts: some cells lack everything, some a part."""
    first, second = bench.events("raw only", 20), bench.events("raw only", 20, 20)
    late = [
        bench.event("raw only", code, 100 + number, -100_000_000 + number) for code in METRICS for number in range(5)
    ]
    await bench.accept(first)
    bench.insert("events", [*second, *late])
    await bench.reconcile()
    await bench.service.ingest._learn_keys()  # as the start after the crash does
    replay = await bench.service.ingest.accept(second, batch=True)
    await bench.service.ingest.settled()
    bench.note("raw only", [*first, *second, *late], replay=(len(replay), len(second)))


async def counted_twice(bench: Bench) -> None:
    """The second insert was repeated, and once with what was never stored."""
    events = bench.events("counted twice")
    await bench.accept(events)
    bench.insert("rollup_feed", events)
    phantoms = [
        bench.event("counted twice", "peak", 3, value="9999"),
        bench.event("counted twice", "users", 3, value="ghost"),
    ]
    bench.insert("rollup_feed", phantoms)
    await bench.reconcile()
    bench.note("counted twice", events)


async def before_billing(bench: Bench) -> None:
    """What is about to be billed is put right without waiting for the next reconcile."""
    events = bench.events("before billing")
    await bench.accept(events)
    bench.insert("events", bench.events("before billing", 10, 60))
    events += bench.events("before billing", 10, 60)
    billed = await asyncio.to_thread(bench.counted, "before billing", bench.service.billing_meter.usage)
    await bench.reconcile()
    bench.note("before billing", events, billed=(billed, bench.right(events)))


async def compared_once(bench: Bench) -> None:
    """What is billed has been compared once, and is again when more has come or a trip has failed."""
    case, marks = "compared once", []
    events = bench.events(case, 5)
    await bench.accept(events)
    for more in (None, None, bench.events(case, 5, 5), None):
        if more is not None:
            await bench.accept(more)
            events += more
        await asyncio.to_thread(bench.counted, case, bench.service.billing_meter.usage)
        marks.append(bench.service.upkeep._read_mark())
    bench.service.ingest._failures += 1
    await asyncio.to_thread(bench.counted, case, bench.service.billing_meter.usage)
    marks.append(bench.service.upkeep._read_mark())
    compared = [later > earlier for earlier, later in itertools.pairwise(marks)]
    bench.note(case, events, compared=(compared, [False, True, False, True]))


async def journal_only(bench: Bench) -> None:
    """A crash after the answer and before anything has come to the store; and one after a part of it has."""
    events = bench.events("journal only")
    journal = bench.service.journal
    assert journal is not None
    async with bench.service.ingest.quiet():
        journal.append(encode_lines(bench.rows(events)))
        journal.append(b'["cut sho')
        bench.insert("events", events[:50])
        await asyncio.to_thread(journal.restore, bench.service.clickhouse)
        again = await asyncio.to_thread(journal.restore, bench.service.clickhouse)
    await bench.reconcile()
    bench.note("journal only", events, again=(again, 0))


class Away:
    """The store, which does not answer when the tables in `away` are written to."""

    def __init__(self, clickhouse: ClickHouse):
        self._clickhouse = clickhouse
        self.away: set[str] = set()

    def insert_lines(self, table: str, lines: bytes) -> None:
        if table in self.away:
            raise StoreDown("clickhouse")
        self._clickhouse.insert_lines(table, lines)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clickhouse, name)


async def store_away(bench: Bench) -> None:
    """The store does not answer for a while: requests are refused or, once durable, counted as soon as it is back."""
    service = bench.service
    store = Away(service.clickhouse)
    ingest = Ingest(store, service.definitions, service.settings, lambda: iter(()), None)  # type: ignore[arg-type]
    ingest.start()
    events, refused = bench.events("store away", 20), 0
    store.away = {"events"}
    for _ in range(2):
        try:
            await ingest.accept(list(events), batch=True)
        except StoreDown:
            refused += 1
    store.away = set()
    await ingest.accept(list(events), batch=True)
    store.away = {"rollup_feed"}
    durable = bench.events("store away", 20, 20)
    await ingest.accept(list(durable), batch=True)
    wanted = ingest.needs_reconcile.is_set()
    store.away = set()
    await ingest.accept(list(durable), batch=True)
    await bench.reconcile()
    await ingest.accept(bench.events("store away", 10, 40), batch=True)
    await ingest.stop()
    bench.note("store away", bench.events("store away", 50), refused=(refused, 2), wanted=(wanted, True))


async def main(data_dir: Path) -> dict[str, Any]:
    """Every case, one after the other, in one service."""
    listing.MOST_PASSED_OVER = 0  # so that lists are read as long ones are
    settings = replace(Settings(), data_dir=data_dir, reconcile_seconds=3_600)
    service = open_service(settings)
    try:
        with service.postgres.session() as db:
            organization, _ = create_organization(db, name="Broken", now=system_now())
            for code, kind in METRICS.items():
                field = None if code == "calls" else "value"
                sent = {
                    "name": code,
                    "code": code,
                    "aggregation_type": str(kind),
                    "field_name": field,
                    **WEIGHTED.get(kind, {}),
                }
                create_metric(db, organization.id, sent, system_now())
        await service.start()
        # Until what the metrics' events are split by is known to be done, usage is read from the events themselves.
        await asyncio.to_thread(
            wait_for,
            lambda: not pending_readings(service.postgres) and not service.upkeep._unreliable,
            "the metrics of the organization are settled",
        )
        bench = Bench(service, organization.id)
        for case in (
            nothing_broken,
            items_by_span,
            emptied_rollups,
            raw_only,
            counted_twice,
            before_billing,
            compared_once,
            journal_only,
            sent_again_on_the_way,
            told_by_their_keys,
            one_transaction_id,
            two_processes,
            store_away,
        ):
            await case(bench)
        await service.stop()
        return bench.results
    finally:
        service.close()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
