"""Past usage: what the charges of a subscription came to in periods that have been billed (metering spec 5.4)."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.issued import VISIBLE
from app.models import BillingPeriod, Charge, Customer, Fee, Invoice, Subscription

Billed = tuple[UUID, UUID]
"""The ids of an invoice and of a subscription on it."""


def past_periods(
    organization_id: UUID, external_customer_id: str, external_subscription_id: str, most: int | None
) -> Select[BillingPeriod]:
    """What has been billed of a customer's subscriptions with this external id, one row for each invoice and subscription,
    with the invoice; the latest charges first, and no more than the first `most`. What had no charges to bill is left
    out, and so is an invoice in whose place another was made.
    """
    periods = (
        select(BillingPeriod)
        .join(BillingPeriod.subscription)
        .join(Customer, Customer.id == Subscription.customer_id)
        .join(BillingPeriod.invoice)
        .where(
            BillingPeriod.organization_id == organization_id,
            BillingPeriod.invoicing_reason.not_in(("subscription_starting", "progressive_billing")),
            BillingPeriod.charges_from_datetime < BillingPeriod.charges_to_datetime,
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_subscription_id,
            Customer.external_id == external_customer_id,
            Customer.deleted_at.is_(None),
            Invoice.status.in_(VISIBLE),
            BillingPeriod.regenerated_invoice_id.is_(None),
        )
    )
    order = (BillingPeriod.charges_from_datetime.desc(), BillingPeriod.billed_at.desc(), BillingPeriod.id)
    if most is not None:
        newest = periods.with_only_columns(BillingPeriod.id).order_by(*order).limit(most)
        periods = periods.where(BillingPeriod.id.in_(newest))
    return periods.order_by(*order).options(joinedload(BillingPeriod.invoice))


def charge_fees(
    db: Session, organization_id: UUID, periods: Sequence[BillingPeriod], metric_id: UUID | None
) -> dict[Billed, list[Fee]]:
    """The fees of charges that were billed with each of the periods, of one metric if it is given; by the metrics' names,
    and for each charge in the order of the invoice. With their charges and metrics."""
    query = (
        select(Fee)
        .where(
            Fee.organization_id == organization_id,
            Fee.fee_type == "charge",
            Fee.invoice_id.in_({one.invoice_id for one in periods}),
            Fee.subscription_id.in_({one.subscription_id for one in periods}),
        )
        .options(
            joinedload(Fee.charge).options(joinedload(Charge.billable_metric), selectinload(Charge.filters)),
        )
        .order_by(Fee.position, Fee.id)
    )
    if metric_id is not None:
        query = query.where(Fee.charge.has(Charge.billable_metric_id == metric_id))
    fees: dict[Billed, list[Fee]] = defaultdict(list)
    for fee in sorted(db.scalars(query), key=lambda fee: fee.item_name.lower()):
        if fee.invoice_id is not None and fee.subscription_id is not None:
            fees[fee.invoice_id, fee.subscription_id].append(fee)
    return fees
