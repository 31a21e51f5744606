"""Subscriptions: made, changed and started (billing spec 1.5, 1.6)."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.lifecycle import (
    bill_start,
    bill_trial_end,
)
from app.billing.locks import lock_customer
from app.billing.payers import timezone_of
from app.billing.rule_top_ups import reschedule_rules
from app.catalog.fixed_charges import check_units, find_fixed_charge
from app.catalog.overrides import asks_for_own_plan, lock_against_changes, override_plan
from app.catalog.plans import PLAN_PARTS, find_plan
from app.catalog.usage_thresholds import check_thresholds, write_thresholds
from app.core.periods import local_date, local_start
from app.customers.activation_rules import check_rules, has_gate, new_rules, note_outcome, replace_rules
from app.customers.billing_entities import find_entity, ids_of
from app.customers.customers import find_or_create_customer
from app.customers.fixed_units import hold_open, set_own_units
from app.customers.gated_starts import refuse_while_waiting, start_when_paid
from app.customers.own_plans import is_on, overridden, own_plan
from app.customers.periods import terms_of
from app.customers.plan_amounts import follow_amounts
from app.customers.plan_changes import change_plan
from app.customers.states import begin, set_ending
from app.errors import Forbidden, NotAllowed, NotFound, Problems, invalid
from app.metering.meter import Meter
from app.models import BillingEntity, Customer, FixedCharge, Organization, Plan, Subscription
from app.models.customer import OPEN
from app.validation import Changes, as_uuid, check_external_id, empty

STATUSES = ("pending", "active", "incomplete", "terminated", "canceled")
BILLING_TIMES = ("calendar", "anniversary")

_PRICED_BY_THE_PLAN = ("properties", "tax_codes", "invoice_display_name")

BARE_SUBSCRIPTION_PARTS = (
    joinedload(Subscription.customer).joinedload(Customer.billing_entity),
    joinedload(Subscription.billing_entity),
    joinedload(Subscription.plan),
    selectinload(Subscription.previous).joinedload(Subscription.plan),
    selectinload(Subscription.successors).joinedload(Subscription.plan),
)
"""What must be loaded with a subscription to show it in a list or on an invoice: without its plan."""
SUBSCRIPTION_PARTS = (
    *BARE_SUBSCRIPTION_PARTS,
    joinedload(Subscription.plan).options(*PLAN_PARTS),
    selectinload(Subscription.usage_thresholds),
)
"""What must be loaded with a subscription to show it with its plan."""


def create_subscription(
    db: Session, organization: Organization, sent: Changes, now: datetime, meter: Meter
) -> Subscription:
    """Put a customer on a plan, or with `plan_overrides` on a copy of it with other prices; the same external id, plan and
    overrides again return the subscription there is.

    A start on today's local date or before is active at once, a later one pending (billing spec 1.5); with
    `activation_rules` one that bills something waits until that is paid (1.10).

    Raises:
        NotFound: `plan_not_found`, `charge_not_found`, `tax_not_found`, `billing_entity_not_found`.
        Invalid: a field breaks a rule.
    """
    _check(sent, creating=True)
    entity = _own_entity(db, organization.id, sent)
    sold, own = find_plan(db, organization.id, sent["plan_code"], share=True), None
    overrides = sent.get("plan_overrides") or {}
    # The metrics of an own plan are locked before the organization is, by whoever locks both.
    if asks_for_own_plan(overrides) and _current(db, organization.id, sent["external_id"]) is None:
        own = overridden(db, sold, overrides, now)
    customer = find_or_create_customer(
        db, organization, sent["external_customer_id"], now, field="external_customer_id"
    )
    if _waits(db, organization.id, sent["external_id"]):
        raise invalid("subscription", "subscription_incomplete")
    known = _current(db, organization.id, sent["external_id"])
    if known is not None:
        if own is not None:  # another request has made it meanwhile
            own.deleted_at = now
        if known.customer_id != customer.id:
            raise invalid("external_id", "value_already_exist")
        if is_on(known, sold, overrides):
            return known
        return _change_plan(db, known, sold, {**sent, "billing_entity": entity}, now, meter)
    plan = own or overridden(db, sold, overrides, now)
    if customer.currency is None:
        customer.currency = plan.amount_currency
    tz = timezone_of(customer)
    subscription_at: datetime = sent.get("subscription_at") or now
    _check_ending(sent.get("ending_at"), subscription_at, now, tz)
    subscription = Subscription(
        organization_id=organization.id,
        customer=customer,
        plan=plan,
        billing_entity=entity,
        external_id=sent["external_id"],
        name=sent.get("name"),
        status="pending",
        billing_time=sent.get("billing_time") or "calendar",
        subscription_at=subscription_at,
        on_termination_invoice="generate",
        consolidate_invoice=sent.get("consolidate_invoice") is not False,
        purchase_order_number=sent.get("purchase_order_number"),
        progressive_billing_disabled=sent.get("progressive_billing_disabled") is True,
        activation_rules=new_rules(sent.get("activation_rules"), now),
        created_at=now,
        updated_at=now,
        previous=None,
        successors=[],
    )
    set_ending(subscription, sent.get("ending_at"), tz)
    if plan.pay_in_advance:
        subscription.on_termination_credit_note = "credit"
    db.add(subscription)
    db.flush()
    _write_own_thresholds(db, subscription, sent, now)
    _write_own_units(db, subscription, sold, overrides.get("fixed_charges") or (), now)
    today = local_date(now, tz)
    start_day = local_date(subscription_at, tz)
    if start_day == today:
        activate(db, subscription, subscription_at, now, meter)
    elif start_day < today:
        started_at = max(subscription_at, _last_end(db, organization.id, subscription.external_id) or subscription_at)
        begin(db, subscription, started_at, now)
        note_outcome(subscription, "not_applicable", now)
    else:
        subscription.activation_due_at = local_start(start_day, tz)
    db.flush()
    return subscription


def activate(db: Session, subscription: Subscription, started_at: datetime, now: datetime, meter: Meter) -> None:
    """Start a subscription and bill what a start bills, or wait until that is paid."""
    if has_gate(subscription):
        start_when_paid(db, subscription, started_at, now, meter)
        return
    begin(db, subscription, started_at, now)
    db.flush()
    bill_start(db, subscription, started_at, now, meter)


def end_trial(db: Session, subscription: Subscription, ended_at: datetime, now: datetime, meter: Meter) -> None:
    """A free trial is over: a plan paid in advance is billed from here on."""
    subscription.trial_ended_at, subscription.trial_due_at = ended_at, None
    subscription.updated_at = now
    db.flush()
    bill_trial_end(db, subscription, ended_at, now, meter)


def update_subscription(db: Session, subscription: Subscription, sent: Changes, now: datetime, meter: Meter) -> None:
    """Change a subscription; `subscription_at` can only be moved before it has started. For `plan_overrides` it must have
    been found by `find_to_override`; a new amount may end the wait of a cheaper plan.

    Raises:
        NotFound: `charge_not_found`, `tax_not_found`, `billing_entity_not_found`.
        Invalid: a field breaks a rule, or the subscription waits for a payment, or the one that is to take its place does.
    """
    refuse_while_waiting(subscription)
    _check(sent, creating=False)
    if sent.get("activation_rules") is not None:
        replace_rules(subscription, sent["activation_rules"], now)
    if "billing_entity_code" in sent:
        subscription.billing_entity = _own_entity(db, subscription.organization_id, sent)
    overrides = sent.get("plan_overrides") or {}
    if asks_for_own_plan(overrides):
        own = own_plan(db, subscription, now)
        subscription.plan = override_plan(db, own, overrides, now, in_use=subscription.status == "active")
    tz = timezone_of(subscription.customer)
    for field in ("name", "purchase_order_number"):
        if field in sent:
            setattr(subscription, field, sent[field])
    for field in ("consolidate_invoice", "progressive_billing_disabled"):
        if isinstance(sent.get(field), bool):
            setattr(subscription, field, sent[field])
    _write_own_thresholds(db, subscription, sent, now)
    if subscription.status == "pending" and sent.get("subscription_at"):
        subscription.subscription_at = sent["subscription_at"]
        subscription.activation_due_at = local_start(local_date(subscription.subscription_at, tz), tz)
    if "ending_at" in sent:
        _check_ending(sent["ending_at"], subscription.subscription_at, now, tz)
        set_ending(subscription, sent["ending_at"], tz)
    subscription.updated_at = now
    if "amount_cents" in overrides:
        db.flush()
        follow_amounts(db, [subscription.plan_id], now, meter)


def _write_own_thresholds(db: Session, subscription: Subscription, sent: Changes, now: datetime) -> None:
    """The thresholds that a subscription has instead of its plan's, where some were sent, and none where none were."""
    if "usage_thresholds" in sent:
        write_thresholds(db, subscription, sent["usage_thresholds"], now)
    db.refresh(subscription, ["usage_thresholds"])


