"""`/api/v1/plans` with the charges on them (billing spec 1.1, 1.11; metering spec 3.1)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, post, put
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Cents, Opt, PageMeta, Str, changes, exact_json, fill, instant, paginate
from app.catalog.plans import create_plan, delete_plan, find_plan, live_plans, update_plan
from app.customers.subscriptions import end_all
from app.models import Charge, ChargeFilter, Plan


class ChargeFilterInput(Struct):
    invoice_display_name: Str | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    values: dict[Str, list[Str]] | Opt | None = UNSET


class AppliedPricingUnitInput(Struct):
    code: Str | Opt | None = UNSET
    conversion_rate: Str | float | Opt | None = UNSET


class ChargeInput(Struct):
    id: Str | Opt | None = UNSET
    billable_metric_id: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    charge_model: Str | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    pay_in_advance: bool | Opt | None = UNSET
    prorated: bool | Opt | None = UNSET
    invoiceable: bool | Opt | None = UNSET
    regroup_paid_fees: Str | Opt | None = UNSET
    min_amount_cents: Cents | Opt | None = UNSET
    filters: list[ChargeFilterInput] | Opt | None = UNSET
    applied_pricing_unit: AppliedPricingUnitInput | Opt | None = UNSET
    accepts_target_wallet: bool | Opt | None = UNSET


class MinimumCommitmentInput(Struct):
    amount_cents: Cents | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET


class FixedChargeInput(Struct):
    id: Str | Opt | None = UNSET
    add_on_id: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    units: Str | float | Opt | None = UNSET
    charge_model: Str | Opt | None = UNSET
    pay_in_advance: bool | Opt | None = UNSET
    prorated: bool | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    apply_units_immediately: bool | Opt | None = UNSET


class UsageThresholdInput(Struct):
    threshold_display_name: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    recurring: bool | Opt | None = UNSET


class PlanInput(Struct):
    name: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    interval: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    trial_period: float | Opt | None = UNSET
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


class ChargeFilterObject(Struct, kw_only=True):
    lago_id: UUID
    charge_code: str
    invoice_display_name: str | None
    properties: msgspec.Raw
    values: dict[str, list[str]]


class ChargeObject(Struct, kw_only=True):
    lago_id: UUID
    lago_billable_metric_id: UUID
    code: str
    billable_metric_code: str
    invoice_display_name: str | None
    created_at: str
    charge_model: str
    properties: msgspec.Raw
    taxes: list[TaxObject]
    pay_in_advance: bool = False
    invoiceable: bool = True
    regroup_paid_fees: str | None = None
    prorated: bool = False
    min_amount_cents: int = 0
    filters: list[ChargeFilterObject]
    applied_pricing_unit: None = None
    accepts_target_wallet: bool = False
    lago_parent_id: UUID | None = None


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
    trial_period: int = 0
    pay_in_advance: bool
    bill_charges_monthly: bool | None = None
    bill_fixed_charges_monthly: bool | None = None
    minimum_commitment: None = None
    charges: list[ChargeObject]
    fixed_charges: list[Any] = []
    taxes: list[TaxObject]
    usage_thresholds: list[Any] = []
    entitlements: list[Any] = []
    metadata: dict[str, str | None]
    customers_count: int = 0
    active_subscriptions_count: int = 0
    draft_invoices_count: int = 0


class PlanAnswer(Struct):
    plan: PlanObject


class PlansAnswer(Struct):
    plans: list[PlanObject]
    meta: PageMeta


def charge_object(charge: Charge) -> ChargeObject:
    """A charge as it is on the wire; its metric and taxes must be loaded."""
    return fill(
        ChargeObject,
        charge,
        lago_id=charge.id,
        lago_billable_metric_id=charge.billable_metric_id,
        billable_metric_code=charge.billable_metric.code,
        created_at=instant(charge.created_at),
        properties=exact_json(both_spellings(charge.properties)),
        filters=[charge_filter_object(one, charge.code) for one in charge.filters],
        taxes=[tax_object(tax) for tax in charge.taxes],
    )


def charge_filter_object(one: ChargeFilter, charge_code: str) -> ChargeFilterObject:
    """A charge filter as it is on the wire."""
    return fill(
        ChargeFilterObject,
        one,
        lago_id=one.id,
        charge_code=charge_code,
        properties=exact_json(both_spellings(one.properties)),
    )


def both_spellings(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties with their grouping keys under the old name too (metering spec 3.1)."""
    keys = properties.get("pricing_group_keys")
    return {**properties, "grouped_by": keys} if keys else dict(properties)


def plan_object(plan: Plan) -> PlanObject:
    """A plan as it is on the wire; what `PLAN_PARTS` names must be loaded."""
    return fill(
        PlanObject,
        plan,
        lago_id=plan.id,
        created_at=instant(plan.created_at),
        charges=[charge_object(charge) for charge in plan.charges],
        taxes=[tax_object(tax) for tax in plan.taxes],
        metadata=plan.plan_metadata,
    )


class PlanController(Controller):
    path = "/plans"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def create_plan(self, data: PlanBody, db: Db, organization: Org, now: Now) -> PlanAnswer:
        """Make a plan with its charges."""
        return PlanAnswer(plan_object(create_plan(db, organization.id, changes(data.plan), now)))

    @get()
    def list_plans(self, db: Db, organization: Org, paging: Paging) -> PlansAnswer:
        """All plans, newest first."""
        plans, meta = paginate(db, live_plans(organization.id), paging)
        return PlansAnswer([plan_object(plan) for plan in plans], meta)

    @get("/{code:path}")
    def get_plan(self, code: str, db: Db, organization: Org) -> PlanAnswer:
        """One plan."""
        return PlanAnswer(plan_object(find_plan(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_plan(self, code: str, data: PlanBody, db: Db, organization: Org, now: datetime) -> PlanAnswer:
        """Change a plan. Charges are changed by `id`; those that are absent from a sent list are removed."""
        plan = find_plan(db, organization.id, code[1:], lock=True)
        return PlanAnswer(plan_object(update_plan(db, plan, changes(data.plan), now)))

    @delete("/{code:path}")
    def remove_plan(self, code: str, db: Db, service: Running, organization: Org, now: Now) -> PlanAnswer:
        """Delete a plan; its subscriptions end and are billed for the last time."""
        plan = find_plan(db, organization.id, code[1:], lock=True)
        service.wait_until_readable(organization.id)
        end_all(db, organization.id, now, service.billing_meter, plan=plan)
        delete_plan(plan, now)
        return PlanAnswer(plan_object(plan))
