"""What a close takes on: customers with something due, locked, and what it looks at of their subscriptions."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import Session

from app.models import BillingEntity, Customer, LocalCustomer, Organization, StartedSubscription, Subscription, among


class DueCustomer(Struct, LocalCustomer, frozen=True):
    """What billing looks at of a customer: columns of `Customer`, and the entity that it belongs to."""

    billing_entity: BillingEntity
    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    sequential_id: int
    timezone: str | None
    net_payment_term: int | None
    invoice_grace_period: int | None
    subscription_invoice_issuing_date_anchor: str | None
    subscription_invoice_issuing_date_adjustment: str | None
    finalize_zero_amount_invoice: str


class DueSubscription(Struct, StartedSubscription, frozen=True):
    """What billing looks at of a subscription: columns of `Subscription`, its customer, and an entity of its own."""

    customer: DueCustomer
    billing_entity: BillingEntity | None
    id: UUID
    organization_id: UUID
    customer_id: UUID
    plan_id: UUID
    billing_entity_id: UUID | None
    replaced_by: str | None
    external_id: str
    name: str | None
    billing_time: str
    subscription_at: datetime
    started_at: datetime | None
    gated_at: datetime | None
    consolidate_invoice: bool
    purchase_order_number: str | None
    next_billing_at: datetime | None
    trial_ends_at: datetime | None


_OF_CUSTOMER = DueCustomer.__struct_fields__[1:]
_OF_SUBSCRIPTION = DueSubscription.__struct_fields__[2:]
_COLUMNS = (
    *(getattr(Subscription, one) for one in _OF_SUBSCRIPTION),
    *(getattr(Customer, one) for one in _OF_CUSTOMER),
)
_OWN_ENTITY = _OF_SUBSCRIPTION.index("billing_entity_id")
_ENTITY = len(_OF_SUBSCRIPTION) + _OF_CUSTOMER.index("billing_entity_id")


def claim(
    db: Session,
    scope: ColumnElement[bool],
    until: datetime,
    size: int,
    *,
    wait: bool = False,
    in_order: bool = False,
) -> list[UUID]:
    """Up to `size` customers with something due, locked for this transaction; fewer where some have several subscriptions.

    Those that nothing else holds, the longest due first, and of these neighbours: usage is stored by the subscriptions'
    external ids. With `in_order` the first by their ids. With `wait` the first by their ids too, once whatever holds them
    lets go. By ids it takes longer: who was closed before is looked at again.
    """
    if wait or in_order:
        query = due_customers(scope, until).order_by(Customer.id)
    else:
        query = select(Customer.id).join(Organization, Organization.id == Customer.organization_id)
        query = query.join(Subscription, _is_due(until)).where(scope)
        query = query.order_by(Subscription.organization_id, Subscription.next_billing_at, Subscription.external_id)
    locked = query.limit(size).with_for_update(of=Customer, skip_locked=not wait, key_share=True)
    return list(dict.fromkeys(db.scalars(locked)))


def due_customers(scope: ColumnElement[bool], until: datetime) -> Select[UUID]:
    """The ids of customers with a boundary that has passed."""
    return (
        select(Customer.id)
        .join(Organization, Organization.id == Customer.organization_id)
        .where(scope, exists().where(_is_due(until)))
    )


def _is_due(until: datetime) -> ColumnElement[bool]:
    """Which subscriptions of a customer are to be billed."""
    return and_(
        Subscription.customer_id == Customer.id,
        Subscription.organization_id == Customer.organization_id,
        Subscription.status == "active",
        Subscription.next_billing_at <= until,
    )


def due_subscriptions(db: Session, customers: Collection[UUID], until: datetime) -> list[DueSubscription]:
    """The claimed customers' due subscriptions, of each customer those with its earliest boundary."""
    earliest = (
        select(Subscription.customer_id, func.min(Subscription.next_billing_at).label("boundary"))
        .where(
            among(Subscription.customer_id, customers),
            Subscription.status == "active",
            Subscription.next_billing_at <= until,
        )
        .group_by(Subscription.customer_id)
        .subquery()
    )
    rows = db.execute(
        select(*_COLUMNS)
        .join(
            earliest,
            (earliest.c.customer_id == Subscription.customer_id)
            & (earliest.c.boundary == Subscription.next_billing_at),
        )
        .join(Customer, Customer.id == Subscription.customer_id)
        .where(Subscription.status == "active")
        .order_by(Subscription.created_at, Subscription.id)
    ).all()
    entities = _entities(db, {row[_ENTITY] for row in rows} | {row[_OWN_ENTITY] for row in rows} - {None})
    split = len(_OF_SUBSCRIPTION)
    return [
        DueSubscription(DueCustomer(entities[row[_ENTITY]], *row[split:]), entities.get(row[_OWN_ENTITY]), *row[:split])
        for row in rows
    ]


def _entities(db: Session, ids: Collection[UUID]) -> dict[UUID, BillingEntity]:
    """Billing entities by their ids."""
    return {one.id: one for one in db.scalars(select(BillingEntity).where(among(BillingEntity.id, ids)))}