def _write_own_units(
    db: Session, subscription: Subscription, plan: Plan, sent: Sequence[Changes], now: datetime
) -> None:
    """Overrides of the units of a plan's fixed charges, named by id: kept for the subscription, which needs no plan of its
    own for that (billing spec 1.11)."""
    by_id = {charge.id: charge for charge in plan.fixed_charges}
    problems = Problems()
    for one in sent:
        known = as_uuid(one.get("id"))
        charge = by_id.get(known) if known is not None else None
        if charge is None:
            raise NotFound("fixed_charge")
        if one.get("units") is not None:
            check_units(problems, one["units"], charge, plan.amount_currency)
            problems.check()
            set_own_units(db, subscription, charge, one["units"], now, at_once=False)


def override_fixed_charge(
    db: Session, subscription: Subscription, code: str, sent: Changes, now: datetime
) -> FixedCharge:
    """Give a subscription that has not ended units of its own of one of its plan's fixed charges, or with null those of the
    plan again; returns the fixed charge.

    Raises:
        NotFound: `subscription_not_found` when it has ended, `fixed_charge_not_found`.
        Invalid: the units break a rule.
        Forbidden: `feature_unavailable`, for anything else than units.
    """
    hold_open(db, subscription)
    if subscription.status not in {"pending", "active"}:
        raise NotFound("subscription")
    charge = find_fixed_charge(db, subscription.plan, code)
    if any(sent.get(field) is not None for field in _PRICED_BY_THE_PLAN):
        raise Forbidden("feature_unavailable")
    if "units" in sent:
        if sent["units"] is not None:
            problems = Problems()
            check_units(problems, sent["units"], charge, subscription.plan.amount_currency)
            problems.check()
        at_once = sent.get("apply_units_immediately") is True
        set_own_units(db, subscription, charge, sent["units"], now, at_once=at_once)
    return charge


