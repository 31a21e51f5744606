"""Fees: the lines of an invoice, from a plan's terms and the usage of a period. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import ChargeFilterTerms, ChargeTerms, TaxBook, Taxes
from app.billing.charge_usage import ChargeUsage, Group, Presented
from app.core.charges.fees import FeeAmounts
from app.core.money import exact, from_minor, minor_int
from app.core.subscription_fee import subscription_fee
from app.core.taxes import FeeTaxes, fee_taxes


@dataclass(frozen=True, slots=True)
class FeeItem:
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


@dataclass(frozen=True, slots=True)
class FeeDraft:
    """A fee that has not been stored. Amounts in minor units but `precise_unit_amount`, which is in currency units.

    `aggregated_units`: what was measured, where that is not the number of units. `pricing_unit`: the amounts in pricing
    units, as they are on the wire.
    """

    id: UUID
    subscription: BilledSubscription
    item: FeeItem
    amounts: FeeAmounts
    from_: datetime
    to: datetime
    taxes: Taxes
    tax_amounts: FeeTaxes
    charge_id: UUID | None = None
    charge_filter_id: UUID | None = None
    true_up_parent_id: UUID | None = None
    pay_in_advance: bool = False
    invoiceable: bool = True
    event_transaction_id: str | None = None
    group: Group = field(default_factory=dict)
    aggregated_units: Decimal | None = None
    events_count: int | None = None
    presented: Sequence[Presented] = ()
    pricing_unit: Mapping[str, Any] | None = None


def line_fees(line: BilledLine, usage: Sequence[ChargeUsage], taxes: TaxBook) -> list[FeeDraft]:
    """The fees of a line, subscription fee first; `usage` is that of the plan's charges, if they are billed.

    A bucket is no fee when it has neither units nor amount nor events (billing spec 2.3).
    """
    fees = [_subscription_fee(line, taxes)] if line.has_subscription_fee else []
    subscription, boundaries = line.subscription, line.boundaries
    for one in usage:
        own = taxes.taxes(
            one.charge.taxes,
            subscription.plan.taxes,
            customer_id=subscription.customer_id,
            organization_id=subscription.organization_id,
        )
        fees += [
            FeeDraft(
                id=uuid4(),
                subscription=subscription,
                item=charge_item(one.charge, bucket.filter),
                amounts=bucket.amounts,
                from_=boundaries.charges_from,
                to=boundaries.charges_to,
                taxes=own,
                tax_amounts=tax_amounts(bucket.amounts, own),
                charge_id=one.charge.id,
                charge_filter_id=bucket.filter.id if bucket.filter else None,
                group=bucket.group,
                aggregated_units=bucket.total_aggregated_units,
                events_count=bucket.events_count,
                presented=bucket.presented,
            )
            for bucket in one.fees
            if not bucket.is_nothing
        ]
    return fees


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
    own = taxes.taxes(plan.taxes, customer_id=subscription.customer_id, organization_id=subscription.organization_id)
    return FeeDraft(
        id=uuid4(),
        subscription=subscription,
        item=FeeItem(
            fee_type="subscription",
            id=subscription.id,
            code=plan.code,
            name=plan.name,
            description=plan.description,
            display_name=plan.invoice_display_name or subscription.name or plan.name,
        ),
        amounts=amounts,
        from_=boundaries.from_,
        to=boundaries.to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
    )
