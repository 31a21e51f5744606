"""`/api/v1/features` (billing spec 8.6)."""

from typing import Any

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.wire import Opt, PageMeta, Str, changes, fill, instant, paginate
from app.catalog.features import (
    create_feature,
    delete_feature,
    find_feature,
    live_features,
    privileges_of,
    remove_privilege,
    update_feature,
)
from app.core.entitlements import Privilege
from app.models import Feature


class PrivilegeConfigInput(Struct):
    select_options: list[Str] | Opt | None = UNSET


class PrivilegeInput(Struct):
    code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    value_type: Str | Opt | None = UNSET
    config: PrivilegeConfigInput | Opt | None = UNSET


class FeatureInput(Struct):
    code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    privileges: list[PrivilegeInput] | Opt | None = UNSET


class FeatureBody(Struct):
    feature: FeatureInput


class PrivilegeConfigObject(Struct):
    select_options: list[str] | Opt = UNSET


class PrivilegeObject(Struct, kw_only=True):
    code: str
    name: str | None
    value_type: str
    config: PrivilegeConfigObject


class FeatureObject(Struct):
    code: str
    name: str | None
    description: str | None
    privileges: list[PrivilegeObject]
    created_at: str


class FeatureAnswer(Struct):
    feature: FeatureObject


class FeaturesAnswer(Struct):
    features: list[FeatureObject]
    meta: PageMeta


def feature_object(feature: Feature) -> FeatureObject:
    """A feature as it is on the wire."""
    return fill(
        FeatureObject,
        feature,
        privileges=[PrivilegeObject(**privilege_fields(one)) for one in privileges_of(feature)],
        created_at=instant(feature.created_at),
    )


def privilege_fields(privilege: Privilege) -> dict[str, Any]:
    """The fields that a privilege has wherever it is shown."""
    options = list(privilege.select_options) or UNSET
    return {
        "code": privilege.code,
        "name": privilege.name,
        "value_type": privilege.value_type,
        "config": PrivilegeConfigObject(options),
    }


class FeatureController(Controller):
    path = "/features"
    tags = ["features"]
    opt = {"resource": "feature"}

    @post()
    def create_feature(self, data: FeatureBody, db: Db, organization: Org, now: Now) -> FeatureAnswer:
        """Make a feature with its privileges."""
        return FeatureAnswer(feature_object(create_feature(db, organization.id, changes(data.feature), now)))

    @get()
    def list_features(
        self, db: Db, organization: Org, paging: Paging, search_term: str | None = None
    ) -> FeaturesAnswer:
        """All features, or those whose code or name has the search term, newest first."""
        features, meta = paginate(db, live_features(organization.id, search_term), paging)
        return FeaturesAnswer([feature_object(feature) for feature in features], meta)

    @get("/{code:str}")
    def get_feature(self, code: str, db: Db, organization: Org) -> FeatureAnswer:
        """One feature."""
        return FeatureAnswer(feature_object(find_feature(db, organization.id, named(code))))

    @put("/{code:str}")
    def update_feature(self, code: str, data: FeatureBody, db: Db, organization: Org, now: Now) -> FeatureAnswer:
        """Change a feature. Privileges are named anew, get further options, or are added; those that are absent stay."""
        feature = find_feature(db, organization.id, named(code), lock=True)
        update_feature(feature, changes(data.feature), now)
        return FeatureAnswer(feature_object(feature))

    @delete("/{code:str}")
    def remove_feature(self, code: str, db: Db, organization: Org, now: Now) -> FeatureAnswer:
        """Delete a feature, and take it from all plans and subscriptions."""
        feature = find_feature(db, organization.id, named(code), lock=True)
        delete_feature(db, feature, now)
        return FeatureAnswer(feature_object(feature))

    @delete("/{code:str}/privileges/{privilege_code:str}")
    def remove_privilege(self, code: str, privilege_code: str, db: Db, organization: Org, now: Now) -> FeatureAnswer:
        """Remove a privilege from a feature, and its values from all plans and subscriptions."""
        feature = find_feature(db, organization.id, named(code), lock=True)
        remove_privilege(db, feature, named(privilege_code), now)
        return FeatureAnswer(feature_object(feature))
