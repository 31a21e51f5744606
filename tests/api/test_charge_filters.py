"""Charge filters, written with their plan (metering spec 2.9, 3.4)."""

from typing import Any

import httpx
import pytest

from tests.factories import Json, make_metric, ok, problems, standard

BOTH = [{"key": "region", "values": ["us", "eu"]}, {"key": "tier", "values": ["a"]}]


def post(api: httpx.Client, charge: Json) -> httpx.Response:
    """Make the plan `pro` with one charge."""
    plan = {
        "name": "Pro", "code": "pro", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
        "pay_in_advance": False, "charges": [charge],
    }  # fmt: skip
    return api.post("/api/v1/plans", json={"plan": plan})


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (None, {"values": ["value_is_mandatory"]}),
        ({}, {"values": ["value_is_mandatory"]}),
        ({"region": []}, {"values": ["value_is_mandatory"]}),
        ({"region": ["mars"]}, {"values": ["value_is_invalid"]}),
        ({"tier": ["gold"]}, {"billable_metric_filter": ["relation_must_exist"], "values": ["value_is_invalid"]}),
    ],
)
def test_filters_choose_from_those_of_the_metric(api: httpx.Client, values: Any, answer: Json) -> None:
    metric = make_metric(api, "seats", "sum_agg", filters=[{"key": "region", "values": ["us", "eu"]}])
    charge = standard(metric, filters=[{"values": values, "properties": {"amount": "1"}}])
    assert problems(post(api, charge)) == answer


def test_filters_are_matched_by_their_values(api: httpx.Client) -> None:
    """The order is that of the list last sent; one with the same values stays the same filter."""
    metric = make_metric(
        api, "seats", "sum_agg", filters=[{"key": "region", "values": ["us", "eu"]}, {"key": "tier", "values": ["a"]}]
    )

    def one(amount: str, name: str, **values: list[str]) -> Json:
        return {"values": values, "properties": {"amount": amount}, "invoice_display_name": name}

    def change(*filters: Json) -> list[Json]:
        sent = {"charges": [{"id": charge["lago_id"], "filters": list(filters)}]}
        answer = ok(api.put("/api/v1/plans/pro", json={"plan": sent}))["plan"]
        listed: list[Json] = answer["charges"][0]["filters"]
        return listed

    first = [one("1", "us", region=["us"]), one("2", "both", region=["eu"], tier=["a"])]
    (charge,) = ok(post(api, standard(metric, filters=first)))["plan"]["charges"]
    us, both = charge["filters"]
    assert us == {
        "lago_id": us["lago_id"], "charge_code": charge["code"], "invoice_display_name": "us",
        "properties": {"amount": "1"}, "values": {"region": ["us"]},
    }  # fmt: skip
    assert list(both["values"]) == ["region", "tier"]
    listed = change(one("3", "new", tier=["a"]), one("5", "BOTH", tier=["a"], region=["eu"]))
    assert [(item["invoice_display_name"], item["properties"]) for item in listed] == [
        ("new", {"amount": "3"}), ("BOTH", {"amount": "5"}),
    ]  # fmt: skip
    assert listed[1]["lago_id"] == both["lago_id"]
    ok(api.put("/api/v1/plans/pro", json={"plan": {"charges": [{"id": charge["lago_id"]}]}}))
    assert len(ok(api.get("/api/v1/plans/pro"))["plan"]["charges"][0]["filters"]) == 2
    assert change() == []


def test_filters_follow_the_metric(api: httpx.Client) -> None:
    """A value or a key that the metric no longer lists leaves the filters; what is left without any goes."""
    metric = make_metric(
        api, "seats", "sum_agg", filters=[{"key": "region", "values": ["us", "eu"]}, {"key": "tier", "values": ["a"]}]
    )
    every = "__ALL_FILTER_VALUES__"
    sent = [{"region": ["us", "eu"], "tier": ["a"]}, {"region": ["us"]}, {"tier": ["a"]}, {"region": [every]}]
    filters = [{"values": values, "properties": {"amount": "1"}} for values in sent]
    ok(post(api, standard(metric, filters=filters)))

    def values_after(*filters: Json) -> list[Json]:
        ok(api.put("/api/v1/billable_metrics/seats", json={"billable_metric": {"filters": list(filters)}}))
        (charge,) = ok(api.get("/api/v1/plans/pro"))["plan"]["charges"]
        return [one["values"] for one in charge["filters"]]

    assert values_after({"key": "region", "values": ["us", "asia"]}) == [
        {"region": ["us"]}, {"region": ["us"]}, {"region": [every]},
    ]  # fmt: skip
    assert values_after({"key": "region", "values": ["asia"]}) == [{"region": [every]}]
    assert values_after() == []
