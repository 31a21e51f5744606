from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.periods import (
    BillingTime,
    Interval,
    Period,
    calendar_days,
    days,
    is_timezone,
    local_date,
    local_end,
    local_start,
    next_period,
    period_containing,
    previous_period,
)

quick = settings(max_examples=400, deadline=None, database=None)
MICROSECOND = timedelta(microseconds=1)
ZONES = [
    "UTC",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Santiago",
    "America/Toronto",
    "America/Asuncion",
    "America/Juneau",
    "Europe/Paris",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Amman",
    "Asia/Tehran",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Manila",
    "Asia/Pyongyang",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Australia/Eucla",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "Pacific/Niue",
    "Antarctica/Troll",
    "Etc/GMT+12",
]
SKIPPED = {
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("Pacific/Kiritimati", date(1994, 12, 31)),
    ("Asia/Manila", date(1844, 12, 31)),
}
zones = st.sampled_from(ZONES)
intervals = st.sampled_from(Interval)
billing_times = st.sampled_from(BillingTime)
dates = st.dates(date(1960, 1, 1), date(2080, 12, 31))


def at(tz: str, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(tz))  # type: ignore[arg-type, misc]


ANNIVERSARIES = [
    (date(2027, 1, 31), Interval.MONTHLY, "2027-01-31 2027-02-28 2027-03-31 2027-04-30 2027-05-31 2027-06-30"),
    (date(2028, 1, 31), Interval.MONTHLY, "2028-01-31 2028-02-29 2028-03-31 2028-04-30"),
    (
        date(2026, 11, 30),
        Interval.QUARTERLY,
        "2026-11-30 2027-02-28 2027-05-30 2027-08-30 2027-11-30 2028-02-29",
    ),
    (date(2027, 8, 31), Interval.SEMIANNUAL, "2027-08-31 2028-02-29 2028-08-31 2029-02-28"),
    (date(2028, 2, 29), Interval.YEARLY, "2028-02-29 2029-02-28 2030-02-28 2031-02-28 2032-02-29"),
    (date(2027, 1, 6), Interval.WEEKLY, "2027-01-06 2027-01-13 2027-01-20"),
]
CALENDARS = [
    (Interval.WEEKLY, "2027-01-04 2027-01-11"),
    (Interval.MONTHLY, "2027-01-01 2027-02-01 2027-03-01"),
    (Interval.QUARTERLY, "2027-01-01 2027-04-01 2027-07-01 2027-10-01 2028-01-01"),
    (Interval.SEMIANNUAL, "2027-01-01 2027-07-01 2028-01-01"),
    (Interval.YEARLY, "2027-01-01 2028-01-01 2029-01-01"),
]
SEQUENCES = [(anchor, interval, BillingTime.ANNIVERSARY, starts) for anchor, interval, starts in ANNIVERSARIES] + [
    (date(2026, 5, 17), interval, BillingTime.CALENDAR, starts) for interval, starts in CALENDARS
]


@pytest.mark.parametrize(("anchor", "interval", "billing_time", "starts"), SEQUENCES)
def test_period_starts(anchor: date, interval: Interval, billing_time: BillingTime, starts: str) -> None:
    expected = [date.fromisoformat(start) for start in starts.split()]
    for start, following in pairwise(expected):
        period = Period(start, following - timedelta(days=1))
        day = start
        while day < following:
            assert period_containing(day, interval, billing_time, anchor) == period
            day += timedelta(days=1)
        assert next_period(period, interval, billing_time, anchor).start == following
        assert previous_period(next_period(period, interval, billing_time, anchor), interval, billing_time, anchor) == (
            period
        )


def test_monthly_anchor_on_the_31st() -> None:
    period = period_containing(date(2027, 1, 31), Interval.MONTHLY, BillingTime.ANNIVERSARY, date(2027, 1, 31))
    seen = []
    for _ in range(3):
        seen.append((period.start, period.end))
        period = next_period(period, Interval.MONTHLY, BillingTime.ANNIVERSARY, date(2027, 1, 31))
    assert seen == [
        (date(2027, 1, 31), date(2027, 2, 27)),
        (date(2027, 2, 28), date(2027, 3, 30)),
        (date(2027, 3, 31), date(2027, 4, 29)),
    ]


@pytest.mark.parametrize(
    ("day", "interval", "length"),
    [
        (date(2027, 4, 9), Interval.WEEKLY, 7),
        (date(2027, 2, 9), Interval.MONTHLY, 28),
        (date(2028, 2, 9), Interval.MONTHLY, 29),
        (date(2027, 5, 1), Interval.QUARTERLY, 91),
        (date(2027, 5, 1), Interval.YEARLY, 365),
        (date(2028, 5, 1), Interval.YEARLY, 366),
    ],
)
def test_period_days(day: date, interval: Interval, length: int) -> None:
    assert period_containing(day, interval, BillingTime.CALENDAR, day).days == length


