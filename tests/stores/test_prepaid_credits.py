"""Prepaid credits in PostgreSQL: how many statements they take, and two invoices that want the same at the same time."""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text

from app.billing.billed import Buyer
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.invoice_drafts import InvoiceDraft, Payer
from app.billing.invoices import write_invoices
from app.billing.prepaid_credits import give_back_prepaid_credits, take_prepaid_credits
from app.billing.purchases import settle_top_up, take_back_credits
from app.billing.settlement import Settlement
from app.billing.wallet_transactions import TopUp, top_up
from app.billing.wallets import create_wallet, find_wallet, terminate_wallet, terminate_wallets
from app.core.charges.fees import FeeAmounts
from app.core.issuing_dates import IssuingRules
from app.customers.customers import upsert_customer
from app.customers.organizations import create_organization
from app.models import CreditNote, Invoice, Organization, Wallet, WalletTransaction
from app.stores.postgres import Postgres
from tests.stores.tables import statements
from tests.support import wait_for

MAY = datetime(2024, 5, 1, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=MAY)
        return organization.id


def make_customer(
    postgres: Postgres, owner: UUID, *top_ups: int, code: str = "main", name: str = "c", now: datetime = MAY
) -> UUID:
    """A customer with a wallet, into which each of these amounts was put."""
    with postgres.session() as db:
        organization = db.get_one(Organization, owner)
        customer = upsert_customer(db, organization, {"external_id": name, "currency": "EUR"}, MAY)
        if top_ups:
            sent = {"rate_amount": "1", "code": code}
            wallet = create_wallet(db, organization, customer, sent, now, most=6)
            for cents in top_ups:
                top_up(db, wallet, TopUp(granted_credits=Decimal(cents) / 100), MAY)
        return customer.id


def draft_of(owner: UUID, customer_id: UUID, cents: int) -> InvoiceDraft:
    """An invoice with one fee."""
    payer = Payer(
        customer_id=customer_id,
        organization_id=owner,
        customer_number=1,
        tz=UTC_ZONE,
        billing_entity_id=owner,
        issuer_tz=UTC_ZONE,
        issuing=IssuingRules(),
        finalize_zero=True,
        numbering="per_customer",
        prefix="TST",
    )
    amounts = FeeAmounts(Decimal(1), cents, Decimal(cents), Decimal(cents) / 100, {})
    fee = FeeDraft(
        id=uuid4(),
        buyer=Buyer(owner, customer_id, "EUR"),
        subscription=None,
        item=FeeItem("subscription", uuid4(), "plan", "plan", None, None),
        amounts=amounts,
        from_=MAY,
        to=MAY,
        taxes=(),
        tax_amounts=tax_amounts(amounts, ()),
    )
    return InvoiceDraft(payer, "EUR", MAY, None, other_fees=(fee,))


def balances(postgres: Postgres, owner: UUID) -> list[int]:
    with postgres.session() as db:
        query = select(Wallet.balance_cents).where(Wallet.organization_id == owner).order_by(Wallet.created_at)
        return list(db.scalars(query))


@pytest.mark.parametrize("count", [2, 60])
def test_the_statements_do_not_grow(postgres: Postgres, owner: UUID, count: int) -> None:
    customers = [make_customer(postgres, owner, 300, 300, name=f"c{number}") for number in range(count)]
    settlements = [Settlement(draft_of(owner, one, 500)) for one in customers]

    def take() -> None:
        with postgres.session() as db:
            take_prepaid_credits(db, settlements, MAY)
            db.flush()
            assert [one.prepaid_cents for one in settlements] == [500] * count
            db.rollback()

    # Wallets, what they are limited to, their top-ups; then new balances of both. What is new is copied in besides.
    assert len(statements(postgres, take)) == 5


def test_one_statement_where_nobody_has_a_wallet(postgres: Postgres, owner: UUID) -> None:
    settlements = [Settlement(draft_of(owner, make_customer(postgres, owner, name=f"c{n}"), 500)) for n in range(3)]

    def take(what: list[Settlement]) -> None:
        with postgres.session() as db:
            take_prepaid_credits(db, what, MAY)

    assert len(statements(postgres, lambda: take(settlements))) == 1
    for one in settlements:
        one.final = False
    assert statements(postgres, lambda: take(settlements)) == []


def test_what_two_invoices_want_is_spent_by_one(postgres: Postgres, owner: UUID) -> None:
    """The second is made to wait until the first has ended, and finds what that has left."""
    customer = make_customer(postgres, owner, 600, 400)
    second = Settlement(draft_of(owner, customer, 700))

    def spend() -> None:
        with postgres.session() as db:
            write_invoices(db, [draft_of(owner, customer, 1)], MAY)
            take_prepaid_credits(db, [second], MAY)
            db.rollback()

    with postgres.session() as db:
        write_invoices(db, [draft_of(owner, customer, 700)], MAY)
        thread = threading.Thread(target=spend)
        thread.start()
        wait_for(lambda: _waiting(postgres) == 1, "the second invoice to wait for the first")
    thread.join()
    assert second.prepaid_cents == 299, "1 of the 300 that were left has gone to the other invoice"
    assert balances(postgres, owner) == [300]


