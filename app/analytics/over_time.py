"""What a request for usage over time means: which metrics, whose subscriptions, and which hours, days, weeks or months."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.catalog.metrics import find_metric, live_metrics
from app.core.aggregation import SUPPORTED, Aggregation
from app.core.periods import is_timezone, local_date, local_start
from app.core.timeline import Granularity, bounds, dates_around
from app.core.values import replace
from app.customers.billing_entities import default_timezone
from app.customers.lookup import owners
from app.errors import invalid
from app.metering.over_time import MeteredBy, Owner, Question, UsedInBucket
from app.metering.windows import floor_ms
from app.models import BillableMetric, BillingEntity, Customer, Organization

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(2300, 1, 1, tzinfo=UTC)
"""No event lies outside."""
ONE_DAY = timedelta(days=1)
SHOWN_BY_DEFAULT = {
    Granularity.DAILY: timedelta(days=29),
    Granularity.WEEKLY: timedelta(weeks=11),
    Granularity.MONTHLY: timedelta(days=335),
}
"""How far before the last date the first one lies when no start is given, for 30 days, 12 weeks or 12 months; hours are
those of a day."""
SLICE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for usage over time. Dates are whole local days, the last one included; instants are half-open."""

    granularity: Granularity = Granularity.DAILY
    from_: date | datetime | None = None
    to: date | datetime | None = None
    timezone: str | None = None
    billable_metric_code: str | None = None
    external_customer_id: str | None = None
    external_subscription_id: str | None = None
    split_by: Owner = Owner.NOBODY
    keys: tuple[str, ...] = ()


def prepare(db: Session, organization: Organization, asked: Asked, now: datetime, most_buckets: int) -> Question:
    """The question to the event store.

    Without `to` it goes to the end of the hour, day, week or month that contains `now`. Without a timezone it is that of
    the customer who is asked for, else the organization's.

    Raises:
        NotFound: `billable_metric_not_found`.
        Invalid: the timezone is none, the time is empty, or it has more than `most_buckets`.
    """
    wanted = asked.external_customer_id is not None or asked.external_subscription_id is not None
    theirs: dict[str, str] = {}
    if wanted or asked.split_by is Owner.CUSTOMER:
        theirs = owners(
            db,
            organization.id,
            external_customer_id=asked.external_customer_id,
            external_id=asked.external_subscription_id,
        )
    subscriptions: set[str] | None = None
    if asked.external_customer_id is not None:
        subscriptions = set(theirs)
    elif asked.external_subscription_id is not None:
        subscriptions = {asked.external_subscription_id}
    tz = _zone(db, organization, asked.timezone, set(theirs.values()) if wanted else set())
    return Question(
        organization_id=organization.id,
        metrics=_metrics(db, organization, asked.billable_metric_code),
        bounds_ms=_bounds(asked, tz, now, most_buckets),
        subscriptions=subscriptions,
        split_by=asked.split_by,
        owners=theirs,
        keys=asked.keys,
    )


def owner_ids(asked: Asked, used: UsedInBucket) -> tuple[str | None, str | None]:
    """The external ids of the customer and of the subscription that used it; None where that is not told apart."""
    customer, subscription = asked.external_customer_id, asked.external_subscription_id
    if asked.split_by is Owner.CUSTOMER:
        customer = used.owner or None
    elif asked.split_by is Owner.SUBSCRIPTION:
        subscription = used.owner
    return customer, subscription


def in_slices(
    answer: Callable[[Question], Sequence[UsedInBucket]], question: Question
) -> Iterator[Sequence[UsedInBucket]]:
    """The answer to a question of any size, a few buckets at a time: as many as should have `SLICE_ROWS` rows, going by
    those before them."""
    first, size = 0, 1
    while first < len(question.bounds_ms) - 1:
        rows = answer(replace(question, bounds_ms=question.bounds_ms[first : first + size + 1]))
        yield [replace(row, bucket=row.bucket + first) for row in rows]
        first += size
        size = max(1, min(2 * size, SLICE_ROWS * size // max(len(rows), 1)))


def _metrics(db: Session, organization: Organization, code: str | None) -> list[MeteredBy]:
    found = [find_metric(db, organization.id, code)] if code is not None else db.scalars(live_metrics(organization.id))
    return [_metered(metric) for metric in found if Aggregation(metric.aggregation_type) in SUPPORTED]


def _metered(metric: BillableMetric) -> MeteredBy:
    return MeteredBy(
        metric.code, Aggregation(metric.aggregation_type), metric.recurring, frozenset(metric.dimension_keys)
    )


def _zone(db: Session, organization: Organization, name: str | None, customers: Collection[str]) -> ZoneInfo:
    """The zone of this name, else of the only customer concerned, else of the default billing entity."""
    if name is not None and not is_timezone(name):
        raise invalid("timezone", "value_is_invalid")
    if name is None and len(customers) == 1:
        name = db.scalar(
            select(func.coalesce(func.nullif(Customer.timezone, ""), BillingEntity.timezone))
            .join(Customer.billing_entity)
            .where(
                Customer.organization_id == organization.id,
                Customer.external_id.in_(customers),
                Customer.deleted_at.is_(None),
            )
        )
    return ZoneInfo(name) if name else default_timezone(db, organization.id)


def _bounds(asked: Asked, tz: ZoneInfo, now: datetime, most: int) -> list[int]:
    """The ends of the buckets, in milliseconds since 1970."""
    today = local_date(now, tz)
    if asked.to is None:
        if asked.granularity is Granularity.HOURLY:
            to = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        else:
            to = local_start(dates_around(today, asked.granularity)[1] + ONE_DAY, tz)
    else:
        to = _instant(asked.to, tz, "to_date", after=True)
    if asked.from_ is None:
        from_ = to - ONE_DAY
        if asked.granularity is not Granularity.HOURLY:
            last = local_date(to - timedelta(seconds=1), tz)
            from_ = local_start(dates_around(last - SHOWN_BY_DEFAULT[asked.granularity], asked.granularity)[0], tz)
    else:
        from_ = _instant(asked.from_, tz, "from_date", after=False)
    if from_ >= to:
        raise invalid("to_date", "value_is_out_of_range")
    found = list(islice(bounds(from_, to, asked.granularity, tz), most + 2))
    if len(found) > most + 1:
        raise invalid("time_granularity", "value_is_out_of_range")
    return [floor_ms(one) for one in found]


def _instant(given: date | datetime, tz: ZoneInfo, field: str, *, after: bool) -> datetime:
    """An instant, in whole seconds; of a date its start in the zone, or the start of the one after."""
    if isinstance(given, datetime):
        instant = given
    else:
        try:
            instant = local_start(given + ONE_DAY if after else given, tz)
        except (OverflowError, ValueError):
            raise invalid(field, "value_is_out_of_range") from None
    return min(max(instant, FIRST), LAST).replace(microsecond=0)
