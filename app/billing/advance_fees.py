"""The fees of single events under charges paid in advance (metering spec 1.8, 3.12). Nothing is stored here."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager, joinedload

from app.billing.advance_due import Due, Step
from app.billing.advance_levels import Levels
from app.billing.billed import BilledSubscription
from app.billing.book import load_taxes
from app.billing.charge_usage import COUNTED, Presented
from app.billing.close import billed_subscription
from app.billing.fees import FeeDraft, charge_item, tax_amounts
from app.billing.remembered import PriceBook
from app.billing.terms import ChargeTerms, PlanTerms, TaxBook
from app.core.aggregation import Aggregation
from app.core.boundaries import Boundaries, current
from app.core.charges.fees import FeeAmounts
from app.core.charges.pay_in_advance import event_fee, prorated_event_fee
from app.core.charges.properties import TARGET_WALLET
from app.core.charges.usage import BucketUsage, ChargeModel, ones
from app.core.money import exact, from_minor
from app.metering.arrivals import Arrival, Known
from app.metering.meter import Meter
from app.metering.windows import floor_ms
from app.models import Customer, Organization, Subscription
from app.stores.clickhouse import ClickHouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Owners:
    """Which subscription an event falls to, of those with its external id (metering spec 1.8): from start to end, both
    inclusive and in whole milliseconds; the one that has not ended, then the one that ended last, then that started last.
    """

    def __init__(self, db: Session, book: PriceBook, organization: Organization, external_ids: Collection[str]):
        found = db.scalars(
            select(Subscription)
            .join(Subscription.customer)
            .join(Customer.billing_entity)
            .where(
                Subscription.organization_id == organization.id,
                Subscription.external_id.in_([one for one in external_ids if "\x00" not in one]),
                Subscription.started_at.is_not(None),
            )
            .options(
                contains_eager(Subscription.customer).contains_eager(Customer.billing_entity),
                joinedload(Subscription.billing_entity),
            )
        ).all()
        plans: dict[UUID, PlanTerms] = {
            plan_id: book.plan(db, organization, plan_id) for plan_id in {one.plan_id for one in found}
        }
        self.subscriptions = found
        self._lives: dict[str, list[tuple[int, int | None, BilledSubscription]]] = defaultdict(list)
        for one in sorted(found, key=_preference, reverse=True):
            if one.started_at is not None:
                end = None if one.terminated_at is None else floor_ms(one.terminated_at)
                self._lives[one.external_id].append((floor_ms(one.started_at), end, billed_subscription(one, plans)))

    def of(self, external_id: str, timestamp_ms: int) -> BilledSubscription | None:
        """The subscription of an event, if there is one."""
        for start, end, subscription in self._lives.get(external_id, ()):
            if start <= timestamp_ms and (end is None or timestamp_ms <= end):
                return subscription
        return None


def _preference(one: Subscription) -> tuple[bool, datetime, datetime]:
    return one.terminated_at is None, one.terminated_at or _EPOCH, one.started_at or _EPOCH


def dues_of(owners: Owners, arrivals: Iterable[Arrival]) -> list[Due]:
    """What the events are billed by, in their order: each of them by every charge paid in advance on its metric that the
    plan of its subscription has. One without the property that its metric reads is not billed."""
    periods: dict[UUID, list[Boundaries]] = defaultdict(list)
    dues = []
    for arrival in arrivals:
        subscription = owners.of(arrival.external_subscription_id, arrival.event.timestamp_ms)
        if subscription is None:
            continue
        charges = [one for one in subscription.plan.charges if bills(one, arrival)]
        if charges:
            boundaries = _period(subscription, arrival.event.timestamp_ms, periods[subscription.id])
            dues += [due_of(arrival, subscription, charge, boundaries) for charge in charges]
    return dues


def bills(charge: ChargeTerms, arrival: Arrival) -> bool:
    """Whether a charge makes a fee of an event of its subscription."""
    if not charge.pay_in_advance or charge.metric_code != arrival.code:
        return False
    counts = charge.aggregation is Aggregation.COUNT or charge.field_name is None
    return counts or bool(arrival.properties.get(charge.field_name or ""))


def due_of(arrival: Arrival, subscription: BilledSubscription, charge: ChargeTerms, boundaries: Boundaries) -> Due:
    """An event in its bucket of a charge."""
    properties = arrival.properties
    bucket = charge.splitter.bucket([properties.get(key) for key in charge.splitter.keys])
    return Due(arrival, subscription, charge, boundaries, bucket)


def _period(subscription: BilledSubscription, timestamp_ms: int, known: list[Boundaries]) -> Boundaries:
    """The boundaries of the period of an event; those that were found before are kept in the order of time."""
    at = _EPOCH + timedelta(milliseconds=timestamp_ms)
    place = bisect_right(known, at, key=lambda one: one.charges_from)
    if place and at <= known[place - 1].charges_to:
        return known[place - 1]
    found = current(subscription.terms, at)
    known.insert(bisect_right(known, found.charges_from, key=lambda one: one.charges_from), found)
    return found


def bill_events(
    db: Session, clickhouse: ClickHouse, meter: Meter, organization_id: UUID, dues: Sequence[Due], known: Known
) -> tuple[list[FeeDraft], Levels]:
    """The fee of each of these events, in their order, and the levels that they lead to. `known` are the events that have
    been billed already."""
    levels = Levels.load(db, clickhouse, meter, organization_id, dues, known)
    taxes = load_taxes(db, {due.subscription.customer_id for due in dues})
    return [_draft(due, _amounts(due, levels), taxes) for due in dues], levels


def _amounts(due: Due, levels: Levels) -> FeeAmounts:
    """What an event comes to on top of what has been billed in its bucket and period, in what its charge is priced in."""
    step, charge = levels.tell(due), due.charge
    currency = charge.priced_in(due.subscription.plan.currency)
    price = (due.filter or charge).price
    if charge.prorated:
        levels.note_prorated(due, due.prorated(due.arrival.event, step.event))
        span = due.span
        return prorated_event_fee(price, step.event, span.days_from(due.instant), span.period_days, currency)
    unspent = due.allowance.unspent if due.allowance is not None else None
    spent_before = step.before.spent or unspent
    return event_fee(ChargeModel(charge.charge_model), price, _usage(due, step), step.event, currency, spent_before)


def _usage(due: Due, step: Step) -> BucketUsage:
    """The usage of an event's bucket, up to and with it."""
    after, carried = step.after, step.carried
    with exact():
        units = carried.units + after.water.current
        precise = carried.precise_total_amount_cents + after.precise_total_amount_cents
    counted = due.charge.aggregation in COUNTED
    unique = due.charge.aggregation is Aggregation.UNIQUE_COUNT
    return BucketUsage(
        units=units,
        events_count=int(units) if unique else carried.events_count + after.events_count,
        precise_total_amount=from_minor(precise, due.charge.priced_in(due.subscription.plan.currency)),
        runs=ones(units) if counted else None,
        spent=after.spent,
    )


