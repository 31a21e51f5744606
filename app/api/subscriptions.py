"""`/api/v1/subscriptions` (billing spec 1)."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct, convert
from sqlalchemy import Select
from sqlalchemy.orm import Session

from app.api.charges import AppliedPricingUnitInput, ChargeFilterInput
from app.api.entitlements import GrantedObject, granted_object
from app.api.fixed_charges import FixedChargeInput
from app.api.given import Db, Now, Org, Paging, Running
from app.api.plans import (
    ApplicableThresholdObject,
    MinimumCommitmentInput,
    PlanObject,
    UsageThresholdInput,
    UsageThresholdObject,
    applicable_object,
    plan_object,
    threshold_object,
)
from app.api.routes import delete, get, post, put
from app.api.wire import (
    Cents,
    Opt,
    PageMeta,
    Str,
    changes,
    instant,
    instant_ms_or_none,
    instant_or_none,
    paginate,
    parse_instant,
)
from app.catalog.entitlements import entitlements_of_plan
from app.customers.customers import find_customer
from app.customers.entitlements import subscription_entitlements
from app.customers.periods import current_period, downgrade_day
from app.customers.subscriptions import (
    BARE_SUBSCRIPTION_PARTS,
    STATUSES,
    create_subscription,
    find_subscription,
    find_to_override,
    subscriptions,
    update_subscription,
)
from app.customers.terminations import terminate
from app.errors import Invalid, Problems, invalid
from app.models import Subscription


class PaymentMethodInput(Struct):
    payment_method_type: Str | Opt | None = UNSET
    payment_method_id: Str | Opt | None = UNSET


class ChargeOverrideInput(Struct):
    """What of a charge, named by `id` or by `code`, is otherwise for one subscription."""

    id: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    billable_metric_id: Str | Opt | None = UNSET
    charge_model: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    min_amount_cents: Cents | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    filters: list[ChargeFilterInput] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    applied_pricing_unit: AppliedPricingUnitInput | Opt | None = UNSET


class PlanOverridesInput(Struct):
    """What of the plan is otherwise for one subscription. Fields of later work are read for their type only."""

    name: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    trial_period: Decimal | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    minimum_commitment: MinimumCommitmentInput | Opt | None = UNSET
    charges: list[ChargeOverrideInput] | Opt | None = UNSET
    fixed_charges: list[FixedChargeInput] | Opt | None = UNSET
    usage_thresholds: list[UsageThresholdInput] | Opt | None = UNSET
    metadata: dict[Str, Str | None] | Opt | None = UNSET


class SubscriptionInput(Struct):
    """Fields of later work are read for their type only."""

    external_customer_id: Str | Opt | None = UNSET
    external_id: Str | Opt | None = UNSET
    plan_code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    billing_time: Str | Opt | None = UNSET
    subscription_at: Str | Opt | None = UNSET
    ending_at: Str | Opt | None = UNSET
    billing_entity_code: Str | Opt | None = UNSET
    consolidate_invoice: bool | Opt | None = UNSET
    purchase_order_number: Str | Opt | None = UNSET
    plan_overrides: PlanOverridesInput | Opt | None = UNSET
    payment_method: PaymentMethodInput | Opt | None = UNSET
    invoice_custom_section: dict[str, Any] | Opt | None = UNSET
    activation_rules: Any = UNSET
    usage_thresholds: list[UsageThresholdInput] | Opt | None = UNSET
    progressive_billing_disabled: bool | Opt | None = UNSET
    on_termination_credit_note: Str | Opt | None = UNSET
    on_termination_invoice: Str | Opt | None = UNSET


class SubscriptionBody(Struct):
    subscription: SubscriptionInput


class SubscriptionUpdateBody(Struct):
    subscription: SubscriptionInput
    status: Str | Opt | None = UNSET


class PaymentMethodObject(Struct):
    payment_method_type: str = "provider"
    payment_method_id: str | None = None


class ActivationRuleInvoice(Struct):
    lago_id: UUID
    total_amount_cents: int
    currency: str


class ActivationRuleObject(Struct):
    """What must happen before a subscription starts; `invoice` is what is to be paid for that."""

    lago_id: UUID
    type: str
    timeout_hours: int
    status: str
    expires_at: str | None
    created_at: str
    updated_at: str
    invoice: ActivationRuleInvoice | None


class SubscriptionObject(Struct, kw_only=True):
    lago_id: UUID
    external_id: str
    lago_customer_id: UUID
    external_customer_id: str
    billing_entity_code: str
    name: str | None
    plan_code: str
    plan_amount_cents: int
    plan_amount_currency: str
    status: str
    billing_time: str
    subscription_at: str
    started_at: str | None
    activated_at: str | None
    trial_ended_at: str | None
    ending_at: str | None
    terminated_at: str | None
    canceled_at: str | None
    created_at: str
    previous_plan_code: str | None
    next_plan_code: str | None
    downgrade_plan_date: str | None
    current_billing_period_started_at: str | None
    current_billing_period_ending_at: str | None
    on_termination_credit_note: str | None
    on_termination_invoice: str
    cancellation_reason: str | None
    consolidate_invoice: bool
    progressive_billing_disabled: bool
    purchase_order_number: str | None
    payment_method: PaymentMethodObject
    activation_rules: list[ActivationRuleObject]
    applied_invoice_custom_sections: list[Any] = []


class SubscriptionObjectExtended(SubscriptionObject, kw_only=True):
    plan: PlanObject
    usage_thresholds: list[UsageThresholdObject]
    applicable_usage_thresholds: list[ApplicableThresholdObject]
    entitlements: list[GrantedObject]


class SubscriptionAnswer(Struct):
    subscription: SubscriptionObjectExtended


class SubscriptionsAnswer(Struct):
    subscriptions: list[SubscriptionObject]
    meta: PageMeta


def subscription_object(subscription: Subscription, now: datetime) -> SubscriptionObject:
    """A subscription as it is on the wire."""
    return SubscriptionObject(**_fields(subscription, now))


def extended_object(db: Session, subscription: Subscription, now: datetime) -> SubscriptionObjectExtended:
    """A subscription with its plan and its entitlements."""
    of_plan = entitlements_of_plan(db, subscription.plan)
    return SubscriptionObjectExtended(
        **_fields(subscription, now),
        plan=plan_object(subscription.plan, of_plan),
        usage_thresholds=[threshold_object(one) for one in subscription.usage_thresholds],
        applicable_usage_thresholds=[applicable_object(one) for one in subscription.applicable_usage_thresholds],
        entitlements=[granted_object(one) for one in subscription_entitlements(db, subscription, of_plan)],
    )


def _fields(subscription: Subscription, now: datetime) -> dict[str, Any]:
    period = current_period(subscription, now)
    following = subscription.successors
    return {
        "lago_id": subscription.id,
        "external_id": subscription.external_id,
        "lago_customer_id": subscription.customer_id,
        "external_customer_id": subscription.customer.external_id,
        "billing_entity_code": subscription.issuer.code,
        "name": subscription.name,
        "plan_code": subscription.plan.code,
        "plan_amount_cents": subscription.plan.amount_cents,
        "plan_amount_currency": subscription.plan.amount_currency,
        "status": subscription.status,
        "billing_time": subscription.billing_time,
        "subscription_at": instant(subscription.subscription_at),
        "started_at": instant_ms_or_none(subscription.starts_at),
        "activated_at": instant_or_none(subscription.activated_at),
        "trial_ended_at": instant_or_none(subscription.trial_ended_at),
        "ending_at": instant_or_none(subscription.ending_at),
        "terminated_at": instant_or_none(subscription.terminated_at),
        "canceled_at": instant_or_none(subscription.canceled_at),
        "created_at": instant(subscription.created_at),
        "previous_plan_code": subscription.previous.plan.code if subscription.previous else None,
        "next_plan_code": following[-1].plan.code if following else None,
        "downgrade_plan_date": downgrade_day(subscription, now),
        "current_billing_period_started_at": instant_or_none(period.charges_from if period else None),
        "current_billing_period_ending_at": instant_or_none(period.charges_to if period else None),
        "on_termination_credit_note": subscription.on_termination_credit_note,
        "on_termination_invoice": subscription.on_termination_invoice,
        "consolidate_invoice": subscription.consolidate_invoice,
        "progressive_billing_disabled": subscription.progressive_billing_disabled,
        "purchase_order_number": subscription.purchase_order_number,
        "payment_method": PaymentMethodObject(),
        "cancellation_reason": subscription.cancellation_reason,
        "activation_rules": [_rule_object(one) for one in subscription.activation_rules],
    }


def _rule_object(rule: dict[str, Any]) -> ActivationRuleObject:
    instants = {name: instant_or_none(_instant(rule[name])) for name in ("created_at", "updated_at", "expires_at")}
    return convert({**rule, **instants}, ActivationRuleObject)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class SubscriptionController(Controller):
    path = "/subscriptions"
    tags = ["subscriptions"]
    opt = {"resource": "subscription"}

    @post()
    def create_subscription(
        self, data: SubscriptionBody, db: Db, service: Running, organization: Org, now: Now
    ) -> SubscriptionAnswer:
        """Put a customer on a plan, with `plan_overrides` at prices of its own. Sent again with the same external id, plan
        and overrides, it answers with the same subscription."""
        sent = _read_instants(changes(data.subscription))
        subscription = create_subscription(db, organization, sent, now, service.billing_meter)
        return SubscriptionAnswer(extended_object(db, subscription, now))

    @get()
    def list_subscriptions(
        self,
        db: Db,
        organization: Org,
        now: Now,
        paging: Paging,
        external_customer_id: str | None = None,
        external_id: str | None = None,
        plan_code: str | None = None,
        currency: str | None = None,
        overridden: bool | None = None,
        statuses: Annotated[list[str] | None, Parameter(query="status[]")] = None,
        status: str | None = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
    ) -> SubscriptionsAnswer:
        """The subscriptions that pass all filters; active ones unless a status is asked for."""
        wanted = statuses or ([status] if status else ["active"])
        check_statuses(wanted)
        query = subscriptions(
            organization.id,
            statuses=wanted,
            external_customer_id=external_customer_id,
            external_id=external_id,
            plan_code=plan_code,
            currency=currency,
            overridden=overridden,
            billing_entity_codes=billing_entity_codes,
        )
        return _page(db, query, paging, now)

    @get("/{external_id:str}")
    def get_subscription(
        self, external_id: str, db: Db, organization: Org, now: Now, status: str | None = None
    ) -> SubscriptionAnswer:
        """One subscription, the active one unless a status is asked for."""
        check_statuses([status] if status else [])
        subscription = find_subscription(db, organization.id, external_id, status)
        return SubscriptionAnswer(extended_object(db, subscription, now))

    @put("/{external_id:str}")
    def update_subscription(
        self,
        external_id: str,
        data: SubscriptionUpdateBody,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        status: str | None = None,
    ) -> SubscriptionAnswer:
        """Change a subscription. `plan_overrides` change its own prices; charges that are not named keep theirs."""
        wanted = status or (data.status if isinstance(data.status, str) else None)
        check_statuses([wanted] if wanted else [])
        sent = _read_instants(changes(data.subscription))
        if sent.get("plan_overrides"):
            subscription = find_to_override(db, organization.id, external_id, wanted)
        else:
            subscription = find_subscription(db, organization.id, external_id, wanted, lock=True)
        update_subscription(db, subscription, sent, now, service.billing_meter)
        return SubscriptionAnswer(extended_object(db, subscription, now))

    @delete("/{external_id:str}")
    def terminate_subscription(
        self,
        external_id: str,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        status: str | None = None,
        on_termination_credit_note: str | None = None,
        on_termination_invoice: str | None = None,
    ) -> SubscriptionAnswer:
        """End a subscription: it is billed up to now, unless `on_termination_invoice` is `skip`."""
        check_statuses([status] if status else [])
        wanted = "pending" if status == "pending" else "active"
        service.wait_until_readable(organization.id)
        ended = terminate(
            db,
            find_subscription(db, organization.id, external_id, wanted, lock=True),
            now,
            service.billing_meter,
            invoice=on_termination_invoice,
            credit_note=on_termination_credit_note,
        )
        return SubscriptionAnswer(extended_object(db, ended, now))


class CustomerSubscriptionController(Controller):
    path = "/customers/{external_id:str}/subscriptions"
    tags = ["subscriptions"]
    opt = {"resource": "subscription"}

    @get()
    def list_customer_subscriptions(
        self,
        external_id: str,
        db: Db,
        organization: Org,
        now: Now,
        paging: Paging,
        plan_code: str | None = None,
        statuses: Annotated[list[str] | None, Parameter(query="status[]")] = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
    ) -> SubscriptionsAnswer:
        """A customer's subscriptions; active ones unless a status is asked for."""
        wanted = statuses or ["active"]
        check_statuses(wanted)
        customer = find_customer(db, organization.id, external_id)
        query = subscriptions(
            organization.id,
            statuses=wanted,
            external_customer_id=customer.external_id,
            plan_code=plan_code,
            billing_entity_codes=billing_entity_codes,
        )
        return _page(db, query, paging, now)


def _page(db: Session, query: Select[Subscription], paging: Paging, now: datetime) -> SubscriptionsAnswer:
    found, meta = paginate(db, query.options(*BARE_SUBSCRIPTION_PARTS), paging)
    return SubscriptionsAnswer([subscription_object(one, now) for one in found], meta)


def _read_instants(sent: dict[str, Any]) -> dict[str, Any]:
    """Dates as instants; every one that cannot be read is told."""
    problems = Problems()
    for field in ("subscription_at", "ending_at"):
        if isinstance(sent.get(field), str):
            try:
                sent[field] = parse_instant(sent[field], field)
            except Invalid:
                problems.add(field, "invalid_date")
    problems.check()
    return sent


def check_statuses(statuses: list[str]) -> None:
    """Refuse statuses that no subscription can have."""
    if any(status not in STATUSES for status in statuses):
        raise invalid("status", "value_is_invalid")
