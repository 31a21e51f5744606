"""Entitlements of plans and of subscriptions."""

from typing import Any

import httpx
import pytest

from tests.factories import (
    Json,
    make_customer,
    make_feature,
    make_plan,
    make_subscription,
    ok,
    problems,
    refusal,
    set_clock,
)
from tests.support import Server

PLAN = "/api/v1/plans/plan/entitlements"
SUB = "/api/v1/subscriptions/sub/entitlements"
MAX = {"code": "max", "name": "Maximum", "value_type": "integer", "config": {}}
ROOT = {"code": "root", "name": None, "value_type": "boolean", "config": {}}
NOTE = {"code": "note", "name": None, "value_type": "string", "config": {}}
PROVIDER = {"code": "provider", "name": None, "value_type": "select", "config": {"select_options": ["okta", "ad"]}}


@pytest.fixture
def shop(api: httpx.Client) -> httpx.Client:
    """Two features, a plan without any, and a subscription to it."""
    set_clock(api, "2024-05-10T12:00:00Z")
    make_feature(api, "seats", [MAX, ROOT, NOTE], description="Logins")
    make_feature(api, "sso", [PROVIDER])
    make_plan(api)
    make_customer(api)
    make_subscription(api)
    return api


def entitlements(response: httpx.Response) -> Json:
    """Features with the values of their privileges, by their codes."""
    return {one["code"]: values(one) for one in ok(response)["entitlements"]}


def values(entitlement: Json) -> Json:
    return {one["code"]: one["value"] for one in entitlement["privileges"]}


def send(api: httpx.Client, path: str, **sent: Any) -> Json:
    return entitlements(api.patch(path, json={"entitlements": sent}))


def replace(api: httpx.Client, **sent: Any) -> Json:
    return entitlements(api.post(PLAN, json={"entitlements": sent}))


