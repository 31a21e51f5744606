"""`/api/v1/plans/{code}/entitlements` and `/api/v1/subscriptions/{external_id}/entitlements` (billing spec 8.6)."""

from collections.abc import Iterable
from typing import Any

from litestar import Controller
from msgspec import Struct
from sqlalchemy.orm import Session

from app.api.features import PrivilegeObject, privilege_fields
from app.api.given import Db, Now, Org
from app.api.routes import delete, get, patch, post
from app.api.slashes import named
from app.api.wire import Str
from app.catalog.entitlements import (
    entitlements_of_plan,
    find_entitlement,
    remove_entitled_privilege,
    remove_entitlement,
    write_entitlements,
)
from app.catalog.features import privileges_of
from app.catalog.plans import find_bare_plan
from app.core.entitlements import Value
from app.customers.entitlements import (
    Entitlement,
    override_entitlements,
    remove_feature,
    remove_granted_privilege,
    subscription_entitlements,
)
from app.customers.subscriptions import STATUSES, find_subscription
from app.errors import invalid
from app.models import PlanEntitlement, Subscription


class EntitlementsBody(Struct):
    """Values by the codes of features and of their privileges: `{"seats": {"max": 10, "root": true}}`."""

    entitlements: dict[Str, dict[Str, Any]]


class EntitledPrivilegeObject(PrivilegeObject, kw_only=True):
    value: Value


class EntitlementObject(Struct):
    code: str
    name: str | None
    description: str | None
    privileges: list[EntitledPrivilegeObject]


class EntitlementAnswer(Struct):
    entitlement: EntitlementObject


class EntitlementsAnswer(Struct):
    entitlements: list[EntitlementObject]


class GrantedPrivilegeObject(PrivilegeObject, kw_only=True):
    value: Value | None
    plan_value: Value | None
    override_value: Value | None


class GrantedObject(Struct):
    code: str
    name: str | None
    description: str | None
    privileges: list[GrantedPrivilegeObject]
    overrides: dict[str, Value]


class GrantedAnswer(Struct):
    entitlement: GrantedObject


class AllGrantedAnswer(Struct):
    entitlements: list[GrantedObject]


def entitlement_object(one: PlanEntitlement) -> EntitlementObject:
    """What a plan includes of a feature, as it is on the wire."""
    feature = one.feature
    privileges = [
        EntitledPrivilegeObject(**privilege_fields(privilege), value=one.values[privilege.code])
        for privilege in privileges_of(feature)
        if privilege.code in one.values
    ]
    return EntitlementObject(feature.code, feature.name, feature.description, privileges)


def granted_object(one: Entitlement) -> GrantedObject:
    """What a subscription has of a feature, as it is on the wire."""
    feature = one.feature
    shown = [privilege for privilege in privileges_of(feature) if privilege.code in one.privileges]
    return GrantedObject(
        feature.code,
        feature.name,
        feature.description,
        privileges=[
            GrantedPrivilegeObject(
                **privilege_fields(privilege),
                value=one.privileges[privilege.code].value,
                plan_value=one.privileges[privilege.code].plan_value,
                override_value=one.privileges[privilege.code].override_value,
            )
            for privilege in shown
        ],
        overrides={
            privilege.code: value
            for privilege in shown
            if (value := one.privileges[privilege.code].override_value) is not None
        },
    )


