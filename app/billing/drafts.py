"""What a client may do with a draft or a failed invoice: refresh, finalize, delete, try again (billing spec 3.3)."""

from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.billing.issued import STATUSES, find_invoice, visible_invoices
from app.billing.locks import lock_customer
from app.billing.redrawing import redraw
from app.core.periods import local_date
from app.errors import Forbidden, NotAllowed, NotFound
from app.metering.meter import Meter
from app.models import AdjustedFee, CreditNote, CreditNoteItem, CreditNoteTax, Invoice


def refresh_invoice(
    db: Session, organization_id: UUID, invoice_id: UUID | None, now: datetime, meter: Meter
) -> Invoice:
    """Make a draft anew from what is there now. Any other invoice stays as it is.

    Raises:
        NotFound: `invoice_not_found`.
        Forbidden: `feature_unavailable`, where it is not an invoice of subscriptions.
    """
    invoice = hold_invoice(db, organization_id, invoice_id)
    if invoice.invoice_type != "subscription":
        raise Forbidden("feature_unavailable")
    if invoice.status == "draft":
        redraw(db, [invoice.id], now, now, meter, final=False)
    return _anew(db, invoice)


def finalize_invoice(
    db: Session, organization_id: UUID, invoice_id: UUID | None, now: datetime, meter: Meter
) -> Invoice:
    """Make a draft anew and final: it takes coupons, credit notes and prepaid credits, and gets its number. One without
    amount may be closed instead, and is returned as that.

    Raises:
        NotFound: `invoice_not_found`, also where it is no draft.
    """
    invoice = hold_invoice(db, organization_id, invoice_id)
    if invoice.status != "draft":
        raise NotFound("invoice")
    redraw(db, [invoice.id], now, now, meter, final=True)
    return _anew(db, invoice)


def retry_invoice(db: Session, organization_id: UUID, invoice_id: UUID | None, now: datetime, meter: Meter) -> Invoice:
    """Make a failed invoice again: as a draft, where its grace period goes on. It may fail again, with a new reason.

    Raises:
        NotFound: `invoice_not_found`.
        NotAllowed: `invalid_status`, where it has not failed.
    """
    invoice = hold_invoice(db, organization_id, invoice_id)
    if invoice.status != "failed":
        raise NotAllowed("invalid_status")
    today = max(now.astimezone(UTC).date(), local_date(now, ZoneInfo(invoice.timezone)))
    final = invoice.expected_finalization_date <= today
    redraw(db, [invoice.id], now, now, meter, final=final)
    return _anew(db, invoice)


def delete_draft(db: Session, organization_id: UUID, invoice_id: UUID | None, now: datetime) -> Invoice:
    """Delete a draft. What it bills is not billed again.

    Raises:
        NotFound: `invoice_not_found`.
        NotAllowed: `not_deletable`, where it is no draft.
    """
    invoice = hold_invoice(db, organization_id, invoice_id)
    if invoice.status != "draft":
        raise NotAllowed("not_deletable")
    notes = select(CreditNote.id).where(CreditNote.invoice_id == invoice.id)
    for table, condition in (
        (CreditNoteTax, CreditNoteTax.credit_note_id.in_(notes)),
        (CreditNoteItem, CreditNoteItem.credit_note_id.in_(notes)),
        (CreditNote, CreditNote.invoice_id == invoice.id),
        (AdjustedFee, AdjustedFee.invoice_id == invoice.id),
    ):
        db.execute(delete(table).where(condition), execution_options={"synchronize_session": False})
    whole = find_invoice(db, organization_id, invoice.id)
    whole.status, whole.finalization_due_at, whole.ready_to_be_refreshed = "deleted", None, False
    whole.offset_amount_cents = 0
    whole.updated_at = now
    db.flush()
    return whole


def hold_invoice(db: Session, organization_id: UUID, invoice_id: UUID | None) -> Invoice:
    """An invoice, locked after its customer, as everything that bills does.

    Raises:
        NotFound: `invoice_not_found`.
    """
    query = visible_invoices(organization_id).where(Invoice.id == invoice_id)
    customer_id = db.scalar(query.with_only_columns(Invoice.customer_id)) if invoice_id is not None else None
    if customer_id is None:
        raise NotFound("invoice")
    lock_customer(db, customer_id)
    held = db.scalars(query.with_for_update(of=Invoice)).first()
    if held is None:
        raise NotFound("invoice")
    return held


def _anew(db: Session, invoice: Invoice) -> Invoice:
    """The invoice as it is stored now, whatever has become of it: fees have changed that the session knows."""
    db.flush()
    db.expunge_all()
    return find_invoice(db, invoice.organization_id, invoice.id, STATUSES)
