"""`/api/v1/plans/{code}/metadata`: what an organization notes of its plans."""

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Now, Org
from app.api.routes import delete, patch, post
from app.api.slashes import named
from app.api.wire import Str
from app.catalog.plans import find_bare_plan, remove_metadata, write_metadata


class MetadataBody(Struct):
    metadata: dict[Str, Str | None] | None


class MetadataAnswer(Struct):
    metadata: dict[str, str | None]


class PlanMetadataController(Controller):
    path = "/plans/{code:str}/metadata"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def replace_metadata(self, code: str, data: MetadataBody, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Make the entries that were sent all of a plan's metadata."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        write_metadata(plan, data.metadata or {}, now, replace=True)
        return MetadataAnswer(plan.plan_metadata)

    @patch()
    def merge_metadata(self, code: str, data: MetadataBody, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Set entries of a plan's metadata; the others stay."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        write_metadata(plan, data.metadata or {}, now, replace=False)
        return MetadataAnswer(plan.plan_metadata)

    @delete()
    def clear_metadata(self, code: str, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Remove all of a plan's metadata."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        write_metadata(plan, {}, now, replace=True)
        return MetadataAnswer(plan.plan_metadata)

    @delete("/{key:str}")
    def remove_metadata_key(self, code: str, key: str, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Remove one entry of a plan's metadata."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        remove_metadata(plan, named(key), now)
        return MetadataAnswer(plan.plan_metadata)
