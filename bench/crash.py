"""A server that is killed again and again while it works; after each restart everything must be right.

    python -m bench.crash --rounds 200      about half an hour
    python -m bench.crash --rounds 20 --kinds splitting --seed 7

A round makes a new organization, lets four clients send random events, and ends the server with SIGKILL: while it takes
events in, while it recovers from such a kill, while it reads the events of new metrics, or while it splits stored usage
by more keys. After the restart everything is sent again that got no answer, and some of what did. Then every event must
be there, and there once; usage must be what a naive computation says, in total or in each group; and the rollups must
hold as many events as the raw table in every hour. If anything is wrong the run ends with 1 and keeps the data directory.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import httpx

from app.clock import system_now
from app.logs import configure_logging
from app.metering.parity import count_differences
from app.stores.clickhouse import open_clickhouse
from bench.load import elsewhere, end_well_when_told
from bench.year import Statement
from tests.crashing import EXPRESSIONS, FIELDS, METRICS, REGIONS, SUBSCRIPTIONS, Senders, key_of, model, send
from tests.factories import (
    Json,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    set_clock,
    standard,
    units_of,
    usage_of,
)
from tests.support import Server, seeded, wait_for

PATIENCE_SECONDS = 10.0
PENDING_SECONDS = 60.0
LOOK_SECONDS = 0.0005
LATEST_SECONDS = 0.008
SENT_AGAIN = 5
PLAN = "plan"

RECOVERY = (
    "events_by_key",
    "insert events",
    "duplicates",
    "missing_keys",
    "missing_arrivals",
    "compare_since",
    "rebuild",
)
READING = ("metric_events", "drop_unread", "unread_events", "compare_metric", "rebuild")
SPLITTING = ("redimension", "clear_metric", "metric_hours", "compare_metric", "rebuild")
"""The queries that a piece of work consists of: the server logs each when it has ended."""
COUNTED = ("events", "keys of events", "key rows", "arrivals", "unread")
COUNTS = """
    SELECT
        (SELECT count() FROM events),
        (SELECT uniqExact(organization_id, external_subscription_id, transaction_id) FROM events),
        (SELECT count() FROM (SELECT DISTINCT * EXCEPT told FROM event_keys)),
        (SELECT count() FROM event_arrivals),
        (SELECT countIf(aggregation = '') FROM events)
