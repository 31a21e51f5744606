"""Another plan for a subscription: a dearer one at once, a cheaper one when the period ends (billing spec 1.7, 1.8)."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.billing.lifecycle import bill_upgrade, close_customers, credit_rest
from app.billing.payers import timezone_of
from app.catalog.retirement import retire_copies
from app.catalog.usage_thresholds import take_over_thresholds, write_thresholds
from app.core.periods import Interval
from app.core.subscription_fee import yearly_amount
from app.customers.activation_rules import new_rules, replace_rules
from app.customers.gated_starts import upgrade_when_paid
from app.customers.states import begin, cancel, end, pending_successors, set_ending
from app.metering.meter import Meter
from app.models import Plan, Subscription
from app.validation import Changes


def change_plan(
    db: Session, current: Subscription, plan: Plan, sent: Changes, now: datetime, meter: Meter
) -> Subscription:
    """Put an open subscription on another plan; returns the subscription that is in force after that.

    One that has not begun just gets the plan. A plan that costs as much a year or more follows at once; a cheaper one
    waits, in place of any that waited before, until the period ends. With `activation_rules` a dearer one waits until its
    first invoice is paid.
    """
    if current.status == "pending":
        retire_copies(db, [current.id], now)
        current.plan, current.updated_at = plan, now
        current.name = sent.get("name") or current.name
        current.billing_entity = sent.get("billing_entity") or current.billing_entity
        if sent.get("activation_rules") is not None:
            replace_rules(current, sent["activation_rules"], now)
        return current
    dearer = yearly(plan) >= yearly(current.plan)
    waiting = pending_successors(current)
    rules = new_rules(sent.get("activation_rules"), now, "inactive" if dearer else "not_applicable")
    at_once = dearer and not rules
    retire_copies(db, [one.id for one in (*waiting, *([current] if at_once else []))], now)
    for one in waiting:
        cancel(one, now)
    successor = _successor(current, plan, sent, now)
    successor.activation_rules = rules
    db.add(successor)
    _give_thresholds(db, current, successor, sent, now)
    if at_once:
        upgrade(db, current, successor, now, meter)
        return successor
    if dearer:
        upgrade_when_paid(db, current, successor, now, meter)
        return successor
    db.flush()
    db.refresh(current, ["successors"])
    return current


def upgrade(db: Session, current: Subscription, successor: Subscription, now: datetime, meter: Meter) -> None:
    """A dearer plan takes the place of another at once. What waits to follow is not looked at."""
    close_customers(db, [current.customer_id], now, now, meter)
    credit_rest(db, current, now, upgrade=True)
    end(current, now)
    current.replaced_by = "upgrade"
    db.flush()
    set_ending(successor, successor.ending_at, timezone_of(current.customer))
    begin(db, successor, now, now)
    db.flush()
    bill_upgrade(db, current, successor, now, meter)


def _successor(current: Subscription, plan: Plan, sent: Changes, now: datetime) -> Subscription:
    """The subscription that takes the place of another: what is not sent is as it was."""
    return Subscription(
        organization_id=current.organization_id,
        customer=current.customer,
        plan=plan,
        billing_entity=sent.get("billing_entity") or current.billing_entity,
        previous=current,
        external_id=current.external_id,
        name=sent.get("name") or current.name,
        status="pending",
        billing_time=current.billing_time,
        subscription_at=current.subscription_at,
        ending_at=sent.get("ending_at") or current.ending_at,
        on_termination_invoice="generate",
        on_termination_credit_note="credit" if plan.pay_in_advance else None,
        consolidate_invoice=current.consolidate_invoice,
        purchase_order_number=sent.get("purchase_order_number") or current.purchase_order_number,
        progressive_billing_disabled=current.progressive_billing_disabled,
        created_at=now,
        updated_at=now,
        successors=[],
    )


def _give_thresholds(db: Session, current: Subscription, successor: Subscription, sent: Changes, now: datetime) -> None:
    """The thresholds that were sent, else those that the subscription had of its own."""
    if isinstance(sent.get("progressive_billing_disabled"), bool):
        successor.progressive_billing_disabled = sent["progressive_billing_disabled"]
    db.flush()
    if "usage_thresholds" in sent:
        write_thresholds(db, successor, sent["usage_thresholds"], now)
    else:
        take_over_thresholds(db, current, successor, now)
    db.refresh(successor, ["usage_thresholds"])


def yearly(plan: Plan) -> int:
    """What a plan costs in a year, in minor units."""
    return yearly_amount(plan.amount_cents, Interval(plan.interval))
