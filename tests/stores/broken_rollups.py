"""Breaks a service's event store in the ways crashes and racing processes do, puts it right, and prints what it counts.

Run as `python -m tests.stores.broken_rollups DATA_DIR`: the embedded engine allows one data directory in a process. The
answer is a JSON object: for each case what was counted, and what should have been.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

from app.catalog.metrics import create_metric
from app.clock import system_now
from app.config import Settings
from app.core.aggregation import Aggregation, Sample, WeighedSpan, aggregate
from app.core.values import replace
from app.customers.organizations import create_organization
from app.errors import Invalid, StoreDown
from app.metering import listing
from app.metering.events import Event, MetricDefinition
from app.metering.ingest import Ingest, encode_lines
from app.metering.listing import EventFilter, list_events
from app.metering.rereading import pending_readings
from app.metering.rollups import DAYS, MONTHS, ROLLUPS
from app.metering.rows import EventRow, enriched
from app.metering.stored import find_event
from app.metering.usage import NOTHING
from app.metering.windows import floor_ms, window
from app.service import Service, open_service
from app.stores.clickhouse import ClickHouse, Query
from bench.load import counted
from bench.year import Statement
from tests.support import wait_for

METRICS = {
    "calls": Aggregation.COUNT, "bytes": Aggregation.SUM, "peak": Aggregation.MAX, "users": Aggregation.UNIQUE_COUNT,
    "level": Aggregation.LATEST, "disk": Aggregation.WEIGHTED_SUM,
}  # fmt: skip
FROM, TO = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, 23, 59, 59, 999_000, tzinfo=UTC)
WEIGHTED = {Aggregation.WEIGHTED_SUM: {"weighted_interval": "seconds"}}
SPAN = WeighedSpan.of(floor_ms(FROM), floor_ms(TO) + 1, 31)
NOON = 1_715_342_400_000
HOUR = 3_600_000

Counted = dict[str, list[str | int]]


class Bench:
    """One organization of a running service; each case has a subscription of its own."""

    def __init__(self, service: Service, organization: UUID):
        self.service = service
        self.organization = organization
        self.results: dict[str, Any] = {}

    def event(self, case: str, code: str, number: int, shift: int = 0, **properties: str) -> Event:
        """An event whose values come from its number."""
        given = {"value": f"{number % 7}.5" if code != "users" else f"user{number % 5}", **properties}
        if code == "users" and number % 3 == 0:
            given.setdefault("operation_type", "remove")
        key = (str(self.organization), case, f"{code}-{number}")
        at = NOON + number * 1_000_000 + shift
        return Event(key, code, at, True, given, given, None, system_now())

    def events(self, case: str, count: int = 40, start: int = 0) -> list[Event]:
        return [self.event(case, code, number) for code in METRICS for number in range(start, start + count)]

    def rows(self, events: Sequence[Event]) -> list[EventRow]:
        now = system_now().strftime("%Y-%m-%d %H:%M:%S.%f")
        metrics = {
            (str(self.organization), code): MetricDefinition(aggregation, None if code == "calls" else "value")
            for code, aggregation in METRICS.items()
        }
        return enriched(events, metrics, now)

    def insert(self, table: str, events: Sequence[Event]) -> None:
        """Write events to one table only, past ingest."""
        self.service.clickhouse.insert_lines(table, encode_lines(self.rows(events)))

    async def accept(self, events: list[Event]) -> None:
        await self.service.ingest.accept(events, batch=True)
        await self.service.ingest.settled()

    def counted(self, case: str, measure: Callable[..., Any] | None = None) -> Counted:
        """What the service makes of a case's events."""
        windows = [
            window(self.organization, case, code, kind, FROM, TO, period_days=31) for code, kind in METRICS.items()
        ]
        units = (measure or self.service.meter.usage)(windows)
        return {
            code: [format(one.units.normalize(), "f"), one.events_count]
            for code, buckets in zip(METRICS, units, strict=True)
            for one in [buckets.get((), NOTHING)]
        }

    async def reconcile(self) -> int:
        """Put right what is wrong, as a start after a crash does."""
        self.service.upkeep._compared = None
        return await self.service.upkeep.reconcile()

    @staticmethod
    def right(events: Sequence[Event]) -> Counted:
        """What they should come to."""
        answer: Counted = {}
        for code, kind in METRICS.items():
            samples = [
                Sample(
                    one.timestamp_ms,
                    one.key[2],
                    Decimal(0) if code == "users" else Decimal(one.properties["value"]),
                    one.properties["value"],
                    one.properties.get("operation_type", "add"),
                )
                for one in events
                if one.code == code
            ]
            units = aggregate(kind, samples, SPAN)
            answer[code] = [format(units.units.normalize(), "f"), units.events_count]
        return answer

    def stored(self, case: str) -> int:
        """How many events of a case there are."""
        wanted = EventFilter(self.organization, case)
        return list_events(self.service.clickhouse, wanted, limit=1, offset=0)[1]

    def listed(self, case: str) -> int:
        """How many events of a case a list in the order of arrival gives, page by page."""
        wanted, seen = EventFilter(self.organization, case), set()
        for offset in range(0, 500, 100):
            page, _ = list_events(self.service.clickhouse, wanted, limit=100, offset=offset)
            seen |= {(one.key, one.received_at) for one in page}
        return len(seen)

    @staticmethod
    def came(events: Sequence[Event]) -> list[str]:
        """When these events came."""
        return [str(one.received_at) for one in events]

    def note(self, case: str, events: Sequence[Event], **more: Any) -> None:
        """Keep what was counted beside what should have been."""
        got, wanted = (
            {"usage": self.counted(case), "stored": self.stored(case), "listed": self.listed(case)},
            {"usage": self.right(events), "stored": len(events), "listed": len(events)},
        )
        for name, (seen, expected) in more.items():
            got[name], wanted[name] = seen, expected
        self.results[case] = [got, wanted]


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


