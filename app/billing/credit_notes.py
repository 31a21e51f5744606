"""Credit notes: what they may take of an invoice, what they come to, and how they are stored (billing spec 6)."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.locks import lock_customer
from app.billing.payment_status import settle
from app.billing.purchases import TOP_UP, purchase_of, settle_top_up, take_back_credits
from app.core.credit_notes import NoteAmounts, NoteItem, Rest, coupon_share, note_amounts
from app.core.money import ZERO, minor_int
from app.core.periods import local_date
from app.core.taxes import TaxRate
from app.errors import NotAllowed, NotFound
from app.models import CreditNote, CreditNoteItem, CreditNoteTax, Customer, Fee, FeeTax, Invoice
from app.validation import as_uuid

Wanted = list[tuple[Fee, Decimal]]
"""Fees, and what of each is to be taken back, before taxes and coupons, in minor units."""

Parts = tuple[int, int, int]
"""What of a note is credit, refund and offset, in minor units."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the notes on an invoice have left of it: of each fee before taxes and coupons, and of its sums. And how many
    they are, and what of them are refunds, in minor units."""

    fees: Mapping[UUID, Decimal]
    rest: Rest
    notes: int
    refund_cents: int

    def is_all(self, items: Wanted) -> bool:
        """Whether these items are all that is left, but for parts of a cent."""
        taken: dict[UUID, Decimal] = defaultdict(Decimal)
        for fee, amount in items:
            taken[fee.id] += amount
        return any(self.fees.values()) and all(left - taken[fee_id] < 1 for fee_id, left in self.fees.items())


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a note would come to, and the most that notes on its invoice may still take back. `number` is the note's among
    those of its invoice."""

    invoice: Invoice
    items: Wanted
    amounts: NoteAmounts
    number: int
    creditable_cents: int
    refundable_cents: int
    offsettable_cents: int


def noted_invoice(
    db: Session, organization_id: UUID, invoice_id: object, statuses: Collection[str] = ("finalized",)
) -> Invoice:
    """The invoice that a note is for, locked after its customer, with its fees and their taxes."""
    known = as_uuid(invoice_id)
    theirs = select(Invoice.customer_id).where(Invoice.organization_id == organization_id, Invoice.id == known)
    customer_id = db.scalar(theirs) if known is not None else None
    if customer_id is not None:
        lock_customer(db, customer_id)
    query = (
        select(Invoice)
        .where(Invoice.organization_id == organization_id, Invoice.id == known, Invoice.status.in_(statuses))
        .options(
            joinedload(Invoice.customer).joinedload(Customer.billing_entity),
            selectinload(Invoice.fees).selectinload(Fee.applied_taxes),
        )
        .with_for_update(of=Invoice)
    )
    invoice = db.scalars(query).first() if known is not None else None
    if invoice is None:
        raise NotFound("invoice")
    return invoice


def left_of(db: Session, invoice: Invoice) -> Left:
    """What the notes on an invoice have left of it."""
    taken = dict(
        db.execute(
            select(CreditNoteItem.fee_id, func.sum(CreditNoteItem.precise_amount_cents))
            .where(
                CreditNoteItem.organization_id == invoice.organization_id,
                CreditNoteItem.fee_id.in_([fee.id for fee in invoice.fees]),
            )
            .group_by(CreditNoteItem.fee_id)
        ).all()
    )
    sums = (
        CreditNote.sub_total_excluding_taxes_amount_cents,
        CreditNote.taxes_amount_cents,
        CreditNote.refund_amount_cents,
    )
    notes, *given = db.execute(
        select(func.count(), *(func.coalesce(func.sum(one), 0) for one in sums)).where(
            CreditNote.organization_id == invoice.organization_id, CreditNote.invoice_id == invoice.id
        )
    ).one()
    sub_total, taxes, refund = map(int, given)
    return Left(
        fees={fee.id: Decimal(fee.amount_cents) - taken.get(fee.id, ZERO) for fee in invoice.fees},
        rest=Rest(invoice.sub_total_excluding_taxes_amount_cents - sub_total, invoice.taxes_amount_cents - taxes),
        notes=notes,
        refund_cents=refund,
    )


def rest_of(invoice: Invoice, left: Left) -> Wanted:
    """All that is left of the fees."""
    return [(fee, left.fees[fee.id]) for fee in invoice.fees if left.fees[fee.id] > 0]


def wanted_amounts(items: Wanted, rest: Rest | None = None) -> NoteAmounts:
    """What a note with these items comes to; one that takes all that is left takes what rounding has left, too."""
    return note_amounts(
        [
            NoteItem(
                amount,
                [TaxRate(str(tax.tax_id), tax.tax_rate) for tax in fee.applied_taxes],
                coupon_share(amount, fee.amount_cents, fee.precise_coupons_amount_cents),
            )
            for fee, amount in items
        ],
        rest,
    )