@pytest.mark.parametrize(
    ("zone", "month", "start", "last_second"),
    [
        ("America/New_York", date(2027, 3, 1), "2027-03-01T05:00:00", "2027-04-01T03:59:59"),
        ("Asia/Kolkata", date(2027, 3, 1), "2027-02-28T18:30:00", "2027-03-31T18:29:59"),
        ("Pacific/Auckland", date(2027, 4, 1), "2027-03-31T11:00:00", "2027-04-30T11:59:59"),
    ],
)
def test_boundaries_in_utc(zone: str, month: date, start: str, last_second: str) -> None:
    tz = ZoneInfo(zone)
    period = period_containing(month, Interval.MONTHLY, BillingTime.CALENDAR, month)
    assert local_start(period.start, tz) == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert local_end(period.end, tz).replace(microsecond=0) == datetime.fromisoformat(last_second).replace(tzinfo=UTC)
    assert local_end(period.end, tz).microsecond == 999_999


@pytest.mark.parametrize(
    ("zone", "day", "start"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00"),  # 00:00 became 01:00
        ("America/Sao_Paulo", date(2018, 2, 18), "2018-02-18T03:00:00"),  # 23:00-24:00 of the 17th came twice
        ("Asia/Beirut", date(2025, 3, 30), "2025-03-29T22:00:00"),
        ("America/Havana", date(2025, 3, 9), "2025-03-09T05:00:00"),
        ("America/Havana", date(2025, 11, 2), "2025-11-02T04:00:00"),  # 00:00-01:00 came twice: the first
        ("America/Toronto", date(1919, 3, 31), "1919-03-31T04:30:00"),  # 23:30 became 00:30
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-29T10:00:00"),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00"),  # a date that never was: empty
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00:00"),
        ("Pacific/Kwajalein", date(1993, 8, 21), "1993-08-21T12:00:00"),
        ("Pacific/Kwajalein", date(1993, 8, 22), "1993-08-21T12:00:00"),
        ("Africa/Monrovia", date(1972, 1, 7), "1972-01-07T00:44:30"),
    ],
)
def test_first_instant_of_odd_dates(zone: str, day: date, start: str) -> None:
    assert local_start(day, ZoneInfo(zone)) == datetime.fromisoformat(start).replace(tzinfo=UTC)


@quick
@given(intervals, billing_times, dates, dates, zones)
def test_periods_tile_time(interval: Interval, billing_time: BillingTime, anchor: date, day: date, zone: str) -> None:
    tz = ZoneInfo(zone)
    period = period_containing(day, interval, billing_time, anchor)
    following = next_period(period, interval, billing_time, anchor)
    preceding = previous_period(period, interval, billing_time, anchor)
    assert period.start <= day <= period.end
    assert period.days == (period.end - period.start).days + 1
    assert following.start - period.end == period.start - preceding.end == timedelta(days=1)
    assert previous_period(following, interval, billing_time, anchor) == period
    assert next_period(preceding, interval, billing_time, anchor) == period
    assert period_containing(period.start, interval, billing_time, anchor) == period
    assert period_containing(period.end, interval, billing_time, anchor) == period
    assert local_end(period.end, tz) + MICROSECOND == local_start(following.start, tz)
    assert local_end(preceding.end, tz) + MICROSECOND == local_start(period.start, tz)
    assert local_start(period.start, tz) < local_start(following.start, tz)


@quick
@given(intervals, dates, dates)
def test_anniversary_days_follow_the_anchor(interval: Interval, anchor: date, day: date) -> None:
    start = period_containing(day, interval, BillingTime.ANNIVERSARY, anchor).start
    if interval is Interval.WEEKLY:
        assert start.weekday() == anchor.weekday()
        return
    next_day = start + timedelta(days=1)
    cut = next_day.month != start.month and start.day < anchor.day
    assert start.day == anchor.day or cut
    step = {Interval.MONTHLY: 1, Interval.QUARTERLY: 3, Interval.SEMIANNUAL: 6, Interval.YEARLY: 12}[interval]
    assert ((start.year - anchor.year) * 12 + start.month - anchor.month) % step == 0


def test_the_anchor_starts_a_period() -> None:
    for interval in Interval:
        for anchor in (date(2028, 2, 29), date(2027, 12, 31), date(2027, 6, 15)):
            assert period_containing(anchor, interval, BillingTime.ANNIVERSARY, anchor).start == anchor


def check_first_instant(zone: str, day: date) -> None:
    tz = ZoneInfo(zone)
    start = local_start(day, tz)
    assert start.utcoffset() == timedelta(0)
    assert local_date(start - MICROSECOND, tz) < day
    assert local_date(start, tz) == (day + timedelta(days=1) if (zone, day) in SKIPPED else day)


@quick
@given(zones, st.dates(date(1905, 1, 1), date(2080, 12, 31)))
def test_local_start_is_the_first_instant_of_the_date(zone: str, day: date) -> None:
    check_first_instant(zone, day)