class TestPlans:
    def test_merge_replace_and_remove(self, shop: httpx.Client) -> None:
        assert ok(shop.get(PLAN)) == {"entitlements": []}
        assert send(shop, PLAN, seats={"max": 10}) == {"seats": {"max": 10}}
        assert send(shop, PLAN, seats={"root": False}, sso={}) == {"seats": {"max": 10, "root": False}, "sso": {}}
        assert send(shop, PLAN) == {"seats": {"max": 10, "root": False}, "sso": {}}
        assert replace(shop, seats={"max": 20, "note": ""}) == {"seats": {"max": 20, "note": ""}}
        assert entitlements(shop.get(PLAN)) == {"seats": {"max": 20, "note": ""}}

        one = ok(shop.get(f"{PLAN}/seats"))["entitlement"]
        assert one == {
            "code": "seats", "name": "Seats", "description": "Logins",
            "privileges": [{**MAX, "value": 20}, {**NOTE, "value": ""}],
        }  # fmt: skip
        left = ok(shop.delete(f"{PLAN}/seats/privileges/max"))["entitlement"]
        assert values(left) == {"note": ""}
        assert ok(shop.delete(f"{PLAN}/seats"))["entitlement"] == left
        assert ok(shop.get(PLAN)) == {"entitlements": []}
        send(shop, PLAN, seats={}, sso={})
        assert replace(shop) == {}

    def test_what_is_not_there(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 1})
        for method in ("GET", "DELETE"):
            for code in ("sso", "none"):
                assert refusal(shop.request(method, f"{PLAN}/{code}")) == (404, "entitlement_not_found")
        for code in ("root", "none"):
            assert refusal(shop.delete(f"{PLAN}/seats/privileges/{code}")) == (404, "privilege_not_found")
        assert refusal(shop.delete(f"{PLAN}/sso/privileges/provider")) == (404, "entitlement_not_found")
        for method, path in (("GET", ""), ("POST", ""), ("PATCH", ""), ("GET", "/seats"), ("DELETE", "/seats")):
            answer = shop.request(method, f"/api/v1/plans/none/entitlements{path}", json={"entitlements": {}})
            assert refusal(answer) == (404, "plan_not_found")

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_bad_input_changes_nothing(self, shop: httpx.Client, method: str) -> None:
        before = send(shop, PLAN, seats={"max": 1})

        def sent(entitlements: Any) -> httpx.Response:
            return shop.request(method, PLAN, json={"entitlements": entitlements})

        assert refusal(sent({"seats": {"max": 2}, "none": {}})) == (404, "feature_not_found")
        assert refusal(sent({"seats": {"max": 2, "none": 1}})) == (404, "privilege_not_found")
        assert problems(sent({"seats": {"max": "many", "root": 1, "note": 5}, "sso": {"provider": "google"}})) == {
            f"{feature}.{privilege}": ["value_is_invalid"]
            for feature, privilege in (("seats", "max"), ("seats", "root"), ("seats", "note"), ("sso", "provider"))
        }
        for wrong in (1.5, 10.0, None, [], {}, True, 2**63, "1e3"):
            assert problems(sent({"seats": {"root": True, "max": wrong}})) == {"seats.max": ["value_is_invalid"]}
        assert problems(sent({"seats": [5]})) == {"entitlements": ["value_is_invalid"]}
        assert shop.request(method, PLAN, json={"entitlements": []}).status_code == 400
        assert shop.request(method, PLAN, json={}).status_code == 400
        assert entitlements(shop.get(PLAN)) == before

    def test_values_keep_their_type(self, shop: httpx.Client) -> None:
        sent = {"max": "-9223372036854775808", "root": "true", "note": "007"}
        assert send(shop, PLAN, seats=sent) == {"seats": {"max": -(2**63), "root": True, "note": "007"}}
        assert send(shop, PLAN, seats={"max": 0, "note": "true"})["seats"] == {"max": 0, "root": True, "note": "true"}

    def test_plans_carry_their_entitlements(self, shop: httpx.Client) -> None:
        make_plan(shop, "bare")
        send(shop, PLAN, seats={"max": 3}, sso={"provider": "ad"})
        alone = ok(shop.get(PLAN))["entitlements"]
        included = [{**one, "entitlement": one} for one in alone]
        plan = ok(shop.get("/api/v1/plans/plan"))["plan"]
        assert plan["entitlements"] == included
        listed = {one["code"]: one["entitlements"] for one in ok(shop.get("/api/v1/plans"))["plans"]}
        assert listed == {"plan": included, "bare": []}
        assert ok(shop.put("/api/v1/plans/plan", json={"plan": {"name": "n"}}))["plan"]["entitlements"] == included
        subscription = ok(shop.get("/api/v1/subscriptions/sub"))["subscription"]
        assert subscription["plan"]["entitlements"] == included
        assert subscription["entitlements"] == ok(shop.get(SUB))["entitlements"]

    def test_codes_with_slashes(self, shop: httpx.Client) -> None:
        make_feature(shop, "v2/a%b", [{**MAX, "code": "x/y"}])
        make_plan(shop, "v3/plan")
        path = "/api/v1/plans/v3/plan/entitlements"
        assert send(shop, path, **{"v2/a%b": {"x/y": 1}}) == {"v2/a%b": {"x/y": 1}}
        assert values(ok(shop.get(f"{path}/v2/a%25b"))["entitlement"]) == {"x/y": 1}
        assert values(ok(shop.delete(f"{path}/v2/a%25b/privileges/x/y"))["entitlement"]) == {}
        ok(shop.delete(f"{path}/v2/a%25b"))
        send(shop, SUB, **{"v2/a%b": {"x/y": 2}})
        assert values(ok(shop.delete(f"{SUB}/v2/a%25b/privileges/x/y"))["entitlement"]) == {}
        ok(shop.delete(f"{SUB}/v2/a%25b"))
        assert ok(shop.get(SUB)) == {"entitlements": []}


