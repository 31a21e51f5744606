"""Plans: finding them, and the rules for making and changing them (billing spec 1.1, 1.11)."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, union_all, update
from sqlalchemy.orm import Session, aliased, selectinload

from app.catalog.cascades import cascading
from app.catalog.charges import CHARGE_PARTS, write_charges
from app.catalog.fixed_charges import FIXED_CHARGE_PARTS, write_fixed_charges
from app.catalog.taxes import taxes_by_code
from app.catalog.usage_thresholds import check_thresholds, write_thresholds
from app.core.periods import Interval
from app.errors import NotFound, Problems
from app.models import MinimumCommitment, Organization, Plan, Subscription
from app.models.customer import OPEN
from app.validation import Changes, assign, check_code, check_currency, check_mandatory, check_metadata, empty

PLAN_PARTS = (
    selectinload(Plan.taxes),
    selectinload(Plan.charges).options(*CHARGE_PARTS),
    selectinload(Plan.minimum_commitment).selectinload(MinimumCommitment.taxes),
    selectinload(Plan.fixed_charges).options(*FIXED_CHARGE_PARTS),
    selectinload(Plan.usage_thresholds),
    selectinload(Plan.parents_usage_thresholds),
)
"""What must be loaded with a plan to show it whole."""

_MANDATORY = ("name", "code", "amount_cents", "amount_currency", "pay_in_advance")
_EDITABLE_IN_USE = ("name", "invoice_display_name", "description", "amount_cents")
_MONTHLY = ("bill_charges_monthly", "bill_fixed_charges_monthly")
_WITH_MONTHS = (Interval.SEMIANNUAL, Interval.YEARLY)
_FROZEN_IN_USE = ("code", "interval", "amount_currency", "pay_in_advance", "trial_period", *_MONTHLY)
LONGEST_KEY, LONGEST_VALUE = 100, 255
"""How many characters a key and a value of a plan's metadata may have."""


def live_plans(organization_id: UUID) -> Select[Plan]:
    """An organization's plans that can be sold, newest first, whole: none that is deleted or to be deleted, no copies."""
    return bare_plans(organization_id).options(*PLAN_PARTS)


def find_plan(db: Session, organization_id: UUID, code: str, *, lock: bool = False, share: bool = False) -> Plan:
    """The plan with a code, with its charges and taxes. With `share` it is kept from being changed or deleted until the
    transaction ends: any number may subscribe to it meanwhile.

    Raises:
        NotFound: `plan_not_found`.
    """
    return _find(db, live_plans(organization_id), code, lock=lock, share=share)


