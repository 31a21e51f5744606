"""Usage thresholds of plans and subscriptions: what is kept, what holds, and what copies of a plan follow."""

from typing import Any

import httpx
import pytest

from tests.factories import Json, make_plan, make_subscription, ok, problems, set_clock

PLANS, SUBSCRIPTIONS = "/api/v1/plans", "/api/v1/subscriptions"


def fixed(amount: object, name: str | None = None) -> Json:
    return {"amount_cents": amount, **({} if name is None else {"threshold_display_name": name})}


def recurring(amount: object) -> Json:
    return {"amount_cents": amount, "recurring": True}


def shown(thresholds: list[Json]) -> list[tuple[int, bool]]:
    return [(one["amount_cents"], one["recurring"]) for one in thresholds]


def plan_of(api: httpx.Client, code: str = "plan") -> Json:
    plan: Json = ok(api.get(f"{PLANS}/{code}"))["plan"]
    return plan


def subscription_of(api: httpx.Client) -> Json:
    subscription: Json = ok(api.get(f"{SUBSCRIPTIONS}/sub"))["subscription"]
    return subscription


def put_plan(api: httpx.Client, **fields: object) -> Json:
    plan: Json = ok(api.put(f"{PLANS}/plan", json={"plan": fields}))["plan"]
    return plan


def put(api: httpx.Client, **fields: object) -> Json:
    subscription: Json = ok(api.put(f"{SUBSCRIPTIONS}/sub", json={"subscription": fields}))["subscription"]
    return subscription


def holding(api: httpx.Client) -> list[tuple[int, bool]]:
    return shown(subscription_of(api)["applicable_usage_thresholds"])


class TestOfPlans:
    def test_kept_in_order(self, api: httpx.Client) -> None:
        set_clock(api, "2024-04-01T00:00:00Z")
        sent = [recurring(50), fixed(200), fixed(100, "First")]
        made = make_plan(api, usage_thresholds=sent)["usage_thresholds"]
        assert made == plan_of(api)["usage_thresholds"]
        assert [{**one, "lago_id": None} for one in made] == [
            {
                "lago_id": None, "threshold_display_name": name, "amount_cents": amount, "recurring": again,
                "created_at": "2024-04-01T00:00:00Z", "updated_at": "2024-04-01T00:00:00Z",
            }
            for name, amount, again in (("First", 100, False), (None, 200, False), (None, 50, True))
        ]  # fmt: skip

    def test_a_list_replaces_and_what_stays_is_the_same(self, api: httpx.Client) -> None:
        before = make_plan(api, usage_thresholds=[fixed(100, "a"), fixed(200), recurring(50)])["usage_thresholds"]
        assert put_plan(api, name="Other")["usage_thresholds"] == before
        after = put_plan(api, usage_thresholds=[fixed(100), fixed(300), recurring(50)])["usage_thresholds"]
        assert shown(after) == [(100, False), (300, False), (50, True)]
        assert (after[0], after[2]) == (before[0], before[2])
        renamed = put_plan(api, usage_thresholds=[fixed(100, "b")])["usage_thresholds"]
        assert [(one["lago_id"], one["threshold_display_name"]) for one in renamed] == [(before[0]["lago_id"], "b")]
        assert put_plan(api, usage_thresholds=None)["usage_thresholds"] == []

    @pytest.mark.parametrize(
        ("sent", "codes"),
        [
            ([{"recurring": True}], ["missing_amount_cents"]),
            ([fixed(None)], ["missing_amount_cents"]),
            ([fixed(0)], ["value_is_out_of_range"]),
            ([fixed(5), fixed(5, "x")], ["duplicated_values"]),
            ([recurring(5), recurring(6)], ["multiple_recurring_thresholds"]),
        ],
    )
    def test_refused(self, api: httpx.Client, sent: list[Json], codes: list[str]) -> None:
        make_plan(api, "known", usage_thresholds=[fixed(7)])
        body = {"plan": {"name": "p", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
                         "pay_in_advance": False, "usage_thresholds": sent}}  # fmt: skip
        assert problems(api.post(PLANS, json=body)) == {"usage_thresholds": codes}
        change = {"plan": {"usage_thresholds": sent}}
        assert problems(api.put(f"{PLANS}/known", json=change)) == {"usage_thresholds": codes}
        assert shown(plan_of(api, "known")["usage_thresholds"]) == [(7, False)]
        make_subscription(api, plan="known")
        for fields in ({"usage_thresholds": sent}, {"plan_overrides": {"usage_thresholds": sent}}):
            answer = api.put(f"{SUBSCRIPTIONS}/sub", json={"subscription": fields})
            assert problems(answer) == {"usage_thresholds": codes}
            new = {"external_id": "new", "external_customer_id": "customer", "plan_code": "known", **fields}
            assert problems(api.post(SUBSCRIPTIONS, json={"subscription": new})) == {"usage_thresholds": codes}

    def test_the_same_amount_once_and_again_and_again(self, api: httpx.Client) -> None:
        assert shown(make_plan(api, usage_thresholds=[fixed(5), recurring(5)])["usage_thresholds"]) == [
            (5, False), (5, True),
        ]  # fmt: skip


