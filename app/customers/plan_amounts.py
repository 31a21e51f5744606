"""What a new amount of a plan means for cheaper plans that wait to follow (billing spec 1.8).

A plan that waits and now costs as much a year as the one before it, or more, follows at once, as a dearer one does. A plan
in force that now costs less than the one that waits to follow is kept: there is nothing cheaper to wait for.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, joinedload

from app.billing.lifecycle import close_customers
from app.billing.locks import lock_customers
from app.catalog.retirement import retire_copies
from app.customers.plan_changes import upgrade, yearly
from app.customers.states import cancel
from app.metering.meter import Meter
from app.models import Customer, Plan, Subscription


@contextmanager
def following_amounts(db: Session, plan: Plan, now: datetime, meter: Meter) -> Iterator[None]:
    """While the amounts of a plan and its copies are changed; afterwards, what waits follows or is canceled. The plan must
    be locked. Nothing happens to what waits where no amount has changed."""
    before = _amounts(db, plan)
    yield
    db.flush()
    after = _amounts(db, plan)
    changed = {plan_id for plan_id, amount in after.items() if before.get(plan_id, amount) != amount}
    if changed:
        follow_amounts(db, changed, now, meter)


def _amounts(db: Session, plan: Plan) -> Mapping[UUID, int]:
    """The amounts of a plan and of its copies."""
    own = select(Plan.id, Plan.amount_cents).where(
        Plan.organization_id == plan.organization_id, or_(Plan.id == plan.id, Plan.parent_id == plan.id)
    )
    return dict(db.execute(own).all())


def follow_amounts(db: Session, changed: Collection[UUID], now: datetime, meter: Meter) -> None:
    """What waits follows or is canceled, now that the amounts of these plans have changed."""
    waiting = _waiting(changed)
    customers = set(db.scalars(waiting.with_only_columns(Subscription.customer_id).order_by(None)))
    if not customers:
        return
    lock_customers(db, customers)
    close_customers(db, customers, now, now, meter)
    whole = (
        joinedload(Subscription.plan),
        joinedload(Subscription.customer).joinedload(Customer.billing_entity),
        joinedload(Subscription.billing_entity),
    )
    for successor in db.scalars(waiting.options(*whole, joinedload(Subscription.previous).options(*whole))).all():
        current = successor.previous
        if current is None:
            continue
        if successor.plan_id in changed and yearly(successor.plan) >= yearly(current.plan):
            retire_copies(db, [current.id], now)
            upgrade(db, current, successor, now, meter)
        elif current.plan_id in changed and yearly(current.plan) < yearly(successor.plan):
            retire_copies(db, [successor.id], now)
            cancel(successor, now)
            current.updated_at = now
    db.flush()


def _waiting(plan_ids: Collection[UUID]) -> Select[Subscription]:
    """The subscriptions that wait to follow others, where the plan of either is one of these."""
    current = select(Subscription.id).where(Subscription.plan_id.in_(plan_ids), Subscription.status == "active")
    return (
        select(Subscription)
        .where(
            Subscription.status == "pending",
            Subscription.previous_subscription_id.is_not(None),
            or_(Subscription.plan_id.in_(plan_ids), Subscription.previous_subscription_id.in_(current)),
        )
        .order_by(Subscription.created_at, Subscription.id)
    )
