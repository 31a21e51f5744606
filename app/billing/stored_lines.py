"""The lines of invoices that are stored, as they were billed the first time, for making these invoices anew (billing spec
3.3, 3.7)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.adjustments import Adjustment, FeeKey, group_key
from app.billing.billed import UPGRADE_BILLED_AFTER, BilledLine
from app.billing.book import load_plans
from app.billing.close import billed_subscription
from app.billing.terms import PlanTerms
from app.core.boundaries import Boundaries, Stretch, Terms, current, periodic, starting, terminating
from app.core.values import replace
from app.models import AdjustedFee, BillingPeriod, Customer, Invoice, Subscription, among


def load_invoices(db: Session, invoice_ids: Sequence[UUID]) -> list[Invoice]:
    """The invoices, locked, with their lines."""
    for one in [one for one in db.identity_map.values() if isinstance(one, Invoice) and one.id in set(invoice_ids)]:
        db.expire(one)
    of_line = selectinload(Invoice.billing_periods).joinedload(BillingPeriod.subscription)
    return list(
        db.scalars(
            select(Invoice)
            .where(among(Invoice.id, invoice_ids))
            .order_by(Invoice.id)
            .options(
                joinedload(Invoice.customer).joinedload(Customer.billing_entity),
                joinedload(Invoice.billing_entity),
                of_line.joinedload(Subscription.customer).joinedload(Customer.billing_entity),
            )
            .with_for_update(of=Invoice)
        )
    )


def stored_lines(db: Session, invoices: Sequence[Invoice]) -> dict[UUID, list[BilledLine]]:
    """The lines of each invoice as they were billed the first time, on the plans as they are now."""
    periods = [period for one in invoices for period in one.billing_periods]
    upgraded = [one.subscription_id for one in periods if one.subscription.replaced_by == "upgrade"]
    came_after = {one.subscription.previous_subscription_id for one in periods}
    before = among(Subscription.id, [one for one in came_after if one is not None])
    outgrown = set(db.scalars(select(Subscription.id).where(before, Subscription.replaced_by == "upgrade")))
    followed = among(Subscription.previous_subscription_id, upgraded) & Subscription.started_at.is_not(None)
    following = select(Subscription.previous_subscription_id, Subscription.plan_id).where(followed)
    successors = dict(db.execute(following).all())
    plans = load_plans(db, {one.subscription.plan_id for one in periods} | set(successors.values()))
    adjustments = _adjustments(db, [one.id for one in invoices])
    return {
        one.id: [
            _line(one, period, plans, successors, outgrown, adjustments.get((one.id, period.subscription_id), {}))
            for period in one.billing_periods
        ]
        for one in invoices
    }


def _line(
    invoice: Invoice,
    period: BillingPeriod,
    plans: dict[UUID, PlanTerms],
    successors: Mapping[UUID | None, UUID],
    outgrown: Collection[UUID],
    adjustments: Mapping[FeeKey, Adjustment],
) -> BilledLine:
    subscription = period.subscription
    is_end = period.invoicing_reason == "subscription_terminating"
    billed = replace(
        billed_subscription(subscription, plans),
        tz=ZoneInfo(invoice.timezone),
        ended_by_upgrade=is_end and subscription.replaced_by == "upgrade",
    )
    previous = subscription.previous_subscription_id
    came_by_upgrade = period.billed_at - billed.started_at <= UPGRADE_BILLED_AFTER and previous in outgrown
    line = BilledLine(
        billed,
        period.invoicing_reason,
        period.billed_at,
        _boundaries(billed.terms, period),
        upgraded_from=previous if came_by_upgrade else None,
        first_measured_at=period.first_measured_at,
        adjustments=adjustments,
    )
    successor = successors.get(subscription.id) if billed.ended_by_upgrade else None
    return line if successor is None else line.without_continued(plans[successor])


def _boundaries(terms: Terms, period: BillingPeriod) -> Boundaries:
    """The boundaries of a line, in the timezone that they were made in. Where a change of timezone had moved them, or an
    end cut them short, what is stored tells."""
    match period.invoicing_reason:
        case "subscription_starting":
            made = starting(terms, max(period.from_datetime, terms.started_at))
        case "subscription_terminating" if period.subscription.replaced_by != "downgrade":
            made = terminating(terms, period.subscription.terminated_at or period.billed_at)
        case "in_advance_charge" | "progressive_billing":
            made = current(terms, period.billed_at)
        case _:
            made = periodic(terms, period.billed_at)
    fixed_charges = period.fixed_charges_from_datetime, period.fixed_charges_to_datetime
    return replace(
        made,
        charges=_as_billed(made.charges, period.charges_from_datetime, period.charges_to_datetime),
        fixed_charges=_as_billed(made.fixed_charges, *fixed_charges),
    )


def _as_billed(stretch: Stretch | None, from_: datetime | None, to: datetime | None) -> Stretch | None:
    return replace(stretch, from_=from_, to=to) if stretch and from_ and to else stretch


def _adjustments(db: Session, invoice_ids: Sequence[UUID]) -> dict[tuple[UUID, UUID], dict[FeeKey, Adjustment]]:
    """What has been adjusted, by invoice and subscription."""
    found: dict[tuple[UUID, UUID], dict[FeeKey, Adjustment]] = {}
    for one in db.scalars(select(AdjustedFee).where(among(AdjustedFee.invoice_id, invoice_ids))):
        key = FeeKey(one.fee_type, one.charge_id, one.charge_filter_id, one.fixed_charge_id, group_key(one.grouped_by))
        own = found.setdefault((one.invoice_id, one.subscription_id), {})
        own[key] = Adjustment(one.units, one.unit_precise_amount, one.invoice_display_name)
    return found