class PlanEntitlementController(Controller):
    path = "/plans/{code:str}/entitlements"
    tags = ["entitlements"]
    opt = {"resource": "plan"}

    @post()
    def replace_plan_entitlements(
        self, code: str, data: EntitlementsBody, db: Db, organization: Org, now: Now
    ) -> EntitlementsAnswer:
        """Make the features and values that were sent those of a plan; all others leave it."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        write_entitlements(db, plan, data.entitlements, now, replace=True)
        return EntitlementsAnswer(_objects(entitlements_of_plan(db, plan)))

    @get()
    def list_plan_entitlements(self, code: str, db: Db, organization: Org) -> EntitlementsAnswer:
        """The features that a plan includes, by their codes."""
        plan = find_bare_plan(db, organization.id, named(code))
        return EntitlementsAnswer(_objects(entitlements_of_plan(db, plan)))

    @patch()
    def update_plan_entitlements(
        self, code: str, data: EntitlementsBody, db: Db, organization: Org, now: Now
    ) -> EntitlementsAnswer:
        """Add features to a plan, and set values; what is not sent stays."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        write_entitlements(db, plan, data.entitlements, now, replace=False)
        return EntitlementsAnswer(_objects(entitlements_of_plan(db, plan)))

    @get("/{feature_code:str}")
    def get_plan_entitlement(self, code: str, feature_code: str, db: Db, organization: Org) -> EntitlementAnswer:
        """What a plan includes of a feature."""
        plan = find_bare_plan(db, organization.id, named(code))
        return EntitlementAnswer(entitlement_object(find_entitlement(db, plan, named(feature_code))))

    @delete("/{feature_code:str}")
    def remove_plan_entitlement(self, code: str, feature_code: str, db: Db, organization: Org) -> EntitlementAnswer:
        """Take a feature from a plan."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        return EntitlementAnswer(entitlement_object(remove_entitlement(db, plan, named(feature_code))))

    @delete("/{feature_code:str}/privileges/{privilege_code:str}")
    def remove_plan_privilege(
        self, *, code: str, feature_code: str, privilege_code: str, db: Db, organization: Org, now: Now
    ) -> EntitlementAnswer:
        """Take a privilege of a feature from a plan; the feature stays."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        left = remove_entitled_privilege(db, plan, named(feature_code), named(privilege_code), now)
        return EntitlementAnswer(entitlement_object(left))


class SubscriptionEntitlementController(Controller):
    path = "/subscriptions/{external_id:str}/entitlements"
    tags = ["entitlements"]
    opt = {"resource": "subscription"}

    @get()
    def list_subscription_entitlements(
        self, external_id: str, db: Db, organization: Org, subscription_status: str | None = None
    ) -> AllGrantedAnswer:
        """The features that a subscription has, by its plan and by itself."""
        return _all_granted(db, _find(db, organization, external_id, subscription_status))

    @patch()
    def update_subscription_entitlements(
        self,
        external_id: str,
        data: EntitlementsBody,
        db: Db,
        organization: Org,
        now: Now,
        subscription_status: str | None = None,
    ) -> AllGrantedAnswer:
        """Give a subscription features, or values other than its plan's; what is not sent stays. What was removed of them
        comes back, and a value that is the plan's ends its override."""
        subscription = _find(db, organization, external_id, subscription_status, lock=True)
        override_entitlements(db, subscription, data.entitlements, now)
        return _all_granted(db, subscription)

    @delete("/{feature_code:str}")
    def remove_subscription_entitlement(
        self,
        external_id: str,
        feature_code: str,
        db: Db,
        organization: Org,
        now: Now,
        subscription_status: str | None = None,
    ) -> GrantedAnswer:
        """Take a feature from a subscription, also one that its plan includes; other subscriptions keep it."""
        subscription = _find(db, organization, external_id, subscription_status, lock=True)
        return GrantedAnswer(granted_object(remove_feature(db, subscription, named(feature_code), now)))

    @delete("/{feature_code:str}/privileges/{privilege_code:str}")
    def remove_subscription_privilege(
        self,
        *,
        external_id: str,
        feature_code: str,
        privilege_code: str,
        db: Db,
        organization: Org,
        now: Now,
        subscription_status: str | None = None,
    ) -> GrantedAnswer:
        """Take a privilege of a feature from a subscription, also one that its plan includes; the feature stays."""
        subscription = _find(db, organization, external_id, subscription_status, lock=True)
        left = remove_granted_privilege(db, subscription, named(feature_code), named(privilege_code), now)
        return GrantedAnswer(granted_object(left))


def _objects(entitlements: Iterable[PlanEntitlement]) -> list[EntitlementObject]:
    return [entitlement_object(one) for one in entitlements]


def _all_granted(db: Session, subscription: Subscription) -> AllGrantedAnswer:
    return AllGrantedAnswer([granted_object(one) for one in subscription_entitlements(db, subscription)])


def _find(db: Session, organization: Org, external_id: str, status: str | None, *, lock: bool = False) -> Subscription:
    if status is not None and status not in STATUSES:
        raise invalid("subscription_status", "value_is_invalid")
    return find_subscription(db, organization.id, external_id, status, lock=lock)
