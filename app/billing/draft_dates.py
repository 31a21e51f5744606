"""The dates of drafts when the settings that they come from have changed (billing spec 3.2)."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.orm import Session, joinedload

from app.billing.invoices import finalization_due_at
from app.billing.payers import issuing_rules
from app.core.issuing_dates import issuing_dates
from app.core.periods import local_date
from app.models import BillingPeriod, Invoice


def move_drafts(db: Session, which: ColumnElement[bool], now: datetime) -> None:
    """Give the drafts that fulfil `which` the dates that they would have by the settings as they are now.
    Those whose date has passed become final with the next run of what is due."""
    is_periodic = func.bool_or(BillingPeriod.invoicing_reason == "subscription_periodic")
    billed = (
        select(func.min(BillingPeriod.billed_at).label("billed_at"), is_periodic.label("is_periodic"))
        .where(BillingPeriod.invoice_id == Invoice.id)
        .lateral()
    )
    drafts = (
        select(Invoice, billed.c.billed_at, billed.c.is_periodic)
        .join(Invoice.customer)
        .join(billed, true())
        .where(which, Invoice.status == "draft")
        .order_by(Invoice.id)
        .options(joinedload(Invoice.customer), joinedload(Invoice.billing_entity))
        .with_for_update(of=Invoice)
    )
    moved = []
    # Settings are written after the drafts are locked: whoever numbers invoices holds drafts and waits for settings.
    with db.no_autoflush:
        found = db.execute(drafts).all()
    for invoice, billed_at, periodic in found:
        rules = issuing_rules(invoice.customer, invoice.billing_entity)
        billed_on = local_date(billed_at, ZoneInfo(invoice.timezone))
        dates = issuing_dates(billed_on, rules, has_grace=True, is_periodic=periodic)
        moved.append(
            {
                "id": invoice.id,
                "issuing_date": dates.issuing,
                "expected_finalization_date": dates.finalization,
                "payment_due_date": dates.payment_due,
                "net_payment_term": rules.net_payment_term,
                "finalization_due_at": max(finalization_due_at(billed_at, dates), now),
                "updated_at": now,
            }
        )
    if moved:
        db.execute(update(Invoice), moved, execution_options={"synchronize_session": None})