@pytest.mark.parametrize("zone", ZONES)
def test_local_start_through_three_years_of_changes(zone: str) -> None:
    years = {"Pacific/Apia": 2010, "Pacific/Kwajalein": 1992, "Pacific/Kiritimati": 1993, "America/Sao_Paulo": 2017}
    day = date(years.get(zone, 2022), 1, 1)
    for _ in range(3 * 365):
        check_first_instant(zone, day)
        day += timedelta(days=1)


DAYS = [
    ("Europe/Paris", (2027, 4, 1), (2027, 4, 30, 23, 59, 59, 999_000), 30),
    ("Europe/Paris", (2027, 4, 1), (2027, 4, 20, 15), 20),
    ("Europe/Paris", (2027, 4, 1), (2027, 4, 20), 20),
    ("America/New_York", (2027, 3, 1), (2027, 3, 31, 23, 59, 59), 31),
    ("America/New_York", (2027, 11, 1), (2027, 11, 30, 23, 59, 59), 30),
    ("UTC", (2027, 3, 11, 10), (2027, 3, 12, 9), 1),
    ("UTC", (2027, 3, 11), (2027, 3, 11), 1),
    ("UTC", (2027, 3, 11, 10), (2027, 3, 11, 10), 0),
    ("UTC", (2027, 3, 11, 10), (2027, 3, 9, 10), -2),
]


@pytest.mark.parametrize(("zone", "from_", "to", "expected"), DAYS)
def test_days(zone: str, from_: tuple[int, ...], to: tuple[int, ...], expected: int) -> None:
    start, end = (at(zone, *parts) if len(parts) > 3 else at(zone, *parts, 0) for parts in (from_, to))
    tz = ZoneInfo(zone)
    assert days(start, end, tz) == expected
    assert days(start.astimezone(UTC), end.astimezone(ZoneInfo("Asia/Tokyo")), tz) == expected


@quick
@given(zones, dates, st.integers(0, 800), st.integers(0, 86_399_999_999))
def test_days_are_the_local_dates_touched(zone: str, day: date, length: int, microseconds: int) -> None:
    tz = ZoneInfo(zone)
    start = local_start(day, tz)
    end = local_start(day + timedelta(days=length), tz) + timedelta(microseconds=microseconds)
    if start.astimezone(tz).time() == datetime.min.time() and local_date(start, tz) == day:
        assert days(start, end, tz) == calendar_days(start, end, tz)
        assert days(start, end, tz) == (local_date(end, tz) - day).days + 1


@quick
@given(intervals, billing_times, dates, dates, zones)
def test_days_of_a_whole_period(
    interval: Interval, billing_time: BillingTime, anchor: date, day: date, zone: str
) -> None:
    tz = ZoneInfo(zone)
    period = period_containing(day, interval, billing_time, anchor)
    if (zone, period.start) in SKIPPED or (zone, period.end) in SKIPPED:
        return
    assert days(local_start(period.start, tz), local_end(period.end, tz), tz) == period.days
    assert calendar_days(local_start(period.start, tz), local_end(period.end, tz), tz) == period.days


def test_calendar_days() -> None:
    tz = ZoneInfo("UTC")
    assert calendar_days(at("UTC", 2027, 3, 11, 10), at("UTC", 2027, 3, 12, 9), tz) == 2
    assert calendar_days(at("UTC", 2027, 4, 1), at("UTC", 2027, 4, 20), tz) == 20
    assert calendar_days(at("UTC", 2027, 4, 1), at("UTC", 2027, 4, 1), tz) == 1


def test_naive_instants_are_refused() -> None:
    aware, tz = at("UTC", 2027, 1, 1), ZoneInfo("UTC")
    naive = aware.replace(tzinfo=None)
    for call in (days, calendar_days):
        for pair in ((naive, aware), (aware, naive)):
            with pytest.raises(ValueError, match="time zone"):
                call(*pair, tz)
    with pytest.raises(ValueError, match="time zone"):
        local_date(naive, tz)


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "America/Argentina/Buenos_Aires", "Asia/Kathmandu", *ZONES])
def test_timezones(name: str) -> None:
    assert is_timezone(name)


@pytest.mark.parametrize(
    "name",
    ["", "Paris", "europe/paris", "Europe/Paris ", "/etc/passwd", "../../etc/passwd", "Europe/../UTC", "./UTC", "UTC\0",
     "posix/UTC", "posixrules", "localtime", "Factory", "tzdata.zi", "Europe", "Europe/", "x" * 100_000],
    ids=lambda name: ascii(name)[:40],
)  # fmt: skip
def test_not_timezones(name: str) -> None:
    assert not is_timezone(name)


def test_skipped_dates_are_the_known_ones() -> None:
    found: Counter[str] = Counter()
    for zone, day in SKIPPED:
        if local_start(day, ZoneInfo(zone)) == local_start(day + timedelta(days=1), ZoneInfo(zone)):
            found[zone] += 1
    assert {"Pacific/Apia", "Pacific/Kwajalein"} <= set(found)
