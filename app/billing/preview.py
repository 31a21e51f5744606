"""Previews: the invoice that something would lead to, made as always in a transaction that is undone (billing spec 3.8).

Everything that bills is called as it is when it bills, so that a previewed amount is the one that is invoiced then. The
customer is locked meanwhile, as by everything that bills it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.billed import BilledLine
from app.billing.book import load_plans
from app.billing.close import bill_lines, billed_subscription, close_subscriptions
from app.billing.issued import WHOLE_PARTS
from app.billing.locks import lock_customer
from app.billing.payers import issuing_rules, payers_of, timezone_of
from app.catalog.coupons import create_coupon
from app.catalog.plans import find_plan
from app.core.boundaries import periodic, starting
from app.core.issuing_dates import issuing_dates
from app.core.periods import local_date, local_start
from app.core.values import replace
from app.customers.applied_coupons import apply_coupon
from app.customers.billing_entities import find_entity
from app.customers.customers import CUSTOMER_PARTS, find_customer, upsert_customer
from app.customers.own_plans import is_on
from app.customers.plan_changes import change_plan
from app.customers.states import begin
from app.customers.subscriptions import BILLING_TIMES, SUBSCRIPTION_PARTS
from app.customers.terminations import end_subscriptions
from app.errors import NotFound, Problems, invalid
from app.metering.meter import Meter
from app.models import (
    AppliedCoupon,
    BillingEntity,
    BillingPeriod,
    Coupon,
    Customer,
    Invoice,
    Organization,
    Plan,
    Subscription,
)
from app.stores.postgres import Postgres
from app.validation import Changes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be previewed.

    `customer`: its `external_id`, or what a new one would be. Without `external_ids` the preview is of the first invoice of
    a new subscription to the plan; with them of the next invoice of these subscriptions, or of one of them for its end
    at `terminated_at`, or for a change to the plan `new_plan_code`. `billing_entity_code`: who issues the invoice of a new
    subscription, if not the customer's own entity. `coupons`: by `code` those that there are, others by what they would be;
    they count where the customer has none.
    """

    customer: Changes
    plan_code: str | None = None
    billing_time: str | None = None
    subscription_at: datetime | None = None
    external_ids: Sequence[str] = ()
    new_plan_code: str | None = None
    terminated_at: datetime | None = None
    billing_entity_code: str | None = None
    coupons: Sequence[Changes] = ()


def preview(
    postgres: Postgres,
    organization_id: UUID,
    asked: Asked,
    now: datetime,
    meter: Meter,
    read: Callable[[Invoice], T],
) -> T:
    """What `read` makes of the invoice that would be made. Nothing is stored.

    Raises:
        NotFound: `customer_not_found`, `plan_not_found`, `subscription_not_found`, `billing_entity_not_found`.
        Invalid: a new customer or coupon breaks a rule; a new customer has subscriptions; several subscriptions do not go
            together; an end is not in the future; an amount is too large.
    """
    with postgres.undone() as db:
        organization = db.get_one(Organization, organization_id)
        plan = _plan(db, organization_id, asked)
        code = asked.billing_entity_code
        issuer = find_entity(db, organization_id, code) if code else None
        customer, is_new = _customer(db, organization, asked.customer, now)
        lock_customer(db, customer.id)
        _give_coupons(db, customer, asked.coupons, now)
        # What lowers an invoice is taken when it is final: the grace period decides no more than the dates.
        grace_period, customer.invoice_grace_period = customer.invoice_grace_period, 0
        db.flush()
        if not asked.external_ids:
            ids = _proposal(db, customer, plan, issuer, asked, now, meter)
        else:
            if is_new:
                raise invalid("customer", "must_be_persisted")
            ids = _of_subscriptions(db, customer, plan, asked, now, meter)
        return read(_load(db, ids[0], grace_period))


def _plan(db: Session, organization_id: UUID, asked: Asked) -> Plan | None:
    """The plan that is asked for; a new subscription needs one. Plans are locked before customers are."""
    code = asked.new_plan_code if asked.external_ids else asked.plan_code
    if code or not asked.external_ids:
        return find_plan(db, organization_id, code or "", share=True)
    return None


