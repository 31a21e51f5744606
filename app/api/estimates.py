"""`/api/v1/events/estimate_fees` and the instant estimates (metering spec 5.6, 5.7)."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import litestar
import msgspec
from litestar import Controller
from msgspec import Struct
from sqlalchemy.orm import Session

from app.api.documented import TakesEstimate, TakesEstimates
from app.api.fees import AppliedTaxObject, FeeItem, FeeObject
from app.api.given import Db, Now, Org, Running
from app.api.request import UNREADABLE
from app.api.wire import exact_json, number
from app.billing.estimates import active_subscription, estimate_fees, instant_fees
from app.billing.fees import FeeDraft
from app.clock import system_now
from app.core.money import decimal_text, from_minor, round_half_up
from app.errors import Invalid, NotFound
from app.metering.acceptance import refusal
from app.metering.events import (
    ABSENT,
    Event,
    EventBatchBody,
    EventBody,
    EventInput,
    Receipt,
    explain_undecodable,
    read_batch,
    read_event,
)
from app.models import Customer, Organization

STORED_PLACES = 30
"""How many decimals the precise figures of a fee are stored with."""

_one = msgspec.json.Decoder(EventBody)
_many = msgspec.json.Decoder(EventBatchBody)


class EstimatedFees(Struct):
    fees: list[FeeObject]


class InstantFeeObject(Struct, kw_only=True):
    lago_id: None = None
    lago_charge_id: UUID | None
    lago_charge_filter_id: UUID | None
    lago_invoice_id: None = None
    lago_true_up_fee_id: None = None
    lago_true_up_parent_fee_id: None = None
    lago_subscription_id: UUID
    external_subscription_id: str
    lago_customer_id: UUID
    external_customer_id: str
    item: FeeItem
    amount_cents: int
    amount_currency: str
    precise_amount: msgspec.Raw
    precise_total_amount: msgspec.Raw
    taxes_amount_cents: int = 0
    taxes_precise_amount: msgspec.Raw
    taxes_rate: int = 0
    total_amount_cents: int
    total_amount_currency: str
    units: str
    description: None = None
    precise_unit_amount: msgspec.Raw
    precise_coupons_amount_cents: str = "0.0"
    events_count: int
    pay_in_advance: bool
    invoiceable: bool
    payment_status: str = "pending"
    created_at: None = None
    succeeded_at: None = None
    failed_at: None = None
    refunded_at: None = None
    event_transaction_id: str | None
    amount_details: None = None


class InstantFees(Struct):
    fees: list[InstantFeeObject]


class EstimateController(Controller):
    path = "/events"
    tags = ["events"]
    opt = {"resource": "event"}

    @litestar.post("/estimate_fees", status_code=200, operation_class=TakesEstimate, sync_to_thread=True)
    def estimate_fees(self, body: bytes, db: Db, service: Running, organization: Org, now: Now) -> EstimatedFees:
        """What an event would be charged at once if it was sent now. Nothing is stored."""
        given = _decoded(body)
        active_subscription(db, service.price_book, organization, given.external_subscription_id or "", now)
        if not given.code:
            raise NotFound("billable_metric")
        event = _read(given, organization, now)
        service.upkeep.wait_until_readable(organization.id)
        drafts = estimate_fees(db, service.clickhouse, service.meter, service.price_book, organization, event, now)
        names = _customers(db, drafts)
        return EstimatedFees([_estimated(draft, names) for draft in drafts])

    @litestar.post("/estimate_instant_fees", status_code=200, operation_class=TakesEstimate, sync_to_thread=True)
    def estimate_instant_fees(self, body: bytes, db: Db, service: Running, organization: Org, now: Now) -> InstantFees:
        """What an event costs by itself under standard and percentage charges paid in advance. Nothing is stored."""
        given = _decoded(body)
        active_subscription(db, service.price_book, organization, given.external_subscription_id or "", now)
        event = _read(given, organization, now)
        drafts = instant_fees(db, service.price_book, organization, [event], now)
        names = _customers(db, drafts)
        return InstantFees([_instant(draft, names) for draft in drafts])

    @litestar.post("/batch_estimate_instant_fees", status_code=200, operation_class=TakesEstimates, sync_to_thread=True)
    def batch_estimate_instant_fees(
        self, body: bytes, db: Db, service: Running, organization: Org, now: Now
    ) -> InstantFees:
        """The same for many events, by subscription. An event that no charge takes costs nothing."""
        try:
            given = _many.decode(body).events
        except UNREADABLE as error:
            raise explain_undecodable(error, batch=True) from error
        named = None if given is None else [_named(one) for one in given]
        limit = service.settings.max_batch_events
        events, wrong = read_batch(named, limit, str(organization.id), now, Receipt(system_now()))
        if wrong:
            raise refusal(wrong)
        drafts = instant_fees(db, service.price_book, organization, list(events.values()), now)
        names = _customers(db, drafts)
        return InstantFees([_instant(draft, names) for draft in drafts])


def _decoded(body: bytes) -> EventInput:
    try:
        return _one.decode(body).event
    except UNREADABLE as error:
        raise explain_undecodable(error, batch=False) from error


def _named(given: EventInput) -> EventInput:
    """An event that needs no transaction id."""
    known = given.transaction_id not in (None, "")
    return given if known else msgspec.structs.replace(given, transaction_id=str(uuid4()))


def _read(given: EventInput, organization: Organization, now: datetime) -> Event:
    """An event at this moment; a time that was sent must be one all the same."""
    given, receipt = _named(given), Receipt(system_now())
    event = read_event(given, str(organization.id), now, receipt)
    if isinstance(event, Event):
        event = read_event(msgspec.structs.replace(given, timestamp=ABSENT), str(organization.id), now, receipt)
    if not isinstance(event, Event):
        raise Invalid(event)
    return event


def _customers(db: Session, drafts: list[FeeDraft]) -> dict[UUID, str]:
    """External ids by id; all of them are loaded already."""
    ids = {draft.buyer.customer_id for draft in drafts}
    return {one: db.get_one(Customer, one).external_id for one in ids}


def _item(draft: FeeDraft) -> FeeItem:
    item = draft.item
    return FeeItem(
        type=item.fee_type,
        code=item.code,
        name=item.name,
        description=item.description,
        invoice_display_name=item.display_name,
        filters=None if item.filters is None else dict(item.filters),
        filter_invoice_display_name=item.filter_display_name,
        lago_item_id=item.id,
        item_type="BillableMetric",
        grouped_by=dict(draft.group),
    )


def _estimated(draft: FeeDraft, names: dict[UUID, str]) -> FeeObject:
    """A fee that has not been made, as it would be on the wire; without ids and times of its own."""
    subscription, amounts, taxes = draft.owning_subscription, draft.amounts, draft.tax_amounts
    currency = subscription.plan.currency
    precise, precise_taxes = _kept(amounts.precise_amount_cents), _kept(taxes.precise_amount_cents)
    by_tax = dict(taxes.lines)
    return FeeObject(
        lago_id=None,
        lago_charge_id=draft.charge_id,
        lago_charge_filter_id=draft.charge_filter_id,
        lago_invoice_id=None,
        lago_subscription_id=subscription.id,
        external_subscription_id=subscription.external_id,
        lago_customer_id=subscription.customer_id,
        external_customer_id=names[subscription.customer_id],
        item=_item(draft),
        pay_in_advance=True,
        invoiceable=draft.invoiceable,
        amount_cents=amounts.amount_cents,
        amount_currency=currency,
        precise_amount=decimal_text(from_minor(precise, currency)),
        precise_total_amount=decimal_text(from_minor(precise + precise_taxes, currency)),
        taxes_amount_cents=taxes.amount_cents,
        taxes_precise_amount=decimal_text(from_minor(precise_taxes, currency)),
        taxes_rate=number(taxes.rate),
        total_aggregated_units=decimal_text(amounts.units),
        total_amount_cents=amounts.amount_cents + taxes.amount_cents,
        total_amount_currency=currency,
        units=decimal_text(amounts.units),
        precise_unit_amount=decimal_text(_kept(amounts.precise_unit_amount)),
        sub_total_excluding_taxes_amount_cents=amounts.amount_cents,
        sub_total_excluding_taxes_precise_amount_cents=decimal_text(precise),
        events_count=draft.events_count,
        payment_status="pending",
        created_at=None,
        succeeded_at=None,
        failed_at=None,
        refunded_at=None,
        amount_details=exact_json(amounts.amount_details),
        pricing_unit_details=None if draft.pricing_unit is None else exact_json(draft.pricing_unit),
        from_date=None,
        to_date=None,
        event_transaction_id=draft.event_transaction_id,
        applied_taxes=[
            AppliedTaxObject(
                lago_id=None,
                lago_tax_id=tax.id,
                tax_name=tax.name,
                tax_code=tax.code,
                tax_rate=number(tax.rate),
                tax_description=tax.description,
                amount_cents=by_tax[str(tax.id)],
                amount_currency=currency,
                created_at=None,
            )
            for tax in draft.taxes
        ],
    )


def _kept(precise: Decimal) -> Decimal:
    """A figure to the decimals that a fee is stored with."""
    return round_half_up(precise, STORED_PLACES)


def _instant(draft: FeeDraft, names: dict[UUID, str]) -> InstantFeeObject:
    subscription, amounts = draft.owning_subscription, draft.amounts
    currency = subscription.plan.currency
    precise = number(from_minor(amounts.precise_amount_cents, currency))
    return InstantFeeObject(
        lago_charge_id=draft.charge_id,
        lago_charge_filter_id=draft.charge_filter_id,
        lago_subscription_id=subscription.id,
        external_subscription_id=subscription.external_id,
        lago_customer_id=subscription.customer_id,
        external_customer_id=names[subscription.customer_id],
        item=_item(draft),
        amount_cents=amounts.amount_cents,
        amount_currency=currency,
        precise_amount=precise,
        precise_total_amount=precise,
        taxes_precise_amount=msgspec.Raw(b"0"),
        total_amount_cents=amounts.amount_cents,
        total_amount_currency=currency,
        units=decimal_text(amounts.units),
        precise_unit_amount=number(_kept(amounts.precise_unit_amount)),
        events_count=1,
        pay_in_advance=True,
        invoiceable=draft.invoiceable,
        event_transaction_id=draft.event_transaction_id,
    )
