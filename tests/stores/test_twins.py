"""The aggregations in SQL and their twins in Python agree on every window, in current usage and in what is billed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.aggregation import Aggregation, Sample, WeighedSpan, aggregate, decimal_value
from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_events,
    set_clock,
    standard,
    unique,
    usage_of,
)
from tests.support import Server

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
METRICS = {
    "calls": Aggregation.COUNT, "bytes": Aggregation.SUM, "peak": Aggregation.MAX, "users": Aggregation.UNIQUE_COUNT,
    "level": Aggregation.LATEST, "disk": Aggregation.WEIGHTED_SUM, "stock": Aggregation.SUM,
    "seats": Aggregation.UNIQUE_COUNT, "volume": Aggregation.WEIGHTED_SUM,
}  # fmt: skip
RECURRING = {"stock", "seats", "volume"}
ITEMS = ("users", "seats")
ZONES = [
    "UTC",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Pacific/Chatham",
    "Europe/Berlin",
    "America/New_York",
]
FIRST = datetime(2024, 3, 1, tzinfo=UTC)
"""Berlin, New York and Chatham change their clocks around this month."""
DAYS = 31

GROUPED, PLAIN = "grouped", "plain"
"""The plans. What nothing splits is read with queries of its own."""

Expected = dict[tuple[str, str | None], tuple[Decimal, int]]
"""Units and number of events by metric and, of the grouped charge, by team; of the other by None."""


class Book:
    """An organization, and what each subscription in it must come to."""

    def __init__(self, api: httpx.Client):
        self.api = api
        self.expected: dict[str, Expected] = {}
        set_clock(api, "2024-03-20T11:22:33Z")
        # Free of charge, so that no sum is too large for an invoice.
        metrics = [
            make_metric(
                api,
                code,
                kind,
                recurring=code in RECURRING,
                weighted_interval="seconds" if kind is Aggregation.WEIGHTED_SUM else None,
            )
            for code, kind in METRICS.items()
        ]
        grouped = {"amount": "0", "pricing_group_keys": ["team"]}
        charges = [{**standard(metric), "properties": {"amount": "0"}} for metric in metrics]
        make_plan(api, GROUPED, charges=[*charges, *({**charge, "properties": grouped} for charge in charges)])
        make_plan(api, PLAIN, charges=charges)
        for zone in ZONES:
            make_customer(api, customer_in(zone), timezone=zone, currency="EUR")


@pytest.fixture(scope="module")
def book(server: Server) -> Iterator[Book]:
    """An organization with a customer in every zone."""
    with server.organization("Twins", sandbox=True) as api:
        yield Book(api)


def customer_in(zone: str) -> str:
    """The customer in a zone."""
    return zone.replace("/", " ")


def milliseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def instants() -> st.SearchStrategy[int]:
    """Milliseconds since the first of March: at random, and close around hours and around either end of the month."""
    around = st.integers(-2, 2) | st.integers(-HOUR, HOUR)
    ends = st.sampled_from([0, 31 * 24 * HOUR])
    offsets = st.sampled_from([0, 330, 345, -150, 825, 60, 120, -300, -240]).map(lambda minutes: -minutes * 60_000)
    return st.one_of(
        st.integers(-3 * 24 * HOUR, 34 * 24 * HOUR),
        st.builds(lambda end, offset, shift: end + offset + shift, ends, offsets, around),
        st.builds(lambda hour, shift: hour * HOUR + shift, st.integers(0, 31 * 24), st.integers(-1, 1)),
    )


VALUES = st.one_of(
    st.decimals(-1000, 10**6, allow_nan=False, allow_infinity=False, places=6).map(str),
    st.sampled_from(["0", "-1", "1e3", "1E-20", "abc", "", "99999999999999999999.9", "1" * 30, "+5", ".5", "5.", " 1"]),
)
SENT = st.builds(
    lambda *parts: parts,
    st.sampled_from([*METRICS, *ITEMS]),
    instants(),
    VALUES,
    st.sampled_from(["a", "b", "ü", "", "A", "a ", "\x00"]) | st.text(st.characters(codec="utf-8"), max_size=3),
    st.sampled_from(["add", "remove", "remove", "other", None]),
    st.sampled_from(["a", "b", "", None]),
)


def as_event(subscription: str, number: int, sent: tuple[Any, ...], *, removes: bool) -> Json:
    code, at, value, item, operation, team = sent
    if not removes:  # what has only come is counted with a query of its own, too
        operation = None
    absolute = (FIRST - EPOCH) // timedelta(milliseconds=1) + at
    properties = {"value": item if code in ITEMS else value, "operation_type": operation, "salt": "x"}
    if operation is None:
        del properties["operation_type"]
    if team is not None:
        properties["team"] = team
    # Transaction ids that sort otherwise than they are sent.
    transaction = f"{'zaüZ'[number % 4]}{number}"
    return event(code, subscription, f"{absolute // 1000}.{absolute % 1000:03d}", transaction, **properties)


def twin(events: list[Json], first: int, end: int, days: int) -> Expected:
    """What Python makes of the events from one millisecond to before another, of all and of each team."""
    teams = {one["properties"].get("team", "") for one in events}
    expected = {(code, None): one for code, one in counted(events, first, end, days).items()}
    for team in teams:
        own = [one for one in events if one["properties"].get("team", "") == team]
        expected |= {(code, team): one for code, one in counted(own, first, end, days).items()}
    return {key: one for key, one in expected.items() if one != (0, 0)}


def counted(events: list[Json], first: int, end: int, days: int) -> dict[str, tuple[Decimal, int]]:
    """Each metric's units of one bucket; recurring metrics count what was before."""
    span = WeighedSpan.of(first, end, days)
    samples: dict[str, list[Sample]] = {code: [] for code in METRICS}
    opening = dict.fromkeys(METRICS, Decimal(0))
    for one in events:
        code, at = one["code"], int(Decimal(one["timestamp"]) * 1000)
        text, operation = one["properties"]["value"], one["properties"].get("operation_type", "add")
        value = decimal_value(text) or Decimal(0)
        carried = at < first and code in RECURRING
        if carried and METRICS[code] is Aggregation.WEIGHTED_SUM:
            opening[code] += value
        elif (carried or first <= at) and at < end:
            samples[code].append(Sample(at, one["transaction_id"], value, text, operation, one["ingested"]))
    units = {code: aggregate(kind, samples[code], span, opening[code]) for code, kind in METRICS.items()}
    return {code: (max(one.units, Decimal(0)), one.events_count) for code, one in units.items()}