def _customer(db: Session, organization: Organization, sent: Changes, now: datetime) -> tuple[Customer, bool]:
    external_id = sent.get("external_id")
    if external_id:
        find_customer(db, organization.id, external_id)
    else:
        external_id = f"preview-{uuid4()}"
        upsert_customer(db, organization, {**sent, "external_id": external_id}, now)
    query = select(Customer).where(Customer.organization_id == organization.id, Customer.external_id == external_id)
    found = db.scalars(query.where(Customer.deleted_at.is_(None)).options(*CUSTOMER_PARTS)).one()
    return found, not sent.get("external_id")


def _proposal(
    db: Session,
    customer: Customer,
    plan: Plan | None,
    issuer: BillingEntity | None,
    asked: Asked,
    now: datetime,
    meter: Meter,
) -> Sequence[UUID]:
    """The first invoice of a subscription that there is not: in advance at its start, else when its first period is over.
    Nobody knows yet what it will use."""
    if plan is None:
        raise NotFound("plan")
    if asked.billing_time is not None and asked.billing_time not in BILLING_TIMES:
        raise invalid("billing_time", "value_is_invalid")
    starts_at = asked.subscription_at or now
    if customer.currency is None:
        customer.currency = plan.amount_currency
    subscription = Subscription(
        organization_id=customer.organization_id,
        customer=customer,
        billing_entity=issuer,
        plan=plan,
        external_id=str(uuid4()),
        status="pending",
        billing_time=asked.billing_time or "calendar",
        subscription_at=starts_at,
        on_termination_invoice="generate",
        consolidate_invoice=True,
        created_at=now,
        updated_at=now,
        previous=None,
        successors=[],
    )
    db.add(subscription)
    db.flush()
    begin(db, subscription, starts_at, now)
    db.flush()
    (terms,) = load_plans(db, [plan.id]).values()
    billed = billed_subscription(subscription, {plan.id: replace(terms, charges=())})
    line = BilledLine(billed, "subscription_starting", starts_at, starting(billed.terms, starts_at))
    if not plan.pay_in_advance:
        of = billed.terms
        boundary = local_start(of.after(of.period_at(starts_at)).start, of.tz)
        line = BilledLine(billed, "subscription_periodic", boundary, periodic(of, boundary))
    return bill_lines(db, [line], payers_of([subscription]), line.billed_at, meter)


def _of_subscriptions(
    db: Session, customer: Customer, plan: Plan | None, asked: Asked, now: datetime, meter: Meter
) -> Sequence[UUID]:
    found = _subscriptions(db, customer, asked.external_ids)
    one = found[0]
    ends_at = asked.terminated_at or _ends_within(found, now)
    if ends_at is not None:
        if len(found) > 1:
            raise invalid("subscriptions", "only_one_subscription_allowed_for_termination")
        if ends_at < now:
            raise invalid("terminated_at", "invalid_date")
        return _termination(db, one, ends_at, meter)
    if plan is not None:
        if len(found) > 1:
            raise invalid("subscriptions", "only_one_subscription_allowed_for_plan_change")
        return _plan_change(db, one, plan, now, meter)
    return _projection(db, found, meter)


def _subscriptions(db: Session, customer: Customer, external_ids: Sequence[str]) -> list[Subscription]:
    wanted = {one for one in external_ids if "\x00" not in one}
    query = (
        select(Subscription)
        .where(
            Subscription.organization_id == customer.organization_id,
            Subscription.customer_id == customer.id,
            Subscription.external_id.in_(wanted),
            Subscription.status == "active",
        )
        .order_by(Subscription.created_at, Subscription.id)
        .options(*SUBSCRIPTION_PARTS)
        .with_for_update(of=Subscription, key_share=True)
    )
    found = list(db.scalars(query))
    if {one.external_id for one in found} != set(external_ids):
        raise NotFound("subscription")
    return found


def _ends_within(subscriptions: Sequence[Subscription], now: datetime) -> datetime | None:
    """When a subscription ends by itself before it is billed next."""
    if len(subscriptions) > 1:
        return None
    ends_at, billed_at = subscriptions[0].termination_due_at, subscriptions[0].next_billing_at
    return ends_at if ends_at is not None and billed_at is not None and now <= ends_at <= billed_at else None


def _termination(db: Session, subscription: Subscription, ends_at: datetime, meter: Meter) -> Sequence[UUID]:
    subscription.on_termination_invoice = "generate"
    end_subscriptions(db, [subscription], ends_at, ends_at, meter)
    return _last_invoices(db, subscription, "subscription_terminating")