def estimated(db: Session, invoice: Invoice, left: Left, items: Wanted) -> Estimate:
    """What a note with these items comes to. One that takes all comes to what the notes before it have left, and none comes
    to more (billing spec 6.2, 6.3)."""
    creditable = left.rest.total_cents if any(left.fees.values()) else 0
    amounts = wanted_amounts(items, left.rest if left.is_all(items) else None)
    if amounts.total_cents > creditable:
        amounts = amounts.coming_to(creditable)
    refundable = min(invoice.total_paid_amount_cents - left.refund_cents, creditable)
    if invoice.invoice_type == TOP_UP:
        # What it sold is not given back as credit, and as money only what has not been spent.
        refundable, creditable = min(refundable, _unspent(db, invoice)), 0
    return Estimate(
        invoice=invoice,
        items=items,
        amounts=amounts,
        number=left.notes + 1,
        creditable_cents=creditable,
        refundable_cents=max(refundable, 0),
        offsettable_cents=min(invoice.total_due_amount_cents, left.rest.total_cents),
    )


def _unspent(db: Session, invoice: Invoice) -> int:
    """What of the credits that an invoice sold is still in the wallet, in minor units.

    Raises:
        NotAllowed: `invalid_type_or_status`, when the wallet is over.
    """
    purchase, wallet = purchase_of(db, invoice.id)
    if wallet.status != "active":
        raise NotAllowed("invalid_type_or_status")
    return purchase.remaining_amount_cents or 0


def write_note(
    db: Session,
    estimate: Estimate,
    parts: Parts,
    *,
    reason: str,
    description: str | None,
    metadata: dict[str, Any],
    now: datetime,
) -> CreditNote:
    """Store a note. Its total is that of its rounded parts; a cent of difference goes to the credit, or without any to the
    refund, as far as no more is refunded than was paid, or to the offset, as far as that is due (billing spec 6.2)."""
    invoice, amounts = estimate.invoice, estimate.amounts
    credit, refund, offset = parts
    difference = amounts.total_cents - sum(parts)
    if not credit and refund and refund + difference <= estimate.refundable_cents:
        refund += difference
    elif not credit and not refund and offset + difference <= estimate.offsettable_cents:
        offset += difference
    else:
        credit += difference
    is_draft = invoice.status == "draft"
    note = CreditNote(
        organization_id=invoice.organization_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        sequential_id=estimate.number,
        number=None if is_draft else note_number(invoice, estimate.number),
        status="draft" if is_draft else "finalized",
        issuing_date=local_date(now, ZoneInfo(invoice.customer.applicable_timezone)),
        credit_status="available" if credit else None,
        refund_status="pending" if refund else None,
        reason=reason,
        description=description,
        currency=invoice.currency,
        sub_total_excluding_taxes_amount_cents=amounts.sub_total_cents,
        taxes_amount_cents=amounts.taxes.amount_cents,
        taxes_rate=amounts.taxes.rate,
        coupons_adjustment_amount_cents=amounts.coupons_cents,
        total_amount_cents=amounts.total_cents,
        credit_amount_cents=credit,
        refund_amount_cents=refund,
        offset_amount_cents=offset,
        balance_amount_cents=credit,
        note_metadata=metadata,
        created_at=now,
        updated_at=now,
    )
    db.add(note)
    if offset:
        settle_top_up(db, invoice, succeeded=False, now=now)
        invoice.offset_amount_cents += offset
        settle(invoice, now)
    db.flush()
    if refund and invoice.invoice_type == TOP_UP:
        take_back_credits(db, invoice, refund, note.id, now)
    for position, (fee, amount) in enumerate(estimate.items):
        db.add(
            CreditNoteItem(
                organization_id=note.organization_id,
                credit_note_id=note.id,
                fee_id=fee.id,
                position=position,
                amount_cents=minor_int(amount),
                precise_amount_cents=amount,
            )
        )
    applied = {str(tax.tax_id): tax for fee, _ in estimate.items for tax in fee.applied_taxes}
    for line in amounts.taxes.lines:
        db.add(note_tax(note, applied[line.tax_id], line.amount_cents, line.fees_amount_cents, now))
    db.flush()
    return note


def note_number(invoice: Invoice, number: int) -> str:
    """The document number of an invoice's note."""
    return f"{invoice.number}-CN{number:03d}"


def note_tax(note: CreditNote, tax: FeeTax, amount_cents: int, base_cents: int, now: datetime) -> CreditNoteTax:
    """A tax that a note takes back."""
    return CreditNoteTax(
        organization_id=note.organization_id,
        credit_note_id=note.id,
        tax_id=tax.tax_id,
        tax_name=tax.tax_name,
        tax_code=tax.tax_code,
        tax_rate=tax.tax_rate,
        tax_description=tax.tax_description,
        amount_cents=amount_cents,
        base_amount_cents=base_cents,
        currency=note.currency,
        created_at=now,
    )
