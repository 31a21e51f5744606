"""Invoices in the middle of a period, made when usage passes thresholds (billing spec 8.2, 8.3)."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, contains_eager, joinedload

from app.billing.billed import BilledLine
from app.billing.book import load_taxes
from app.billing.charge_usage import AS_BILLED, ChargeUsage, Item, charge_usage
from app.billing.close import billed_subscription
from app.billing.fees import FeeDraft, line_fees
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import write_invoices
from app.billing.lifetime_usage import UNDIVIDED, historical_usage, invoiced_usage
from app.billing.locks import lock_customers
from app.billing.paid_levels import paid_levels
from app.billing.payers import payers_of
from app.billing.progressive_credits import latest_invoices
from app.billing.remembered import PriceBook
from app.billing.terms import ChargeTerms, PlanTerms
from app.core.boundaries import current
from app.core.usage_thresholds import Threshold, Used, passed
from app.core.values import replace
from app.metering.meter import Meter
from app.models import AppliedUsageThreshold, Customer, Organization, Plan, Subscription, UsageThreshold, among

Plans = dict[UUID, PlanTerms]


@dataclass(frozen=True, slots=True)
class _Passing:
    """A subscription that has passed thresholds, and what it is billed for."""

    subscription: Subscription
    line: BilledLine
    usage: Sequence[ChargeUsage]
    used: Used
    thresholds: Sequence[Threshold]


def bills_progressively(charge: ChargeTerms) -> bool:
    """Whether the usage of a charge is billed when thresholds are passed; other usage has been billed event by event."""
    return charge.invoiceable and not charge.pay_in_advance


def active_subscriptions(db: Session, ids: Collection[UUID]) -> list[Subscription]:
    """Those of some subscriptions that are active, with their customers and billing entities."""
    query = (
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .where(among(Subscription.id, ids), Subscription.status == "active")
        .options(
            contains_eager(Subscription.customer).contains_eager(Customer.billing_entity),
            joinedload(Subscription.billing_entity),
        )
        .order_by(Subscription.created_at, Subscription.id)
        .execution_options(populate_existing=True)
    )
    return list(db.scalars(query))


def current_items(subscriptions: Sequence[Subscription], plans: Plans, now: datetime) -> list[Item]:
    """The subscriptions, each with the boundaries of its present period."""
    billed = [billed_subscription(one, plans) for one in subscriptions]
    return [(one, current(one.terms, now)) for one in billed]


def thresholds_in_force(db: Session, subscriptions: Sequence[Subscription]) -> dict[UUID, list[Threshold]]:
    """The thresholds of each of these: its own, else its plan's, else those of the plan that its own is a copy of; of those
    that are billed progressively (billing spec 8.1)."""
    plan_ids = {one.plan_id for one in subscriptions}
    parents = dict(db.execute(select(Plan.id, Plan.parent_id).where(among(Plan.id, plan_ids))).all())
    owners = [*plan_ids, *(one for one in parents.values() if one)]
    rows = db.scalars(
        select(UsageThreshold).where(
            or_(
                among(UsageThreshold.plan_id, owners),
                among(UsageThreshold.subscription_id, {one.id for one in subscriptions}),
            ),
            UsageThreshold.deleted_at.is_(None),
        )
    )
    found: dict[UUID | None, list[Threshold]] = {}
    for row in rows:
        one = Threshold(row.id, row.amount_cents, row.recurring)
        found.setdefault(row.subscription_id or row.plan_id, []).append(one)
    return {
        one.id: found.get(one.id) or found.get(one.plan_id) or found.get(parents.get(one.plan_id)) or []
        for one in subscriptions
        if not one.progressive_billing_disabled
    }


def used_so_far(
    db: Session,
    subscriptions: Sequence[Subscription],
    items: Sequence[Item],
    usage: Sequence[Sequence[ChargeUsage]],
) -> dict[UUID, Used]:
    """What each of these has used in its life, from the usage of all charges in its present period. What is billed event by
    event counts as invoiced."""
    periods = [(billed.id, boundaries.charges_from) for billed, boundaries in items]
    historical = historical_usage(db, subscriptions)
    invoiced = invoiced_usage(db, periods)
    latest = latest_invoices(db, periods)
    found = {}
    for (id_, from_), charges in zip(periods, usage, strict=True):
        ours = _amount(one for one in charges if bills_progressively(one.charge))
        others = _amount(charges) - ours
        before = latest.get((id_, from_))
        found[id_] = Used(historical[id_], invoiced[id_] + others, ours, before.fees_cents if before else 0)
    return found


def bill_progressively(
    db: Session, meter: Meter, book: PriceBook, organization: Organization, ids: Collection[UUID], now: datetime
) -> int:
    """Bill those of some subscriptions that have passed thresholds for what their present periods have come to; returns the
    number of invoices. The same usage is billed once, whoever asks how often. The organization must have been read in this
    transaction, before anything else is."""
    customers = db.scalars(select(Subscription.customer_id).where(among(Subscription.id, ids))).all()
    lock_customers(db, set(customers))
    subscriptions = active_subscriptions(db, ids)
    plans = {one.plan_id: book.plan(db, organization, one.plan_id) for one in subscriptions}
    passing = _not_billed(db, _passing(db, subscriptions, plans, now, meter))
    if not passing:
        return 0
    payers = payers_of(one.subscription for one in passing)
    taxes = load_taxes(db, {one.subscription.customer_id for one in passing})
    drafts = []
    for one in passing:
        billed = one.line.subscription
        fees: Sequence[FeeDraft] = line_fees(one.line, one.usage, taxes)
        drafts.append(
            InvoiceDraft(
                payers[billed.payer_key],
                billed.plan.currency,
                now,
                billed.purchase_order_number,
                ((one.line, tuple(fees)),),
                invoice_type="progressive_billing",
            )
        )
    invoices = write_invoices(db, drafts, now)
    for invoice_id, one in zip(invoices, passing, strict=True):
        db.add_all(_applied(one, threshold, invoice_id, now) for threshold in one.thresholds)
    db.flush()
    return len(invoices)


def _passing(
    db: Session, subscriptions: Sequence[Subscription], plans: Plans, now: datetime, meter: Meter
) -> list[_Passing]:
    """Those that have passed thresholds, with their usage as it is billed."""
    items = current_items(subscriptions, plans, now)
    ours = [_only(item, bills_progressively) for item in items]
    others = [_only(item, lambda charge: not bills_progressively(charge)) for item in items]
    to_bill = charge_usage(meter, ours, AS_BILLED)
    besides = charge_usage(meter, others, UNDIVIDED, paid_levels(db, others))
    both = [[*one, *other] for one, other in zip(to_bill, besides, strict=True)]
    thresholds = thresholds_in_force(db, subscriptions)
    used = used_so_far(db, subscriptions, items, both)
    found = []
    for subscription, (billed, boundaries), usage in zip(subscriptions, items, to_bill, strict=True):
        crossed = passed(thresholds.get(subscription.id, ()), used[subscription.id])
        if crossed:
            line = BilledLine(billed, "progressive_billing", now, boundaries)
            found.append(_Passing(subscription, line, usage, used[subscription.id], crossed))
    return found


def _not_billed(db: Session, passing: Sequence[_Passing]) -> list[_Passing]:
    """Those whose highest threshold has not been passed with the same usage invoiced before."""
    rows = db.execute(
        select(
            AppliedUsageThreshold.subscription_id,
            AppliedUsageThreshold.usage_threshold_id,
            AppliedUsageThreshold.invoiced_usage_amount_cents,
        ).where(
            among(AppliedUsageThreshold.subscription_id, {one.subscription.id for one in passing}),
            AppliedUsageThreshold.is_highest,
        )
    )
    known = set(rows)
    return [one for one in passing if (one.subscription.id, one.thresholds[-1].id, one.used.before) not in known]


def _applied(one: _Passing, threshold: Threshold, invoice_id: UUID, now: datetime) -> AppliedUsageThreshold:
    return AppliedUsageThreshold(
        id=uuid4(),
        organization_id=one.subscription.organization_id,
        subscription_id=one.subscription.id,
        usage_threshold_id=threshold.id,
        invoice_id=invoice_id,
        is_highest=threshold is one.thresholds[-1],
        invoiced_usage_amount_cents=one.used.before,
        lifetime_usage_amount_cents=one.used.total,
        created_at=now,
    )


def _only(item: Item, wanted: Callable[[ChargeTerms], bool]) -> Item:
    billed, boundaries = item
    plan = replace(billed.plan, charges=tuple(one for one in billed.plan.charges if wanted(one)))
    return replace(billed, plan=plan), boundaries


def _amount(charges: Iterable[ChargeUsage]) -> int:
    return sum(fee.amounts.amount_cents for one in charges for fee in one.fees)
