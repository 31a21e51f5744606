"""Current usage: what the period that contains now has come to (metering spec 5.1 to 5.3). Nothing is stored."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.billing.book import ChargeTerms, PlanTerms, load_plans, load_taxes
from app.billing.close import Measure, billed_subscription
from app.billing.fees import charge_amounts, charge_windows
from app.core.aggregation import Units
from app.core.boundaries import Boundaries, current
from app.core.charges.fees import FeeAmounts
from app.core.periods import local_date
from app.core.taxes import invoice_taxes
from app.customers.customers import find_customer
from app.errors import NotAllowed, NotFound
from app.metering.usage import NOTHING
from app.models import Customer, Subscription


@dataclass(frozen=True, slots=True)
class ChargeUsage:
    """One charge's usage so far and what it would cost."""

    charge: ChargeTerms
    amounts: FeeAmounts
    events_count: int
    measured: Units


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """The usage of one subscription in its current period. Amounts in minor units of `currency`."""

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
    organization_id: UUID,
    external_customer_id: str,
    external_subscription_id: str,
    restriction: Restriction,
    now: datetime,
    measure: Measure,
    *,
    apply_taxes: bool,
) -> CurrentUsage:
    """The usage of an active subscription in the period that contains `now`, the whole period and not just up to now.

    Raises:
        NotFound: `customer_not_found`, `charge_not_found`.
        NotAllowed: `no_active_subscription`.
    """
    subscription = db.scalars(
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.organization)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_subscription_id,
            Subscription.status == "active",
            Customer.external_id == external_customer_id,
            Customer.deleted_at.is_(None),
        )
        .options(contains_eager(Subscription.customer).contains_eager(Customer.organization))
    ).first()
    if subscription is None:
        find_customer(db, organization_id, external_customer_id)
        raise NotAllowed("no_active_subscription")
    customer_id = subscription.customer_id
    plan = restriction.apply(load_plans(db, [subscription.plan_id])[subscription.plan_id])
    billed = billed_subscription(subscription, {plan.id: plan})
    boundaries = current(billed.terms, now)
    usage = measure(charge_windows(billed, boundaries))
    charges = [
        ChargeUsage(charge, charge_amounts(charge, units, plan.currency), units.events_count, units)
        for charge, units in zip(plan.charges, (buckets.get((), NOTHING) for buckets in usage), strict=True)
    ]
    amount = sum(one.amounts.amount_cents for one in charges)
    taxes = 0
    if apply_taxes:
        book = load_taxes(db, [customer_id], [organization_id])
        bases = [
            (
                Decimal(one.amounts.amount_cents),
                [
                    tax.tax_rate
                    for tax in book.taxes(
                        one.charge.taxes, plan.taxes, customer_id=customer_id, organization_id=organization_id
                    )
                ],
            )
            for one in charges
        ]
        taxes = invoice_taxes(bases, amount).amount_cents
    return CurrentUsage(
        boundaries=boundaries,
        issuing_date=local_date(boundaries.charges_to, billed.tz),
        currency=plan.currency,
        charges=charges,
        amount_cents=amount,
        taxes_amount_cents=taxes,
    )
