"""Features and their privileges: the rules for making, changing and deleting them (billing spec 8.6)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, cast, delete, or_, select, update
from sqlalchemy.orm import Session

from app.core.entitlements import Privilege, ValueType
from app.errors import NotFound, Problems
from app.models import Feature, PlanEntitlement, SubscriptionEntitlement
from app.validation import Changes, assign, check_code, check_length, check_mandatory, check_one_of

LONGEST = {"name": 255, "description": 600}


def live_features(organization_id: UUID, term: str | None = None) -> Select[Feature]:
    """An organization's features that have not been deleted, newest first; with a term, those whose code or name has it."""
    query = (
        select(Feature)
        .where(Feature.organization_id == organization_id, Feature.deleted_at.is_(None))
        .order_by(Feature.created_at.desc(), Feature.id)
    )
    if term:
        query = query.where(or_(*(column.icontains(term, autoescape=True) for column in (Feature.code, Feature.name))))
    return query


def find_feature(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> Feature:
    """The feature with a code.

    Raises:
        NotFound: `feature_not_found`.
    """
    query = live_features(organization_id).where(Feature.code == code)
    feature = db.scalar(query.with_for_update() if lock else query)
    if feature is None:
        raise NotFound("feature")
    return feature


def held_features(db: Session, organization_id: UUID, codes: Collection[str]) -> dict[str, Feature]:
    """Those of the features with these codes that there are. Nobody changes or deletes them before the transaction ends:
    to be called before what plans and subscriptions have of them is read in order to be changed."""
    query = live_features(organization_id).where(Feature.code.in_(codes)).order_by(None).order_by(Feature.id)
    held = query.with_for_update(read=True).execution_options(populate_existing=True)
    return {feature.code: feature for feature in db.scalars(held)}


def privileges_of(feature: Feature) -> list[Privilege]:
    """A feature's privileges in their order."""
    return [
        Privilege(one["code"], one["name"], ValueType(one["value_type"]), tuple(one["select_options"]))
        for one in feature.privileges
    ]


def create_feature(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> Feature:
    """A new feature with its privileges.

    Raises:
        Invalid: a field breaks a rule; fields of privileges are named `privilege.code` and so on.
    """
    problems = Problems()
    check_mandatory(problems, changes, ("code",), creating=True)
    check_code(problems, changes)
    code = changes.get("code")
    if code and db.scalar(live_features(organization_id).where(Feature.code == code)) is not None:
        problems.add("code", "value_already_exist")
    feature = Feature(organization_id=organization_id, code=code, privileges=[], created_at=now)
    _write(problems, feature, changes, now)
    db.add(feature)
    db.flush()
    return feature


def update_feature(feature: Feature, changes: Changes, now: datetime) -> None:
    """Change a feature. Of privileges that are there, the name changes and options are added; those with a new code are
    added; those that are absent stay.

    Raises:
        Invalid: as for `create_feature`; a privilege keeps its type.
    """
    _write(Problems(), feature, changes, now)


def remove_privilege(db: Session, feature: Feature, code: str, now: datetime) -> None:
    """Remove a privilege from a feature, and its values from all plans and subscriptions.

    Raises:
        NotFound: `privilege_not_found`.
    """
    kept = [one for one in feature.privileges if one["code"] != code]
    if len(kept) == len(feature.privileges):
        raise NotFound("privilege")
    feature.privileges, feature.updated_at = kept, now
    gone = cast(code, Text)
    db.execute(
        update(PlanEntitlement)
        .where(PlanEntitlement.feature_id == feature.id)
        .values(values=PlanEntitlement.values.op("-")(gone), updated_at=now)
    )
    db.execute(
        update(SubscriptionEntitlement)
        .where(SubscriptionEntitlement.feature_id == feature.id)
        .values(
            values=SubscriptionEntitlement.values.op("-")(gone),
            removed_privileges=SubscriptionEntitlement.removed_privileges.op("-")(gone),
            updated_at=now,
        )
    )


def delete_feature(db: Session, feature: Feature, now: datetime) -> None:
    """Delete a feature, and take it from all plans and subscriptions."""
    feature.deleted_at = feature.updated_at = now
    db.execute(delete(PlanEntitlement).where(PlanEntitlement.feature_id == feature.id))
    db.execute(delete(SubscriptionEntitlement).where(SubscriptionEntitlement.feature_id == feature.id))


def _write(problems: Problems, feature: Feature, changes: Changes, now: datetime) -> None:
    check_length(problems, changes, LONGEST)
    privileges = _merged(problems, feature.privileges, changes.get("privileges") or ())
    problems.check()
    assign(feature, changes, ("name", "description"))
    feature.privileges, feature.updated_at = privileges, now


def _merged(problems: Problems, known: Sequence[dict[str, Any]], sent: Sequence[Changes]) -> list[dict[str, Any]]:
    """The privileges as they will be: the known ones with what was sent of them, then the others that were sent."""
    merged = {one["code"]: one for one in known}
    codes = [one.get("code") for one in sent]
    own = Problems()
    if len(set(codes)) < len(codes):
        own.add("code", "value_already_exist")
    for one in sent:
        check_mandatory(own, one, ("code",), creating=True)
        check_code(own, one)
        check_length(own, one, LONGEST)
        code = str(one.get("code"))
        merged[code] = _privilege(own, code, merged.get(code), one)
    for field, problem in own.details.items():
        problems.extend(f"privilege.{field}", problem)
    return list(merged.values())


def _privilege(problems: Problems, code: str, known: dict[str, Any] | None, sent: Changes) -> dict[str, Any]:
    value_type = sent.get("value_type") or (known["value_type"] if known else ValueType.STRING)
    check_one_of(
        problems, {"value_type": value_type}, "value_type", (known["value_type"],) if known else tuple(ValueType)
    )
    options: Sequence[str] = (sent.get("config") or {}).get("select_options") or ()
    if "" in options:
        problems.add("config", "value_is_invalid")
    if options and value_type != ValueType.SELECT:
        problems.add("config", "value_must_be_blank")
    known_options = known["select_options"] if known else ()
    if value_type == ValueType.SELECT and not options and not known_options:
        problems.add("config", "value_is_mandatory")
    return {
        "code": code,
        "name": sent["name"] if "name" in sent else known and known["name"],
        "value_type": value_type,
        "select_options": list(dict.fromkeys((*known_options, *options))),
    }
