"""Which stretch of time an invoice covers: period boundaries clamped to a subscription's life (billing spec 1.3).

A plan's fee, its charges and its fixed charges each have a sequence of periods of their own: those of charges and of fixed
charges are the plan's, or months. Months begin with the plan's period, on the same anchor, so every period is made of whole
months; a subscription is billed whenever a period of any of the three begins.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import Struct

from app.core.periods import (
    REMEMBERED,
    BillingTime,
    Cycle,
    Interval,
    Period,
    local_date,
    local_end,
    local_start,
)
from app.core.values import replace

_FARTHEST_MIDNIGHTS = timedelta(hours=26)
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
LONG_AGO = datetime(2, 1, 1, tzinfo=UTC)
"""Before anything that is billed; in every timezone a date."""
SAME_END = timedelta(days=2)
"""Ends no further apart than this are those of one period: the midnights of a date in two timezones lie 26 hours apart at
the most, the ends of two periods a week at least."""


class Terms(Struct, frozen=True):
    """What decides a subscription's periods. Instants are aware; `anchor_at` is its `subscription_at`. `charges_monthly`
    and `fixed_charges_monthly`: these are billed every month, whatever the interval."""

    interval: Interval
    billing_time: BillingTime
    pay_in_advance: bool
    anchor_at: datetime
    started_at: datetime
    tz: ZoneInfo
    charges_monthly: bool = False
    fixed_charges_monthly: bool = False

    @property
    def anchor(self) -> date:
        """The local date that anniversary periods are counted from."""
        return local_date(self.anchor_at, self.tz)

    @property
    def shared(self) -> "Terms":
        """What these terms have in common with those of many others: they decide the same periods, whole ones."""
        is_calendar = self.billing_time is BillingTime.CALENDAR
        anchor_at = LONG_AGO if is_calendar else local_start(self.anchor, self.tz)
        return replace(self, anchor_at=anchor_at, started_at=LONG_AGO)

    @property
    def plan(self) -> Cycle:
        """The periods of the plan's fee."""
        return Cycle(self.interval, self.billing_time, self.anchor)

    @property
    def charges(self) -> Cycle:
        """The periods of charges."""
        return self._cycle(monthly=self.charges_monthly)

    @property
    def fixed_charges(self) -> Cycle:
        """The periods of fixed charges."""
        return self._cycle(monthly=self.fixed_charges_monthly)

    @property
    def bills(self) -> Cycle:
        """The periods of invoices."""
        return self._cycle(monthly=self.charges_monthly or self.fixed_charges_monthly)

    def _cycle(self, *, monthly: bool) -> Cycle:
        return Cycle(Interval.MONTHLY if monthly else self.interval, self.billing_time, self.anchor)

    def period_at(self, instant: datetime) -> Period:
        """The plan's period that contains the local date of an instant."""
        return self.plan.containing(local_date(instant, self.tz))

    def before(self, period: Period) -> Period:
        """The plan's period before another."""
        return self.plan.before(period)

    def after(self, period: Period) -> Period:
        """The plan's period after another."""
        return self.plan.after(period)

    def next_boundary(self, instant: datetime) -> datetime:
        """When a subscription is billed next: where the first period begins of anything it is billed for."""
        return self._next(self.bills, instant)

    def next_charges_boundary(self, instant: datetime) -> datetime:
        """The start of the charges' period after the one that contains an instant."""
        return self._next(self.charges, instant)

    def next_fixed_charges_boundary(self, instant: datetime) -> datetime:
        """The start of the fixed charges' period after the one that contains an instant."""
        return self._next(self.fixed_charges, instant)

    def _next(self, cycle: Cycle, instant: datetime) -> datetime:
        return local_start(cycle.containing(local_date(instant, self.tz)).end + _DAY, self.tz)

    def day_billed(self, boundary: datetime) -> date:
        """The local date of a boundary: the first one of a period, also where the boundary was midnight in another
        timezone, and here is late on the day before or early on a day."""
        day = local_date(boundary, self.tz)
        period = self.bills.containing(day)
        following = period.end + _DAY
        return following if local_start(following, self.tz) - boundary <= SAME_END else period.start

    def boundary_after(self, boundary: datetime) -> datetime:
        """The boundary after another, which may have been told in another timezone."""
        return _boundary_after(self.shared, boundary)

    def boundary_after_day(self, day: date) -> datetime:
        """The first boundary after a local date."""
        return local_start(self.bills.containing(day).end + _DAY, self.tz)

    def moved(self, boundary: datetime) -> datetime:
        """Where a boundary lies that was told in another timezone."""
        return local_start(self.day_billed(boundary), self.tz)


