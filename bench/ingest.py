"""Ingest over HTTP, beside its limits and its peer in the same run.

    python -m bench.ingest                  about twenty-five minutes
    python -m bench.ingest --keys 10        with a smaller filter of keys, in millions; 0 leaves it out

The limits are the store without HTTP and HTTP without the store; the peer is a table in PostgreSQL with a unique key. The
goals: batches reach 0.6 of what the same rows reach when they are inserted straight into the same tables, in blocks of
the best size; 20 % of duplicates cost less than 15 %; batches reach 1.5 times what PostgreSQL takes without HTTP; single
events reach 0.4 of what a bare handler of the same server reaches that reads the body and answers a constant; the filter
that knows 100 million keys takes less than 300 MB.
"""

import argparse
import asyncio
import gc
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import mean, median
from typing import Any
from uuid import uuid4

import litestar
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response

from app.metering.keys import Key, KeyFilter
from bench import peer
from bench.load import (
    HOST,
    SUBSCRIPTIONS,
    Api,
    Load,
    blocks,
    drive,
    elsewhere,
    encode,
    end_well_when_told,
    event,
    folder,
    meterhouse,
    process,
    resident_mib,
    set_up,
    verdict,
)
from bench.straight import Straight
from tests.support import free_port

GOAL_STRAIGHT = 0.6
GOAL_SINGLE = 0.4
GOAL_PEER = 1.5
GOAL_COST = 0.15
GOAL_FILTER_MB = 300
BATCH = 1_000
BATCHES = 400
SUSTAINED = 2_500
"""So many that large blocks have to be merged too: until then they are written faster than they can be for long."""
BATCH_CONNECTIONS = 4
ROUNDS = 5
REPEATED_ROUNDS = 3
REPEATED_EACH = 5
REPEATED_SOON = 20_000
STREAMS = (1, 4)
SINGLES = 30_000
SINGLE_CONNECTIONS = 16
SECONDS = 120.0
PEER_EVENTS = 400_000
KEYS_PART = 100_000
UNSEEN = 1_000_000
WIDTH = 65

AnyRequest = Request[Any, Any, Any]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m bench.ingest")
    arguments.add_argument("--keys", type=float, default=100, help="how many million keys the filter is given")
    keys = round(arguments.parse_args().keys * 1_000_000)
    end_well_when_told()
    now = int(time.time())
    ours, straight, rival = Ours(), Straight(now, SUSTAINED * BATCH), Rival(now)
    for _ in range(ROUNDS):  # in turns, for a machine is not always as fast
        with _started(now) as api:
            ours.fresh.append(Runs())
            ours.fresh[-1].add(*elsewhere(run_batches, api, "fresh", now, SUSTAINED))
        straight.insert("lines")
        rival.insert()
    straight.insert("named")
    straight.insert("stored")
    _measure_others(ours, now)
    bare_batches, bare_singles = _measure_bare(now)
    _print_batches(ours, straight, rival, bare_batches)
    _print_repeated(ours)
    print(f"\nSingle events over {SINGLE_CONNECTIONS} connections, {ours.singles.requests:,} events")
    _print("answered", ours.singles.answered)
    _print("until readable in the rollups (our figure)", ours.singles.readable)
    _print("limit: bare handler, the same bodies", bare_singles.answered, ours.singles.readable, GOAL_SINGLE)
    if keys:
        _print_filter(elsewhere(fill_filter, keys), keys)
    if ours.refused:
        sys.exit(f"{ours.refused} requests were refused")


@dataclass(slots=True)
class Runs:
    """Runs of the same load, taken together. Rates are in requests a second."""

    requests: int = 0
    refused: int = 0
    seconds: float = 0.0
    readable_seconds: float = 0.0

    def add(self, load: Load, readable_seconds: float) -> None:
        """Take one more in, and the seconds until all of it could be read."""
        self.requests += load.answered
        self.refused += load.refused
        self.seconds += load.seconds
        self.readable_seconds += readable_seconds

    @property
    def answered(self) -> float:
        """Until the last answer."""
        return self.requests / self.seconds

    @property
    def readable(self) -> float:
        """Until everything answered could be read in the usage."""
        return self.requests / self.readable_seconds


@dataclass(slots=True)
class Ours:
    """What was seen of the service: `fresh`, turn by turn, of one that takes nothing else, as the limits and the peer do.

    In `soon`, `later` and `late` some events are duplicates: of those sent shortly before, of the run before, and of what
    was stored before all that; `between` are runs without any that took turns with them.
    """

    fresh: list[Runs] = field(default_factory=list)
    between: Runs = field(default_factory=Runs)
    soon: Runs = field(default_factory=Runs)
    later: Runs = field(default_factory=Runs)
    late: Runs = field(default_factory=Runs)
    singles: Runs = field(default_factory=Runs)
    streams: dict[int, Runs] = field(default_factory=lambda: {number: Runs() for number in STREAMS})

    @property
    def refused(self) -> int:
        """Requests that were not answered with success."""
        return sum(
            one.refused
            for one in (
                *self.fresh,
                self.between,
                self.soon,
                self.later,
                self.late,
                self.singles,
                *self.streams.values(),
            )
        )


