"""Deleting a plan ends its subscriptions in the background (billing spec 1.11)."""

from pathlib import Path

import httpx
import pytest

from tests.factories import (
    event,
    invoices_of,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    refusal,
    send_events,
    set_clock,
    standard,
)
from tests.support import running, wait_for

PLAN = "/api/v1/plans/plan"
URL = "/api/v1/subscriptions"
NOON = 1_715_342_400  # 10 May 2024


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on 15 May 2024 with a plan of 31.00 a month in arrears and three subscriptions: on the plan itself, on a
    copy of it, and one that has not started."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    make_plan(api, charges=[standard(make_metric(api, "calls"))], amount_cents=3_100)
    make_subscription(api, "plain")
    make_subscription(api, "own", plan_overrides={"amount_cents": 6_200})
    make_subscription(api, "later", subscription_at="2024-07-01T00:00:00Z")
    send_events(api, [event("calls", "plain", NOON), event("calls", "own", NOON)])
    set_clock(api, "2024-05-15T10:00:00Z")
    return api


def statuses(api: httpx.Client) -> dict[str, str]:
    query = {"status[]": ["active", "pending", "terminated", "canceled"]}
    return {one["external_id"]: one["status"] for one in ok(api.get(URL, params=query))["subscriptions"]}


def test_it_can_be_sold_no_more_at_once(may: httpx.Client) -> None:
    shown = ok(may.get(PLAN))
    assert ok(may.delete(PLAN)) == shown
    for answer in (may.get(PLAN), may.delete(PLAN), may.put(PLAN, json={"plan": {"name": "x"}})):
        assert refusal(answer) == (404, "plan_not_found")
    assert ok(may.get("/api/v1/plans"))["plans"] == []
    subscription = {"external_id": "new", "external_customer_id": "customer", "plan_code": "plan"}
    assert refusal(may.post(URL, json={"subscription": subscription})) == (404, "plan_not_found")
    assert statuses(may) == {"plain": "active", "own": "active", "later": "pending"}


def test_its_subscriptions_end_as_of_then(may: httpx.Client) -> None:
    ok(may.delete(PLAN))
    send_events(may, [event("calls", "plain", NOON + 864_000)])
    set_clock(may, "2024-05-25T00:00:00Z")
    assert statuses(may) == {"plain": "terminated", "own": "terminated", "later": "canceled"}
    ended = ok(may.get(f"{URL}/plain?status=terminated"))["subscription"]
    assert ended["terminated_at"] == "2024-05-15T10:00:00Z"
    assert (ended["plan_code"], ended["plan"]["code"]) == ("plan", "plan")
    invoices = invoices_of(may)
    # 15 of 31 days, and one call each: what came after the end does not count.
    assert [sorted(fee["amount_cents"] for fee in one["fees"]) for one in invoices] == [[100, 100, 1_500, 3_000]]
    assert invoices[0]["issuing_date"] == "2024-05-15"
    set_clock(may, "2024-08-01T00:00:00Z")
    assert len(invoices_of(may)) == 1


def test_setting_the_clock_to_what_it_shows_is_enough(may: httpx.Client) -> None:
    ok(may.delete(PLAN))
    set_clock(may, "2024-05-15T10:00:00Z")
    assert statuses(may) == {"plain": "terminated", "own": "terminated", "later": "canceled"}


def test_a_period_that_is_over_is_billed_before(may: httpx.Client) -> None:
    set_clock(may, "2024-06-02T00:00:00Z")
    ok(may.delete(PLAN))
    set_clock(may, "2024-06-02T00:00:00Z")
    amounts = [sorted(fee["amount_cents"] for fee in one["fees"]) for one in invoices_of(may)]
    assert sorted(amounts) == sorted([[100, 100, 3_100, 6_200], [207, 413]])


def test_the_code_is_free_at_once(may: httpx.Client) -> None:
    ok(may.delete(PLAN))
    made = make_plan(may, amount_cents=1)
    make_subscription(may, "new")
    set_clock(may, "2024-05-16T00:00:00Z")
    assert statuses(may) == {"plain": "terminated", "own": "terminated", "later": "canceled", "new": "active"}
    assert ok(may.get(PLAN))["plan"] == made


def test_prices_can_be_changed_until_the_end(may: httpx.Client) -> None:
    ok(may.delete(PLAN))
    own = {"charges": [{"code": "calls", "properties": {"amount": "2"}}]}
    ok(may.put(f"{URL}/plain", json={"subscription": {"plan_overrides": own}}))
    set_clock(may, "2024-05-16T00:00:00Z")
    assert statuses(may)["plain"] == "terminated"
    (invoice,) = invoices_of(may)
    assert invoice["fees_amount_cents"] == 1_500 + 200 + 3_000 + 100


def test_metrics_are_free_again(may: httpx.Client) -> None:
    path = "/api/v1/billable_metrics/calls"

    def code_after(code: str) -> str:
        changed: str = ok(may.put(path, json={"billable_metric": {"code": code}}))["billable_metric"]["code"]
        return changed

    ok(may.delete(PLAN))
    assert code_after("new") == "calls"
    set_clock(may, "2024-05-16T00:00:00Z")
    assert code_after("new") == "new"


def test_on_the_systems_time_it_happens_by_itself(tmp_path: Path) -> None:
    with running(tmp_path / "data", scheduler_seconds=1) as server, server.organization() as live:
        make_customer(live)
        make_plan(live, amount_cents=3_100)
        make_subscription(live, "plain")
        make_subscription(live, "own", plan_overrides={"amount_cents": 6_200})
        ok(live.delete(PLAN))
        wait_for(lambda: statuses(live) == {"plain": "terminated", "own": "terminated"}, "the end of the subscriptions")
        assert [len(one["fees"]) for one in invoices_of(live)] == [2]


def test_another_organizations_plan_stays(may: httpx.Client, other: httpx.Client) -> None:
    set_clock(other, "2024-05-01T00:00:00Z")
    make_customer(other)
    make_plan(other)
    make_subscription(other, "theirs")
    ok(may.delete(PLAN))
    set_clock(may, "2024-05-16T00:00:00Z")
    set_clock(other, "2024-05-16T00:00:00Z")
    assert statuses(other) == {"theirs": "active"}
    assert ok(other.get(PLAN))["plan"]["code"] == "plan"
