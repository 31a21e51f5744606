"""Which stretch of time an invoice covers: period boundaries clamped to a subscription's life (billing spec 1.3)."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.periods import (
    BillingTime,
    Interval,
    Period,
    local_date,
    local_end,
    local_start,
    next_period,
    period_containing,
    previous_period,
)

_FARTHEST_MIDNIGHTS = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides a subscription's periods. Instants are aware; `anchor_at` is its `subscription_at`."""

    interval: Interval
    billing_time: BillingTime
    pay_in_advance: bool
    anchor_at: datetime
    started_at: datetime
    tz: ZoneInfo

    @property
    def anchor(self) -> date:
        """The local date that anniversary periods are counted from."""
        return local_date(self.anchor_at, self.tz)

    def period_at(self, instant: datetime) -> Period:
        """The period that contains the local date of an instant."""
        return period_containing(local_date(instant, self.tz), self.interval, self.billing_time, self.anchor)

    def before(self, period: Period) -> Period:
        """The period before another."""
        return previous_period(period, self.interval, self.billing_time, self.anchor)

    def after(self, period: Period) -> Period:
        """The period after another."""
        return next_period(period, self.interval, self.billing_time, self.anchor)

    def next_boundary(self, instant: datetime) -> datetime:
        """The start of the period after the one that contains an instant: when that one can be billed."""
        return local_start(self.period_at(instant).end + timedelta(days=1), self.tz)


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What one invoice covers of one subscription. All instants are UTC and inclusive; `period_days` is the length of
    the whole period the subscription fee is for, `charges_period_days` of the one the charges are for."""

    from_: datetime
    to: datetime
    charges_from: datetime
    charges_to: datetime
    period_days: int
    charges_period_days: int


def periodic(terms: Terms, boundary: datetime) -> Boundaries:
    """The boundaries billed at the start of a new period: usage of the one before, and the fee of the one before (in
    arrears) or of the new one (in advance)."""
    current = terms.period_at(boundary)
    before = terms.before(current)
    return _boundaries(terms, current if terms.pay_in_advance else before, before, None)


def starting(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the first invoice of a plan paid in advance, at its start or when its trial ends; its charges are
    still to come."""
    current = terms.period_at(instant)
    return _boundaries(terms, current, terms.before(current), None)


def terminating(terms: Terms, terminated_at: datetime) -> Boundaries:
    """The boundaries of the last invoice: the current period, up to the end of the subscription."""
    current = terms.period_at(terminated_at)
    return _boundaries(terms, current, current, terminated_at)


def current(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the period that contains an instant, to its end; of the first period for one before the start."""
    period = terms.period_at(max(instant, terms.started_at))
    return _boundaries(terms, period, period, None)


def joined(boundaries: Boundaries, previous_charges_to: datetime) -> Boundaries:
    """The same boundaries with charges that begin where the ones before ended.

    For a subscription whose timezone has changed since: the two local midnights differ, and without this a few hours of
    events would be lost or billed twice. Left alone when they lie 26 hours or more apart (billing spec 1.3, step 4).
    """
    after = previous_charges_to + timedelta(microseconds=1)
    if abs(boundaries.charges_from - after) >= _FARTHEST_MIDNIGHTS:
        return boundaries
    return replace(boundaries, charges_from=after, charges_to=max(boundaries.charges_to, after))


def _boundaries(terms: Terms, fee: Period, charges: Period, terminated_at: datetime | None) -> Boundaries:
    """Clamp in the order of billing spec 1.3: the fee starts with the local day of the start, charges at its instant."""
    started_at, tz = terms.started_at, terms.tz
    start_of_first_day = local_start(local_date(started_at, tz), tz)

    def end(period: Period) -> datetime:
        last = local_end(period.end, tz)
        if terminated_at is not None:
            last = min(last, terminated_at)
        return max(last, started_at)

    return Boundaries(
        from_=max(local_start(fee.start, tz), start_of_first_day),
        to=end(fee),
        charges_from=max(local_start(charges.start, tz), started_at),
        charges_to=end(charges),
        period_days=fee.days,
        charges_period_days=charges.days,
    )
