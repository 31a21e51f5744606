"""Credit notes as they were issued: found, and what may still change on them (billing spec 6.6)."""

from collections.abc import Collection
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload

from app.billing.issued import FEE_PARTS
from app.customers.customers import CUSTOMER_PARTS
from app.errors import NotAllowed, NotFound, invalid
from app.models import CreditNote, CreditNoteItem, Customer, Fee, Invoice
from app.validation import Changes

CREDIT_STATUSES = ("available", "consumed", "voided")
REFUND_STATUSES = ("pending", "succeeded", "failed")

PARTS = {
    "credit": CreditNote.credit_amount_cents,
    "refund": CreditNote.refund_amount_cents,
    "offset": CreditNote.offset_amount_cents,
}

NOTE_PARTS = (
    joinedload(CreditNote.customer).options(*CUSTOMER_PARTS),
    joinedload(CreditNote.invoice).joinedload(Invoice.billing_entity),
    # The same customer comes by both ways, and whichever is last must bring all of it.
    selectinload(CreditNote.items)
    .joinedload(CreditNoteItem.fee)
    .options(*FEE_PARTS, joinedload(Fee.customer).options(*CUSTOMER_PARTS)),
    selectinload(CreditNote.applied_taxes),
)
"""What must be loaded with a note to show it whole."""


def notes(organization_id: UUID) -> Select[CreditNote]:
    """An organization's credit notes, latest issuing date first; not those of draft invoices."""
    return (
        select(CreditNote)
        .where(CreditNote.organization_id == organization_id, CreditNote.status == "finalized")
        .order_by(CreditNote.issuing_date.desc(), CreditNote.created_at.desc(), CreditNote.id)
        .options(*NOTE_PARTS)
    )


def search_notes(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
    issuing_date_from: date | None = None,
    issuing_date_to: date | None = None,
    search_term: str | None = None,
    currency: str | None = None,
    reason: str | None = None,
    credit_status: str | None = None,
    refund_status: str | None = None,
    invoice_number: str | None = None,
    amount_from: int | None = None,
    amount_to: int | None = None,
    types: Collection[str] | None = None,
) -> Select[CreditNote]:
    """The credit notes that pass all filters given; bounds are inclusive. `types`: those with such a part."""
    query = notes(organization_id)
    equal: tuple[tuple[InstrumentedAttribute[Any], object], ...] = (
        (CreditNote.customer_id, customer_id),
        (CreditNote.currency, currency),
        (CreditNote.reason, reason),
        (CreditNote.credit_status, credit_status),
        (CreditNote.refund_status, refund_status),
    )
    query = query.where(*(column == value for column, value in equal if value is not None))
    bounds: tuple[tuple[InstrumentedAttribute[Any], object, object], ...] = (
        (CreditNote.issuing_date, issuing_date_from, issuing_date_to),
        (CreditNote.total_amount_cents, amount_from, amount_to),
    )
    for column, low, high in bounds:
        query = query.where(column >= low) if low is not None else query
        query = query.where(column <= high) if high is not None else query
    if types:
        query = query.where(or_(*(PARTS[one] > 0 for one in types)))
    if external_customer_id is not None:
        query = query.where(CreditNote.customer.has(Customer.external_id == external_customer_id))
    if invoice_number is not None:
        query = query.where(CreditNote.invoice.has(Invoice.number == invoice_number))
    if search_term:
        searched = (Customer.name, Customer.external_id, Customer.email)
        of_customer = or_(*(column.icontains(search_term, autoescape=True) for column in searched))
        of_note = CreditNote.number.icontains(search_term, autoescape=True)
        query = query.where(or_(of_note, CreditNote.customer.has(of_customer)))
    return query


def find_note(db: Session, organization_id: UUID, note_id: UUID | None, *, lock: bool = False) -> CreditNote:
    """One credit note, whole.

    Raises:
        NotFound: `credit_note_not_found`.
    """
    query = notes(organization_id).where(CreditNote.id == note_id)
    if lock:
        query = query.with_for_update(of=CreditNote)
    note = db.scalars(query).first() if note_id is not None else None
    if note is None:
        raise NotFound("credit_note")
    return note


def void_note(note: CreditNote, now: datetime) -> None:
    """What is left of a note can no longer be spent; what was spent stays spent.

    Raises:
        NotAllowed: `no_voidable_amount`.
    """
    if note.balance_amount_cents <= 0:
        raise NotAllowed("no_voidable_amount")
    note.balance_amount_cents = 0
    note.credit_status = "voided"
    note.updated_at = now


def update_note(note: CreditNote, sent: Changes, now: datetime) -> None:
    """Note how the refund of a note stands, or write its metadata.

    Raises:
        Invalid: not a status of a refund.
    """
    if "refund_status" in sent:
        if sent["refund_status"] not in REFUND_STATUSES:
            raise invalid("refund_status", "value_is_invalid")
        if note.refund_status is not None:
            note.refund_status = sent["refund_status"]
    if "metadata" in sent:
        note.note_metadata = sent["metadata"] or {}
    note.updated_at = now
