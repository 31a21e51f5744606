"""Alerts on subscriptions: what is kept, what is refused, and when they are triggered."""

from decimal import Decimal
from typing import Any

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
    send_event,
    set_clock,
    standard,
)

URL = "/api/v1/subscriptions/sub/alerts"


def alert(code: str = "a", alert_type: str = "current_usage_amount", *values: object, **more: object) -> Json:
    thresholds = [{"code": "warn", "value": value} for value in values or (100,)]
    return {"code": code, "alert_type": alert_type, "thresholds": thresholds, **more}


def post(api: httpx.Client, sent: Json) -> httpx.Response:
    return api.post(URL, json={"alert": sent})


def made(api: httpx.Client, sent: Json) -> Json:
    found: Json = ok(post(api, sent))["alert"]
    return found


def found(api: httpx.Client, code: str = "a") -> Json:
    one: Json = ok(api.get(f"{URL}/{code}"))["alert"]
    return one


def put(api: httpx.Client, known: str = "a", /, **fields: object) -> httpx.Response:
    return api.put(f"{URL}/{known}", json={"alert": fields})


def use(api: httpx.Client, units: object, code: str = "calls") -> None:
    ok(send_event(api, event(code, value=units)))


def triggered(api: httpx.Client, **query: Any) -> list[Json]:
    """When alerts were triggered, first ones first."""
    listed: list[Json] = ok(api.get("/api/v1/triggered_alerts", params=query))["triggered_alerts"]
    return listed[::-1]


def values(one: Json) -> list[Decimal]:
    return [Decimal(threshold["value"]) for threshold in one["crossed_thresholds"]]


@pytest.fixture
def sub(api: httpx.Client) -> httpx.Client:
    """A subscription since 1 April 2024, with calls at 1.00 and storage at 2.00, and a tax."""
    set_clock(api, "2024-04-01T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    charges = [
        standard(make_metric(api, "calls", "sum_agg")), standard(make_metric(api, "storage", "sum_agg"), "2"),
    ]  # fmt: skip
    make_plan(api, charges=charges)
    make_subscription(api)
    return api


