"""Reading current usage over HTTP, beside reads without rollups and in PostgreSQL, in the same run.

    python -m bench.usage                                              two small sizes, in a few minutes
    python -m bench.usage --millions 1 10 50 --data-dir /path/to/keep  large ones; the next run finds them filled

One organization with 4 metrics and a monthly plan that charges for each. Two shapes: in `heavy` 16 subscriptions share all
events, which are all of the month that is read; in `light` each subscription has 100 in a year. The goals: p99 below
25 ms, and at the largest size at most 1.5 times that at the smallest; with up to 300,000 events, about the demo's data,
also p95 below 20 ms and memory of the server below 1 GiB; with up to 50 million below 1.5 GiB; in the heavy shape
de-duplicating at the read takes at least 20 times as long as reading the rollups.

A million events take about 0.6 GB of disk, 0.5 of it the peer's (`--without-peer` leaves it out).
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from app.config import Settings
from app.core.aggregation import Aggregation
from app.logs import configure_logging
from app.metering.usage import measure as measure_usage
from app.metering.windows import Window, floor_ms
from app.service import open_service
from bench import peer, year
from bench.load import (
    METRICS,
    Api,
    drive,
    elsewhere,
    end_well_when_told,
    folder,
    percentile,
    postgres_mib,
    resident_mib,
    until_idle,
    verdict,
)
from bench.year import Account, Statement, Year
from tests.support import running

READS = 1_000
WARM_READS = 50
READ_SECONDS = 60
STORE_READS = 200
LEAST_READS = 5
STORE_SECONDS = 20

GOAL_MS = 25
GOAL_GROWTH = 1.5
GOAL_SMALL_MS = 20
GOAL_RAW = 20
DEMO_EVENTS = 300_000
GOALS_MIB = ((DEMO_EVENTS, 1024), (50_000_000, 1536))
"""Up to how many events which goal counts for the memory."""

HEAVY_SUBSCRIPTIONS = 16
LIGHT_EVENTS = 100
WIDTH = 44

FROM, END = datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
"""The period that contains the organization's time."""

Units = Mapping[str, Decimal]
"""What a subscription's usage comes to, by metric."""

RAW = {
    "count_agg": "SELECT count() FROM (SELECT argMax(value, ingested_at) AS one {of})",
    "sum_agg": "SELECT sum(one) FROM (SELECT argMax(value, ingested_at) AS one {of})",
    "max_agg": "SELECT max(one) FROM (SELECT argMax(value, ingested_at) AS one {of})",
    "unique_count_agg": "SELECT uniqExact(one) FROM (SELECT argMax(item, ingested_at) AS one {of})",
}
"""What each metric takes where events are kept as they come and the last copy of each is looked for at the read."""
OF_WINDOW = """
    FROM events
    WHERE organization_id = {organization_id:UUID} AND external_subscription_id = {external_subscription_id:String}
        AND code = {code:String}
        AND timestamp >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY transaction_id
"""


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long reads took, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Latencies":
        """Of durations in seconds."""
        return Latencies(*(percentile(seconds, share) * 1000 for share in (0.50, 0.95, 0.99)))

    def __str__(self) -> str:
        return f"p50 {self.p50:7.1f}   p95 {self.p95:7.1f}   p99 {self.p99:7.1f} ms"