def _waiting(postgres: Postgres) -> int:
    with postgres.session() as db:
        return db.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) or 0


def test_what_a_voided_invoice_spent_is_granted_again_in_wallets_that_are_active(
    postgres: Postgres, owner: UUID
) -> None:
    customer = make_customer(postgres, owner, 600, 400)
    make_customer(postgres, owner, 500, code="second", now=MAY + timedelta(seconds=1))
    with postgres.session() as db:
        (invoice_id,) = write_invoices(db, [draft_of(owner, customer, 1_200)], MAY)
    with postgres.session() as db:
        second = db.scalars(select(Wallet.id).where(Wallet.code == "second", Wallet.organization_id == owner)).one()
        terminate_wallet(db, find_wallet(db, owner, second, lock=True), MAY)
    assert balances(postgres, owner) == [0, 300]
    with postgres.session() as db:
        give_back_prepaid_credits(db, db.get_one(Invoice, invoice_id), MAY)
    assert balances(postgres, owner) == [1_000, 300]
    with postgres.session() as db:
        (given,) = db.scalars(select(WalletTransaction).where(WalletTransaction.voided_invoice_id == invoice_id))
        assert (given.transaction_type, given.transaction_status, given.status) == ("inbound", "granted", "settled")
        assert (given.amount_cents, given.remaining_amount_cents, given.credit_amount) == (1_000, 1_000, 10)


def buy(postgres: Postgres, owner: UUID, cents: int, *, paid_first: bool) -> tuple[UUID, UUID]:
    """The transaction of credits that were bought, and its invoice."""
    make_customer(postgres, owner, 100)
    with postgres.session() as db:
        wallet_id = db.scalars(select(Wallet.id).where(Wallet.organization_id == owner)).one()
        wallet = find_wallet(db, owner, wallet_id, lock=True)
        (bought,) = top_up(db, wallet, TopUp(paid_credits=Decimal(cents) / 100, paid_first=paid_first), MAY)
        assert bought.invoice_id is not None
        return bought.id, bought.invoice_id


def test_an_open_invoice_is_final_from_the_day_on_which_it_is_paid(postgres: Postgres, owner: UUID) -> None:
    _, invoice_id = buy(postgres, owner, 500, paid_first=True)
    for succeeded, status in ((False, "open"), (True, "finalized"), (True, "finalized")):
        with postgres.session() as db:
            settle_top_up(db, db.get_one(Invoice, invoice_id), succeeded=succeeded, now=MAY + timedelta(days=9))
        with postgres.session() as db:
            invoice = db.get_one(Invoice, invoice_id)
            assert (invoice.status, invoice.number is not None) == (status, succeeded)
        assert balances(postgres, owner) == [600 if succeeded else 100]
    assert (invoice.issuing_date, invoice.payment_due_date) == (date(2024, 5, 10), date(2024, 5, 10))
    assert invoice.sequential_id == 1


def test_a_purchase_that_a_credit_note_has_settled_gives_nothing(postgres: Postgres, owner: UUID) -> None:
    _, invoice_id = buy(postgres, owner, 500, paid_first=False)
    with postgres.session() as db:
        invoice = db.get_one(Invoice, invoice_id)
        invoice.offset_amount_cents = 500
        settle_top_up(db, invoice, succeeded=True, now=MAY)
    assert balances(postgres, owner) == [100]


def test_what_is_refunded_of_a_purchase_is_taken_out_of_it(postgres: Postgres, owner: UUID) -> None:
    bought, invoice_id = buy(postgres, owner, 500, paid_first=False)
    with postgres.session() as db:
        settle_top_up(db, db.get_one(Invoice, invoice_id), succeeded=True, now=MAY)
    with postgres.session() as db:
        invoice = db.get_one(Invoice, invoice_id)
        note = CreditNote(
            organization_id=owner, customer_id=invoice.customer_id, invoice_id=invoice_id, sequential_id=1, number="n",
            issuing_date=MAY.date(), reason="other", currency="EUR", sub_total_excluding_taxes_amount_cents=300,
            taxes_amount_cents=0, taxes_rate=Decimal(0), total_amount_cents=300, credit_amount_cents=0,
            refund_amount_cents=300, offset_amount_cents=0, balance_amount_cents=0, created_at=MAY, updated_at=MAY,
        )  # fmt: skip
        db.add(note)
        db.flush()
        take_back_credits(db, invoice, 300, note.id, MAY)
    assert balances(postgres, owner) == [300]
    with postgres.session() as db:
        assert db.get_one(WalletTransaction, bought).remaining_amount_cents == 200
        (void,) = db.scalars(
            select(WalletTransaction).where(
                WalletTransaction.organization_id == owner, WalletTransaction.transaction_type == "outbound"
            )
        )
        assert (void.transaction_status, void.amount_cents, void.credit_note_id) == ("voided", 300, note.id)


def test_wallets_of_a_customer_that_is_deleted(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner, 600)
    make_customer(postgres, owner, 500, name="other")
    with postgres.session() as db:
        terminate_wallets(db, customer, MAY)
        found = select(Wallet.customer_id == customer, Wallet.status).where(Wallet.organization_id == owner)
        assert {tuple(row) for row in db.execute(found)} == {(True, "terminated"), (False, "active")}
