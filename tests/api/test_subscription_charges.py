"""`/api/v1/subscriptions/{external_id}/charges` and the filters below them (billing spec 1.11)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    make_customer,
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
    usage_of,
)

NOON = 1_715_342_400  # 10 May 2024
URL = "/api/v1/subscriptions/sub"


@pytest.fixture
def plan(api: httpx.Client) -> Json:
    """A sandbox on 10 May 2024 with a subscription to a plan with two charges, one of whose codes has a slash."""
    set_clock(api, "2024-05-10T00:00:00Z")
    make_tax(api, "vat", "20")
    calls = make_metric(api, "calls", filters=[{"key": "region", "values": ["us", "eu", "asia"]}])
    filters = [
        {"values": {"region": [name]}, "properties": {"amount": amount}} for name, amount in (("us", "2"), ("eu", "3"))
    ]
    made = make_plan(api, charges=[standard(calls, filters=filters), standard(calls, "5", code="v2/more%")])
    make_customer(api)
    make_subscription(api)
    return made


def put(api: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    root = "filter" if "/filters/" in path else "charge"
    return api.put(f"{URL}/charges/{path}", json={root: fields})


def charges(api: httpx.Client) -> list[Json]:
    shown: list[Json] = ok(api.get(f"{URL}/charges"))["charges"]
    return shown


def test_they_are_the_plans_until_one_is_changed(api: httpx.Client, plan: Json) -> None:
    page = ok(api.get(f"{URL}/charges", params={"per_page": 1, "page": 2}))
    assert (page["charges"], page["meta"]["total_count"]) == (plan["charges"][1:], 2)
    assert charges(api) == plan["charges"]
    assert ok(api.get(f"{URL}/charges/v2/more%25"))["charge"] == plan["charges"][1]
    first = plan["charges"][0]
    assert ok(api.get(f"{URL}/charges/calls/filters"))["filters"] == first["filters"]
    us = first["filters"][0]
    assert ok(api.get(f"{URL}/charges/calls/filters/{us['lago_id']}"))["filter"] == us
    assert ok(api.get(URL))["subscription"]["plan"] == plan


def test_a_change_makes_a_plan_for_the_subscription(api: httpx.Client, plan: Json) -> None:
    first, second = plan["charges"]
    sent = {"properties": {"amount": "7"}, "invoice_display_name": "Own", "tax_codes": ["vat"]}
    changed = ok(put(api, "v2/more%25", **sent))["charge"]
    assert changed["lago_id"] != second["lago_id"]
    assert changed["lago_parent_id"] == second["lago_id"]
    assert (changed["code"], changed["properties"], changed["invoice_display_name"]) == (
        "v2/more%",
        {"amount": "7"},
        "Own",
    )
    assert [tax["code"] for tax in changed["taxes"]] == ["vat"]
    own = charges(api)
    assert own[1] == changed
    assert own[0]["lago_parent_id"] == first["lago_id"]
    assert [one["properties"] for one in own[0]["filters"]] == [one["properties"] for one in first["filters"]]
    shown = ok(api.get(URL))["subscription"]
    assert (shown["plan_code"], shown["plan"]["charges"]) == ("plan", own)
    # The next change finds the plan that there is.
    again = ok(put(api, "v2/more%25", properties={"amount": "8"}))["charge"]
    assert again == {**changed, "properties": {"amount": "8"}}
    assert ok(api.get(URL))["subscription"]["plan"]["lago_id"] == shown["plan"]["lago_id"]
    assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan


def test_filters_come_change_and_go(api: httpx.Client, plan: Json) -> None:
    us, eu = plan["charges"][0]["filters"]
    changed = ok(put(api, f"calls/filters/{us['lago_id']}", properties={"amount": "20"}))["filter"]
    assert changed["lago_id"] != us["lago_id"]
    assert {**changed, "lago_id": us["lago_id"]} == {**us, "properties": {"amount": "20"}}
    # The ids of the plan's filters still name those of the copy.
    assert ok(api.get(f"{URL}/charges/calls/filters/{us['lago_id']}"))["filter"] == changed
    removed = ok(api.delete(f"{URL}/charges/calls/filters/{eu['lago_id']}"))["filter"]
    assert removed["values"] == eu["values"]
    sent = {"values": {"region": ["asia"]}, "properties": {"amount": "9"}, "invoice_display_name": "Asia"}
    added = ok(api.post(f"{URL}/charges/calls/filters", json={"filter": sent}))["filter"]
    assert {name: added[name] for name in sent} == sent
    listed = ok(api.get(f"{URL}/charges/calls/filters"))
    assert (listed["filters"], listed["meta"]["total_count"]) == ([changed, added], 2)
    assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan
    send_events(api, [event("calls", timestamp=NOON, region=region) for region in ("us", "eu", "asia")])
    assert usage_of(api)["amount_cents"] == 100 * (20 + 1 + 9 + 3 * 5)


@pytest.mark.parametrize("method", ["post", "delete"])
def test_the_first_change_can_be_one_of_a_filter(api: httpx.Client, plan: Json, method: str) -> None:
    path, us = f"{URL}/charges/calls/filters", plan["charges"][0]["filters"][0]
    if method == "post":
        ok(api.post(path, json={"filter": {"values": {"region": ["asia"]}, "properties": {"amount": "9"}}}))
    else:
        ok(api.delete(f"{path}/{us['lago_id']}"))
    regions = [one["values"]["region"] for one in charges(api)[0]["filters"]]
    assert regions == ([["us"], ["eu"], ["asia"]] if method == "post" else [["eu"]])
    assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan


def test_what_is_wrong_changes_nothing(api: httpx.Client, plan: Json) -> None:
    us = plan["charges"][0]["filters"][0]["lago_id"]
    wrong = {"properties": ["invalid_amount"]}
    assert problems(put(api, "calls", properties={"amount": "x"})) == wrong
    assert problems(put(api, f"calls/filters/{us}", properties={"amount": "x"})) == wrong
    assert problems(put(api, "calls", min_amount_cents=-1)) == {"min_amount_cents": ["value_is_out_of_range"]}
    assert problems(put(api, f"calls/filters/{us}", values={"region": ["mars"]})) == {"values": ["value_is_invalid"]}
    assert refusal(put(api, "calls", tax_codes=["none"])) == (404, "tax_not_found")
    assert api.put(f"{URL}/charges/calls", json={}).status_code == 400
    assert ok(api.get(URL))["subscription"]["plan"] == plan


def test_what_is_not_there(api: httpx.Client, other: httpx.Client, plan: Json) -> None:
    for path in ("none", "calls/filters/none", "none/filters/x"):
        missing = "charge_filter" if path.startswith("calls") else "charge"
        assert refusal(api.get(f"{URL}/charges/{path}")) == (404, f"{missing}_not_found")
        assert refusal(put(api, path)) == (404, f"{missing}_not_found")
    assert refusal(api.delete(f"{URL}/charges/calls/filters/none")) == (404, "charge_filter_not_found")
    assert ok(api.get(URL))["subscription"]["plan"] == plan
    for answer in (other.get(f"{URL}/charges"), put(other, "calls"), api.get("/api/v1/subscriptions/no/charges")):
        assert refusal(answer) == (404, "subscription_not_found")


@pytest.mark.usefixtures("plan")
def test_statuses(api: httpx.Client) -> None:
    ok(put(api, "calls", properties={"amount": "7"}))
    make_subscription(api, "later", subscription_at="2024-06-01T00:00:00Z")
    path = "/api/v1/subscriptions/later/charges/calls"
    assert refusal(api.get(path)) == (404, "subscription_not_found")
    pending = {"subscription_status": "pending"}
    body = {"charge": {"properties": {"amount": "6"}}}
    assert ok(api.put(path, params=pending, json=body))["charge"]["properties"] == {"amount": "6"}
    ok(api.delete(URL))
    terminated = {"subscription_status": "terminated"}
    shown = ok(api.get(f"{URL}/charges", params=terminated))["charges"]
    assert shown[0]["properties"] == {"amount": "7"}
    refused = api.put(f"{URL}/charges/calls", params=terminated, json=body)
    assert refusal(refused) == (405, "no_active_subscription")
    unknown = api.get(f"{URL}/charges", params={"subscription_status": "x"})
    assert problems(unknown) == {"status": ["value_is_invalid"]}


@pytest.mark.usefixtures("plan")
def test_changes_at_once_make_one_plan(api: httpx.Client) -> None:
    paths = ["calls", "v2/more%25"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: put(api, path, properties={"amount": "7"}), paths))
    assert {answer.status_code for answer in answers} == {200}
    own = charges(api)
    assert [one["properties"] for one in own] == [{"amount": "7"}] * 2
    assert {ok(answer)["charge"]["lago_id"] for answer in answers} == {one["lago_id"] for one in own}
