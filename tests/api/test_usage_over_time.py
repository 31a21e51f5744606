"""`/api/v1/analytics/usage_over_time`: what was used in each bucket of time, held against a calculation of its own."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.core.aggregation import Aggregation, Sample, aggregate
from tests.factories import (
    Json,
    event,
    make_metric,
    ok,
    send_events,
    set_clock,
    unique,
)
from tests.support import Server

URL = "/api/v1/analytics/usage_over_time"
HOUR = 3_600_000
FIRST = datetime(2024, 3, 1, tzinfo=UTC)
FIRST_MS = int(FIRST.timestamp()) * 1000
"""Berlin, New York, Chatham and Lord Howe, where it is half an hour, change their clocks within the six weeks from here."""
METRICS = {
    "calls": Aggregation.COUNT, "bytes": Aggregation.SUM, "peak": Aggregation.MAX, "level": Aggregation.LATEST,
    "users": Aggregation.UNIQUE_COUNT, "disk": Aggregation.WEIGHTED_SUM, "load": Aggregation.WEIGHTED_SUM,
}  # fmt: skip
CARRIES = {"disk"}
ZONES = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "Europe/Berlin",
         "America/New_York", "Australia/Lord_Howe"]  # fmt: skip
NASTY = ["a'b", 'a"b', "a\\", "\\'", "{x:String}", "%s", "\x00", "a\x00b", "😀", "ü", ");--", "`", "\n", "k" * 10_000]


def over_time(api: httpx.Client, **query: Any) -> list[Json]:
    """All rows of an answer."""
    rows: list[Json] = []
    page: int | None = 1
    while page is not None:
        answer = ok(api.get(URL, params={"per_page": 1000, **query, "page": page}))
        rows += answer["usage_over_time"]
        page = answer["meta"]["next_page"]
    assert answer["meta"]["total_count"] == len(rows)
    return rows


def metered(server: Server) -> httpx.Client:
    """A fresh organization with one metric of each kind, whose weighted sums carry over once and once not."""
    api = server.organization("Over time", sandbox=True)
    set_clock(api, "2024-03-20T11:22:33Z")
    for code, kind in METRICS.items():
        make_metric(api, code, kind, recurring=code in CARRIES)
    return api


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[httpx.Client]:
    api = metered(server)
    yield api
    api.close()


@pytest.fixture
def fresh(server: Server) -> Iterator[httpx.Client]:
    api = metered(server)
    yield api
    api.close()


def local_start(at_ms: int, granularity: str, zone: ZoneInfo) -> datetime:
    """The start of the hour, day, week or month around an instant, by the zone's own clock."""
    instant = datetime.fromtimestamp(at_ms // 1000, zone)
    day = datetime(instant.year, instant.month, instant.day, tzinfo=zone)
    if granularity == "hourly":
        since = (instant.astimezone(UTC) - day.astimezone(UTC)) // timedelta(hours=1)
        return day.astimezone(UTC) + since * timedelta(hours=1)
    if granularity == "weekly":
        monday = day.replace(tzinfo=None) - timedelta(days=day.weekday())
        return monday.replace(tzinfo=zone).astimezone(UTC)
    if granularity == "monthly":
        return day.replace(day=1).astimezone(UTC)
    return day.astimezone(UTC)


VALUES = st.decimals(-1000, 10**6, allow_nan=False, allow_infinity=False, places=6).map(str) | st.sampled_from(
    ["0", "-1", "1e3", "1E-18", "abc", "", "99999999999999999999.9"]
)
INSTANTS = st.one_of(
    st.integers(0, 45 * 24 * HOUR),
    st.builds(lambda half, shift: half * HOUR // 4 + shift, st.integers(0, 45 * 96), st.integers(-2, 2)),
).map(lambda shift: max(shift, 0))
SENT = st.builds(
    lambda *parts: parts,
    st.sampled_from(list(METRICS)),
    INSTANTS,
    VALUES,
    st.sampled_from(["a", "b", "ü", "", "A"]),
    st.sampled_from(["add", "remove", "other"]),
    st.sampled_from(["eu", "us", "", None]),
)


def as_event(subscription: str, number: int, sent: tuple[Any, ...]) -> Json:
    code, shift, value, item, operation, region = sent
    at = FIRST_MS + shift
    properties = {"value": item if code == "users" else value, "operation_type": operation}
    if region is not None:
        properties["region"] = region
    return event(code, subscription, f"{at // 1000}.{at % 1000:03d}", f"{'zaüZ'[number % 4]}{number}", **properties)


Expected = dict[tuple[str, str, str | None], tuple[Decimal, int]]


def expected(events: list[Json], granularity: str, zone: ZoneInfo, span: tuple[int, int], split: bool) -> Expected:
    """Units and events by start of bucket, metric and region."""
    first, end = span
    samples: dict[tuple[str, str | None], list[Sample]] = defaultdict(list)
    for one in events:
        at = int(Decimal(one["timestamp"]) * 1000)
        text = one["properties"]["value"]
        region = (one["properties"].get("region") or None) if split else None
        try:
            value = Decimal(text)
        except ArithmeticError:
            value = Decimal(0)
        operation = one["properties"]["operation_type"]
        sample = Sample(at, one["transaction_id"], value, text, operation)
        samples[one["code"], region].append(sample)
    starts = {
        max(local_start(at, granularity, zone), at_instant(first)) for at in [*range(first, end, HOUR // 4), end - 1]
    }
    edges = [*sorted(int(one.timestamp() * 1000) for one in starts), end]
    found: Expected = {}
    for (code, region), all_ in samples.items():
        for low, high in pairwise(edges):
            mine = [one for one in all_ if low <= one.timestamp_ms < high]
            opening = Fraction(0)
            if code in CARRIES:
                opening = sum((Fraction(one.value) for one in all_ if one.timestamp_ms < low), opening)
            if (not mine and not opening) or (code == "users" and not any(one.item for one in mine)):
                continue
            if METRICS[code] is Aggregation.WEIGHTED_SUM:
                units = average(mine, low // 1000, high // 1000, opening)
            else:
                units = aggregate(METRICS[code], mine).units
            count = len([one for one in mine if one.item or code != "users"])
            found[at_instant(low).strftime("%Y-%m-%dT%H:%M:%SZ"), code, region] = (units, count)
    return found


def average(samples: list[Sample], first: int, end: int, opening: Fraction) -> Decimal:
    """The level on average from one second to another, rounded up at 20 decimals: summed up second by second's worth."""
    seconds = opening * (end - first)
    for one in samples:
        seconds += Fraction(one.value) * (end - one.timestamp_ms // 1000)
    return Decimal(ceil(seconds / (end - first) * 10**20)).scaleb(-20, Context(prec=100))


def at_instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


@settings(
    max_examples=40,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    zone=st.sampled_from(ZONES),
    granularity=st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
    sent=st.lists(SENT, min_size=1, max_size=40),
    from_minute=st.integers(0, 20 * 24 * 60),
    minutes=st.integers(1, 12 * 24 * 60) | st.sampled_from([60, 24 * 60, 30 * 24 * 60]),
    split=st.booleans(),
)
def test_held_against_another_calculation(
    shared: httpx.Client, zone: str, granularity: str, sent: list[Any], from_minute: int, minutes: int, *, split: bool
) -> None:
    subscription = unique("over-time")
    events = [as_event(subscription, number, one) for number, one in enumerate(sent)]
    send_events(shared, events)
    first = FIRST + timedelta(minutes=from_minute)
    end = first + timedelta(minutes=minutes)
    query: dict[str, Any] = {"group_by": "region"} if split else {}
    rows = over_time(
        shared,
        external_subscription_id=subscription,
        time_granularity=granularity,
        timezone=zone,
        from_date=first.isoformat(),
        to_date=end.isoformat(),
        **query,
    )
    got = {
        (row["from_datetime"], row["billable_metric_code"], row["grouped_by"].get("region")): (
            Decimal(row["units"]),
            row["events_count"],
        )
        for row in rows
    }
    assert len(got) == len(rows)
    span = (int(first.timestamp()) * 1000, int(end.timestamp()) * 1000)
    wanted = expected(events, granularity, ZoneInfo(zone), span, split)
    assert got == wanted
