"""Lifetime usage: all that a subscription has used, before it came here, billed, and not yet billed (billing spec 8.4)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import DateTime, case, cast, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session, aliased, joinedload

from app.billing.charge_usage import Options
from app.billing.current_usage import Restriction, untaxed_usage
from app.billing.remembered import PriceBook
from app.catalog.usage_thresholds import ask_to_look
from app.errors import NotFound
from app.metering.meter import Meter
from app.models import Customer, Fee, Invoice, LifetimeUsage, Organization, Subscription, among

_STATUSES = ("active", "pending", "terminated")
UNDIVIDED = Options(presentation_keys=())
"""Usage of which only the amounts are wanted."""

Present = tuple[UUID, datetime | None]
"""A subscription, and where its present period begins, whose usage is not looked at as invoiced."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The lifetime usage of a subscription, in minor units: `historical` is what was set for the time before, `invoiced`
    what has been billed, `current` what the present period has come to."""

    id: UUID
    subscription: Subscription
    historical: int
    invoiced: int
    current: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.historical + self.invoiced + self.current


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
    usage, begins = None, None
    if subscription.status == "active":
        usage = untaxed_usage(db, meter, book, organization, subscription, Restriction(), now, options=UNDIVIDED)
        begins = usage.boundaries.charges_from
    return Lifetime(
        id=id_,
        subscription=subscription,
        historical=historical_usage(db, [subscription])[subscription.id],
        invoiced=invoiced_usage(db, [(subscription.id, begins)])[subscription.id],
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
    ask_to_look(db, organization_id, Subscription.id == subscription.id)
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


def historical_usage(db: Session, subscriptions: Sequence[Subscription]) -> dict[UUID, int]:
    """What was set for the time before, of each of these subscriptions."""
    ids = {one.id: _id_of(one) for one in subscriptions}
    kept = dict(
        db.execute(
            select(LifetimeUsage.id, LifetimeUsage.external_historical_usage_amount_cents).where(
                among(LifetimeUsage.organization_id, {one.organization_id for one in subscriptions}),
                among(LifetimeUsage.id, ids.values()),
            )
        ).all()
    )
    return {subscription_id: kept.get(id_, 0) for subscription_id, id_ in ids.items()}


def invoiced_usage(db: Session, subscriptions: Collection[Present]) -> dict[UUID, int]:
    """The fees of charges on invoices of all of the customer's subscriptions with the external id of each of these (billing
    spec 8.2), in one query.

    What was paid in advance for the present period is part of its usage already, and does not count twice.
    """
    if not subscriptions:
        return {}
    ids, periods = zip(*subscriptions, strict=True)
    wanted = func.unnest(list(ids), cast(list(periods), ARRAY(DateTime(timezone=True))))
    present = wanted.table_valued("id", "charges_from").render_derived()
    own = aliased(Subscription)
    rows = db.execute(
        select(own.id, func.sum(Fee.amount_cents))
        .select_from(present)
        .join(own, own.id == present.c.id)
        .join(
            Subscription,
            (Subscription.customer_id == own.customer_id) & (Subscription.external_id == own.external_id),
        )
        .join(Fee, Fee.subscription_id == Subscription.id)
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .where(
            Fee.organization_id == own.organization_id,
            Fee.fee_type == "charge",
            Invoice.invoice_type == "subscription",
            Invoice.status.in_(("draft", "finalized")),
            func.coalesce((Fee.subscription_id != own.id) | (Fee.from_datetime < present.c.charges_from), true()),
        )
        .group_by(own.id)
    )
    known = {subscription_id: int(total) for subscription_id, total in rows}
    return {one: known.get(one, 0) for one in ids}
