"""Where a subscription stands in its billing periods (billing spec 1.3)."""

from datetime import datetime
from zoneinfo import ZoneInfo

from app.core.boundaries import Boundaries, Terms, current
from app.core.periods import BillingTime, Interval
from app.models import Subscription


def current_period(subscription: Subscription, now: datetime) -> Boundaries | None:
    """The boundaries of an open subscription's current period, or of its first when it has not started."""
    if subscription.status not in {"active", "pending"}:
        return None
    customer, plan = subscription.customer, subscription.plan
    terms = Terms(
        interval=Interval(plan.interval),
        billing_time=BillingTime(subscription.billing_time),
        pay_in_advance=plan.pay_in_advance,
        anchor_at=subscription.subscription_at,
        started_at=subscription.started_at or subscription.subscription_at,
        tz=ZoneInfo(customer.timezone or customer.organization.timezone),
    )
    return current(terms, now)
