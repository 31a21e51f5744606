"""Drafts that follow the events that come for them late (billing spec 3.3)."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_events,
    set_clock,
    standard,
)
from tests.support import Server, running, wait_for

GRACE = {"invoice_grace_period": 3}
LATER = "2024-06-01T02:00:00Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that looks for what is due every second."""
    with running(tmp_path_factory.mktemp("late") / "data", scheduler_seconds=1) as one:
        yield one
        assert one.defects() == []


def day(month: int, number: int) -> int:
    """The first second of a day of 2024."""
    return int(datetime(2024, month, number, tzinfo=UTC).timestamp())


@pytest.fixture
def june(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 June 2024 with the drafts of May of two subscriptions, with one call and 5 GB each, at 1.00; what is
    stored goes on from month to month."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api, billing_configuration=GRACE)
    calls = make_metric(api, "calls")
    stored = make_metric(api, "stored", "sum_agg", recurring=True)
    make_metric(api, "unbilled")
    make_plan(api, charges=[standard(calls), standard(stored)])
    for name in ("one", "two"):
        make_subscription(api, name, consolidate_invoice=False)
        send_events(api, [event("calls", name, day(5, 10)), event("stored", name, day(5, 10), value=5)])
    set_clock(api, "2024-06-01T01:00:00Z")
    return api


def drafts(api: httpx.Client) -> dict[str, tuple[int, str]]:
    """What the draft of each subscription comes to, and when it was made."""
    return {
        one["subscriptions"][0]["external_id"]: (one["total_amount_cents"], one["updated_at"])
        for one in invoices_of(api, status="draft")
    }


@pytest.mark.parametrize("late", [event("calls", "one", day(5, 31)), event("stored", "one", day(4, 2), value=1)])
def test_a_draft_is_made_anew_when_the_clock_is_set_next(june: httpx.Client, late: Json) -> None:
    """Of what goes on from month to month, events from before the period count, too."""
    assert drafts(june) == dict.fromkeys(("one", "two"), (600, "2024-06-01T00:00:00Z"))
    send_events(june, [late])
    set_clock(june, LATER)
    assert drafts(june) == {"one": (700, LATER), "two": (600, "2024-06-01T00:00:00Z")}
    set_clock(june, "2024-06-01T03:00:00Z")
    assert drafts(june)["one"] == (700, LATER)
    set_clock(june, "2024-06-04T00:00:00Z")
    assert sorted(one["total_amount_cents"] for one in invoices_of(june)) == [600, 700]


@pytest.mark.parametrize(
    "other",
    [
        event("calls", "one", day(6, 1)),
        event("calls", "one", day(4, 30)),
        event("unbilled", "one", day(5, 10)),
        event("calls", "none", day(5, 10)),
        event("stored", "one", day(6, 1), value=1),
    ],
)
def test_other_events_leave_it_alone(june: httpx.Client, other: Json) -> None:
    before = drafts(june)
    send_events(june, [other])
    set_clock(june, LATER)
    assert drafts(june) == before


def test_a_replay_leaves_it_alone(june: httpx.Client) -> None:
    sent = event("calls", "two", day(5, 20))
    send_events(june, [sent])
    set_clock(june, LATER)
    assert drafts(june)["two"] == (700, LATER)
    send_events(june, [sent])
    set_clock(june, "2024-06-01T03:00:00Z")
    assert drafts(june)["two"] == (700, LATER)


def test_by_itself_on_the_systems_time(live: httpx.Client) -> None:
    make_customer(live, billing_configuration=GRACE)
    make_plan(live, charges=[standard(make_metric(live, "calls"))])
    make_subscription(live)
    now = time.time()
    send_events(live, [event("calls", timestamp=now)])
    wait_for(lambda: time.time() > now + 0.01, "another instant")
    ok(live.delete("/api/v1/subscriptions/sub"))
    (draft,) = invoices_of(live)
    assert (draft["status"], draft["total_amount_cents"]) == ("draft", 100)
    send_events(live, [event("calls", timestamp=now) for _ in range(3)])
    wait_for(lambda: invoices_of(live)[0]["total_amount_cents"] == 400, "the draft with the late events")
