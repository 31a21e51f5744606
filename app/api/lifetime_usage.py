"""`/api/v1/subscriptions/{external_id}/lifetime_usage` (billing spec 8.4)."""

from datetime import datetime
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.given import Db, Now, Org, Running
from app.api.routes import get, put
from app.api.wire import Cents, Opt, instant, instant_or_none, number
from app.billing.lifetime_usage import Lifetime, lifetime_usage, set_historical_usage
from app.billing.threshold_completions import threshold_completions
from app.errors import invalid


class LifetimeUsageInput(Struct):
    external_historical_usage_amount_cents: Cents | Opt | None = UNSET


class LifetimeUsageBody(Struct):
    lifetime_usage: LifetimeUsageInput


class CompletionObject(Struct):
    amount_cents: int
    completion_ratio: msgspec.Raw
    reached_at: str | None


class LifetimeUsageObject(Struct):
    lago_id: UUID
    lago_subscription_id: UUID
    external_subscription_id: str
    external_historical_usage_amount_cents: int
    invoiced_usage_amount_cents: int
    current_usage_amount_cents: int
    from_datetime: str
    to_datetime: str
    usage_thresholds: list[CompletionObject]


class LifetimeUsageAnswer(Struct):
    lifetime_usage: LifetimeUsageObject


class LifetimeUsageController(Controller):
    path = "/subscriptions/{external_id:str}/lifetime_usage"
    tags = ["usage"]
    opt = {"resource": "lifetime_usage"}

    @get()
    def get_lifetime_usage(
        self, external_id: str, db: Db, service: Running, organization: Org, now: Now
    ) -> LifetimeUsageAnswer:
        """All that a subscription has used since it began, and before it came here."""
        service.wait_until_readable(organization.id)
        found = lifetime_usage(db, service.meter, service.price_book, organization, external_id, now)
        return LifetimeUsageAnswer(_lifetime_object(db, found, now))

    @put()
    def update_lifetime_usage(
        self, external_id: str, data: LifetimeUsageBody, db: Db, service: Running, organization: Org, now: Now
    ) -> LifetimeUsageAnswer:
        """Set what a subscription had used before it came here."""
        amount = data.lifetime_usage.external_historical_usage_amount_cents
        if not isinstance(amount, int):
            raise invalid("external_historical_usage_amount_cents", "value_is_mandatory")
        service.wait_until_readable(organization.id)
        set_historical_usage(db, organization.id, external_id, amount, now)
        found = lifetime_usage(db, service.meter, service.price_book, organization, external_id, now)
        return LifetimeUsageAnswer(_lifetime_object(db, found, now))


def _lifetime_object(db: Session, found: Lifetime, now: datetime) -> LifetimeUsageObject:
    return LifetimeUsageObject(
        lago_id=found.id,
        lago_subscription_id=found.subscription.id,
        external_subscription_id=found.subscription.external_id,
        external_historical_usage_amount_cents=found.historical,
        invoiced_usage_amount_cents=found.invoiced,
        current_usage_amount_cents=found.current,
        from_datetime=instant(found.subscription.subscription_at),
        to_datetime=instant(now),
        usage_thresholds=[
            CompletionObject(one.amount_cents, number(one.ratio), instant_or_none(one.at))
            for one in threshold_completions(db, found)
        ],
    )
