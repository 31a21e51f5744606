"""How many units of its plan's fixed charges a subscription has, and since when (metering spec 3.14, billing spec 2.6).

A plan says how many; a subscription may have a number of its own, which changes of the plan do not touch. Every change is
written down with the instant from which it counts, and billed from these rows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, contains_eager, joinedload

from app.billing import fixed_charges
from app.billing.book import load_plans
from app.billing.close import billed_subscription
from app.billing.fixed_charges import load_changes, units_row, write_units
from app.billing.lifecycle import bill_raised
from app.core.boundaries import Terms, periodic
from app.core.charges.fixed_charges import is_settled
from app.models import Customer, FixedCharge, OwnUnits, Plan, Subscription
from app.models.customer import OPEN

AT_A_TIME = 2_000
"""How many subscriptions get new units in one go."""

_LIFE = ("status", "started_at", "next_billing_at")


@dataclass(frozen=True, slots=True)
class NewUnits:
    """A new number of units of a fixed charge (by its `root_id`): from now on, or from the next period on."""

    fixed_charge_id: UUID
    units: Decimal
    pay_in_advance: bool
    at_once: bool


def hold_plan(db: Session, plan_id: UUID) -> None:
    """Let nobody change a plan before the transaction ends, so that what it says of units is what a start goes by."""
    db.scalar(select(Plan.id).where(Plan.id == plan_id).with_for_update(read=True, key_share=True))


def hold_open(db: Session, subscription: Subscription) -> None:
    """Let nobody start, close or end a subscription before the transaction ends; it is as it is now."""
    if subscription.status == "pending":
        db.refresh(subscription, _LIFE, with_for_update=True)
    _hold_customers(db, select(Subscription.customer_id).where(Subscription.id == subscription.id))
    db.refresh(subscription, _LIFE)


def start_units(db: Session, subscription: Subscription, now: datetime) -> None:
    """Write down what a subscription has when it starts. Its plan is held from here on."""
    hold_plan(db, subscription.plan_id)
    fixed_charges.start_units(db, [subscription], now)


def own_units(db: Session, subscription: Subscription) -> dict[UUID, Decimal]:
    """The units that a subscription has whatever its plan says, by the `root_id` of the fixed charge."""
    rows = db.execute(
        select(OwnUnits.fixed_charge_id, OwnUnits.units).where(
            OwnUnits.organization_id == subscription.organization_id, OwnUnits.subscription_id == subscription.id
        )
    )
    return {charge_id: units for charge_id, units in rows}  # noqa: C416 (rows are not pairs to the type checker)


def change_units(db: Session, organization_id: UUID, changed: Mapping[UUID, Sequence[NewUnits]], now: datetime) -> None:
    """Give new units of fixed charges, by the id of the plan, to the active subscriptions of these plans, less those that
    have their own. What is due in advance for them at once is invoiced. Those that wait for their first invoice to be paid
    have them from their next period on. The plans must be locked."""
    on_plan = (Subscription.organization_id == organization_id, Subscription.plan_id.in_(changed))
    open_ones = Subscription.status.in_(OPEN)  # a close may begin one
    _hold_customers(db, select(Subscription.customer_id).where(*on_plan, open_ones))
    active = db.scalars(
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .where(*on_plan, Subscription.status.in_(("active", "incomplete")))
        .options(
            contains_eager(Subscription.customer).contains_eager(Customer.billing_entity),
            joinedload(Subscription.billing_entity),
        )
        .order_by(Subscription.customer_id, Subscription.created_at, Subscription.id)
        .execution_options(populate_existing=True)
    ).all()
    own = db.execute(
        select(OwnUnits.subscription_id, OwnUnits.fixed_charge_id).where(
            OwnUnits.organization_id == organization_id,
            OwnUnits.fixed_charge_id.in_({one.fixed_charge_id for of_plan in changed.values() for one in of_plan}),
        )
    )
    apart = {(subscription_id, charge_id) for subscription_id, charge_id in own}
    for start in range(0, len(active), AT_A_TIME):
        _change(db, active[start : start + AT_A_TIME], changed, now, apart)


def set_own_units(
    db: Session, subscription: Subscription, charge: FixedCharge, units: Decimal | None, now: datetime, *, at_once: bool
) -> None:
    """Give one subscription a number of units of its own; None gives it those of its plan again. A pending one starts with
    them, for an active one they count from now or from the next period on, and what is due in advance is invoiced."""
    if units is None:
        db.execute(
            delete(OwnUnits).where(
                OwnUnits.organization_id == subscription.organization_id,
                OwnUnits.subscription_id == subscription.id,
                OwnUnits.fixed_charge_id == charge.root_id,
            )
        )
    else:
        row = {
            "organization_id": subscription.organization_id,
            "subscription_id": subscription.id,
            "fixed_charge_id": charge.root_id,
            "units": units,
        }
        keys = [OwnUnits.subscription_id, OwnUnits.fixed_charge_id]
        db.execute(upsert(OwnUnits).values(row).on_conflict_do_update(index_elements=keys, set_={"units": units}))
    if subscription.status == "active":
        wanted = charge.units if units is None else units
        new = NewUnits(charge.root_id, wanted, charge.pay_in_advance, at_once)
        _change(db, [subscription], {subscription.plan_id: [new]}, now)


def _change(
    db: Session,
    subscriptions: Sequence[Subscription],
    changed: Mapping[UUID, Sequence[NewUnits]],
    now: datetime,
    apart: Collection[tuple[UUID, UUID]] = (),
) -> None:
    """Write down what changes for active subscriptions, and invoice what is due at once."""
    known = load_changes(db, [one.id for one in subscriptions])
    plans = load_plans(db, {one.plan_id for one in subscriptions})
    rows, due = [], []
    for subscription in subscriptions:
        terms = billed_subscription(subscription, plans).terms
        raised = set()
        for new in changed[subscription.plan_id]:
            key = subscription.id, new.fixed_charge_id
            at_once = new.at_once and subscription.status == "active"
            since = now if at_once else terms.next_fixed_charges_boundary(now)
            if key in apart or is_settled(known.get(key, ()), new.units, since):
                continue
            rows.append(units_row(subscription, new.fixed_charge_id, new.units, since, now))
            if at_once and new.pay_in_advance:
                raised.add(new.fixed_charge_id)
        if raised and not _is_unbilled(subscription, terms, now):
            due.append((subscription, raised))
    write_units(db, rows)
    bill_raised(db, due, plans, now)


def _hold_customers(db: Session, ids: Select[UUID]) -> None:
    """Wait for a close of these customers, and let none begin: it would bill by some of the changes and not by others."""
    query = select(Customer.id).where(Customer.id.in_(ids)).order_by(Customer.id)
    db.execute(query.with_for_update(key_share=True)).all()


def _is_unbilled(subscription: Subscription, terms: Terms, now: datetime) -> bool:
    """Whether the current period is still to be opened by a close, which bills it by what has been written down."""
    boundary = subscription.next_billing_at
    return boundary is not None and boundary <= now and periodic(terms, boundary).fixed_charges_ahead is not None
