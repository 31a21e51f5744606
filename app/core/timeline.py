"""Stretches of time cut into hours, days, weeks or months of a time zone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from app.core.periods import BillingTime, Interval, local_date, local_start, period_containing

HOUR_MS = 3_600_000

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_ANY_DAY = date(2000, 1, 1)


class Granularity(StrEnum):
    """How finely usage over time is told."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


_INTERVALS = {Granularity.WEEKLY: Interval.WEEKLY, Granularity.MONTHLY: Interval.MONTHLY}


def dates_around(day: date, granularity: Granularity) -> tuple[date, date]:
    """The first and the last date of the day, week (from Monday) or month that a date is in."""
    interval = _INTERVALS.get(granularity)
    if interval is None:
        return day, day
    period = period_containing(day, interval, BillingTime.CALENDAR, _ANY_DAY)
    return period.start, period.end


def bounds(from_: datetime, to: datetime, granularity: Granularity, tz: ZoneInfo) -> Iterator[datetime]:
    """The instants that cut the time from `from_` to `to` into the zone's hours, days, weeks or months, in UTC.

    Both ends are among them; the first and the last part may be shorter than the others. Hours are counted from the
    start of each local day, so that they keep to the local clock where it changes by part of an hour.
    """
    last = from_.astimezone(UTC)
    yield last
    for start in _starts(local_date(from_, tz), granularity, tz):
        if start >= to:
            break
        if start > last:  # a date that the zone skipped starts where the next one does
            last = start
            yield start
    if to > last:
        yield to.astimezone(UTC)


def _starts(day: date, granularity: Granularity, tz: ZoneInfo) -> Iterator[datetime]:
    """The starts of the zone's hours, days, weeks or months, from those of the given date on."""
    day, last = dates_around(day, granularity)
    while True:
        start, following = local_start(day, tz), local_start(last + _DAY, tz)
        yield start
        while granularity is Granularity.HOURLY and (start := start + _HOUR) < following:
            yield start
        day, last = dates_around(last + _DAY, granularity)


@dataclass(frozen=True, slots=True)
class Cut:
    """Buckets of time, told by the hours since 1970 UTC that they are made of. Buckets count from 1.

    `buckets[n]` is the bucket that the hour `first_hour + n` lies in as a whole; 0 where it lies in several or sticks out.
    `pieces` are the parts of those hours: (hour, from, end, bucket), half-open, in milliseconds since 1970.
    """

    first_hour: int
    buckets: list[int]
    pieces: list[tuple[int, int, int, int]]

    @property
    def end_hour(self) -> int:
        """The hour after the last one."""
        return self.first_hour + len(self.buckets)

    @property
    def all_pieces(self) -> list[tuple[int, int, int, int]]:
        """The same time in pieces alone: whole hours are pieces too."""
        whole = (
            (hour, hour * HOUR_MS, (hour + 1) * HOUR_MS, bucket)
            for hour, bucket in enumerate(self.buckets, self.first_hour)
            if bucket
        )
        return [*self.pieces, *whole]


def cut(bounds_ms: Sequence[int]) -> Cut:
    """The buckets between ascending instants, in milliseconds since 1970, each from one to the next."""
    first, end = bounds_ms[0] // HOUR_MS, -(-bounds_ms[-1] // HOUR_MS)
    buckets = [0] * (end - first)
    pieces: list[tuple[int, int, int, int]] = []
    for bucket, (low, high) in enumerate(pairwise(bounds_ms), 1):
        for hour in range(low // HOUR_MS, -(-high // HOUR_MS)):
            from_ms, end_ms = max(low, hour * HOUR_MS), min(high, (hour + 1) * HOUR_MS)
            if end_ms - from_ms == HOUR_MS:
                buckets[hour - first] = bucket
            elif from_ms < end_ms:
                pieces.append((hour, from_ms, end_ms, bucket))
    return Cut(first, buckets, pieces)
