"""Entitlements of subscriptions: what their plan includes, and what they have otherwise (billing spec 8.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager

from app.catalog.entitlements import Sent, entitlements_of_plan, held_values
from app.catalog.features import held_features
from app.core.entitlements import Granted, Override, Values, granted, with_values, without_privilege
from app.errors import NotFound
from app.models import Feature, PlanEntitlement, Subscription, SubscriptionEntitlement


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A feature that a subscription has, with the values of its privileges by their codes."""

    feature: Feature
    privileges: Mapping[str, Granted]


@dataclass(frozen=True, slots=True)
class _Own:
    """Everything that decides what a subscription has: the values of its plan, and its own rows, by features' codes."""

    features: Mapping[str, Feature]
    of_plan: Mapping[str, Values]
    rows: Mapping[str, SubscriptionEntitlement]

    def entitlement(self, code: str) -> Entitlement | None:
        row = self.rows.get(code)
        privileges = granted(self.of_plan.get(code), None if row is None else _override(row))
        return None if privileges is None else Entitlement(self.features[code], privileges)


def subscription_entitlements(
    db: Session, subscription: Subscription, of_plan: Sequence[PlanEntitlement] | None = None
) -> list[Entitlement]:
    """The features that a subscription has, in the order of their codes. `of_plan` is what its plan includes, where that
    is known already."""
    own = _own(db, subscription, of_plan)
    return [one for code in sorted(own.features) if (one := own.entitlement(code)) is not None]


def override_entitlements(db: Session, subscription: Subscription, sent: Sent, now: datetime) -> None:
    """Give a subscription features, and values of privileges other than its plan's. What was removed of them is back, and
    a value that is the plan's ends the override. The subscription must be locked.

    Raises:
        NotFound: `feature_not_found`, `privilege_not_found`.
        Invalid: values that their privileges cannot have, named `feature.privilege`.
    """
    features, values = held_values(db, subscription.organization_id, sent)
    own = _own(db, subscription)
    for code, feature in features.items():
        row = own.rows.get(code) or _new_row(subscription, feature, now)
        _write(db, row, with_values(own.of_plan.get(code), _override(row), values[code]), own.of_plan.get(code), now)
    db.flush()


def remove_feature(db: Session, subscription: Subscription, code: str, now: datetime) -> Entitlement:
    """Take a feature from a subscription, be it its plan's or its own; gives what it had of it. The subscription must be
    locked.

    Raises:
        NotFound: `entitlement_not_found`.
    """
    held_features(db, subscription.organization_id, [code])
    own = _own(db, subscription)
    had = _existing(own, code)
    row = own.rows.get(code) or _new_row(subscription, had.feature, now)
    if code in own.of_plan:
        _write(db, row, Override({}, (), is_removed=True), own.of_plan[code], now)
    else:
        db.delete(row)
    db.flush()
    return had


def remove_granted_privilege(
    db: Session, subscription: Subscription, feature_code: str, code: str, now: datetime
) -> Entitlement:
    """Take a privilege of a feature from a subscription, be it its plan's or its own; gives what it still has of the
    feature. The subscription must be locked.

    Raises:
        NotFound: `entitlement_not_found`, `privilege_not_found`.
    """
    held_features(db, subscription.organization_id, [feature_code])
    own = _own(db, subscription)
    had = _existing(own, feature_code)
    if code not in had.privileges:
        raise NotFound("privilege")
    of_plan = own.of_plan.get(feature_code)
    row = own.rows.get(feature_code) or _new_row(subscription, had.feature, now)
    override = without_privilege(of_plan, _override(row), code)
    _write(db, row, override, of_plan, now)
    db.flush()
    return Entitlement(had.feature, granted(of_plan, override) or {})


def _own(db: Session, subscription: Subscription, of_plan: Sequence[PlanEntitlement] | None = None) -> _Own:
    if of_plan is None:
        of_plan = entitlements_of_plan(db, subscription.plan)
    query = (
        select(SubscriptionEntitlement)
        .join(SubscriptionEntitlement.feature)
        .where(SubscriptionEntitlement.subscription_id == subscription.id, Feature.deleted_at.is_(None))
        .options(contains_eager(SubscriptionEntitlement.feature))
        .execution_options(populate_existing=True)
    )
    rows = {row.feature.code: row for row in db.scalars(query)}
    return _Own(
        features={one.feature.code: one.feature for one in of_plan} | {code: row.feature for code, row in rows.items()},
        of_plan={one.feature.code: one.values for one in of_plan},
        rows=rows,
    )


def _existing(own: _Own, code: str) -> Entitlement:
    found = own.entitlement(code) if code in own.features else None
    if found is None:
        raise NotFound("entitlement")
    return found


def _override(row: SubscriptionEntitlement) -> Override:
    return Override(row.values, row.removed_privileges, row.is_removed)


def _new_row(subscription: Subscription, feature: Feature, now: datetime) -> SubscriptionEntitlement:
    return SubscriptionEntitlement(
        subscription_id=subscription.id,
        feature_id=feature.id,
        organization_id=subscription.organization_id,
        values={},
        removed_privileges=[],
        is_removed=False,
        created_at=now,
    )


def _write(
    db: Session, row: SubscriptionEntitlement, override: Override, of_plan: Values | None, now: datetime
) -> None:
    """Keep what a subscription has otherwise, and nothing where that is nothing."""
    if override.is_empty and of_plan is not None:
        if row in db:
            db.delete(row)
        return
    row.values, row.removed_privileges = dict(override.values), list(override.removed_privileges)
    row.is_removed, row.updated_at = override.is_removed, now
    db.add(row)
