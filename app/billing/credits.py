"""Credit notes spent on invoices, oldest first, when the invoices are made final (billing spec 6.5), and given back by
those that are dropped."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.settlement import Credited, Settlement
from app.core.money import exact
from app.core.spreading import spread
from app.models import Credit, CreditNote, Invoice, among, write_alike


def take_credit_notes(db: Session, settlements: Sequence[Settlement], now: datetime) -> None:
    """Take from the customers' notes what the invoices still owe, one invoice after the other, and lower the notes'
    balances.

    The notes are locked: what two invoices want at the same time is spent by one of them.
    """
    owing = [one for one in settlements if one.takes_credits and one.total_cents > 0]
    customers = {one.draft.payer.customer_id for one in owing}
    if not customers:
        return
    notes = db.scalars(
        select(CreditNote)
        .where(
            among(CreditNote.customer_id, customers),
            CreditNote.credit_status == "available",
            CreditNote.status == "finalized",
        )
        .order_by(CreditNote.created_at, CreditNote.number, CreditNote.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    theirs: dict[tuple[UUID, str], list[CreditNote]] = defaultdict(list)
    for note in notes:
        theirs[note.customer_id, note.currency].append(note)
    for one in owing if notes else ():
        _take(one, theirs.get((one.draft.payer.customer_id, one.draft.currency), ()), now)
    write_alike(filter(db.is_modified, notes), "balance_amount_cents", "credit_status", "updated_at")
    db.flush()


def give_back_credit_notes(db: Session, invoice: Invoice, now: datetime) -> None:
    """Give back what credit notes have paid of an invoice that is dropped; not of notes that have been voided since. The
    caller holds the customer."""
    rows = db.execute(
        select(CreditNote, Credit.amount_cents)
        .join(Credit, Credit.credit_note_id == CreditNote.id)
        .where(Credit.invoice_id == invoice.id, CreditNote.credit_status != "voided")
        .order_by(CreditNote.id)
        .with_for_update(of=CreditNote)
        .execution_options(populate_existing=True)
    ).all()
    for note, amount_cents in rows:
        note.balance_amount_cents += amount_cents
        note.credit_status, note.updated_at = "available", now
    db.flush()


def _take(settlement: Settlement, notes: Sequence[CreditNote], now: datetime) -> None:
    draft, before = settlement.draft, settlement.total_cents
    for note in notes:
        if note.invoice_id == draft.id:
            continue
        taken = min(settlement.total_cents, note.balance_amount_cents)
        if taken > 0:
            note.balance_amount_cents -= taken
            note.updated_at = now
            if not note.balance_amount_cents:
                note.credit_status = "consumed"
            settlement.credits.append(Credited(taken, credit_note_id=note.id))
    _spread(settlement, before - settlement.total_cents)


def _spread(settlement: Settlement, taken: int) -> None:
    """Say of each fee what the notes have paid of it, by what it came to with its taxes."""
    fees = settlement.fees
    if taken:
        with exact():
            weights = [settlement.left_of(fee) + settlement.fee_taxes(fee).precise_amount_cents for fee in fees]
        shares = spread(Decimal(taken), weights)
        settlement.noted = dict(zip((fee.id for fee in fees), shares, strict=True))
