"""`/api/v1/applied_coupons`, and those of one customer (billing spec 5.2)."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct

from app.api.coupons import rate_text
from app.api.given import Db, Now, Org, Paging
from app.api.invoice_objects import CreditObject, credit_object
from app.api.routes import delete, get, post
from app.api.wire import Cents, Count, Opt, Page, PageMeta, Str, changes, fill, instant, instant_or_none, paginate
from app.customers.applied_coupons import (
    STATUSES,
    apply_coupon,
    remaining_cents,
    search_applied_coupons,
    terminate_applied_coupon,
)
from app.customers.customers import find_customer
from app.errors import Problems
from app.models import AppliedCoupon
from app.validation import as_uuid, check_one_of

CouponCodes = Annotated[list[str] | None, Parameter(query="coupon_code[]")]


class AppliedCouponInput(Struct):
    external_customer_id: Str | Opt | None = UNSET
    coupon_code: Str | Opt | None = UNSET
    frequency: Str | Opt | None = UNSET
    frequency_duration: Count | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    percentage_rate: Decimal | Opt | None = UNSET


class AppliedCouponBody(Struct):
    applied_coupon: AppliedCouponInput


class AppliedCouponObject(Struct, kw_only=True):
    lago_id: UUID
    lago_coupon_id: UUID
    coupon_code: str
    coupon_name: str
    coupon_status: str
    coupon_deleted_at: str | None
    lago_customer_id: UUID
    external_customer_id: str
    status: str
    amount_cents: int | None
    amount_cents_remaining: int | None
    amount_currency: str | None
    percentage_rate: str | None
    frequency: str
    frequency_duration: int | None
    frequency_duration_remaining: int | None
    expiration_at: str | None
    created_at: str
    terminated_at: str | None
    credits: list[CreditObject] | Opt = UNSET


class AppliedCouponAnswer(Struct):
    applied_coupon: AppliedCouponObject


class AppliedCouponsAnswer(Struct):
    applied_coupons: list[AppliedCouponObject]
    meta: PageMeta


def _applied_coupon_object(applied: AppliedCoupon, *, credited: bool = False) -> AppliedCouponObject:
    """An applied coupon as it is on the wire, in a list with what it took of invoices."""
    coupon = applied.coupon
    shown = fill(
        AppliedCouponObject,
        applied,
        lago_id=applied.id,
        lago_coupon_id=coupon.id,
        coupon_code=coupon.code,
        coupon_name=coupon.name,
        coupon_status=coupon.status,
        coupon_deleted_at=instant_or_none(coupon.deleted_at),
        lago_customer_id=applied.customer_id,
        external_customer_id=applied.customer.external_id,
        status=applied.status,
        amount_cents_remaining=remaining_cents(applied),
        percentage_rate=rate_text(applied.percentage_rate),
        expiration_at=instant_or_none(coupon.expiration_at),
        created_at=instant(applied.created_at),
        terminated_at=instant_or_none(applied.terminated_at),
        credits=UNSET,
    )
    if credited:
        shown.credits = [credit_object(credit) for credit in applied.credits]
    return shown


def _listed(
    db: Db,
    organization: Org,
    paging: Page,
    *,
    status: str | None,
    coupon_codes: list[str] | None,
    external_customer_id: str | None = None,
    customer_id: UUID | None = None,
) -> AppliedCouponsAnswer:
    problems = Problems()
    check_one_of(problems, {"status": status}, "status", STATUSES)
    problems.check()
    query = search_applied_coupons(
        organization.id,
        external_customer_id=external_customer_id,
        customer_id=customer_id,
        status=status,
        coupon_codes=coupon_codes,
    )
    found, meta = paginate(db, query, paging)
    return AppliedCouponsAnswer([_applied_coupon_object(one, credited=True) for one in found], meta)


class AppliedCouponController(Controller):
    path = "/applied_coupons"
    tags = ["coupons"]
    opt = {"resource": "applied_coupon"}

    @post()
    def apply_coupon(self, data: AppliedCouponBody, db: Db, organization: Org, now: Now) -> AppliedCouponAnswer:
        """Give a customer a coupon. It lowers the invoices that are made from now on."""
        applied = apply_coupon(db, organization.id, changes(data.applied_coupon), now)
        return AppliedCouponAnswer(_applied_coupon_object(applied))

    @get()
    def list_applied_coupons(
        self,
        *,
        db: Db,
        organization: Org,
        paging: Paging,
        status: str | None = None,
        external_customer_id: str | None = None,
        coupon_codes: CouponCodes = None,
    ) -> AppliedCouponsAnswer:
        """The coupons that customers have or had, newest first, with what each took of invoices."""
        return _listed(
            db,
            organization,
            paging,
            status=status,
            coupon_codes=coupon_codes,
            external_customer_id=external_customer_id,
        )


class CustomerAppliedCouponController(Controller):
    path = "/customers/{external_id:str}/applied_coupons"
    tags = ["coupons"]
    opt = {"resource": "applied_coupon"}

    @get()
    def list_customer_applied_coupons(
        self,
        *,
        external_id: str,
        db: Db,
        organization: Org,
        paging: Paging,
        status: str | None = None,
        coupon_codes: CouponCodes = None,
    ) -> AppliedCouponsAnswer:
        """The coupons that a customer has or had, newest first, with what each took of invoices."""
        customer = find_customer(db, organization.id, external_id)
        return _listed(db, organization, paging, status=status, coupon_codes=coupon_codes, customer_id=customer.id)

    @delete("/{lago_id:str}")
    def terminate_applied_coupon(
        self, external_id: str, lago_id: str, db: Db, organization: Org, now: Now
    ) -> AppliedCouponAnswer:
        """Take a coupon away from a customer. What it took of invoices stays taken."""
        applied = terminate_applied_coupon(db, organization.id, external_id, as_uuid(lago_id), now)
        return AppliedCouponAnswer(_applied_coupon_object(applied))
