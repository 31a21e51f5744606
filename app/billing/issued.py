"""Invoices and fees as they were issued: found, listed, and what may still change on them (billing spec 3.6, 11.6)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload

from app.billing.locks import lock_customer
from app.billing.payment_status import PAYMENT_STATUSES, set_payment_status
from app.billing.purchases import settle_top_up
from app.customers.billing_entities import ids_of
from app.customers.customers import CUSTOMER_PARTS
from app.customers.gated_starts import settle_start
from app.customers.subscriptions import BARE_SUBSCRIPTION_PARTS
from app.errors import NotAllowed, NotFound, invalid
from app.metering.meter import Meter
from app.models import (
    AppliedCoupon,
    AppliedUsageThreshold,
    BillableMetric,
    BillingPeriod,
    Charge,
    Credit,
    CreditNote,
    Customer,
    Fee,
    Invoice,
    InvoiceMetadata,
    Subscription,
)
from app.validation import Changes

VISIBLE = ("draft", "finalized", "voided", "failed", "pending")
"""Statuses a client ever sees; a closed invoice is not found."""
PAYABLE = (*VISIBLE, "open")
"""Those of invoices whose payment may be noted: also of one that is not seen before it is paid."""
STATUSES = (*VISIBLE, "closed", "deleted")
INVOICE_TYPES = ("subscription", "add_on", "credit", "one_off", "advance_charges", "progressive_billing")
FEE_TYPES = ("charge", "add_on", "subscription", "credit", "commitment", "fixed_charge")
SETTLEMENTS = ("credit_note", "payment")
MOST_METADATA = 5
LONGEST_METADATA_VALUE = 140

_SETTLED = {"credit_note": Invoice.offset_amount_cents > 0, "payment": Invoice.total_paid_amount_cents > 0}
_DISPUTE_LOST = Invoice.payment_dispute_lost_at.is_not(None)
_PARTIALLY_PAID = (Invoice.total_paid_amount_cents > 0) & (
    Invoice.total_paid_amount_cents + Invoice.offset_amount_cents < Invoice.total_amount_cents
)

FEE_PARTS = (
    joinedload(Fee.customer),
    joinedload(Fee.subscription),
    selectinload(Fee.applied_taxes),
    selectinload(Fee.true_up_fee).load_only(Fee.id),
)
LIST_PARTS = (
    joinedload(Invoice.customer).options(*CUSTOMER_PARTS),
    joinedload(Invoice.billing_entity),
    selectinload(Invoice.applied_taxes),
    selectinload(Invoice.applied_usage_thresholds).joinedload(AppliedUsageThreshold.usage_threshold),
    selectinload(Invoice.invoice_metadata),
)
WHOLE_PARTS = (
    *LIST_PARTS,
    selectinload(Invoice.credits).options(
        joinedload(Credit.credit_note).joinedload(CreditNote.invoice),
        joinedload(Credit.applied_coupon).joinedload(AppliedCoupon.coupon),
        joinedload(Credit.progressive_invoice),
    ),
    selectinload(Invoice.billing_periods).joinedload(BillingPeriod.subscription).options(*BARE_SUBSCRIPTION_PARTS),
    selectinload(Invoice.fees).options(*FEE_PARTS),
    selectinload(Invoice.regenerated).load_only(Invoice.id),
)


def visible_invoices(organization_id: UUID, statuses: Collection[str] = VISIBLE) -> Select[Invoice]:
    """An organization's invoices, latest issuing date first."""
    return (
        select(Invoice)
        .where(Invoice.organization_id == organization_id, Invoice.status.in_(statuses))
        .order_by(Invoice.issuing_date.desc(), Invoice.created_at.desc(), Invoice.id)
        .options(*LIST_PARTS)
    )


