"""Starts that wait for a payment (billing spec 1.10).

The first invoice is made before the subscription starts, and is open, that is unseen and without a number, until it is
paid: then it becomes final, and the subscription has started at the instant from which it was billed. Where the payment
fails or takes too long, the subscription is canceled, the invoice closed, and what had been taken for it given back.

An upgrade waits in the same way. Meanwhile nothing comes due for the subscription before it: when the payment comes, that
one has ended where the dearer one has begun; when it does not come, it goes on, and what it has missed is billed.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.coupon_credits import give_back_coupons
from app.billing.credits import give_back_credit_notes
from app.billing.lifecycle import bill_outgrown, bill_start_first, close_customers, credit_rest
from app.billing.prepaid_credits import give_back_prepaid_credits
from app.billing.purchases import TOP_UP, finalize_paid
from app.catalog.retirement import retire_copies
from app.customers.activation_rules import note_outcome, note_wait
from app.customers.states import begin_to_wait, cancel, end, enter, go_on, hold
from app.errors import invalid
from app.metering.meter import Meter
from app.models import BillingPeriod, Customer, Invoice, Subscription

_BILLED = (
    joinedload(Subscription.plan),
    joinedload(Subscription.customer).joinedload(Customer.billing_entity),
    joinedload(Subscription.billing_entity),
)
_OUTCOMES = {"payment_failed": "failed", "timeout": "expired"}
"""What becomes of the rules of a subscription that is canceled for a reason."""


def start_when_paid(db: Session, subscription: Subscription, started_at: datetime, now: datetime, meter: Meter) -> None:
    """Start a subscription once its first invoice is paid, and at once where nothing is to be paid."""
    begin_to_wait(db, subscription, started_at, now)
    db.flush()
    _wait(db, None, subscription, now, meter)


def upgrade_when_paid(db: Session, current: Subscription, successor: Subscription, now: datetime, meter: Meter) -> None:
    """Let a dearer plan take the place of another once its first invoice is paid, at once where nothing is to be paid."""
    close_customers(db, [current.customer_id], now, now, meter)
    hold(current)
    begin_to_wait(db, successor, now, now)
    db.flush()
    _wait(db, current, successor, now, meter)


def settle_start(db: Session, invoice: Invoice, *, succeeded: bool, now: datetime, meter: Meter) -> None:
    """Start the subscription that has waited for an open invoice, now that this is paid, or cancel it, now that the payment
    has failed; nothing for other invoices. The invoice must be locked, after its customer."""
    if invoice.status != "open" or invoice.invoice_type == TOP_UP:
        return
    subscription = _waiting_for(db, invoice.id)
    if not succeeded:
        give_up(db, subscription, "payment_failed", now, meter)
        return
    finalize_paid(db, invoice, now)
    db.flush()
    _start(db, subscription, "satisfied", now, meter)


def give_up(db: Session, subscription: Subscription, reason: str | None, now: datetime, meter: Meter) -> None:
    """Cancel a subscription that waits for a payment, for one of the reasons that there are or because it is not wanted any
    more. The customer must be locked."""
    query = (
        select(Invoice)
        .join(BillingPeriod, BillingPeriod.invoice_id == Invoice.id)
        .where(BillingPeriod.subscription_id == subscription.id, Invoice.status == "open")
        .with_for_update(of=Invoice)
    )
    for invoice in db.scalars(query).all():
        give_back_coupons(db, invoice, now)
        give_back_credit_notes(db, invoice, now)
        give_back_prepaid_credits(db, invoice, now)
        invoice.status, invoice.updated_at = "closed", now
    retire_copies(db, [subscription.id], now)
    since = subscription.gated_at or now
    cancel(subscription, now)
    subscription.cancellation_reason = reason
    note_outcome(subscription, _OUTCOMES.get(reason or "", "declined"), now)
    before = _before(db, subscription)
    if before is not None:
        go_on(before, since, now)
        before.updated_at = now
        db.flush()
        close_customers(db, [before.customer_id], now, now, meter)
    db.flush()


def refuse_while_waiting(subscription: Subscription) -> None:
    """Refuse to change or end a subscription while it waits for a payment, or while the one does that is to take its place.
    Its successors must be loaded.

    Raises:
        Invalid: `subscription_incomplete`, `next_subscription_incomplete`.
    """
    if subscription.status == "incomplete":
        raise invalid("subscription", "subscription_incomplete")
    if any(one.status == "incomplete" for one in subscription.successors):
        raise invalid("base", "next_subscription_incomplete")


def _wait(db: Session, before: Subscription | None, subscription: Subscription, now: datetime, meter: Meter) -> None:
    invoice = bill_start_first(db, before, subscription, now)
    if invoice is None:
        _start(db, subscription, "not_applicable", now, meter)
    else:
        note_wait(subscription, invoice, now)
    db.flush()


def _start(db: Session, subscription: Subscription, outcome: str, now: datetime, meter: Meter) -> None:
    """Start one that need not wait any more, in place of the one before, and bill what has come due meanwhile."""
    before, started_at = _before(db, subscription), subscription.gated_at or now
    if before is not None:
        retire_copies(db, [before.id], now)
        credit_rest(db, before, started_at, upgrade=True)
        end(before, started_at)
        before.replaced_by, before.updated_at = "upgrade", now
        db.flush()  # only one of them may be active
    enter(subscription, now)
    note_outcome(subscription, outcome, now)
    db.flush()
    if before is not None:
        bill_outgrown(db, before, subscription, started_at, now, meter)
    close_customers(db, [subscription.customer_id], now, now, meter)


def _before(db: Session, subscription: Subscription) -> Subscription | None:
    """The subscription whose place another takes; none where that has ended."""
    previous = subscription.previous_subscription_id
    if previous is None:
        return None
    active = (Subscription.id == previous) & (Subscription.status == "active")
    return db.scalars(select(Subscription).where(active).options(*_BILLED)).first()


def _waiting_for(db: Session, invoice_id: UUID) -> Subscription:
    lines = select(BillingPeriod.subscription_id).where(BillingPeriod.invoice_id == invoice_id)
    query = select(Subscription).where(Subscription.id.in_(lines)).with_for_update(of=Subscription, key_share=True)
    return db.scalars(query.options(*_BILLED, selectinload(Subscription.successors))).one()
