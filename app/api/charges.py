"""Charges and their filters on the wire, and `/api/v1/plans/{code}/charges` (metering spec 3.1, 3.4)."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Cents, Opt, PageMeta, Str, changes, exact_json, fill, instant, paginate
from app.catalog.cascades import cascading
from app.catalog.charges import (
    charges_of,
    find_charge,
    find_filter,
    remove_charge,
    remove_filter,
    write_charge,
    write_filter,
)
from app.catalog.plans import find_bare_plan, has_subscriptions
from app.core.money import decimal_text
from app.models import Charge, ChargeFilter


class ChargeFilterInput(Struct):
    invoice_display_name: Str | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    values: dict[Str, list[Str]] | Opt | None = UNSET


class AppliedPricingUnitInput(Struct):
    code: Str | Opt | None = UNSET
    conversion_rate: Decimal | Opt | None = UNSET


class ChargeInput(Struct):
    id: Str | Opt | None = UNSET
    billable_metric_id: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    charge_model: Str | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    pay_in_advance: bool | Opt | None = UNSET
    prorated: bool | Opt | None = UNSET
    invoiceable: bool | Opt | None = UNSET
    regroup_paid_fees: Str | Opt | None = UNSET
    min_amount_cents: Cents | Opt | None = UNSET
    filters: list[ChargeFilterInput] | Opt | None = UNSET
    applied_pricing_unit: AppliedPricingUnitInput | Opt | None = UNSET
    accepts_target_wallet: bool | Opt | None = UNSET


class ChargeChangesInput(ChargeInput):
    cascade_updates: bool | Opt | None = UNSET


class ChargeBody(Struct):
    charge: ChargeChangesInput


class FilterChangesInput(ChargeFilterInput):
    cascade_updates: bool | Opt | None = UNSET


class FilterBody(Struct):
    filter: FilterChangesInput


class Cascading(Struct):
    cascade_updates: bool | Opt | None = UNSET


class ChargeRemovalBody(Struct):
    charge: Cascading | Opt | None = UNSET


class FilterRemovalBody(Struct):
    filter: Cascading | Opt | None = UNSET


class ChargeFilterObject(Struct):
    lago_id: UUID
    charge_code: str
    invoice_display_name: str | None
    properties: msgspec.Raw
    values: dict[str, list[str]]


class AppliedPricingUnitObject(Struct):
    conversion_rate: str
    code: str


class ChargeObject(Struct, kw_only=True):
    lago_id: UUID
    lago_billable_metric_id: UUID
    code: str
    billable_metric_code: str
    invoice_display_name: str | None
    created_at: str
    charge_model: str
    properties: msgspec.Raw
    taxes: list[TaxObject]
    pay_in_advance: bool
    invoiceable: bool
    regroup_paid_fees: str | None
    prorated: bool
    min_amount_cents: int
    filters: list[ChargeFilterObject]
    applied_pricing_unit: AppliedPricingUnitObject | None
    accepts_target_wallet: bool
    lago_parent_id: UUID | None


class ChargeAnswer(Struct):
    charge: ChargeObject


class ChargesAnswer(Struct):
    charges: list[ChargeObject]
    meta: PageMeta


class FilterAnswer(Struct):
    filter: ChargeFilterObject


class FiltersAnswer(Struct):
    filters: list[ChargeFilterObject]
    meta: PageMeta


def charge_object(charge: Charge) -> ChargeObject:
    """A charge as it is on the wire; what `CHARGE_PARTS` names must be loaded."""
    return fill(
        ChargeObject,
        charge,
        lago_id=charge.id,
        lago_billable_metric_id=charge.billable_metric_id,
        lago_parent_id=charge.parent_id,
        billable_metric_code=charge.billable_metric.code,
        created_at=instant(charge.created_at),
        properties=_properties(charge.properties),
        filters=[filter_object(one, charge) for one in charge.filters],
        applied_pricing_unit=_applied_pricing_unit(charge),
        taxes=[tax_object(tax) for tax in charge.taxes],
    )


def cascades(sent: object) -> bool:
    """Whether subscriptions with prices of their own are to follow what is changed."""
    return getattr(sent, "cascade_updates", None) is True


def filter_object(one: ChargeFilter, charge: Charge) -> ChargeFilterObject:
    """A charge filter as it is on the wire."""
    return ChargeFilterObject(one.id, charge.code, one.invoice_display_name, _properties(one.properties), one.values)


def _applied_pricing_unit(charge: Charge) -> AppliedPricingUnitObject | None:
    unit, rate = charge.pricing_unit, charge.conversion_rate
    return None if unit is None or rate is None else AppliedPricingUnitObject(decimal_text(rate), unit.code)


def _properties(stored: dict[str, Any]) -> msgspec.Raw:
    """Properties with their grouping in both spellings (metering spec 3.1)."""
    grouping = stored.get("pricing_group_keys")
    return exact_json({**stored, "grouped_by": grouping} if grouping else stored)


class ChargeController(Controller):
    path = "/plans/{code:str}/charges"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def create_charge(self, code: str, data: ChargeBody, db: Db, organization: Org, now: Now) -> ChargeAnswer:
        """Add a charge to a plan. Usage of the current period that is there already counts."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        with cascading(db, plan, now, wanted=cascades(data.charge)):
            charge = write_charge(db, plan, None, changes(data.charge), in_use=has_subscriptions(db, plan), now=now)
        return ChargeAnswer(charge_object(charge))

    @get()
    def list_charges(self, code: str, db: Db, organization: Org, paging: Paging) -> ChargesAnswer:
        """The charges of a plan, in their order."""
        plan = find_bare_plan(db, organization.id, named(code))
        charges, meta = paginate(db, charges_of(plan), paging)
        return ChargesAnswer([charge_object(charge) for charge in charges], meta)

    @get("/{charge_code:str}")
    def get_charge(self, code: str, charge_code: str, db: Db, organization: Org) -> ChargeAnswer:
        """One charge of a plan."""
        plan = find_bare_plan(db, organization.id, named(code))
        return ChargeAnswer(charge_object(find_charge(db, plan, named(charge_code))))

    @put("/{charge_code:str}")
    def update_charge(
        self, *, code: str, charge_code: str, data: ChargeBody, db: Db, organization: Org, now: Now
    ) -> ChargeAnswer:
        """Change a charge; on a plan with subscriptions, what may not change is ignored."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_charge(db, plan, named(charge_code))
        with cascading(db, plan, now, wanted=cascades(data.charge)):
            written = write_charge(db, plan, charge, changes(data.charge), in_use=has_subscriptions(db, plan), now=now)
        return ChargeAnswer(charge_object(written))

    @delete("/{charge_code:str}")
    def remove_charge(
        self,
        *,
        code: str,
        charge_code: str,
        db: Db,
        organization: Org,
        now: Now,
        data: ChargeRemovalBody | None = None,
    ) -> ChargeAnswer:
        """Remove a charge from a plan. Its usage of the current period is not billed."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_charge(db, plan, named(charge_code))
        removed = charge_object(charge)
        with cascading(db, plan, now, wanted=data is not None and cascades(data.charge)):
            remove_charge(db, plan, charge, now)
        return ChargeAnswer(removed)


