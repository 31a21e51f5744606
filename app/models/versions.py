"""The version of an organization's catalog: raised once by every transaction that changes what is sold or at what price.

Whoever has read the version before reading plans may use them for as long as the version stays the same.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect, update
from sqlalchemy.orm import Session

from app.models.billing_entity import BillingEntity
from app.models.catalog import (
    AddOn,
    BillableMetric,
    Charge,
    ChargeFilter,
    FixedCharge,
    MinimumCommitment,
    Plan,
    PricingUnit,
    Tax,
)
from app.models.organization import Organization
from app.models.stale_drafts import flag_stale_drafts

_CATALOG = (AddOn, BillableMetric, Charge, ChargeFilter, FixedCharge, MinimumCommitment, Plan, PricingUnit, Tax)
_CHANGED = "organizations whose catalog has changed"


def catalog_changed(db: Session, organization_id: UUID) -> None:
    """Raise the version when the transaction is committed. For changes made by a bulk statement: others are seen."""
    db.info.setdefault(_CHANGED, set()).add(organization_id)


@event.listens_for(Session, "before_flush")
def _look(db: Session, *_: Any) -> None:
    for one in (*db.new, *db.deleted, *db.dirty):
        if isinstance(one, BillingEntity):
            changed = inspect(one).attrs.taxes.history.has_changes()
        else:
            changed = isinstance(one, _CATALOG) and (one not in db.dirty or db.is_modified(one))
        if changed:
            catalog_changed(db, one.organization_id)


@event.listens_for(Session, "before_commit")
def _raise(db: Session) -> None:
    """The very last statement: the organization's row is locked by it, and nothing else is waited for after that."""
    db.flush()
    flag_stale_drafts(db)
    changed = db.info.pop(_CHANGED, None)
    if changed:
        db.execute(
            update(Organization)
            .where(Organization.id.in_(changed))
            .values(catalog_version=Organization.catalog_version + 1),
            execution_options={"synchronize_session": False},
        )
