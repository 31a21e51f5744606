"""What is billed when a subscription starts or ends (billing spec 1.6, 1.9)."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.automatic_notes import credit_unused
from app.billing.billed import UPGRADE_BILLED_AFTER, BilledLine, BilledSubscription
from app.billing.book import load_plans, load_taxes
from app.billing.close import (
    NEVER_BILLED,
    bill_lines,
    billed_subscription,
    close_chunk,
    load_billed_until,
)
from app.billing.fees import line_fees
from app.billing.fixed_charges import fixed_charge_fees, load_units, raised_fees
from app.billing.invoice_drafts import group_lines
from app.billing.invoices import write_invoices
from app.billing.payers import payers_of, timezone_of
from app.billing.statements import write_statements
from app.billing.terms import PlanTerms
from app.core.boundaries import current, starting, terminating
from app.core.periods import local_date, local_start
from app.core.values import replace
from app.customers.periods import terms_of
from app.metering.meter import Meter
from app.models import BillingPeriod, Customer, Fee, Invoice, Subscription, among


def bill_start(db: Session, subscription: Subscription, instant: datetime, made_at: datetime, meter: Meter) -> None:
    """The first invoice of a plan paid in advance; of one in arrears, or in its trial, what its fixed charges come to in
    advance, if that is anything."""
    plans = load_plans(db, [subscription.plan_id])
    line = _started_line(subscription, plans, instant)
    plan = line.subscription.plan
    payers = payers_of([subscription])
    if line.has_subscription_fee:
        bill_lines(db, [line], payers, made_at, meter)
    elif plan.has_fixed_charges_in_advance:
        taxes = load_taxes(db, [subscription.customer_id])
        fees = fixed_charge_fees(line, load_units(db, [line]), taxes)
        if fees:
            write_invoices(db, group_lines([(line, fees)], payers), made_at)


def bill_start_first(
    db: Session, before: Subscription | None, after: Subscription, made_at: datetime
) -> Invoice | None:
    """Invoice what the start of a subscription bills, before it starts (billing spec 1.10), where it takes the place of
    another as an upgrade does. Returns the invoice if it is to be paid: it is open then; where nothing is, it is final."""
    instant = after.starts_at or made_at
    plans = load_plans(db, [after.plan_id])
    line = _started_line(after, plans, instant)
    if before is not None:
        line = replace(line, billed_at=instant + UPGRADE_BILLED_AFTER, upgraded_from=before.id)
    taxes = load_taxes(db, [after.customer_id])
    fees = [*line_fees(line, (), taxes), *fixed_charge_fees(line, load_units(db, [line]), taxes)]
    if not fees:
        return None
    drafts = [replace(one, paid_first=True) for one in group_lines([(line, fees)], payers_of([after]))]
    made = among(Invoice.id, write_invoices(db, drafts, made_at))
    return db.scalar(select(Invoice).where(made, Invoice.status == "open"))


def bill_outgrown(
    db: Session, before: Subscription, after: Subscription, ended_at: datetime, made_at: datetime, meter: Meter
) -> None:
    """The last invoice of a subscription that a dearer one has followed whose own first invoice is paid already; none where
    nothing can be on it."""
    plans = load_plans(db, [before.plan_id, after.plan_id])
    (line,) = (
        replace(one, billed_at=ended_at + UPGRADE_BILLED_AFTER) for one in _ended_lines(db, [before], plans, ended_at)
    )
    line = line.without_continued(plans[after.plan_id])
    plan = line.subscription.plan
    if line.has_subscription_fee or line.charges or plan.fixed_charges or plan.commitment:
        bill_lines(db, [line], payers_of([before]), made_at, meter)


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
    if subscription.plan.pay_in_advance and not any(local_date(one, tz) == today for one in billed):
        bill_start(db, subscription, instant, made_at, meter)


def bill_termination(
    db: Session, subscriptions: Iterable[Subscription], instant: datetime, made_at: datetime, meter: Meter
) -> None:
    """The last invoice of terminated subscriptions: usage and, in arrears, the fee of the current period until its end."""
    ended = list(subscriptions)
    plans = load_plans(db, {one.plan_id for one in ended})
    lines = _ended_lines(db, ended, plans, instant)
    bill_lines(db, lines, payers_of(ended), made_at, meter)


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
            Invoice.status.in_(("draft", "finalized")),
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
        mode=subscription.on_termination_credit_note or "credit",
        now=ends_at,
    )


def bill_upgrade(db: Session, before: Subscription, after: Subscription, now: datetime, meter: Meter) -> None:
    """The invoice of an upgrade, a second after it: usage and, in arrears, the fee of the old plan until then; in advance,
    the fee and the fixed charges of the new one from that day on (billing spec 1.7). What the new plan will bill is left to
    it."""
    billed_at = now + UPGRADE_BILLED_AFTER
    plans = load_plans(db, [before.plan_id, after.plan_id])
    (old,) = (replace(line, billed_at=billed_at) for line in _ended_lines(db, [before], plans, now))
    new = replace(_started_line(after, plans, now), billed_at=billed_at, upgraded_from=before.id)
    old = old.without_continued(new.subscription.plan)
    begins = new.has_subscription_fee or new.subscription.plan.has_fixed_charges_in_advance
    lines = [old, new] if begins else [old]
    bill_lines(db, lines, payers_of([before, after]), now, meter)


def end_without_invoice(
    db: Session, subscriptions: Iterable[Subscription], instant: datetime, made_at: datetime
) -> None:
    """What the end of subscriptions brings that are not to be billed any more: statements of what was paid."""
    ended = list(subscriptions)
    plans = load_plans(db, {one.plan_id for one in ended})
    lines = _ended_lines(db, ended, plans, instant)
    write_statements(db, lines, payers_of(ended), made_at)


def bill_raised(
    db: Session,
    raised: Sequence[tuple[Subscription, Collection[UUID]]],
    plans: dict[UUID, PlanTerms],
    now: datetime,
) -> None:
    """Invoice at once what these subscriptions owe in advance for new units of these fixed charges (billing spec 2.6).

    Units that went down make an invoice of 0, as far as the customer wants such invoices. The customers must be locked.
    """
    if not raised:
        return
    payers = payers_of(one for one, _ in raised)
    taxes = load_taxes(db, {one.customer_id for one, _ in raised})
    lines = [_advance_line(billed_subscription(one, plans), now) for one, _ in raised]
    units = load_units(db, lines)
    fees = [
        (line, raised_fees(line, charge_ids, units, taxes)) for line, (_, charge_ids) in zip(lines, raised, strict=True)
    ]
    write_invoices(db, group_lines(fees, payers), now)


def close_customers(
    db: Session, customer_ids: Collection[UUID], instant: datetime, made_at: datetime, meter: Meter
) -> None:
    """Close every boundary of customers that has passed, so that what follows starts from a billed past."""
    scope = among(Customer.id, customer_ids)
    while close_chunk(db, scope, instant, made_at, len(customer_ids), meter, wait=True).customers:
        pass


def schedule(subscription: Subscription, now: datetime) -> None:
    """Set when a subscription's current period can be closed. Its plan and customer must be loaded."""
    subscription.next_billing_at = terms_of(subscription).next_boundary(now)


def _advance_line(billed: BilledSubscription, now: datetime) -> BilledLine:
    return BilledLine(billed, "in_advance_charge", now, current(billed.terms, now))


def _started_line(subscription: Subscription, plans: dict[UUID, PlanTerms], now: datetime) -> BilledLine:
    billed = billed_subscription(subscription, plans)
    return BilledLine(billed, "subscription_starting", now, starting(billed.terms, now))


def _ended_lines(
    db: Session, subscriptions: Sequence[Subscription], plans: dict[UUID, PlanTerms], now: datetime
) -> list[BilledLine]:
    before = load_billed_until(db, [one.id for one in subscriptions])
    lines = []
    for one in subscriptions:
        billed = billed_subscription(one, plans)
        until = before.get(one.id, NEVER_BILLED)
        boundaries = until.join(terminating(billed.terms, now, until.boundary))
        lines.append(BilledLine(billed, "subscription_terminating", now, boundaries))
    return lines
