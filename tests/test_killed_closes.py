"""A close of thousands of subscriptions that is killed again and again: what is left is done, and nothing done twice."""

import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.clock import system_now
from tests.closing import FIRST, FIXED, KINDS, WEEK, Bill, Key, World
from tests.factories import ok
from tests.support import METERHOUSE, Server, environment, seeded, wait_for

EACH = 225
"""Customers of each kind."""
CHUNK = 150
MOST_OF_A_CHUNK = 2 * CHUNK
"""Invoices: there are customers with two at a boundary."""
LOOKS = 300
"""How often at the most it is looked once more before a close is killed: about as long as a chunk takes."""
PATIENCE_SECONDS = 120.0
DEATHS = ("alone", "beside", "with the database", "beside")
"""How the closes are killed: a command without a server; a server whose scheduler closes, and that was asked to close as
well; a command together with its PostgreSQL."""


class Database:
    """The embedded PostgreSQL of a data directory, also while no process of Meterhouse runs."""

    def __init__(self, data_dir: Path):
        self._pid_file = data_dir / "postgres" / "postmaster.pid"

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own."""
        socket = self._pid_file.read_text().splitlines()[4]
        engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={socket}", poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    def rows(self, query: str, **parameters: object) -> Sequence[Any]:
        """What a query finds."""
        with self.connection() as connection:
            return connection.execute(text(query), parameters).all()

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.rows("SELECT 1"))
        except (OSError, IndexError, OperationalError):
            return False

    def is_left_alone(self) -> bool:
        """Whether all that somebody who is gone had begun has come to its end."""
        others = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        return not self.rows(others)

    def kill(self) -> None:
        """End all of its processes with SIGKILL."""
        first = psutil.Process(int(self._pid_file.read_text().split()[0]))
        every = [first, *first.children(recursive=True)]
        for process in every:
            with suppress(psutil.NoSuchProcess):  # some come and go
                process.kill()
        psutil.wait_procs(every)


def count(connection: Connection) -> int:
    """How many invoices there are."""
    return int(connection.execute(text("SELECT count(*) FROM invoices")).scalar_one())


def kill_a_close(server: Server, database: Database, death: str, least: int, looks: int) -> int:
    """Begin to close, and be killed when there are so many invoices and it has been looked so often again; returns how many
    there were then."""
    with server.errors.open("ab") as errors:
        if death == "beside":
            server.start()
            ask(server)
        else:
            command = [METERHOUSE, "bill", "--data-dir", str(server.data_dir), "--port", str(server.port)]
            alone = subprocess.Popen(command, env=environment(close_chunk=CHUNK), stdout=errors, stderr=errors)
        try:
            wait_for(database.is_up, "a start of PostgreSQL", PATIENCE_SECONDS)
            with database.connection() as connection:
                wait_for(lambda: count(connection) >= least, f"the invoice number {least}", PATIENCE_SECONDS)
                for _ in range(looks):
                    found = count(connection)
        finally:
            if death == "beside":
                server.kill()
            else:
                alone.kill()
                alone.wait()
    if death == "with the database":
        database.kill()
        return found
    wait_for(database.is_left_alone, "the end of what was begun")
    with database.connection() as connection:
        return count(connection)


def ask(server: Server) -> None:
    """Have a server bill what is due."""
    with server.client() as admin:
        ok(admin.post("/admin/billing_runs", json={"billing_run": {}}))


def is_done(database: Database, since: datetime) -> bool:
    """Whether nothing is due, and every run since an instant has been noted with all that it did."""
    [(due, made, noted)] = database.rows(
        "SELECT (SELECT count(*) FROM subscriptions WHERE next_billing_at <= now()),"
        " (SELECT count(*) FROM invoices WHERE created_at >= :since),"
        " (SELECT sum(invoices) FROM billing_runs WHERE started_at >= :since AND finished_at IS NOT NULL)",
        since=since,
    )
    return not due and made == noted


def check_periods(world: World, database: Database) -> None:
    """Every subscription has been billed once at each boundary, and goes on with the next one."""
    rows = database.rows(
        "SELECT external_id, billed_at, invoicing_reason FROM billing_periods"
        " JOIN subscriptions ON subscriptions.id = subscription_id"
    )
    wanted = {(one, at, "subscription_periodic"): 1 for one in world.subscriptions for at in world.boundaries}
    assert Counter(map(tuple, rows)) == wanted
    following = database.rows("SELECT DISTINCT next_billing_at FROM subscriptions")
    assert [at for (at,) in following] == [world.boundaries[-1] + WEEK]


def billed(database: Database) -> dict[Key, Bill]:
    """What was billed."""
    lines, fees, coupons = defaultdict(list), defaultdict(list), defaultdict(list)
    for invoice, at, subscription in database.rows(
        "SELECT invoice_id, billed_at, external_id FROM billing_periods"
        " JOIN subscriptions ON subscriptions.id = subscription_id"
    ):
        lines[invoice].append((at, subscription))
    for invoice, *fee in database.rows(
        "SELECT invoice_id, external_id, item_code, amount_cents FROM fees"
        " JOIN subscriptions ON subscriptions.id = subscription_id WHERE amount_cents <> 0"
    ):
        fees[invoice].append(tuple(fee))
    for invoice, *credit in database.rows(
        "SELECT invoice_id, code, credits.amount_cents FROM credits"
        " JOIN applied_coupons ON applied_coupons.id = applied_coupon_id JOIN coupons ON coupons.id = coupon_id"
    ):
        coupons[invoice].append(tuple(credit))
    found: dict[Key, Bill] = {}
    for invoice, customer, status, *amounts in database.rows(
        "SELECT invoices.id, external_id, status, taxes_amount_cents, prepaid_credit_amount_cents, total_amount_cents"
        " FROM invoices JOIN customers ON customers.id = customer_id"
    ):
        [boundary] = {at for at, _ in lines[invoice]}
        key = customer, boundary, tuple(sorted(subscription for _, subscription in lines[invoice]))
        assert status == "finalized"
        assert key not in found
        found[key] = Bill(tuple(sorted(fees[invoice])), tuple(sorted(coupons[invoice])), *amounts)
    return found


def check_numbers(database: Database) -> None:
    """Numbers are without gap and repeat, of each customer and of the entity that counts for all, and in the order of
    time."""
    entities = defaultdict(list)
    customers = defaultdict(list)
    for entity, customer, slug, number, text_, boundary in database.rows(
        "SELECT code, external_id, customers.sequential_id, invoices.sequential_id, number, min(billed_at)"
        " FROM invoices JOIN customers ON customers.id = customer_id"
        " JOIN billing_entities ON billing_entities.id = invoices.billing_entity_id"
        " JOIN billing_periods ON invoice_id = invoices.id GROUP BY invoices.id, customers.id, billing_entities.id"
    ):
        customers[customer].append((number, boundary))
        counted = re.fullmatch(r".*-(\d{6}|\d{3,})-(\d{3,})", text_)
        assert counted
        entities[entity].append(int(counted[2]))
        if entity == "default":
            assert (int(counted[1]), int(counted[2])) == (slug, number)
    for found in customers.values():
        assert [number for number, _ in sorted(found)] == list(range(1, len(found) + 1))
        assert [at for _, at in sorted(found)] == sorted(at for _, at in found)
    assert sorted(entities["branch"]) == list(range(1, len(entities["branch"]) + 1))
    counters = database.rows("SELECT code, last_invoice_number FROM billing_entities")
    assert {code: last for code, last in counters if last} == {"branch": len(entities["branch"])}


def check_credits(database: Database, bills: dict[Key, Bill]) -> None:
    """What invoices took of wallets and coupons has gone from these, once."""
    spent: dict[str, list[int]] = defaultdict(list)
    taken: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (customer, _, _), bill in bills.items():
        if bill.prepaid_cents:
            spent[customer].append(bill.prepaid_cents)
        for code, cents in bill.coupons:
            taken[customer, code].append(cents)
    wallets = database.rows(
        "SELECT external_id, balance_cents, consumed_credits * 100,"
        " (SELECT sum(remaining_amount_cents) FROM wallet_transactions WHERE wallet_id = wallets.id),"
        " (SELECT array_agg(amount_cents) FROM wallet_transactions"
        "  WHERE wallet_id = wallets.id AND transaction_status = 'invoiced'),"
        " (SELECT sum(wallet_consumptions.amount_cents) FROM wallet_consumptions"
        "  JOIN wallet_transactions ON wallet_transactions.id = inbound_id WHERE wallet_id = wallets.id)"
        " FROM wallets JOIN customers ON customers.id = customer_id"
    )
    assert len(wallets) == EACH * sum(bool(kind.wallet_cents) for kind in KINDS.values())
    for customer, balance, consumed, remaining, paid, drawn in wallets:
        left = KINDS[customer.split("-")[0]].wallet_cents - sum(spent[customer])
        assert (balance, remaining, consumed, drawn) == (left, left, sum(spent[customer]), sum(spent[customer]))
        assert sorted(paid) == sorted(spent[customer])
    applied = database.rows(
        "SELECT external_id, code, applied_coupons.terminated_at IS NOT NULL, frequency_duration_remaining"
        " FROM applied_coupons JOIN coupons ON coupons.id = coupon_id JOIN customers ON customers.id = customer_id"
    )
    assert len(applied) == EACH * sum(len(kind.coupons) for kind in KINDS.values())
    for customer, code, is_over, remaining in applied:
        if code == FIXED.code:
            assert is_over == (sum(taken[customer, code]) == FIXED.cents)
        else:
            assert (is_over, remaining) == ((True, 0) if code == FIRST.code else (False, None))


def check_runs(server: Server, database: Database) -> None:
    """Each run that was asked for is listed: one that was killed with what it had told, the last one with all it did."""
    made = dict(map(tuple, database.rows("SELECT created_at, count(*) FROM invoices GROUP BY 1")))
    with server.client() as admin:
        runs = ok(admin.get("/admin/billing_runs", params={"per_page": 100}))["billing_runs"]
    noted = {one.started_at: one for one in database.rows("SELECT * FROM billing_runs")}
    assert len(runs) == len(noted)
    assert sum(one.source == "manual" for one in noted.values()) == len(DEATHS) + 1
    assert len(made.keys() - noted.keys()) <= DEATHS.count("beside")  # what a scheduler does is noted at its end
    for started_at, run in noted.items():
        assert (run.failures_count, run.error) == (0, None)
        if run.finished_at is not None:
            assert run.invoices == made.get(started_at, 0)
        else:
            assert run.invoices <= made.get(started_at, 0) <= run.invoices + MOST_OF_A_CHUNK
    assert Counter(one["status"] == "finished" for one in runs if one["source"] == "manual")[True] == 1


def test_every_boundary_is_billed_once_however_often_the_close_is_killed(tmp_path: Path) -> None:
    start = system_now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=17)
    world, chance = World(EACH, start), seeded(20_240_503)
    server = Server(tmp_path / "data", close_chunk=CHUNK)
    database = Database(server.data_dir)
    try:
        with server.start().organization() as api, database.connection() as connection:
            world.fill(api, connection, chance)
        server.stop()
        bills = world.bills()
        done = 0
        for death in DEATHS:
            least = done + chance.randint(1, 500)
            done = kill_a_close(server, database, death, least, chance.randint(1, LOOKS))
            assert least <= done < len(bills)
        resumed = system_now()
        server.start()
        ask(server)
        wait_for(lambda: is_done(database, resumed), "the end of the close", PATIENCE_SECONDS)
        check_periods(world, database)
        found = billed(database)
        assert found.keys() == bills.keys()
        assert [(key, one, bills[key]) for key, one in found.items() if one != bills[key]] == []
        check_numbers(database)
        check_credits(database, bills)
        check_runs(server, database)
        assert server.defects() == []
        server.stop()
    finally:
        server.clean_up()
