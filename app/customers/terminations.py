"""The ends of subscriptions (billing spec 1.9)."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.lifecycle import bill_termination, close_customers, credit_rest, end_without_invoice
from app.billing.locks import lock_customers
from app.catalog.retirement import retire_copies
from app.customers.gated_starts import give_up, refuse_while_waiting
from app.customers.states import cancel, end, pending_successors
from app.customers.subscriptions import SUBSCRIPTION_PARTS
from app.errors import Problems
from app.metering.meter import Meter
from app.models import Customer, Subscription
from app.models.customer import OPEN

CREDIT_NOTE_CHOICES = ("credit", "skip", "refund", "offset")
INVOICE_CHOICES = ("generate", "skip")


def terminate(
    db: Session,
    subscription: Subscription,
    now: datetime,
    meter: Meter,
    *,
    invoice: str | None = None,
    credit_note: str | None = None,
) -> Subscription:
    """End a subscription now: a pending one is canceled, an active one billed for the last time unless `invoice` is
    `skip` (billing spec 1.9). Periods that ended before are billed first; where a cheaper plan has followed with one of
    them, that is what ends. Returns the subscription that was ended."""
    problems = Problems()
    if invoice is not None and invoice not in INVOICE_CHOICES:
        problems.add("on_termination_invoice", "value_is_invalid")
    if credit_note is not None and credit_note not in CREDIT_NOTE_CHOICES:
        problems.add("on_termination_credit_note", "value_is_invalid")
    problems.check()
    if subscription.status == "pending":
        retire_copies(db, [subscription.id], now)
        cancel(subscription, now)
        return subscription
    refuse_while_waiting(subscription)
    _close_past(db, [subscription], now, now, meter)
    ending = _followed_by(db, subscription) or subscription
    ending.on_termination_invoice = invoice or ending.on_termination_invoice
    if ending.plan.pay_in_advance and credit_note is not None:
        ending.on_termination_credit_note = credit_note
    _end(db, [ending], now, now, meter)
    return ending


def end_subscriptions(
    db: Session, subscriptions: Sequence[Subscription], now: datetime, made_at: datetime, meter: Meter
) -> None:
    """Terminate active subscriptions as of `now` and bill them; others are canceled. The invoices are made at
    `made_at`, which is later when a missed end is caught up."""
    _close_past(db, subscriptions, now, made_at, meter)
    _end(db, subscriptions, now, made_at, meter)


def end_all(db: Session, customer: Customer, now: datetime, meter: Meter) -> None:
    """End every open subscription of a customer that is being deleted."""
    query = (
        select(Subscription)
        .where(
            Subscription.organization_id == customer.organization_id,
            Subscription.customer_id == customer.id,
            Subscription.status.in_(OPEN),
        )
        .with_for_update(of=Subscription)
    )
    end_subscriptions(db, list(db.scalars(query.options(*SUBSCRIPTION_PARTS))), now, now, meter)


def _close_past(
    db: Session, subscriptions: Sequence[Subscription], now: datetime, made_at: datetime, meter: Meter
) -> None:
    """Close the periods that were over when these subscriptions end. What waits for a payment is given up."""
    customers = {one.customer_id for one in subscriptions}
    lock_customers(db, customers)
    # Before anything is measured: who waits for these plans to be changed may hold up measuring.
    followed = [successor.id for one in subscriptions for successor in pending_successors(one)]
    retire_copies(db, [*(one.id for one in subscriptions), *followed], now)
    following = [successor for one in subscriptions for successor in one.successors]
    for waiting in (*subscriptions, *following):
        if waiting.status == "incomplete":
            give_up(db, waiting, None, now, meter)
    close_customers(db, customers, now, made_at, meter)


def _end(db: Session, subscriptions: Sequence[Subscription], now: datetime, made_at: datetime, meter: Meter) -> None:
    ended = []
    for one in subscriptions:
        if one.status == "pending":
            cancel(one, now)
        elif one.status == "active":  # else a cheaper plan has followed it at a boundary that was closed just now
            credit_rest(db, one, now, upgrade=False)
            end(one, now)
            ended.append(one)
            for successor in pending_successors(one):
                cancel(successor, now)
    db.flush()
    billed = [one for one in ended if one.on_termination_invoice == "generate"]
    bill_termination(db, billed, now, made_at, meter)
    end_without_invoice(db, [one for one in ended if one not in billed], now, made_at)


def _followed_by(db: Session, subscription: Subscription) -> Subscription | None:
    """The subscription on a cheaper plan that has just begun in place of another."""
    db.flush()
    begun = Subscription.previous_subscription_id == subscription.id, Subscription.status == "active"
    query = select(Subscription).where(*begun).options(*SUBSCRIPTION_PARTS)
    return db.scalars(query.execution_options(populate_existing=True)).first()