class TestSubscriptions:
    def test_overrides_of_the_plans_values(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 10, "root": True})
        plain = {"plan_value": 10, "override_value": None, "value": 10}
        rooted = {**ROOT, "plan_value": True, "override_value": None, "value": True}
        seats = {"code": "seats", "name": "Seats", "description": "Logins"}
        assert ok(shop.get(SUB))["entitlements"] == [
            {**seats, "privileges": [{**MAX, **plain}, rooted], "overrides": {}}
        ]

        assert send(shop, SUB, seats={"max": 15, "note": "n"}) == {"seats": {"max": 15, "root": True, "note": "n"}}
        (shown,) = ok(shop.get(SUB))["entitlements"]
        own = {**NOTE, "plan_value": None, "override_value": "n", "value": "n"}
        raised = {**MAX, "plan_value": 10, "override_value": 15, "value": 15}
        assert shown == {**seats, "privileges": [raised, rooted, own], "overrides": {"max": 15, "note": "n"}}

        send(shop, PLAN, seats={"max": 12, "root": False})
        assert entitlements(shop.get(SUB)) == {"seats": {"max": 15, "root": False, "note": "n"}}
        assert entitlements(shop.get(PLAN)) == {"seats": {"max": 12, "root": False}}

    def test_the_plans_value_ends_an_override(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 10, "root": True})
        send(shop, SUB, seats={"max": 15})
        assert send(shop, SUB, seats={"max": "10", "root": True}) == {"seats": {"max": 10, "root": True}}
        assert ok(shop.get(SUB))["entitlements"][0]["overrides"] == {}
        send(shop, PLAN, seats={"max": 20})
        assert entitlements(shop.get(SUB)) == {"seats": {"max": 20, "root": True}}

    def test_a_feature_of_its_own(self, shop: httpx.Client) -> None:
        assert send(shop, SUB, sso={"provider": "ad"}, seats={}) == {"seats": {}, "sso": {"provider": "ad"}}
        assert send(shop, SUB, sso={"provider": "okta"})["sso"] == {"provider": "okta"}
        removed = ok(shop.delete(f"{SUB}/sso"))["entitlement"]
        assert (removed["code"], removed["overrides"]) == ("sso", {"provider": "okta"})
        assert entitlements(shop.get(SUB)) == {"seats": {}}
        send(shop, PLAN, sso={"provider": "ad"})
        assert entitlements(shop.get(SUB)) == {"seats": {}, "sso": {"provider": "ad"}}
        send(shop, SUB, sso={"provider": "okta"})
        ok(shop.delete(f"{PLAN}/sso"))
        assert entitlements(shop.get(SUB)) == {"seats": {}, "sso": {"provider": "okta"}}

    def test_a_feature_is_taken_away_and_given_back(self, shop: httpx.Client) -> None:
        make_subscription(shop, "sub-2")
        send(shop, PLAN, seats={"max": 10}, sso={"provider": "ad"})
        send(shop, SUB, seats={"max": 15})
        assert values(ok(shop.delete(f"{SUB}/seats"))["entitlement"]) == {"max": 15}
        assert refusal(shop.delete(f"{SUB}/seats")) == (404, "entitlement_not_found")
        assert refusal(shop.delete(f"{SUB}/seats/privileges/max")) == (404, "entitlement_not_found")
        assert entitlements(shop.get(SUB)) == {"sso": {"provider": "ad"}}
        assert set(entitlements(shop.get("/api/v1/subscriptions/sub-2/entitlements"))) == {"seats", "sso"}
        replace(shop, seats={"max": 11})
        assert entitlements(shop.get(SUB)) == {}
        assert send(shop, SUB, seats={}) == {"seats": {"max": 11}}
        ok(shop.delete(f"{SUB}/seats"))
        assert send(shop, SUB, seats={"max": 12, "root": True}) == {"seats": {"max": 12, "root": True}}

    def test_a_privilege_is_taken_away_and_given_back(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 10, "root": True})
        send(shop, SUB, seats={"max": 15, "note": "n"})
        left = ok(shop.delete(f"{SUB}/seats/privileges/max"))["entitlement"]
        assert (values(left), left["overrides"]) == ({"root": True, "note": "n"}, {"note": "n"})
        assert values(ok(shop.delete(f"{SUB}/seats/privileges/note"))["entitlement"]) == {"root": True}
        for code in ("max", "note", "none"):
            assert refusal(shop.delete(f"{SUB}/seats/privileges/{code}")) == (404, "privilege_not_found")
        send(shop, PLAN, seats={"max": 20})
        assert send(shop, SUB, seats={"root": False}) == {"seats": {"root": False}}
        assert send(shop, SUB, seats={"max": 20}) == {"seats": {"max": 20, "root": False}}

    def test_bad_input_changes_nothing(self, shop: httpx.Client) -> None:
        before = send(shop, SUB, seats={"max": 1})

        def sent(entitlements: Any) -> httpx.Response:
            return shop.patch(SUB, json={"entitlements": entitlements})

        assert refusal(sent({"seats": {"max": 2}, "none": {}})) == (404, "feature_not_found")
        assert refusal(sent({"seats": {"max": 2, "none": 1}})) == (404, "privilege_not_found")
        wrong = {"seats.max": ["value_is_invalid"], "sso.provider": ["value_is_invalid"]}
        assert problems(sent({"seats": {"max": "x", "root": True}, "sso": {"provider": None}})) == wrong
        for method in ("GET", "PATCH"):
            answer = shop.request(method, "/api/v1/subscriptions/none/entitlements", json={"entitlements": {}})
            assert refusal(answer) == (404, "subscription_not_found")
        assert refusal(shop.delete(f"{SUB}/none")) == (404, "entitlement_not_found")
        assert entitlements(shop.get(SUB)) == before

    def test_the_subscription_is_told_by_its_status(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 1})
        make_subscription(shop, "later", subscription_at="2024-06-10")
        path = "/api/v1/subscriptions/later/entitlements"
        pending = {"subscription_status": "pending"}
        assert refusal(shop.get(path)) == (404, "subscription_not_found")
        assert entitlements(shop.get(path, params=pending)) == {"seats": {"max": 1}}
        ok(shop.patch(path, params=pending, json={"entitlements": {"seats": {"max": 2}}}))
        ok(shop.delete(f"{path}/seats/privileges/max", params=pending))
        assert entitlements(shop.get(path, params=pending)) == {"seats": {}}
        ok(shop.delete(f"{path}/seats", params=pending))
        assert entitlements(shop.get(path, params=pending)) == {}
        assert problems(shop.get(path, params={"subscription_status": "x"})) == {
            "subscription_status": ["value_is_invalid"]
        }
        ok(shop.delete("/api/v1/plans/plan"))
        set_clock(shop, "2024-05-10T12:00:00Z")
        terminated = shop.get(SUB, params={"subscription_status": "terminated"})
        assert entitlements(terminated) == {"seats": {"max": 1}}


