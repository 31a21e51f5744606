"""Credit notes that make themselves: for paid days that will not be used, for an invoice that is voided, and for what
progressive billing has billed too much (billing spec 3.7, 6.7, 8.3)."""

from datetime import date, datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.credit_notes import Wanted, estimated, left_of, noted_invoice, rest_of, wanted_amounts, write_note
from app.core.credit_notes import paid_for_unused, part_of, unused_amount
from app.core.money import exact, minor_int, round_half_up
from app.core.values import replace
from app.errors import invalid
from app.models import Credit, CreditNote, Fee

ITEM_PLACES = 5


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
    invoice = noted_invoice(db, fee.organization_id, str(fee.invoice_id), ("draft", "finalized"))
    left = left_of(db, invoice)
    own = next(one for one in invoice.fees if one.id == fee.id)
    first, last = period
    plan_amount = int(fee.amount_details.get("plan_amount_cents", fee.amount_cents))
    days, unused_days = (last - first).days + 1, (last - ends_on).days + upgrade
    unused = unused_amount(plan_amount, days, unused_days, Decimal(own.amount_cents))
    amount = unused - (own.amount_cents - left.fees[fee.id])
    if amount <= 0:
        return None
    estimate = estimated(db, invoice, left, [(own, amount)])
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
    return write_note(db, estimate, parts, reason=reason, description=None, metadata={}, now=now)


def credit_voided(
    db: Session, organization_id: UUID, invoice_id: UUID, credit: int, refund: int, now: datetime
) -> None:
    """Take back all that is left of an invoice that is about to be voided: one note for the amounts wanted, in minor units
    with taxes, spread over the fees; and one for the remainder, which is voided at once (billing spec 3.7).

    Raises:
        Invalid: more is wanted than can be credited or refunded.
    """
    invoice = noted_invoice(db, organization_id, str(invoice_id))
    left = left_of(db, invoice)
    everything = estimated(db, invoice, left, rest_of(invoice, left))
    whole, wanted = everything.creditable_cents, credit + refund
    if refund > everything.refundable_cents or wanted > whole:
        raise invalid("credit_refund_amount", "total_amount_exceeds_invoice_amount")
    note = partial(write_note, db, reason="other", description=None, metadata={}, now=now)
    if wanted:
        shares = part_of([left.fees[fee.id] for fee in invoice.fees], wanted, whole)
        items = [(fee, share) for fee, share in zip(invoice.fees, shares, strict=True) if share > 0]
        estimate = estimated(db, invoice, left, items)
        note(replace(estimate, amounts=estimate.amounts.coming_to(wanted)), (credit, refund, 0))
        left = left_of(db, invoice)
    if wanted < whole:
        rest = note(estimated(db, invoice, left, rest_of(invoice, left)), (whole - wanted, 0, 0))
        rest.credit_status, rest.balance_amount_cents = "voided", 0


def credit_excess(db: Session, organization_id: UUID, invoice_id: UUID, amount_cents: int, now: datetime) -> None:
    """Give back so much, before taxes, of a progressive invoice that has billed more than its period came to (billing spec
    8.3): of the last fees first, and what it has not asked for itself of the one that it took off."""
    invoice = noted_invoice(db, organization_id, str(invoice_id))
    left = left_of(db, invoice)
    items: Wanted = []
    rest = Decimal(amount_cents)
    for fee in reversed(invoice.fees):
        asked = Decimal(fee.amount_cents) - fee.precise_coupons_amount_cents
        if asked > 0 and rest > 0 and left.fees[fee.id] > 0:
            with exact():
                amount = min(round_half_up(rest * fee.amount_cents / asked, ITEM_PLACES), left.fees[fee.id])
                rest -= amount * asked / fee.amount_cents
            items.append((fee, amount))
    estimate = estimated(db, invoice, left, items)
    total = estimate.amounts.total_cents
    if total > 0:
        write_note(db, estimate, (total, 0, 0), reason="other", description=None, metadata={}, now=now)
    before = select(Credit.progressive_invoice_id).where(Credit.invoice_id == invoice.id)
    for earlier in db.scalars(before.where(Credit.progressive_invoice_id.is_not(None))).all():
        if earlier is not None and minor_int(rest) > 0:
            credit_excess(db, organization_id, earlier, minor_int(rest), now)
