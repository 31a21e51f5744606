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
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    refusal,
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
SPLIT = {"bytes", "peak", "users", "disk"}
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
        # Those with a filter have a rollup that is split by region, the others' regions are read from the raw events.
        split = {"filters": [{"key": "region", "values": ["eu", "us"]}]} if code in SPLIT else {}
        make_metric(api, code, kind, recurring=code in CARRIES, **split)
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


def test_whose_it_is(fresh: httpx.Client, other: httpx.Client) -> None:
    """Apart by subscription and by customer, and for one of them; never another organization's."""
    make_plan(fresh)
    for customer, subscriptions in (("acme", ["acme-1", "acme-2"]), ("zeta", ["zeta-1"])):
        make_customer(fresh, customer, timezone="Asia/Tokyo")
        for subscription in subscriptions:
            make_subscription(fresh, subscription, customer=customer)
    make_metric(other, "bytes", "sum_agg")
    noon = int(FIRST.timestamp()) + 12 * 3600
    for api in (fresh, other):
        names = ["acme-1", "acme-1", "acme-2", "zeta-1", "nobody's"]
        send_events(api, [event("bytes", name, noon, value=f"{number}.5") for number, name in enumerate(names)])
        send_events(api, [event("users", name, noon, value="same") for name in names])
    query: dict[str, Any] = {"from_date": "2024-03-01", "to_date": "2024-03-02", "timezone": "UTC"}

    def found(**more: Any) -> list[tuple[str | None, str | None, str, str]]:
        return [
            (row["external_customer_id"], row["external_subscription_id"], row["units"], row["from_datetime"])
            for row in over_time(fresh, **{**query, **more})
        ]

    day = "2024-03-01T00:00:00Z"
    bytes_ = {"billable_metric_code": "bytes"}
    assert found(**bytes_) == [(None, None, "12.5", day)]
    assert found(**bytes_, split_by="nobody") == found(**bytes_)
    assert found(**bytes_, split_by="subscription") == [
        (None, "acme-1", "2.0", day), (None, "acme-2", "2.5", day),
        (None, "nobody's", "4.5", day), (None, "zeta-1", "3.5", day),
    ]  # fmt: skip
    assert found(**bytes_, split_by="customer") == [
        (None, None, "4.5", day), ("acme", None, "4.5", day), ("zeta", None, "3.5", day),
    ]  # fmt: skip
    assert found(**bytes_, external_customer_id="acme") == [("acme", None, "4.5", day)]
    assert found(**bytes_, external_customer_id="acme", split_by="subscription") == [
        ("acme", "acme-1", "2.0", day), ("acme", "acme-2", "2.5", day),
    ]  # fmt: skip
    assert found(**bytes_, external_subscription_id="acme-2") == [(None, "acme-2", "2.5", day)]
    assert found(**bytes_, external_subscription_id="nobody's") == [(None, "nobody's", "4.5", day)]
    assert found(**bytes_, external_customer_id="acme", external_subscription_id="zeta-1") == []
    assert found(**bytes_, external_customer_id="none") == found(**bytes_, external_subscription_id="none") == []
    # The same item under two subscriptions is two items.
    assert [one[2] for one in found(billable_metric_code="users")] == ["4.0"]
    # A customer's days are its own.
    assert found(**bytes_, external_customer_id="zeta", timezone=None)[0][3] == "2024-02-29T15:00:00Z"
    assert over_time(other, **query) == [
        {
            "from_datetime": day, "to_datetime": "2024-03-02T00:00:00Z", "billable_metric_code": "bytes",
            "aggregation_type": "sum_agg", "external_customer_id": None, "external_subscription_id": None,
            "grouped_by": {}, "units": "12.5", "events_count": 5,
        }
    ]  # fmt: skip