class ChargeFilterController(Controller):
    path = "/plans/{code:str}/charges/{charge_code:str}/filters"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def create_charge_filter(
        self, *, code: str, charge_code: str, data: FilterBody, db: Db, organization: Org, now: Now
    ) -> FilterAnswer:
        """Add a filter to the end of a charge's list."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_charge(db, plan, named(charge_code))
        with cascading(db, plan, now, wanted=cascades(data.filter)):
            written = write_filter(db, plan, charge, None, changes(data.filter), now)
        return FilterAnswer(filter_object(written, charge))

    @get()
    def list_charge_filters(
        self, code: str, charge_code: str, db: Db, organization: Org, paging: Paging
    ) -> FiltersAnswer:
        """The filters of a charge, in their order."""
        charge = find_charge(db, find_bare_plan(db, organization.id, named(code)), named(charge_code))
        shown = charge.filters[paging.offset : paging.offset + paging.per_page]
        return FiltersAnswer([filter_object(one, charge) for one in shown], paging.meta(len(charge.filters)))

    @get("/{filter_id:str}")
    def get_charge_filter(self, code: str, charge_code: str, filter_id: str, db: Db, organization: Org) -> FilterAnswer:
        """One filter of a charge."""
        charge = find_charge(db, find_bare_plan(db, organization.id, named(code)), named(charge_code))
        return FilterAnswer(filter_object(find_filter(charge, filter_id), charge))

    @put("/{filter_id:str}")
    def update_charge_filter(
        self,
        *,
        code: str,
        charge_code: str,
        filter_id: str,
        data: FilterBody,
        db: Db,
        organization: Org,
        now: Now,
    ) -> FilterAnswer:
        """Change a filter of a charge; what is not sent stays."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_charge(db, plan, named(charge_code))
        with cascading(db, plan, now, wanted=cascades(data.filter)):
            written = write_filter(db, plan, charge, filter_id, changes(data.filter), now)
        return FilterAnswer(filter_object(written, charge))

    @delete("/{filter_id:str}")
    def remove_charge_filter(
        self,
        *,
        code: str,
        charge_code: str,
        filter_id: str,
        db: Db,
        organization: Org,
        now: Now,
        data: FilterRemovalBody | None = None,
    ) -> FilterAnswer:
        """Remove a filter of a charge. What it took falls to the remaining ones or to the charge itself."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_charge(db, plan, named(charge_code))
        with cascading(db, plan, now, wanted=data is not None and cascades(data.filter)):
            removed = remove_filter(db, plan, charge, filter_id, now)
        return FilterAnswer(filter_object(removed, charge))
