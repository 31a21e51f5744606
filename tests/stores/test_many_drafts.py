"""Drafts that become final at once in PostgreSQL: how many statements that takes, with all that lowers an invoice."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from app.billing.close import close_chunk
from app.billing.redrawing import redraw_chunk
from app.billing.wallet_transactions import TopUp, top_up
from app.billing.wallets import create_wallet
from app.catalog.coupons import create_coupon
from app.catalog.plans import create_plan
from app.catalog.taxes import apply_to_organization
from app.customers.applied_coupons import apply_coupon
from app.customers.customers import upsert_customer
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription
from app.models import AdjustedFee, CreditNote, CreditNoteItem, Invoice, Organization, Tax
from app.stores.postgres import Postgres
from tests.stores.tables import METER, statements

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
JULY = datetime(2024, 7, 1, tzinfo=UTC)
DUE = datetime(2024, 7, 4, tzinfo=UTC)
FEW, MANY = 2, 20

pytestmark = pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")


def drafts(postgres: Postgres, count: int) -> UUID:
    """An organization with so many customers, who each have a coupon, a wallet, a credit note, and a draft with an adjusted
    fee and a note of its own."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=JUNE)
    with postgres.session() as db:
        tax = Tax(
            organization_id=organization.id, name="T", code="tax", rate=Decimal(20), created_at=JUNE, updated_at=JUNE
        )
        db.add(tax)
        db.flush()
        apply_to_organization(db, tax, applied=True)
        for code in ("base", "extra"):
            plan = {"name": code, "code": code, "interval": "monthly", "amount_cents": 3_000, "amount_currency": "EUR"}
            create_plan(db, organization.id, {**plan, "pay_in_advance": False}, JUNE)
        five = {"coupon_type": "fixed_amount", "amount_cents": 500, "amount_currency": "EUR", "frequency": "once"}
        create_coupon(db, organization.id, {"name": "C", "code": "coupon", "expiration": "no_expiration", **five}, JUNE)
        for number in range(count):
            _subscribe(db, organization.id, number)
    with postgres.session() as db:
        close_chunk(db, Organization.id == organization.id, JULY, JULY, 1_000, METER)
    with postgres.session() as db:
        made = select(Invoice).where(Invoice.organization_id == organization.id).options(selectinload(Invoice.fees))
        invoices = db.scalars(made).all()
        for number, invoice in enumerate(invoices):
            assert invoice.status == "draft"
            _give_back(db, invoice, invoices[number - 1].id, number)
    return organization.id


def _subscribe(db: Session, owner: UUID, number: int) -> None:
    organization, name = db.get_one(Organization, owner), f"c{number}"
    sent = {"external_id": name, "currency": "EUR", "invoice_grace_period": 3}
    customer = upsert_customer(db, organization, sent, JUNE)
    for plan in ("base", "extra"):
        subscription = {"external_customer_id": name, "external_id": f"{plan} {name}", "plan_code": plan}
        create_subscription(db, organization, subscription, JUNE, METER)
    apply_coupon(db, owner, {"external_customer_id": name, "coupon_code": "coupon"}, JUNE)
    wallet = create_wallet(db, organization, customer, {"rate_amount": "1", "code": "main"}, JUNE, most=6)
    top_up(db, wallet, TopUp(granted_credits=Decimal(10 + number % 2 * 90)), JUNE)


def _give_back(db: Session, invoice: Invoice, other: UUID, number: int) -> None:
    """Set one fee to other units, give back a part of it, and have something from before: of some customers more
    than the invoice comes to."""
    adjusted, _ = invoice.fees
    units = AdjustedFee(
        organization_id=invoice.organization_id, invoice_id=invoice.id, subscription_id=adjusted.subscription_id,
        fee_type=adjusted.fee_type, units=Decimal(2), unit_precise_amount=Decimal(12), created_at=JULY, updated_at=JULY,
    )  # fmt: skip
    db.add(units)
    for note, cents in (
        (_note(invoice, invoice.id, "draft"), 600),
        (_note(invoice, other, "finalized"), 300 + number % 2 * 90_000),
    ):
        note.credit_amount_cents = note.balance_amount_cents = note.total_amount_cents = cents
        db.add(note)
        db.flush()
        if note.status == "draft":
            item = CreditNoteItem(
                id=uuid4(), organization_id=invoice.organization_id, credit_note_id=note.id, fee_id=adjusted.id, position=0,
                amount_cents=500 + number % 2 * 100, precise_amount_cents=Decimal(500 + number % 2 * 100),
            )  # fmt: skip
            db.add(item)


def _note(invoice: Invoice, of: UUID, status: str) -> CreditNote:
    """A note of one of the customer's invoices."""
    return CreditNote(
        id=uuid4(), organization_id=invoice.organization_id, customer_id=invoice.customer_id, invoice_id=of,
        sequential_id=1 if status == "draft" else 2, number=None if status == "draft" else f"N{invoice.id}", status=status,
        issuing_date=JULY.date(), credit_status="available", reason="other", currency="EUR",
        sub_total_excluding_taxes_amount_cents=0, taxes_amount_cents=0, taxes_rate=Decimal(0),
        refund_amount_cents=0, offset_amount_cents=0, created_at=JULY, updated_at=JULY,
    )  # fmt: skip


def finalize(postgres: Postgres, owner: UUID, *, final: bool) -> list[str]:
    """Make all drafts anew that are due; gives the statements."""

    def run() -> None:
        with postgres.session() as db:
            due = Invoice.finalization_due_at <= DUE
            done = redraw_chunk(db, Organization.id == owner, due, DUE, DUE, 1_000, METER, final=final)
            assert done in {FEW, MANY}
            states = db.scalars(select(Invoice.status).where(Invoice.organization_id == owner)).all()
            assert set(states) == {"finalized" if final else "draft"}

    return [one.split("(")[0][:90] for one in statements(postgres, run)]


@pytest.mark.parametrize("final", [False, True])
def test_the_statements_do_not_grow(postgres: Postgres, final: bool) -> None:
    few, many = (Counter(finalize(postgres, drafts(postgres, count), final=final)) for count in (FEW, MANY))
    assert many - few == Counter()
