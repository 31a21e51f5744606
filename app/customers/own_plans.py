"""Which plan a subscription is on: one that is sold, or a copy of it with prices of its own (billing spec 1.5, 1.11)."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.catalog.overrides import asks_for_own_plan, copy_for_subscription, is_as_overridden, override_plan
from app.models import Plan, Subscription
from app.validation import Changes


def overridden(db: Session, sold: Plan, overrides: Changes, now: datetime) -> Plan:
    """The plan with the overrides, be they none: a copy of it unless they can do without."""
    if not asks_for_own_plan(overrides):
        return sold
    return override_plan(db, copy_for_subscription(db, sold, now), overrides, now, in_use=False)


def is_on(known: Subscription, sold: Plan, overrides: Changes) -> bool:
    """Whether a subscription is on the plan that was asked for already (billing spec 1.5). A copy is another plan than the
    one it was made of: asked for without overrides, that is a change of plan.
    """
    if not asks_for_own_plan(overrides):
        return known.plan_id == sold.id
    return sold.id in {known.plan_id, known.plan.parent_id} and is_as_overridden(known.plan, overrides)


def own_plan(db: Session, subscription: Subscription, now: datetime) -> Plan:
    """The copy of its plan that is the subscription's own, made now if it has none, for its prices to be changed. It must
    have been found by `find_to_override`.
    """
    if subscription.plan.parent_id is None:
        subscription.plan = copy_for_subscription(db, subscription.plan, now)
        subscription.updated_at = now
        db.flush()
    return subscription.plan
