"""Payment requests: several overdue invoices of a customer asked for at once (billing spec 9.2)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.issued import visible_invoices
from app.billing.locks import lock_customer
from app.customers.customers import CUSTOMER_PARTS, find_customer
from app.errors import NotAllowed, NotFound, Problems
from app.models import Customer, Invoice, PaymentRequest
from app.validation import Changes, as_uuid, check_contact, check_mandatory

REQUEST_PARTS = (
    joinedload(PaymentRequest.customer).options(*CUSTOMER_PARTS),
    selectinload(PaymentRequest.invoices).options(joinedload(Invoice.customer), joinedload(Invoice.billing_entity)),
)
"""What must be loaded with a payment request to show it."""


def request_payment(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> PaymentRequest:
    """Ask a customer for what is due of overdue invoices; the email is the customer's unless one is sent.

    Raises:
        NotFound: `customer_not_found`, `invoice_not_found`.
        NotAllowed: not all of the invoices are overdue, or of one currency and billing entity.
        Invalid: there is no email, or it is none.
    """
    customer = find_customer(db, organization_id, sent.get("external_customer_id") or "")
    lock_customer(db, customer.id)
    invoices = _invoices(db, customer, sent.get("lago_invoice_ids") or ())
    if not all(invoice.payment_overdue for invoice in invoices):
        raise NotAllowed("invoices_not_overdue")
    if len({invoice.currency for invoice in invoices}) > 1:
        raise NotAllowed("invoices_have_different_currencies")
    if len({invoice.billing_entity_id for invoice in invoices}) > 1:
        raise NotAllowed("invoices_have_different_billing_entities")
    email = {"email": sent.get("email") or customer.email}
    problems = Problems()
    check_mandatory(problems, email, ("email",), creating=True)
    check_contact(problems, email)
    problems.check()
    request = PaymentRequest(
        organization_id=organization_id,
        customer=customer,
        invoices=invoices,
        amount_cents=sum(invoice.total_due_amount_cents for invoice in invoices),
        currency=invoices[0].currency,
        email=email["email"],
        created_at=now,
    )
    db.add(request)
    db.flush()
    return request


def _invoices(db: Session, customer: Customer, ids: Sequence[str]) -> list[Invoice]:
    """The customer's invoices with these ids, locked. All of them must be there."""
    wanted = {as_uuid(one) for one in ids}
    found = db.scalars(
        visible_invoices(customer.organization_id)
        .where(Invoice.customer_id == customer.id, Invoice.id.in_(wanted - {None}))
        .with_for_update(of=Invoice)
    ).all()
    if not found or len(found) < len(wanted):
        raise NotFound("invoice")
    return list(found)


def search_requests(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
    payment_status: str | None = None,
    currency: str | None = None,
) -> Select[PaymentRequest]:
    """The payment requests that pass all filters given, latest first."""
    query = (
        select(PaymentRequest)
        .where(PaymentRequest.organization_id == organization_id)
        .order_by(PaymentRequest.created_at.desc(), PaymentRequest.id)
        .options(*REQUEST_PARTS)
    )
    if external_customer_id is not None:
        query = query.where(PaymentRequest.customer.has(Customer.external_id == external_customer_id))
    for column, value in (
        (PaymentRequest.customer_id, customer_id),
        (PaymentRequest.payment_status, payment_status),
        (PaymentRequest.currency, currency),
    ):
        if value is not None:
            query = query.where(column == value)
    return query


def find_request(db: Session, organization_id: UUID, request_id: UUID | None) -> PaymentRequest:
    """One payment request.

    Raises:
        NotFound: `payment_request_not_found`.
    """
    query = search_requests(organization_id).where(PaymentRequest.id == request_id)
    request = db.scalars(query).first() if request_id is not None else None
    if request is None:
        raise NotFound("payment_request")
    return request
