"""Credit notes: made by hand, or when days that are paid for will not be used (billing spec 6)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.close import timezone_of
from app.core.credit_notes import NoteAmounts, NoteItem, Rest, coupon_share, note_amounts, unused_amount
from app.core.money import ZERO, minor_int
from app.core.periods import local_date
from app.core.taxes import TaxRate
from app.errors import NotFound, Problems, invalid
from app.models import CreditNote, CreditNoteItem, CreditNoteTax, Customer, Fee, FeeTax, Invoice
from app.validation import Changes, as_uuid, check_one_of

REASONS = (
    "duplicated_charge", "product_unsatisfactory", "order_change", "order_cancellation", "fraudulent_charge", "other"
)  # fmt: skip
TOLERANCE_CENTS = 1

Wanted = list[tuple[Fee, Decimal]]
"""Fees, and what of each is to be taken back, before taxes and coupons, in minor units."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the notes on an invoice have left of it: of each fee before taxes and coupons, and of its sums."""

    fees: Mapping[UUID, Decimal]
    rest: Rest

    def is_all(self, items: Wanted) -> bool:
        """Whether these items are all that is left."""
        taken: dict[UUID, Decimal] = defaultdict(Decimal)
        for fee, amount in items:
            taken[fee.id] += amount
        return any(self.fees.values()) and all(left == taken[fee_id] for fee_id, left in self.fees.items())


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a note would come to, and the most that notes on its invoice may still take back."""

    invoice: Invoice
    items: Wanted
    amounts: NoteAmounts
    creditable_cents: int
    refundable_cents: int
    offsettable_cents: int


def estimate_note(db: Session, organization_id: UUID, sent: Changes) -> Estimate:
    """What a note with these items would come to (billing spec 6.4). Nothing is stored.

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: an item is not an amount, or more than what is left of its fee.
    """
    invoice = _invoice(db, organization_id, sent.get("invoice_id"))
    left = _left(db, invoice)
    return _estimate(invoice, left, _items(invoice, left, sent.get("items")))


def create_note(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> CreditNote:
    """Give something back of an invoice, as credit for later invoices (billing spec 6.2, 6.3).

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: a field breaks a rule, or a total does not follow from the items.
    """
    invoice = _invoice(db, organization_id, sent.get("invoice_id"))
    problems = Problems()
    check_one_of(problems, sent, "reason", REASONS)
    problems.check()
    left = _left(db, invoice)
    estimate = _estimate(invoice, left, _items(invoice, left, sent.get("items")))
    credit, refund, offset = (sent.get(f"{part}_amount_cents") or 0 for part in ("credit", "refund", "offset"))
    _check_totals(problems, estimate, credit, refund, offset)
    problems.check()
    return _write(
        db,
        estimate,
        (credit, refund, offset),
        reason=sent.get("reason") or "other",
        description=sent.get("description"),
        metadata=sent.get("metadata") or {},
        now=now,
    )


def credit_unused(
    db: Session,
    fee: Fee,
    *,
    period: tuple[date, date],
    ends_on: date,
    upgrade: bool,
    now: datetime,
) -> CreditNote | None:
    """Give back what of a subscription fee paid in advance is for days after the end (billing spec 6.7), none when nothing
    is. `period` is the whole one, first and last day; the day of an upgrade is given back, too.
    """
    invoice = _invoice(db, fee.organization_id, str(fee.invoice_id), ("draft", "finalized"))
    left = _left(db, invoice)
    first, last = period
    amount = unused_amount(
        int(fee.amount_details.get("plan_amount_cents", fee.amount_cents)),
        (last - first).days + 1,
        (last - ends_on).days + upgrade,
        left.fees[fee.id],
    )
    if amount <= 0:
        return None
    own = next(one for one in invoice.fees if one.id == fee.id)
    estimate = _estimate(invoice, left, [(own, amount)])
    total = estimate.amounts.total_cents
    if not total:
        return None
    reason = "order_change" if upgrade else "order_cancellation"
    return _write(db, estimate, (total, 0, 0), reason=reason, description=None, metadata={}, now=now)


def _invoice(
    db: Session, organization_id: UUID, invoice_id: object, statuses: Collection[str] = ("finalized",)
) -> Invoice:
    """The invoice that a note is for, locked, with its fees and their taxes."""
    known = as_uuid(invoice_id)
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


def _left(db: Session, invoice: Invoice) -> Left:
    """What the notes on an invoice have left of it."""
    taken = dict(
        db.execute(
            select(CreditNoteItem.fee_id, func.sum(CreditNoteItem.precise_amount_cents))
            .where(
                CreditNoteItem.organization_id == invoice.organization_id,
                CreditNoteItem.fee_id.in_([fee.id for fee in invoice.fees]),
            )
            .group_by(CreditNoteItem.fee_id)
        )
        .tuples()
        .all()
    )
    sub_total, taxes = db.execute(
        select(
            func.coalesce(func.sum(CreditNote.sub_total_excluding_taxes_amount_cents), 0),
            func.coalesce(func.sum(CreditNote.taxes_amount_cents), 0),
        ).where(CreditNote.invoice_id == invoice.id)
    ).one()
    return Left(
        {fee.id: Decimal(fee.amount_cents) - taken.get(fee.id, ZERO) for fee in invoice.fees},
        Rest(invoice.sub_total_excluding_taxes_amount_cents - int(sub_total), invoice.taxes_amount_cents - int(taxes)),
    )


def _items(invoice: Invoice, left: Left, sent: object) -> Wanted:
    if not isinstance(sent, Sequence) or isinstance(sent, str):
        raise invalid("items", "must_be_an_array")
    fees, remaining = {fee.id: fee for fee in invoice.fees}, dict(left.fees)
    items: Wanted = []
    problems = Problems()
    for one in sent:
        known = as_uuid(one.get("fee_id"))
        fee = fees.get(known) if known is not None else None
        if fee is None:
            raise NotFound("fee")
        amount = one.get("amount_cents")
        if amount is None or amount < 0:
            problems.add("amount_cents", "invalid_value")
        elif amount > remaining[fee.id]:
            problems.add("amount_cents", "higher_than_remaining_fee_amount")
        else:
            remaining[fee.id] -= amount
            items.append((fee, Decimal(amount)))
    problems.check()
    return items


def wanted_amounts(items: Wanted, left: Left | None = None) -> NoteAmounts:
    """What a note with these items comes to; one that takes all that is `left` takes what rounding has left, too."""
    return note_amounts(
        [
            NoteItem(
                amount,
                [TaxRate(str(tax.tax_id), tax.tax_rate) for tax in fee.applied_taxes],
                coupon_share(amount, fee.amount_cents, fee.precise_coupons_amount_cents),
            )
            for fee, amount in items
        ],
        left.rest if left is not None and left.is_all(items) else None,
    )


def _estimate(invoice: Invoice, left: Left, items: Wanted) -> Estimate:
    creditable = wanted_amounts([(fee, left.fees[fee.id]) for fee in invoice.fees], left).expected_cents
    # Nothing has been paid through the service, so there is nothing to be paid back.
    owed = max(invoice.total_amount_cents - invoice.offset_amount_cents, 0)
    return Estimate(invoice, items, wanted_amounts(items, left), creditable, 0, min(owed, creditable))


def _check_totals(problems: Problems, estimate: Estimate, credit: int, refund: int, offset: int) -> None:
    total = credit + refund + offset
    if total <= 0:
        problems.add("base", "total_amount_must_be_positive")
        return
    if refund > 0:
        problems.add("refund_amount_cents", "cannot_refund_unpaid_invoice")
    if offset > estimate.offsettable_cents:
        problems.add("offset_amount_cents", "higher_than_remaining_invoice_amount")
    if credit > estimate.creditable_cents + TOLERANCE_CENTS:
        problems.add("credit_amount_cents", "higher_than_remaining_invoice_amount")
    elif abs(total - estimate.amounts.expected_cents) > TOLERANCE_CENTS:
        problems.add("base", "does_not_match_item_amounts")


def _write(
    db: Session,
    estimate: Estimate,
    parts: tuple[int, int, int],
    *,
    reason: str,
    description: str | None,
    metadata: dict[str, Any],
    now: datetime,
) -> CreditNote:
    """Store a note. Its total is that of its rounded parts: a cent of difference goes to the credit, or to the refund
    (billing spec 6.2)."""
    invoice, amounts = estimate.invoice, estimate.amounts
    credit, refund, offset = parts
    difference = amounts.total_cents - sum(parts)
    if credit:
        credit += difference
    elif refund:
        refund += difference
    else:
        offset += difference
    is_draft = invoice.status == "draft"
    number = 1 + (
        db.scalar(select(func.count()).select_from(CreditNote).where(CreditNote.invoice_id == invoice.id)) or 0
    )
    note = CreditNote(
        organization_id=invoice.organization_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        sequential_id=number,
        number=None if is_draft else note_number(invoice, number),
        status="draft" if is_draft else "finalized",
        issuing_date=local_date(now, timezone_of(invoice.customer)),
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
    invoice.offset_amount_cents += offset
    if offset and invoice.offset_amount_cents >= invoice.total_amount_cents:
        invoice.payment_status, invoice.payment_overdue = "succeeded", False
    db.flush()
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
