"""What is billed when a subscription starts or ends (billing spec 1.6, 1.9)."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.billed import BilledLine
from app.billing.book import PlanTerms, load_plans
from app.billing.close import bill_lines, billed_subscription, close_chunk, payer_of, timezone_of
from app.billing.credit_notes import credit_unused
from app.core.boundaries import Boundaries, starting, terminating
from app.core.periods import local_date, local_start
from app.customers.periods import terms_of
from app.metering.meter import Meter
from app.models import BillingPeriod, Customer, Fee, Invoice, Subscription, among


def bill_start(db: Session, subscription: Subscription, instant: datetime, made_at: datetime, meter: Meter) -> None:
    """The first invoice of a plan paid in advance; nothing for a plan in arrears."""
    plans = load_plans(db, [subscription.plan_id])
    line = _line(subscription, plans, "subscription_starting", instant)
    if line.subscription.plan.pay_in_advance and line.has_subscription_fee:
        bill_lines(db, [line], {subscription.customer_id: payer_of(subscription.customer)}, made_at, meter)


def bill_trial_end(db: Session, subscription: Subscription, instant: datetime, made_at: datetime, meter: Meter) -> None:
    """The fee of the days after a trial, in advance, unless the start of the subscription or of a period on the same local
    day has billed them already (billing spec 1.6)."""
    tz = timezone_of(subscription.customer)
    today = local_date(instant, tz)
    billed = db.scalars(
        select(BillingPeriod.billed_at).where(
            BillingPeriod.subscription_id == subscription.id,
            BillingPeriod.invoicing_reason.in_(("subscription_starting", "subscription_periodic")),
            BillingPeriod.billed_at >= local_start(today, tz),
        )
    )
    if not any(local_date(one, tz) == today for one in billed):
        bill_start(db, subscription, instant, made_at, meter)


def bill_termination(
    db: Session, subscriptions: Iterable[Subscription], instant: datetime, made_at: datetime, meter: Meter
) -> None:
    """The last invoice of terminated subscriptions: usage and, in arrears, the fee of the current period until its end."""
    ended = list(subscriptions)
    plans = load_plans(db, {one.plan_id for one in ended})
    lines = [_line(one, plans, "subscription_terminating", instant) for one in ended]
    bill_lines(db, lines, {one.customer_id: payer_of(one.customer) for one in ended}, made_at, meter)


def credit_rest(db: Session, subscription: Subscription, ends_at: datetime, *, upgrade: bool) -> None:
    """Give back what is paid in advance for the days after the end, as the subscription says (billing spec 6.7)."""
    if not subscription.plan.pay_in_advance or subscription.on_termination_credit_note == "skip":
        return
    fee = db.scalars(
        select(Fee)
        .join(Fee.invoice)
        .where(
            Fee.organization_id == subscription.organization_id,
            Fee.subscription_id == subscription.id,
            Fee.fee_type == "subscription",
            Fee.amount_cents > 0,
            Fee.to_datetime >= ends_at,
            Invoice.status == "finalized",
        )
        .order_by(Fee.to_datetime.desc())
        .limit(1)
    ).first()
    if fee is None:
        return
    terms = terms_of(subscription)
    period = terms.period_at(ends_at)
    credit_unused(
        db,
        fee,
        period=(period.start, period.end),
        ends_on=local_date(ends_at, terms.tz),
        upgrade=upgrade,
        now=ends_at,
    )


def bill_upgrade(db: Session, before: Subscription, after: Subscription, now: datetime, meter: Meter) -> None:
    """The invoice of an upgrade, a second after it: usage and, in arrears, the fee of the old plan until then; in advance,
    the fee of the new one from that day on (billing spec 1.7). What the new plan will bill is left to it."""
    billed_at = now + timedelta(seconds=1)
    plans = load_plans(db, [before.plan_id, after.plan_id])
    old = replace(_line(before, plans, "subscription_terminating", now), billed_at=billed_at)
    new = replace(_line(after, plans, "subscription_starting", now), billed_at=billed_at)
    going_on = {charge.metric_id for charge in new.subscription.plan.charges}
    plan = old.subscription.plan
    charges = tuple(
        one for one in plan.charges if not (one.recurring and not one.prorated and one.metric_id in going_on)
    )
    old = replace(old, subscription=replace(old.subscription, plan=replace(plan, charges=charges)))
    lines = [old, new] if new.subscription.plan.pay_in_advance and new.has_subscription_fee else [old]
    bill_lines(db, lines, {before.customer_id: payer_of(before.customer)}, now, meter)


def close_customers(
    db: Session, customer_ids: Collection[UUID], instant: datetime, made_at: datetime, meter: Meter
) -> None:
    """Close every boundary of customers that has passed, so that what follows starts from a billed past."""
    scope = among(Customer.id, customer_ids)
    while close_chunk(db, scope, instant, made_at, len(customer_ids), meter).customers:
        pass


def schedule(subscription: Subscription, now: datetime) -> None:
    """Set when a subscription's current period can be closed. Its plan and customer must be loaded."""
    subscription.next_billing_at = terms_of(subscription).next_boundary(now)


def _line(subscription: Subscription, plans: dict[UUID, PlanTerms], reason: str, now: datetime) -> BilledLine:
    billed = billed_subscription(subscription, plans)
    boundaries: Boundaries = (
        terminating(billed.terms, now) if reason == "subscription_terminating" else starting(billed.terms, now)
    )
    return BilledLine(billed, reason, now, boundaries)
