"""`/api/v1/subscriptions/{external_id}/lifetime_usage`: before it came here, billed, and not yet billed."""

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
)

URL = "/api/v1/subscriptions/sub/lifetime_usage"


def lifetime(api: httpx.Client) -> Json:
    found: Json = ok(api.get(URL))["lifetime_usage"]
    return found


def amounts(api: httpx.Client) -> tuple[int, int, int]:
    """What was before, what has been billed, and what has not."""
    found = lifetime(api)
    before, billed, present = (
        found[f"{name}_usage_amount_cents"] for name in ("external_historical", "invoiced", "current")
    )
    return before, billed, present


def set_before(api: httpx.Client, cents: object) -> httpx.Response:
    return api.put(URL, json={"lifetime_usage": {"external_historical_usage_amount_cents": cents}})


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A subscription since 1 April 2024, with a fee, a tax and calls at 1.00."""
    set_clock(api, "2024-04-01T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_plan(api, charges=[standard(make_metric(api, "calls", "sum_agg"))], amount_cents=3_000)
    make_subscription(api)
    return api


def test_usage_is_billed_and_goes_on(april: httpx.Client) -> None:
    send_events(april, [event("calls", value=10)])
    assert amounts(april) == (0, 0, 1_000)
    set_clock(april, "2024-05-10T12:30:00Z")
    send_events(april, [event("calls", value=1)])
    assert amounts(april) == (0, 1_000, 100)
    answer = ok(set_before(april, 5_000))["lifetime_usage"]
    assert answer == lifetime(april)
    subscription = ok(april.get("/api/v1/subscriptions/sub"))["subscription"]
    assert answer == {
        "lago_id": answer["lago_id"], "lago_subscription_id": subscription["lago_id"],
        "external_subscription_id": "sub", "external_historical_usage_amount_cents": 5_000,
        "invoiced_usage_amount_cents": 1_000, "current_usage_amount_cents": 100,
        "from_datetime": "2024-04-01T00:00:00Z", "to_datetime": "2024-05-10T12:30:00Z", "usage_thresholds": [],
    }  # fmt: skip
    ok(set_before(april, 0))
    assert amounts(april) == (0, 1_000, 100)


def test_it_goes_on_in_the_next_subscription(april: httpx.Client) -> None:
    ok(set_before(april, 70))
    send_events(april, [event("calls", value=10)])
    first = lifetime(april)
    set_clock(april, "2024-04-20T00:00:00Z")
    ok(april.delete("/api/v1/subscriptions/sub"))
    ended = lifetime(april)
    assert amounts(april) == (70, 1_000, 0)
    make_subscription(april)
    send_events(april, [event("calls", value=2)])
    again = lifetime(april)
    assert amounts(april) == (70, 1_000, 200)
    assert first["lago_id"] == ended["lago_id"] == again["lago_id"]
    assert first["lago_subscription_id"] == ended["lago_subscription_id"] != again["lago_subscription_id"]


def test_it_survives_a_change_of_plan(april: httpx.Client) -> None:
    ok(set_before(april, 70))
    send_events(april, [event("calls", value=10)])
    first = lifetime(april)
    (charge,) = ok(april.get("/api/v1/plans/plan"))["plan"]["charges"]
    metric = {"lago_id": charge["lago_billable_metric_id"]}
    make_plan(april, "dearer", charges=[standard(metric, "3")], amount_cents=9_000)
    set_clock(april, "2024-04-11T10:00:00Z")
    make_subscription(april, plan="dearer")
    send_events(april, [event("calls", value=2)])
    assert amounts(april) == (70, 1_000, 600)
    after = lifetime(april)
    assert (after["lago_id"], after["from_datetime"]) == (first["lago_id"], first["from_datetime"])
    assert after["lago_subscription_id"] != first["lago_subscription_id"]


def test_the_same_id_of_another_customer_begins_anew(april: httpx.Client) -> None:
    ok(set_before(april, 70))
    send_events(april, [event("calls", value=10)])
    first = lifetime(april)
    ok(april.delete("/api/v1/subscriptions/sub"))
    set_clock(april, "2024-04-20T00:00:00Z")
    make_subscription(april, customer="second")
    assert amounts(april) == (0, 0, 0)
    assert lifetime(april)["lago_id"] != first["lago_id"]


def test_before_the_start(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T00:00:00Z")
    make_plan(api)
    make_subscription(api, subscription_at="2024-05-01T00:00:00Z")
    assert ok(set_before(api, 70))["lifetime_usage"]["from_datetime"] == "2024-05-01T00:00:00Z"
    set_clock(api, "2024-05-02T00:00:00Z")
    assert amounts(api) == (70, 0, 0)


def test_refusals(april: httpx.Client, other: httpx.Client) -> None:
    field = "external_historical_usage_amount_cents"
    for cents, code in ((None, "mandatory"), (-1, "out_of_range"), (10**16, "out_of_range"), ("x", "invalid")):
        assert problems(set_before(april, cents)) == {field: [f"value_is_{code}"]}
    assert problems(april.put(URL, json={"lifetime_usage": {}})) == {field: ["value_is_mandatory"]}
    assert april.put(URL, json={}).status_code == 400
    assert refusal(other.get(URL)) == (404, "subscription_not_found")
    assert refusal(set_before(other, 1)) == (404, "subscription_not_found")
    assert amounts(april) == (0, 0, 0)