async def sent_again_on_the_way(bench: Bench) -> None:
    """Events leave the memory of what is on its way while a replay of theirs waits for others to be looked up."""
    case, ingest = "on the way", bench.service.ingest
    stored, on_the_way = bench.events(case, 5), bench.events(case, 5, start=5)
    await bench.accept(stored)
    await ingest.accept(list(on_the_way), batch=True)
    run = ingest._run

    async def run_slowly(function: Callable[..., Any], *arguments: object) -> Any:
        found = await run(function, *arguments)
        if function == ingest._seen.look_up:
            await ingest.settled()
        return found

    ingest._run = run_slowly  # type: ignore[method-assign]
    try:
        await bench.accept([*stored, *on_the_way])
    finally:
        del ingest._run  # type: ignore[method-assign]
    bench.note(case, [*stored, *on_the_way])


async def told_by_their_keys(bench: Bench) -> None:
    """Events that are sent again when they are not remembered whole are told by the key table, or what memory has of it,
    whatever their texts are, and only where that leaves no telling by what is stored; others are refused."""
    case, ingest = "told by keys", bench.service.ingest
    odd = {"quotes": "'\"`", "path": "C:\\dir\\", "emoji": "\N{PARTY POPPER}", "empty": "", "line": "a\nb\tc"}
    plain = [bench.event(case, "bytes", number, **dict(list(odd.items())[:number])) for number in range(len(odd) + 1)]
    priced = [
        replace(bench.event(case, "bytes", 10 + number), precise_total_amount_cents=Decimal(text))
        for number, text in enumerate(("0", "1.50", "-3", "0.000000000000000001"))
    ]
    untold = [bench.event(case, "bytes", 20, nul="a\0b")]
    events = [*plain, *priced, *untold]
    with mock.patch("app.metering.ingest.REMEMBERED_AT_ONCE", 1):
        await bench.accept(list(events))

    async def again(sent: list[Event]) -> list[Event]:
        async with ingest.quiet():
            forget()
        return await ingest.accept([replace(one, received_at=system_now()) for one in sent], batch=True)

    async def refused() -> int:
        count = 0
        for other in (
            replace(plain[1], properties={**plain[1].properties, "quotes": "'"}),
            replace(plain[2], code="peak"),
            replace(priced[1], precise_total_amount_cents=None),
            replace(plain[3], timestamp_ms=plain[3].timestamp_ms + 1),
        ):
            try:
                await again([other])
            except Invalid:
                count += 1
        return count

    forget: Callable[[], None] = partial(ingest._seen.forget, ingest.rolled_up, 0)
    with counted(bench.service) as asked_memory:
        remembered = bench.came(await again([*plain, *priced]))
    refusals = [await refused()]
    forget = ingest.forget_stored
    with counted(bench.service) as asked_for_told:
        told = bench.came(await again([*plain, *priced]))
    with counted(bench.service) as asked_for_untold:
        looked_at = bench.came(await again(untold))
    refusals.append(await refused())
    stored = [find_event(bench.service.clickhouse, bench.organization, one.key[2]) for one in events]
    came = bench.came([one for one in stored if one is not None])
    bench.note(
        case,
        events,
        told=([told, asked_for_told], [came[:-1], {"stored_keys": 1}]),
        looked_at=([looked_at, asked_for_untold], [came[-1:], {"stored_keys": 1, "events_by_key": 1}]),
        remembered=([remembered, asked_memory], [came[:-1], {}]),
        refused=(refusals, [4, 4]),
    )