class Rival:
    """The same events in PostgreSQL, in the way that suits it best among those that wait for the disk, as we do."""

    def __init__(self, now: int):
        self._now = now
        self.tried = {
            way: self._rate(way)
            for way in (peer.Way(size, waits) for waits in (True, False) for size in peer.INSERT_SIZES)
        }
        self.best = max((way for way in self.tried if way.waits_for_disk), key=lambda way: self.tried[way])
        self.turns: list[float] = []

    def insert(self) -> None:
        """Do it once more."""
        self.turns.append(self._rate(self.best))

    def _rate(self, way: peer.Way) -> float:
        with folder() as root, peer.postgres(root) as uri:
            return elsewhere(peer.insert, uri, way, PEER_EVENTS, self._now)


def _measure_others(ours: Ours, now: int) -> None:
    with _started(now) as api:
        for turn in range(REPEATED_ROUNDS):
            ours.between.add(*elsewhere(run_batches, api, f"fresh{turn}", now, BATCHES))
            ours.soon.add(*elsewhere(run_batches, api, f"soon{turn}", now, BATCHES, f"soon{turn}"))
            ours.later.add(*elsewhere(run_batches, api, f"later{turn}", now, BATCHES, f"fresh{turn}"))
        ours.late.add(*elsewhere(run_batches, api, "late", now, BATCHES, "fresh0"))
        for number, runs in ours.streams.items():
            runs.add(*elsewhere(run_streams, api, f"lines{number}", now, number))
        ours.singles.add(*elsewhere(run_singles, api, "single", now, SINGLES))


@contextmanager
def _started(now: int) -> Iterator[Api]:
    """A fresh server that has done a little of everything."""
    with meterhouse() as api:
        set_up(api, datetime.fromtimestamp(now, UTC) - timedelta(days=1))
        elsewhere(run_batches, api, "warm", now, 20)
        elsewhere(run_singles, api, "warm1", now, 2_000)
        yield api


def _measure_bare(now: int) -> tuple[Runs, Runs]:
    batches, singles = Runs(), Runs()
    port = free_port()
    with process([sys.executable, "-m", "bench.ingest", "bare", str(port)], port):
        bare = Api(port, "none")
        elsewhere(run_batches, bare, "warm", now, 20)
        batches.add(*elsewhere(run_batches, bare, "bare", now, BATCHES))
        singles.add(*elsewhere(run_singles, bare, "bare", now, SINGLES))
    return batches, singles


def _print_batches(ours: Ours, straight: Straight, rival: Rival, bare: Runs) -> None:
    turns = [one.readable * BATCH for one in ours.fresh]
    rate = mean(turns)
    sent = sum(one.requests for one in ours.fresh) * BATCH
    print(f"\nBatches of {BATCH:,} over {BATCH_CONNECTIONS} connections, {sent:,} events in {len(turns)} turns")
    _print("answered", mean(one.answered for one in ours.fresh) * BATCH)
    _print("until readable in the rollups (our figure)", rate)
    for size, tried in straight.tried.items():
        _print(f"       straight into the same tables, {size:,} a block, tried once", tried, rate)
    best = f"limit: the same, {straight.best:,} a block, in turns with ours"
    _print_turns(best, turns, straight.turns["lines"], GOAL_STRAIGHT)
    _print("       the same as JSON objects, once", straight.turns["named"][0], rate)
    _print("       straight into events only, once", straight.turns["stored"][0], rate)
    _print("       bare handler, the same bodies", bare.answered * BATCH, rate)
    for way, tried in rival.tried.items():
        waits = "" if way.waits_for_disk else " that does not wait for the disk"
        _print(f"       PostgreSQL{waits}, {way.size:,} rows, tried once", tried, rate)
    _print_turns(f"peer:  PostgreSQL, {rival.best.size:,} rows, in turns with ours", turns, rival.turns, GOAL_PEER)


def _print_turns(what: str, ours: Sequence[float], others: Sequence[float], goal: float) -> None:
    """The median of the turns' ratios stands for all: a machine may be slow for one of the two."""
    ratios = [mine / other for mine, other in zip(ours, others, strict=True)]
    print(f"  {what:<{WIDTH}}{mean(others):>10,.0f} events/s   ratio {median(ratios):5.2f}", end="")
    print(f"   goal {goal}: {verdict(median(ratios) >= goal)} ({min(ratios):.2f} to {max(ratios):.2f})")