class TestFeatures:
    def test_a_deleted_feature_leaves_plans_and_subscriptions(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 1}, sso={})
        send(shop, SUB, seats={"max": 2})
        ok(shop.delete("/api/v1/features/seats"))
        assert entitlements(shop.get(PLAN)) == entitlements(shop.get(SUB)) == {"sso": {}}
        make_feature(shop, "seats", [MAX])
        assert entitlements(shop.get(PLAN)) == entitlements(shop.get(SUB)) == {"sso": {}}

    def test_so_does_a_removed_privilege(self, shop: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 1, "root": True})
        send(shop, SUB, seats={"max": 2, "note": "n"})
        ok(shop.delete("/api/v1/features/seats/privileges/max"))
        ok(shop.delete(f"{SUB}/seats/privileges/root"))
        ok(shop.delete("/api/v1/features/seats/privileges/root"))
        assert entitlements(shop.get(PLAN)) == {"seats": {}}
        assert entitlements(shop.get(SUB)) == {"seats": {"note": "n"}}
        ok(shop.put("/api/v1/features/seats", json={"feature": {"privileges": [MAX, ROOT]}}))
        assert entitlements(shop.get(PLAN)) == {"seats": {}}
        assert send(shop, PLAN, seats={"root": False}) == {"seats": {"root": False}}
        assert entitlements(shop.get(SUB)) == {"seats": {"note": "n", "root": False}}

    def test_a_changed_feature_is_shown_as_it_is(self, shop: httpx.Client) -> None:
        send(shop, PLAN, sso={"provider": "ad"})
        change = {"name": "Sign-on", "privileges": [{"code": "provider", "config": {"select_options": ["google"]}}]}
        ok(shop.put("/api/v1/features/sso", json={"feature": change}))
        assert send(shop, SUB, sso={"provider": "google"}) == {"sso": {"provider": "google"}}
        (shown,) = ok(shop.get(PLAN))["entitlements"]
        options = {"select_options": ["okta", "ad", "google"]}
        assert (shown["name"], shown["privileges"]) == ("Sign-on", [{**PROVIDER, "config": options, "value": "ad"}])


class TestScope:
    def test_nothing_of_another_organization(self, shop: httpx.Client, other: httpx.Client) -> None:
        send(shop, PLAN, seats={"max": 1})
        make_plan(other, "theirs")
        answer = other.patch("/api/v1/plans/theirs/entitlements", json={"entitlements": {"seats": {}}})
        assert refusal(answer) == (404, "feature_not_found")
        assert refusal(other.get(f"{PLAN}/seats")) == (404, "plan_not_found")
        assert refusal(other.get(SUB)) == (404, "subscription_not_found")
        assert refusal(other.delete(f"{SUB}/seats")) == (404, "subscription_not_found")
        make_feature(other, "seats")
        ok(other.delete("/api/v1/features/seats"))
        assert entitlements(shop.get(PLAN)) == {"seats": {"max": 1}}

    def test_keys_are_limited_by_resource(self, server: Server, admin: httpx.Client, shop: httpx.Client) -> None:
        organization = ok(shop.get("/api/v1/organizations"))["organization"]["lago_id"]
        permissions = {"feature": ["read"], "plan": ["write"]}
        sent = {"api_key": {"permissions": permissions}}
        key = ok(admin.post(f"/admin/organizations/{organization}/api_keys", json=sent))["api_key"]["value"]
        with server.client(key) as limited:
            ok(limited.get("/api/v1/features/seats"))
            answer = limited.post("/api/v1/features", json={"feature": {"code": "x"}})
            assert refusal(answer) == (403, "write_action_not_allowed_for_feature")
            assert send(limited, PLAN, seats={"max": 1}) == {"seats": {"max": 1}}
            assert refusal(limited.get(PLAN)) == (403, "read_action_not_allowed_for_plan")
            assert refusal(limited.get(SUB)) == (403, "read_action_not_allowed_for_subscription")
            answer = limited.patch(SUB, json={"entitlements": {}})
            assert refusal(answer) == (403, "write_action_not_allowed_for_subscription")
