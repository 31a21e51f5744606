"""Alerts on wallets: what is kept, what is refused, and when they are triggered."""

import httpx
import pytest

from tests.factories import Json, make_customer, make_wallet, ok, problems, refusal, set_clock

URL = "/api/v1/customers/customer/wallets/main/alerts"


def alert(alert_type: str = "wallet_balance_amount", *values: object, code: str = "a", **more: object) -> Json:
    return {"code": code, "alert_type": alert_type, "thresholds": [{"value": one} for one in values or (500,)], **more}


def post(api: httpx.Client, sent: Json) -> httpx.Response:
    return api.post(URL, json={"alert": sent})


def found(api: httpx.Client, code: str = "a") -> Json:
    one: Json = ok(api.get(f"{URL}/{code}"))["alert"]
    return one


def triggered(api: httpx.Client) -> list[list[str]]:
    """The values that were crossed each time, first ones first."""
    listed = ok(api.get("/api/v1/triggered_alerts"))["triggered_alerts"]
    return [[one["value"] for one in each["crossed_thresholds"]] for each in listed[::-1]]


def take(api: httpx.Client, wallet: Json, credits_: str) -> None:
    """Take so many credits out of a wallet."""
    sent = {"wallet_id": wallet["lago_id"], "voided_credits": credits_}
    ok(api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent}))


@pytest.fixture
def wallet(api: httpx.Client) -> Json:
    """A wallet with 10 credits at 1.00 on 1 April 2024."""
    set_clock(api, "2024-04-01T00:00:00Z")
    make_customer(api, currency="EUR")
    return make_wallet(api, code="main", name="Main", rate_amount="1", granted_credits="10")


def test_as_it_was_made(api: httpx.Client, wallet: Json) -> None:
    made = ok(post(api, alert(name="Low")))["alert"]
    assert made == found(api) == ok(api.get(URL))["alerts"][0]
    assert {field: made[field] for field in (
        "external_subscription_id", "lago_wallet_id", "wallet_code", "billable_metric", "direction", "previous_value"
    )} == {
        "external_subscription_id": None, "lago_wallet_id": wallet["lago_id"], "wallet_code": "main",
        "billable_metric": None, "direction": "decreasing", "previous_value": 1_000,
    }  # fmt: skip
    several = {
        "alerts": [alert("wallet_credits_balance", 1, code="b"), alert("wallet_ongoing_balance_amount", code="c")]
    }
    assert [one["previous_value"] for one in ok(api.post(URL, json=several))["alerts"]] == [10, 1_000]
    changed = ok(api.put(f"{URL}/b", json={"alert": {"code": "d", "thresholds": [{"value": "2.5"}]}}))["alert"]
    assert (found(api, "d"), changed["thresholds"][0]["value"]) == (changed, "2.5")
    assert ok(api.delete(f"{URL}/d"))["alert"] == changed
    assert refusal(api.get(f"{URL}/d")) == (404, "alert_not_found")
    assert api.delete(URL).status_code == 200
    assert ok(api.get(URL))["alerts"] == []


@pytest.mark.usefixtures("wallet")
def test_refused(api: httpx.Client, other: httpx.Client) -> None:
    assert problems(post(api, alert("current_usage_amount"))) == {"alert_type": ["invalid_type"]}
    ok(post(api, alert()))
    assert problems(post(api, alert(code="b"))) == {"base": ["alert_already_exists"]}
    assert problems(post(api, alert("wallet_credits_balance"))) == {"code": ["value_already_exist"]}
    assert refusal(api.get(URL.replace("main", "none"))) == (404, "wallet_not_found")
    assert refusal(other.get(URL)) == (404, "customer_not_found")


def test_triggered_on_the_way_down(api: httpx.Client, wallet: Json) -> None:
    ok(post(api, alert("wallet_balance_amount", 800, 500)))
    ok(post(api, alert("wallet_credits_balance", 2, code="credits")))
    take(api, wallet, "1")
    assert (triggered(api), found(api)["previous_value"]) == ([], 900)
    take(api, wallet, "4")
    assert triggered(api) == [["800.0", "500.0"]]
    (one,) = ok(api.get("/api/v1/triggered_alerts"))["triggered_alerts"]
    assert (one["lago_wallet_id"], one["external_subscription_id"], one["external_customer_id"]) == (
        wallet["lago_id"], None, "customer",
    )  # fmt: skip
    assert (one["previous_value"], one["current_value"], one["lago_subscription_id"]) == ("900.0", "500.0", None)
    take(api, wallet, "3")
    assert (triggered(api)[-1], found(api, "credits")["previous_value"]) == (["2.0"], 2)
    sent = {"wallet_id": wallet["lago_id"], "granted_credits": "8"}
    ok(api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent}))
    assert (len(triggered(api)), found(api)["previous_value"]) == (2, 1_000)
    take(api, wallet, "3")
    assert triggered(api)[-1] == ["800.0"]