class TestKept:
    def test_as_it_was_made(self, sub: httpx.Client) -> None:
        thresholds = [
            {"code": "hot", "value": "20.5"},
            {"value": 50, "recurring": True},
            {"code": None, "value": 3, "recurring": None},
        ]
        sent = {**alert("a/b", "billable_metric_current_usage_units"), "billable_metric_code": "calls", "name": "N"}
        one = made(sub, {**sent, "thresholds": thresholds})
        assert one == found(sub, "a/b") == ok(sub.get(URL))["alerts"][0]
        metric = one.pop("billable_metric")
        assert (metric["code"], metric["aggregation_type"]) == ("calls", "sum_agg")
        organization = ok(sub.get("/api/v1/organizations"))["organization"]["lago_id"]
        assert one == {
            "lago_id": one["lago_id"], "lago_organization_id": organization, "external_subscription_id": "sub",
            "lago_wallet_id": None, "wallet_code": None, "alert_type": "billable_metric_current_usage_units",
            "code": "a/b", "name": "N", "direction": "increasing", "previous_value": 0, "last_processed_at": None,
            "thresholds": [
                {"code": None, "value": "3.0", "recurring": False}, {"code": "hot", "value": "20.5", "recurring": False},
                {"code": None, "value": "50.0", "recurring": True},
            ],
            "created_at": "2024-04-01T00:00:00Z",
        }  # fmt: skip

    def test_several_at_once_all_or_none(self, sub: httpx.Client) -> None:
        good = [alert("a"), alert("b", "lifetime_usage_amount")]
        answer = sub.post(URL, json={"alerts": [*good, alert("c", "none")]})
        assert problems(answer) == {"2": {"alert_type": ["invalid_type"]}}
        assert ok(sub.get(URL))["meta"]["total_count"] == 0
        listed = ok(sub.post(URL, json={"alerts": good}))["alerts"]
        assert [one["code"] for one in listed] == ["a", "b"]
        assert ok(sub.get(URL))["alerts"] == listed
        assert problems(sub.post(URL, json={"alerts": []})) == {"alerts": ["value_is_mandatory"]}
        assert sub.post(URL, json={}).status_code == 400

    def test_changed(self, sub: httpx.Client) -> None:
        made(sub, alert())
        changed = ok(put(sub, code="b", name="B", thresholds=[{"value": 7}]))["alert"]
        assert (changed["code"], changed["name"], changed["thresholds"][0]["value"]) == ("b", "B", "7.0")
        assert found(sub, "b") == changed
        assert refusal(sub.get(f"{URL}/a")) == (404, "alert_not_found")
        made(sub, alert("c", "billable_metric_current_usage_amount", billable_metric_code="calls"))
        made(sub, alert("d", "billable_metric_current_usage_amount", billable_metric_code="storage"))
        assert problems(put(sub, "c", code="b")) == {"code": ["value_already_exist"]}
        assert problems(put(sub, "c", billable_metric_code="storage")) == {"base": ["alert_already_exists"]}
        assert problems(put(sub, "c", billable_metric_code=None)) == {"billable_metric": ["value_is_mandatory"]}
        assert problems(put(sub, "c", thresholds=[])) == {"thresholds": ["value_is_mandatory"]}
        assert problems(put(sub, "c", code=None)) == {"code": ["value_is_mandatory"]}

    def test_deleted(self, sub: httpx.Client) -> None:
        first = made(sub, alert())
        assert ok(sub.delete(f"{URL}/a"))["alert"] == first
        assert refusal(sub.delete(f"{URL}/a")) == (404, "alert_not_found")
        made(sub, alert())
        made(sub, alert("b", "lifetime_usage_amount"))
        assert sub.delete(URL).status_code == 200
        assert ok(sub.get(URL))["alerts"] == []

    def test_a_deleted_metric_takes_its_alerts_along(self, sub: httpx.Client) -> None:
        made(sub, alert("a", "billable_metric_current_usage_amount", billable_metric_code="calls"))
        made(sub, alert("b"))
        ok(sub.delete("/api/v1/billable_metrics/calls"))
        assert [one["code"] for one in ok(sub.get(URL))["alerts"]] == ["b"]

    def test_of_its_organization_and_subscription_alone(self, sub: httpx.Client, other: httpx.Client) -> None:
        made(sub, alert())
        assert refusal(other.get(f"{URL}/a")) == (404, "subscription_not_found")
        assert refusal(sub.get(URL, params={"subscription_status": "terminated"})) == (404, "subscription_not_found")
        make_subscription(sub, "two", customer="second")
        assert refusal(sub.get("/api/v1/subscriptions/two/alerts/a")) == (404, "alert_not_found")


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"alert_type": "wallet_balance_amount"}, {"alert_type": ["invalid_type"]}),
            ({"alert_type": None}, {"alert_type": ["invalid_type"]}),
            ({"code": ""}, {"code": ["value_is_mandatory"]}),
            ({"thresholds": None}, {"thresholds": ["value_is_mandatory"]}),
            ({"thresholds": [{"value": one} for one in range(21)]}, {"thresholds": ["too_many_thresholds"]}),
            (
                {"thresholds": [{"value": "5"}, {"value": "5.0", "code": "x"}]},
                {"thresholds": ["duplicate_threshold_values"]},
            ),
            (
                {"thresholds": [{"value": 5, "recurring": True}, {"value": 6, "recurring": True}]},
                {"thresholds": ["multiple_recurring_thresholds"]},
            ),
            ({"thresholds": [{"value": 0, "recurring": True}]}, {"thresholds:value": ["recurring_value_is_negative"]}),
            ({"alert_type": "billable_metric_current_usage_units"}, {"billable_metric": ["value_is_mandatory"]}),
            ({"billable_metric_code": "calls"}, {"billable_metric": ["value_must_be_blank"]}),
        ],
    )
    def test_fields(self, sub: httpx.Client, fields: Json, details: Json) -> None:
        assert problems(post(sub, {**alert(), **fields})) == details
        assert ok(sub.get(URL))["alerts"] == []

    @pytest.mark.parametrize("value", ["", "x", None, True, "NaN", "Infinity", "1e50", "1e-50", [1], "9" * 50])
    def test_values(self, sub: httpx.Client, value: object) -> None:
        sent = {**alert(), "thresholds": [{"value": value}]}
        assert problems(post(sub, sent)) == {"thresholds:value": ["value_is_invalid"]}

    def test_twice(self, sub: httpx.Client) -> None:
        made(sub, alert())
        assert problems(post(sub, alert("b"))) == {"base": ["alert_already_exists"]}
        assert problems(post(sub, alert("a", "lifetime_usage_amount"))) == {"code": ["value_already_exist"]}
        unknown = alert("c", "billable_metric_current_usage_amount", billable_metric_code="none")
        assert refusal(post(sub, unknown)) == (404, "billable_metric_not_found")


