"""`/api/v1/analytics/usage`: what usage added to the charges, day by day (billing spec 11.7)."""

from datetime import date, datetime, timedelta
from typing import Literal
from uuid import UUID

from litestar import Controller
from msgspec import Struct

from app.analytics.over_time import SHOWN_BY_DEFAULT
from app.analytics.priced_usage import PricedUsage, UsageFilter, priced_usage
from app.api.given import Db, Now, Org, Running
from app.api.routes import get
from app.core.money import decimal_text
from app.core.periods import local_date
from app.core.timeline import Granularity, dates_around
from app.customers.billing_entities import default_timezone
from app.errors import invalid
from app.models import Organization

MOST_DAYS = 1_100
FIRST_YEAR, LAST_YEAR = 1970, 2299


class UsageObject(Struct):
    """The dates are the first and the last of the day, week or month, whether it was asked for as a whole or in part."""

    organization_id: UUID
    start_of_period_dt: str
    end_of_period_dt: str
    amount_currency: str
    amount_cents: int
    billable_metric_code: str
    units: str
    is_billable_metric_deleted: bool


class UsageList(Struct):
    usages: list[UsageObject]


class UsageAnalyticsController(Controller):
    path = "/analytics/usage"
    tags = ["analytics"]
    opt = {"resource": "analytics"}

    @get()
    def get_usage(
        self,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        time_granularity: Literal["daily", "weekly", "monthly"] = "daily",
        currency: str | None = None,
        from_date: str | None = None,
        to_date: str | None = None,
        customer_type: Literal["individual", "company"] | None = None,
        external_customer_id: str | None = None,
        customer_country: str | None = None,
        external_subscription_id: str | None = None,
        is_billable_metric_recurring: bool | None = None,
        plan_code: str | None = None,
        billable_metric_code: str | None = None,
    ) -> UsageList:
        """The units and the amount that each day, week or month added to the charges of its billing period, by metric and
        currency. Both dates are included."""
        granularity = Granularity(time_granularity)
        first, last = _dates(db, from_date, to_date, granularity, organization, now)
        wanted = UsageFilter(
            currency=currency,
            customer_type=customer_type,
            customer_country=customer_country.upper() if customer_country else None,
            external_customer_id=external_customer_id,
            external_subscription_id=external_subscription_id,
            plan_code=plan_code,
            billable_metric_code=billable_metric_code,
            is_recurring=is_billable_metric_recurring,
        )
        service.wait_until_readable(organization.id)
        usage = priced_usage(db, organization.id, wanted, first, last, granularity, service.meter)
        return UsageList([_object(one, organization.id) for one in usage])


def _dates(
    db: Db,
    from_date: str | None,
    to_date: str | None,
    granularity: Granularity,
    organization: Organization,
    now: datetime,
) -> tuple[date, date]:
    """The first and the last date: by default up to today in the default billing entity's timezone."""
    last = _date(to_date, "to_date")
    if last is None:
        last = local_date(now, default_timezone(db, organization.id))
    first = _date(from_date, "from_date")
    if first is None:
        first = dates_around(last - SHOWN_BY_DEFAULT[granularity], granularity)[0]
    if first > last:
        raise invalid("to_date", "value_is_out_of_range")
    if last - first > timedelta(days=MOST_DAYS) or not FIRST_YEAR <= first.year <= last.year <= LAST_YEAR:
        raise invalid("from_date", "value_is_out_of_range")
    return first, last


def _date(text: str | None, field: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise invalid(field, "invalid_date") from None


def _object(one: PricedUsage, organization_id: UUID) -> UsageObject:
    return UsageObject(
        organization_id=organization_id,
        start_of_period_dt=one.start.isoformat(),
        end_of_period_dt=one.end.isoformat(),
        amount_currency=one.currency,
        amount_cents=one.amount_cents,
        billable_metric_code=one.metric_code,
        units=decimal_text(one.units),
        is_billable_metric_deleted=False,
    )