class TestOfSubscriptions:
    @pytest.fixture
    def own(self, api: httpx.Client) -> httpx.Client:
        """A plan with a threshold of 100, and a subscription on it."""
        make_plan(api, usage_thresholds=[fixed(100)])
        make_subscription(api)
        return api

    def test_its_own_replace_its_plans(self, own: httpx.Client) -> None:
        assert holding(own) == [(100, False)]
        assert subscription_of(own)["usage_thresholds"] == []
        changed = put(own, usage_thresholds=[fixed(7, "Mine"), recurring(9)])
        assert shown(changed["usage_thresholds"]) == holding(own) == [(7, False), (9, True)]
        assert changed["applicable_usage_thresholds"][0] == {
            "threshold_display_name": "Mine", "amount_cents": 7, "recurring": False,
        }  # fmt: skip
        assert shown(changed["plan"]["usage_thresholds"]) == [(100, False)]
        put(own, usage_thresholds=[])
        assert holding(own) == [(100, False)]

    def test_disabled(self, own: httpx.Client) -> None:
        changed = put(own, usage_thresholds=[fixed(7)], progressive_billing_disabled=True)
        assert changed["progressive_billing_disabled"] is True
        assert (shown(changed["usage_thresholds"]), holding(own)) == ([(7, False)], [])
        put(own, progressive_billing_disabled=False)
        assert holding(own) == [(7, False)]

    def test_from_the_start_and_on_another_plan(self, own: httpx.Client) -> None:
        made = make_subscription(own, "new", usage_thresholds=[fixed(3)], progressive_billing_disabled=True)
        assert (shown(made["usage_thresholds"]), made["applicable_usage_thresholds"]) == ([(3, False)], [])
        make_plan(own, "dear", amount_cents=500)
        upgraded = make_subscription(own, "new", "dear")
        assert upgraded["lago_id"] != made["lago_id"]
        assert (shown(upgraded["usage_thresholds"]), upgraded["progressive_billing_disabled"]) == ([(3, False)], True)
        make_plan(own, "dearer", amount_cents=600)
        again = make_subscription(own, "new", "dearer", usage_thresholds=[fixed(4)], progressive_billing_disabled=False)
        assert shown(again["applicable_usage_thresholds"]) == [(4, False)]


class TestOfCopies:
    @pytest.fixture
    def copied(self, api: httpx.Client) -> httpx.Client:
        """A subscription with a fee of its own on a plan with thresholds."""
        make_plan(api, usage_thresholds=[fixed(100), recurring(50)])
        make_subscription(api, plan_overrides={"amount_cents": 5})
        return api

    def test_a_copy_without_its_own_has_its_plans(self, copied: httpx.Client) -> None:
        assert holding(copied) == [(100, False), (50, True)]
        put_plan(copied, usage_thresholds=[fixed(7)])
        assert holding(copied) == [(7, False)]
        assert shown(subscription_of(copied)["plan"]["usage_thresholds"]) == [(7, False)]

    def test_a_copy_with_its_own(self, copied: httpx.Client) -> None:
        put(copied, plan_overrides={"usage_thresholds": [fixed(9)]})
        assert holding(copied) == [(9, False)]
        assert shown(plan_of(copied)["usage_thresholds"]) == [(100, False), (50, True)]
        made = {"usage_thresholds": [fixed(8)]}
        first = make_subscription(copied, "two", plan_overrides=made)
        assert shown(first["applicable_usage_thresholds"]) == [(8, False)]
        assert make_subscription(copied, "two", plan_overrides=made)["lago_id"] == first["lago_id"]
        other = make_subscription(copied, "two", plan_overrides={"usage_thresholds": [fixed(6)]})
        assert (other["lago_id"] == first["lago_id"], shown(other["applicable_usage_thresholds"])) == (
            False, [(6, False)],
        )  # fmt: skip

    def test_a_cascade_changes_what_is_still_the_plans(self, copied: httpx.Client) -> None:
        same: Any = [fixed(100), recurring(50)]
        put(copied, plan_overrides={"usage_thresholds": same})
        make_subscription(copied, "own", plan_overrides={"usage_thresholds": [fixed(9)]})
        new = [fixed(100), fixed(200)]
        put_plan(copied, usage_thresholds=[fixed(1)])
        assert holding(copied) == [(100, False), (50, True)]
        put_plan(copied, usage_thresholds=same)
        put_plan(copied, usage_thresholds=new, cascade_updates=True)
        assert holding(copied) == [(100, False), (200, False)]
        own = ok(copied.get(f"{SUBSCRIPTIONS}/own"))["subscription"]
        assert shown(own["applicable_usage_thresholds"]) == [(9, False)]