def shown(usage: Json) -> Expected:
    """The units in a current usage that are not nothing."""
    found: Expected = {}
    for charge in usage["charges_usage"]:
        code = charge["billable_metric"]["code"]
        for one in charge["grouped_usage"] or [charge]:
            team = one["grouped_by"]["team"] or "" if "grouped_by" in one else None
            found[code, team] = (Decimal(one["units"]), one["events_count"])
    return {key: one for key, one in found.items() if one != (0, 0)}


@settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    zone=st.just("UTC") | st.sampled_from(ZONES),
    started=st.just(-40 * 24 * 60) | st.integers(-40 * 24 * 60, 19 * 24 * 60),
    batches=st.lists(st.lists(SENT, min_size=1, max_size=25), min_size=1, max_size=3),
    removes=st.booleans(),
    look=st.booleans(),
)
def reads_what_was_sent(
    book: Book, zone: str, started: int, batches: list[list[tuple[Any, ...]]], *, removes: bool, look: bool
) -> None:
    started_at = FIRST + timedelta(minutes=started)
    for plan in (GROUPED, PLAIN):
        subscription = unique("twin")
        make_subscription(book.api, subscription, plan, customer_in(zone), subscription_at=started_at.isoformat())
        sent: list[Json] = []
        for number, batch in enumerate(batches):
            fresh = [as_event(subscription, len(sent) + place, one, removes=removes) for place, one in enumerate(batch)]
            send_events(book.api, fresh)
            sent += [{**one, "ingested": number} for one in fresh]
            if look:  # what has been sent so far goes to the rollups on its own
                usage_of(book.api, subscription, customer_in(zone))
        usage = usage_of(book.api, subscription, customer_in(zone))
        first = milliseconds(usage["from_datetime"])
        expected = twin(sent, first, milliseconds(usage["to_datetime"]) + 1000, DAYS)
        if plan == PLAIN:
            expected = {(code, team): one for (code, team), one in expected.items() if team is None}
        assert shown(usage) == expected
        # No rollup is split by this key: the same is read from the raw events alone.
        assert shown(usage_of(book.api, subscription, customer_in(zone), **{"group[salt]": "x"})) == expected
        book.expected[subscription] = expected


def test_current_usage_and_what_is_billed(book: Book) -> None:
    """The close asks for the windows of all subscriptions at once, in other queries than current usage does."""
    reads_what_was_sent(book)
    set_clock(book.api, "2024-04-02T00:00:00Z")
    fees: list[Json] = []
    page: int | None = 1
    while page is not None:
        answer = ok(book.api.get("/api/v1/fees", params={"fee_type": "charge", "per_page": 1000, "page": page}))
        fees += answer["fees"]
        page = answer["meta"]["next_page"]
    billed: dict[str, Expected] = {subscription: {} for subscription in book.expected}
    for fee in fees:
        if fee["external_subscription_id"] in billed:
            units = (Decimal(fee["units"]), fee["events_count"])
            group = fee["item"]["grouped_by"]
            team = group["team"] or "" if group else None
            billed[fee["external_subscription_id"]][fee["item"]["code"], team] = units
    assert billed == book.expected
