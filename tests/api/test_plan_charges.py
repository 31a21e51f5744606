"""`/api/v1/plans/{code}/charges` and the filters below them."""

import httpx
import pytest

from tests.factories import Json, make_metric, make_plan, ok, problems, refusal, standard

REGIONS = [{"key": "region", "values": ["us", "eu"]}]


@pytest.fixture
def plan(api: httpx.Client) -> str:
    """The path to the charges of a plan whose code has a slash and a percent sign."""
    make_plan(api, "v2/all%in")
    return "/api/v1/plans/v2/all%25in/charges"


def codes(api: httpx.Client, path: str) -> list[str]:
    return [one["code"] for one in ok(api.get(path))["charges"]]


def test_charges_come_change_and_go(api: httpx.Client, plan: str) -> None:
    metric = make_metric(api, "calls", "sum_agg", filters=REGIONS)
    first = ok(api.post(plan, json={"charge": standard(metric)}))["charge"]
    second = ok(api.post(plan, json={"charge": standard(metric, code="more/calls", prorated=False)}))["charge"]
    assert codes(api, plan) == ["calls", "more/calls"]
    assert ok(api.get(f"{plan}/more/calls"))["charge"] == second
    change = {"invoice_display_name": "Calls", "properties": {"amount": "2"}, "cascade_updates": True}
    changed = ok(api.put(f"{plan}/calls", json={"charge": change}))["charge"]
    assert changed == {**first, "invoice_display_name": "Calls", "properties": {"amount": "2"}}
    assert ok(api.delete(f"{plan}/calls"))["charge"]["lago_id"] == first["lago_id"]
    assert codes(api, plan) == ["more/calls"]
    page = ok(api.get(plan, params={"per_page": 1}))["meta"]
    assert (page["total_count"], page["total_pages"]) == (1, 1)


def test_filters_come_change_and_go(api: httpx.Client, plan: str) -> None:
    metric = make_metric(api, "calls", "sum_agg", filters=REGIONS)
    ok(api.post(plan, json={"charge": standard(metric)}))
    path = f"{plan}/calls/filters"

    def sent(amount: str, *regions: str) -> Json:
        return {"filter": {"values": {"region": list(regions)}, "properties": {"amount": amount}}}

    us = ok(api.post(path, json=sent("1", "us")))["filter"]
    eu = ok(api.post(path, json=sent("2", "eu")))["filter"]
    assert ok(api.get(path))["filters"] == [us, eu]
    assert us["charge_code"] == "calls"
    changed = ok(api.put(f"{path}/{us['lago_id']}", json=sent("3", "us", "eu")))["filter"]
    assert changed == {**us, "properties": {"amount": "3"}, "values": {"region": ["us", "eu"]}}
    assert ok(api.get(f"{path}/{us['lago_id']}"))["filter"] == changed
    assert problems(api.post(path, json=sent("1", "mars"))) == {"values": ["value_is_invalid"]}
    ok(api.delete(f"{path}/{us['lago_id']}"))
    assert refusal(api.get(f"{path}/{us['lago_id']}")) == (404, "charge_filter_not_found")
    assert ok(api.get(f"{plan}/calls"))["charge"]["filters"] == [eu]


def test_what_is_not_there(api: httpx.Client, other: httpx.Client, plan: str) -> None:
    metric = make_metric(api, "calls")
    ok(api.post(plan, json={"charge": standard(metric)}))
    assert refusal(api.get("/api/v1/plans/none/charges")) == (404, "plan_not_found")
    assert refusal(api.get(f"{plan}/none")) == (404, "charge_not_found")
    assert refusal(other.get(f"{plan}/calls")) == (404, "plan_not_found")
    assert refusal(api.delete(f"{plan}/calls/filters/none")) == (404, "charge_filter_not_found")
    unknown = {**standard(metric), "billable_metric_id": "7e7f4b3c-5d3a-4b0a-9a39-7e4b7a3e4a11"}
    assert refusal(api.post(plan, json={"charge": unknown})) == (404, "billable_metric_not_found")
    taken = {"charge": standard(metric, code="calls")}
    assert problems(api.post(plan, json=taken)) == {"code": ["value_already_exist"]}
