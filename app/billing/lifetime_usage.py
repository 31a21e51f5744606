"""Lifetime usage: all that a subscription has used, before it came here, billed, and not yet billed (billing spec 8.4)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import and_, case, func, not_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from app.billing.charge_usage import Options
from app.billing.current_usage import CurrentUsage, Restriction, untaxed_usage
from app.billing.remembered import PriceBook
from app.errors import NotFound
from app.metering.meter import Meter
from app.models import Customer, Fee, Invoice, LifetimeUsage, Organization, Subscription

_STATUSES = ("active", "pending", "terminated")
_UNDIVIDED = Options(presentation_keys=())


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The lifetime usage of a subscription, in minor units: `historical` is what was set for the time before, `invoiced`
    what has been billed, `current` what the present period has come to."""

    id: UUID
    subscription: Subscription
    historical: int
    invoiced: int
    current: int


def lifetime_usage(
    db: Session, meter: Meter, book: PriceBook, organization: Organization, external_id: str, now: datetime
) -> Lifetime:
    """The lifetime usage of the subscription with an external id: the active one, else one that is to start, else the last
    that was. It goes on where the customer's subscriptions with that id follow each other.

    Raises:
        NotFound: `subscription_not_found`.
    """
    subscription = _find(db, organization.id, external_id)
    id_ = _id_of(subscription)
    kept = db.scalar(
        select(LifetimeUsage.external_historical_usage_amount_cents).where(
            LifetimeUsage.organization_id == organization.id, LifetimeUsage.id == id_
        )
    )
    usage = None
    if subscription.status == "active":
        usage = untaxed_usage(db, meter, book, organization, subscription, Restriction(), now, options=_UNDIVIDED)
    return Lifetime(
        id=id_,
        subscription=subscription,
        historical=kept or 0,
        invoiced=_invoiced(db, subscription, usage),
        current=usage.amount_cents if usage else 0,
    )


def set_historical_usage(
    db: Session, organization_id: UUID, external_id: str, amount_cents: int, now: datetime
) -> None:
    """Set what was used before events were sent here.

    Raises:
        NotFound: `subscription_not_found`.
    """
    subscription = _find(db, organization_id, external_id)
    new = insert(LifetimeUsage).values(
        id=_id_of(subscription),
        organization_id=organization_id,
        customer_id=subscription.customer_id,
        external_subscription_id=external_id,
        external_historical_usage_amount_cents=amount_cents,
        created_at=now,
        updated_at=now,
    )
    changed = {"external_historical_usage_amount_cents": amount_cents, "updated_at": now}
    db.execute(new.on_conflict_do_update(index_elements=[LifetimeUsage.id], set_=changed))


def _find(db: Session, organization_id: UUID, external_id: str) -> Subscription:
    ranks = {status: rank for rank, status in enumerate(_STATUSES)}
    subscription = db.scalars(
        select(Subscription)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_id,
            Subscription.status.in_(_STATUSES),
        )
        .order_by(case(ranks, value=Subscription.status), Subscription.created_at.desc(), Subscription.id)
        .options(joinedload(Subscription.customer).joinedload(Customer.billing_entity))
        .limit(1)
    ).first()
    if subscription is None:
        raise NotFound("subscription")
    return subscription


def _id_of(subscription: Subscription) -> UUID:
    """The id that all of a customer's subscriptions with an external id share."""
    return uuid5(subscription.customer_id, subscription.external_id)


def _invoiced(db: Session, subscription: Subscription, usage: CurrentUsage | None) -> int:
    """The fees of charges on invoices of all of the customer's subscriptions with the external id (billing spec 8.2).

    What was paid in advance for the present period is part of its usage already, and does not count twice.
    """
    query = (
        select(func.coalesce(func.sum(Fee.amount_cents), 0))
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .join(Subscription, Subscription.id == Fee.subscription_id)
        .where(
            Fee.organization_id == subscription.organization_id,
            Fee.fee_type == "charge",
            Invoice.invoice_type == "subscription",
            Invoice.status.in_(("draft", "finalized")),
            Subscription.organization_id == subscription.organization_id,
            Subscription.customer_id == subscription.customer_id,
            Subscription.external_id == subscription.external_id,
        )
    )
    if usage is not None:
        present = and_(Fee.subscription_id == subscription.id, Fee.from_datetime >= usage.boundaries.charges_from)
        query = query.where(not_(present))
    return int(db.scalar(query) or 0)
