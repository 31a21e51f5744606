"""Credit notes: made by hand, or when days that are paid for will not be used (billing spec 6)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.locks import lock_customer
from app.billing.payment_status import settle
from app.billing.purchases import TOP_UP, purchase_of, settle_top_up, take_back_credits
from app.core.credit_notes import (
    NoteAmounts,
    NoteItem,
    Rest,
    coupon_share,
    note_amounts,
    paid_for_unused,
    part_of,
    unused_amount,
)
from app.core.money import ZERO, exact, minor_int, round_half_up
from app.core.periods import local_date
from app.core.taxes import TaxRate
from app.core.values import replace
from app.errors import NotAllowed, NotFound, Problems, invalid
from app.models import Credit, CreditNote, CreditNoteItem, CreditNoteTax, Customer, Fee, FeeTax, Invoice
from app.validation import Changes, as_uuid, check_one_of

REASONS = (
    "duplicated_charge", "product_unsatisfactory", "order_change", "order_cancellation", "fraudulent_charge", "other"
)  # fmt: skip
TOLERANCE_CENTS = 1
ITEM_PLACES = 5

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


def estimate_note(db: Session, organization_id: UUID, sent: Changes) -> Estimate:
    """What a note with these items would come to (billing spec 6.4). Nothing is stored.

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: an item is not an amount, or more than what is left of its fee.
    """
    invoice = _invoice(db, organization_id, sent.get("invoice_id"))
    left = _left(db, invoice)
    return _estimate(db, invoice, left, _items(invoice, left, sent.get("items")))


def create_note(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> CreditNote:
    """Give something back of an invoice: as credit for later invoices, as money, or off what is due of it (billing spec
    6.2, 6.3).

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: a field breaks a rule, or a total does not follow from the items.
    """
    invoice = _invoice(db, organization_id, sent.get("invoice_id"))
    problems = Problems()
    check_one_of(problems, sent, "reason", REASONS)
    problems.check()
    left = _left(db, invoice)
    estimate = _estimate(db, invoice, left, _items(invoice, left, sent.get("items")))
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
    mode: str,
    now: datetime,
) -> CreditNote | None:
    """Give back what of a subscription fee paid in advance is for days after the end (billing spec 6.7), none when nothing
    is. `period` is the whole one, first and last day; the day of an upgrade is given back, too.

    By `mode` it becomes `credit`; or a `refund` of what was paid for the unused days, and the rest credit; or `offset`: the
    same refund, and the rest taken off what is due of the invoice. An upgrade gives credit.
    """
    invoice = _invoice(db, fee.organization_id, str(fee.invoice_id), ("draft", "finalized"))
    left = _left(db, invoice)
    own = next(one for one in invoice.fees if one.id == fee.id)
    first, last = period
    plan_amount = int(fee.amount_details.get("plan_amount_cents", fee.amount_cents))
    days, unused_days = (last - first).days + 1, (last - ends_on).days + upgrade
    unused = unused_amount(plan_amount, days, unused_days, Decimal(own.amount_cents))
    amount = unused - (own.amount_cents - left.fees[fee.id])
    if amount <= 0:
        return None
    estimate = _estimate(db, invoice, left, [(own, amount)])
    total = estimate.amounts.total_cents
    if not total:
        return None
    parts = (total, 0, 0)
    if mode != "credit" and not upgrade:
        used = own.amount_cents - unused
        refund = paid_for_unused(
            invoice.total_paid_amount_cents,
            invoice.sub_total_including_taxes_amount_cents,
            wanted_amounts([(own, Decimal(own.amount_cents))]).expected_cents,
            wanted_amounts([(own, used)]).expected_cents,
            min(total, estimate.refundable_cents),
        )
        offset = min(total - refund, estimate.offsettable_cents) if mode == "offset" else 0
        parts = (total - refund - offset, refund, offset)
    reason = "order_change" if upgrade else "order_cancellation"
    return _write(db, estimate, parts, reason=reason, description=None, metadata={}, now=now)


def credit_voided(
    db: Session, organization_id: UUID, invoice_id: UUID, credit: int, refund: int, now: datetime
) -> None:
    """Take back all that is left of an invoice that is about to be voided: one note for the amounts wanted, in minor units
    with taxes, spread over the fees; and one for the remainder, which is voided at once (billing spec 3.7).

    Raises:
        Invalid: more is wanted than can be credited or refunded.
    """
    invoice = _invoice(db, organization_id, str(invoice_id))
    left = _left(db, invoice)
    everything = _estimate(db, invoice, left, _rest(invoice, left))
    whole, wanted = everything.creditable_cents, credit + refund
    if refund > everything.refundable_cents or wanted > whole:
        raise invalid("credit_refund_amount", "total_amount_exceeds_invoice_amount")
    note = partial(_write, db, reason="other", description=None, metadata={}, now=now)
    if wanted:
        shares = part_of([left.fees[fee.id] for fee in invoice.fees], wanted, whole)
        items = [(fee, share) for fee, share in zip(invoice.fees, shares, strict=True) if share > 0]
        estimate = _estimate(db, invoice, left, items)
        note(replace(estimate, amounts=estimate.amounts.coming_to(wanted)), (credit, refund, 0))
        left = _left(db, invoice)
    if wanted < whole:
        rest = note(_estimate(db, invoice, left, _rest(invoice, left)), (whole - wanted, 0, 0))
        rest.credit_status, rest.balance_amount_cents = "voided", 0


def credit_excess(db: Session, organization_id: UUID, invoice_id: UUID, amount_cents: int, now: datetime) -> None:
    """Give back so much, before taxes, of a progressive invoice that has billed more than its period came to (billing spec
    8.3): of the last fees first, and what it has not asked for itself of the one that it took off."""
    invoice = _invoice(db, organization_id, str(invoice_id))
    left = _left(db, invoice)
    items: Wanted = []
    rest = Decimal(amount_cents)
    for fee in reversed(invoice.fees):
        asked = Decimal(fee.amount_cents) - fee.precise_coupons_amount_cents
        if asked > 0 and rest > 0 and left.fees[fee.id] > 0:
            with exact():
                amount = min(round_half_up(rest * fee.amount_cents / asked, ITEM_PLACES), left.fees[fee.id])
                rest -= amount * asked / fee.amount_cents
            items.append((fee, amount))
    estimate = _estimate(db, invoice, left, items)
    total = estimate.amounts.total_cents
    if total > 0:
        _write(db, estimate, (total, 0, 0), reason="other", description=None, metadata={}, now=now)
    before = select(Credit.progressive_invoice_id).where(Credit.invoice_id == invoice.id)
    for earlier in db.scalars(before.where(Credit.progressive_invoice_id.is_not(None))).all():
        if earlier is not None and minor_int(rest) > 0:
            credit_excess(db, organization_id, earlier, minor_int(rest), now)


def _invoice(
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


def _rest(invoice: Invoice, left: Left) -> Wanted:
    """All that is left of the fees."""
    return [(fee, left.fees[fee.id]) for fee in invoice.fees if left.fees[fee.id] > 0]


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


def _estimate(db: Session, invoice: Invoice, left: Left, items: Wanted) -> Estimate:
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


def _check_totals(problems: Problems, estimate: Estimate, credit: int, refund: int, offset: int) -> None:
    total = credit + refund + offset
    if total <= 0 or estimate.amounts.total_cents <= 0:
        problems.add("base", "total_amount_must_be_positive")
        return
    if estimate.invoice.invoice_type == TOP_UP:
        _check_top_up(problems, estimate, credit, refund, offset)
        return
    if refund > 0 and not estimate.invoice.total_paid_amount_cents:
        problems.add("refund_amount_cents", "cannot_refund_unpaid_invoice")
    elif refund > estimate.refundable_cents:
        problems.add("refund_amount_cents", "higher_than_remaining_invoice_amount")
    if offset > estimate.offsettable_cents:
        problems.add("offset_amount_cents", "higher_than_remaining_invoice_amount")
    if credit > estimate.creditable_cents + TOLERANCE_CENTS:
        problems.add("credit_amount_cents", "higher_than_remaining_invoice_amount")
    elif abs(total - estimate.amounts.expected_cents) > TOLERANCE_CENTS:
        problems.add("base", "does_not_match_item_amounts")


def _check_top_up(problems: Problems, estimate: Estimate, credit: int, refund: int, offset: int) -> None:
    """A purchase of credits that was paid is paid back, as far as the credits are there; one that was not is called off as
    a whole (billing spec 6.3)."""
    paid = estimate.invoice.payment_status == "succeeded"
    if credit:
        problems.add("credit_amount_cents", "cannot_credit_invoice")
    if refund and not estimate.invoice.total_paid_amount_cents:
        problems.add("refund_amount_cents", "cannot_refund_unpaid_invoice")
    elif refund > estimate.refundable_cents:
        problems.add("amount_cents", "higher_than_wallet_balance")
    if offset and paid:
        problems.add("offset_amount_cents", "cannot_apply_to_paid_invoice")
    elif offset and offset != estimate.invoice.total_amount_cents:
        problems.add("offset_amount_cents", "not_equal_to_total_amount")
    if abs(credit + refund + offset - estimate.amounts.expected_cents) > TOLERANCE_CENTS:
        problems.add("base", "does_not_match_item_amounts")


def _write(
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