class TestTriggered:
    def test_each_value_once_on_the_way(self, sub: httpx.Client) -> None:
        thresholds = [
            {"code": "low", "value": 1_000},
            {"code": "high", "value": 2_000},
            {"value": 500, "recurring": True},
        ]
        one = made(sub, {**alert(name="Spend"), "thresholds": thresholds})
        use(sub, "9.99")
        assert (triggered(sub), found(sub)["previous_value"]) == ([], 999)
        set_clock(sub, "2024-04-02T03:00:00Z")
        use(sub, "0.01")
        assert (found(sub)["previous_value"], found(sub)["last_processed_at"]) == (1_000, "2024-04-02T03:00:00Z")
        use(sub, 8, "storage")
        subscription = ok(sub.get("/api/v1/subscriptions/sub"))["subscription"]
        first, second = triggered(sub)
        assert first == {
            "lago_id": first["lago_id"], "lago_organization_id": one["lago_organization_id"],
            "lago_alert_id": one["lago_id"], "lago_subscription_id": subscription["lago_id"],
            "external_subscription_id": "sub", "lago_wallet_id": None, "external_customer_id": "customer",
            "billable_metric_code": None, "alert_name": "Spend", "alert_code": "a",
            "alert_type": "current_usage_amount", "current_value": "1000.0", "previous_value": "999.0",
            "crossed_thresholds": [{"code": "low", "value": "1000.0", "recurring": False}],
            "triggered_at": "2024-04-02T03:00:00Z",
        }  # fmt: skip
        assert (values(second), second["previous_value"]) == ([2_000, 2_500], "1000.0")
        assert triggered(sub, alert_code="b") == triggered(sub, external_customer_id="x") == []
        assert triggered(sub, external_subscription_id="sub", alert_code="a") == [first, second]

    def test_what_each_type_looks_at(self, sub: httpx.Client) -> None:
        made(sub, alert("all"))
        made(sub, alert("life", "lifetime_usage_amount"))
        for name in ("current_usage_amount", "current_usage_units", "lifetime_usage_units"):
            made(sub, alert(name, f"billable_metric_{name}", billable_metric_code="storage"))
        use(sub, 3)
        use(sub, "1.5", "storage")

        def seen() -> dict[str, Decimal]:
            return {one["code"]: Decimal(str(one["previous_value"])) for one in ok(sub.get(URL))["alerts"]}

        assert seen() == {
            "all": 600, "life": 600, "current_usage_amount": 300, "current_usage_units": Decimal("1.5"),
            "lifetime_usage_units": Decimal("1.5"),
        }  # fmt: skip
        set_clock(sub, "2024-05-02T00:00:00Z")
        use(sub, 1, "storage")
        assert seen() == {
            "all": 200, "life": 800, "current_usage_amount": 200, "current_usage_units": 1,
            "lifetime_usage_units": Decimal("2.5"),
        }  # fmt: skip

    def test_again_in_the_next_period(self, sub: httpx.Client) -> None:
        made(sub, alert())
        use(sub, 2)
        assert len(triggered(sub)) == 1
        set_clock(sub, "2024-05-02T00:00:00Z")
        use(sub, 3)
        assert [(one["previous_value"], one["current_value"]) for one in triggered(sub)] == [
            ("0.0", "200.0"), ("0.0", "300.0"),
        ]  # fmt: skip

    def test_it_goes_on_with_another_plan(self, sub: httpx.Client) -> None:
        made(sub, alert("a", "lifetime_usage_amount", 100, 500))
        use(sub, 2)
        assert [values(one) for one in triggered(sub)] == [[100]]
        set_clock(sub, "2024-04-03T00:00:00Z")
        calls = ok(sub.get("/api/v1/billable_metrics/calls"))["billable_metric"]
        make_plan(sub, "dear", charges=[standard(calls)], amount_cents=100)
        make_subscription(sub, plan="dear")
        set_clock(sub, "2024-04-04T00:00:00Z")
        use(sub, 3)
        assert [values(one) for one in triggered(sub)] == [[100], [500]]

    def test_usage_that_was_there_counts_with_the_next(self, sub: httpx.Client) -> None:
        use(sub, 5)
        made(sub, alert())
        assert (found(sub)["previous_value"], triggered(sub)) == (0, [])
        use(sub, 1, "storage")
        assert [(one["previous_value"], one["current_value"]) for one in triggered(sub)] == [("0.0", "700.0")]