def reschedule(
    db: Session,
    organization_id: UUID,
    now: datetime,
    *,
    customer: Customer | None = None,
    entity: BillingEntity | None = None,
) -> None:
    """The timezone of a customer, or of a billing entity, has changed: set anew when its periods can be closed, and
    when its wallets are topped up. A period that is over by the new timezone already is closed now."""
    theirs = select(Customer.id).where(Customer.organization_id == organization_id)
    if customer is not None:
        theirs = theirs.where(Customer.id == customer.id)
    if entity is not None:
        theirs = theirs.where(Customer.billing_entity_id == entity.id, Customer.timezone.is_(None))
    query = select(Subscription).where(
        Subscription.organization_id == organization_id,
        Subscription.next_billing_at.is_not(None),
        Subscription.customer_id.in_(theirs),
    )
    for subscription in db.scalars(query.options(*BARE_SUBSCRIPTION_PARTS)):
        if subscription.next_billing_at is not None and subscription.next_billing_at > now:
            moved = terms_of(subscription).moved(subscription.next_billing_at)
            subscription.next_billing_at = max(moved, now)
    reschedule_rules(db, organization_id, theirs, now)


def find_subscription(
    db: Session, organization_id: UUID, external_id: str, status: str | None, *, lock: bool = False
) -> Subscription:
    """The subscription with an external id and status (active by default); of several the newest. Whatever bills locks the
    customer first, and so does this.

    Raises:
        NotFound: `subscription_not_found`.
    """
    query = subscriptions(organization_id).where(
        Subscription.external_id == external_id, Subscription.status == (status or "active")
    )
    if lock:
        customer_id = db.scalar(query.with_only_columns(Subscription.customer_id).limit(1))
        if customer_id is None:
            raise NotFound("subscription")
        lock_customer(db, customer_id)
        query = query.with_for_update(of=Subscription, key_share=True).execution_options(populate_existing=True)
    found = db.scalars(query.options(*SUBSCRIPTION_PARTS).limit(1)).first()
    if found is None:
        raise NotFound("subscription")
    return found


def find_to_override(db: Session, organization_id: UUID, external_id: str, status: str | None) -> Subscription:
    """`find_subscription` for a change of its own prices: it is locked, and the plan it is sold by is kept as it is. Plans
    are locked before subscriptions.

    Raises:
        NotFound: `subscription_not_found`.
        NotAllowed: `no_active_subscription`, for one that is over.
    """
    while True:
        plan = find_subscription(db, organization_id, external_id, status).plan
        lock_against_changes(db, plan.parent_id or plan.id)
        found = find_subscription(db, organization_id, external_id, status, lock=True)
        if (found.plan.parent_id or found.plan_id) == (plan.parent_id or plan.id):
            break
    if found.status not in OPEN or found.status == "incomplete":
        raise NotAllowed("no_active_subscription")
    return found


