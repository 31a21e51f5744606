"""Cases of `broken_rollups`: events that are sent again are told from new ones, whatever has become of the first."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any
from unittest import mock

from app.clock import system_now
from app.core.values import replace
from app.errors import Invalid
from app.metering.events import Event, Receipt
from app.metering.ingest import Ingest
from app.metering.stored import find_event
from app.stores.clickhouse import Query
from bench.load import counted
from tests.stores.broken_bench import HOUR, METRICS, Bench


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

    with mock.patch.object(ingest, "_run", run_slowly):
        await bench.accept([*stored, *on_the_way])
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
    with mock.patch.object(ingest._remembering, "_at_once", 1):
        await bench.accept(list(events))
    async with ingest.quiet():
        pass  # what memory is to have of them has been read

    async def again(sent: list[Event]) -> list[Event]:
        async with ingest.quiet():
            forget()
        return await ingest.accept([replace(one, receipt=Receipt(system_now())) for one in sent], batch=True)

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
        first=(bench.came(events), came),
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
        Receipt(system_now()),
    )
