"""Pricing units: finding them, and the rules for making, changing and deleting them (metering spec 3.13)."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.core.money import round_half_up
from app.errors import NotAllowed, NotFound, Problems
from app.models import Charge, Plan, PricingUnit
from app.validation import Changes, assign, check_code, check_mandatory, empty

LARGEST_CONVERSION_RATE = Decimal(10**12)
CONVERSION_RATE_PLACES = 15
_MANDATORY = ("code", "name", "short_name")


def live_pricing_units(organization_id: UUID) -> Select[PricingUnit]:
    """An organization's pricing units that have not been deleted, newest first."""
    return (
        select(PricingUnit)
        .where(PricingUnit.organization_id == organization_id, PricingUnit.deleted_at.is_(None))
        .order_by(PricingUnit.created_at.desc(), PricingUnit.id)
    )


def find_pricing_unit(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> PricingUnit:
    """The pricing unit with a code.

    Raises:
        NotFound: `pricing_unit_not_found`.
    """
    query = live_pricing_units(organization_id).where(PricingUnit.code == code)
    unit = db.scalar(query.with_for_update() if lock else query)
    if unit is None:
        raise NotFound("pricing_unit")
    return unit


def pricing_units_by_code(db: Session, organization_id: UUID, codes: Collection[str]) -> dict[str, PricingUnit]:
    """The pricing units with these codes, to price charges in. They cannot be deleted before the transaction ends.

    Raises:
        NotFound: `pricing_unit_not_found`, when one code is unknown.
    """
    if not codes:
        return {}
    query = live_pricing_units(organization_id).where(PricingUnit.code.in_(codes))
    units = {unit.code: unit for unit in db.scalars(query.with_for_update(read=True))}
    if not units.keys() >= set(codes):
        raise NotFound("pricing_unit")
    return units


def create_pricing_unit(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> PricingUnit:
    """A new pricing unit.

    Raises:
        Invalid: a field breaks a rule.
    """
    _check(db, organization_id, changes, None)
    unit = PricingUnit(organization_id=organization_id, created_at=now)
    return _write(db, unit, changes, now)


def update_pricing_unit(db: Session, unit: PricingUnit, changes: Changes, now: datetime) -> PricingUnit:
    """Change a pricing unit. Fees keep the code and the short name they were made with.

    Raises:
        Invalid: a field breaks a rule.
    """
    _check(db, unit.organization_id, changes, unit)
    return _write(db, unit, changes, now)


def delete_pricing_unit(db: Session, unit: PricingUnit, now: datetime) -> None:
    """Delete a pricing unit, which must be locked.

    Raises:
        NotAllowed: `attached_to_a_charge`: a charge of a plan is priced in it.
    """
    charges = (
        select(Charge.id)
        .join(Plan, Plan.id == Charge.plan_id)
        .where(Charge.pricing_unit_id == unit.id, Charge.deleted_at.is_(None), Plan.deleted_at.is_(None))
    )
    if db.scalar(charges.limit(1)) is not None:
        raise NotAllowed("attached_to_a_charge")
    unit.deleted_at = unit.updated_at = now


def check_conversion_rate(problems: Problems, rate: Decimal | None) -> None:
    """Note what is wrong with what a pricing unit is worth: it is above 0, and stored with all its digits."""
    if rate is None:
        problems.add("conversion_rate", "value_is_mandatory")
    elif (
        not rate.is_finite()
        or not 0 < rate <= LARGEST_CONVERSION_RATE
        or round_half_up(rate, CONVERSION_RATE_PLACES) != rate
    ):
        problems.add("conversion_rate", "value_is_out_of_range")


def _check(db: Session, organization_id: UUID, changes: Changes, unit: PricingUnit | None) -> None:
    problems = Problems()
    check_mandatory(problems, changes, _MANDATORY, creating=unit is None)
    check_code(problems, changes)
    code = changes.get("code")
    if not empty(code) and (unit is None or code != unit.code):
        taken = db.scalar(select(live_pricing_units(organization_id).where(PricingUnit.code == code).exists()))
        if taken:
            problems.add("code", "value_already_exist")
    problems.check()


def _write(db: Session, unit: PricingUnit, changes: Changes, now: datetime) -> PricingUnit:
    assign(unit, changes, (*_MANDATORY, "description"))
    unit.updated_at = now
    db.add(unit)
    db.flush()
    return unit