def find_bare_plan(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> Plan:
    """The plan with a code, without its charges and taxes: for what is done to one of them.

    Raises:
        NotFound: `plan_not_found`.
    """
    return _find(db, bare_plans(organization_id), code, lock=lock)


def load_plan(db: Session, organization_id: UUID, plan_id: UUID) -> Plan:
    """A plan, whole and as it is stored now."""
    query = select(Plan).where(Plan.organization_id == organization_id, Plan.id == plan_id).options(*PLAN_PARTS)
    return db.scalars(query.execution_options(populate_existing=True)).one()


def bare_plans(organization_id: UUID) -> Select[Plan]:
    """The same plans without their charges and taxes."""
    return (
        select(Plan)
        .where(
            Plan.organization_id == organization_id,
            Plan.deleted_at.is_(None),
            Plan.deletion_due_at.is_(None),
            Plan.parent_id.is_(None),
        )
        .order_by(Plan.created_at.desc(), Plan.id)
    )


def _find(db: Session, plans: Select[Plan], code: str, *, lock: bool, share: bool = False) -> Plan:
    query = plans.where(Plan.code == code)
    plan = db.scalar(query.with_for_update(of=Plan, read=share, key_share=share) if lock or share else query)
    if plan is None:
        raise NotFound("plan")
    return plan


def has_subscriptions(db: Session, plan: Plan) -> bool:
    """Whether any subscription is, or was, on the plan or a copy of it."""
    return db.scalar(_subscriptions(plan).limit(1)) is not None


def _subscriptions(plan: Plan) -> Select[UUID]:
    own = select(Plan.id).where(or_(Plan.id == plan.id, Plan.parent_id == plan.id))
    return select(Subscription.id).where(
        Subscription.organization_id == plan.organization_id, Subscription.plan_id.in_(own)
    )


def create_plan(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> Plan:
    """A new plan with its charges and fixed charges.

    Raises:
        NotFound: `billable_metrics_not_found`, `add_ons_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    _check(db, organization_id, changes, None)
    plan = Plan(organization_id=organization_id, plan_metadata={}, taxes=[], minimum_commitment=None, created_at=now)
    assign(plan, changes, (*_EDITABLE_IN_USE, *_FROZEN_IN_USE))
    return _write_parts(db, plan, changes, in_use=False, now=now)


def update_plan(db: Session, plan: Plan, changes: Changes, now: datetime) -> Plan:
    """Change a plan, its charges and fixed charges; its subscriptions follow at their next computation, and with new units
    of fixed charges when these say so; those with prices of their own where they have none, and only with
    `cascade_updates`.

    On a plan with subscriptions, what may not change is ignored. The plan must be locked.

    Raises:
        NotFound: `billable_metrics_not_found`, `add_ons_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    in_use = has_subscriptions(db, plan)
    if in_use:
        changes = {field: value for field, value in changes.items() if field not in _FROZEN_IN_USE}
    return _rewrite(db, plan, changes, in_use=in_use, now=now)


def rewrite_plan(db: Session, plan: Plan, changes: Changes, now: datetime) -> Plan:
    """The same as if the plan had never had a subscription: for drafts, which are not kept."""
    return _rewrite(db, plan, changes, in_use=False, now=now)


def _rewrite(db: Session, plan: Plan, changes: Changes, *, in_use: bool, now: datetime) -> Plan:
    _check(db, plan.organization_id, changes, plan)
    with cascading(db, plan, now, wanted=changes.get("cascade_updates") is True):
        assign(plan, changes, (*_EDITABLE_IN_USE, *_FROZEN_IN_USE))
        return _write_parts(db, plan, changes, in_use=in_use, now=now)


def delete_plan(db: Session, plan: Plan, now: datetime) -> None:
    """Delete a plan, at once when nobody is on it or a copy of it. Else it can be sold no more, and is deleted when its
    subscriptions have been ended. Its charges stay for the fees that name them. The plan must be locked.
    """
    in_use = db.scalar(_subscriptions(plan).where(Subscription.status.in_(OPEN)).limit(1)) is not None
    plan.updated_at = now
    if in_use:
        plan.deletion_due_at = now
    else:
        plan.deleted_at = now


def of_plans_to_delete(due: datetime) -> ColumnElement[bool]:
    """The open subscriptions on plans that were to be deleted by an instant, and on copies of them."""
    return Subscription.status.in_(OPEN) & was_on_plans_to_delete(due)


def was_on_plans_to_delete(due: datetime) -> ColumnElement[bool]:
    """All subscriptions on such plans, whatever has become of them."""
    is_to_go = (Plan.deletion_due_at <= due) & Plan.deleted_at.is_(None)
    copy = aliased(Plan)
    copies = select(copy.id).join_from(Plan, copy, copy.parent_id == Plan.id).where(is_to_go)
    return Subscription.plan_id.in_(union_all(select(Plan.id).where(is_to_go), copies))


def has_plans_to_delete(db: Session, scope: ColumnElement[bool], due: datetime) -> bool:
    """Whether there are plans that were to be deleted by an instant. `scope` limits the organizations."""
    plans = select(Plan.id).join(Organization, Organization.id == Plan.organization_id)
    return db.scalar(plans.where(scope, Plan.deletion_due_at <= due, Plan.deleted_at.is_(None)).limit(1)) is not None


def finish_deletions(db: Session, scope: ColumnElement[bool], due: datetime, now: datetime) -> None:
    """Delete the plans that were to be deleted by an instant and have no open subscription any more. `scope` limits the
    organizations.
    """
    copy = aliased(Plan)
    own = select(copy.id).where(or_(copy.id == Plan.id, copy.parent_id == Plan.id)).correlate(Plan)
    db.execute(
        update(Plan)
        .where(
            Plan.organization_id.in_(select(Organization.id).where(scope)),
            Plan.deletion_due_at <= due,
            Plan.deleted_at.is_(None),
            ~select(Subscription.id).where(Subscription.plan_id.in_(own), Subscription.status.in_(OPEN)).exists(),
        )
        .values(deleted_at=now, updated_at=now),
        execution_options={"synchronize_session": False},
    )


def write_metadata(plan: Plan, sent: Mapping[str, str | None], now: datetime, *, replace: bool) -> None:
    """Set entries of a plan's metadata; with `replace` those that were sent are all that there are.

    Raises:
        Invalid: `metadata` has a key or a value that is too long.
    """
    problems = Problems()
    check_metadata(problems, sent)
    problems.check()
    plan.plan_metadata = dict(sent) if replace else {**plan.plan_metadata, **sent}
    plan.updated_at = now


def remove_metadata(plan: Plan, key: str, now: datetime) -> None:
    """Remove an entry of a plan's metadata.

    Raises:
        NotFound: `metadata_not_found`.
    """
    if key not in plan.plan_metadata:
        raise NotFound("metadata")
    plan.plan_metadata = {known: value for known, value in plan.plan_metadata.items() if known != key}
    plan.updated_at = now


def _check(db: Session, organization_id: UUID, changes: Changes, plan: Plan | None) -> None:
    problems = Problems()
    check_mandatory(problems, changes, _MANDATORY, creating=plan is None)
    check_code(problems, changes)
    check_currency(problems, changes, "amount_currency")
    check_metadata(problems, changes.get("metadata") or {})
    if (plan is None or "interval" in changes) and changes.get("interval") not in tuple(Interval):
        problems.add("interval", "value_is_invalid")
    check_billing(problems, changes)
    code = changes.get("code")
    if not empty(code) and (plan is None or code != plan.code):
        taken = db.scalar(select(live_plans(organization_id).where(Plan.code == code).exists()))
        if taken:
            problems.add("code", "value_already_exist")
    problems.check()


def check_billing(problems: Problems, changes: Changes) -> None:
    """Note what is wrong with the trial, the minimum commitment and the usage thresholds of a plan, where sent."""
    if (changes.get("trial_period") or 0) < 0:
        problems.add("trial_period", "value_is_out_of_range")
    commitment = changes.get("minimum_commitment")
    if commitment and (commitment.get("amount_cents") or 0) <= 0:
        problems.add("amount_cents", "invalid_amount")
    check_thresholds(problems, changes.get("usage_thresholds"))


def _write_parts(db: Session, plan: Plan, changes: Changes, *, in_use: bool, now: datetime) -> Plan:
    """What a plan is made of besides its own columns. The plan comes back as it is now stored."""
    if plan.interval not in _WITH_MONTHS:
        plan.bill_charges_monthly = plan.bill_fixed_charges_monthly = None
    if "tax_codes" in changes:
        plan.taxes = taxes_by_code(db, plan.organization_id, changes["tax_codes"] or ())
    if "metadata" in changes:
        plan.plan_metadata = changes["metadata"] or {}
    plan.updated_at = now
    db.add(plan)
    db.flush()
    if "minimum_commitment" in changes:
        write_commitment(db, plan, changes["minimum_commitment"] or {}, now)
    if "usage_thresholds" in changes:
        write_thresholds(db, plan, changes["usage_thresholds"], now)
    if "charges" in changes:
        write_charges(db, plan, changes["charges"] or (), in_use=in_use, now=now)
    if "fixed_charges" in changes:
        cascades = changes.get("cascade_updates") is True
        write_fixed_charges(db, plan, changes["fixed_charges"] or (), in_use=in_use, now=now, cascades=cascades)
    return load_plan(db, plan.organization_id, plan.id)


def write_commitment(db: Session, plan: Plan, sent: Changes, now: datetime) -> None:
    """A plan's minimum commitment as it was sent; an empty one takes it away. The one there is must be loaded."""
    if not sent:
        plan.minimum_commitment = None
        return
    commitment = plan.minimum_commitment
    if commitment is None:
        commitment = plan.minimum_commitment = MinimumCommitment(
            organization_id=plan.organization_id, taxes=[], created_at=now
        )
    commitment.updated_at = now
    assign(commitment, sent, ("amount_cents", "invoice_display_name"))
    if "tax_codes" in sent:
        commitment.taxes = taxes_by_code(db, plan.organization_id, sent["tax_codes"] or ())
