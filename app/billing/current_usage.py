"""Current usage: what the period that contains now has come to (metering spec 5.1 to 5.3). Nothing is stored."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.billing.billed import BilledSubscription
from app.billing.book import load_customer_taxes
from app.billing.charge_usage import AS_SHOWN, ChargeUsage, Item, Options, charge_usage
from app.billing.close import billed_subscription
from app.billing.paid_levels import paid_levels
from app.billing.remembered import PriceBook
from app.billing.terms import PlanTerms, TaxBook
from app.core.boundaries import Boundaries, current
from app.core.periods import local_date
from app.core.taxes import TaxRate, invoice_taxes
from app.core.values import replace
from app.customers.customers import find_customer
from app.errors import NotAllowed, NotFound
from app.metering.meter import Meter
from app.models import Customer, Organization, Subscription


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """The usage of one subscription in its current period. Amounts in minor units of `currency`."""

    subscription: BilledSubscription
    boundaries: Boundaries
    issuing_date: date
    currency: str
    charges: list[ChargeUsage]
    amount_cents: int
    taxes_amount_cents: int


@dataclass(frozen=True, slots=True)
class Restriction:
    """Which charges are wanted; the first one given counts, none means all (metering spec 5.1)."""

    charge_id: UUID | None = None
    charge_code: str | None = None
    metric_code: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether not all charges are wanted."""
        return not (self.charge_id is None and self.charge_code is None and self.metric_code is None)

    def apply(self, plan: PlanTerms) -> PlanTerms:
        """The plan with only the charges wanted.

        Raises:
            NotFound: `charge_not_found`, when a restriction matches none.
        """
        if self.charge_id is not None:
            charges = [one for one in plan.charges if one.id == self.charge_id]
        elif self.charge_code is not None:
            charges = [one for one in plan.charges if one.code == self.charge_code]
        elif self.metric_code is not None:
            charges = [one for one in plan.charges if one.metric_code == self.metric_code]
        else:
            return replace(plan, charges=tuple(sorted(plan.charges, key=lambda one: one.metric_name.lower())))
        if not charges:
            raise NotFound("charge")
        return replace(plan, charges=tuple(charges))


def current_usage(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    external_customer_id: str,
    external_subscription_id: str,
    restriction: Restriction,
    now: datetime,
    *,
    apply_taxes: bool,
    full_usage: bool = False,
    options: Options = AS_SHOWN,
) -> CurrentUsage:
    """The usage of an active subscription in the period that contains `now`, the whole period and not just up to now.

    Raises:
        NotFound: `customer_not_found`, `charge_not_found`.
        NotAllowed: `no_active_subscription`; `full_usage_not_allowed`, for usage since the subscription's start of all
            charges, or of one that is prorated.
    """
    subscription, has_own_taxes = _active(db, organization, external_customer_id, external_subscription_id)
    usage = untaxed_usage(
        db, meter, book, organization, subscription, restriction, now, full_usage=full_usage, options=options
    )
    if not apply_taxes:
        return usage
    customer = subscription.customer
    of_entity = {customer.id: book.taxes(db, organization, customer.billing_entity_id)}
    general = TaxBook({**of_entity, **(load_customer_taxes(db, [customer.id]) if has_own_taxes else {})})
    of_plan = book.plan(db, organization, subscription.plan_id).taxes
    bases: list[tuple[Decimal, list[TaxRate]]] = []
    for one in usage.charges:
        rates = [tax.tax_rate for tax in general.taxes(one.charge.taxes, of_plan, customer_id=customer.id)]
        if rates:
            bases += [(Decimal(fee.amounts.amount_cents), rates) for fee in one.fees if fee.amounts.amount_cents]
    return replace(usage, taxes_amount_cents=invoice_taxes(bases, usage.amount_cents).amount_cents)


def untaxed_usage(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    subscription: Subscription,
    restriction: Restriction,
    now: datetime,
    *,
    full_usage: bool = False,
    options: Options = AS_SHOWN,
) -> CurrentUsage:
    """The same of a started subscription that is loaded with its customer and organization, without taxes. Raises what
    `current_usage` does for its charges."""
    billed, boundaries = _item(
        db, book, organization, subscription, restriction, now, full_usage=full_usage, options=options
    )
    plan = billed.plan
    (charges,) = charge_usage(meter, [(billed, boundaries)], options, paid_levels(db, [(billed, boundaries)]))
    return CurrentUsage(
        subscription=billed,
        boundaries=boundaries,
        issuing_date=local_date(boundaries.charges_to, billed.tz),
        currency=plan.currency,
        charges=charges,
        amount_cents=sum(fee.amounts.amount_cents for one in charges for fee in one.fees),
        taxes_amount_cents=0,
    )


def current_item(
    db: Session,
    book: PriceBook,
    organization: Organization,
    external_customer_id: str,
    external_subscription_id: str,
    restriction: Restriction,
    now: datetime,
    *,
    full_usage: bool = False,
    options: Options = AS_SHOWN,
) -> Item:
    """What `current_usage` measures: an active subscription with the charges wanted, and boundaries. Raises the same."""
    subscription, _ = _active(db, organization, external_customer_id, external_subscription_id)
    return _item(db, book, organization, subscription, restriction, now, full_usage=full_usage, options=options)


def _active(
    db: Session, organization: Organization, external_customer_id: str, external_subscription_id: str
) -> tuple[Subscription, bool]:
    """A customer's active subscription, and whether the customer has taxes of its own."""
    # Most customers have no taxes of their own, and asking for them is a query.
    found = db.execute(
        select(Subscription, Customer.taxes.any())
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .where(
            Subscription.organization_id == organization.id,
            Subscription.external_id == external_subscription_id,
            Subscription.status == "active",
            Customer.external_id == external_customer_id,
            Customer.deleted_at.is_(None),
        )
        .options(contains_eager(Subscription.customer).contains_eager(Customer.billing_entity))
    ).first()
    if found is None:
        find_customer(db, organization.id, external_customer_id)
        raise NotAllowed("no_active_subscription")
    return found[0], found[1]


def _item(
    db: Session,
    book: PriceBook,
    organization: Organization,
    subscription: Subscription,
    restriction: Restriction,
    now: datetime,
    *,
    full_usage: bool,
    options: Options,
) -> Item:
    plan = restriction.apply(book.plan(db, organization, subscription.plan_id))
    billed = billed_subscription(subscription, {plan.id: plan})
    boundaries = current(billed.terms, now)
    if full_usage:
        if not (restriction.is_given or options.only) or any(one.prorated for one in plan.charges):
            raise NotAllowed("full_usage_not_allowed")
        boundaries = boundaries.with_charges(from_=billed.started_at)
    return billed, boundaries
