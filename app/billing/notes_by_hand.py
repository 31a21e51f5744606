"""Credit notes made by hand (billing spec 6.2 to 6.4)."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from app.billing.credit_notes import Estimate, Left, Wanted, estimated, left_of, noted_invoice, write_note
from app.billing.purchases import TOP_UP
from app.errors import NotFound, Problems, invalid
from app.models import CreditNote, Invoice
from app.validation import Changes, as_uuid, check_one_of

REASONS = (
    "duplicated_charge", "product_unsatisfactory", "order_change", "order_cancellation", "fraudulent_charge", "other"
)  # fmt: skip
TOLERANCE_CENTS = 1


def estimate_note(db: Session, organization_id: UUID, sent: Changes) -> Estimate:
    """What a note with these items would come to (billing spec 6.4). Nothing is stored.

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: an item is not an amount, or more than what is left of its fee.
    """
    invoice = noted_invoice(db, organization_id, sent.get("invoice_id"))
    left = left_of(db, invoice)
    return estimated(db, invoice, left, _items(invoice, left, sent.get("items")))


def create_note(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> CreditNote:
    """Give something back of an invoice: as credit for later invoices, as money, or off what is due of it (billing spec
    6.2, 6.3).

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`.
        Invalid: a field breaks a rule, or a total does not follow from the items.
    """
    invoice = noted_invoice(db, organization_id, sent.get("invoice_id"))
    problems = Problems()
    check_one_of(problems, sent, "reason", REASONS)
    problems.check()
    left = left_of(db, invoice)
    estimate = estimated(db, invoice, left, _items(invoice, left, sent.get("items")))
    credit, refund, offset = (sent.get(f"{part}_amount_cents") or 0 for part in ("credit", "refund", "offset"))
    _check_totals(problems, estimate, credit, refund, offset)
    problems.check()
    return write_note(
        db,
        estimate,
        (credit, refund, offset),
        reason=sent.get("reason") or "other",
        description=sent.get("description"),
        metadata=sent.get("metadata") or {},
        now=now,
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
