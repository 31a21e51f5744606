"""Which subscription an event belongs to (metering spec 1.7, 1.8)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from app.models import Customer, Subscription

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TERMINATED_LAST = case((Subscription.status == "active", 0), else_=1)


def owner_of_event(
    db: Session, organization_id: UUID, external_subscription_id: str, timestamp_ms: int
) -> tuple[str | None, str | None]:
    """The ids of the customer and the subscription an event falls to; None and None when it falls to none.

    A subscription takes the events from its start to its end, both inclusive, in whole milliseconds; of several the one
    that is not terminated, then the one terminated last, then the one started last.
    """
    if "\x00" in external_subscription_id:
        return None, None
    at = EPOCH + timedelta(milliseconds=timestamp_ms)
    to_ms = "milliseconds"
    row = db.execute(
        select(Subscription.customer_id, Subscription.id)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_subscription_id,
            func.date_trunc(to_ms, Subscription.started_at) <= at,
            or_(Subscription.terminated_at.is_(None), func.date_trunc(to_ms, Subscription.terminated_at) >= at),
        )
        .order_by(TERMINATED_LAST, Subscription.terminated_at.desc(), Subscription.started_at.desc())
        .limit(1)
    ).first()
    return (str(row[0]), str(row[1])) if row else (None, None)


def started_at_of(db: Session, organization_id: UUID, external_subscription_id: str) -> datetime | None:
    """The start of the subscription with an external id: the one that is not terminated, else the latest started."""
    return db.scalar(
        select(Subscription.started_at)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.external_id == external_subscription_id,
            Subscription.started_at.is_not(None),
        )
        .order_by(TERMINATED_LAST, Subscription.started_at.desc())
        .limit(1)
    )


def owners(
    db: Session, organization_id: UUID, *, external_customer_id: str | None = None, external_id: str | None = None
) -> dict[str, str]:
    """The external ids of customers by those of their subscriptions: of all of an organization's, of one customer's, or
    of one subscription.

    An external id that several subscriptions have had is the customer's whose one is not terminated, else started last.
    """
    if "\x00" in f"{external_customer_id}{external_id}":
        return {}
    latest = (
        select(Subscription.external_id, Customer.external_id.label("customer"))
        .distinct(Subscription.external_id)
        .join(Customer, Customer.id == Subscription.customer_id)
        .where(Subscription.organization_id == organization_id, Customer.organization_id == organization_id)
        .order_by(Subscription.external_id, TERMINATED_LAST, Subscription.started_at.desc().nulls_last())
    )
    if external_id is not None:
        latest = latest.where(Subscription.external_id == external_id)
    if external_customer_id is not None:
        theirs = select(Subscription.external_id).join(Customer, Customer.id == Subscription.customer_id)
        latest = latest.where(
            Subscription.external_id.in_(
                theirs.where(Customer.organization_id == organization_id, Customer.external_id == external_customer_id)
            )
        )
    found = dict(db.execute(latest).all())
    if external_customer_id is None:
        return found
    return {subscription: customer for subscription, customer in found.items() if customer == external_customer_id}
