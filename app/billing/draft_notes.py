"""Credit notes of drafts: they follow the fees that they take back, and get final with the invoice (billing spec 3.3)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.credit_notes import note_number, note_tax, wanted_amounts
from app.billing.payment_status import settle
from app.core.money import exact, minor_int
from app.models import CreditNote, CreditNoteItem, CreditNoteTax, Fee, Invoice, among, write_alike

_ITEM_PLACES = Decimal("0.00001")
_RECKONED = (
    "status", "number", "credit_status", "total_amount_cents", "sub_total_excluding_taxes_amount_cents",
    "taxes_amount_cents", "taxes_rate", "coupons_adjustment_amount_cents", "credit_amount_cents", "refund_amount_cents",
    "offset_amount_cents", "balance_amount_cents", "updated_at",
)  # fmt: skip


def renew_notes(
    db: Session, invoice_ids: Sequence[UUID], before: Mapping[UUID, int], now: datetime, *, final: bool
) -> None:
    """Reckon the draft notes of these invoices anew, whose fees have been made anew; with `final` they can be spent from
    now on. `before`: what the fees came to, in minor units, by id. A note of which nothing is left is deleted.

    No more is taken off what is due of an invoice than is: coupons and prepaid credits may have paid it meanwhile, and the
    rest is credit then."""
    notes = db.scalars(
        select(CreditNote)
        .where(among(CreditNote.invoice_id, invoice_ids), CreditNote.status == "draft")
        .order_by(CreditNote.invoice_id, CreditNote.sequential_id)
        .options(
            joinedload(CreditNote.invoice).selectinload(Invoice.fees),
            selectinload(CreditNote.items).joinedload(CreditNoteItem.fee).selectinload(Fee.applied_taxes),
        )
        .execution_options(populate_existing=True)
    ).all()
    if not notes:
        return
    ids = [one.id for one in notes]
    db.execute(delete(CreditNoteTax).where(among(CreditNoteTax.credit_note_id, ids)))
    invoices = {note.invoice_id: note.invoice for note in notes}
    for invoice in invoices.values():
        invoice.offset_amount_cents = 0
    # The fee of an item may be gone: the relationship then has none.
    gone, gone_items = [], [item.id for note in notes for item in note.items if item.fee is None]
    for note in notes:
        items = [item for item in note.items if item.fee is not None]
        for item in items:
            _scale(item, before.get(item.fee_id, item.fee.amount_cents))
        if items and sum(item.precise_amount_cents for item in items):
            _reckon(db, note, items, now)
            if final:
                note.status, note.number = "finalized", note_number(note.invoice, note.sequential_id)
        else:
            gone.append(note.id)
    for invoice in invoices.values():
        settle(invoice, now)
    changed = ("offset_amount_cents", "payment_status", "payment_overdue", "updated_at")
    write_alike(filter(db.is_modified, invoices.values()), *changed)
    write_alike(filter(db.is_modified, notes), *_RECKONED)
    items = [item for note in notes for item in note.items]
    write_alike(filter(db.is_modified, items), "amount_cents", "precise_amount_cents")
    db.flush()
    outdated = among(CreditNoteItem.credit_note_id, gone) | among(CreditNoteItem.id, gone_items)
    db.execute(delete(CreditNoteItem).where(outdated))
    db.execute(delete(CreditNote).where(among(CreditNote.id, gone)))


def _scale(item: CreditNoteItem, before: int) -> None:
    """An item is the same part of its fee as before."""
    if before in (0, item.fee.amount_cents):
        return
    with exact():
        amount = item.precise_amount_cents * item.fee.amount_cents / before
    item.precise_amount_cents = amount.quantize(_ITEM_PLACES, ROUND_DOWN)
    item.amount_cents = minor_int(item.precise_amount_cents)


def _reckon(db: Session, note: CreditNote, items: Sequence[CreditNoteItem], now: datetime) -> None:
    amounts = wanted_amounts([(item.fee, item.precise_amount_cents) for item in items])
    total = amounts.total_cents
    note.offset_amount_cents = min(note.offset_amount_cents, total, note.invoice.total_due_amount_cents)
    note.invoice.offset_amount_cents += note.offset_amount_cents
    note.refund_amount_cents = min(note.refund_amount_cents, total - note.offset_amount_cents)
    note.credit_amount_cents = total - note.offset_amount_cents - note.refund_amount_cents
    note.balance_amount_cents = note.credit_amount_cents
    note.credit_status = "available" if note.credit_amount_cents else None
    note.total_amount_cents = total
    note.sub_total_excluding_taxes_amount_cents = amounts.sub_total_cents
    note.taxes_amount_cents = amounts.taxes.amount_cents
    note.taxes_rate = amounts.taxes.rate
    note.coupons_adjustment_amount_cents = amounts.coupons_cents
    note.updated_at = now
    applied = {str(tax.tax_id): tax for item in items for tax in item.fee.applied_taxes}
    for line in amounts.taxes.lines:
        db.add(note_tax(note, applied[line.tax_id], line.amount_cents, line.fees_amount_cents, now))
