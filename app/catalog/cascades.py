"""Changes of a plan carried over to its copies, the plans of subscriptions with prices of their own (`cascade_updates`;
billing spec 1.11, metering spec 6.9).

A picture of the plan is taken before and after the change; what is different is carried over set-wise, in the transaction
of the change: all copies follow, or nothing has changed. What follows and what stays is said in `app.core.cascades`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, delete, func, insert, select, update
from sqlalchemy.orm import Session

from app.catalog.charge_filters import Values, identity
from app.catalog.codes import free_codes
from app.catalog.copies import copy_charges, copy_filters
from app.catalog.dimensions import refresh_dimensions
from app.catalog.metrics import lock_metrics
from app.catalog.usage_thresholds import Terms, replace_of_plans, thresholds_of
from app.core.cascades import Properties, followed, followed_properties
from app.core.values import replace
from app.models import Charge, ChargeFilter, Plan, Tax, UsageThreshold, among, catalog_changed
from app.models.catalog import charge_taxes, plan_taxes

TaxIds = frozenset[UUID]


@dataclass(frozen=True, slots=True)
class _Filter:
    id: UUID
    parent_id: UUID | None
    values: Values
    properties: Properties


@dataclass(frozen=True, slots=True)
class _Charge:
    """A charge, or a copy of one, as far as copies follow. `original_id` is the charge that it is a copy of, or its own."""

    id: UUID
    original_id: UUID
    metric_id: UUID
    code: str
    charge_model: str
    properties: Properties
    accepts_target_wallet: bool
    conversion_rate: Decimal | None
    tax_ids: TaxIds
    filters: dict[UUID, _Filter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Picture:
    amount_cents: int
    tax_ids: TaxIds
    thresholds: Terms
    charges: Mapping[UUID, _Charge]


@contextmanager
def cascading(db: Session, plan: Plan, now: datetime, *, wanted: bool) -> Iterator[None]:
    """Carry what the block changes in a plan over to its copies, where that is wanted. The plan must be locked; its copies
    are locked here, before the block locks metrics.
    """
    copies = _locked_copies(db, plan) if wanted else ()
    if not copies:
        yield
        return
    before = _picture(db, plan)
    yield
    db.flush()
    _carry_over(db, plan, copies, before, _picture(db, plan), now)


def _locked_copies(db: Session, plan: Plan) -> list[UUID]:
    query = select(Plan.id).where(
        Plan.organization_id == plan.organization_id, Plan.parent_id == plan.id, Plan.deleted_at.is_(None)
    )
    return list(db.scalars(query.order_by(Plan.id).with_for_update(key_share=True)))


def _picture(db: Session, plan: Plan) -> _Picture:
    amount_cents = db.execute(select(Plan.amount_cents).where(Plan.id == plan.id)).scalar_one()
    charges = _charges(db, select(Charge.id).where(Charge.plan_id == plan.id))
    taxes = _tax_ids(db, plan_taxes, [plan.id])
    thresholds = thresholds_of(db, UsageThreshold.plan_id, [plan.id])[plan.id]
    return _Picture(amount_cents, taxes[plan.id], thresholds, {one.id: one for one in charges})


def _charges(db: Session, ids: Select[UUID]) -> list[_Charge]:
    """Charges that there are of these, whole, in three queries."""
    rows = db.execute(
        select(
            Charge.id, func.coalesce(Charge.parent_id, Charge.id), Charge.billable_metric_id, Charge.code,
            Charge.charge_model, Charge.properties, Charge.accepts_target_wallet, Charge.conversion_rate,
        ).where(Charge.id.in_(ids), Charge.deleted_at.is_(None)).order_by(Charge.position, Charge.id)
    ).all()  # fmt: skip
    taxes = _tax_ids(db, charge_taxes, [row.id for row in rows])
    charges = {row.id: _Charge(*row, tax_ids=taxes[row.id]) for row in rows}
    filters = db.execute(
        select(
            ChargeFilter.charge_id,
            ChargeFilter.id,
            ChargeFilter.parent_id,
            ChargeFilter.values,
            ChargeFilter.properties,
        )
        .where(among(ChargeFilter.charge_id, charges), ChargeFilter.deleted_at.is_(None))
        .order_by(ChargeFilter.number)
    )
    for row in filters:
        one = _Filter(row.id, row.parent_id, row.values, row.properties)
        charges[row.charge_id].filters[one.id] = one
    return list(charges.values())


def _tax_ids(db: Session, link: Table, owners: Collection[UUID]) -> defaultdict[UUID, TaxIds]:
    """The taxes that each of these has, by id."""
    owner, _ = link.columns
    rows = db.execute(
        select(owner, link.c.tax_id)
        .join(Tax, Tax.id == link.c.tax_id)
        .where(among(owner, owners), Tax.deleted_at.is_(None))
    )
    found: defaultdict[UUID, TaxIds] = defaultdict(frozenset)
    for owner_id, tax_id in rows:
        found[owner_id] |= {tax_id}
    return found


def _carry_over(
    db: Session, plan: Plan, copies: Collection[UUID], before: _Picture, after: _Picture, now: datetime
) -> None:
    if before.amount_cents != after.amount_cents:
        same = among(Plan.id, copies) & (Plan.amount_cents == before.amount_cents)
        db.execute(update(Plan).where(same).values(amount_cents=after.amount_cents, updated_at=now))
    if before.tax_ids != after.tax_ids:
        theirs = _tax_ids(db, plan_taxes, copies)
        _give_taxes(db, plan_taxes, [one for one in copies if theirs[one] == before.tax_ids], after.tax_ids)
    if before.thresholds != after.thresholds:
        of_copies = thresholds_of(db, UsageThreshold.plan_id, copies)
        same_ones = [one for one, thresholds in of_copies.items() if thresholds and thresholds == before.thresholds]
        replace_of_plans(db, plan.organization_id, same_ones, after.thresholds, now)
    gone = before.charges.keys() - after.charges.keys()
    come = [one for id_, one in after.charges.items() if id_ not in before.charges]
    changed = {id_: one for id_, one in after.charges.items() if id_ in before.charges and before.charges[id_] != one}
    _remove(db, gone, copies, now)
    if changed:
        _change(db, copies, before.charges, changed, now)
    for one in come:
        _add(db, one, copies, now)
    touched = [*(before.charges[id_] for id_ in (*gone, *changed)), *come, *changed.values()]
    if touched:
        metrics = lock_metrics(db, plan.organization_id, {one.metric_id for one in touched})
        refresh_dimensions(db, metrics.values())
    catalog_changed(db, plan.organization_id)


def _give_taxes(db: Session, link: Table, owners: Collection[UUID], tax_ids: TaxIds) -> None:
    """Make these the taxes of each of the owners."""
    owner, _ = link.columns
    db.execute(delete(link).where(among(owner, owners)))
    rows = [{owner.name: owner_id, "tax_id": tax_id} for owner_id in owners for tax_id in tax_ids]
    if rows:
        db.execute(insert(link), rows)


def _remove(db: Session, gone: Collection[UUID], copies: Collection[UUID], now: datetime) -> None:
    """A charge that is removed from the plan is removed from its copies, whatever it costs there."""
    removed = db.scalars(
        update(Charge)
        .where(among(Charge.parent_id, gone), among(Charge.plan_id, copies), Charge.deleted_at.is_(None))
        .values(deleted_at=now, updated_at=now)
        .returning(Charge.id)
    ).all()
    _remove_filters(db, ChargeFilter.charge_id, removed, now)


def _remove_filters(db: Session, column: Any, ids: Collection[UUID], now: datetime) -> None:
    if ids:
        filters = update(ChargeFilter).where(among(column, ids), ChargeFilter.deleted_at.is_(None))
        db.execute(filters.values(deleted_at=now, updated_at=now))


def _add(db: Session, charge: _Charge, copies: Collection[UUID], now: datetime) -> None:
    """A charge that is added to the plan is added to its copies. One that has kept a charge of the same code, which the
    plan has no more, gives it another."""
    taken: dict[UUID, set[str]] = {}
    clashing = select(Charge.plan_id).where(
        among(Charge.plan_id, copies), Charge.code == charge.code, Charge.deleted_at.is_(None)
    )
    codes = select(Charge.plan_id, Charge.code).where(Charge.plan_id.in_(clashing), Charge.deleted_at.is_(None))
    for plan_id, code in db.execute(codes):
        taken.setdefault(plan_id, set()).add(code)
    copy_charges(db, [charge.id], [one for one in copies if one not in taken], now)
    for plan_id, theirs in taken.items():
        copy_charges(db, [charge.id], [plan_id], now, code=next(free_codes(charge.code, theirs)))


def _change(
    db: Session,
    copies: Collection[UUID],
    before: Mapping[UUID, _Charge],
    after: Mapping[UUID, _Charge],
    now: datetime,
) -> None:
    """Change the copies of the charges that are in `after`."""
    ids = select(Charge.id).where(among(Charge.parent_id, after), among(Charge.plan_id, copies))
    charges: list[dict[str, Any]] = []
    filters: list[dict[str, Any]] = []
    gone: list[UUID] = []
    lacking: defaultdict[frozenset[UUID], list[UUID]] = defaultdict(list)
    taxed: defaultdict[TaxIds, list[UUID]] = defaultdict(list)
    for child in _charges(db, ids):
        old, new = before[child.original_id], after[child.original_id]
        followed_charge = _followed_charge(child, old, new)
        if followed_charge != child:
            charges.append(
                {
                    "id": child.id,
                    "properties": followed_charge.properties,
                    "accepts_target_wallet": followed_charge.accepts_target_wallet,
                    "conversion_rate": followed_charge.conversion_rate,
                    "updated_at": now,
                }
            )
        if followed_charge.tax_ids != child.tax_ids:
            taxed[followed_charge.tax_ids].append(child.id)
        for id_, one in followed_charge.filters.items():
            if one != child.filters[id_]:
                filters.append({"id": id_, "values": one.values, "properties": one.properties, "updated_at": now})
        gone += child.filters.keys() - followed_charge.filters.keys()
        lacking[_lacking(followed_charge, old, new)].append(child.id)
    for model, rows in ((Charge, charges), (ChargeFilter, filters)):
        if rows:
            db.execute(update(model), rows)
    _remove_filters(db, ChargeFilter.id, gone, now)
    for tax_ids, owners in taxed.items():
        _give_taxes(db, charge_taxes, owners, tax_ids)
    for filter_ids, owners in lacking.items():
        if filter_ids:
            copy_filters(db, filter_ids, owners, now)


def _followed_charge(child: _Charge, old: _Charge, new: _Charge) -> _Charge:
    """A copy as it is after the change. A filter that is removed from the charge is removed from it; those that have come
    are not there yet."""
    same_model = child.charge_model == new.charge_model
    return replace(
        child,
        properties=followed_properties(child.properties, old.properties, new.properties, same_model=same_model),
        accepts_target_wallet=followed(
            child.accepts_target_wallet, old.accepts_target_wallet, new.accepts_target_wallet
        ),
        conversion_rate=followed(child.conversion_rate, old.conversion_rate, new.conversion_rate),
        tax_ids=followed(child.tax_ids, old.tax_ids, new.tax_ids),
        filters={
            id_: _followed_filter(one, old, new, same_model=same_model)
            for id_, one in child.filters.items()
            if one.parent_id not in old.filters.keys() - new.filters.keys()
        },
    )


def _followed_filter(child: _Filter, old: _Charge, new: _Charge, *, same_model: bool) -> _Filter:
    if child.parent_id not in old.filters or child.parent_id not in new.filters:
        return child
    was, is_ = old.filters[child.parent_id], new.filters[child.parent_id]
    return replace(
        child,
        values=is_.values if identity(child.values) == identity(was.values) else child.values,
        properties=followed_properties(child.properties, was.properties, is_.properties, same_model=same_model),
    )


def _lacking(child: _Charge, old: _Charge, new: _Charge) -> frozenset[UUID]:
    """The filters that have come and that a copy has no filter of the same values for."""
    theirs = {identity(one.values) for one in child.filters.values()}
    come = (one for id_, one in new.filters.items() if id_ not in old.filters)
    return frozenset(one.id for one in come if identity(one.values) not in theirs)
