"""Invoices: settled, numbered and written (billing spec 2.4, 3.2, 3.4, 3.5)."""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.billing.coupon_credits import take_coupons
from app.billing.credits import take_credit_notes
from app.billing.fees import FeeDraft
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.numbering import next_numbers
from app.billing.prepaid_credits import take_prepaid_credits
from app.billing.progressive_credits import take_progressive_credits
from app.billing.rows import Rows
from app.billing.settlement import Settlement
from app.core.issuing_dates import IssuingDates
from app.errors import AmountTooLarge

LARGEST_TOTAL = 2**63 - 1
FAILED = "invoice_generation_error"
"""The code of what went wrong with an invoice that could not be made."""


def write_invoices(db: Session, drafts: Sequence[InvoiceDraft], made_at: datetime) -> list[UUID]:
    """Settle and store invoices in one go, and number those that are final; the caller holds the customers' rows and owns
    the transaction. Of one that is stored already, everything but the invoice itself and its lines must be gone.

    One that is to be paid first is open until then, and a final one without amount is closed where the customer's policy
    says so (billing spec 2.4): both unnumbered and invisible. Returns the invoices' ids in the drafts' order.
    """
    if not drafts:
        return []
    settlements = settle(db, drafts, made_at)
    numbered = [one.draft.payer for one in settlements if one.status == "finalized"]
    numbers = iter(next_numbers(db, numbered, made_at))
    rows = Rows(made_at)
    for one in settlements:
        _add(rows, one, next(numbers) if one.status == "finalized" else (None, None))
    rows.copy(db)
    return [draft.id for draft in drafts]


def settle(db: Session, drafts: Sequence[InvoiceDraft], made_at: datetime) -> list[Settlement]:
    """Bring drafts to their totals: each step takes from what the ones before have left (billing spec 3.5).

    The invoices of one customer are settled in the drafts' order: what one takes is not there for the next.
    """
    settlements = [Settlement(draft, final=draft.is_final and draft.failure is None) for draft in drafts]
    take_progressive_credits(db, settlements, made_at)
    take_coupons(db, settlements, made_at)
    for one in settlements:
        one.take_taxes()
        if one.with_taxes_cents > LARGEST_TOTAL:
            raise AmountTooLarge(
                f"the invoice of customer {one.draft.payer.customer_id} exceeds what an amount can hold"
            )
    take_credit_notes(db, settlements, made_at)
    take_prepaid_credits(db, settlements, made_at)
    return settlements


def write_fees(db: Session, drafts: Sequence[FeeDraft], made_at: datetime) -> None:
    """Store fees that stand alone; the client is told of them and says when they are paid."""
    rows = Rows(made_at)
    for position, fee in enumerate(drafts):
        rows.add_fee(fee, None, position, paid=False)
    rows.copy(db)


def finalization_due_at(billed_at: datetime, dates: IssuingDates) -> datetime:
    """When a draft becomes final by itself: on its date in UTC (billing spec 3.3), and not before it was billed."""
    return max(datetime.combine(dates.finalization, time.min, UTC), billed_at)


def failure_details(reason: str) -> dict[str, Any]:
    """What a failed invoice says about why it could not be made."""
    return {"error_code": FAILED, "details": {"reason": reason}}


def _add(rows: Rows, settlement: Settlement, number: tuple[int | None, str | None]) -> None:
    """Add the rows of an invoice and of everything that belongs to it."""
    draft, status = settlement.draft, settlement.status
    payer, dates = draft.payer, draft.dates
    is_paid = settlement.total_cents == 0 and draft.failure is None
    made: dict[str, Any] = {
        "sequential_id": number[0],
        "number": number[1],
        "status": status,
        "payment_status": "succeeded" if is_paid else "pending",
        "issuing_date": dates.issuing,
        "expected_finalization_date": dates.finalization,
        "payment_due_date": dates.payment_due,
        "finalization_due_at": finalization_due_at(draft.billed_at, dates) if status == "draft" else None,
        "error_details": None if draft.failure is None else failure_details(draft.failure),
        "fees_amount_cents": settlement.fees_cents,
        "progressive_billing_credit_amount_cents": settlement.progressive_cents,
        "coupons_amount_cents": settlement.coupons_cents,
        "taxes_amount_cents": settlement.taxes.amount_cents,
        "taxes_rate": settlement.taxes.rate,
        "sub_total_excluding_taxes_amount_cents": settlement.sub_total_cents,
        "sub_total_including_taxes_amount_cents": settlement.with_taxes_cents,
        "credit_notes_amount_cents": settlement.notes_cents,
        "prepaid_credit_amount_cents": settlement.prepaid_cents,
        "prepaid_granted_credit_amount_cents": settlement.prepaid_granted_cents,
        "prepaid_purchased_credit_amount_cents": settlement.prepaid_purchased_cents,
        "total_amount_cents": settlement.total_cents,
    }
    if draft.stored is not None:
        rows.change_invoice(draft.id, **made)
    else:
        rows.add_invoice(
            id=draft.id,
            organization_id=payer.organization_id,
            customer_id=payer.customer_id,
            billing_entity_id=payer.billing_entity_id,
            invoice_type=draft.invoice_type,
            currency=draft.currency,
            timezone=payer.tz.key,
            net_payment_term=payer.net_payment_term,
            purchase_order_number=draft.purchase_order_number,
            voided_invoice_id=draft.voided_invoice_id,
            **made,
        )
        for place, (line, _) in enumerate(draft.lines):
            rows.add_period(line, draft.id, place)
    for place, credited in enumerate(settlement.credits):
        rows.add_credit(draft.id, payer.organization_id, credited, place, draft.currency)
    if settlement.taxes.lines:
        applied = {str(tax.id): tax for fee in settlement.fees for tax in fee.taxes}
        for tax_line in settlement.taxes.lines:
            rows.add_invoice_tax(draft.id, payer.organization_id, applied[tax_line.tax_id], tax_line, draft.currency)
    for place, fee in enumerate(settlement.fees):
        rows.add_fee(
            fee,
            draft.id,
            place,
            paid=is_paid,
            reduced=settlement.reduced_by(fee),
            noted=settlement.noted_on(fee),
            taxes=settlement.fee_taxes(fee),
        )