@lru_cache(maxsize=REMEMBERED)
def _boundary_after(terms: Terms, boundary: datetime) -> datetime:
    return terms.boundary_after_day(terms.day_billed(boundary))


class Stretch(Struct, frozen=True):
    """The part of a whole period that is billed, both instants included."""

    from_: datetime
    to: datetime
    period: Period

    def is_same_period(self, to: datetime) -> bool:
        """Whether something that ends at an instant is of the same period, in whichever timezone it was billed."""
        return abs(self.to - to) <= SAME_END


class Boundaries(Struct, frozen=True):
    """What one invoice covers of one subscription. All instants are UTC and inclusive; `period_days` is the length of
    the whole period the subscription fee is for.

    `charges` is what charges are billed for, `fixed_charges` the same of fixed charges in arrears, `fixed_charges_ahead` of
    those in advance; None where an invoice has none of the kind. `closes` is the plan's period that is over with the
    invoice, None where it goes on.
    """

    from_: datetime
    to: datetime
    period_days: int
    charges: Stretch | None
    fixed_charges: Stretch | None = None
    fixed_charges_ahead: Stretch | None = None
    closes: Period | None = None

    @property
    def begin(self) -> datetime:
        """The first instant of all that is covered."""
        stretches = (self.charges, self.fixed_charges, self.fixed_charges_ahead)
        return min([self.from_, *(one.from_ for one in stretches if one is not None)])

    @property
    def charges_from(self) -> datetime:
        """From when charges are billed. ``ValueError``, as for all that is asked of charges, where none are."""
        return self._of_charges.from_

    @property
    def charges_to(self) -> datetime:
        """Until when charges are billed."""
        return self._of_charges.to

    @property
    def charges_period_days(self) -> int:
        """The length of the whole period that charges are for."""
        return self._of_charges.period.days

    def with_charges(self, *, from_: datetime | None = None, to: datetime | None = None) -> "Boundaries":
        """The same with charges that begin, or end, at another instant of their period."""
        charges = self._of_charges
        return replace(self, charges=replace(charges, from_=from_ or charges.from_, to=to or charges.to))

    @property
    def _of_charges(self) -> Stretch:
        if self.charges is None:
            raise ValueError("charges have no boundaries where none are billed")
        return self.charges


def periodic(terms: Terms, boundary: datetime) -> Boundaries:
    """The boundaries billed at the start of a new period: usage of the one before, and the fee of the one before (in
    arrears) or of the new one (in advance).

    Within the plan's period, what is not billed monthly has no boundaries; those of the fee are the same as at its start.
    """
    whole = _whole_periods(terms.shared, boundary)
    return whole if terms.started_at <= whole.begin else _periodic(terms, boundary)


def _periodic(terms: Terms, boundary: datetime) -> Boundaries:
    day = terms.day_billed(boundary)
    fee = terms.plan.containing(day)
    before = terms.plan.before(fee)

    def ended(cycle: Cycle) -> Period | None:
        current = cycle.containing(day)
        return cycle.before(current) if current.start == day else None

    def begun(cycle: Cycle) -> Period | None:
        current = cycle.containing(day)
        return current if current.start == day else None

    return _boundaries(
        terms,
        fee if terms.pay_in_advance else before,
        charges=ended(terms.charges),
        fixed_charges=ended(terms.fixed_charges),
        ahead=begun(terms.fixed_charges),
        closes=before if fee.start == day else None,
    )