"""
RECOVERED = "keys_since"
"""The first query after a recovery."""


class Log:
    """What a server logs from now on."""

    def __init__(self, path: Path):
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0
        self.mended = 0

    def queries(self) -> list[str]:
        """The queries that have ended since the last call. Counts the cells that were mended, too."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        found = []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            entry = json.loads(line) if line.startswith(b"{") else {}
            if entry.get("event") == "reconcile.mended":
                self.mended += entry["cells"]
            elif entry.get("event") == "clickhouse.query":
                found.append(entry["query"])
        return found


@dataclass
class Round:
    """One organization, whose events are sent until the server is killed. `hit`: that was in the midst of the work."""

    server: Server
    api: httpx.Client
    senders: Senders
    chance: random.Random
    log: Log
    hit: bool = False

    def wait_for_events(self) -> None:
        """Let a random number of requests be answered."""
        least = self.chance.randint(5, 60)
        wait_for(lambda: len(self.senders.acknowledged) >= least or self.senders.refused, "acknowledged requests")

    def kill_during(self, work: Collection[str], most: int, end: str = "") -> None:
        """Kill the server when a random number of the work's queries has ended, or `end` has."""
        number, seen = self.chance.randint(0, most), 0
        until = time.monotonic() + PATIENCE_SECONDS
        over = False
        while seen < number and not over and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            for query in self.log.queries():
                seen += query in work
                over |= query == end
        time.sleep(self.chance.uniform(0, LATEST_SECONDS))
        self.hit = seen >= number
        self.server.kill()

    def make_metrics(self) -> list[Json]:
        """The metrics that there are not yet; gives all."""
        metrics = []
        for code, kind in METRICS.items():
            found = self.api.get(f"/api/v1/billable_metrics/{code}")
            metrics.append(
                found.json()["billable_metric"]
                if found.status_code == 200
                else make_metric(self.api, code, kind, FIELDS.get(code), expression=EXPRESSIONS.get(code))
            )
        return metrics

    def make_plan(self, **properties: object) -> None:
        """The plan, if there is none yet."""
        if self.api.get(f"/api/v1/plans/{PLAN}").status_code == 200:
            return
        charges = [{**standard(metric), "properties": {"amount": "1", **properties}} for metric in self.make_metrics()]
        make_plan(self.api, PLAN, charges=charges)


def ingest(of: Round) -> None:
    """Events are taken in."""
    of.make_metrics()
    of.senders.start()
    of.wait_for_events()
    of.server.kill()
    of.hit = True


def recovery(of: Round) -> None:
    """The start after a kill puts right what that has left."""
    ingest(of)
    of.senders.join()
    of.log.queries()
    of.server.launch()
    of.kill_during(RECOVERY, 8, RECOVERED)


def reading(of: Round) -> None:
    """Metrics are made after their events, which are then read."""
    of.senders.start()
    of.wait_for_events()
    with background(of.make_metrics):
        of.kill_during(READING, 14)


def splitting(of: Round) -> None:
    """A plan groups usage by a property, by which what is stored is then split."""
    of.make_metrics()
    of.senders.start()
    of.wait_for_events()
    with background(lambda: of.make_plan(**GROUPED)):
        of.kill_during(SPLITTING, 30)


KINDS: Mapping[str, Callable[[Round], None]] = {one.__name__: one for one in (ingest, recovery, reading, splitting)}
GROUPED = {"pricing_group_keys": ["region"]}


@contextmanager
def background(work: Callable[[], object]) -> Iterator[None]:
    """Let something be done meanwhile, which the server's end may interrupt."""
    with ThreadPoolExecutor(1) as threads:
        doing = threads.submit(work)
        yield
        with suppress(httpx.TransportError):
            doing.result()


@dataclass(slots=True)
class Tally:
    """What the rounds of one kind have seen."""

    rounds: int = 0
    hits: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    mended: int = 0


def play(server: Server, kind: str, seed: int, tally: Tally) -> int:
    """One round; gives the number of its events.

    Raises:
        AssertionError: something is not as it must be.
    """
    server.start()
    with server.organization(kind, sandbox=True) as api:
        set_clock(api, "2024-05-01T00:00:00Z")
        key = api.headers["Authorization"].removeprefix("Bearer ")
        of = Round(server, api, Senders(server.base_url, key, seed), seeded(seed), Log(server.errors))
        KINDS[kind](of)
        of.senders.join()
        server.start()
        sent = [one for request in (*of.senders.acknowledged, *of.senders.lost) for one in request]
        settle(of, kind)
        expected, used = (model_by_region(sent), units_by_region) if kind == "splitting" else (model(sent), units_of)
        check(api, sent, expected, used)
        if kind in {"reading", "splitting"}:
            wait_for(lambda: nothing_pending(server), "the end of what was interrupted", PENDING_SECONDS)
            check(api, sent, expected, used)
    server.stop()
    of.log.queries()
    tally.rounds += 1
    tally.hits += of.hit
    tally.acknowledged += len(of.senders.acknowledged)
    tally.unanswered += len(of.senders.lost)
    tally.mended += of.log.mended
    return len(sent)


def settle(of: Round, kind: str) -> None:
    """Make what the kill has left unmade, and send again: all that got no answer, and some of what did."""
    of.make_plan(**(GROUPED if kind == "splitting" else {}))
    make_customer(of.api)
    for subscription in SUBSCRIPTIONS:
        make_subscription(of.api, subscription, PLAN)
    answered = of.senders.acknowledged
    for request in (*of.senders.lost, *of.chance.sample(answered, min(SENT_AGAIN, len(answered)))):
        ok(send(of.api, request))


def check(api: httpx.Client, sent: Sequence[Json], expected: Mapping[str, object], used: Callable[..., object]) -> None:
    """Every event is there once, and usage is what it must be."""
    total = ok(api.get("/api/v1/events", params={"per_page": 1}))["meta"]["total_count"]
    must_be("the number of events", total, len({key_of(one) for one in sent}))
    for subscription, units in expected.items():
        must_be(f"usage of {subscription}", used(api, subscription), units)


def model_by_region(sent: Sequence[Json]) -> dict[str, dict[tuple[str, str], Decimal]]:
    """As `units_by_region`, by subscription."""
    regions = {region: model(one for one in sent if one["properties"]["region"] == region) for region in REGIONS}
    return {
        subscription: {
            (code, region): units
            for region, used in regions.items()
            for code, units in used[subscription].items()
            if units
        }
        for subscription in SUBSCRIPTIONS
    }


def units_by_region(api: httpx.Client, subscription: str) -> dict[tuple[str, str], Decimal]:
    """The units of each metric and group that are not 0."""
    return {
        (charge["billable_metric"]["code"], group["grouped_by"]["region"]): Decimal(group["units"])
        for charge in usage_of(api, subscription)["charges_usage"]
        for group in charge["grouped_usage"]
        if Decimal(group["units"])
    }


def nothing_pending(server: Server) -> bool:
    """Whether all metrics' events have been read as the metrics are now."""
    with server.client() as admin:
        findings = ok(admin.get("/admin/doctor"))["doctor"]["findings"]
    return all(one["status"] == "ok" for one in findings if one["subject"] == "back-fills")


def look_into(data_dir: Path) -> dict[str, object]:
    """What the store of a server that is stopped holds, by what must be equal in it."""
    configure_logging("error")
    store = open_clickhouse("", data_dir, 1)
    try:
        differences = count_differences(store, system_now() + timedelta(days=1))
        counted = store.rows(Statement("counts", text=COUNTS))[0]
    finally:
        store.close()
    return {"differences": differences, **dict(zip(COUNTED, counted, strict=True))}


def must_be(what: str, found: object, expected: object) -> None:
    """Raises:
    AssertionError: it is not.
    """
    if found != expected:
        raise AssertionError(f"{what} is {found}, and must be {expected}")


def main() -> None:
    """Kill, look, and print."""
    arguments = argparse.ArgumentParser(prog="python -m bench.crash")
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--kinds", choices=list(KINDS), nargs="+", default=list(KINDS))
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    end_well_when_told()
    root = Path(tempfile.mkdtemp(prefix="meterhouse-crash-"))
    server = Server(root / "data", log_level="debug")
    tallies = {kind: Tally() for kind in given.kinds}
    started = time.monotonic()
    total = 0
    try:
        for number in range(given.rounds):
            kind = given.kinds[number % len(given.kinds)]
            total += play(server, kind, given.seed * 10_000 + number, tallies[kind])
            must_be(
                "the store",
                elsewhere(look_into, server.data_dir),
                {"differences": {}, **dict.fromkeys(COUNTED, total), "unread": 0},
            )
            print(f"\r{number + 1} of {given.rounds} rounds, {time.monotonic() - started:,.0f} s ", end="", flush=True)
    except AssertionError as error:
        sys.exit(f"\nround {number + 1} ({kind}): {error}\nWhat is left of it is in {root}")
    finally:
        server.clean_up()
    shutil.rmtree(root, ignore_errors=True)
    print(f"\n\n{total:,} events; none was lost, none counted twice, and the rollups hold what the raw table does")
    for kind, one in tallies.items():
        print(
            f"  {kind:<10}{one.rounds:>4} kills, {one.hits} of them in the midst of it; {one.acknowledged:,} requests "
            f"acknowledged, {one.unanswered:,} unanswered; {one.mended:,} cells mended"
        )


if __name__ == "__main__":
    main()
