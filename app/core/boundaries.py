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
SAME_END = timedelta(days=2)
"""Ends no further apart than this are those of one period: the midnights of a date in two timezones lie 26 hours apart at
the most, the ends of two periods a week at least."""


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
class Stretch:
    """The part of a whole period that is billed, both instants included."""

    from_: datetime
    to: datetime
    period: Period

    def is_same_period(self, to: datetime) -> bool:
        """Whether something that ends at an instant is of the same period, in whichever timezone it was billed."""
        return abs(self.to - to) <= SAME_END


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What one invoice covers of one subscription. All instants are UTC and inclusive; `period_days` is the length of
    the whole period the subscription fee is for, `charges_period_days` of the one the charges are for.

    `fixed_charges` is what fixed charges in arrears are billed for, `fixed_charges_ahead` those in advance; None where an
    invoice has none of the kind.
    """

    from_: datetime
    to: datetime
    charges_from: datetime
    charges_to: datetime
    period_days: int
    charges_period_days: int
    fixed_charges: Stretch | None = None
    fixed_charges_ahead: Stretch | None = None


def periodic(terms: Terms, boundary: datetime) -> Boundaries:
    """The boundaries billed at the start of a new period: usage of the one before, and the fee of the one before (in
    arrears) or of the new one (in advance)."""
    current = terms.period_at(boundary)
    before = terms.before(current)
    return _boundaries(terms, current if terms.pay_in_advance else before, before, None, ahead=current)


def starting(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the first invoice, of what is paid in advance, at the start or when a trial ends; charges in
    arrears are still to come."""
    current = terms.period_at(instant)
    return _boundaries(terms, current, terms.before(current), None, ahead=current)


def terminating(terms: Terms, terminated_at: datetime) -> Boundaries:
    """The boundaries of the last invoice: the current period, up to the end of the subscription."""
    current = terms.period_at(terminated_at)
    return _boundaries(terms, current, current, terminated_at)


def current(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the period that contains an instant, to its end; of the first period for one before the start."""
    period = terms.period_at(max(instant, terms.started_at))
    return _boundaries(terms, period, period, None, ahead=period)


def joined(
    boundaries: Boundaries, previous_charges_to: datetime, previous_fixed_charges_to: datetime | None = None
) -> Boundaries:
    """The same boundaries with charges, and fixed charges, that begin where the ones before ended.

    For a subscription whose timezone has changed since: the two local midnights differ, and without this a few hours of
    events would be lost or billed twice. Left alone when they lie 26 hours or more apart (billing spec 1.3, step 4).
    """
    charges_from, charges_to = _after(previous_charges_to, boundaries.charges_from, boundaries.charges_to)
    fixed = boundaries.fixed_charges
    if fixed is not None and previous_fixed_charges_to is not None:
        from_, to = _after(previous_fixed_charges_to, fixed.from_, fixed.to)
        fixed = replace(fixed, from_=from_, to=to)
    return replace(boundaries, charges_from=charges_from, charges_to=charges_to, fixed_charges=fixed)


def _after(previous_to: datetime, from_: datetime, to: datetime) -> tuple[datetime, datetime]:
    after = previous_to + timedelta(microseconds=1)
    return (from_, to) if abs(from_ - after) >= _FARTHEST_MIDNIGHTS else (after, max(to, after))


def _boundaries(
    terms: Terms, fee: Period, charges: Period, terminated_at: datetime | None, ahead: Period | None = None
) -> Boundaries:
    """Clamp in the order of billing spec 1.3: the fee starts with the local day of the start, charges at its instant.

    Fixed charges in arrears are billed for the same period as charges.
    """
    started_at, tz = terms.started_at, terms.tz
    start_of_first_day = local_start(local_date(started_at, tz), tz)

    def end(period: Period) -> datetime:
        last = local_end(period.end, tz)
        if terminated_at is not None:
            last = min(last, terminated_at)
        return max(last, started_at)

    def stretch(period: Period) -> Stretch:
        return Stretch(max(local_start(period.start, tz), started_at), end(period), period)

    of_charges = stretch(charges)
    return Boundaries(
        from_=max(local_start(fee.start, tz), start_of_first_day),
        to=end(fee),
        charges_from=of_charges.from_,
        charges_to=of_charges.to,
        period_days=fee.days,
        charges_period_days=charges.days,
        fixed_charges=of_charges,
        fixed_charges_ahead=None if ahead is None else stretch(ahead),
    )
