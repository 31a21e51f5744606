"""`/api/v1/test_clock`: the simulated time of a sandbox."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.factories import invoices_of, make_plan, make_subscription, ok, problems, refusal, set_clock

URL = "/api/v1/test_clock"


def put(api: httpx.Client, now: object) -> httpx.Response:
    return api.put(URL, json={"test_clock": {"now": now}})


@pytest.mark.parametrize(
    ("sent", "now"),
    [
        ("2001-02-03T04:05:06Z", "2001-02-03T04:05:06Z"),
        ("2100-01-01T00:00:00+05:45", "2099-12-31T18:15:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("2024-05-01T00:00:00", "2024-05-01T00:00:00Z"),
    ],
)
def test_the_first_call_may_set_any_instant(api: httpx.Client, sent: str, now: str) -> None:
    assert ok(put(api, sent)) == {"test_clock": {"now": now}}
    assert ok(api.get(URL)) == {"test_clock": {"now": now}}


def test_later_ones_only_move_forward(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    set_clock(api, "2024-05-01T00:00:00Z")
    assert problems(put(api, "2024-04-30T23:59:59Z")) == {"now": ["value_is_invalid"]}
    assert ok(api.get(URL))["test_clock"]["now"] == "2024-05-01T00:00:00Z"
    set_clock(api, "2024-05-01T00:00:01Z")


@pytest.mark.parametrize("sent", ["soon", "", "2024-13-01", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00+10:00"])
def test_not_an_instant(api: httpx.Client, sent: str) -> None:
    assert problems(put(api, sent)) == {"now": ["invalid_date"]}


@pytest.mark.parametrize("sent", [5, None, []])
def test_not_a_text(api: httpx.Client, sent: object) -> None:
    assert problems(put(api, sent)) == {"now": ["value_is_invalid"]}


def test_not_in_a_live_organization(live: httpx.Client) -> None:
    assert refusal(put(live, "2024-05-01T00:00:00Z")) == (403, "feature_unavailable")
    assert refusal(live.get(URL)) == (403, "feature_unavailable")


def test_before_the_first_call_it_is_the_systems_time(api: httpx.Client) -> None:
    first, second = ok(api.get(URL))["test_clock"]["now"], ok(api.get(URL))["test_clock"]["now"]
    assert "2025-01-01T00:00:00Z" < first <= second


def test_everything_due_has_been_done_when_it_answers(api: httpx.Client) -> None:
    """In the order of time: each thing is made at its own instant."""
    set_clock(api, "2024-01-15T00:00:00Z")
    make_plan(api, amount_cents=100)
    make_plan(api, "weekly", interval="weekly", amount_cents=7)
    make_subscription(api, "a", ending_at="2024-02-10T00:00:00Z")
    make_subscription(api, "b", "weekly", subscription_at="2024-02-01T00:00:00Z")
    set_clock(api, "2024-02-20T00:00:00Z")
    found = sorted(invoices_of(api), key=lambda one: one["sequential_id"])
    assert [(one["created_at"][:10], one["issuing_date"]) for one in found] == [
        ("2024-02-01", "2024-02-01"),
        ("2024-02-05", "2024-02-05"),
        ("2024-02-10", "2024-02-10"),
        ("2024-02-12", "2024-02-12"),
        ("2024-02-19", "2024-02-19"),
    ]


def test_organizations_have_their_own(api: httpx.Client, other: httpx.Client) -> None:
    set_clock(api, "2030-01-01T00:00:00Z")
    set_clock(other, "2010-01-01T00:00:00Z")
    make_plan(other, amount_cents=100)
    make_subscription(other)
    set_clock(api, "2031-01-01T00:00:00Z")
    assert invoices_of(other) == []
    assert ok(other.get(URL))["test_clock"]["now"] == "2010-01-01T00:00:00Z"


def test_racing_calls_never_move_it_back(api: httpx.Client) -> None:
    set_clock(api, "2024-01-01T00:00:00Z")
    instants = [f"2024-01-{day:02d}T00:00:00Z" for day in range(2, 28)]
    with ThreadPoolExecutor(4) as pool:
        statuses = {answer.status_code for answer in pool.map(lambda now: put(api, now), instants)}
    assert statuses <= {200, 422}
    assert ok(api.get(URL))["test_clock"]["now"] == instants[-1]