def search_invoices(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
    statuses: Collection[str] | None = None,
    payment_statuses: Collection[str] | None = None,
    invoice_types: Collection[str] | None = None,
    currency: str | None = None,
    amount_from: int | None = None,
    amount_to: int | None = None,
    issuing_date_from: date | None = None,
    issuing_date_to: date | None = None,
    payment_overdue: bool | None = None,
    payment_dispute_lost: bool | None = None,
    partially_paid: bool | None = None,
    settlements: Collection[str] | None = None,
    purchase_order_number: str | None = None,
    search_term: str | None = None,
    metadata: Mapping[str, str] | None = None,
    billing_entity_codes: Collection[str] | None = None,
) -> Select[Invoice]:
    """The invoices that pass all filters given; bounds are inclusive. An empty metadata value means: without this key.
    `settlements`: invoices with a payment, or with a credit note that offset what was due."""
    query = visible_invoices(organization_id)
    equal: tuple[tuple[ColumnElement[Any] | InstrumentedAttribute[Any], object], ...] = (
        (Invoice.customer_id, customer_id),
        (Invoice.currency, currency),
        (Invoice.payment_overdue, payment_overdue),
        (Invoice.purchase_order_number, purchase_order_number),
        (_DISPUTE_LOST, payment_dispute_lost),
        (_PARTIALLY_PAID, partially_paid),
    )
    query = query.where(*(column == value for column, value in equal if value is not None))
    for column, values in (
        (Invoice.status, statuses),
        (Invoice.payment_status, payment_statuses),
        (Invoice.invoice_type, invoice_types),
    ):
        if values:
            query = query.where(column.in_(values))
    if settlements:
        query = query.where(or_(*(_SETTLED[one] for one in settlements)))
    bounds: tuple[tuple[InstrumentedAttribute[Any], object, object], ...] = (
        (Invoice.total_amount_cents, amount_from, amount_to),
        (Invoice.issuing_date, issuing_date_from, issuing_date_to),
    )
    for column, low, high in bounds:
        query = query.where(column >= low) if low is not None else query
        query = query.where(column <= high) if high is not None else query
    if external_customer_id is not None:
        query = query.where(Invoice.customer.has(Customer.external_id == external_customer_id))
    if billing_entity_codes is not None:
        query = query.where(Invoice.billing_entity_id.in_(ids_of(organization_id, billing_entity_codes)))
    if search_term:
        query = query.where(
            or_(
                Invoice.number.icontains(search_term, autoescape=True),
                Invoice.customer.has(
                    or_(
                        Customer.name.icontains(search_term, autoescape=True),
                        Customer.external_id.icontains(search_term, autoescape=True),
                        Customer.email.icontains(search_term, autoescape=True),
                    )
                ),
            )
        )
    for key, value in (metadata or {}).items():
        has_key = exists().where(InvoiceMetadata.invoice_id == Invoice.id, InvoiceMetadata.key == key)
        query = query.where(has_key.where(InvoiceMetadata.value == value) if value else ~has_key)
    return query


def find_invoice(
    db: Session, organization_id: UUID, invoice_id: UUID | None, statuses: Collection[str] = VISIBLE
) -> Invoice:
    """One invoice with all its parts.

    Raises:
        NotFound: `invoice_not_found`.
    """
    invoice = None
    if invoice_id is not None:
        query = visible_invoices(organization_id, statuses).where(Invoice.id == invoice_id).options(*WHOLE_PARTS)
        invoice = db.scalars(query).first()
    if invoice is None:
        raise NotFound("invoice")
    return invoice


def lock_invoice(
    db: Session, organization_id: UUID, invoice_id: UUID | None, statuses: Collection[str] = VISIBLE
) -> Invoice:
    """One invoice with all its parts, locked for this transaction, after its customer.

    Raises:
        NotFound: `invoice_not_found`.
    """
    known = select(Invoice.customer_id).where(Invoice.organization_id == organization_id, Invoice.id == invoice_id)
    customer_id = None if invoice_id is None else db.scalar(known)
    if customer_id is None:
        raise NotFound("invoice")
    lock_customer(db, customer_id)
    db.execute(known.with_for_update())
    return find_invoice(db, organization_id, invoice_id, statuses)


def update_invoice(db: Session, invoice: Invoice, sent: Changes, now: datetime, meter: Meter) -> None:
    """Note by hand how an invoice's payment stands, or write its metadata (billing spec 3.6). A top-up that succeeds gives
    its credits, and a subscription that has waited for its first invoice starts, or is canceled.

    Raises:
        Invalid: a field breaks a rule.
        NotAllowed: the invoice is a draft, or voided.
    """
    if invoice.status == "voided":
        raise NotAllowed("update_on_voided_invoice")
    if "payment_status" in sent:
        if sent["payment_status"] not in PAYMENT_STATUSES:
            raise invalid("payment_status", "value_is_invalid")
        if invoice.status == "draft":
            raise NotAllowed("payment_status_update_on_draft_invoice")
        set_payment_status(invoice, sent["payment_status"], now)
        if invoice.payment_status != "pending":
            succeeded = invoice.payment_status == "succeeded"
            settle_top_up(db, invoice, succeeded=succeeded, now=now)
            settle_start(db, invoice, succeeded=succeeded, now=now, meter=meter)
    if "metadata" in sent:
        write_metadata(invoice, sent["metadata"] or (), now)


