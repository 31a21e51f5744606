"""Draft invoices whose prices have changed: every transaction that changes what drafts are made of flags them to be made
anew (billing spec 3.3).

As with the catalog's version, rows that a session writes are seen. What is changed by bulk statements is so because of
such a row: the copies of a plan with it, charges with their metric, fixed charges with their add-on.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, event, or_, select, union_all, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

from app.models.base import among
from app.models.billing_entity import BillingEntity
from app.models.catalog import AddOn, BillableMetric, Charge, ChargeFilter, FixedCharge, MinimumCommitment, Plan, Tax
from app.models.customer import Customer, Subscription
from app.models.invoice import BillingPeriod, Invoice

_CHANGED = "what draft invoices are made of"
_OF_PLANS = {"plan", "charge", "metric", "add_on"}


def _changed(db: Session, kind: str, one: UUID) -> None:
    db.info.setdefault(_CHANGED, {}).setdefault(kind, set()).add(one)


@event.listens_for(Session, "before_flush")
def _look(db: Session, *_: Any) -> None:
    # What is new changes no draft by itself: a new charge changes its plan's, a new plan has none.
    for one in (*db.new, *db.deleted, *db.dirty):
        is_new = one in db.new
        if one in db.dirty and not db.is_modified(one):
            continue
        match one:
            case Tax() if not is_new or one.applied_to_organization:
                _changed(db, "organization", one.organization_id)
            case Plan() if not is_new:
                _changed(db, "plan", one.id)
            case Charge() | FixedCharge() | MinimumCommitment():
                _changed(db, "plan", one.plan_id)
            case ChargeFilter():
                _changed(db, "charge", one.charge_id)
            case BillableMetric() if not is_new:
                _changed(db, "metric", one.id)
            case AddOn() if not is_new:
                _changed(db, "add_on", one.id)
            case BillingEntity() if not is_new and _has_other_taxes(one):
                _changed(db, "entity", one.id)
            case Customer() if not is_new and _has_other_taxes(one):
                _changed(db, "customer", one.id)


def _has_other_taxes(one: Customer | BillingEntity) -> bool:
    return bool(get_history(one, "taxes", PASSIVE_NO_INITIALIZE).has_changes())


def flag_stale_drafts(db: Session) -> None:
    """Flag the drafts that what the transaction has changed concerns. For its end: their rows are locked by it."""
    changed = db.info.pop(_CHANGED, None)
    if not changed:
        return
    drafts = select(Invoice.id).where(Invoice.status == "draft", _concerned(changed))
    concerned = drafts.order_by(Invoice.id).with_for_update()
    db.execute(
        update(Invoice).where(Invoice.id.in_(concerned)).values(ready_to_be_refreshed=True),
        execution_options={"synchronize_session": False},
    )


def _concerned(by: Mapping[str, set[UUID]]) -> ColumnElement[bool]:
    """The drafts that changes concern, of which these are the kinds and ids; those of copies of plans, too."""
    conditions = [
        among(Invoice.organization_id, by.get("organization", ())),
        among(Invoice.customer_id, by.get("customer", ())),
        Invoice.customer_id.in_(select(Customer.id).where(among(Customer.billing_entity_id, by.get("entity", ())))),
    ]
    if by.keys() & _OF_PLANS:
        of_charges = select(Charge.plan_id).where(
            or_(among(Charge.id, by.get("charge", ())), among(Charge.billable_metric_id, by.get("metric", ())))
        )
        of_fixed = select(FixedCharge.plan_id).where(among(FixedCharge.add_on_id, by.get("add_on", ())))
        sold = union_all(select(Plan.id).where(among(Plan.id, by.get("plan", ()))), of_charges, of_fixed)
        plans = select(Plan.id).where(or_(Plan.id.in_(sold), Plan.parent_id.in_(sold)))
        lines = select(BillingPeriod.invoice_id).join(Subscription, Subscription.id == BillingPeriod.subscription_id)
        conditions.append(Invoice.id.in_(lines.where(Subscription.plan_id.in_(plans))))
    return or_(*conditions)
