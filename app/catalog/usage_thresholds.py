"""Usage thresholds of plans and of single subscriptions: checked, written, and copied (billing spec 8.1).

An organization with thresholds has its usage watched (`app.billing.usage_watch`), and subscriptions whose thresholds have
changed are looked at though no event comes.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.catalog.changes import watch_usage
from app.errors import Problems
from app.models import Plan, Subscription, UsageCheck, UsageMark, UsageThreshold, among
from app.validation import Changes

FIELD = "usage_thresholds"

Kind = tuple[int, bool]
"""What tells the thresholds of one owner apart: amount, and whether it recurs."""
Terms = dict[Kind, str | None]
"""Thresholds of one owner with their names."""


def check_thresholds(problems: Problems, sent: Sequence[Changes] | None) -> None:
    """Note what is wrong with a list of thresholds, where one was sent."""
    amounts = [one.get("amount_cents") for one in sent or ()]
    if any(amount is None for amount in amounts):
        problems.add(FIELD, "missing_amount_cents")
    if any(amount is not None and amount <= 0 for amount in amounts):
        problems.add(FIELD, "value_is_out_of_range")
    kinds = [_kind(one) for one in sent or () if one.get("amount_cents") is not None]
    if len(set(kinds)) < len(kinds):
        problems.add(FIELD, "duplicated_values")
    elif sum(recurring for _, recurring in kinds) > 1:
        problems.add(FIELD, "multiple_recurring_thresholds")


def write_thresholds(db: Session, owner: Plan | Subscription, sent: Sequence[Changes] | None, now: datetime) -> None:
    """The thresholds of a plan or a subscription as they were sent, and no others. One of the same amount stays the same,
    and keeps its name unless another was sent. They must have been checked, and the owner stored."""
    wanted: dict[Kind, Changes] = {_kind(one): one for one in sent or ()}
    known = {(one.amount_cents, one.recurring): one for one in db.scalars(_live().where(_owned_by(owner)))}
    changed = wanted.keys() != known.keys()
    for kind, row in known.items():
        if kind not in wanted:
            row.deleted_at = row.updated_at = now
        elif "threshold_display_name" in wanted[kind]:
            row.threshold_display_name, row.updated_at = wanted[kind]["threshold_display_name"], now
    db.flush()
    for kind, one in wanted.items():
        if kind not in known:
            db.add(_threshold(owner, kind, one.get("threshold_display_name"), now))
    db.flush()
    if changed:
        if wanted:
            watch_usage(db, owner.organization_id)
        ask_to_look(db, owner.organization_id, _affected(owner))


def take_over_thresholds(db: Session, before: Subscription, after: Subscription, now: datetime) -> None:
    """Give a subscription that follows another the thresholds that this one has of its own. Both must be stored."""
    for kind, name in thresholds_of(db, UsageThreshold.subscription_id, [before.id])[before.id].items():
        db.add(_threshold(after, kind, name, now))


def thresholds_of(db: Session, owner: InstrumentedAttribute[UUID | None], ids: Collection[UUID]) -> dict[UUID, Terms]:
    """The thresholds of each of these owners, `owner` being the column that names them."""
    found: dict[UUID, Terms] = {one: {} for one in ids}
    for row in db.scalars(_live().where(among(owner, ids))):
        found[getattr(row, owner.key)][row.amount_cents, row.recurring] = row.threshold_display_name
    return found


def replace_of_plans(
    db: Session, organization_id: UUID, plan_ids: Collection[UUID], terms: Terms, now: datetime
) -> None:
    """Give each of these plans the same thresholds; one of the same amount stays the same one."""
    theirs = thresholds_of(db, UsageThreshold.plan_id, plan_ids)
    rows = db.scalars(_live().where(among(UsageThreshold.plan_id, plan_ids)))
    for row in rows:
        if (row.amount_cents, row.recurring) not in terms:
            row.deleted_at = row.updated_at = now
        else:
            row.threshold_display_name = terms[row.amount_cents, row.recurring]
    db.flush()
    new = [
        {
            "id": uuid4(),
            "organization_id": organization_id,
            "plan_id": plan_id,
            "amount_cents": amount,
            "recurring": recurring,
            "threshold_display_name": terms[amount, recurring],
            "created_at": now,
            "updated_at": now,
        }
        for plan_id in plan_ids
        for amount, recurring in terms
        if (amount, recurring) not in theirs[plan_id]
    ]
    if new:
        db.execute(insert(UsageThreshold), new)
    ask_to_look(db, organization_id, among(Subscription.plan_id, plan_ids))


def ask_to_look(db: Session, organization_id: UUID, of: ColumnElement[bool]) -> None:
    """Have the usage of some active subscriptions looked at soon, though no event comes, where usage is watched at all."""
    active = (
        select(Subscription.id, Subscription.organization_id)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.status == "active",
            of,
            exists().where(UsageMark.organization_id == organization_id),
        )
        .order_by(Subscription.id)
    )
    ask = insert(UsageCheck).from_select(["subscription_id", "organization_id"], active)
    db.execute(
        ask.on_conflict_do_update(
            index_elements=[UsageCheck.subscription_id], set_={"asked_at": func.clock_timestamp()}
        )
    )


def same_thresholds(rows: Iterable[UsageThreshold], sent: Sequence[Changes]) -> bool:
    """Whether thresholds are already as they were sent."""
    known = {(one.amount_cents, one.recurring): one.threshold_display_name for one in rows}
    return known.keys() == {_kind(one) for one in sent} and all(
        one.get("threshold_display_name", known[_kind(one)]) == known[_kind(one)] for one in sent
    )


def _kind(sent: Changes) -> Kind:
    return sent.get("amount_cents") or 0, sent.get("recurring") is True


def _live() -> Select[UsageThreshold]:
    return select(UsageThreshold).where(UsageThreshold.deleted_at.is_(None))


def _owned_by(owner: Plan | Subscription) -> ColumnElement[bool]:
    own = UsageThreshold.plan_id if isinstance(owner, Plan) else UsageThreshold.subscription_id
    return own == owner.id


def _threshold(owner: Plan | Subscription, kind: Kind, name: str | None, now: datetime) -> UsageThreshold:
    return UsageThreshold(
        organization_id=owner.organization_id,
        plan_id=owner.id if isinstance(owner, Plan) else None,
        subscription_id=owner.id if isinstance(owner, Subscription) else None,
        amount_cents=kind[0],
        recurring=kind[1],
        threshold_display_name=name,
        created_at=now,
        updated_at=now,
    )


def _affected(owner: Plan | Subscription) -> ColumnElement[bool]:
    if isinstance(owner, Subscription):
        return Subscription.id == owner.id
    own = select(Plan.id).where(or_(Plan.id == owner.id, Plan.parent_id == owner.id))
    return Subscription.plan_id.in_(own)