async def one_transaction_id(bench: Bench) -> None:
    """Many subscriptions have events with one transaction id: what one of them sends again is told without the others."""
    case, ingest = "one id", bench.service.ingest
    events = [
        replace(bench.event(case, "bytes", number), key=(str(bench.organization), f"{case} {number}", "the same"))
        for number in range(500)
    ]
    await bench.accept(list(events))
    clickhouse, rows, answers = bench.service.clickhouse, list[int](), list[Any]()
    table = clickhouse.table

    def ask(query: Query) -> Any:
        found = table(query)
        rows.append(found.num_rows)
        return found

    for some in (events[:5], events[-1:], [replace(events[7], code="peak")]):
        async with ingest.quiet():
            ingest.forget_stored()
        with mock.patch.object(clickhouse, "table", ask):
            try:
                answers.append(bench.came(await ingest.accept(some, batch=True)))
            except Invalid as error:
                answers.append(error.details)
    stored = find_event(clickhouse, bench.organization, "the same")  # all of them came at once
    came = bench.came([stored] if stored else [])
    refused = {"0": {"transaction_id": ["value_already_exist"]}}
    bench.note(
        case,
        [],
        answers=(answers, [came * 5, came, refused]),
        rows=(rows, [5 + 1, 1 + 1, 1]),
    )


async def two_processes(bench: Bench) -> None:
    """Two processes accept the same keys within milliseconds: once the same events, once other ones."""
    service = bench.service
    second = Ingest(service.clickhouse, service.definitions, service.settings, lambda: iter(()), None)
    second.start()
    same, case = bench.events("same twice"), "other twice"
    first = [bench.event(case, code, number) for code in METRICS for number in range(10)]
    others = [replace_properties(bench.event(case, code, number), "70") for code in METRICS for number in range(10)]
    moved = [bench.event("moved twice", code, number) for code in METRICS for number in range(10)]
    elsewhere = [bench.event("moved twice", code, number, 400 * HOUR) for code in METRICS for number in range(10)]
    for mine, theirs in ((same, same), (first, others), (moved, elsewhere)):
        await bench.accept(list(mine))
        await second.accept(list(theirs), batch=True)
        await second.settled()
    doubled = bench.stored("same twice")
    await second.stop()
    await bench.reconcile()
    bench.note("same twice", same, doubled=(doubled, 2 * len(same)))
    bench.note(case, first)
    service.upkeep._compared = None  # as where others write
    billed = await asyncio.to_thread(bench.counted, "moved twice", service.billing_meter.usage)
    bench.note("moved twice", moved, billed=(billed, bench.right(moved)))


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


def replace_properties(event: Event, value: str) -> Event:
    """The same key with another value, a little later in the same hour."""
    return Event(
        event.key,
        event.code,
        event.timestamp_ms,
        True,
        {"value": value},
        {"value": value},
        None,
        system_now(),
    )


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
