"""Credit notes spent on invoices, oldest first, when the invoices are made final (billing spec 6.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import CreditNote


@dataclass(frozen=True, slots=True)
class Owed:
    """What an invoice asks for after taxes, in minor units."""

    customer_id: UUID
    currency: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What of a note an invoice takes."""

    credit_note_id: UUID
    amount_cents: int


def spend_credit_notes(db: Session, invoices: Sequence[Owed], now: datetime) -> list[list[Spent]]:
    """Take from the customers' notes what the invoices owe, one invoice after the other, and lower the notes' balances.

    The notes are locked: what two invoices want at the same time is spent by one of them.
    """
    customers = {one.customer_id for one in invoices if one.amount_cents > 0}
    if not customers:
        return [[] for _ in invoices]
    notes = db.scalars(
        select(CreditNote)
        .where(CreditNote.customer_id.in_(customers), CreditNote.credit_status == "available")
        .order_by(CreditNote.created_at, CreditNote.number, CreditNote.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    spent = [_spend(one, notes, now) for one in invoices]
    db.flush()
    return spent


def _spend(invoice: Owed, notes: Sequence[CreditNote], now: datetime) -> list[Spent]:
    left, spent = invoice.amount_cents, []
    for note in notes:
        if note.customer_id != invoice.customer_id or note.currency != invoice.currency:
            continue
        taken = min(left, note.balance_amount_cents)
        if taken > 0:
            left -= taken
            note.balance_amount_cents -= taken
            note.updated_at = now
            if not note.balance_amount_cents:
                note.credit_status = "consumed"
            spent.append(Spent(note.id, taken))
    return spent
