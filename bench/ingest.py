"""Ingest over HTTP, beside its two limits in the same run: the store without HTTP, and HTTP without the store.

    python -m bench.ingest

The goals: batches reach 0.4 of what the same rows reach when they are inserted straight into the same tables; single
events reach 0.4 of what a bare handler of the same server reaches that reads the body and answers a constant.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import litestar
import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response

from app.clock import system_now
from app.config import Settings
from app.core.aggregation import Aggregation
from app.metering.events import EventBatchBody, MetricDefinition, enriched, read_batch
from app.metering.ingest import encode_lines
from app.running import configure_logging
from app.stores.clickhouse import open_clickhouse
from bench.load import (
    HOST,
    METRICS,
    Api,
    Load,
    drive,
    elsewhere,
    encode,
    event,
    folder,
    free_port,
    meterhouse,
    process,
    set_up,
)

GOAL = 0.4
BATCH = 1_000
BATCHES = 160
BATCH_CONNECTIONS = 4
STREAMS = (1, 4)
SINGLES = 30_000
SINGLE_CONNECTIONS = 16
SECONDS = 8.0
STRAIGHT_BLOCKS = (1_000, 20_000)

AnyRequest = Request[Any, Any, Any]


def main() -> None:
    """Measure and print."""
    now = int(time.time())
    with meterhouse() as api:
        set_up(api, datetime.fromtimestamp(now, UTC) - timedelta(days=1))
        elsewhere(run_batches, api, "warm", now, 20)
        elsewhere(run_singles, api, "warm1", now, 2_000)
        batches, readable = elsewhere(run_batches, api, "batch", now, BATCHES)
        streams = {number: elsewhere(run_streams, api, f"lines{number}", now, number) for number in STREAMS}
        singles, singles_readable = elsewhere(run_singles, api, "single", now, SINGLES)
    straight = {size: elsewhere(insert_straight, size, now) for size in STRAIGHT_BLOCKS}
    port = free_port()
    with process([sys.executable, "-m", "bench.ingest", "bare", str(port)], port):
        bare = Api(port, "none")
        elsewhere(run_batches, bare, "warm", now, 20)
        bare_batches, _ = elsewhere(run_batches, bare, "bare", now, BATCHES)
        bare_singles, _ = elsewhere(run_singles, bare, "bare", now, SINGLES)

    refused = 0
    ours = batches.answered * BATCH / readable
    ours_single = singles.answered / singles_readable
    print(f"\nBatches of {BATCH:,} over {BATCH_CONNECTIONS} connections, {batches.answered * BATCH:,} events")
    _print("answered", batches.answered * BATCH / batches.seconds)
    _print("until readable in the rollups (our figure)", ours)
    for size, (stored, rolled_up) in straight.items():
        _print(f"limit: straight into events, then rollup_feed, {size:,} a block", rolled_up, ours, GOAL)
        _print(f"       straight into events only, {size:,} a block", stored, ours)
    _print("       bare handler, the same bodies", bare_batches.answered * BATCH / bare_batches.seconds, ours)
    print(f"\nNewline-delimited JSON, {BATCHES * BATCH:,} events; ratio: batches to it")
    for number, (load, until_readable) in streams.items():
        refused += load.refused
        _print(f"{number} streams at a time, until readable", BATCHES * BATCH / until_readable, ours)
    print(f"\nSingle events over {SINGLE_CONNECTIONS} connections, {singles.answered:,} events")
    _print("answered", singles.answered / singles.seconds)
    _print("until readable in the rollups (our figure)", ours_single)
    _print("limit: bare handler, the same bodies", bare_singles.answered / bare_singles.seconds, ours_single, GOAL)
    refused += batches.refused + singles.refused
    if refused:
        sys.exit(f"{refused} requests were refused")


def _print(what: str, rate: float, ours: float | None = None, goal: float | None = None) -> None:
    ratio = "" if ours is None else f"   ratio {ours / rate:5.2f}"
    verdict = "" if ours is None or goal is None else f"   goal {goal}: {'met' if ours / rate >= goal else 'MISSED'}"
    print(f"  {what:<62}{rate:>10,.0f} events/s{ratio}{verdict}")


def run_batches(api: Api, prefix: str, now: int, count: int) -> tuple[Load, float]:
    """Send batches; what was seen, and the seconds until everything answered could be read."""
    requests = [
        api.request("POST", "/api/v1/events/batch", encode({"events": events}))
        for events in _blocks(prefix, now, count * BATCH, BATCH)
    ]
    return _run(api, requests, BATCH_CONNECTIONS)


def run_streams(api: Api, prefix: str, now: int, count: int) -> tuple[Load, float]:
    """Send the events of all batches as so many streams at a time; as `run_batches`."""
    lines = [b"".join(map(_line, events)) for events in _blocks(prefix, now, BATCHES * BATCH, BATCHES * BATCH // count)]
    kind = "application/x-ndjson"
    return _run(api, [api.request("POST", "/api/v1/events/batch", body, kind) for body in lines], count)


def _line(one: dict[str, object]) -> bytes:
    return encode(one) + b"\n"


def run_singles(api: Api, prefix: str, now: int, count: int) -> tuple[Load, float]:
    """Send single events; what was seen, and the seconds until everything answered could be read."""
    requests = [
        api.request("POST", "/api/v1/events", encode({"event": event(number, prefix, now - number % 3600)}))
        for number in range(count)
    ]
    return _run(api, requests, SINGLE_CONNECTIONS)


def _run(api: Api, requests: Sequence[bytes], connections: int) -> tuple[Load, float]:
    load = drive(api.port, requests, connections, SECONDS)
    started = time.perf_counter()
    if api.key != "none":
        api.call("GET", "/api/v1/customers/customer_0/current_usage?external_subscription_id=sub_0")
    return load, load.seconds + time.perf_counter() - started


def _blocks(prefix: str, now: int, count: int, size: int) -> Iterator[list[dict[str, object]]]:
    for first in range(0, count, size):
        yield [event(number, prefix, now - number % 3600) for number in range(first, min(first + size, count))]


def insert_straight(size: int, now: int) -> tuple[float, float]:
    """Events a second into `events` alone, and into `events` and then `rollup_feed`, without HTTP or any check."""
    metrics = {code: MetricDefinition(Aggregation(aggregation), field) for code, aggregation, field in METRICS}
    organization_id, received_at = str(uuid4()), system_now()
    ingested_at = received_at.strftime("%Y-%m-%d %H:%M:%S.%f")
    decode = msgspec.json.Decoder(EventBatchBody).decode
    blocks = []
    count = BATCHES * BATCH
    for sent in _blocks("straight", now, count, size):
        given = decode(encode({"events": sent})).events
        events, _ = read_batch(given, size, organization_id, received_at, received_at)
        blocks.append(encode_lines([enriched(one, metrics[one.code], ingested_at) for one in events.values()]))
    settings = Settings()
    configure_logging(settings.log_level)
    with folder() as root:
        store = open_clickhouse("", root, settings.clickhouse_handles)
        store.migrate()
        for table in ("events", "rollup_feed"):
            store.insert_lines(table, blocks[0])
        seconds = {"events": 0.0, "rollup_feed": 0.0}
        for lines in blocks:
            for table in seconds:
                started = time.perf_counter()
                store.insert_lines(table, lines)
                seconds[table] += time.perf_counter() - started
        store.close()
    return count / seconds["events"], count / sum(seconds.values())


@litestar.post(["/api/v1/events", "/api/v1/events/batch"], status_code=200)
async def take(request: AnyRequest) -> Response[bytes]:
    """Read the body and answer a constant."""
    await request.body()
    return Response(b'{"event":{"lago_id":"00000000-0000-0000-0000-000000000000"}}', media_type="application/json")


async def serve_bare(port: int) -> None:
    """The same server as ours, around a handler that does nothing."""
    application = Litestar([take], logging_config=None, openapi_config=None, request_max_body_size=8 * 1024 * 1024)
    server = Server(application, address=HOST, port=port, interface=Interfaces.ASGI, log_enabled=False, backlog=1024)
    await server.serve()


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_bare(int(sys.argv[2])))
    else:
        main()
