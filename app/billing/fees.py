"""Fees: the lines of an invoice, from a plan's terms and the usage of a period. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from app.billing.adjustments import Adjustment, FeeKey, group_key, times
from app.billing.billed import BilledLine, BilledSubscription, Buyer
from app.billing.charge_usage import BucketFee, ChargeUsage, Group, Presented
from app.billing.terms import ChargeFilterTerms, ChargeTerms, TaxBook, Taxes
from app.core.boundaries import current
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.spending_minimum import true_up
from app.core.charges.usage import BucketUsage
from app.core.explanation.figures import Figures
from app.core.money import exact, from_minor, minor_int
from app.core.subscription_fee import days_billed, subscription_fee
from app.core.taxes import UNTAXED, FeeTaxes, fee_taxes
from app.core.values import replace
from app.ids import new_id


class FeeItem(Struct, frozen=True):
    """What a fee is for, as an invoice names it. `id` is that of the metric, add-on or subscription; `filters` the values
    of a charge's filter."""

    fee_type: str
    id: UUID
    code: str
    name: str
    description: str | None
    display_name: str | None
    filters: Mapping[str, Sequence[str]] | None = None
    filter_display_name: str | None = None


class FeeDraft(Struct, frozen=True):
    """A fee that has not been stored. Amounts in minor units but `precise_unit_amount`, which is in currency units. One
    that is not `invoiceable` stands alone; one of something bought once, or of prepaid credits, has no subscription.
    `tax_amounts` are its taxes before anything is taken of it.

    `aggregated_units`: what was measured, where that is not the number of units. `pricing_unit`: the amounts in pricing
    units, as they are on the wire. `terms` and `figures`: what it was priced with and from, kept to explain it. A
    fee that is made anew from one of a voided invoice has that as `original_fee_id`, and its terms as `priced_terms_id`.
    """

    id: UUID
    buyer: Buyer
    subscription: BilledSubscription | None
    item: FeeItem
    amounts: FeeAmounts
    from_: datetime
    to: datetime
    taxes: Taxes
    tax_amounts: FeeTaxes
    charge_id: UUID | None = None
    charge_filter_id: UUID | None = None
    fixed_charge_id: UUID | None = None
    true_up_parent_id: UUID | None = None
    pay_in_advance: bool = False
    invoiceable: bool = True
    event_transaction_id: str | None = None
    event_id: UUID | None = None
    group: Group = field(default_factory=dict)
    aggregated_units: Decimal | None = None
    events_count: int | None = None
    presented: Sequence[Presented] = ()
    pricing_unit: Mapping[str, Any] | None = None
    terms: ChargeTerms | None = None
    figures: Figures | Mapping[str, Any] | None = None
    original_fee_id: UUID | None = None
    priced_terms_id: UUID | None = None

    @property
    def key(self) -> FeeKey:
        """Which fee of its line it is."""
        return FeeKey(
            self.item.fee_type,
            self.charge_id,
            self.charge_filter_id,
            self.fixed_charge_id,
            group_key(self.group),
            self.true_up_parent_id is not None,
        )

    @property
    def owning_subscription(self) -> BilledSubscription:
        """The subscription of a fee that has one."""
        if self.subscription is None:
            raise ValueError(f"fee {self.id} has no subscription")
        return self.subscription


def line_fees(line: BilledLine, usage: Sequence[ChargeUsage], taxes: TaxBook) -> list[FeeDraft]:
    """The fees of a line, subscription fee first; `usage` is that of the plan's charges, if they are billed.

    A bucket is no fee when it has neither units nor amount nor events, unless it is the parent of a true-up, or the fee
    stands alone (billing spec 2.3).
    """
    fees = [_subscription_fee(line, taxes)] if line.has_subscription_fee else []
    for one in usage:
        fees += _charge_fees(line, _adjusted(line, one) if line.adjustments else one, taxes)
    return fees


def _adjusted(line: BilledLine, usage: ChargeUsage) -> ChargeUsage:
    """The usage of a charge with what somebody has set instead (billing spec 3.3)."""
    return replace(usage, fees=tuple(_adjusted_bucket(line, usage.charge, one) for one in usage.fees))


def _adjusted_bucket(line: BilledLine, charge: ChargeTerms, bucket: BucketFee) -> BucketFee:
    key = FeeKey("charge", charge.id, bucket.filter.id if bucket.filter else None, group=group_key(bucket.group))
    adjustment = line.adjustments.get(key)
    if adjustment is None:
        return bucket
    currency = line.subscription.plan.currency
    priced_in, price = charge.priced_in(currency), bucket.filter.price if bucket.filter else charge.price

    def reprice(units: Decimal) -> FeeAmounts:
        usage = BucketUsage(units, bucket.events_count)
        return fee_amounts(usage, price(usage), priced_in)

    priced = adjustment.amounts(bucket.priced, priced_in, reprice)
    changed = adjustment.units is not None
    return replace(
        bucket,
        priced=priced,
        amounts=charge.in_money(priced, currency),
        total_aggregated_units=priced.units if changed else bucket.total_aggregated_units,
        figures=None if changed else bucket.figures,
        adjustment=adjustment,
    )