def test_pages_and_defaults(fresh: httpx.Client) -> None:
    """Without dates the last 24 hours, 30 days, 12 weeks or 12 months."""
    set_clock(fresh, "2024-04-10T12:34:56Z")
    now = int(datetime(2024, 4, 10, 12, 34, tzinfo=UTC).timestamp())
    send_events(fresh, [event("calls", timestamp=now - hours * 3600) for hours in range(0, 24 * 400, 12)])
    for granularity, count, first in (
        ("hourly", 2, "2024-04-10T00:00:00Z"),
        ("daily", 30, "2024-03-12T00:00:00Z"),
        ("weekly", 12, "2024-01-22T00:00:00Z"),
        ("monthly", 12, "2023-05-01T00:00:00Z"),
    ):
        rows = over_time(fresh, time_granularity=granularity)
        assert (len(rows), rows[0]["from_datetime"]) == (count, first), granularity
        if granularity != "hourly":
            assert all(row["to_datetime"] > row["from_datetime"] for row in rows)
    assert over_time(fresh) == over_time(fresh, time_granularity="daily")
    answer = ok(fresh.get(URL, params={"per_page": 7, "page": 5}))
    assert [row["from_datetime"] for row in answer["usage_over_time"]] == [
        "2024-04-09T00:00:00Z",
        "2024-04-10T00:00:00Z",
    ]
    assert answer["meta"] == {"current_page": 5, "next_page": None, "prev_page": 4, "total_pages": 5, "total_count": 30}
    assert ok(fresh.get(URL, params={"per_page": 7, "page": 6}))["usage_over_time"] == []


def test_any_text_is_data(fresh: httpx.Client) -> None:
    """As a property's name, as its value, as a subscription and as a metric."""
    noon = int(FIRST.timestamp())
    query: dict[str, Any] = {"from_date": "2024-03-01", "to_date": "2024-03-01"}
    names = [text for text in NASTY if text]
    for name in names:
        send_events(fresh, [event("bytes", name, noon, value="1", **{name: name})])
    for name in names:
        [row] = over_time(fresh, **query, external_subscription_id=name, group_by=name)
        assert (row["units"], row["grouped_by"], row["external_subscription_id"]) == ("1.0", {name: name}, name)
    rows = over_time(fresh, **query, split_by="subscription", group_by=names[:5])
    assert {row["external_subscription_id"] for row in rows} == set(names)
    for row in rows:
        own = row["external_subscription_id"]
        assert row["grouped_by"] == {name: own if name == own else None for name in names[:5]}
    for name in names:
        if "\x00" not in name:
            code = name.replace("\n", " ")
            answer = fresh.get(URL, params={"billable_metric_code": code})
            assert refusal(answer) == (404, "billable_metric_not_found")
            assert over_time(fresh, **query, external_customer_id=name) == []


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"from_date": "soon"}, {"from_date": ["invalid_date"]}),
        ({"to_date": "2024-03-01T25:00:00Z"}, {"to_date": ["invalid_date"]}),
        ({"from_date": "2024-03-02", "to_date": "2024-03-01"}, {"to_date": ["value_is_out_of_range"]}),
        ({"from_date": "2024-03-01T00:00:00Z", "to_date": "2024-03-01T00:00:00.9Z"},
         {"to_date": ["value_is_out_of_range"]}),
        ({"from_date": "0001-01-01", "to_date": "0001-01-02"}, {"to_date": ["value_is_out_of_range"]}),
        ({"to_date": "9999-12-31"}, {"to_date": ["value_is_out_of_range"]}),
        ({"from_date": "2020-01-01", "to_date": "2024-01-01", "time_granularity": "hourly"},
         {"time_granularity": ["value_is_out_of_range"]}),
        ({"time_granularity": "yearly"}, {"time_granularity": ["value_is_invalid"]}),
        ({"timezone": "Mars/Olympus"}, {"timezone": ["value_is_invalid"]}),
        ({"timezone": "../etc"}, {"timezone": ["value_is_invalid"]}),
        ({"split_by": "planet"}, {"split_by": ["value_is_invalid"]}),
        ({"group_by": ["a", "b", "c", "d", "e", "f"]}, {"group_by": ["value_is_out_of_range"]}),
    ],
)  # fmt: skip
def test_refused(shared: httpx.Client, query: dict[str, str], wrong: Json) -> None:
    assert problems(shared.get(URL, params=query)) == wrong


def test_a_key_without_the_permission(server: Server, admin: httpx.Client) -> None:
    made = ok(admin.post("/admin/organizations", json={"organization": {"name": "Limited"}}))["organization"]
    path = f"/admin/organizations/{made['lago_id']}/api_keys"
    for permissions, status in (({"analytics": ["read"]}, 200), ({"event": ["read"]}, 403)):
        key = ok(admin.post(path, json={"api_key": {"permissions": permissions}}))["api_key"]["value"]
        with server.client(key) as api:
            assert [api.get(url).status_code for url in (URL, "/api/v1/analytics/usage", "/api/v1/exports/usage")] == [
                status
            ] * 3
            assert api.get("/api/v1/exports/events").status_code == (403 if status == 200 else 200)
            assert api.get("/api/v1/events_enriched").status_code == (403 if status == 200 else 200)