def lose_dispute(invoice: Invoice, now: datetime) -> None:
    """Note that the customer has won a dispute about an invoice: it is not expected to be paid (billing spec 3.7).

    Raises:
        NotAllowed: `not_disputable`.
    """
    if invoice.status not in {"finalized", "voided"}:
        raise NotAllowed("not_disputable")
    invoice.payment_dispute_lost_at = invoice.payment_dispute_lost_at or now
    invoice.payment_overdue = False
    invoice.updated_at = now


def write_metadata(invoice: Invoice, sent: Sequence[Mapping[str, str | None]], now: datetime) -> None:
    """Replace an invoice's metadata; entries sent with a known `id` keep it (billing spec 3.6).

    Raises:
        Invalid: more than five, or an entry without key or value, or too long a value.
        NotAllowed: the invoice is a draft.
    """
    if invoice.status == "draft":
        raise NotAllowed("metadata_on_draft_invoice")
    if len(sent) > MOST_METADATA:
        raise invalid("metadata", "invalid_count")
    known = {str(entry.id): entry for entry in invoice.invoice_metadata}
    kept: list[InvoiceMetadata] = []
    for one in sent:
        entry = known.get(str(one.get("id")))
        if entry is None:
            if not one.get("key"):
                raise invalid("key", "value_is_mandatory")
            entry = InvoiceMetadata(invoice_id=invoice.id, key=one["key"], value="", created_at=now)
        entry.key = one.get("key") or entry.key
        entry.value = one.get("value") or ""
        if len(entry.value) > LONGEST_METADATA_VALUE:
            raise invalid("value", "value_is_too_long")
        kept.append(entry)
    invoice.invoice_metadata = kept
    invoice.updated_at = now


def search_fees(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    external_subscription_id: str | None = None,
    billable_metric_code: str | None = None,
    fee_type: str | None = None,
    payment_status: str | None = None,
    currency: str | None = None,
    event_transaction_id: str | None = None,
    between: Mapping[str, tuple[datetime | None, datetime | None]] | None = None,
) -> Select[Fee]:
    """The fees of visible invoices, and those that stand alone, that pass all filters given, oldest first. `between` bounds
    `created_at` and the like, inclusive."""
    query = (
        select(Fee)
        .outerjoin(Fee.invoice)
        .where(
            Fee.organization_id == organization_id,
            Fee.deleted_at.is_(None),
            or_(Fee.invoice_id.is_(None), Invoice.status.in_(VISIBLE)),
        )
        .order_by(Fee.created_at, Fee.position, Fee.id)
        .options(*FEE_PARTS)
    )
    if external_customer_id is not None:
        query = query.where(Fee.customer.has(Customer.external_id == external_customer_id))
    if external_subscription_id is not None:
        query = query.where(Fee.subscription.has(Subscription.external_id == external_subscription_id))
    if billable_metric_code is not None:
        query = query.where(Fee.charge.has(Charge.billable_metric.has(BillableMetric.code == billable_metric_code)))
    if event_transaction_id is not None:
        query = query.where(Fee.event_transaction_id == event_transaction_id)
    for column, value in ((Fee.fee_type, fee_type), (Fee.payment_status, payment_status), (Fee.currency, currency)):
        if value is not None:
            query = query.where(column == value)
    for name, (low, high) in (between or {}).items():
        column = getattr(Fee, name)
        query = query.where(column >= low) if low is not None else query
        query = query.where(column <= high) if high is not None else query
    return query


def remove_fee(fee: Fee, now: datetime) -> None:
    """Delete a fee that stands alone; the event that it is for makes no other.

    Raises:
        NotAllowed: `invoiced_fee`.
    """
    if fee.invoice_id is not None:
        raise NotAllowed("invoiced_fee")
    fee.deleted_at = now


def find_fee(db: Session, organization_id: UUID, fee_id: UUID | None) -> Fee:
    """One fee.

    Raises:
        NotFound: `fee_not_found`.
    """
    fee = None
    if fee_id is not None:
        fee = db.scalars(search_fees(organization_id).where(Fee.id == fee_id)).first()
    if fee is None:
        raise NotFound("fee")
    return fee
