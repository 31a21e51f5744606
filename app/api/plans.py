"""`/api/v1/plans` with the charges and fixed charges on them (billing spec 1.1, 1.11; metering spec 3.1)."""

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.charges import ChargeInput, ChargeObject, charge_object
from app.api.entitlements import EntitlementObject, entitlement_object
from app.api.fixed_charges import FixedChargeInput, FixedChargeObject, fixed_charge_object
from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Cents, Opt, PageMeta, Str, changes, fill, instant, number, paginate
from app.catalog.entitlements import entitlements_of, entitlements_of_plan
from app.catalog.plans import create_plan, delete_plan, find_plan, live_plans, update_plan
from app.customers.plan_amounts import following_amounts
from app.models import Plan, PlanEntitlement, UsageThreshold


class MinimumCommitmentInput(Struct):
    amount_cents: Cents | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET


class UsageThresholdInput(Struct):
    threshold_display_name: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    recurring: bool | Opt | None = UNSET


class UsageThresholdObject(Struct):
    lago_id: UUID
    threshold_display_name: str | None
    amount_cents: int
    recurring: bool
    created_at: str
    updated_at: str


class ApplicableThresholdObject(Struct):
    threshold_display_name: str | None
    amount_cents: int
    recurring: bool


class PlanInput(Struct):
    name: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    interval: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    trial_period: Decimal | Opt | None = UNSET
    pay_in_advance: bool | Opt | None = UNSET
    bill_charges_monthly: bool | Opt | None = UNSET
    bill_fixed_charges_monthly: bool | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    minimum_commitment: MinimumCommitmentInput | Opt | None = UNSET
    charges: list[ChargeInput] | Opt | None = UNSET
    fixed_charges: list[FixedChargeInput] | Opt | None = UNSET
    usage_thresholds: list[UsageThresholdInput] | Opt | None = UNSET
    metadata: dict[Str, Str | None] | Opt | None = UNSET
    cascade_updates: bool | Opt | None = UNSET


class PlanBody(Struct):
    plan: PlanInput


class MinimumCommitmentObject(Struct):
    lago_id: UUID
    plan_code: str
    amount_cents: int
    invoice_display_name: str | None
    interval: str
    created_at: str
    updated_at: str
    taxes: list[TaxObject]


class IncludedObject(EntitlementObject):
    """An entitlement within a plan: as it is, and once more below `entitlement`. Clients read the one, the description of
    the contract has the other."""

    entitlement: EntitlementObject


class PlanObject(Struct, kw_only=True):
    lago_id: UUID
    name: str
    invoice_display_name: str | None
    created_at: str
    code: str
    interval: str
    description: str | None
    amount_cents: int
    amount_currency: str
    trial_period: msgspec.Raw
    pay_in_advance: bool
    bill_charges_monthly: bool | None = None
    bill_fixed_charges_monthly: bool | None = None
    minimum_commitment: MinimumCommitmentObject | None
    charges: list[ChargeObject]
    fixed_charges: list[FixedChargeObject]
    taxes: list[TaxObject]
    usage_thresholds: list[UsageThresholdObject]
    entitlements: list[IncludedObject]
    metadata: dict[str, str | None]
    customers_count: int = 0
    active_subscriptions_count: int = 0
    draft_invoices_count: int = 0


class PlanAnswer(Struct):
    plan: PlanObject


class PlansAnswer(Struct):
    plans: list[PlanObject]
    meta: PageMeta


def plan_object(plan: Plan, entitlements: Iterable[PlanEntitlement]) -> PlanObject:
    """A plan with its entitlements as it is on the wire; what `PLAN_PARTS` names must be loaded."""
    return fill(
        PlanObject,
        plan,
        lago_id=plan.id,
        created_at=instant(plan.created_at),
        trial_period=number(plan.trial_period or Decimal(0)),
        minimum_commitment=_commitment_object(plan),
        charges=[charge_object(charge) for charge in plan.charges],
        fixed_charges=[fixed_charge_object(charge) for charge in plan.fixed_charges],
        taxes=[tax_object(tax) for tax in plan.taxes],
        usage_thresholds=[threshold_object(one) for one in plan.applicable_usage_thresholds],
        entitlements=[_included(one) for one in entitlements],
        metadata=plan.plan_metadata,
    )


def threshold_object(one: UsageThreshold) -> UsageThresholdObject:
    """A usage threshold as it is on the wire."""
    return fill(
        UsageThresholdObject,
        one,
        lago_id=one.id,
        created_at=instant(one.created_at),
        updated_at=instant(one.updated_at),
    )


def applicable_object(one: UsageThreshold) -> ApplicableThresholdObject:
    """A usage threshold that holds, wherever it was set."""
    return ApplicableThresholdObject(one.threshold_display_name, one.amount_cents, one.recurring)


def _commitment_object(plan: Plan) -> MinimumCommitmentObject | None:
    commitment = plan.minimum_commitment
    if commitment is None:
        return None
    return fill(
        MinimumCommitmentObject,
        commitment,
        lago_id=commitment.id,
        plan_code=plan.code,
        interval=plan.interval,
        created_at=instant(commitment.created_at),
        updated_at=instant(commitment.updated_at),
        taxes=[tax_object(tax) for tax in commitment.taxes],
    )


def _included(one: PlanEntitlement) -> IncludedObject:
    shown = entitlement_object(one)
    return IncludedObject(shown.code, shown.name, shown.description, shown.privileges, shown)


def _answer(db: Session, plan: Plan) -> PlanAnswer:
    return PlanAnswer(plan_object(plan, entitlements_of_plan(db, plan)))


class PlanController(Controller):
    path = "/plans"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def create_plan(self, data: PlanBody, db: Db, organization: Org, now: Now) -> PlanAnswer:
        """Make a plan with its charges."""
        return _answer(db, create_plan(db, organization.id, changes(data.plan), now))

    @get()
    def list_plans(self, db: Db, organization: Org, paging: Paging) -> PlansAnswer:
        """All plans, newest first."""
        plans, meta = paginate(db, live_plans(organization.id), paging)
        included = entitlements_of(db, plans)
        return PlansAnswer([plan_object(plan, included[plan.id]) for plan in plans], meta)

    @get("/{code:str}")
    def get_plan(self, code: str, db: Db, organization: Org) -> PlanAnswer:
        """One plan."""
        return _answer(db, find_plan(db, organization.id, named(code)))

    @put("/{code:str}")
    def update_plan(
        self, code: str, data: PlanBody, db: Db, service: Running, organization: Org, now: Now
    ) -> PlanAnswer:
        """Change a plan. Charges and fixed charges are changed by `id`; those that are absent from a sent list are
        removed. With `cascade_updates`, subscriptions with prices of their own follow where they still have the plan's. A
        cheaper plan that waits to follow, and is cheaper no more by a new amount, follows at once."""
        plan = find_plan(db, organization.id, named(code), lock=True)
        with following_amounts(db, plan, now, service.billing_meter):
            plan = update_plan(db, plan, changes(data.plan), now)
        return _answer(db, plan)

    @delete("/{code:str}")
    def remove_plan(self, code: str, db: Db, organization: Org, now: Now) -> PlanAnswer:
        """Delete a plan: it can be sold no more. Its subscriptions end as of now and are billed for the last time; that is
        done in the background, in a sandbox when its clock is set next."""
        plan = find_plan(db, organization.id, named(code), lock=True)
        delete_plan(db, plan, now)
        return _answer(db, plan)