_whole_periods = lru_cache(maxsize=REMEMBERED)(_periodic)
"""The same for subscriptions that are older than what is billed: of these many have the same."""


def starting(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the first invoice, of what is paid in advance, at the start or when a trial ends; charges in
    arrears are still to come."""
    day = local_date(instant, terms.tz)

    def before(cycle: Cycle) -> Period:
        return cycle.before(cycle.containing(day))

    return _boundaries(
        terms,
        terms.period_at(instant),
        charges=before(terms.charges),
        fixed_charges=before(terms.fixed_charges),
        ahead=terms.fixed_charges.containing(day),
    )


def terminating(terms: Terms, terminated_at: datetime, billed_at: datetime | None = None) -> Boundaries:
    """The boundaries of the last invoice: the current period, up to the end of the subscription. The one that was billed at
    the last boundary, `billed_at`, is over, also where the timezone has changed since and it is that period's last day
    once more."""
    day = local_date(terminated_at, terms.tz)
    if billed_at is not None:
        day = max(day, terms.day_billed(billed_at))
    return _containing(terms, day, terminated_at)


def current(terms: Terms, instant: datetime) -> Boundaries:
    """The boundaries of the period that contains an instant, to its end; of the first period for one before the start."""
    return _containing(terms, local_date(max(instant, terms.started_at), terms.tz), None)


def _containing(terms: Terms, day: date, terminated_at: datetime | None) -> Boundaries:
    period, fixed_charges = terms.plan.containing(day), terms.fixed_charges.containing(day)
    return _boundaries(
        terms,
        period,
        charges=terms.charges.containing(day),
        fixed_charges=fixed_charges,
        ahead=None if terminated_at else fixed_charges,
        terminated_at=terminated_at,
        closes=period,
    )


def joined(
    boundaries: Boundaries, previous_charges_to: datetime | None, previous_fixed_charges_to: datetime | None = None
) -> Boundaries:
    """The same boundaries with charges, and fixed charges, that begin where the ones before ended.

    For a subscription whose timezone has changed since: the two local midnights differ, and without this a few hours of
    events would be lost or billed twice. Left alone where there is a gap of 26 hours or more (billing spec 1.3, step 4).
    """
    charges = _after(previous_charges_to, boundaries.charges)
    fixed_charges = _after(previous_fixed_charges_to, boundaries.fixed_charges)
    if charges is boundaries.charges and fixed_charges is boundaries.fixed_charges:
        return boundaries
    return replace(boundaries, charges=charges, fixed_charges=fixed_charges)


def _after(previous_to: datetime | None, stretch: Stretch | None) -> Stretch | None:
    if previous_to is None or stretch is None:
        return stretch
    after = previous_to + _MICROSECOND
    if after == stretch.from_ <= stretch.to or stretch.from_ - after >= _FARTHEST_MIDNIGHTS:
        return stretch
    return replace(stretch, from_=after, to=max(stretch.to, after))


def _boundaries(
    terms: Terms,
    fee: Period,
    *,
    charges: Period | None,
    fixed_charges: Period | None,
    ahead: Period | None = None,
    terminated_at: datetime | None = None,
    closes: Period | None = None,
) -> Boundaries:
    """Clamp in the order of billing spec 1.3: the fee starts with the local day of the start, charges at its instant."""
    started_at, tz = terms.started_at, terms.tz
    start_of_first_day = local_start(local_date(started_at, tz), tz)

    def end(period: Period) -> datetime:
        last = local_end(period.end, tz)
        if terminated_at is not None:
            last = min(last, terminated_at)
        return max(last, started_at)

    def stretch(period: Period | None) -> Stretch | None:
        if period is None:
            return None
        return Stretch(max(local_start(period.start, tz), started_at), end(period), period)

    return Boundaries(
        from_=max(local_start(fee.start, tz), start_of_first_day),
        to=end(fee),
        period_days=fee.days,
        charges=stretch(charges),
        fixed_charges=stretch(fixed_charges),
        fixed_charges_ahead=stretch(ahead),
        closes=closes,
    )
