"""Taxes: finding them, and attaching them by code (billing spec 4.1)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Tax, catalog_changed
from app.models.catalog import billing_entity_taxes


def live_taxes(organization_id: UUID) -> Select[Tax]:
    """An organization's taxes that have not been deleted, newest first."""
    return (
        select(Tax)
        .where(Tax.organization_id == organization_id, Tax.deleted_at.is_(None))
        .order_by(Tax.created_at.desc(), Tax.id)
    )


def find_tax(db: Session, organization_id: UUID, code: str) -> Tax:
    """The tax with a code.

    Raises:
        NotFound: `tax_not_found`.
    """
    tax = db.scalar(live_taxes(organization_id).where(Tax.code == code))
    if tax is None:
        raise NotFound("tax")
    return tax


def taxes_by_code(db: Session, organization_id: UUID, codes: Sequence[str]) -> list[Tax]:
    """The taxes with these codes, to be attached to something.

    Raises:
        NotFound: `tax_not_found`, when one code is unknown.
    """
    wanted = set(codes)
    taxes = list(db.scalars(live_taxes(organization_id).where(Tax.code.in_(wanted)))) if wanted else []
    if len(taxes) != len(wanted):
        raise NotFound("tax")
    return sorted(taxes, key=lambda tax: tax.code)


def apply_to_organization(db: Session, tax: Tax, applied: bool) -> None:
    """Give a tax to the default billing entity, or take it from there (billing spec 4.1)."""
    link = billing_entity_taxes
    if applied:
        given = {"billing_entity_id": tax.organization_id, "tax_id": tax.id}
        db.execute(insert(link).values(given).on_conflict_do_nothing())
    else:
        db.execute(delete(link).where(link.c.billing_entity_id == tax.organization_id, link.c.tax_id == tax.id))
    catalog_changed(db, tax.organization_id)
    db.refresh(tax, ["applied_to_organization"])


def delete_tax(tax: Tax, now: datetime) -> None:
    """Delete a tax. Finalized invoices keep their copy of its name and rate."""
    tax.deleted_at = now
    tax.updated_at = now
