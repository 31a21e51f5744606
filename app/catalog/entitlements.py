"""Entitlements of plans: which features they include, with which values (billing spec 8.6)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.catalog.features import held_features, privileges_of
from app.core.entitlements import Value
from app.errors import Invalid, NotFound
from app.models import Feature, Plan, PlanEntitlement

Sent = Mapping[str, Mapping[str, Any]]
"""Values by the codes of features and of their privileges."""


def entitling_plan_id(plan: Plan) -> UUID:
    """The plan whose entitlements hold for a plan: an override has those of its parent."""
    return plan.parent_id or plan.id


def entitlements_of(db: Session, plans: Iterable[Plan]) -> dict[UUID, list[PlanEntitlement]]:
    """The entitlements that hold for plans, by the plans' ids, in the order of the features' codes."""
    found: dict[UUID, list[PlanEntitlement]] = {plan.id: [] for plan in plans}
    by_entitling: dict[UUID, list[PlanEntitlement]] = {entitling_plan_id(plan): [] for plan in plans}
    query = (
        select(PlanEntitlement)
        .join(PlanEntitlement.feature)
        .where(PlanEntitlement.plan_id.in_(by_entitling), Feature.deleted_at.is_(None))
        .order_by(Feature.code)
        .options(contains_eager(PlanEntitlement.feature))
        .execution_options(populate_existing=True)
    )
    for one in db.scalars(query) if found else ():
        by_entitling[one.plan_id].append(one)
    return {plan.id: by_entitling[entitling_plan_id(plan)] for plan in plans}


def entitlements_of_plan(db: Session, plan: Plan) -> list[PlanEntitlement]:
    """The entitlements that hold for one plan, in the order of the features' codes."""
    return entitlements_of(db, [plan])[plan.id]


def find_entitlement(db: Session, plan: Plan, feature_code: str) -> PlanEntitlement:
    """What a plan includes of a feature.

    Raises:
        NotFound: `entitlement_not_found`.
    """
    for one in entitlements_of_plan(db, plan):
        if one.feature.code == feature_code:
            return one
    raise NotFound("entitlement")


def write_entitlements(db: Session, plan: Plan, sent: Sent, now: datetime, *, replace: bool) -> None:
    """Give a plan features and values of their privileges; with `replace` those that were sent and no others. The plan
    must be locked.

    Raises:
        NotFound: `feature_not_found`, `privilege_not_found`.
        Invalid: values that their privileges cannot have, named `feature.privilege`.
    """
    features, values = held_values(db, plan.organization_id, sent)
    known = {one.feature.code: one for one in entitlements_of_plan(db, plan)}
    for code, feature in features.items():
        one = known.pop(code, None)
        if one is None:
            one = PlanEntitlement(
                plan_id=plan.id,
                feature_id=feature.id,
                organization_id=plan.organization_id,
                values={},
                created_at=now,
            )
        one.values = values[code] if replace else {**one.values, **values[code]}
        one.updated_at = now
        db.add(one)
    if replace:
        for left in known.values():
            db.delete(left)
    db.flush()


def remove_entitlement(db: Session, plan: Plan, feature_code: str) -> PlanEntitlement:
    """Take a feature from a plan; gives what the plan included of it. The plan must be locked.

    Raises:
        NotFound: `entitlement_not_found`.
    """
    one = find_entitlement(db, plan, feature_code)
    db.delete(one)
    db.flush()
    return one


def remove_entitled_privilege(db: Session, plan: Plan, feature_code: str, code: str, now: datetime) -> PlanEntitlement:
    """Take a privilege of a feature from a plan; gives what the plan still includes of the feature. The plan must be
    locked.

    Raises:
        NotFound: `entitlement_not_found`, `privilege_not_found`.
    """
    held_features(db, plan.organization_id, [feature_code])
    one = find_entitlement(db, plan, feature_code)
    if code not in one.values:
        raise NotFound("privilege")
    one.values = {known: value for known, value in one.values.items() if known != code}
    one.updated_at = now
    return one


def held_values(
    db: Session, organization_id: UUID, sent: Sent
) -> tuple[dict[str, Feature], dict[str, dict[str, Value]]]:
    """The features that were sent, held, and the values of their privileges in the types of these.

    Raises:
        NotFound: `feature_not_found`, `privilege_not_found`.
        Invalid: values that their privileges cannot have, named `feature.privilege`.
    """
    features = held_features(db, organization_id, sent.keys())
    if len(features) < len(sent):
        raise NotFound("feature")
    checked: dict[str, dict[str, Value]] = {}
    wrong = {}
    for code, values in sent.items():
        privileges = {privilege.code: privilege for privilege in privileges_of(features[code])}
        if not values.keys() <= privileges.keys():
            raise NotFound("privilege")
        checked[code] = {}
        for privilege_code, one in values.items():
            value = privileges[privilege_code].value(one)
            if value is None:
                wrong[f"{code}.{privilege_code}"] = ["value_is_invalid"]
            else:
                checked[code][privilege_code] = value
    if wrong:
        raise Invalid(wrong)
    return features, checked
