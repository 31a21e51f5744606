"""Coupons: finding them, and the rules for making, changing and ending them (billing spec 5.1)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from app.catalog.metrics import live_metrics
from app.catalog.plans import bare_plans
from app.errors import NotAllowed, NotFound, Problems
from app.models import AppliedCoupon, BillableMetric, Coupon, Organization, Plan, among
from app.validation import Changes, assign, check_code, check_currency, check_mandatory, check_one_of, empty

T = TypeVar("T", Plan, BillableMetric)

COUPON_TYPES = ("fixed_amount", "percentage")
FREQUENCIES = ("once", "recurring", "forever")
EXPIRATIONS = ("no_expiration", "time_limit")
LARGEST_RATE = Decimal(1_000_000)
SMALLEST_RATE = Decimal("0.00001")

COUPON_PARTS = (selectinload(Coupon.plans), selectinload(Coupon.billable_metrics))
"""What must be loaded with a coupon to show it whole."""

_MANDATORY = ("name", "code", "coupon_type", "frequency", "expiration")
_EDITABLE_IN_USE = ("name", "description", "expiration", "expiration_at")
_FROZEN_IN_USE = (
    "code", "coupon_type", "amount_cents", "amount_currency", "percentage_rate", "frequency", "frequency_duration",
    "reusable", "applies_to",
)  # fmt: skip
_FIELDS = tuple(field for field in (*_EDITABLE_IN_USE, *_FROZEN_IN_USE) if field != "applies_to")


def live_coupons(organization_id: UUID) -> Select[Coupon]:
    """An organization's coupons that have not been deleted, newest first, whole."""
    return (
        select(Coupon)
        .where(Coupon.organization_id == organization_id, Coupon.deleted_at.is_(None))
        .order_by(Coupon.created_at.desc(), Coupon.id)
        .options(*COUPON_PARTS)
    )


