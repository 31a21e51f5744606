"""How far the lifetime usage of a subscription is on the way to its usage thresholds (billing spec 8.4)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.lifetime_usage import Lifetime
from app.billing.progressive_billing import thresholds_in_force
from app.core.money import exact, round_half_up
from app.core.usage_thresholds import Completion, completions
from app.models import AppliedUsageThreshold, Subscription

RATIO_PLACES = 10


@dataclass(frozen=True, slots=True)
class Reached:
    """An amount of lifetime usage in minor units, the part of the way to it from the one before, from 0 to 1, and when it
    was billed."""

    amount_cents: int
    ratio: Decimal
    at: datetime | None


def threshold_completions(db: Session, lifetime: Lifetime) -> list[Reached]:
    """How far it is to each of the thresholds that hold for a subscription, in the order of amounts. One that was passed
    without being billed by itself, as by usage that was invoiced before there was a threshold, has no time."""
    own = lifetime.subscription
    found = completions(thresholds_in_force(db, [own]).get(own.id, ()), lifetime.total)
    rows = db.execute(
        select(
            AppliedUsageThreshold.usage_threshold_id,
            AppliedUsageThreshold.lifetime_usage_amount_cents,
            AppliedUsageThreshold.created_at,
        )
        .join(Subscription, Subscription.id == AppliedUsageThreshold.subscription_id)
        .where(
            AppliedUsageThreshold.organization_id == own.organization_id,
            Subscription.customer_id == own.customer_id,
            Subscription.external_id == own.external_id,
        )
    ).all()
    times = [(threshold_id, amount, at) for threshold_id, amount, at in rows]
    return [Reached(one.amount_cents, _ratio(one), _time(one, times)) for one in found]


def _ratio(one: Completion) -> Decimal:
    with exact():
        return round_half_up(Decimal(one.ratio.numerator) / one.ratio.denominator, RATIO_PLACES)


def _time(one: Completion, applied: Iterable[tuple[UUID, int, datetime]]) -> datetime | None:
    times = (at for id_, amount, at in applied if id_ == one.threshold.id and amount >= one.amount_cents)
    return min(times, default=None) if one.ratio == 1 else None
