"""Payment requests in PostgreSQL: what is asked for, and when it has been paid."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.billing.one_off import sell
from app.billing.payment_requests import find_request, request_payment, search_requests
from app.billing.payments import record_payment
from app.catalog.add_ons import create_add_on
from app.customers.customers import upsert_customer
from app.customers.organizations import create_organization
from app.errors import ApiError
from app.models import Invoice, Organization
from app.stores.postgres import Postgres
from tests.stores.tables import METER

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
JULY = datetime(2024, 7, 1, tzinfo=UTC)


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization with a customer, and an add-on at 100.00."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=JUNE)
        upsert_customer(db, organization, {"external_id": "customer", "email": "pay@example.com"}, JUNE)
        sent = {"name": "A", "code": "setup", "amount_cents": 10_000, "amount_currency": "EUR"}
        create_add_on(db, organization.id, sent, JUNE)
        return organization.id


def overdue(postgres: Postgres, owner: UUID, currency: str = "EUR") -> UUID:
    """An overdue invoice of 100.00."""
    fee = {"add_on_code": "setup", "unit_amount_cents": 10_000}
    with postgres.session() as db:
        invoice_id = sell(db, owner, {"external_customer_id": "customer", "fees": [fee], "currency": currency}, JUNE)
        db.execute(update(Invoice).where(Invoice.id == invoice_id).values(payment_overdue=True))
        return invoice_id


def ask(postgres: Postgres, owner: UUID, invoices: list[UUID], **fields: object) -> UUID:
    with postgres.session() as db:
        sent = {"external_customer_id": "customer", "lago_invoice_ids": [str(one) for one in invoices], **fields}
        return request_payment(db, owner, sent, JULY).id


def pay(postgres: Postgres, owner: UUID, invoice: UUID, cents: int) -> None:
    with postgres.session() as db:
        sent = {"invoice_id": str(invoice), "amount_cents": cents, "reference": "r"}
        record_payment(db, owner, sent, JULY, METER)


def listed(postgres: Postgres, owner: UUID, status: str) -> list[UUID]:
    with postgres.session() as db:
        return [one.id for one in db.scalars(search_requests(owner, payment_status=status))]


def test_it_asks_for_what_is_due_and_is_paid_with_the_last_invoice(postgres: Postgres, owner: UUID) -> None:
    first, second = overdue(postgres, owner), overdue(postgres, owner)
    pay(postgres, owner, first, 4_000)
    request = ask(postgres, owner, [second, first])
    with postgres.session() as db:
        found = find_request(db, owner, request)
        assert (found.amount_cents, found.currency, found.email) == (16_000, "EUR", "pay@example.com")
        assert ({one.id for one in found.invoices}, found.payment_status) == ({first, second}, "pending")
    pay(postgres, owner, first, 6_000)
    assert (listed(postgres, owner, "pending"), listed(postgres, owner, "succeeded")) == ([request], [])
    pay(postgres, owner, second, 10_000)
    assert (listed(postgres, owner, "pending"), listed(postgres, owner, "succeeded")) == ([], [request])
    with postgres.session() as db:
        assert not any(db.scalars(select(Invoice.payment_overdue).where(Invoice.organization_id == owner)))
        assert find_request(db, owner, request).payment_status == "succeeded"


def test_one_that_has_succeeded_takes_no_payment(postgres: Postgres, owner: UUID) -> None:
    invoice = overdue(postgres, owner)
    ask(postgres, owner, [invoice], email="other@example.com")
    with postgres.session() as db:
        db.execute(update(Invoice).where(Invoice.id == invoice).values(payment_status="succeeded"))
    with pytest.raises(ApiError) as refused:
        pay(postgres, owner, invoice, 10_000)
    assert refused.value.details == {"base": ["payment_request_is_already_succeeded"]}


def test_refused(postgres: Postgres, owner: UUID) -> None:
    euros, dollars = overdue(postgres, owner), overdue(postgres, owner, "USD")
    with pytest.raises(ApiError) as mixed:
        ask(postgres, owner, [euros, dollars])
    assert mixed.value.code == "invoices_have_different_currencies"
    with pytest.raises(ApiError) as unreadable:
        ask(postgres, owner, [euros], email="nobody")
    assert unreadable.value.details == {"email": ["invalid_email_format"]}
    with postgres.session() as db:
        upsert_customer(db, db.get_one(Organization, owner), {"external_id": "customer", "email": None}, JULY)
    with pytest.raises(ApiError) as nowhere:
        ask(postgres, owner, [euros])
    assert nowhere.value.details == {"email": ["value_is_mandatory"]}
    assert listed(postgres, owner, "pending") == []