def _print_repeated(ours: Ours) -> None:
    for what, runs in (
        (f"the {REPEATED_SOON:,} before it", ours.soon),
        ("the million before it", ours.later),
        ("those before the last 2 million", ours.late),
    ):
        cost = 1 - runs.readable / ours.between.readable
        found = f"{runs.readable * BATCH:>10,.0f} events/s   costs {cost:.1%}"
        print(f"  {f'one in {REPEATED_EACH} a duplicate of one of {what}':<{WIDTH}}{found}", end="")
        print(f"   goal < {GOAL_COST:.0%}: ", end="")
        print(verdict(cost < GOAL_COST))
    rate = ours.between.readable * BATCH
    print(f"\nThe same as newline-delimited JSON, {BATCHES * BATCH:,} events")
    for number, runs in ours.streams.items():
        streamed = runs.readable * BATCHES * BATCH / number
        _print(f"{number} streams at a time, until readable; ratio: batches to it", streamed, rate)


def _print(what: str, rate: float, ours: float | None = None, goal: float | None = None) -> None:
    ratio = "" if ours is None else f"   ratio {ours / rate:5.2f}"
    judged = "" if ours is None or goal is None else f"   goal {goal}: {verdict(ours / rate >= goal)}"
    print(f"  {what:<{WIDTH}}{rate:>10,.0f} events/s{ratio}{judged}")


def fill_filter(count: int) -> tuple[float, float, float, float]:
    """What a filter that has been given so many keys takes of memory in MB, keys it takes in and answers a second, and the
    share of unseen keys that it takes for known."""
    organization_id = str(uuid4())
    before = resident_mib(os.getpid())
    known = KeyFilter()
    seconds = 0.0
    for first in range(0, count, KEYS_PART):
        part = _keys(organization_id, "seen", first, min(first + KEYS_PART, count))
        started = time.perf_counter()
        known.add(part)
        seconds += time.perf_counter() - started
        if known.perhaps_known(part) != set(part):
            raise RuntimeError("a key that was added is not known")
    del part
    gc.collect()
    memory = (resident_mib(os.getpid()) - before) * 2**20 / 1e6
    unseen = _keys(organization_id, "unseen", 0, UNSEEN)
    started = time.perf_counter()
    mistaken = len(known.perhaps_known(unseen))
    return memory, count / seconds, UNSEEN / (time.perf_counter() - started), mistaken / UNSEEN


def _keys(organization_id: str, prefix: str, first: int, end: int) -> list[Key]:
    return [(organization_id, f"sub_{number % SUBSCRIPTIONS}", f"{prefix}-{number}") for number in range(first, end)]


def _print_filter(measured: tuple[float, float, float, float], count: int) -> None:
    memory, added, answered, mistaken = measured
    print(f"\nThe filter of known keys, {count:,} keys in a process of its own")
    goal = f"   goal < {GOAL_FILTER_MB} MB at 100 million: {verdict(memory < GOAL_FILTER_MB)}"
    print(f"  {memory:,.0f} MB{goal if count >= 100_000_000 else ''}")
    print(f"  takes in {added:,.0f} keys/s, answers {answered:,.0f}/s; {mistaken:.2%} of unseen keys are looked up")


def run_batches(api: Api, prefix: str, now: int, count: int, repeated: str | None = None) -> tuple[Load, float]:
    """Send batches; what was seen, and the seconds until everything answered could be read.

    With `repeated` some of the events are ones that the run with that prefix has sent: anywhere in it, or if it is this
    run itself shortly before.
    """
    chance = random.Random(prefix)
    requests = []
    for block, events in enumerate(blocks(prefix, now, count * BATCH, BATCH)):
        sent = block * BATCH if repeated == prefix else count * BATCH
        first = sent - min(REPEATED_SOON, sent) if repeated == prefix else 0
        for position in range(0, len(events) if repeated is not None and sent else 0, REPEATED_EACH):
            number = chance.randrange(first, sent)
            number += number % REPEATED_EACH == 0  # those are duplicates themselves
            events[position] = event(number, repeated or prefix, now - number % 3600)
        requests.append(api.request("POST", "/api/v1/events/batch", encode({"events": events})))
    return _run(api, requests, BATCH_CONNECTIONS)


def run_streams(api: Api, prefix: str, now: int, count: int) -> tuple[Load, float]:
    """Send the events of all batches as so many streams at a time; as `run_batches`."""
    lines = [b"".join(map(_line, events)) for events in blocks(prefix, now, BATCHES * BATCH, BATCHES * BATCH // count)]
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
