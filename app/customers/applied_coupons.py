"""The coupons that customers have: giving, listing and taking them away (billing spec 5.2)."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.catalog.coupons import check_discount, end_applied, hold_active_coupon
from app.customers.customers import find_customer
from app.errors import NotAllowed, NotFound, Problems, invalid
from app.models import AppliedCoupon, Charge, Coupon, Credit, Customer
from app.models.coupon import coupon_metrics, coupon_plans
from app.models.invoice import DROPPED
from app.validation import Changes

STATUSES = ("active", "terminated")

APPLIED_COUPON_PARTS = (
    joinedload(AppliedCoupon.coupon),
    joinedload(AppliedCoupon.customer),
    selectinload(AppliedCoupon.credits).joinedload(Credit.invoice),
)
"""What must be loaded with an applied coupon to show it whole."""


def search_applied_coupons(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
    status: str | None = None,
    coupon_codes: Collection[str] | None = None,
) -> Select[AppliedCoupon]:
    """The applied coupons that pass all filters given, newest first, whole."""
    query = (
        select(AppliedCoupon)
        .where(AppliedCoupon.organization_id == organization_id)
        .order_by(AppliedCoupon.created_at.desc(), AppliedCoupon.number.desc(), AppliedCoupon.id)
        .options(*APPLIED_COUPON_PARTS)
    )
    if external_customer_id is not None:
        query = query.where(AppliedCoupon.customer.has(Customer.external_id == external_customer_id))
    if customer_id is not None:
        query = query.where(AppliedCoupon.customer_id == customer_id)
    if status is not None:
        ended = AppliedCoupon.terminated_at.is_not(None)
        query = query.where(ended if status == "terminated" else ~ended)
    if coupon_codes:
        query = query.where(AppliedCoupon.coupon.has(Coupon.code.in_(coupon_codes)))
    return query


def remaining_cents(applied: AppliedCoupon) -> int | None:
    """What of an amount that is taken once no invoice has taken yet, in minor units; None for other coupons. The credits
    must be loaded."""
    if applied.amount_cents is None or applied.frequency != "once":
        return None
    taken = sum(credit.amount_cents for credit in applied.credits if credit.invoice.status not in DROPPED)
    return applied.amount_cents - taken


def apply_coupon(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> AppliedCoupon:
    """Give a customer a coupon; what is sent of its amount or rate and its frequency counts instead of the coupon's own.

    Raises:
        NotFound: `customer_not_found`; `coupon_not_found`, also where it has expired.
        NotAllowed: `plan_overlapping`, the customer has another one that is limited to some of the same.
        Invalid: `coupon_is_not_reusable`, the customer has had it; or a field breaks a rule.
    """
    customer = find_customer(db, organization_id, sent.get("external_customer_id") or "", lock=True)
    coupon = hold_active_coupon(db, organization_id, sent.get("coupon_code") or "", now)
    if db.scalar(select(_overlapping(customer.id, coupon))):
        raise NotAllowed("plan_overlapping")
    given = db.scalars(select(AppliedCoupon.coupon_id).where(AppliedCoupon.customer_id == customer.id)).all()
    if not coupon.reusable and coupon.id in given:
        raise invalid("coupon", "coupon_is_not_reusable")
    overridable = ("amount_cents", "amount_currency", "percentage_rate", "frequency", "frequency_duration")
    wanted = {field: getattr(coupon, field) if sent.get(field) is None else sent[field] for field in overridable}
    problems = Problems()
    terms = check_discount(problems, {**wanted, "coupon_type": coupon.coupon_type})
    problems.check()
    applied = AppliedCoupon(
        organization_id=organization_id,
        coupon=coupon,
        customer=customer,
        credits=[],
        number=len(given) + 1,
        frequency_duration_remaining=terms["frequency_duration"],
        created_at=now,
        updated_at=now,
        **terms,
    )
    db.add(applied)
    db.flush()
    return applied


def terminate_applied_coupon(
    db: Session, organization_id: UUID, external_customer_id: str, applied_id: UUID | None, now: datetime
) -> AppliedCoupon:
    """Take a coupon away from a customer; nothing changes where it has ended already. What it took of invoices stays taken.

    Raises:
        NotFound: `customer_not_found`, `applied_coupon_not_found`.
    """
    customer = find_customer(db, organization_id, external_customer_id, lock=True)
    query = search_applied_coupons(organization_id, customer_id=customer.id).where(AppliedCoupon.id == applied_id)
    applied = db.scalar(query.with_for_update(of=AppliedCoupon)) if applied_id is not None else None
    if applied is None:
        raise NotFound("applied_coupon")
    if applied.terminated_at is None:
        applied.terminated_at = applied.updated_at = now
    return applied


def end_applied_coupons(db: Session, customer_id: UUID, now: datetime) -> None:
    """Take all coupons away from a customer, who is being deleted."""
    end_applied(db, AppliedCoupon.customer_id == customer_id, now)


def _overlapping(customer_id: UUID, coupon: Coupon) -> ColumnElement[bool]:
    """Whether a customer has a coupon limited to one of the same plans or metrics, or to metrics that one of the plans
    charges for, or the other way round."""
    plans, metrics = coupon_plans.c.plan_id, coupon_metrics.c.billable_metric_id
    of_coupon = {
        plans: select(plans).where(coupon_plans.c.coupon_id == coupon.id),
        metrics: select(metrics).where(coupon_metrics.c.coupon_id == coupon.id),
    }
    charged = select(Charge.billable_metric_id).where(Charge.plan_id.in_(of_coupon[plans]), Charge.deleted_at.is_(None))
    charging = select(Charge.plan_id).where(
        Charge.billable_metric_id.in_(of_coupon[metrics]), Charge.deleted_at.is_(None)
    )
    same_plan = exists().where(
        coupon_plans.c.coupon_id == AppliedCoupon.coupon_id, or_(plans.in_(of_coupon[plans]), plans.in_(charging))
    )
    same_metric = exists().where(
        coupon_metrics.c.coupon_id == AppliedCoupon.coupon_id,
        or_(metrics.in_(of_coupon[metrics]), metrics.in_(charged)),
    )
    return exists().where(
        AppliedCoupon.customer_id == customer_id, AppliedCoupon.terminated_at.is_(None), or_(same_plan, same_metric)
    )