def _charge_fees(line: BilledLine, usage: ChargeUsage, taxes: TaxBook) -> list[FeeDraft]:
    """The fees of a charge's buckets, and what they lack of its spending minimum as one more (metering spec 3.11)."""
    subscription, charge = line.subscription, usage.charge
    own = taxes.taxes(charge.taxes, subscription.plan.taxes, customer_id=subscription.customer_id)
    missing = _missing(line, usage)
    parent = None if missing is None else next(bucket for bucket in usage.fees if bucket.filter is None)
    fees = [
        _charge_fee(line, charge, bucket.priced, own, bucket=bucket)
        for bucket in usage.fees
        if bucket is parent or not charge.invoiceable or not bucket.is_nothing
    ]
    if missing is not None:
        parent_id = next(fee.id for fee in fees if fee.charge_filter_id is None)
        fees.append(_charge_fee(line, charge, missing, own, true_up_parent_id=parent_id))
    return fees


def _missing(line: BilledLine, usage: ChargeUsage) -> FeeAmounts | None:
    """What a charge's fees lack of its spending minimum, in what its prices are in."""
    charge, subscription = usage.charge, line.subscription
    if not charge.min_amount_cents or not line.ends_charges:
        return None
    return true_up(
        charge.min_amount_cents,
        [bucket.priced for bucket in usage.fees],
        subscription.span(line.boundaries),
        charge.priced_in(subscription.plan.currency),
    )


def _charge_fee(
    line: BilledLine,
    charge: ChargeTerms,
    priced: FeeAmounts,
    taxes: Taxes,
    *,
    bucket: BucketFee | None = None,
    true_up_parent_id: UUID | None = None,
) -> FeeDraft:
    """A fee of a charge, from amounts in what its prices are in: that of a bucket, or of none."""
    subscription, boundaries = line.subscription, line.boundaries
    if charge.renews:
        # What was carried over is paid in advance for the period that begins (metering spec 3.12).
        boundaries = current(subscription.terms, line.billed_at)
    amounts = charge.in_money(priced, subscription.plan.currency)
    filter_ = bucket.filter if bucket else None
    return FeeDraft(
        id=new_id(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=_renamed(charge_item(charge, filter_), bucket.adjustment if bucket else None),
        amounts=amounts,
        from_=boundaries.charges_from,
        to=boundaries.charges_to,
        taxes=taxes,
        tax_amounts=tax_amounts(amounts, taxes),
        charge_id=charge.id,
        charge_filter_id=filter_.id if filter_ else None,
        true_up_parent_id=true_up_parent_id,
        pay_in_advance=not charge.invoiceable,
        invoiceable=charge.invoiceable,
        group=bucket.group if bucket else {},
        aggregated_units=bucket.total_aggregated_units if bucket else None,
        events_count=bucket.events_count if bucket else 0,
        presented=bucket.presented if bucket else (),
        pricing_unit=charge.pricing_unit.details(priced) if charge.pricing_unit else None,
        terms=None if bucket and bucket.adjustment and bucket.adjustment.units is not None else charge,
        figures=bucket.figures if bucket else None,
    )


def _renamed(item: FeeItem, adjustment: Adjustment | None) -> FeeItem:
    """What a fee is for, by the name that somebody has given it."""
    return replace(item, display_name=adjustment.display_name) if adjustment and adjustment.display_name else item


def charge_item(charge: ChargeTerms, filter_: ChargeFilterTerms | None) -> FeeItem:
    """What a charge's fee is for."""
    return FeeItem(
        fee_type="charge",
        id=charge.metric_id,
        code=charge.metric_code,
        name=charge.metric_name,
        description=charge.metric_description,
        display_name=charge.invoice_display_name or charge.metric_name,
        filters=filter_.values_as_sent if filter_ else None,
        filter_display_name=filter_.display_name if filter_ else None,
    )


def tax_amounts(amounts: FeeAmounts, taxes: Taxes) -> FeeTaxes:
    """The taxes of a fee that no coupon has lowered."""
    if not taxes:
        return UNTAXED
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
        minus_a_day=subscription.ended_by_upgrade,
        trial_ends_at=subscription.trial_ends_at,
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
    adjustment = line.adjustments.get(FeeKey("subscription"))
    if adjustment is not None:
        whole = amounts
        amounts = adjustment.amounts(whole, plan.currency, lambda units: times(units, whole, plan.currency))
    own = taxes.taxes(plan.taxes, customer_id=subscription.customer_id)
    item = FeeItem(
        fee_type="subscription",
        id=subscription.id,
        code=plan.code,
        name=plan.name,
        description=plan.description,
        display_name=plan.invoice_display_name or subscription.name or plan.name,
    )
    return FeeDraft(
        id=new_id(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=_renamed(item, adjustment),
        amounts=amounts,
        from_=boundaries.from_,
        to=boundaries.to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
        figures=None if adjustment and adjustment.units is not None else _subscription_figures(line),
    )


def _subscription_figures(line: BilledLine) -> dict[str, Any]:
    """The days that a subscription fee is for, and what takes some away."""
    subscription, boundaries = line.subscription, line.boundaries
    trial = subscription.trial_ends_at
    figures: dict[str, Any] = {
        "days": days_billed(
            boundaries.from_,
            boundaries.to,
            subscription.tz,
            minus_a_day=subscription.ended_by_upgrade,
            trial_ends_at=trial,
        ),
        "period_days": boundaries.period_days,
    }
    if subscription.ended_by_upgrade:
        figures["upgraded"] = True
    if trial is not None and trial > boundaries.from_:
        figures["trial_ends_at"] = trial.isoformat()
    return figures
