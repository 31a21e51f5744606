"""Coupons in PostgreSQL: how many statements they take, two invoices that want the same one, and what is given back."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.billing.billed import Buyer
from app.billing.close import close_chunk
from app.billing.coupon_credits import give_back_coupons, take_coupons
from app.billing.fees import FeeDraft, FeeItem
from app.billing.invoice_drafts import InvoiceDraft, Payer
from app.billing.settlement import Settlement
from app.catalog.coupons import create_coupon, delete_coupon, find_coupon
from app.catalog.plans import create_plan
from app.core.charges.fees import FeeAmounts
from app.core.issuing_dates import IssuingRules
from app.core.money import ZERO
from app.core.taxes import FeeTaxes
from app.customers.applied_coupons import apply_coupon, remaining_cents, search_applied_coupons
from app.customers.customers import find_customer
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription
from app.models import AppliedCoupon, Coupon, Credit, Invoice, Organization
from app.stores.postgres import Postgres
from tests.stores.tables import METER, somebody_waits, statements
from tests.support import wait_for

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
JULY = datetime(2024, 7, 1, tzinfo=UTC)
AUGUST = datetime(2024, 8, 1, tzinfo=UTC)
FIVE = {"coupon_type": "fixed_amount", "amount_cents": 500, "amount_currency": "EUR", "frequency": "once"}
PLAN = {"name": "P", "interval": "monthly", "amount_cents": 800, "amount_currency": "EUR", "pay_in_advance": False}

pytestmark = pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization with the plan `plan`, for 8.00 a month."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=JUNE)
    with postgres.session() as db:
        create_plan(db, organization.id, {**PLAN, "code": "plan"}, JUNE)
    return organization.id


def subscribe(db: Session, owner: UUID, customer: str = "customer") -> None:
    sent = {"external_customer_id": customer, "external_id": f"of {customer}", "plan_code": "plan"}
    create_subscription(db, db.get_one(Organization, owner), sent, JUNE, METER)


def make(db: Session, owner: UUID, code: str = "coupon", **fields: object) -> None:
    sent = {"name": code, "code": code, "expiration": "no_expiration", **FIVE, **fields}
    create_coupon(db, owner, sent, JUNE)


def give(db: Session, owner: UUID, code: str = "coupon", customer: str = "customer") -> None:
    apply_coupon(db, owner, {"external_customer_id": customer, "coupon_code": code}, JUNE)


def sold(postgres: Postgres, owner: UUID, **coupon: object) -> None:
    """A subscribed customer who has a coupon."""
    with postgres.session() as db:
        subscribe(db, owner)
        make(db, owner, **coupon)
        give(db, owner)


def close(postgres: Postgres, owner: UUID, at: datetime = JULY) -> int:
    with postgres.session() as db:
        return len(close_chunk(db, Organization.id == owner, at, at, 1_000, METER).invoices)


def held(db: Session, owner: UUID) -> AppliedCoupon:
    """The one coupon that somebody has, as it is stored now."""
    query = search_applied_coupons(owner).execution_options(populate_existing=True)
    return db.scalars(query).one()


def last_invoice(db: Session, owner: UUID) -> Invoice:
    query = select(Invoice).where(Invoice.organization_id == owner).order_by(Invoice.sequential_id.desc())
    return db.scalars(query.limit(1)).one()


def void(db: Session, owner: UUID, now: datetime = AUGUST) -> None:
    """Give back what lowered the last invoice, as voiding it does."""
    invoice = last_invoice(db, owner)
    give_back_coupons(db, invoice, now)
    invoice.status = "voided"


def settlement(owner: UUID, customer_id: UUID, cents: int, *, final: bool = True) -> Settlement:
    """An invoice over one fee."""
    payer = Payer(
        customer_id, owner, owner, 1, ZoneInfo("UTC"), ZoneInfo("UTC"), IssuingRules(), True, "per_customer", "P"
    )
    fee = FeeDraft(
        id=uuid4(),
        buyer=Buyer(owner, customer_id, "EUR"),
        subscription=None,
        item=FeeItem("subscription", uuid4(), "c", "n", None, None),
        amounts=FeeAmounts(Decimal(1), cents, Decimal(cents), Decimal(cents), {}),
        from_=JUNE,
        to=JULY,
        taxes=(),
        tax_amounts=FeeTaxes([], 0, ZERO, ZERO),
    )
    return Settlement(InvoiceDraft(payer, "EUR", JULY, None, other_fees=(fee,)), final)


def store(db: Session, one: Settlement) -> None:
    """Keep that an invoice was lowered."""
    payer = one.draft.payer
    invoice = Invoice(
        id=one.draft.id, organization_id=payer.organization_id, billing_entity_id=payer.billing_entity_id,
        customer_id=payer.customer_id, invoice_type="subscription",
        status="finalized", payment_status="pending", currency="EUR", timezone="UTC", issuing_date=JULY.date(),
        expected_finalization_date=JULY.date(), payment_due_date=JULY.date(), net_payment_term=0, taxes_rate=ZERO,
        fees_amount_cents=one.fees_cents, taxes_amount_cents=0, sub_total_excluding_taxes_amount_cents=one.sub_total_cents,
        sub_total_including_taxes_amount_cents=one.sub_total_cents, total_amount_cents=one.total_cents,
        created_at=JULY, updated_at=JULY,
    )  # fmt: skip
    db.add(invoice)
    db.flush()
    for position, credit in enumerate(one.credits):
        db.add(
            Credit(
                organization_id=payer.organization_id, invoice_id=invoice.id, position=position, currency="EUR",
                applied_coupon_id=credit.applied_coupon_id, amount_cents=credit.amount_cents, created_at=JULY,
            )
        )  # fmt: skip


@pytest.mark.parametrize("count", [2, 40])
def test_the_statements_do_not_grow(postgres: Postgres, owner: UUID, count: int) -> None:
    with postgres.session() as db:
        make(db, owner, "amount")
        make(db, owner, "rate", coupon_type="percentage", percentage_rate=Decimal(10))
        make(db, owner, "on plan", frequency="forever", applies_to={"plan_codes": ["plan"]})
        for number in range(count):
            subscribe(db, owner, f"c{number}")
            for code in ("amount", "rate", "on plan"):
                give(db, owner, code, f"c{number}")
    sent = statements(postgres, lambda: close(postgres, owner))
    assert len([one for one in sent if "applied_coupon" in one or "coupon_plans" in one]) == 4
    with postgres.session() as db:
        invoices = db.scalars(select(Invoice).where(Invoice.organization_id == owner)).all()
        assert [one.coupons_amount_cents for one in invoices] == [800] * count


def test_where_nobody_has_any_one_statement_tells(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        make(db, owner)
        subscribe(db, owner)
    sent = statements(postgres, lambda: close(postgres, owner))
    assert len([one for one in sent if "applied_coupons" in one]) == 1


def test_two_invoices_at_once_do_not_take_the_same(postgres: Postgres, owner: UUID) -> None:
    """The second asks for the coupon while the first has taken of it and is not committed."""
    with postgres.session() as db:
        subscribe(db, owner)
        make(db, owner)
        give(db, owner)
        customer_id = find_customer(db, owner, "customer").id
    first, second = (settlement(owner, customer_id, 300) for _ in range(2))

    def run() -> None:
        with postgres.session() as db:
            take_coupons(db, [second], JULY)
            store(db, second)

    thread = threading.Thread(target=run)
    with postgres.session() as db:
        take_coupons(db, [first], JULY)
        store(db, first)
        db.flush()
        thread.start()
        wait_for(lambda: somebody_waits(postgres), "waiting for the coupon", 20)
    thread.join(30)
    assert (first.coupons_cents, second.coupons_cents) == (300, 200)
    with postgres.session() as db:
        applied = held(db, owner)
        assert (applied.terminated_at, remaining_cents(applied)) == (JULY, 0)


def test_a_deletion_waits_for_who_takes_it(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        subscribe(db, owner)
        make(db, owner)
        give(db, owner)
        customer_id = find_customer(db, owner, "customer").id
    one = settlement(owner, customer_id, 300)

    def run() -> None:
        with postgres.session() as db:
            delete_coupon(db, find_coupon(db, owner, "coupon", lock=True), AUGUST)

    thread = threading.Thread(target=run)
    with postgres.session() as db:
        take_coupons(db, [one], JULY)
        thread.start()
        wait_for(lambda: somebody_waits(postgres), "waiting for the coupon", 20)
    thread.join(30)
    assert one.coupons_cents == 300
    with postgres.session() as db:
        assert held(db, owner).terminated_at == AUGUST


def test_one_that_is_there_already_is_not_taken_again_and_a_draft_takes_none(postgres: Postgres, owner: UUID) -> None:
    sold(postgres, owner, frequency="forever")
    with postgres.session() as db:
        customer_id = find_customer(db, owner, "customer").id
        one, draft = settlement(owner, customer_id, 2_000), settlement(owner, customer_id, 2_000, final=False)
        assert statements(postgres, lambda: take_coupons(db, [draft], JULY)) == []
        assert draft.coupons_cents == 0
        for _ in range(2):
            take_coupons(db, [one], JULY)
            assert one.coupons_cents == 500


@pytest.mark.parametrize(
    ("coupon", "used", "back"),
    [
        ({"coupon_type": "percentage", "percentage_rate": Decimal(10)}, (True, None, None), (False, None, None)),
        ({}, (True, 0, None), (False, 500, None)),
        ({"amount_cents": 900}, (False, 100, None), (False, 900, None)),
        ({"frequency": "recurring", "frequency_duration": 1}, (True, None, 0), (False, None, 1)),
        ({"frequency": "recurring", "frequency_duration": 2}, (False, None, 1), (False, None, 2)),
        ({"frequency": "forever"}, (False, None, None), (False, None, None)),
    ],
)
def test_given_back(
    postgres: Postgres, owner: UUID, coupon: dict[str, object], used: tuple[object, ...], back: tuple[object, ...]
) -> None:
    sold(postgres, owner, **coupon)
    assert close(postgres, owner) == 1
    for expected in (used, back):
        with postgres.session() as db:
            one = held(db, owner)
            stands = (one.terminated_at is not None, remaining_cents(one), one.frequency_duration_remaining)
            assert stands == expected
            if expected is used:
                void(db, owner)
    assert close(postgres, owner, AUGUST) == 1
    with postgres.session() as db:
        amounts = select(Invoice.coupons_amount_cents).where(Invoice.organization_id == owner)
        first, second = db.scalars(amounts.order_by(Invoice.sequential_id))
        assert first == second


def test_what_was_taken_away_or_is_given_to_nobody_does_not_come_back(postgres: Postgres, owner: UUID) -> None:
    sold(postgres, owner, frequency="recurring", frequency_duration=3)
    close(postgres, owner)
    with postgres.session() as db:
        held(db, owner).terminated_at = JULY + timedelta(days=1)
    with postgres.session() as db:
        void(db, owner)
    with postgres.session() as db:
        one = held(db, owner)
        assert (one.status, one.frequency_duration_remaining) == ("terminated", 3)


@pytest.mark.parametrize("ended", ["terminated_at", "deleted_at"])
def test_nor_when_the_coupon_has_ended(postgres: Postgres, owner: UUID, ended: str) -> None:
    sold(postgres, owner)
    close(postgres, owner)
    with postgres.session() as db:
        db.execute(update(Coupon).where(Coupon.organization_id == owner).values({ended: JULY}))
        void(db, owner)
    with postgres.session() as db:
        assert (held(db, owner).status, remaining_cents(held(db, owner))) == ("terminated", 500)


def test_an_invoice_without_coupons_gives_none_back(postgres: Postgres, owner: UUID) -> None:
    with postgres.session() as db:
        subscribe(db, owner)
        make(db, owner)
    close(postgres, owner)
    with postgres.session() as db:
        give(db, owner)
        void(db, owner)
        assert held(db, owner).updated_at == JUNE
