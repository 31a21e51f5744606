"""From one state of a subscription to the next, without what is billed for it (billing spec 1.2, 1.5, 1.9)."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.lifecycle import schedule
from app.billing.payers import timezone_of
from app.core.periods import local_date, local_start
from app.customers.fixed_units import start_units
from app.models import Subscription

DAY_MICROSECONDS = 24 * 60 * 60 * 1_000_000


def begin(db: Session, subscription: Subscription, started_at: datetime, now: datetime) -> None:
    """A subscription becomes active."""
    subscription.status = "active"
    subscription.started_at, subscription.activated_at = started_at, now
    subscription.activation_due_at = None
    _begin_trial(db, subscription, started_at)
    subscription.updated_at = now
    schedule(subscription, now)
    start_units(db, subscription, now)


def begin_to_wait(db: Session, subscription: Subscription, started_at: datetime, now: datetime) -> None:
    """A subscription waits for its first invoice to be paid, and will have started at an instant then."""
    subscription.status, subscription.gated_at, subscription.updated_at = "incomplete", started_at, now
    subscription.activation_due_at = None
    _begin_trial(db, subscription, started_at)
    subscription.trial_due_at = None
    start_units(db, subscription, now)


def enter(subscription: Subscription, now: datetime) -> None:
    """One that has waited becomes active: it has started at the instant from which it was billed."""
    started_at = subscription.gated_at or now
    subscription.status, subscription.started_at, subscription.activated_at = "active", started_at, now
    subscription.gated_at = subscription.gate_expires_at = None
    subscription.updated_at = now
    go_on(subscription, started_at, now)


def go_on(subscription: Subscription, since: datetime, now: datetime) -> None:
    """Set when what comes due for an active subscription does, of which nothing has since an instant."""
    schedule(subscription, since)
    ends_at = subscription.trial_ends_at
    if subscription.started_at and ends_at and ends_at > subscription.started_at and not subscription.trial_ended_at:
        subscription.trial_due_at = max(ends_at, now)
    if subscription.ending_at is not None:
        set_ending(subscription, subscription.ending_at, timezone_of(subscription.customer))
        subscription.termination_due_at = max(subscription.termination_due_at or now, now)


def hold(subscription: Subscription) -> None:
    """Let nothing come due for an active subscription, until it goes on or ends."""
    subscription.next_billing_at = subscription.termination_due_at = subscription.trial_due_at = None


def end(subscription: Subscription, now: datetime) -> None:
    """An active subscription is terminated."""
    subscription.status, subscription.terminated_at, subscription.updated_at = "terminated", now, now
    subscription.next_billing_at = subscription.termination_due_at = subscription.trial_due_at = None


def cancel(subscription: Subscription, now: datetime) -> None:
    """A subscription that is pending, or waits for a payment, will not begin."""
    subscription.status, subscription.canceled_at, subscription.updated_at = "canceled", now, now
    subscription.activation_due_at = subscription.termination_due_at = None
    subscription.gated_at = subscription.gate_expires_at = subscription.trial_ends_at = None


def pending_successors(subscription: Subscription) -> list[Subscription]:
    """The cheaper plan that is to follow at the end of the period, if there is one."""
    return [one for one in subscription.successors if one.status == "pending"]


def set_ending(subscription: Subscription, ending_at: datetime | None, tz: ZoneInfo) -> None:
    """A subscription ends with the first moment of its ending date in the customer's timezone (billing spec 1.9)."""
    subscription.ending_at = ending_at
    subscription.termination_due_at = None if ending_at is None else local_start(local_date(ending_at, tz), tz)


def _begin_trial(db: Session, subscription: Subscription, started_at: datetime) -> None:
    """A trial is counted from the first start of any of the customer's subscriptions with the external id, so that it does
    not begin anew (billing spec 1.2)."""
    if not subscription.plan.trial_period:
        return
    first = db.scalar(
        select(func.min(Subscription.started_at)).where(
            Subscription.organization_id == subscription.organization_id,
            Subscription.customer_id == subscription.customer_id,
            Subscription.external_id == subscription.external_id,
        )
    )
    length = timedelta(microseconds=int(subscription.plan.trial_period * DAY_MICROSECONDS))
    ends_at = min(first or started_at, started_at) + length
    subscription.trial_ends_at = ends_at
    if ends_at > started_at:
        subscription.trial_due_at = ends_at
