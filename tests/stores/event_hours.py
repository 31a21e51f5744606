"""Runs the hourly checks and the counts of problems on events of chosen hours, and prints what they find.

Run as `python -m tests.stores.event_hours DATA_DIR`: the embedded engine allows one data directory in a process. The
answer is a JSON object: for each case what was found, and what should have been.
"""

import copy
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

from sqlalchemy import select

from app.catalog.plans import create_plan
from app.config import Settings
from app.customers.organizations import create_organization, find_organization
from app.customers.subscriptions import create_subscription
from app.metering import event_errors, problems
from app.metering.ingest import encode_lines
from app.metering.problems import Reason, Scope, count_problems, list_problems
from app.metering.rows import EventRow
from app.models import EventCheck
from app.service import Service, open_service
from app.stores.clickhouse import Query

DAY = datetime(2024, 6, 10, tzinfo=UTC)


class Bench:
    """Two live organizations and a sandbox of a service that takes no events."""

    def __init__(self, service: Service):
        self.service = service
        self.results: dict[str, Any] = {}
        with service.postgres.session() as db:
            made = [create_organization(db, name="X", sandbox=sandbox, now=DAY)[0].id for sandbox in (0, 0, 1)]
        self.one, self.two, self.sandbox = made

    def ingest(
        self, organization: UUID, at: datetime, *names: str, subscription: str = "sub", code: str = "none"
    ) -> None:
        """Events ingested at an instant; none has a metric."""
        instant = at.strftime("%Y-%m-%d %H:%M:%S.%f")
        rows = [
            EventRow(
                str(organization), subscription, code, name, instant[:23], int(at.timestamp()) // 3600, {}, None, "", "0",
                "", "add", {}, instant,
            )
            for name in names
        ]  # fmt: skip
        self.service.clickhouse.insert_lines("events", encode_lines(rows))

    def run(self, at: datetime) -> int:
        return self.service.event_checks.run_live(at)

    def noted(self) -> list[list[Any]]:
        """Every check there is: whose, of what hour of the day, and what it found."""
        names = {self.one: "one", self.two: "two", self.sandbox: "sandbox"}
        with self.service.postgres.session() as db:
            rows = list(db.scalars(select(EventCheck).order_by(EventCheck.hour)))
        found = [
            [names[row.organization_id], (row.hour - DAY) / event_errors.HOUR, row.errors["invalid_code"]]
            for row in rows
        ]
        return sorted(found, key=lambda row: (row[1], row[0]))

    def note(self, case: str, got: Any, wanted: Any) -> None:
        self.results[case] = copy.deepcopy([got, wanted])


def hours(bench: Bench) -> None:
    def at(hour: float) -> datetime:
        return DAY + timedelta(hours=hour)

    bench.ingest(bench.one, at(10.5), "long before")
    bench.ingest(bench.one, at(12) - timedelta(microseconds=1), "b", "a")
    bench.ingest(bench.one, at(12), "next")
    bench.ingest(bench.two, at(11), "c")
    bench.ingest(bench.sandbox, at(11.5), "on its own clock")
    early = bench.run(at(12) + timedelta(minutes=1))
    first = [["one", 10, ["long before"]]]
    bench.note("an hour must have settled", [early, bench.noted()], [1, first])
    found = bench.run(at(12.1))
    first += [["one", 11, ["a", "b"]], ["two", 11, ["c"]]]
    bench.note("the previous hour", [found, bench.noted()], [2, first])
    bench.note("the same hour again", [bench.run(at(12.1)), bench.run(at(12.9)), bench.noted()], [0, 0, first])

    with mock.patch.object(event_errors, "payload", side_effect=RuntimeError):
        try:
            bench.run(at(13.1))
        except RuntimeError:
            failed = bench.noted()
    bench.note("a run that fails notes nothing", [failed, bench.run(at(13.1))], [first, 1])
    first.append(["one", 12, ["next"]])

    bench.ingest(bench.two, at(13.2), "d")
    with ThreadPoolExecutor(4) as threads:
        runs = list(threads.map(bench.run, [at(14.1)] * 4))
    first.append(["two", 13, ["d"]])
    bench.note("four processes at once", [sum(runs), bench.noted()], [1, first])

    for hour in (15.1, 15.9, 40, 90.5):
        bench.ingest(bench.one, at(hour), f"late {hour}")
    found = bench.run(at(100))
    first += [["one", 15, ["late 15.1", "late 15.9"]], ["one", 40, ["late 40"]], ["one", 90, ["late 90.5"]]]
    bench.note("after a long stop", [found, bench.noted()], [3, first])

    bench.run(at(24 * 30 + 14.05))
    bench.note("a check is kept for thirty days", bench.noted(), first[-4:])


