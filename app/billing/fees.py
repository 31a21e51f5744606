"""Fees: the lines of an invoice, from a plan's terms and the usage of a period. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from app.billing.book import ChargeTerms, PlanTerms, TaxBook, Taxes
from app.core.aggregation import Aggregation, Units, round_units
from app.core.boundaries import Boundaries, Terms
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.usage import BucketUsage, ones
from app.core.money import ZERO, exact, from_minor, minor_int
from app.core.periods import BillingTime, Interval
from app.core.subscription_fee import subscription_fee
from app.core.taxes import FeeTaxes, fee_taxes
from app.metering.usage import NOTHING, Usage
from app.metering.windows import Window, window


@dataclass(frozen=True, slots=True)
class BilledSubscription:
    """What billing needs to know of a subscription and its customer."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    external_id: str
    name: str | None
    plan: PlanTerms
    billing_time: str
    subscription_at: datetime
    started_at: datetime
    tz: ZoneInfo
    consolidate_invoice: bool
    purchase_order_number: str | None

    @property
    def terms(self) -> Terms:
        """What decides its periods."""
        return Terms(
            interval=Interval(self.plan.interval),
            billing_time=BillingTime(self.billing_time),
            pay_in_advance=self.plan.pay_in_advance,
            anchor_at=self.subscription_at,
            started_at=self.started_at,
            tz=self.tz,
        )


@dataclass(frozen=True, slots=True)
class BilledLine:
    """One subscription on one invoice: why, when, and between which boundaries."""

    subscription: BilledSubscription
    reason: str
    billed_at: datetime
    boundaries: Boundaries

    @property
    def has_subscription_fee(self) -> bool:
        """A plan paid in advance has paid for the period it is terminated in."""
        return not (self.reason == "subscription_terminating" and self.subscription.plan.pay_in_advance)

    @property
    def has_charges(self) -> bool:
        """An invoice at the start of a subscription has no usage to bill."""
        return self.reason != "subscription_starting" and self.boundaries.charges_from < self.boundaries.charges_to

    def windows(self) -> list[Window]:
        """The usage window of each charge, in the plan's order; none when no charges are billed."""
        return charge_windows(self.subscription, self.boundaries) if self.has_charges else []


@dataclass(frozen=True, slots=True)
class FeeDraft:
    """A fee that has not been stored. Amounts in minor units but `precise_unit_amount`, which is in currency units."""

    id: UUID
    subscription: BilledSubscription
    charge: ChargeTerms | None
    amounts: FeeAmounts
    events_count: int | None
    from_: datetime
    to: datetime
    taxes: Taxes
    tax_amounts: FeeTaxes

    @property
    def fee_type(self) -> str:
        return "subscription" if self.charge is None else "charge"


def charge_windows(subscription: BilledSubscription, boundaries: Boundaries) -> list[Window]:
    """The usage window of each of a subscription's charges between the boundaries."""
    return [
        window(
            subscription.organization_id,
            subscription.external_id,
            charge.metric_code,
            charge.aggregation,
            boundaries.charges_from,
            boundaries.charges_to,
            recurring=charge.recurring,
            period_days=boundaries.charges_period_days,
        )
        for charge in subscription.plan.charges
    ]


def line_fees(line: BilledLine, usage: Sequence[Usage], taxes: TaxBook) -> list[FeeDraft]:
    """The fees of a line, subscription fee first; `usage` belongs to `line.windows()`.

    A charge fee is left out when it has neither units nor amount nor events (billing spec 2.3).
    """
    fees = [_subscription_fee(line, taxes)] if line.has_subscription_fee else []
    subscription, boundaries = line.subscription, line.boundaries
    for charge, buckets in zip(subscription.plan.charges, usage, strict=False):
        units = buckets.get((), NOTHING)
        amounts = charge_amounts(charge, units, subscription.plan.currency)
        if not (amounts.units or amounts.amount_cents or units.events_count):
            continue
        own = taxes.taxes(
            charge.taxes,
            subscription.plan.taxes,
            customer_id=subscription.customer_id,
            organization_id=subscription.organization_id,
        )
        fees.append(
            FeeDraft(
                id=uuid4(),
                subscription=subscription,
                charge=charge,
                amounts=amounts,
                events_count=units.events_count,
                from_=boundaries.charges_from,
                to=boundaries.charges_to,
                taxes=own,
                tax_amounts=tax_amounts(amounts, own),
            )
        )
    return fees


def charge_amounts(charge: ChargeTerms, usage: Units, currency: str) -> FeeAmounts:
    """Units rounded by the metric, priced by the charge, rounded once to the currency (metering spec 2.8, 3.7, 3.10)."""
    bucket = bucket_usage(charge, usage, currency)
    return fee_amounts(bucket, charge.price(bucket), currency)


def bucket_usage(charge: ChargeTerms, usage: Units, currency: str) -> BucketUsage:
    """What was measured of a bucket, as the charge's price sees it.

    The one place where single events come in, for the prices that look at them (``needs_events``). Counted events are
    known without being read: each is 1.
    """
    counted = charge.aggregation in (Aggregation.COUNT, Aggregation.UNIQUE_COUNT)
    own_amounts = usage.precise_total_amount_cents
    return BucketUsage(
        units=round_units(usage.units, charge.rounding_function, charge.rounding_precision),
        events_count=usage.events_count,
        precise_total_amount=from_minor(own_amounts, currency) if own_amounts else ZERO,
        runs=ones(usage.units) if counted else None,
    )


def tax_amounts(amounts: FeeAmounts, taxes: Taxes) -> FeeTaxes:
    """The taxes of a fee that no coupon has lowered."""
    return fee_taxes(Decimal(amounts.amount_cents), amounts.precise_amount_cents, [tax.tax_rate for tax in taxes])


def _subscription_fee(line: BilledLine, taxes: TaxBook) -> FeeDraft:
    subscription, boundaries = line.subscription, line.boundaries
    plan = subscription.plan
    precise = subscription_fee(
        plan.amount_cents,
        False,
        boundaries.from_,
        boundaries.to,
        boundaries.period_days,
        subscription.tz,
    )
    amount = minor_int(precise)
    details: dict[str, Any] = {"plan_amount_cents": plan.amount_cents}
    with exact():
        amounts = FeeAmounts(
            units=Decimal(1),
            amount_cents=amount,
            precise_amount_cents=precise,
            precise_unit_amount=from_minor(amount, plan.currency),
            amount_details=details,
        )
    own = taxes.taxes(plan.taxes, customer_id=subscription.customer_id, organization_id=subscription.organization_id)
    return FeeDraft(
        id=uuid4(),
        subscription=subscription,
        charge=None,
        amounts=amounts,
        events_count=None,
        from_=boundaries.from_,
        to=boundaries.to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
    )