@dataclass(frozen=True, slots=True)
class Served:
    """What was seen over HTTP. `read` is the subscription that was read alone."""

    read: str
    one: Latencies
    turns: Latencies
    units: Units
    ready_seconds: float
    idle_seconds: float
    server_mib: float
    postgres_mib: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What was seen in the store, without HTTP."""

    rollups: Latencies
    raw: Latencies
    units: Units


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m bench.usage")
    arguments.add_argument("--millions", type=float, nargs="+", default=[0.3, 1])
    arguments.add_argument("--shape", choices=["heavy", "light"], nargs="+", default=["heavy", "light"])
    arguments.add_argument("--data-dir", type=Path, help="where filled stores are kept for the next run")
    arguments.add_argument("--without-peer", action="store_true")
    given = arguments.parse_args()
    end_well_when_told()
    for shape in given.shape:
        seen = {}
        for millions in sorted(given.millions):
            with folder() if given.data_dir is None else nullcontext(given.data_dir.resolve()) as root:
                events = round(millions * 1_000_000)
                place = root / f"{shape}-{millions:g}"
                seen[millions] = measure(place, shape, events, with_peer=not given.without_peer)
        _print_growth(shape, seen)


def measure(root: Path, shape: str, events: int, *, with_peer: bool) -> Served:
    """Everything about one size of one shape, printed as it comes.

    Raises:
        RuntimeError: the ways to read do not agree on a subscription's usage.
    """
    made = Year(events, HEAVY_SUBSCRIPTIONS, FROM) if shape == "heavy" else Year(events, max(events // LIGHT_EVENTS, 1))
    many = random.Random(events).sample(range(made.subscriptions), min(READS, made.subscriptions))
    print(f"\n{shape}: {events:,} events, {made.subscriptions:,} subscriptions", flush=True)
    started = time.perf_counter()
    elsewhere(year.open_account, root)
    elsewhere(year.fill, root, made)
    print(f"  filled in {time.perf_counter() - started:,.0f} s", flush=True)
    served = _read_served(root, many)
    _print_served(served, events, len(many))
    stored = elsewhere(read_stored, root, served.read)
    _print_stored(stored, served, shape)
    _check_same("without rollups", stored.units, served.units)
    if with_peer:
        with peer.postgres(root / "peer") as uri:
            started = time.perf_counter()
            elsewhere(peer.fill, uri, made)
            print(f"  peer filled in {time.perf_counter() - started:,.0f} s", flush=True)
            of_first, seconds = elsewhere(peer.read, uri, [served.read] * READS, FROM, END)
            turns = [f"sub_{many[turn % len(many)]}" for turn in range(READS)]
            in_turn = elsewhere(peer.read, uri, turns, FROM, END)[1]
        _print_peer(Latencies.of(seconds), Latencies.of(in_turn), served)
        _check_same("in PostgreSQL", of_first, served.units)
    return served


def _read_served(root: Path, many: Sequence[int]) -> Served:
    started = time.perf_counter()
    with running(root / "data") as server:
        ready = time.perf_counter() - started
        until_idle(server.pid)
        idle = time.perf_counter() - started
        api = Api(server.port, Account.of(root).key, server.pid, server.data_dir)
        elsewhere(read, api, many[:1], WARM_READS)
        one = elsewhere(read, api, many[:1], READS)
        turns = elsewhere(read, api, many, READS)
        usage = api.call("GET", _path(many[0]))["customer_usage"]
        units = {of["billable_metric"]["code"]: Decimal(of["units"]) for of in usage["charges_usage"]}
        return Served(
            read=f"sub_{many[0]}",
            one=one,
            turns=turns,
            units=units,
            ready_seconds=ready,
            idle_seconds=idle,
            server_mib=resident_mib(server.pid),
            postgres_mib=postgres_mib(server.data_dir),
        )


def read(api: Api, subscriptions: Sequence[int], count: int) -> Latencies:
    """Read the current usage of subscriptions in turn, so many times, over one connection.

    Raises:
        RuntimeError: a read was refused.
    """
    requests = [api.request("GET", _path(subscriptions[turn % len(subscriptions)])) for turn in range(count)]
    load = drive(api.port, requests, 1, READ_SECONDS)
    if load.refused:
        raise RuntimeError(f"{load.refused} reads were refused")
    return Latencies.of(load.latencies)


def _path(number: int) -> str:
    return f"/api/v1/customers/customer_{number}/current_usage?external_subscription_id=sub_{number}"


def read_stored(root: Path, subscription: str) -> Stored:
    """Read the usage of one subscription from the store, without HTTP and PostgreSQL: from the rollups, and without."""
    organization_id = Account.of(root).organization_id
    configure_logging("error")
    service = open_service(Settings(data_dir=root / "data"))
    windows = [
        Window(organization_id, subscription, code, Aggregation(kind), floor_ms(FROM), floor_ms(END))
        for code, kind, _ in METRICS
    ]
    queries = [
        Statement(
            "raw",
            {
                "organization_id": one.organization_id,
                "external_subscription_id": one.external_subscription_id,
                "code": one.code,
                "from_ms": one.from_ms,
                "end_ms": one.end_ms,
            },
            text=RAW[one.aggregation].format(of=OF_WINDOW),
        )
        for one in windows
    ]
    try:
        with ThreadPoolExecutor(len(queries)) as threads:
            rollups = _timed(lambda: measure_usage(service.clickhouse, windows))
            raw = _timed(lambda: list(threads.map(service.clickhouse.rows, queries)))
            found = threads.map(service.clickhouse.rows, queries)
            units = {one.code: Decimal(rows[0][0]) for one, rows in zip(windows, found, strict=True)}
    finally:
        service.close()
    return Stored(rollups=rollups, raw=raw, units=units)


def _timed(work: Callable[[], object]) -> Latencies:
    """How long something takes that is done again and again."""
    seconds: list[float] = []
    work()
    until = time.perf_counter() + STORE_SECONDS
    while len(seconds) < STORE_READS and (len(seconds) < LEAST_READS or time.perf_counter() < until):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return Latencies.of(seconds)


def _check_same(what: str, found: Units, served: Units) -> None:
    if {code: Decimal(units) for code, units in found.items()} != dict(served):
        raise RuntimeError(f"the usage {what} is {found}, over HTTP {served}")


def _print_served(served: Served, events: int, subscriptions: int) -> None:
    print("  current usage over HTTP, one read after the other")
    for what, one in (("one subscription", served.one), (f"{subscriptions:,} subscriptions in turn", served.turns)):
        print(f"    {what:<{WIDTH}}{one}   goal p99 < {GOAL_MS} ms: {verdict(one.p99 < GOAL_MS)}", end="")
        small = f", p95 < {GOAL_SMALL_MS} ms: {verdict(one.p95 < GOAL_SMALL_MS)}"
        print(small if events <= DEMO_EVENTS else "")
    goals = [f"   goal < {goal} MiB: {verdict(served.server_mib < goal)}" for most, goal in GOALS_MIB if events <= most]
    print(
        f"  memory: server {served.server_mib:,.0f} MiB{goals[0] if goals else ''}; its PostgreSQL "
        f"{served.postgres_mib:,.0f} MiB, shared pages counted in each process"
    )
    print(
        f"  after its start the server answered in {served.ready_seconds:.0f} s and was idle in {served.idle_seconds:.0f} s"
    )


def _print_stored(stored: Stored, served: Served, shape: str) -> None:
    print("  the same in the store alone")
    _print_other("limit: from the rollups", stored.rollups, served.one)
    times = stored.raw.p50 / stored.rollups.p50
    goal = f"   goal {GOAL_RAW}: {verdict(times >= GOAL_RAW)}" if shape == "heavy" else ""
    print(
        f"    {'without rollups, de-duplicated at the read':<{WIDTH}}{stored.raw}   {times:.1f} times the rollups'{goal}",
        end="",
    )
    print(f", {stored.raw.p50 / served.one.p50:.1f} times ours over HTTP")


def _print_peer(one: Latencies, turns: Latencies, served: Served) -> None:
    print("  the peer: a table in PostgreSQL with an index that covers the read, without HTTP")
    _print_other("one subscription", one, served.one)
    _print_other("in turn", turns, served.turns)


def _print_other(what: str, other: Latencies, ours: Latencies) -> None:
    print(f"    {what:<{WIDTH}}{other}   {other.p50 / ours.p50:.2f} times ours over HTTP", flush=True)


def _print_growth(shape: str, seen: Mapping[float, Served]) -> None:
    if len(seen) < 2:
        return
    small, large = min(seen), max(seen)
    for what in ("one", "turns"):
        growth = getattr(seen[large], what).p99 / getattr(seen[small], what).p99
        met = verdict(growth <= GOAL_GROWTH)
        name = "one subscription" if what == "one" else "in turn"
        times = f"p99 at {large:g} million is {growth:.2f} times that at {small:g}"
        print(f"\n{shape}, {name}: {times}   goal {GOAL_GROWTH}: {met}")


if __name__ == "__main__":
    main()
