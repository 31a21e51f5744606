"""`/api/v1/subscriptions/{external_id}/charges`: what a subscription pays, and prices of its own (billing spec 1.11).

The first change gives the subscription a plan of its own, a copy of the one it is on. Charges are named by their codes,
which stay the same; filters by their ids, before and after.
"""

from typing import Annotated

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.charges import (
    AppliedPricingUnitInput,
    ChargeAnswer,
    ChargeFilterInput,
    ChargesAnswer,
    FilterAnswer,
    FilterBody,
    FiltersAnswer,
    charge_object,
    filter_object,
)
from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.subscriptions import check_statuses
from app.api.wire import Cents, Opt, Str, changes, paginate
from app.catalog.charges import charges_of, find_charge, find_filter, override_charges, remove_filter, write_filter
from app.customers.own_plans import own_plan
from app.customers.subscriptions import find_subscription, find_to_override
from app.models import Charge, Organization, Plan, Subscription

Status = Annotated[str | None, Parameter(query="subscription_status")]


class OwnPriceInput(Struct):
    invoice_display_name: Str | Opt | None = UNSET
    min_amount_cents: Cents | Opt | None = UNSET
    properties: dict[str, object] | Opt | None = UNSET
    filters: list[ChargeFilterInput] | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    applied_pricing_unit: AppliedPricingUnitInput | Opt | None = UNSET


class OwnPriceBody(Struct):
    charge: OwnPriceInput


class SubscriptionChargeController(Controller):
    path = "/subscriptions/{external_id:str}/charges"
    tags = ["subscriptions"]
    opt = {"resource": "subscription"}

    @get()
    def list_subscription_charges(
        self, *, external_id: str, db: Db, organization: Org, paging: Paging, status: Status = None
    ) -> ChargesAnswer:
        """The charges that a subscription pays, in their order."""
        subscription = _find(db, organization, external_id, status)
        charges, meta = paginate(db, charges_of(subscription.plan), paging)
        return ChargesAnswer([charge_object(charge) for charge in charges], meta)

    @get("/{charge_code:str}")
    def get_subscription_charge(
        self, *, external_id: str, charge_code: str, db: Db, organization: Org, status: Status = None
    ) -> ChargeAnswer:
        """One charge that a subscription pays."""
        return ChargeAnswer(charge_object(_charge(db, organization, external_id, charge_code, status)))

    @put("/{charge_code:str}")
    def override_subscription_charge(
        self,
        *,
        external_id: str,
        charge_code: str,
        data: OwnPriceBody,
        db: Db,
        organization: Org,
        now: Now,
        status: Status = None,
    ) -> ChargeAnswer:
        """Give a subscription a price of its own; what is not sent stays as it is."""
        plan, charge = _own_charge(db, organization, external_id, charge_code, status, now)
        override_charges(db, plan, [{**changes(data.charge), "id": str(charge.id)}], now)
        return ChargeAnswer(charge_object(find_charge(db, plan, charge.code)))


class SubscriptionChargeFilterController(Controller):
    path = "/subscriptions/{external_id:str}/charges/{charge_code:str}/filters"
    tags = ["subscriptions"]
    opt = {"resource": "subscription"}

    @post()
    def create_subscription_charge_filter(
        self,
        *,
        external_id: str,
        charge_code: str,
        data: FilterBody,
        db: Db,
        organization: Org,
        now: Now,
        status: Status = None,
    ) -> FilterAnswer:
        """Add a filter to what a subscription pays."""
        plan, charge = _own_charge(db, organization, external_id, charge_code, status, now)
        return FilterAnswer(filter_object(write_filter(db, plan, charge, None, changes(data.filter), now), charge))

    @get()
    def list_subscription_charge_filters(
        self,
        *,
        external_id: str,
        charge_code: str,
        db: Db,
        organization: Org,
        paging: Paging,
        status: Status = None,
    ) -> FiltersAnswer:
        """The filters of a charge that a subscription pays, in their order."""
        charge = _charge(db, organization, external_id, charge_code, status)
        shown = charge.filters[paging.offset : paging.offset + paging.per_page]
        return FiltersAnswer([filter_object(one, charge) for one in shown], paging.meta(len(charge.filters)))

    @get("/{filter_id:str}")
    def get_subscription_charge_filter(
        self, *, external_id: str, charge_code: str, filter_id: str, db: Db, organization: Org, status: Status = None
    ) -> FilterAnswer:
        """One filter of a charge that a subscription pays."""
        charge = _charge(db, organization, external_id, charge_code, status)
        return FilterAnswer(filter_object(find_filter(charge, filter_id), charge))

    @put("/{filter_id:str}")
    def override_subscription_charge_filter(
        self,
        *,
        external_id: str,
        charge_code: str,
        filter_id: str,
        data: FilterBody,
        db: Db,
        organization: Org,
        now: Now,
        status: Status = None,
    ) -> FilterAnswer:
        """Give a subscription a price of its own for what a filter takes; what is not sent stays as it is."""
        plan, charge = _own_charge(db, organization, external_id, charge_code, status, now)
        written = write_filter(db, plan, charge, filter_id, changes(data.filter), now)
        return FilterAnswer(filter_object(written, charge))

    @delete("/{filter_id:str}")
    def remove_subscription_charge_filter(
        self,
        *,
        external_id: str,
        charge_code: str,
        filter_id: str,
        db: Db,
        organization: Org,
        now: Now,
        status: Status = None,
    ) -> FilterAnswer:
        """Remove a filter for a subscription. What it took falls to the remaining ones or to the charge itself."""
        plan, charge = _own_charge(db, organization, external_id, charge_code, status, now)
        return FilterAnswer(filter_object(remove_filter(db, plan, charge, filter_id, now), charge))


def _find(db: Session, organization: Organization, external_id: str, status: str | None) -> Subscription:
    check_statuses([status] if status else [])
    return find_subscription(db, organization.id, external_id, status)


def _charge(db: Session, organization: Organization, external_id: str, charge_code: str, status: str | None) -> Charge:
    return find_charge(db, _find(db, organization, external_id, status).plan, named(charge_code))


def _own_charge(
    db: Session, organization: Organization, external_id: str, charge_code: str, status: str | None, now: Now
) -> tuple[Plan, Charge]:
    """A charge on the subscription's own plan, which it is given if it has none."""
    check_statuses([status] if status else [])
    subscription = find_to_override(db, organization.id, external_id, status)
    find_charge(db, subscription.plan, named(charge_code))
    plan = own_plan(db, subscription, now)
    return plan, find_charge(db, plan, named(charge_code))
