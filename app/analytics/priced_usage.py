"""What the usage of each day, week or month cost: how much each of them added to the charges of its billing period
(billing spec 11.7).

A price depends on everything used since the period began, so what a day cost is the amount at its end less the amount at
its start. The days of a period add up to its fees, and weeks and months are sums of days. Prices are those in force now.
Days are those of the customer's timezone. A metric that has been deleted is in no plan, and so has no amounts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, contains_eager

from app.analytics.growing import GrowingMeter
from app.billing.billed import BilledSubscription
from app.billing.book import load_plans
from app.billing.charge_usage import Item, Options, charge_usage
from app.billing.close import billed_subscription
from app.billing.terms import PlanTerms
from app.core.boundaries import Boundaries, current, terminating
from app.core.money import ZERO, exact
from app.core.periods import local_date, local_end, local_start
from app.core.timeline import Granularity, dates_around
from app.core.values import replace
from app.metering.meter import Meter
from app.models import Customer, Plan, Subscription

ONE_DAY = timedelta(days=1)
DAY_AROUND_THE_WORLD = timedelta(days=2)
CHUNK = 500
PLAIN = Options(presentation_keys=())


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Whose usage of which metrics is wanted; None means all."""

    currency: str | None = None
    customer_type: str | None = None
    customer_country: str | None = None
    external_customer_id: str | None = None
    external_subscription_id: str | None = None
    plan_code: str | None = None
    billable_metric_code: str | None = None
    is_recurring: bool | None = None

    def plan(self, plan: PlanTerms) -> PlanTerms:
        """The plan with only the charges wanted."""
        charges = [
            charge
            for charge in plan.charges
            if self.billable_metric_code in (None, charge.metric_code) and self.is_recurring in (None, charge.recurring)
        ]
        return replace(plan, charges=tuple(charges))


@dataclass(frozen=True, slots=True, order=True)
class PricedUsage:
    """What one metric's usage added from one date to another, in units and in minor units of the currency. Both are
    negative where the usage was taken back."""

    start: date
    end: date
    metric_code: str
    currency: str
    units: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A subscription's period up to the end of one of its days, weeks or months; `start` is the date that the time since
    the step before is told under, None for what lies before the dates asked for. `is_first` of its period."""

    item: Item
    start: date | None
    is_first: bool


def priced_usage(
    db: Session,
    organization_id: UUID,
    wanted: UsageFilter,
    first: date,
    last: date,
    granularity: Granularity,
    meter: Meter,
) -> list[PricedUsage]:
    """The usage from one date to another, both included, where it is not nothing; by date, metric and currency."""
    subscriptions = iter(db.scalars(_subscriptions(organization_id, wanted, first, last)).all())
    units: dict[tuple[date, str, str], Decimal] = defaultdict(Decimal)
    cents: dict[tuple[date, str, str], int] = defaultdict(int)
    while chunk := list(islice(subscriptions, CHUNK)):
        plans = {id_: wanted.plan(plan) for id_, plan in load_plans(db, {one.plan_id for one in chunk}).items()}
        steps = [
            step
            for one in chunk
            for step in _steps(billed_subscription(one, plans), one.terminated_at, first, last, granularity)
        ]
        for step, code, more_units, more_cents in _increments(meter, steps):
            if step.start is not None:
                key = (step.start, code, step.item[0].plan.currency)
                with exact():
                    units[key] += more_units
                cents[key] += more_cents
    found = [
        PricedUsage(start, dates_around(start, granularity)[1], code, currency, units[key], cents[key])
        for key in units
        for start, code, currency in [key]
        if units[key] or cents[key]
    ]
    return sorted(found)


def _subscriptions(organization_id: UUID, wanted: UsageFilter, first: date, last: date) -> Select[Subscription]:
    """The subscriptions that may have run between the dates, wherever their customers are."""
    query = (
        select(Subscription)
        .join(Subscription.customer)
        .join(Customer.billing_entity)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(
            Subscription.organization_id == organization_id,
            Subscription.started_at < _midnight(last) + DAY_AROUND_THE_WORLD,
            (Subscription.terminated_at.is_(None))
            | (Subscription.terminated_at > _midnight(first) - DAY_AROUND_THE_WORLD),
        )
        .options(contains_eager(Subscription.customer).contains_eager(Customer.billing_entity))
        .order_by(Subscription.id)
    )
    for column, value in (
        (Plan.amount_currency, wanted.currency),
        (Plan.code, wanted.plan_code),
        (Customer.customer_type, wanted.customer_type),
        (Customer.country, wanted.customer_country),
        (Customer.external_id, wanted.external_customer_id),
        (Subscription.external_id, wanted.external_subscription_id),
    ):
        if value is not None:
            query = query.where(column == value)
    return query


def _steps(
    billed: BilledSubscription, terminated_at: datetime | None, first: date, last: date, granularity: Granularity
) -> Iterator[_Step]:
    if not billed.plan.charges:
        return
    for boundaries in _periods(billed, terminated_at, first, last):
        for place, (start, to) in enumerate(_cuts(billed, boundaries, first, last, granularity)):
            yield _Step((billed, boundaries.with_charges(to=to)), start, is_first=not place)


def _periods(
    billed: BilledSubscription, terminated_at: datetime | None, first: date, last: date
) -> Iterator[Boundaries]:
    """The billing periods that have a part between the dates."""
    terms = billed.terms
    instant = max(local_start(first, billed.tz), billed.started_at)
    while (terminated_at is None or instant < terminated_at) and local_date(instant, billed.tz) <= last:
        after = terms.next_charges_boundary(instant)
        ends = terminated_at is not None and terminated_at < after
        boundaries = terminating(terms, terminated_at) if ends and terminated_at else current(terms, instant)
        if boundaries.charges_from < boundaries.charges_to:
            yield boundaries
        instant = after


def _cuts(
    billed: BilledSubscription, boundaries: Boundaries, first: date, last: date, granularity: Granularity
) -> Iterator[tuple[date | None, datetime]]:
    """A period's time up to the last date in parts: the date each is told under, and its end, included."""
    tz = billed.tz
    day = local_date(boundaries.charges_from, tz)
    if day < first:
        yield None, local_end(first - ONE_DAY, tz)
        day = first
    end = min(last, local_date(boundaries.charges_to, tz))
    while day <= end:
        start, last_of_part = dates_around(day, granularity)
        until = min(last_of_part, end)
        yield start, min(local_end(until, tz), boundaries.charges_to)
        day = until + ONE_DAY


def _increments(meter: Meter, steps: Sequence[_Step]) -> Iterator[tuple[_Step, str, Decimal, int]]:
    """By how much each step raised the units and the amount of each charge of its subscription."""
    before: dict[UUID, tuple[Decimal, int]] = {}
    for step, charges in zip(
        steps, charge_usage(GrowingMeter(meter), [step.item for step in steps], PLAIN), strict=True
    ):
        if step.is_first:
            before = {}
        for one in charges:
            with exact():
                units = sum((fee.amounts.units for fee in one.fees), ZERO)
                known, paid = before.get(one.charge.id, (ZERO, 0))
                more = units - known
            cents = sum(fee.amounts.amount_cents for fee in one.fees)
            yield step, one.charge.metric_code, more, cents - paid
            before[one.charge.id] = units, cents


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
