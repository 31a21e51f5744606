"""The end of a customer, and of everything that it has (billing spec 11.4)."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.billing.redrawing import finalize_all
from app.billing.wallets import terminate_wallets
from app.customers.applied_coupons import end_applied_coupons
from app.customers.customers import delete_customer
from app.customers.terminations import end_all
from app.metering.meter import Meter
from app.models import Customer


def end_customer(db: Session, customer: Customer, now: datetime, meter: Meter) -> None:
    """Delete a customer, which must be locked: its subscriptions end and are billed for the last time, its drafts become
    final, and then what it could still have paid with ends."""
    end_all(db, customer, now, meter)
    finalize_all(db, customer.id, now, meter)
    # What the last invoices may still take ends after them.
    end_applied_coupons(db, customer.id, now)
    terminate_wallets(db, customer.id, now)
    delete_customer(customer, now)
