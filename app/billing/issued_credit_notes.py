"""Credit notes as they were issued: found, and what may still change on them (billing spec 6.6)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.issued import FEE_PARTS
from app.customers.customers import CUSTOMER_PARTS
from app.errors import NotAllowed, NotFound, invalid
from app.models import CreditNote, CreditNoteItem, Fee, Invoice
from app.validation import Changes

CREDIT_STATUSES = ("available", "consumed", "voided")
REFUND_STATUSES = ("pending", "succeeded", "failed")

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