def subscriptions(
    organization_id: UUID,
    *,
    statuses: Collection[str] | None = None,
    external_customer_id: str | None = None,
    external_id: str | None = None,
    plan_code: str | None = None,
    currency: str | None = None,
    overridden: bool | None = None,
    billing_entity_codes: Collection[str] | None = None,
) -> Select[Subscription]:
    """An organization's subscriptions, latest `subscription_at` first (billing spec 11.3, 11.6)."""
    query = (
        select(Subscription)
        .where(Subscription.organization_id == organization_id)
        .order_by(Subscription.subscription_at.desc().nulls_last(), Subscription.created_at.desc(), Subscription.id)
    )
    if statuses is not None:
        query = query.where(Subscription.status.in_(statuses))
    if external_id is not None:
        query = query.where(Subscription.external_id == external_id)
    if external_customer_id is not None:
        query = query.where(
            Subscription.customer_id.in_(
                select(Customer.id).where(
                    Customer.organization_id == organization_id, Customer.external_id == external_customer_id
                )
            )
        )
    if billing_entity_codes is not None:
        of_customer = select(Customer.billing_entity_id).where(Customer.id == Subscription.customer_id)
        issuer = func.coalesce(Subscription.billing_entity_id, of_customer.scalar_subquery())
        query = query.where(issuer.in_(ids_of(organization_id, billing_entity_codes)))
    if plan_code is not None or currency is not None or overridden is not None:
        plans = select(Plan.id).where(Plan.organization_id == organization_id)
        if overridden is not None:
            plans = plans.where(Plan.parent_id.is_not(None) if overridden else Plan.parent_id.is_(None))
        plans = plans.where(Plan.code == plan_code) if plan_code is not None else plans
        plans = plans.where(Plan.amount_currency == currency) if currency is not None else plans
        query = query.where(Subscription.plan_id.in_(plans))
    return query


def _change_plan(
    db: Session, known: Subscription, sold: Plan, sent: Changes, now: datetime, meter: Meter
) -> Subscription:
    """Put a subscription on another plan, or on a copy of one. The charges of a copy get their prices last: that locks
    metrics, and a change of plan measures the last usage on the old one."""
    overrides = dict(sent.get("plan_overrides") or {})
    charges = overrides.pop("charges", None) if asks_for_own_plan(overrides) else None
    plan = overridden(db, sold, {**overrides, "charges": None} if charges else overrides, now)
    changed = change_plan(db, known, plan, sent, now, meter)
    if charges:
        override_plan(db, plan, {"charges": charges}, now, in_use=False)
    return changed


def _own_entity(db: Session, organization_id: UUID, sent: Changes) -> BillingEntity | None:
    code = sent.get("billing_entity_code")
    return None if code is None else find_entity(db, organization_id, code)


def _current(db: Session, organization_id: UUID, external_id: str) -> Subscription | None:
    """The open subscription with an external id: an active one, or one that is to start by itself."""
    return db.scalars(
        select(Subscription)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_id,
            Subscription.status.in_(("active", "pending")),
            or_(Subscription.status == "active", Subscription.previous_subscription_id.is_(None)),
        )
        .order_by(case((Subscription.status == "active", 0), else_=1))
        .options(*SUBSCRIPTION_PARTS)
        .limit(1)
    ).first()


def _waits(db: Session, organization_id: UUID, external_id: str) -> bool:
    """Whether a subscription with an external id waits for a payment."""
    waiting = select(Subscription.id).where(
        Subscription.organization_id == organization_id,
        Subscription.external_id == external_id,
        Subscription.status == "incomplete",
    )
    return db.scalar(waiting.limit(1)) is not None


def _last_end(db: Session, organization_id: UUID, external_id: str) -> datetime | None:
    """When the latest earlier subscription with this external id that was invoiced at its end did end."""
    return db.scalar(
        select(func.max(Subscription.terminated_at)).where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_id,
            Subscription.status == "terminated",
            Subscription.on_termination_invoice == "generate",
        )
    )


def _check(sent: Changes, *, creating: bool) -> None:
    problems = Problems()
    if creating:
        for field in ("external_customer_id", "external_id", "plan_code"):
            if empty(sent.get(field)):
                problems.add(field, "value_is_mandatory")
    if not empty(sent.get("billing_time")) and sent["billing_time"] not in BILLING_TIMES:
        problems.add("billing_time", "value_is_invalid")
    if sent.get("usage_thresholds") and (sent.get("plan_overrides") or {}).get("usage_thresholds"):
        problems.add("usage_thresholds", "incompatible_params")
    check_thresholds(problems, sent.get("usage_thresholds"))
    check_rules(problems, sent)
    check_external_id(problems, sent, "external_id")
    problems.check()


def _check_ending(ending_at: datetime | None, subscription_at: datetime, now: datetime, tz: ZoneInfo) -> None:
    """An end lies on a later local date than today, and after the start (billing spec 1.5)."""
    if ending_at is not None and (
        local_date(ending_at, tz) <= local_date(now, tz) or ending_at <= subscription_at.astimezone(UTC)
    ):
        raise invalid("ending_at", "invalid_date")
