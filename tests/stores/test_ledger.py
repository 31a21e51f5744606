"""Every customer's ledger balances, whatever happens in whatever order, and what does not balance is found and named."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from sqlalchemy import Table, select, text, update
from sqlalchemy.orm import Session

from app.billing.ledger import Imbalance, find_imbalances
from app.config import Settings
from app.doctor.stores import Stores, _check_ledgers
from app.models.base import Base
from app.stores.clickhouse import ClickHouse
from app.stores.files import folder
from app.stores.postgres import Postgres
from tests.stores.accounts import Accounts
from tests.stores.double_entry import check_books
from tests.stores.imbalances import BROKEN, MORE

COPIES, ROUNDS = 29, 7
"""24 customers and their copies, in each of three currencies: 2,160 lives."""
HAPPENED = {
    "credit", "draft", "end", "end_wallet", "give_coupon", "mark", "move_credits", "open_wallet", "pay", "sell",
    "subscribe", "take_coupon", "top_up", "void", "void_credit", "credit, refused", "pay, refused",
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")


def check(accounts: Accounts) -> None:
    """Nothing may be out of balance; otherwise it is said what has happened to whom."""
    with accounts.postgres.session() as db:
        db.execute(text("ANALYZE"))
        found = find_imbalances(db, accounts.id)
    if found.number:
        first = found.first[0]
        told = "\n".join([*map(str, found.first[:20]), *accounts.accounts[first.customer].story])
        pytest.fail(f"{found.number} figures do not balance:\n{told}")


@pytest.mark.parametrize("currency", ["JPY", "EUR", "KWD"])
def test_it_balances_whatever_happens(postgres: Postgres, currency: str) -> None:
    accounts = Accounts(postgres, currency, COPIES, 2024, check)
    for _ in range(ROUNDS):
        accounts.round()
    with postgres.session() as db:
        assert check_books(db, accounts.id).of("receivable")


@pytest.fixture(scope="module")
def lived(postgres: Postgres) -> Accounts:
    """A few customers, to all of whom much has happened."""
    accounts = Accounts(postgres, "CLF", 2, 7, check)
    for one in accounts.accounts.values():
        one.liveliness = 0.9
    for _ in range(9):
        accounts.round()
    return accounts


@pytest.fixture
def db(postgres: Postgres) -> Iterator[Session]:
    """What is done in it is undone."""
    with postgres.undone() as session:
        yield session


def break_one(db: Session, accounts: Accounts, column: str, value: str, which: str) -> Any:
    """Change a row of these customers behind the service's back."""
    name, changed = column.split(".")
    table: Table = Base.metadata.tables[name]
    columns = changed.split(", ")
    values = value.split(", ") if len(columns) > 1 else [value]
    new: Any = {one: text(to.format(one, table=name)) for one, to in zip(columns, values, strict=True)}
    one = select(table.c.id).where(table.c.organization_id == accounts.id, text(which)).order_by(table.c.id).limit(1)
    made = db.execute(update(table).where(table.c.id == one.scalar_subquery()).values(new).returning(table.c.id))
    return made.scalar_one()


def test_what_is_broken_is_named(postgres: Postgres, lived: Accounts) -> None:
    for object_, rule, column, value, which in BROKEN:
        with postgres.undone() as db:
            broken = break_one(db, lived, column, value, which)
            found = find_imbalances(db, lived.id)
        case = f"{rule} of {object_} {broken}, {column} = {value} where {which}"
        assert (object_, rule) in {(one.object, one.rule) for one in found.first}, case
        assert found.number == len(found.first), case
        assert {one.organization for one in found.first} == {"In CLF"}, case
        assert {one.customer for one in found.first} <= lived.accounts.keys(), case


def test_every_rule_can_be_broken() -> None:
    files = (folder("postgres") / "queries").glob("ledger_*.sql")
    named = {
        one for file in files for one in re.findall(r"^ {4}(?:\(\s*)?'([a-z ]+)',", file.read_text(), re.MULTILINE)
    }
    assert named - {case[0] for case in BROKEN} == {case[1] for case in BROKEN}


def test_all_of_it_has_happened(db: Session, lived: Accounts) -> None:
    assert lived.done.keys() >= HAPPENED
    books = check_books(db, lived.id)
    for account in ("receivable", "discounts", "notes", "prepaid", "refunds", "written_off", "forfeited", "cash"):
        assert books.of(account), f"nothing was posted to {account}"


def test_only_of_the_organization_that_is_asked_for(db: Session, lived: Accounts, postgres: Postgres) -> None:
    other = Accounts(postgres, "EUR", 0, 1, lambda _: None)
    break_one(db, lived, "wallets.balance_cents", MORE, "true")
    assert find_imbalances(db, lived.id).number > 0
    assert find_imbalances(db, other.id).number == 0
    assert find_imbalances(db).number == find_imbalances(db, lived.id).number


def test_the_doctor_names_it(postgres: Postgres, lived: Accounts) -> None:
    stores = Stores(Settings(), postgres, cast("ClickHouse", None), running=True)
    (well,) = _check_ledgers(stores)
    assert (well.subject, well.status) == ("ledgers", "ok")
    columns = "wallets.consumed_credits, credits_ongoing_balance"
    for more, status in ((1, "problem"), (-1, "ok")):
        with postgres.session() as db:
            break_one(db, lived, columns, f"consumed_credits + {more}, credits_ongoing_balance + {more}", "true")
        (finding,) = _check_ledgers(stores)
        assert finding.status == status
        if status == "problem":
            assert finding.found.startswith("2 amounts do not follow from the others: consumed credits of wallet")
            assert "of In CLF is" in finding.found


def test_how_it_reads(db: Session, lived: Accounts) -> None:
    wallet_id = break_one(
        db, lived, "wallets.consumed_credits", "0.5", "id NOT IN (SELECT wallet_id FROM wallet_transactions)"
    )
    (one,) = find_imbalances(db, lived.id).first
    assert isinstance(one, Imbalance)
    wanted = f"consumed credits of wallet {wallet_id} of customer {one.customer} of In CLF is 0.50000, not 0"
    assert str(one) == wanted
