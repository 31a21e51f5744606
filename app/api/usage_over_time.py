"""`/api/v1/analytics/usage_over_time`: usage in hours, days, weeks or months, by metric, customer, subscription and
dimension. Not in Lago's API."""

from datetime import date, datetime, timedelta
from typing import Annotated

from litestar import Controller
from litestar.params import Parameter
from msgspec import Struct

from app.analytics.over_time import Asked, owner_ids, prepare
from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import get
from app.api.wire import PageMeta, instant, parse_instant
from app.core.money import decimal_text
from app.core.timeline import Granularity
from app.errors import invalid
from app.metering.instants import EPOCH
from app.metering.over_time import Owner, Question, TooManyRows, UsedInBucket

MOST_BUCKETS = 10_000
MOST_ROWS = 100_000
MOST_KEYS = 5
DATE_LENGTH = len("2027-01-31")


class UsageOverTimeObject(Struct):
    """`from_datetime` is in the bucket, `to_datetime` is not. The external ids are null where usage is not told apart by
    them."""

    from_datetime: str
    to_datetime: str
    billable_metric_code: str
    aggregation_type: str
    external_customer_id: str | None
    external_subscription_id: str | None
    grouped_by: dict[str, str | None]
    units: str
    events_count: int


class UsageOverTimePage(Struct):
    usage_over_time: list[UsageOverTimeObject]
    meta: PageMeta


class UsageOverTimeController(Controller):
    path = "/analytics/usage_over_time"
    tags = ["analytics"]
    opt = {"resource": "analytics"}

    @get()
    def get_usage_over_time(
        self,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        time_granularity: Granularity = Granularity.DAILY,
        from_date: str | None = None,
        to_date: str | None = None,
        timezone: str | None = None,
        billable_metric_code: str | None = None,
        external_customer_id: str | None = None,
        external_subscription_id: str | None = None,
        split_by: Owner = Owner.NOBODY,
        group_by: Annotated[list[str] | None, Parameter(description="Properties to tell usage apart by.")] = None,
    ) -> UsageOverTimePage:
        """Units used in each hour, day, week or month that has any, by metric, and as asked for by customer, subscription
        and properties. Dates are whole local days, date-times are instants of which the last is not included."""
        asked = read_asked(
            time_granularity,
            from_date,
            to_date,
            timezone,
            billable_metric_code,
            external_customer_id,
            external_subscription_id,
            split_by,
            group_by,
        )
        question = prepare(db, organization, asked, now, MOST_BUCKETS)
        service.wait_until_readable(organization.id)
        try:
            used = service.usage_over_time(question, MOST_ROWS)
        except TooManyRows:
            raise invalid("base", "too_many_rows") from None
        shown = used[paging.offset : paging.offset + paging.per_page]
        return UsageOverTimePage([_object(one, question, asked) for one in shown], paging.meta(len(used)))


def read_asked(
    time_granularity: Granularity,
    from_date: str | None,
    to_date: str | None,
    timezone: str | None,
    billable_metric_code: str | None,
    external_customer_id: str | None,
    external_subscription_id: str | None,
    split_by: Owner,
    group_by: list[str] | None,
) -> Asked:
    """What the parameters ask for.

    Raises:
        Invalid: `invalid_date`, or too many properties.
    """
    keys = tuple(dict.fromkeys(group_by or ()))
    if len(keys) > MOST_KEYS:
        raise invalid("group_by", "value_is_out_of_range")
    return Asked(
        granularity=time_granularity,
        from_=_date_or_instant(from_date, "from_date"),
        to=_date_or_instant(to_date, "to_date"),
        timezone=timezone or None,
        billable_metric_code=billable_metric_code,
        external_customer_id=external_customer_id,
        external_subscription_id=external_subscription_id,
        split_by=split_by,
        keys=keys,
    )


def _date_or_instant(text: str | None, field: str) -> date | datetime | None:
    if text is None:
        return None
    if len(text) > DATE_LENGTH:
        return parse_instant(text.strip().replace(" ", "+") if "T" in text else text, field)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise invalid(field, "invalid_date") from None


def _object(one: UsedInBucket, question: Question, asked: Asked) -> UsageOverTimeObject:
    from_, to = (
        EPOCH + timedelta(milliseconds=one_ms) for one_ms in question.bounds_ms[one.bucket - 1 : one.bucket + 1]
    )
    customer, subscription = owner_ids(asked, one)
    return UsageOverTimeObject(
        from_datetime=instant(from_),
        to_datetime=instant(to),
        billable_metric_code=one.code,
        aggregation_type=one.aggregation,
        external_customer_id=customer,
        external_subscription_id=subscription,
        grouped_by={key: text or None for key, text in zip(question.keys, one.split, strict=True)},
        units=decimal_text(one.units),
        events_count=one.events_count,
    )
