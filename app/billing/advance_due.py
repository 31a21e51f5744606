"""An event that a charge paid in advance bills, and how its level is kept."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.billing.billed import BilledSubscription
from app.billing.charge_usage import charge_window
from app.billing.terms import ChargeFilterTerms, ChargeTerms
from app.core.aggregation import Aggregation, Sample, Units
from app.core.boundaries import Boundaries
from app.core.buckets import Bucket
from app.core.charges.advance_level import Level, Presence, told
from app.core.charges.events import instant
from app.core.charges.pay_in_advance import AdvanceEvent, HighWater
from app.core.charges.percentage import Percentage
from app.core.charges.proration import ProratedSpan, prorated_quantity
from app.core.charges.usage import ONE, Spent
from app.core.money import ZERO, from_minor
from app.metering.arrivals import Arrival
from app.metering.event_ids import event_id
from app.metering.windows import Window
from app.models import AdvanceLevel

Place = tuple[UUID, UUID, datetime]
"""Subscription, charge, and the start of the period."""


@dataclass(frozen=True, slots=True)
class Due:
    """An event that a charge bills, in a period and a bucket of a subscription."""

    arrival: Arrival
    subscription: BilledSubscription
    charge: ChargeTerms
    boundaries: Boundaries
    bucket: Bucket

    @property
    def place(self) -> Place:
        """Whose level it changes, but for the bucket."""
        return self.subscription.id, self.charge.id, self.boundaries.charges_from

    @property
    def window(self) -> Window:
        """The events of its charge and period."""
        return charge_window(self.subscription, self.charge, self.boundaries, self.charge.splitter)

    @property
    def event_id(self) -> UUID:
        """The event's id, as it is told to its sender."""
        subscription, arrival = self.subscription, self.arrival
        return UUID(event_id((str(subscription.organization_id), *arrival.key)))

    @property
    def instant(self) -> datetime:
        """When the event was."""
        return instant(self.arrival.event)

    @property
    def filter(self) -> ChargeFilterTerms | None:
        """The filter that the event falls under; None for the default bucket."""
        return None if self.bucket.filter is None else self.charge.filters[self.bucket.filter]

    @property
    def allowance(self) -> Percentage | None:
        """The properties of the bucket's price, where it looks at single values."""
        advance = (self.filter or self.charge).advance
        return advance.allowance if advance is not None else None

    @property
    def span(self) -> ProratedSpan:
        """The time that a prorated charge is paid for."""
        return self.subscription.span(self.boundaries)

    def prorated(self, sample: Sample, event: AdvanceEvent) -> Decimal:
        """The quantity that an event of a prorated charge is billed for."""
        span = self.span
        return prorated_quantity(event.billed, span.days_from(instant(sample)), span.period_days)

    def told(
        self, level: Level, sample: Sample, precise_cents: Decimal, presence: Presence | None
    ) -> tuple[Level, AdvanceEvent]:
        """The level after an event of this bucket, with its own precise amount in minor units, and what it bills.
        `presence` are the items of a unique count."""
        match self.charge.aggregation:
            case Aggregation.UNIQUE_COUNT:
                change = presence.change(sample) if presence is not None else ZERO
            case Aggregation.SUM:
                change = sample.value
            case _:
                change = ONE
        priced_in = self.charge.priced_in(self.subscription.plan.currency)
        precise = from_minor(precise_cents, priced_in) if precise_cents else ZERO
        return told(self.charge.aggregation, level, sample, change, precise_cents, precise, self.allowance)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event does to its bucket: the level before and after it, what it bills, and what was carried over."""

    before: Level
    after: Level
    event: AdvanceEvent
    carried: Units


def level_of(row: AdvanceLevel) -> Level:
    """A level as it was kept."""
    spent = row.spent
    return Level(
        HighWater(row.current, row.maximum, row.started),
        row.events_count,
        row.precise_total_amount_cents,
        row.prorated,
        None
        if spent is None
        else Spent(
            spent["taken"],
            Decimal(spent["total"]),
            spent["below"],
            Decimal(spent["room"]),
            spent["events"],
            Decimal(spent["bounded"]),
        ),
    )


def level_columns(level: Level) -> dict[str, Any]:
    """A level as it is kept."""
    return {
        "current": level.water.current,
        "maximum": level.water.maximum,
        "started": level.water.started,
        "events_count": level.events_count,
        "precise_total_amount_cents": level.precise_total_amount_cents,
        "prorated": level.prorated,
        "spent": None if level.spent is None else _spent_json(level.spent),
    }


def _spent_json(spent: Spent) -> dict[str, Any]:
    return {
        "taken": spent.taken,
        "total": str(spent.total),
        "below": spent.below,
        "room": str(spent.room),
        "events": spent.events,
        "bounded": str(spent.bounded),
    }


def bucket_json(charge: ChargeTerms, bucket: Bucket) -> dict[str, Any]:
    """A bucket as it is kept: the id of its filter, and its group."""
    filter_ = None if bucket.filter is None else charge.filters[bucket.filter].id.hex
    return {"filter": filter_, "group": list(bucket.group)}


def bucket_digest(charge: ChargeTerms, bucket: Bucket) -> str:
    """What a bucket is found by."""
    return hashlib.sha256(json.dumps(bucket_json(charge, bucket), sort_keys=True).encode()).hexdigest()
