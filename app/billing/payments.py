"""Payments noted by hand, and their receipts (billing spec 9.3, 9.5)."""

from datetime import datetime
from typing import NoReturn
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session, joinedload

from app.billing.issued import PAYABLE, lock_invoice
from app.billing.payment_status import settle
from app.billing.purchases import TOP_UP, settle_top_up
from app.billing.receipts import write_payments
from app.customers.gated_starts import settle_start
from app.errors import NotAllowed, NotFound, Problems, invalid
from app.metering.meter import Meter
from app.models import Customer, Invoice, Payment, PaymentReceipt, PaymentRequest
from app.validation import Changes, as_uuid, check_length, check_mandatory

LONGEST_REFERENCE = 40

PAYMENT_PARTS = (joinedload(Payment.customer), joinedload(Payment.invoice))
"""What must be loaded with a payment to show it."""


def record_payment(db: Session, organization_id: UUID, sent: Changes, now: datetime, meter: Meter) -> Payment:
    """Note that an invoice, or a part of it, was paid; the payment has a receipt. The invoice has succeeded once nothing is
    due any more. A top-up then gives its credits; an invoice that had to be paid first, at once and in full, is final, and
    the subscription that has waited for it starts.

    Raises:
        NotFound: `invoice_not_found`.
        Invalid: a field breaks a rule, the invoice is not one to be paid, or less is due.
    """
    problems = Problems()
    check_mandatory(problems, sent, ("invoice_id", "reference"), creating=True)
    check_length(problems, sent, {"reference": LONGEST_REFERENCE})
    amount: int = sent.get("amount_cents") or 0
    if amount <= 0:
        problems.add("amount_cents", "invalid_value")
    problems.check()
    invoice = lock_invoice(db, organization_id, as_uuid(sent["invoice_id"]), PAYABLE)
    if invoice.status not in {"finalized", "open"}:
        raise invalid("invoice_id", "value_is_invalid")
    if db.scalar(select(PaymentRequest.id).where(_of(invoice), PaymentRequest.payment_status == "succeeded").limit(1)):
        raise invalid("base", "payment_request_is_already_succeeded")
    if amount > invoice.total_due_amount_cents:
        raise invalid("amount_cents", "value_is_out_of_range")
    if (invoice.invoice_type == TOP_UP or invoice.status == "open") and amount != invoice.total_amount_cents:
        raise invalid("amount_cents", "invalid_amount")
    payment = Payment(
        organization_id=organization_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        amount_cents=amount,
        currency=invoice.currency,
        reference=sent["reference"],
        created_at=sent.get("paid_at") or now,
    )
    invoice.total_paid_amount_cents += amount
    invoice.updated_at = now
    settle(invoice, now)
    if invoice.payment_status == "succeeded":
        settle_top_up(db, invoice, succeeded=True, now=now)
        settle_start(db, invoice, succeeded=True, now=now, meter=meter)
    write_payments(db, [payment], now)
    return payment


def retry_payment(invoice: Invoice) -> None:
    """Ask a provider of payments for what is due once more. There are no providers: the invoice waits for a payment by hand
    (billing spec 3.6, 9.4).

    Raises:
        NotAllowed: `invalid_status`, when the invoice is not to be paid.
    """
    if invoice.status != "finalized" or invoice.payment_status == "succeeded":
        raise NotAllowed("invalid_status")


def payment_url(invoice: Invoice) -> NoReturn:  # noqa: ARG001 (whichever it is)
    """The page of a provider where an invoice can be paid. No customer has a provider.

    Raises:
        Invalid: `no_linked_payment_provider`.
    """
    raise invalid("base", "no_linked_payment_provider")


def _of(invoice: Invoice) -> ColumnElement[bool]:
    """Whether a payment request is for an invoice."""
    same = PaymentRequest.organization_id == invoice.organization_id
    return same & PaymentRequest.invoices.any(Invoice.id == invoice.id)


def search_payments(
    organization_id: UUID,
    *,
    invoice_id: str | None = None,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
    currency: str | None = None,
) -> Select[Payment]:
    """The payments that pass all filters given, latest first."""
    query = (
        select(Payment)
        .where(Payment.organization_id == organization_id)
        .order_by(Payment.created_at.desc(), Payment.id)
        .options(*PAYMENT_PARTS)
    )
    if invoice_id is not None:
        query = query.where(Payment.invoice_id == as_uuid(invoice_id))
    if external_customer_id is not None:
        query = query.where(Payment.customer.has(Customer.external_id == external_customer_id))
    if customer_id is not None:
        query = query.where(Payment.customer_id == customer_id)
    if currency is not None:
        query = query.where(Payment.currency == currency)
    return query


def find_payment(db: Session, organization_id: UUID, payment_id: UUID | None) -> Payment:
    """One payment.

    Raises:
        NotFound: `payment_not_found`.
    """
    query = search_payments(organization_id).where(Payment.id == payment_id)
    payment = db.scalars(query).first() if payment_id is not None else None
    if payment is None:
        raise NotFound("payment")
    return payment


def search_receipts(organization_id: UUID, *, invoice_id: str | None = None) -> Select[PaymentReceipt]:
    """An organization's receipts, or those of an invoice's payments, latest first."""
    query = (
        select(PaymentReceipt)
        .where(PaymentReceipt.organization_id == organization_id)
        .order_by(PaymentReceipt.created_at.desc(), PaymentReceipt.number.desc())
        .options(joinedload(PaymentReceipt.payment).options(*PAYMENT_PARTS))
    )
    if invoice_id is not None:
        query = query.where(PaymentReceipt.payment.has(Payment.invoice_id == as_uuid(invoice_id)))
    return query


def find_receipt(db: Session, organization_id: UUID, receipt_id: UUID | None) -> PaymentReceipt:
    """One receipt.

    Raises:
        NotFound: `payment_receipt_not_found`.
    """
    query = search_receipts(organization_id).where(PaymentReceipt.id == receipt_id)
    receipt = db.scalars(query).first() if receipt_id is not None else None
    if receipt is None:
        raise NotFound("payment_receipt")
    return receipt
