"""Add-ons: finding them, and the rules for making and changing them (billing spec 5.4)."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session, selectinload

from app.catalog.taxes import taxes_by_code
from app.errors import NotFound, Problems
from app.models import AddOn, FixedCharge, catalog_changed
from app.validation import Changes, assign, check_code, check_currency, check_mandatory, empty

ADD_ON_PARTS = (selectinload(AddOn.taxes),)
"""What must be loaded with an add-on to show it whole."""

_MANDATORY = ("name", "code", "amount_cents", "amount_currency")
_EDITABLE = (*_MANDATORY, "invoice_display_name", "description")


def live_add_ons(organization_id: UUID) -> Select[AddOn]:
    """An organization's add-ons that have not been deleted, newest first, whole."""
    return (
        select(AddOn)
        .where(AddOn.organization_id == organization_id, AddOn.deleted_at.is_(None))
        .order_by(AddOn.created_at.desc(), AddOn.id)
        .options(*ADD_ON_PARTS)
    )


def find_add_on(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> AddOn:
    """The add-on with a code.

    Raises:
        NotFound: `add_on_not_found`.
    """
    query = live_add_ons(organization_id).where(AddOn.code == code)
    add_on = db.scalar(query.with_for_update(of=AddOn) if lock else query)
    if add_on is None:
        raise NotFound("add_on")
    return add_on


def hold_add_ons(db: Session, organization_id: UUID, ids: Collection[UUID], codes: Collection[str]) -> list[AddOn]:
    """Those of the add-ons with these ids or codes that there are; none of them is deleted before the transaction ends."""
    query = (
        live_add_ons(organization_id)
        .where(or_(AddOn.id.in_(ids), AddOn.code.in_(codes)))
        .order_by(None)
        .order_by(AddOn.id)
        .with_for_update(of=AddOn, read=True, key_share=True)
    )
    return list(db.scalars(query)) if ids or codes else []


def create_add_on(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> AddOn:
    """A new add-on.

    Raises:
        NotFound: `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    _check(db, organization_id, changes, None)
    add_on = AddOn(organization_id=organization_id, taxes=[], created_at=now)
    _write(db, add_on, changes, now)
    return add_on


def update_add_on(db: Session, add_on: AddOn, changes: Changes, now: datetime) -> None:
    """Change an add-on; fees that were made keep what they say.

    Raises:
        NotFound: `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    _check(db, add_on.organization_id, changes, add_on)
    _write(db, add_on, changes, now)


def delete_add_on(db: Session, add_on: AddOn, now: datetime) -> None:
    """Delete an add-on, and its fixed charges from all plans: what has not been billed of them is not billed any more.
    Past fees stay readable."""
    add_on.deleted_at = add_on.updated_at = now
    db.execute(
        update(FixedCharge)
        .where(
            FixedCharge.organization_id == add_on.organization_id,
            FixedCharge.add_on_id == add_on.id,
            FixedCharge.deleted_at.is_(None),
        )
        .values(deleted_at=now, updated_at=now)
    )
    catalog_changed(db, add_on.organization_id)


def _check(db: Session, organization_id: UUID, changes: Changes, add_on: AddOn | None) -> None:
    problems = Problems()
    check_mandatory(problems, changes, _MANDATORY, creating=add_on is None)
    check_code(problems, changes)
    check_currency(problems, changes, "amount_currency")
    code = changes.get("code")
    if not empty(code) and (add_on is None or code != add_on.code):
        taken = db.scalar(select(live_add_ons(organization_id).where(AddOn.code == code).exists()))
        if taken:
            problems.add("code", "value_already_exist")
    problems.check()


def _write(db: Session, add_on: AddOn, changes: Changes, now: datetime) -> None:
    assign(add_on, changes, _EDITABLE)
    if "tax_codes" in changes:
        add_on.taxes = taxes_by_code(db, add_on.organization_id, changes["tax_codes"] or ())
    add_on.updated_at = now
    db.add(add_on)
    db.flush()
