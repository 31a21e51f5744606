"""Invoices voided: they keep their numbers, are not paid any more, and give back what they took (billing spec 3.7)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.billing.automatic_notes import credit_voided
from app.billing.coupon_credits import give_back_coupons
from app.billing.issued import find_invoice, lock_invoice
from app.billing.prepaid_credits import give_back_prepaid_credits
from app.billing.purchases import settle_top_up
from app.errors import NotAllowed
from app.models import Invoice
from app.validation import Changes


def void_invoice(db: Session, organization_id: UUID, invoice_id: UUID | None, sent: Changes, now: datetime) -> Invoice:
    """Void an invoice. With `generate_credit_note` credit notes give back `credit_amount` and `refund_amount`, in minor
    units with taxes. Its period is not billed again.

    Raises:
        NotFound: `invoice_not_found`.
        NotAllowed: `not_voidable`.
        Invalid: more is to be given back than can be.
    """
    invoice = lock_invoice(db, organization_id, invoice_id)
    if invoice.status != "finalized":
        raise NotAllowed("not_voidable")
    if sent.get("generate_credit_note"):
        credit, refund = sent.get("credit_amount") or 0, sent.get("refund_amount") or 0
        credit_voided(db, organization_id, invoice.id, credit, refund, now)
    else:
        give_back_prepaid_credits(db, invoice, now)
    give_back_coupons(db, invoice, now)
    settle_top_up(db, invoice, succeeded=False, now=now)
    invoice.status, invoice.voided_at, invoice.updated_at = "voided", now, now
    invoice.payment_overdue = False
    db.flush()
    db.expire_all()  # what it gave back has changed, too
    return find_invoice(db, organization_id, invoice_id)
