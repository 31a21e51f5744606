"""`/api/v1/pricing_units` (metering spec 3.13). Not in Lago's API, where they are made on the dashboard."""

from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.wire import Opt, PageMeta, Str, changes, fill, instant, paginate
from app.catalog.pricing_units import (
    create_pricing_unit,
    delete_pricing_unit,
    find_pricing_unit,
    live_pricing_units,
    update_pricing_unit,
)
from app.models import PricingUnit


class PricingUnitInput(Struct):
    code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    short_name: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET


class PricingUnitBody(Struct):
    pricing_unit: PricingUnitInput


class PricingUnitObject(Struct):
    lago_id: UUID
    code: str
    name: str
    short_name: str
    description: str | None
    created_at: str


class PricingUnitAnswer(Struct):
    pricing_unit: PricingUnitObject


class PricingUnitsAnswer(Struct):
    pricing_units: list[PricingUnitObject]
    meta: PageMeta


def pricing_unit_object(unit: PricingUnit) -> PricingUnitObject:
    """A pricing unit as it is on the wire."""
    return fill(PricingUnitObject, unit, lago_id=unit.id, created_at=instant(unit.created_at))


class PricingUnitController(Controller):
    path = "/pricing_units"
    tags = ["pricing units"]
    opt = {"resource": "pricing_unit"}

    @post()
    def create_pricing_unit(self, data: PricingUnitBody, db: Db, organization: Org, now: Now) -> PricingUnitAnswer:
        """Make a pricing unit, for charges to be priced in."""
        unit = create_pricing_unit(db, organization.id, changes(data.pricing_unit), now)
        return PricingUnitAnswer(pricing_unit_object(unit))

    @get()
    def list_pricing_units(self, db: Db, organization: Org, paging: Paging) -> PricingUnitsAnswer:
        """All pricing units, newest first."""
        units, meta = paginate(db, live_pricing_units(organization.id), paging)
        return PricingUnitsAnswer([pricing_unit_object(unit) for unit in units], meta)

    @get("/{code:path}")
    def get_pricing_unit(self, code: str, db: Db, organization: Org) -> PricingUnitAnswer:
        """One pricing unit."""
        return PricingUnitAnswer(pricing_unit_object(find_pricing_unit(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_pricing_unit(
        self, code: str, data: PricingUnitBody, db: Db, organization: Org, now: Now
    ) -> PricingUnitAnswer:
        """Change a pricing unit. Issued fees keep the names they were made with."""
        unit = find_pricing_unit(db, organization.id, code[1:])
        return PricingUnitAnswer(pricing_unit_object(update_pricing_unit(db, unit, changes(data.pricing_unit), now)))

    @delete("/{code:path}")
    def remove_pricing_unit(self, code: str, db: Db, organization: Org, now: Now) -> PricingUnitAnswer:
        """Delete a pricing unit that no charge is priced in."""
        unit = find_pricing_unit(db, organization.id, code[1:], lock=True)
        delete_pricing_unit(db, unit, now)
        return PricingUnitAnswer(pricing_unit_object(unit))
