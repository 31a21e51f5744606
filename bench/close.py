"""Closing a month of very many subscriptions, beside its limit: a bare COPY of the same invoice and fee rows.

    python -m bench.close
    python -m bench.close --subscriptions 20000 --events 1200000 --data-dir /path/to/keep

Every customer has a subscription with a fee and 5 usage charges, all of which were used in December, out of a year of
events written past HTTP. Closed are the periods that end with the year, by the very function that the scheduler calls,
chunk by chunk. Beside it a sample is closed one customer at a time. The goal: no more than 4 times the bare COPY, in
memory that does not grow with the number of subscriptions.
"""

import argparse
import resource
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.billing.claims import due_customers
from app.billing.close import close_all, close_chunk
from app.config import Settings
from app.logs import configure_logging
from app.models import Organization
from app.running import calm_garbage_collection
from app.service import Service, open_service
from bench.load import Api, counted, elsewhere, end_well_when_told, folder, verdict
from bench.year import Account, Year, fill, open_account
from tests.support import running

SUBSCRIPTIONS = 100_000
EVENTS = 6_000_000
SAMPLE = 300
BOUNDARY = datetime(2025, 1, 1, tzinfo=UTC)
GOAL = 4
TABLES = ("invoices", "billing_periods", "fees", "fee_taxes", "invoice_taxes", "credits")
TIERS = [
    {"from_value": 0, "to_value": 500, "per_unit_amount": "0.002", "flat_amount": "0"},
    {"from_value": 501, "to_value": None, "per_unit_amount": "0.0015", "flat_amount": "1"},
]


def main() -> None:
    """Fill, close and print."""
    end_well_when_told()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--subscriptions", type=int, default=SUBSCRIPTIONS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    with nullcontext(given.data_dir) if given.data_dir else folder() as root:
        open_account(root)
        elsewhere(add_charge, root)
        elsewhere(fill, root, Year(given.events, given.subscriptions))
        elsewhere(measure, root)


def add_charge(root: Path) -> None:
    """A fifth charge: the bytes again, in tiers."""
    with running(root / "data") as server:
        api = Api(server.port, Account.of(root).key)
        charges = api.call("GET", "/api/v1/plans/bench")["plan"]["charges"]
        if len(charges) < 5:
            metric = next(one for one in charges if one["billable_metric_code"] == "bytes")["lago_billable_metric_id"]
            charge = {"billable_metric_id": metric, "charge_model": "graduated", "code": "tiers"}
            api.call(
                "POST", "/api/v1/plans/bench/charges", {"charge": {**charge, "properties": {"graduated_ranges": TIERS}}}
            )


def measure(root: Path) -> None:
    """Close the sample and then the rest, copy the same rows, and print."""
    configure_logging("error")
    calm_garbage_collection()  # as a server does
    service = open_service(Settings(data_dir=root / "data"))
    try:
        scope = Organization.id == Account.of(root).organization_id
        with service.postgres.session() as db:
            subscriptions = len(db.scalars(due_customers(scope, BOUNDARY)).all())
        if not subscriptions:
            raise SystemExit("everything is closed already: remove the data directory")
        singly = close(service, scope, 1, SAMPLE)
        each = singly / min(SAMPLE, subscriptions)
        chunk = service.settings.close_chunk
        close(service, scope, chunk, chunk)  # to warm up
        left = subscriptions - SAMPLE - chunk
        before = rows(service)
        peaks: list[float] = []
        with counted(service) as queries:
            began = time.perf_counter()
            close_all(
                service.postgres, scope, BOUNDARY, BOUNDARY, chunk, service.billing_meter,
                lambda _: peaks.append(peak_mib()),
            )  # fmt: skip
            seconds = time.perf_counter() - began
        made = {table: count - before[table] for table, count in rows(service).items()}
        bare = copy(service, made)
    finally:
        service.close()
    print(f"The close of {left:,} subscriptions in chunks of {chunk:,}, on 2 cores with both engines")
    print("  rows       " + ", ".join(f"{count:,} {table}" for table, count in made.items() if count))
    print(f"  closed     {seconds:6.2f} s, {left / seconds:,.0f} subscriptions/s")
    print(f"  limit      {bare:6.2f} s for a bare COPY of these rows; ratio {seconds / bare:.2f}")
    print(f"  goal       <= {GOAL}: {verdict(seconds <= GOAL * bare)}")
    print(f"  one by one {each * 1000:6.1f} ms each ({SAMPLE} of them); {each * left / seconds:.1f} times as long")
    print(f"  memory     {peaks[-1]:.0f} MiB at most, {peaks[0]:.0f} MiB after the first chunk")
    chunks = -(-left // chunk)
    print(f"  ClickHouse {sum(queries.values())} queries in {chunks} chunks: {dict(queries)}")


def close(service: Service, scope: Any, size: int, count: int) -> float:
    """Close so many customers, chunk after chunk; returns the seconds that took."""
    began, done = time.perf_counter(), 0
    while done < count:
        with service.postgres.session() as db:
            closed = close_chunk(db, scope, BOUNDARY, BOUNDARY, min(size, count - done), service.billing_meter)
        if not closed.customers:
            break
        done += len(closed.customers)
    return time.perf_counter() - began


def rows(service: Service) -> dict[str, int]:
    """How many rows of an invoice's tables there are."""
    with service.postgres.session() as db:
        return {table: db.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in TABLES}


def copy(service: Service, made: dict[str, int]) -> float:
    """Write as many of the rows just made once more, into tables with the same columns and indexes, from memory; returns
    the seconds that took."""
    seconds = 0.0
    for table, count in made.items():
        with service.postgres.session() as db:
            db.execute(text(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)"))
        with service.postgres.session() as db:
            cursor = db.connection().connection.cursor()
            with cursor.copy(f"COPY (SELECT * FROM {table} LIMIT {count}) TO STDOUT") as read:
                data = [bytes(part) for part in read]
        began = time.perf_counter()
        with service.postgres.session() as db:
            cursor = db.connection().connection.cursor()
            with cursor.copy(f"COPY bare_{table} FROM STDIN") as write:
                for part in data:
                    write.write(part)
        seconds += time.perf_counter() - began
        with service.postgres.session() as db:
            db.execute(text(f"DROP TABLE bare_{table}"))
    return seconds


def peak_mib() -> float:
    """The most memory that this process, with the embedded ClickHouse, has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
