"""Fixed charges on the wire: `/api/v1/plans/{code}/fixed_charges` and `/api/v1/subscriptions/{external_id}/fixed_charges`
(metering spec 3.14, billing spec 2.6)."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Opt, PageMeta, Str, changes, exact_json, fill, instant, number, paginate
from app.catalog.fixed_charges import find_fixed_charge, fixed_charges_of, remove_fixed_charge, write_fixed_charge
from app.catalog.plans import find_bare_plan, has_subscriptions
from app.customers.fixed_units import own_units
from app.customers.subscriptions import STATUSES, find_subscription, override_fixed_charge
from app.errors import invalid
from app.models import FixedCharge, Organization, Subscription


class OverridableInput(Struct):
    invoice_display_name: Str | Opt | None = UNSET
    units: Decimal | Opt | None = UNSET
    apply_units_immediately: bool | Opt | None = UNSET
    properties: dict[str, Any] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET


class FixedChargeInput(OverridableInput):
    id: Str | Opt | None = UNSET
    add_on_id: Str | Opt | None = UNSET
    add_on_code: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    charge_model: Str | Opt | None = UNSET
    pay_in_advance: bool | Opt | None = UNSET
    prorated: bool | Opt | None = UNSET


class FixedChargeChangesInput(FixedChargeInput):
    cascade_updates: bool | Opt | None = UNSET


class FixedChargeBody(Struct):
    fixed_charge: FixedChargeChangesInput


class Cascading(Struct):
    cascade_updates: bool | Opt | None = UNSET


class RemovalBody(Struct):
    fixed_charge: Cascading | Opt | None = UNSET


class OverrideBody(Struct):
    fixed_charge: OverridableInput


class FixedChargeObject(Struct, kw_only=True):
    lago_id: UUID
    lago_add_on_id: UUID
    invoice_display_name: str
    add_on_code: str
    created_at: str
    code: str
    charge_model: str
    pay_in_advance: bool
    prorated: bool
    properties: msgspec.Raw
    units: msgspec.Raw
    lago_parent_id: UUID | None
    taxes: list[TaxObject]


class FixedChargeAnswer(Struct):
    fixed_charge: FixedChargeObject


class FixedChargesAnswer(Struct):
    fixed_charges: list[FixedChargeObject]
    meta: PageMeta


def fixed_charge_object(charge: FixedCharge, units: Decimal | None = None) -> FixedChargeObject:
    """A fixed charge as it is on the wire, with its own units unless others are given; what `FIXED_CHARGE_PARTS` names must
    be loaded."""
    return fill(
        FixedChargeObject,
        charge,
        lago_id=charge.id,
        lago_add_on_id=charge.add_on_id,
        invoice_display_name=charge.display_name,
        add_on_code=charge.add_on.code,
        created_at=instant(charge.created_at),
        properties=exact_json(charge.properties),
        units=number(charge.units if units is None else units),
        lago_parent_id=charge.parent_id,
        taxes=[tax_object(tax) for tax in charge.taxes],
    )


class FixedChargeController(Controller):
    path = "/plans/{code:str}/fixed_charges"
    tags = ["plans"]
    opt = {"resource": "plan"}

    @post()
    def create_fixed_charge(
        self, code: str, data: FixedChargeBody, db: Db, organization: Org, now: Now
    ) -> FixedChargeAnswer:
        """Add a fixed charge to a plan. It counts from the next period on, or from now with `apply_units_immediately`."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        in_use = has_subscriptions(db, plan)
        cascades = data.fixed_charge.cascade_updates is True
        charge = write_fixed_charge(
            db, plan, None, changes(data.fixed_charge), in_use=in_use, now=now, cascades=cascades
        )
        return FixedChargeAnswer(fixed_charge_object(charge))

    @get()
    def list_fixed_charges(self, code: str, db: Db, organization: Org, paging: Paging) -> FixedChargesAnswer:
        """The fixed charges of a plan, in their order."""
        plan = find_bare_plan(db, organization.id, named(code))
        charges, meta = paginate(db, fixed_charges_of(plan), paging)
        return FixedChargesAnswer([fixed_charge_object(charge) for charge in charges], meta)

    @get("/{fixed_charge_code:str}")
    def get_fixed_charge(self, code: str, fixed_charge_code: str, db: Db, organization: Org) -> FixedChargeAnswer:
        """One fixed charge of a plan."""
        plan = find_bare_plan(db, organization.id, named(code))
        return FixedChargeAnswer(fixed_charge_object(find_fixed_charge(db, plan, named(fixed_charge_code))))

    @put("/{fixed_charge_code:str}")
    def update_fixed_charge(
        self, *, code: str, fixed_charge_code: str, data: FixedChargeBody, db: Db, organization: Org, now: Now
    ) -> FixedChargeAnswer:
        """Change a fixed charge; on a plan with subscriptions, what may not change is ignored. New units reach the
        subscriptions that have none of their own."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_fixed_charge(db, plan, named(fixed_charge_code))
        in_use = has_subscriptions(db, plan)
        cascades = data.fixed_charge.cascade_updates is True
        written = write_fixed_charge(
            db, plan, charge, changes(data.fixed_charge), in_use=in_use, now=now, cascades=cascades
        )
        return FixedChargeAnswer(fixed_charge_object(written))

    @delete("/{fixed_charge_code:str}")
    def remove_fixed_charge(
        self,
        *,
        code: str,
        fixed_charge_code: str,
        db: Db,
        organization: Org,
        now: Now,
        data: RemovalBody | None = None,
    ) -> FixedChargeAnswer:
        """Remove a fixed charge from a plan. What has not been billed of it is not billed any more."""
        plan = find_bare_plan(db, organization.id, named(code), lock=True)
        charge = find_fixed_charge(db, plan, named(fixed_charge_code))
        removed = fixed_charge_object(charge)
        sent = data.fixed_charge if data else None
        cascades = isinstance(sent, Cascading) and sent.cascade_updates is True
        remove_fixed_charge(db, plan, charge, now, cascades=cascades)
        return FixedChargeAnswer(removed)


class SubscriptionFixedChargeController(Controller):
    path = "/subscriptions/{external_id:str}/fixed_charges"
    tags = ["subscriptions"]
    opt = {"resource": "subscription"}

    @get()
    def list_subscription_fixed_charges(
        self, external_id: str, db: Db, organization: Org, paging: Paging, subscription_status: str | None = None
    ) -> FixedChargesAnswer:
        """The fixed charges of a subscription, with the units that it has."""
        subscription = _subscription(db, organization, external_id, subscription_status)
        own = own_units(db, subscription)
        charges, meta = paginate(db, fixed_charges_of(subscription.plan), paging)
        return FixedChargesAnswer([fixed_charge_object(charge, own.get(charge.root_id)) for charge in charges], meta)

    @get("/{fixed_charge_code:str}")
    def get_subscription_fixed_charge(
        self,
        external_id: str,
        fixed_charge_code: str,
        db: Db,
        organization: Org,
        subscription_status: str | None = None,
    ) -> FixedChargeAnswer:
        """One fixed charge of a subscription, with the units that it has."""
        subscription = _subscription(db, organization, external_id, subscription_status)
        charge = find_fixed_charge(db, subscription.plan, named(fixed_charge_code))
        return FixedChargeAnswer(fixed_charge_object(charge, own_units(db, subscription).get(charge.root_id)))

    @put("/{fixed_charge_code:str}")
    def update_subscription_fixed_charge(
        self,
        *,
        external_id: str,
        fixed_charge_code: str,
        data: OverrideBody,
        db: Db,
        organization: Org,
        now: Now,
        subscription_status: str | None = None,
    ) -> FixedChargeAnswer:
        """Give a subscription units of its own, which changes of the plan do not touch; null gives it the plan's again."""
        subscription = _subscription(db, organization, external_id, subscription_status)
        code = named(fixed_charge_code)
        charge = override_fixed_charge(db, subscription, code, changes(data.fixed_charge), now)
        return FixedChargeAnswer(fixed_charge_object(charge, own_units(db, subscription).get(charge.root_id)))


def _subscription(db: Session, organization: Organization, external_id: str, status: str | None) -> Subscription:
    if status is not None and status not in STATUSES:
        raise invalid("subscription_status", "value_is_invalid")
    return find_subscription(db, organization.id, external_id, status)