def find_coupon(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> Coupon:
    """The coupon with a code.

    Raises:
        NotFound: `coupon_not_found`.
    """
    query = live_coupons(organization_id).where(Coupon.code == code)
    coupon = db.scalar(query.with_for_update(of=Coupon, key_share=True) if lock else query)
    if coupon is None:
        raise NotFound("coupon")
    return coupon


def hold_active_coupon(db: Session, organization_id: UUID, code: str, now: datetime) -> Coupon:
    """The coupon with a code that can be given to customers; it is not deleted before the transaction ends.

    Raises:
        NotFound: `coupon_not_found`, also where it has expired.
    """
    query = live_coupons(organization_id).where(Coupon.code == code, Coupon.terminated_at.is_(None))
    coupon = db.scalar(query.with_for_update(of=Coupon, read=True))
    if coupon is None or (coupon.expiration_at is not None and coupon.expiration_at <= now):
        raise NotFound("coupon")
    return coupon


def create_coupon(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> Coupon:
    """A new coupon.

    Raises:
        NotFound: `plans_not_found`, `billable_metrics_not_found`.
        NotAllowed: `only_one_limitation_type_per_coupon_allowed`.
        Invalid: a field breaks a rule.
    """
    coupon = Coupon(organization_id=organization_id, plans=[], billable_metrics=[], created_at=now)
    _write(db, coupon, _check(db, organization_id, {**changes}, None, now), changes.get("applies_to"), now)
    return coupon


def update_coupon(db: Session, coupon: Coupon, changes: Changes, now: datetime) -> None:
    """Change a coupon. Of one that somebody has only the name, the description and the expiration change; what else is
    sent is left as it was. Expiring is for good: a later date does not bring an expired one back.

    Raises:
        NotFound: `plans_not_found`, `billable_metrics_not_found`.
        NotAllowed: `only_one_limitation_type_per_coupon_allowed`.
        Invalid: a field breaks a rule.
    """
    if db.scalar(select(select(AppliedCoupon.id).where(AppliedCoupon.coupon_id == coupon.id).exists())):
        changes = {field: value for field, value in changes.items() if field not in _FROZEN_IN_USE}
    wanted = {**{field: getattr(coupon, field) for field in _FIELDS}, **changes}
    checked = _check(db, coupon.organization_id, wanted, coupon, now)
    _write(db, coupon, checked, changes.get("applies_to"), now, limits_sent="applies_to" in changes)


def delete_coupon(db: Session, coupon: Coupon, now: datetime) -> None:
    """Delete a coupon; nobody has it any more. What it took of invoices stays taken. The coupon must be locked."""
    coupon.deleted_at = coupon.updated_at = now
    end_applied(db, AppliedCoupon.coupon_id == coupon.id, now)


def end_applied(db: Session, which: ColumnElement[bool], now: datetime) -> None:
    """End applied coupons that have not ended yet. They are locked in the order in which invoices lock them."""
    query = select(AppliedCoupon.id).where(which, AppliedCoupon.terminated_at.is_(None)).order_by(AppliedCoupon.id)
    ids = db.scalars(query.with_for_update(key_share=True)).all()
    db.execute(update(AppliedCoupon).where(among(AppliedCoupon.id, ids)).values(terminated_at=now, updated_at=now))


def expiring(instant: datetime) -> ColumnElement[bool]:
    """Coupons that have expired by then and have not been ended."""
    return (Coupon.expiration_at <= instant) & Coupon.terminated_at.is_(None) & Coupon.deleted_at.is_(None)


def expire_coupons(db: Session, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
    """End the coupons that expire: they are given to nobody any more; who has one keeps it. `scope` limits the
    organizations."""
    db.execute(
        update(Coupon)
        .where(expiring(instant), Coupon.organization_id.in_(select(Organization.id).where(scope)))
        .values(terminated_at=instant, updated_at=made_at)
    )


def check_discount(problems: Problems, wanted: Changes) -> dict[str, Any]:
    """Note what is wrong with how much a coupon takes and how often; returns the fields that say so, null where the
    coupon's type or frequency has no use for them."""
    check_one_of(problems, wanted, "frequency", FREQUENCIES)
    fixed, recurring = wanted.get("coupon_type") == "fixed_amount", wanted.get("frequency") == "recurring"
    used = {
        "amount_cents": fixed,
        "amount_currency": fixed,
        "percentage_rate": wanted.get("coupon_type") == "percentage",
        "frequency_duration": recurring,
    }
    check_mandatory(problems, wanted, (field for field, is_used in used.items() if is_used), creating=True)
    fields = {field: wanted.get(field) if is_used else None for field, is_used in used.items()}
    check_currency(problems, fields, "amount_currency")
    rate = fields["percentage_rate"]
    if isinstance(rate, Decimal) and not (rate.is_finite() and SMALLEST_RATE <= rate <= LARGEST_RATE):
        problems.add("percentage_rate", "value_is_out_of_range")
    for field in ("amount_cents", "frequency_duration"):
        number = fields[field]
        if number is not None and number <= 0:
            problems.add(field, "value_is_out_of_range")
    return {"frequency": wanted.get("frequency"), **fields}


def _check(
    db: Session, organization_id: UUID, wanted: Mapping[str, Any], coupon: Coupon | None, now: datetime
) -> dict[str, Any]:
    """All columns as they are to be."""
    problems = Problems()
    check_mandatory(problems, wanted, _MANDATORY, creating=True)
    check_code(problems, wanted)
    check_one_of(problems, wanted, "coupon_type", COUPON_TYPES)
    check_one_of(problems, wanted, "expiration", EXPIRATIONS)
    fields = {
        **{field: wanted.get(field) for field in _FIELDS},
        **check_discount(problems, wanted),
        "reusable": wanted.get("reusable") is not False,
    }
    if wanted.get("expiration") == "time_limit":
        check_mandatory(problems, wanted, ("expiration_at",), creating=True)
        expires = wanted.get("expiration_at")
        if expires is not None and expires <= now and (coupon is None or expires != coupon.expiration_at):
            problems.add("expiration_at", "invalid_date")
    else:
        fields["expiration_at"] = None
    code = wanted.get("code")
    if not empty(code) and (coupon is None or code != coupon.code):
        taken = db.scalar(select(live_coupons(organization_id).where(Coupon.code == code).exists()))
        if taken:
            problems.add("code", "value_already_exist")
    problems.check()
    return fields


def _write(
    db: Session,
    coupon: Coupon,
    fields: Mapping[str, Any],
    limits: Mapping[str, Any] | None,
    now: datetime,
    *,
    limits_sent: bool = True,
) -> None:
    assign(coupon, fields, _FIELDS)
    if limits_sent:
        _limit(db, coupon, limits or {})
    coupon.updated_at = now
    db.add(coupon)
    db.flush()


def _limit(db: Session, coupon: Coupon, limits: Mapping[str, Any]) -> None:
    """Limit a coupon to plans or to metrics; to none of both where no codes are given."""
    plans, metrics = limits.get("plan_codes") or (), limits.get("billable_metric_codes") or ()
    if plans and metrics:
        raise NotAllowed("only_one_limitation_type_per_coupon_allowed")
    coupon.plans = _by_code(db, bare_plans(coupon.organization_id), Plan.code, plans, "plans")
    coupon.billable_metrics = _by_code(
        db, live_metrics(coupon.organization_id), BillableMetric.code, metrics, "billable_metrics"
    )
    coupon.limited_plans, coupon.limited_billable_metrics = bool(plans), bool(metrics)


def _by_code(
    db: Session, query: Select[T], code: InstrumentedAttribute[str], codes: Iterable[str], resource: str
) -> list[T]:
    """Those that a coupon is limited to.

    Raises:
        NotFound: one of them is not there.
    """
    wanted = set(codes)
    found = list(db.scalars(query.where(code.in_(wanted)))) if wanted else []
    if len(found) < len(wanted):
        raise NotFound(resource)
    return found
