"""Fees: the lines of an invoice, from a plan's terms and the usage of a period. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import ChargeTerms, TaxBook, Taxes
from app.billing.charge_usage import BucketFee, ChargeUsage
from app.core.charges.fees import FeeAmounts
from app.core.money import exact, from_minor, minor_int
from app.core.subscription_fee import subscription_fee
from app.core.taxes import FeeTaxes, fee_taxes


@dataclass(frozen=True, slots=True)
class FeeDraft:
    """A fee that has not been stored. Amounts in minor units but `precise_unit_amount`, which is in currency units."""

    id: UUID
    subscription: BilledSubscription
    charge: ChargeTerms | None
    bucket: BucketFee | None
    amounts: FeeAmounts
    from_: datetime
    to: datetime
    taxes: Taxes
    tax_amounts: FeeTaxes

    @property
    def events_count(self) -> int | None:
        """The number of events behind a charge's fee."""
        return self.bucket.events_count if self.bucket else None

    @property
    def fee_type(self) -> str:
        return "subscription" if self.charge is None else "charge"


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
                charge=one.charge,
                bucket=bucket,
                amounts=bucket.amounts,
                from_=boundaries.charges_from,
                to=boundaries.charges_to,
                taxes=own,
                tax_amounts=tax_amounts(bucket.amounts, own),
            )
            for bucket in one.fees
            if not bucket.is_nothing
        ]
    return fees


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
        bucket=None,
        amounts=amounts,
        from_=boundaries.from_,
        to=boundaries.to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
    )
