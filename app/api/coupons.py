"""`/api/v1/coupons` (billing spec 5.1)."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.wire import (
    Cents,
    Count,
    Opt,
    PageMeta,
    Str,
    changes,
    fill,
    instant,
    instant_or_none,
    paginate,
    parse_instant,
)
from app.catalog.coupons import create_coupon, delete_coupon, find_coupon, live_coupons, update_coupon
from app.core.money import decimal_text
from app.models import Coupon


class LimitsInput(Struct):
    plan_codes: list[Str] | Opt | None = UNSET
    billable_metric_codes: list[Str] | Opt | None = UNSET


class CouponInput(Struct):
    name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    coupon_type: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    reusable: bool | Opt | None = UNSET
    percentage_rate: Decimal | Opt | None = UNSET
    frequency: Str | Opt | None = UNSET
    frequency_duration: Count | Opt | None = UNSET
    expiration: Str | Opt | None = UNSET
    expiration_at: Str | Opt | None = UNSET
    applies_to: LimitsInput | Opt | None = UNSET


class CouponBody(Struct):
    coupon: CouponInput


class CouponObject(Struct, kw_only=True):
    lago_id: UUID
    name: str
    code: str
    description: str | None
    coupon_type: str
    amount_cents: int | None
    amount_currency: str | None
    reusable: bool
    limited_plans: bool
    plan_codes: list[str]
    limited_billable_metrics: bool
    billable_metric_codes: list[str]
    percentage_rate: str | None
    frequency: str
    frequency_duration: int | None
    expiration: str
    expiration_at: str | None
    created_at: str
    terminated_at: str | None


class CouponAnswer(Struct):
    coupon: CouponObject


class CouponsAnswer(Struct):
    coupons: list[CouponObject]
    meta: PageMeta


def rate_text(rate: Decimal | None) -> str | None:
    """A rate in percent as coupons have it on the wire."""
    return None if rate is None else decimal_text(rate)


def _coupon_object(coupon: Coupon) -> CouponObject:
    return fill(
        CouponObject,
        coupon,
        lago_id=coupon.id,
        percentage_rate=rate_text(coupon.percentage_rate),
        plan_codes=[plan.code for plan in coupon.plans],
        billable_metric_codes=[metric.code for metric in coupon.billable_metrics],
        expiration_at=instant_or_none(coupon.expiration_at),
        created_at=instant(coupon.created_at),
        terminated_at=instant_or_none(coupon.terminated_at),
    )


def _sent(data: CouponBody) -> dict[str, Any]:
    sent = changes(data.coupon)
    if "expiration_at" in sent:
        text = sent["expiration_at"]
        sent["expiration_at"] = parse_instant(text, "expiration_at") if text else None
    return sent


class CouponController(Controller):
    path = "/coupons"
    tags = ["coupons"]
    opt = {"resource": "coupon"}

    @post()
    def create_coupon(self, data: CouponBody, db: Db, organization: Org, now: Now) -> CouponAnswer:
        """Make a coupon."""
        return CouponAnswer(_coupon_object(create_coupon(db, organization.id, _sent(data), now)))

    @get()
    def list_coupons(self, db: Db, organization: Org, paging: Paging) -> CouponsAnswer:
        """All coupons, newest first."""
        coupons, meta = paginate(db, live_coupons(organization.id), paging)
        return CouponsAnswer([_coupon_object(coupon) for coupon in coupons], meta)

    @get("/{code:path}")
    def get_coupon(self, code: str, db: Db, organization: Org) -> CouponAnswer:
        """One coupon."""
        return CouponAnswer(_coupon_object(find_coupon(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_coupon(self, code: str, data: CouponBody, db: Db, organization: Org, now: Now) -> CouponAnswer:
        """Change a coupon; of one that somebody has only the name, the description and the expiration."""
        coupon = find_coupon(db, organization.id, code[1:], lock=True)
        update_coupon(db, coupon, _sent(data), now)
        return CouponAnswer(_coupon_object(coupon))

    @delete("/{code:path}")
    def remove_coupon(self, code: str, db: Db, organization: Org, now: Now) -> CouponAnswer:
        """Delete a coupon; nobody has it any more."""
        coupon = find_coupon(db, organization.id, code[1:], lock=True)
        delete_coupon(db, coupon, now)
        return CouponAnswer(_coupon_object(coupon))
