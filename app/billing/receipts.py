"""Payments as they are stored, each with its receipt (billing spec 9.3, 9.5)."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.models import Customer, Payment, PaymentReceipt


def write_payments(db: Session, payments: Sequence[Payment], now: datetime) -> None:
    """Store payments and their receipts, numbered for each customer without gaps; the customers must be locked."""
    if not payments:
        return
    db.add_all(payments)
    db.flush()
    count = Counter(payment.customer_id for payment in payments)
    steps = func.unnest(list(count), list(count.values())).table_valued("id", "step").render_derived()
    rows = db.execute(
        update(Customer)
        .where(Customer.id == steps.c.id)
        .values(last_receipt_number=Customer.last_receipt_number + steps.c.step)
        .returning(Customer.id, Customer.slug, Customer.last_receipt_number)
        .execution_options(synchronize_session=False)
    )
    numbers = {customer: (slug, last - count[customer]) for customer, slug, last in rows}
    for payment in payments:
        slug, last = numbers[payment.customer_id]
        numbers[payment.customer_id] = slug, last + 1
        db.add(
            PaymentReceipt(
                organization_id=payment.organization_id,
                payment_id=payment.id,
                number=f"{slug}-RCPT-{last + 1:06d}",
                created_at=now,
            )
        )
    db.flush()
