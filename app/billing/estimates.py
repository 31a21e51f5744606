"""What an event would cost at once, before it is sent (metering spec 5.6, 5.7). Nothing is stored."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.advance_due import Due
from app.billing.advance_fees import Owners, bill_events, bills, due_of
from app.billing.billed import BilledSubscription
from app.billing.fees import FeeDraft, charge_item, tax_amounts
from app.billing.remembered import PriceBook
from app.billing.terms import ChargeTerms
from app.core.aggregation import Aggregation, Sample, decimal_value, round_units
from app.core.boundaries import current
from app.core.charges.fees import FeeAmounts
from app.core.charges.usage import ONE, per_unit
from app.core.expressions import EvaluationError
from app.core.money import ZERO, exact, minor_int, to_minor
from app.errors import Invalid, NotFound, invalid
from app.metering.acceptance import evaluation_failure
from app.metering.arrivals import Arrival, Known
from app.metering.evaluation import evaluated
from app.metering.events import Event, MetricDefinition
from app.metering.meter import Meter
from app.metering.rows import enriched
from app.metering.windows import floor_ms
from app.models import BillableMetric, Organization, Subscription
from app.stores.clickhouse import ClickHouse

NO_CHARGE = "does_not_match_an_instant_charge"


def estimate_fees(
    db: Session,
    clickhouse: ClickHouse,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    event: Event,
    now: datetime,
) -> list[FeeDraft]:
    """The fees that an event would make if it was sent now, on top of all that is there: what it is then charged, to the
    cent. An event without the property that its metric reads makes none.

    Raises:
        NotFound: `subscription_not_found`, `billable_metric_not_found`.
        Invalid: the expression has no result, the value is not a number, or no charge of the plan is paid in advance.
    """
    subscription = active_subscription(db, book, organization, event.key[1], now)
    metric = db.scalar(
        select(BillableMetric).where(
            BillableMetric.organization_id == organization.id,
            BillableMetric.code == event.code.replace("\x00", ""),
            BillableMetric.deleted_at.is_(None),
        )
    )
    if metric is None or metric.code != event.code:
        raise NotFound("billable_metric")
    event = _evaluated(event, metric)
    if metric.aggregation_type in {Aggregation.SUM, Aggregation.MAX, Aggregation.LATEST}:
        _number(event, metric.field_name)
    charges = [one for one in subscription.plan.charges if one.pay_in_advance and one.metric_id == metric.id]
    if not charges:
        raise invalid("code", NO_CHARGE)
    arrival = _arrival(event, metric, now)
    boundaries = current(subscription.terms, now)
    dues: list[Due] = [due_of(arrival, subscription, one, boundaries) for one in charges if bills(one, arrival)]
    drafts, _ = bill_events(db, clickhouse, meter, organization.id, dues, Known())
    return drafts


def instant_fees(
    db: Session, book: PriceBook, organization: Organization, events: Sequence[Event], now: datetime
) -> list[FeeDraft]:
    """What each event costs by itself, whatever came before it, under the standard and the percentage charges that are
    paid in advance: by subscription in the order of their first event. Without free units, groups and taxes.

    Raises:
        NotFound: `subscription_not_found`.
        Invalid: the value is not a number, or no charge of a subscription's plan takes any of its events.
    """
    by_subscription: dict[str, list[Event]] = {}
    for event in events:
        by_subscription.setdefault(event.key[1], []).append(event)
    fees: list[FeeDraft] = []
    for external_id, mine in by_subscription.items():
        subscription = active_subscription(db, book, organization, external_id, now)
        codes = {event.code for event in mine}
        charges = [
            one
            for one in subscription.plan.charges
            if one.metric_code in codes and one.advance is not None and one.advance.instant is not None
        ]
        if not charges:
            raise invalid("code", NO_CHARGE)
        metrics = {
            metric.id: metric
            for metric in db.scalars(
                select(BillableMetric).where(BillableMetric.id.in_({one.metric_id for one in charges}))
            )
        }
        for event in mine:
            fees += [
                _instant_fee(_evaluated(event, metrics[one.metric_id]), subscription, one, now)
                for one in charges
                if one.metric_code == event.code
            ]
    return fees


def active_subscription(
    db: Session, book: PriceBook, organization: Organization, external_id: str, now: datetime
) -> BilledSubscription:
    """The subscription that an event would fall to now.

    Raises:
        NotFound: `subscription_not_found`.
    """
    is_active = db.scalar(
        select(Subscription.id).where(
            Subscription.organization_id == organization.id,
            Subscription.external_id == external_id.replace("\x00", ""),
            Subscription.status == "active",
        )
    )
    found = Owners(db, book, organization, [external_id]).of(external_id, floor_ms(now)) if is_active else None
    if found is None or found.id != is_active:
        raise NotFound("subscription")
    return found


def _evaluated(event: Event, metric: BillableMetric) -> Event:
    try:
        return evaluated(event, _definition(metric))
    except EvaluationError as error:
        raise Invalid(evaluation_failure(error)) from error


def _definition(metric: BillableMetric) -> MetricDefinition:
    return MetricDefinition.of(metric.aggregation_type, metric.field_name, metric.expression, metric.dimension_keys)


def _number(event: Event, field: str | None) -> Decimal:
    value = decimal_value(event.properties.get(field or ""))
    if value is None:
        raise invalid("properties", "value_is_not_valid_number")
    return value


def _arrival(event: Event, metric: BillableMetric, now: datetime) -> Arrival:
    (row,) = enriched([event], {(event.key[0], event.code): _definition(metric)}, "")
    sample = Sample(event.timestamp_ms, event.key[2], Decimal(row.value) or ZERO, row.item, row.operation)
    return Arrival(event.key[1], event.code, sample, event.properties, event.precise_total_amount_cents or ZERO, now)


def _instant_fee(event: Event, subscription: BilledSubscription, charge: ChargeTerms, now: datetime) -> FeeDraft:
    bucket = charge.splitter.bucket([event.properties.get(key) for key in charge.splitter.keys])
    filter_ = None if bucket.filter is None else charge.filters[bucket.filter]
    terms = (filter_ or charge).advance
    if terms is None or terms.instant is None:
        raise ValueError(f"charge {charge.id} has no instant estimate")
    units = round_units(_own_units(event, charge), charge.rounding_function, charge.rounding_precision)
    currency = subscription.plan.currency
    precise = to_minor(terms.instant(units), charge.priced_in(currency))
    with exact():
        unit_amount = per_unit(terms.instant(units), units)
    amounts = charge.in_money(FeeAmounts(units, minor_int(precise), precise, unit_amount, {}), currency)
    boundaries = current(subscription.terms, now)
    return FeeDraft(
        id=uuid4(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=charge_item(charge, filter_),
        amounts=amounts,
        from_=boundaries.charges_from,
        to=boundaries.charges_to,
        taxes=(),
        tax_amounts=tax_amounts(amounts, ()),
        charge_id=charge.id,
        charge_filter_id=filter_.id if filter_ else None,
        pay_in_advance=True,
        invoiceable=charge.invoiceable,
        event_transaction_id=event.key[2],
        events_count=1,
    )


def _own_units(event: Event, charge: ChargeTerms) -> Decimal:
    """An event's own units: 1 where the metric counts events or items, else its value; 0 without the property."""
    if charge.aggregation is Aggregation.COUNT or not charge.field_name:
        return ONE
    if not event.properties.get(charge.field_name):
        return ZERO
    return ONE if charge.aggregation is Aggregation.UNIQUE_COUNT else _number(event, charge.field_name)