def _draft(due: Due, priced: FeeAmounts, taxes: TaxBook) -> FeeDraft:
    subscription, charge = due.subscription, due.charge
    amounts = charge.in_money(priced, subscription.plan.currency)
    own = taxes.taxes(
        charge.taxes,
        subscription.plan.taxes,
        customer_id=subscription.customer_id,
    )
    return FeeDraft(
        id=uuid4(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=charge_item(charge, due.filter),
        amounts=amounts,
        from_=due.boundaries.charges_from,
        to=due.boundaries.charges_to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
        charge_id=charge.id,
        charge_filter_id=due.filter.id if due.filter else None,
        pay_in_advance=True,
        invoiceable=charge.invoiceable,
        event_transaction_id=due.arrival.event.transaction_id,
        event_id=due.event_id,
        group=_group(due),
        events_count=1,
        presented=_presented(due, amounts.units),
        pricing_unit=charge.pricing_unit.details(priced) if charge.pricing_unit else None,
        terms=charge,
    )


def _group(due: Due) -> Mapping[str, str | None]:
    """The event's values of the keys that group; the wallet only where the event names one (metering spec 3.5)."""
    keys = (due.filter or due.charge).group_keys
    implicit = TARGET_WALLET if due.charge.accepts_target_wallet else None
    return {
        key: value for key, value in zip(keys, due.bucket.group, strict=True) if not (key == implicit and value is None)
    }


def _presented(due: Due, units: Decimal) -> tuple[Presented, ...]:
    keys = due.charge.invoice_presentation_keys
    return (Presented({key: due.arrival.properties.get(key) or "" for key in keys}, units),) if keys else ()
