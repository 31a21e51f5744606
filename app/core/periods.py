"""Billing periods, local days and day counts.

Periods are made of local dates; only their edges are turned into instants, in the customer's time zone, so that
daylight saving never shifts a boundary. Billing spec 0.2, 0.3, 1.3; metering spec 0.3.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
REMEMBERED = 4096
"""How many periods and midnights are remembered: the subscriptions that are billed together have the same few."""


class Interval(StrEnum):
    """How often a plan bills (billing spec 1.1)."""

    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    SEMIANNUAL = "semiannual"
    YEARLY = "yearly"


class BillingTime(StrEnum):
    """Whether periods follow the calendar or the subscription's anchor date (billing spec 1.2)."""

    CALENDAR = "calendar"
    ANNIVERSARY = "anniversary"


_MONTHS = {Interval.MONTHLY: 1, Interval.QUARTERLY: 3, Interval.SEMIANNUAL: 6, Interval.YEARLY: 12}


class Period(Struct, frozen=True):
    """Local dates from ``start`` to ``end``, both included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """Number of dates in the period; the divisor of every proration when the period is a whole one."""
        return (self.end - self.start).days + 1


def _month_start(month: int, day: int) -> date:
    """Date in the given month (counted from year 0, January 0), ``day`` cut to the length of that month."""
    year, month0 = divmod(month, 12)
    return date(year, month0 + 1, min(day, monthrange(year, month0 + 1)[1]))


def period_containing(day: date, interval: Interval, billing_time: BillingTime, anchor: date) -> Period:
    """The whole billing period that holds the local date ``day`` (billing spec 1.3).

    ``anchor`` is the local date of ``subscription_at``; calendar billing does not look at it. In anniversary
    billing the day of the month is always taken from the anchor itself and cut to the month's length, so it does
    not drift. The sequence extends before the anchor as well. Raises ``ValueError`` or ``OverflowError`` for
    periods that leave the years 1 to 9999.
    """
    return _period(day, interval, anchor if billing_time is BillingTime.ANNIVERSARY else None)


@lru_cache(maxsize=REMEMBERED)
def _period(day: date, interval: Interval, anchor: date | None) -> Period:
    """The same, without an anchor for calendar billing."""
    if interval is Interval.WEEKLY:
        first_weekday = 0 if anchor is None else anchor.weekday()
        start = day - timedelta(days=(day.weekday() - first_weekday) % 7)
        return Period(start, start + timedelta(days=6))
    step = _MONTHS[interval]
    # Calendar months are the anniversary sequence of a 1 January, whichever year.
    origin, day_of_month = (0, 1) if anchor is None else (anchor.year * 12 + anchor.month - 1, anchor.day)
    month = day.year * 12 + day.month - 1
    month -= (month - origin) % step
    start = _month_start(month, day_of_month)
    if start > day:
        month -= step
        start = _month_start(month, day_of_month)
    return Period(start, _month_start(month + step, day_of_month) - _DAY)


def previous_period(period: Period, interval: Interval, billing_time: BillingTime, anchor: date) -> Period:
    """The period that ends the day before ``period`` starts, in the same sequence (billing spec 1.3)."""
    return period_containing(period.start - _DAY, interval, billing_time, anchor)


def next_period(period: Period, interval: Interval, billing_time: BillingTime, anchor: date) -> Period:
    """The period that starts the day after ``period`` ends, in the same sequence (billing spec 1.3)."""
    return period_containing(period.end + _DAY, interval, billing_time, anchor)


class Cycle(Struct, frozen=True):
    """A sequence of billing periods; ``anchor`` is the local date of ``subscription_at`` (billing spec 1.3)."""

    interval: Interval
    billing_time: BillingTime
    anchor: date

    def containing(self, day: date) -> Period:
        """The period that holds a local date."""
        return period_containing(day, self.interval, self.billing_time, self.anchor)

    def before(self, period: Period) -> Period:
        """The period before another."""
        return previous_period(period, self.interval, self.billing_time, self.anchor)

    def after(self, period: Period) -> Period:
        """The period after another."""
        return next_period(period, self.interval, self.billing_time, self.anchor)


def _wall(instant: datetime, tz: ZoneInfo) -> datetime:
    """What a clock in the zone shows at the instant, as a naive datetime."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return instant.astimezone(tz).replace(tzinfo=None)


def local_date(instant: datetime, tz: ZoneInfo) -> date:
    """The date in the zone at the (aware) instant. ``ValueError`` for a naive datetime."""
    return _wall(instant, tz).date()


@lru_cache(maxsize=REMEMBERED)
def local_start(day: date, tz: ZoneInfo) -> datetime:
    """The first instant of the local date, in UTC (billing spec 0.2).

    Midnight that occurs twice: the first one. Midnight jumped over by the clock: the instant of the jump. A date
    that the zone skipped altogether is empty: it starts where the next date starts.
    """
    midnight = datetime.combine(day, time.min, tzinfo=tz)
    first = midnight.astimezone(UTC)
    # A missing midnight read with the offsets of both sides of the jump gives two instants around the jump.
    before = midnight.replace(fold=1).astimezone(UTC)
    if before >= first:
        return first
    while first - before > _SECOND:  # jumps fall on whole seconds
        middle = before + timedelta(seconds=(first - before) // _SECOND // 2)
        if local_date(middle, tz) < day:
            before = middle
        else:
            first = middle
    return first


@lru_cache(maxsize=REMEMBERED)
def local_end(day: date, tz: ZoneInfo) -> datetime:
    """The last microsecond of the local date, in UTC: one before ``local_start`` of the next date, so that
    consecutive periods cover time without gap or overlap (billing spec 0.2).
    """
    return local_start(day + _DAY, tz) - _MICROSECOND


@lru_cache(maxsize=REMEMBERED)
def days(from_: datetime, to: datetime, tz: ZoneInfo) -> int:
    """Days between two instants as proration counts them (billing spec 0.3).

    The distance on the zone's wall clock, rounded up to whole days; an end exactly at local midnight counts the
    day it opens. From a local midnight this is the number of local dates touched. Not positive when ``to`` is a
    day or more before ``from_``. ``ValueError`` for naive datetimes.
    """
    start, end = _wall(from_, tz), _wall(to, tz)
    if end.time() == time.min:
        end = _wall(to.astimezone(UTC) + _SECOND, tz)
    return -((start - end) // _DAY)


def calendar_days(from_: datetime, to: datetime, tz: ZoneInfo) -> int:
    """Local dates from that of ``from_`` to that of ``to``, both included (``D`` of metering spec 0.3).

    An end exactly at local midnight counts the day it opens. ``ValueError`` for naive datetimes.
    """
    return (local_date(to, tz) - local_date(from_, tz)).days + 1


@cache
def _timezones() -> frozenset[str]:
    # These two name the machine's own setting and a placeholder, not a place.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def is_timezone(name: str) -> bool:
    """True for the exact name of a zone of the IANA database, e.g. "Europe/Paris".

    The name is only compared with known ones, never used as a path.
    """
    return name in _timezones()