def _plan_change(db: Session, current: Subscription, plan: Plan, now: datetime, meter: Meter) -> Sequence[UUID]:
    """A dearer plan is billed at once, a cheaper one when the current period is over."""
    if is_on(current, plan, {}):
        raise invalid("base", "new_plan_should_be_different_from_existing_plan")
    changed = change_plan(db, current, plan, {}, now, meter)
    if changed.id != current.id:
        return _last_invoices(db, current, "subscription_terminating")
    ids: Sequence[UUID] = ()
    while current.status == "active" and current.next_billing_at is not None:
        ids = close_subscriptions(db, [current], current.next_billing_at, meter)
    return ids


def _projection(db: Session, subscriptions: Sequence[Subscription], meter: Meter) -> Sequence[UUID]:
    """The next invoice of subscriptions, with what they have used so far; all of them on one."""
    first = subscriptions[0]
    problems = Problems()
    if any(one.plan.amount_currency != first.plan.amount_currency for one in subscriptions):
        problems.add("base", "subscription_currencies_does_not_match")
    if any(one.next_billing_at != first.next_billing_at for one in subscriptions):
        problems.add("base", "billing_periods_does_not_match")
    if any(one.issuer.id != first.issuer.id for one in subscriptions):
        problems.add("base", "subscription_billing_entities_do_not_match")
    problems.check()
    for one in subscriptions:
        one.consolidate_invoice, one.purchase_order_number = True, first.purchase_order_number
    if first.next_billing_at is None:
        raise NotFound("subscription")
    return close_subscriptions(db, subscriptions, first.next_billing_at, meter)


def _last_invoices(db: Session, subscription: Subscription, reason: str) -> Sequence[UUID]:
    """The newest invoice with a line of a subscription for a reason."""
    query = select(BillingPeriod.invoice_id).where(
        BillingPeriod.subscription_id == subscription.id, BillingPeriod.invoicing_reason == reason
    )
    return list(db.scalars(query.order_by(BillingPeriod.billed_at.desc()).limit(1)))


def _give_coupons(db: Session, customer: Customer, coupons: Sequence[Changes], now: datetime) -> None:
    """Let a customer who has no coupon have these."""
    own = select(AppliedCoupon.id).where(
        AppliedCoupon.customer_id == customer.id, AppliedCoupon.terminated_at.is_(None)
    )
    if db.scalar(own.limit(1)) is not None:
        return
    for sent in coupons:
        known = select(Coupon.id).where(
            Coupon.organization_id == customer.organization_id, Coupon.code == sent["code"], Coupon.deleted_at.is_(None)
        )
        if db.scalar(known) is None:
            unsaid = {"name": sent["code"], "frequency": "once", "expiration": "no_expiration"}
            create_coupon(db, customer.organization_id, {**unsaid, **sent}, now)
            sent = {"code": sent["code"]}  # noqa: PLW2901 (the rest is in the coupon)
        given = {"external_customer_id": customer.external_id, "coupon_code": sent["code"]}
        overrides = {
            name: sent[name] for name in ("amount_cents", "amount_currency", "percentage_rate") if name in sent
        }
        apply_coupon(db, customer.organization_id, {**given, **overrides}, now)


def _load(db: Session, invoice_id: UUID, grace_period: int | None) -> Invoice:
    """The invoice, with the dates that it has as a draft within the customer's grace period (billing spec 3.2)."""
    db.flush()
    db.expunge_all()  # it is read as a stored one, whatever parts of it are known by now
    invoice = db.scalars(select(Invoice).where(Invoice.id == invoice_id).options(*WHOLE_PARTS)).one()
    if invoice.status == "failed":
        raise invalid("base", "invoice_cannot_be_made")
    invoice.customer.invoice_grace_period = grace_period
    dates = issuing_dates(
        local_date(invoice.billing_periods[0].billed_at, timezone_of(invoice.customer)),
        issuing_rules(invoice.customer, invoice.billing_entity),
        has_grace=True,
        is_periodic=any(one.invoicing_reason == "subscription_periodic" for one in invoice.billing_periods),
    )
    invoice.issuing_date, invoice.payment_due_date = dates.issuing, dates.payment_due
    invoice.expected_finalization_date = dates.finalization
    return invoice
