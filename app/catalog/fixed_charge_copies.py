"""Fixed charges on copies of a plan, the plans of subscriptions with prices of their own (billing spec 1.11).

A copy names what it was made from as its parent; units are noted under the parent, so a subscription that gets a plan of
its own keeps what it has. A copy follows its plan only in a cascade, and only where it still has what the plan had.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from app.catalog.codes import list_codes
from app.customers.fixed_units import NewUnits
from app.models import FixedCharge, Plan


@dataclass(frozen=True, slots=True)
class Former:
    """What a fixed charge was, as far as copies follow."""

    properties: Mapping[str, Any]
    units: Decimal
    taxes: frozenset[UUID]

    @classmethod
    def of(cls, charge: FixedCharge) -> "Former":
        return cls(charge.properties, charge.units, frozenset(tax.id for tax in charge.taxes))


def copy_fixed_charges(
    db: Session, charges: Sequence[FixedCharge], plans: Iterable[Plan], now: datetime
) -> list[FixedCharge]:
    """Copy these fixed charges, loaded with their taxes, to the end of each plan's list. The plans must be locked."""
    by_id = {plan.id: plan for plan in plans}
    present: dict[UUID, list[tuple[str, int]]] = defaultdict(list)
    for plan_id, code, position in db.execute(
        select(FixedCharge.plan_id, FixedCharge.code, FixedCharge.position).where(
            FixedCharge.plan_id.in_(by_id), FixedCharge.deleted_at.is_(None)
        )
    ):
        present[plan_id].append((code, position))
    copies = []
    for plan in by_id.values():
        taken = [code for code, _ in present[plan.id]]
        codes = list_codes([None] * len(charges), [charge.code for charge in charges], taken)
        first = max((position for _, position in present[plan.id]), default=-1) + 1
        for position, (charge, code) in enumerate(zip(charges, codes, strict=True), start=first):
            copies.append(_copy(charge, plan, code, position, now))
    db.add_all(copies)
    db.flush()
    return copies


def cascade(
    db: Session,
    plan: Plan,
    new: Sequence[FixedCharge],
    changed: Mapping[UUID, tuple[Former, FixedCharge]],
    removed: Sequence[UUID],
    now: datetime,
    *,
    at_once: Mapping[UUID, bool],
) -> dict[UUID, list[NewUnits]]:
    """Carry changes of a plan's fixed charges over to its copies: what is new is added, what is removed is removed, and
    what is changed follows where it still was as in the plan; names stay. Returns the new units by the id of the copy.

    `changed` has what was beside what is, by id; `at_once` has those whose units are new, and whether they count from now.
    """
    query = select(Plan).where(
        Plan.organization_id == plan.organization_id, Plan.parent_id == plan.id, Plan.deleted_at.is_(None)
    )
    plans = db.scalars(query.order_by(Plan.id).with_for_update(of=Plan)).all()
    units: dict[UUID, list[NewUnits]] = defaultdict(list)
    if not plans:
        return units
    copies = db.scalars(
        select(FixedCharge)
        .where(
            FixedCharge.organization_id == plan.organization_id,
            FixedCharge.parent_id.in_([*changed, *removed]),
            FixedCharge.plan_id.in_([one.id for one in plans]),
            FixedCharge.deleted_at.is_(None),
        )
        .options(selectinload(FixedCharge.taxes))
        .execution_options(populate_existing=True)
    )
    for copy in copies:
        if copy.parent_id in removed:
            copy.deleted_at = copy.updated_at = now
        elif copy.parent_id is not None:
            former, charge = changed[copy.parent_id]
            if _follow(copy, former, charge, now) and charge.id in at_once:
                units[copy.plan_id].append(_new_units(copy, at_once=at_once[charge.id]))
    for copy in copy_fixed_charges(db, new, plans, now) if new else ():
        if copy.parent_id is not None:
            units[copy.plan_id].append(_new_units(copy, at_once=at_once[copy.parent_id]))
    return units


def _follow(copy: FixedCharge, former: Former, charge: FixedCharge, now: datetime) -> bool:
    """Change a copy where it was as its parent; tells whether its units were."""
    own = Former.of(copy)
    if own.properties == former.properties and copy.charge_model == charge.charge_model:
        copy.properties = charge.properties
    if own.taxes == former.taxes:
        copy.taxes = list(charge.taxes)
    copy.updated_at = now
    if own.units != former.units:
        return False
    copy.units = charge.units
    return True


def _new_units(copy: FixedCharge, *, at_once: bool) -> NewUnits:
    return NewUnits(copy.root_id, copy.units, copy.pay_in_advance, at_once)


def _copy(charge: FixedCharge, plan: Plan, code: str, position: int, now: datetime) -> FixedCharge:
    same = (
        "organization_id",
        "add_on_id",
        "invoice_display_name",
        "charge_model",
        "pay_in_advance",
        "prorated",
        "units",
    )
    return FixedCharge(
        id=uuid4(),
        plan_id=plan.id,
        parent_id=charge.id,
        code=code,
        position=position,
        properties=charge.properties,
        taxes=list(charge.taxes),
        created_at=now,
        updated_at=now,
        **{name: getattr(charge, name) for name in same},
    )
