"""How the payment of an invoice stands, and that of its fees (billing spec 3.6)."""

from datetime import datetime

from app.errors import invalid
from app.models import Fee, Invoice

PAYMENT_STATUSES = ("pending", "succeeded", "failed")
FEE_PAYMENT_STATUSES = ("pending", "succeeded", "failed", "refunded")


def settle(invoice: Invoice, now: datetime) -> None:
    """Note that an invoice is paid, once payments and its credit notes cover it (billing spec 9.3)."""
    if not invoice.total_due_amount_cents and invoice.payment_status != "succeeded":
        set_payment_status(invoice, "succeeded", now)


def set_payment_status(invoice: Invoice, status: str, now: datetime) -> None:
    """Note how an invoice's payment stands; its fees follow. What is paid is not overdue."""
    invoice.payment_status = status
    invoice.updated_at = now
    if status == "succeeded":
        invoice.payment_overdue = False
    for fee in invoice.fees:
        set_fee_payment_status(fee, status, now)


def set_fee_payment_status(fee: Fee, status: str | None, now: datetime) -> None:
    """Note how a fee's payment stands.

    Raises:
        Invalid: not a payment status of a fee.
    """
    if status not in FEE_PAYMENT_STATUSES:
        raise invalid("payment_status", "value_is_invalid")
    fee.payment_status = status
    fee.succeeded_at = now if status == "succeeded" else fee.succeeded_at if status == "refunded" else None
    fee.failed_at = now if status == "failed" else None
    fee.refunded_at = now if status == "refunded" else None
