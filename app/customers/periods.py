"""Where a subscription stands in its billing periods (billing spec 1.3)."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.boundaries import Boundaries, Terms, current
from app.core.periods import BillingTime, Interval
from app.models import Subscription


def current_period(subscription: Subscription, now: datetime) -> Boundaries | None:
    """The boundaries of an open subscription's current period, or of its first when it has not started."""
    if subscription.status not in {"active", "pending", "incomplete"}:
        return None
    return current(terms_of(subscription), now)


def downgrade_day(subscription: Subscription, now: datetime) -> str | None:
    """The date on which a cheaper plan follows: the one after the current period (billing spec 1.8)."""
    if subscription.status != "active" or all(one.status != "pending" for one in subscription.successors):
        return None
    period = terms_of(subscription).period_at(now)
    return (period.end + timedelta(days=1)).isoformat()


def terms_of(subscription: Subscription) -> Terms:
    """What decides a subscription's periods; one that has not started starts when it was asked for."""
    plan = subscription.plan
    return Terms(
        interval=Interval(plan.interval),
        billing_time=BillingTime(subscription.billing_time),
        pay_in_advance=plan.pay_in_advance,
        anchor_at=subscription.subscription_at,
        started_at=subscription.starts_at or subscription.subscription_at,
        tz=ZoneInfo(subscription.customer.applicable_timezone),
        charges_monthly=plan.bill_charges_monthly is True,
        fixed_charges_monthly=plan.bill_fixed_charges_monthly is True,
    )