def stretches(bench: Bench) -> None:
    with bench.service.postgres.session() as db:
        organization = find_organization(db, str(bench.two))
        plan = {
            "name": "p",
            "code": "p",
            "interval": "monthly",
            "amount_cents": 0,
            "amount_currency": "EUR",
            "pay_in_advance": False,
        }
        create_plan(db, bench.two, plan, DAY)
        for name in ("", "A", "a", "aa", "b", "É", "é", "日本", "z z", "~"):
            if name:
                sent = {"external_id": name, "external_customer_id": "c", "plan_code": "p", "subscription_at": DAY}
                create_subscription(db, organization, sent, DAY, bench.service.billing_meter)
    names = ["", "0", "A", "AA", "a", "ab", "b", "É", "Éa", "é", "日本", "日本1", "z", "z z", "~", "~~", "\U0010ffff"]
    for number, name in enumerate(names):
        bench.ingest(bench.two, DAY + timedelta(days=50), f"in {number}", subscription=name, code=f"s{number % 3}")
        bench.ingest(bench.two, DAY - timedelta(days=50), f"before {number}", subscription=name, code=f"s{number % 3}")
    scope = Scope(bench.two, DAY - timedelta(days=60), None)

    def all_of_it(size: int) -> list[Any]:
        with mock.patch.object(problems, "STRETCH", size), bench.service.postgres.session() as db:
            counts = count_problems(db, bench.service.clickhouse, scope)
            pages = []
            for offset in range(0, 24, 5):
                page, total = list_problems(db, bench.service.clickhouse, scope, Reason.UNKNOWN_SUBSCRIPTION, 5, offset)
                pages.append([[one.key[2] for one in page], total])
        return [{reason.value: dict(by_code) for reason, by_code in counts.items()}, pages]

    whole = all_of_it(5_000)
    unknown = {"", "0", "AA", "ab", "Éa", "日本1", "z", "~~", "\U0010ffff"}
    sizes = {reason: sum(by_code.values()) for reason, by_code in whole[0].items() if by_code}
    others = 1  # the events that were sent to check hours
    known = len(names) - len(unknown)
    wanted = {
        "unknown_code": 2 * len(names) + others + 1,
        "unknown_subscription": 2 * len(unknown) + others + 1,
        "before_start": known,
    }
    bench.note("every event is in one stretch", sizes, wanted)
    for size in (1, 2, 3, 9):
        bench.note(f"stretches of {size}", all_of_it(size), whole)


def migrations(bench: Bench) -> None:
    """A migration that was interrupted is run again from its beginning."""
    store = bench.service.clickhouse

    def applied() -> list[str]:
        return sorted(row[0] for row in store.rows(Query("migrations_applied")))

    names = applied()
    with store._run("forget migrations") as client:
        client.command("TRUNCATE TABLE migrations")
    store.migrate()
    bench.note("every migration may be run again", applied(), names)


def main() -> None:
    service = open_service(Settings(data_dir=Path(sys.argv[1]), log_level="error"))
    try:
        bench = Bench(service)
        hours(bench)
        stretches(bench)
        migrations(bench)
        sys.stdout.write(json.dumps(bench.results))
    finally:
        service.close()


main()
