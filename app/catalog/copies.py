"""Copies of plans and of their charges, made set-wise inside the database: every column that is not named here is copied.

The statements are put together once, when they are first needed.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    FromClause,
    Insert,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    func,
    insert,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.sql.dml import ReturningInsert

from app.catalog.fixed_charge_copies import copy_fixed_charges
from app.models import Base, Charge, ChargeFilter, FixedCharge, Plan
from app.models.catalog import charge_taxes, plan_taxes


def copy_plan(db: Session, plan: Plan, now: datetime) -> UUID:
    """Copy a plan for one subscription, with its taxes, charges and fixed charges; returns the id of the copy, which
    names the plan as its parent. The plan must be locked, and the metrics of its charges too.
    """
    copy_id = uuid4()
    for statement in (_plan_copy(), _plan_taxes_copy()):
        db.execute(statement, {"plan_id": plan.id, "copy_id": copy_id, "now": now})
    live = select(Charge.id).where(Charge.plan_id == plan.id, Charge.deleted_at.is_(None))
    copy_charges(db, db.scalars(live).all(), [copy_id], now)
    fixed = db.scalars(
        select(FixedCharge)
        .where(FixedCharge.plan_id == plan.id, FixedCharge.deleted_at.is_(None))
        .order_by(FixedCharge.position, FixedCharge.id)
        .options(selectinload(FixedCharge.taxes))
    ).all()
    if fixed:
        copy_fixed_charges(db, fixed, db.scalars(select(Plan).where(Plan.id == copy_id)), now)
    return copy_id


def copy_charges(
    db: Session, charge_ids: Collection[UUID], plan_ids: Collection[UUID], now: datetime, *, code: str | None = None
) -> None:
    """Copy each of the charges, with its filters and taxes, to each of the plans, after the charges that are there already;
    one charge may get another `code`."""
    if not charge_ids or not plan_ids:
        return
    what = {"charges": list(charge_ids), "plans": list(plan_ids), "code": code, "now": now}
    copies = db.scalars(_charges_copy(), what).all()
    copy_filters(db, None, copies, now)
    db.execute(_charge_taxes_copy(), {"copies": copies})


def copy_filters(db: Session, filter_ids: Collection[UUID] | None, copies: Collection[UUID], now: datetime) -> None:
    """Add to copies of charges the filters, or these filters, of what they are copies of: after those they have already."""
    filters = None if filter_ids is None else list(filter_ids)
    db.execute(_filters_copy(), {"copies": list(copies), "filters": filters, "now": now})


@cache
def _plan_copy() -> Insert:
    plans = _table(Plan).alias("of")
    of_plan = select(plans).where(plans.c.id == _id("plan_id")).subquery()
    return _insert(Plan, of_plan, {"id": _id("copy_id"), "parent_id": of_plan.c.id, "deletion_due_at": null()})


@cache
def _plan_taxes_copy() -> Insert:
    theirs = select(_id("copy_id"), plan_taxes.c.tax_id).where(plan_taxes.c.plan_id == _id("plan_id"))
    return insert(plan_taxes).from_select(["plan_id", "tax_id"], theirs)


@cache
def _charges_copy() -> ReturningInsert[UUID]:
    charges, plans = _table(Charge).alias("of"), _table(Plan).alias("target")
    own = _table(Charge).alias("own")
    last = select(func.max(own.c.position).label("position")).where(
        own.c.plan_id == plans.c.id, own.c.deleted_at.is_(None)
    )
    after = last.lateral("last")
    turn = func.row_number().over(partition_by=plans.c.id, order_by=charges.c.position)
    pairs = (
        select(
            charges,
            plans.c.id.label("target_id"),
            func.coalesce(after.c.position + turn, charges.c.position).label("next_position"),
        )
        .select_from(charges)
        .join(plans, true())
        .join(after, true())
        .where(charges.c.id == any_(_ids("charges")), plans.c.id == any_(_ids("plans")))
        .subquery()
    )
    code = func.coalesce(bindparam("code", type_=Text), pairs.c.code)
    new = {
        "plan_id": pairs.c.target_id,
        "parent_id": pairs.c.id,
        "code": code,
        "position": pairs.c.next_position,
    }
    return _insert(Charge, pairs, new).returning(_table(Charge).c.id)


@cache
def _charge_taxes_copy() -> Insert:
    copies = _table(Charge).alias("copy")
    theirs = (
        select(copies.c.id, charge_taxes.c.tax_id)
        .join_from(copies, charge_taxes, charge_taxes.c.charge_id == copies.c.parent_id)
        .where(copies.c.id == any_(_ids("copies")))
    )
    return insert(charge_taxes).from_select(["charge_id", "tax_id"], theirs)


@cache
def _filters_copy() -> Insert:
    filters, charges = _table(ChargeFilter).alias("of"), _table(Charge).alias("copy")
    own = _table(ChargeFilter).alias("own")
    last = (
        select(func.max(own.c.number).label("number"), func.max(own.c.position).label("position"))
        .where(own.c.charge_id == charges.c.id)
        .lateral("last")
    )
    turn = {
        name: func.row_number().over(partition_by=charges.c.id, order_by=filters.c[name])
        for name in ("number", "position")
    }
    wanted = _ids("filters")
    pairs = (
        select(
            filters,
            charges.c.id.label("copy_id"),
            (func.coalesce(last.c.number, 0) + turn["number"]).label("next_number"),
            (func.coalesce(last.c.position, -1) + turn["position"]).label("next_position"),
        )
        .select_from(filters)
        .join(charges, charges.c.parent_id == filters.c.charge_id)
        .join(last, true())
        .where(
            charges.c.id == any_(_ids("copies")),
            filters.c.deleted_at.is_(None),
            or_(wanted.is_(None), filters.c.id == any_(wanted)),
        )
        .subquery()
    )
    return _insert(
        ChargeFilter,
        pairs,
        {
            "charge_id": pairs.c.copy_id,
            "parent_id": pairs.c.id,
            "number": pairs.c.next_number,
            "position": pairs.c.next_position,
        },
    )


def _insert(model: type[Base], source: FromClause, new: Mapping[str, ColumnElement[Any]]) -> Insert:
    """Inserts the rows of the source with an id of their own, made `now`, and with these columns anew."""
    table, now = _table(model), bindparam("now", type_=DateTime(timezone=True))
    made = {"id": func.gen_random_uuid(), "created_at": now, "updated_at": now, **new}
    columns = [made.get(column.name, source.c[column.name]).label(column.name) for column in table.c]
    return insert(table).from_select([column.name for column in table.c], select(*columns))


def _table(model: type[Base]) -> Table:
    return cast("Table", model.__table__)


def _id(name: str) -> BindParameter[UUID]:
    return bindparam(name, type_=Uuid)


def _ids(name: str) -> BindParameter[Any]:
    return bindparam(name, type_=ARRAY(Uuid))
