"""`plan_overrides`: subscriptions with prices of their own (billing spec 1.11)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
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
    units_of,
    usage_of,
)

URL = "/api/v1/subscriptions"
NOON = 1_715_342_400  # 10 May 2024
MARS = {"values": {"region": ["mars"]}, "properties": {"amount": "1"}}
FILTERS = [{"key": "region", "values": ["us", "eu"]}]


@pytest.fixture
def plan(api: httpx.Client) -> Json:
    """A sandbox on 10 May 2024 with a plan of 31.00 a month and two charges on one metric, one of them with filters."""
    set_clock(api, "2024-05-10T00:00:00Z")
    make_tax(api, "vat", "20")
    make_tax(api, "low", "5")
    calls = make_metric(api, "calls", filters=FILTERS)
    us = {"values": {"region": ["us"]}, "properties": {"amount": "2"}, "invoice_display_name": "US"}
    eu = {"values": {"region": ["eu"]}, "properties": {"amount": "3"}, "invoice_display_name": "EU"}
    charges = [standard(calls, filters=[us, eu], tax_codes=["low"]), standard(calls, "5", code="more")]
    made = make_plan(api, charges=charges, amount_cents=3_100, tax_codes=["vat"], metadata={"tier": "gold"})
    make_customer(api)
    return made


def post(api: httpx.Client, external_id: str = "sub", **fields: Any) -> httpx.Response:
    sent = {"external_id": external_id, "external_customer_id": "customer", "plan_code": "plan", **fields}
    return api.post(URL, json={"subscription": sent})


def put(api: httpx.Client, external_id: str = "sub", **fields: Any) -> httpx.Response:
    return api.put(f"{URL}/{external_id}", json={"subscription": fields})


def plan_of(api: httpx.Client, external_id: str = "sub") -> Json:
    shown: Json = ok(api.get(f"{URL}/{external_id}"))["subscription"]["plan"]
    return shown


def without_ids(plan: Json) -> Json:
    """A plan without what is different on every copy."""
    charges = []
    for charge in plan["charges"]:
        filters = [{**one, "lago_id": None} for one in charge["filters"]]
        charges.append({**charge, "lago_id": None, "lago_parent_id": None, "created_at": None, "filters": filters})
    return {**plan, "lago_id": None, "created_at": None, "charges": charges}


class TestOnCreation:
    def test_everything_else_is_copied(self, api: httpx.Client, plan: Json) -> None:
        made = ok(post(api, plan_overrides={"amount_cents": 1_000, "name": "Special"}))["subscription"]
        assert (made["plan_code"], made["plan_amount_cents"]) == ("plan", 1_000)
        own = made["plan"]
        assert own["lago_id"] != plan["lago_id"]
        assert without_ids(own) == {**without_ids(plan), "amount_cents": 1_000, "name": "Special"}
        assert [one["lago_parent_id"] for one in own["charges"]] == [one["lago_id"] for one in plan["charges"]]
        assert [one["lago_parent_id"] for one in plan["charges"]] == [None, None]
        assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan
        assert ok(api.get("/api/v1/plans"))["plans"] == [plan]

    def test_every_field(self, api: httpx.Client, plan: Json) -> None:
        first = plan["charges"][0]
        sent = {
            "amount_cents": 1, "amount_currency": "USD", "name": "n", "description": "d", "invoice_display_name": "i",
            "tax_codes": ["low"], "metadata": {"tier": "own"}, "trial_period": 7.5,
            "minimum_commitment": {"amount_cents": 5}, "usage_thresholds": [{"amount_cents": 5}],
            "charges": [
                {"id": first["lago_id"], "properties": {"amount": "9"}, "invoice_display_name": "Own"},
                {"code": "more", "tax_codes": ["vat"], "filters": [
                    {"values": {"region": ["eu"]}, "properties": {"amount": "8"}},
                ], "applied_pricing_unit": {"conversion_rate": "2"}, "min_amount_cents": 0},
            ],
        }  # fmt: skip
        made = ok(post(api, plan_overrides=sent))["subscription"]
        own = made["plan"]
        same = ("amount_cents", "amount_currency", "name", "description", "invoice_display_name", "metadata")
        assert {name: own[name] for name in same} == {name: sent[name] for name in same}
        assert made["plan_amount_currency"] == "USD"
        assert ok(api.get("/api/v1/customers/customer"))["customer"]["currency"] == "USD"
        assert [tax["code"] for tax in own["taxes"]] == ["low"]
        assert (own["trial_period"], own["minimum_commitment"]["amount_cents"]) == (7.5, 5)
        one, two = own["charges"]
        assert (one["properties"], one["invoice_display_name"]) == ({"amount": "9"}, "Own")
        assert [price["properties"] for price in one["filters"]] == [{"amount": "2"}, {"amount": "3"}]
        assert [tax["code"] for tax in one["taxes"]] == ["low"]
        assert (two["properties"], [tax["code"] for tax in two["taxes"]]) == ({"amount": "5"}, ["vat"])
        assert [(price["values"], price["properties"]) for price in two["filters"]] == [
            ({"region": ["eu"]}, {"amount": "8"})
        ]
        assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan

    @pytest.mark.usefixtures("plan")
    def test_another_charge_model(self, api: httpx.Client) -> None:
        package = {
            "code": "more",
            "charge_model": "package",
            "properties": {"amount": "1", "package_size": 10, "free_units": 0},
        }
        own = ok(post(api, plan_overrides={"charges": [package]}))["subscription"]["plan"]
        assert (own["charges"][1]["charge_model"], own["charges"][1]["properties"]) == (
            "package",
            package["properties"],
        )

    @pytest.mark.usefixtures("plan")
    def test_a_pending_subscription(self, api: httpx.Client) -> None:
        own = {"charges": [{"code": "more", "properties": {"amount": "7"}}]}
        made = ok(post(api, subscription_at="2024-06-01T00:00:00Z", plan_overrides=own))["subscription"]
        assert made["status"] == "pending"
        set_clock(api, "2024-06-01T10:00:00Z")
        assert plan_of(api)["charges"][1]["properties"] == {"amount": "7"}

    @pytest.mark.parametrize(
        ("overrides", "answer"),
        [
            ({"amount_cents": None}, {"amount_cents": ["value_is_mandatory"]}),
            ({"amount_cents": -1}, {"amount_cents": ["value_is_out_of_range"]}),
            (
                {"amount_currency": "ZZZ", "name": ""},
                {"amount_currency": ["value_is_invalid"], "name": ["value_is_mandatory"]},
            ),
            ({"charges": [{"code": "more", "properties": {"amount": 1}}]}, {"properties": ["invalid_amount"]}),
            ({"charges": [{"code": "more", "charge_model": "x"}]}, {"charge_model": ["value_is_invalid"]}),
            ({"charges": [{"code": "more", "filters": [MARS]}]}, {"values": ["value_is_invalid"]}),
            ({"charges": "x"}, {"charges": ["value_is_invalid"]}),
            ({"trial_period": -1}, {"trial_period": ["value_is_out_of_range"]}),
            ({"metadata": {"k" * 101: "v"}}, {"metadata": ["value_is_too_long"]}),
            ({"minimum_commitment": {"amount_cents": 0}}, {"amount_cents": ["invalid_amount"]}),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told_and_changes_nothing(
        self, api: httpx.Client, plan: Json, overrides: Json, answer: Json
    ) -> None:
        assert problems(post(api, plan_overrides=overrides)) == answer
        assert refusal(api.get(f"{URL}/sub")) == (404, "subscription_not_found")
        make_subscription(api)
        assert problems(put(api, plan_overrides=overrides)) == answer
        assert plan_of(api) == plan

    @pytest.mark.usefixtures("plan")
    def test_what_is_not_there(self, api: httpx.Client, other: httpx.Client) -> None:
        set_clock(other, "2024-05-10T00:00:00Z")
        theirs = make_plan(other, charges=[standard(make_metric(other, "calls"))])
        for unknown in ({"code": "none"}, {"id": theirs["charges"][0]["lago_id"]}, {"id": "x"}, {}):
            assert refusal(post(api, plan_overrides={"charges": [unknown]})) == (404, "charge_not_found")
        assert refusal(post(api, plan_overrides={"tax_codes": ["none"]})) == (404, "tax_not_found")
        assert ok(api.get(URL))["subscriptions"] == []

    @pytest.mark.usefixtures("plan")
    def test_thresholds_in_two_places(self, api: httpx.Client) -> None:
        thresholds = [{"amount_cents": 100}]
        answer = post(api, usage_thresholds=thresholds, plan_overrides={"usage_thresholds": thresholds})
        assert problems(answer) == {"usage_thresholds": ["incompatible_params"]}

    def test_nothing_that_is_kept_on_a_plan(self, api: httpx.Client, plan: Json) -> None:
        refused = post(api, "none", plan_overrides={"fixed_charges": [{"id": plan["lago_id"], "units": 3}]})
        assert (refused.status_code, refused.json()["code"]) == (404, "fixed_charge_not_found")
        for number, overrides in enumerate((None, {}, {"fixed_charges": []})):
            own = ok(post(api, f"sub{number}", plan_overrides=overrides))["subscription"]["plan"]
            assert own["lago_id"] == plan["lago_id"]


class TestAgain:
    def test_the_same_again_is_the_same_subscription(self, api: httpx.Client, plan: Json) -> None:
        overrides = {
            "amount_cents": 1_000, "tax_codes": ["low"], "metadata": {"a": "b"}, "trial_period": 1.5,
            "minimum_commitment": {"amount_cents": 5, "tax_codes": ["vat"]},
            "charges": [{"id": plan["charges"][0]["lago_id"], "properties": {"amount": "9"}, "tax_codes": ["vat"]}],
        }  # fmt: skip
        made = ok(post(api, plan_overrides=overrides))["subscription"]
        assert ok(post(api, plan_overrides=overrides))["subscription"] == made
        assert len(ok(api.get(URL))["subscriptions"]) == 1

    @pytest.mark.parametrize(
        "overrides",
        [
            None, {"amount_cents": 1_001}, {"tax_codes": []}, {"metadata": {}}, {"trial_period": 1},
            {"minimum_commitment": {"amount_cents": 1}}, {"charges": [{"code": "calls", "properties": {"amount": "1"}}]},
            {"charges": [{"code": "calls", "tax_codes": []}]}, {"charges": [{"code": "calls", "filters": []}]},
        ],
    )  # fmt: skip
    @pytest.mark.usefixtures("plan")
    def test_other_prices_are_another_plan(self, api: httpx.Client, plan: Json, overrides: Json | None) -> None:
        own = {"amount_cents": 1_000, "charges": [{"code": "calls", "properties": {"amount": "9"}}]}
        made = ok(post(api, plan_overrides=own))["subscription"]
        # None of them is cheaper: the plan changes at once (billing spec 1.7).
        changed = ok(post(api, plan_overrides=overrides))["subscription"]
        assert changed["lago_id"] != made["lago_id"]
        assert changed["plan_amount_cents"] == (overrides or {}).get("amount_cents", 3_100)
        assert (changed["plan"]["lago_id"] == plan["lago_id"]) == (overrides is None)
        for sent in (overrides or {}).get("charges", ()):
            first = changed["plan"]["charges"][0]
            assert first["properties"] == sent.get("properties", plan["charges"][0]["properties"])
            assert len(first["taxes"]) == ("tax_codes" not in sent)
            assert len(first["filters"]) == (0 if "filters" in sent else 2)
        before = ok(api.get(f"{URL}/sub?status=terminated"))["subscription"]
        assert (before["lago_id"], before["plan"]) == (made["lago_id"], made["plan"])

    @pytest.mark.usefixtures("plan")
    def test_cheaper_ones_follow_when_the_period_ends(self, api: httpx.Client) -> None:
        own = {"amount_cents": 1_000, "minimum_commitment": {"amount_cents": 1_500}}
        made = ok(post(api, plan_overrides=own))["subscription"]
        cheaper = {"amount_cents": 900, "charges": [{"code": "calls", "properties": {"amount": "9"}}]}
        waiting = ok(post(api, plan_overrides=cheaper))["subscription"]
        assert (waiting["lago_id"], waiting["next_plan_code"]) == (made["lago_id"], "plan")
        assert plan_of(api) == made["plan"]
        set_clock(api, "2024-06-01T10:00:00Z")
        followed = plan_of(api)
        assert (followed["amount_cents"], followed["charges"][0]["properties"]) == (900, {"amount": "9"})
        assert followed["minimum_commitment"] is None
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": [], "cascade_updates": True}}))
        assert plan_of(api)["charges"] == []
        over = ok(api.get(f"{URL}/sub?status=terminated"))["subscription"]["plan"]
        assert [one["code"] for one in over["charges"]] == ["calls", "more"]

    def test_one_that_has_not_begun_gets_them_instead(self, api: httpx.Client, plan: Json) -> None:
        later = {"subscription_at": "2024-06-01T00:00:00Z"}
        first = ok(post(api, **later, plan_overrides={"amount_cents": 1}))["subscription"]
        second = ok(post(api, **later, plan_overrides={"amount_cents": 2, "charges": []}))["subscription"]
        assert (second["lago_id"], second["plan_amount_cents"]) == (first["lago_id"], 2)
        assert ok(post(api, **later))["subscription"]["plan"] == plan
        ok(api.delete("/api/v1/plans/plan"))
        set_clock(api, "2024-05-10T00:00:00Z")
        assert ok(api.get(f"{URL}/sub?status=canceled"))["subscription"]["lago_id"] == first["lago_id"]

    @pytest.mark.usefixtures("plan")
    def test_many_at_once_make_one(self, api: httpx.Client) -> None:
        own = {"amount_cents": 1_000, "charges": [{"code": "calls", "properties": {"amount": "9"}}]}
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: post(api, external_customer_id="new", plan_overrides=own), range(12)))
        made = [ok(answer)["subscription"] for answer in answers]
        assert len({one["lago_id"] for one in made}) == 1
        assert {one["plan"]["lago_id"] for one in made} == {plan_of(api)["lago_id"]}


class TestOnUpdate:
    def test_the_first_makes_a_copy_the_next_change_it(self, api: httpx.Client, plan: Json) -> None:
        make_subscription(api)
        own = ok(put(api, plan_overrides={"amount_cents": 1_000, "amount_currency": "USD"}))["subscription"]["plan"]
        # The currency of what is in use stays, as on any plan.
        assert without_ids(own) == {**without_ids(plan), "amount_cents": 1_000}
        assert own["lago_id"] != plan["lago_id"]
        by_own_id = {"charges": [{"id": own["charges"][0]["lago_id"], "properties": {"amount": "7"}}]}
        by_parents_id = {"charges": [{"id": plan["charges"][1]["lago_id"], "properties": {"amount": "8"}}]}
        ok(put(api, plan_overrides=by_own_id))
        changed = ok(put(api, plan_overrides=by_parents_id, name="x"))["subscription"]
        assert changed["name"] == "x"
        assert [one["properties"] for one in changed["plan"]["charges"]] == [{"amount": "7"}, {"amount": "8"}]
        assert (changed["plan"]["lago_id"], changed["plan"]["amount_cents"]) == (own["lago_id"], 1_000)
        assert ok(put(api, name="y"))["subscription"]["plan"] == changed["plan"]
        assert ok(api.get("/api/v1/plans/plan"))["plan"] == plan

    @pytest.mark.usefixtures("plan")
    def test_two_subscriptions_have_two_copies(self, api: httpx.Client) -> None:
        ok(post(api, "one", plan_overrides={"amount_cents": 1}))
        ok(post(api, "two", plan_overrides={"amount_cents": 2}))
        make_subscription(api, "three")
        ok(put(api, "one", plan_overrides={"charges": [{"code": "more", "properties": {"amount": "0"}}]}))
        assert [plan_of(api, one)["charges"][1]["properties"] for one in ("one", "two", "three")] == [
            {"amount": "0"}, {"amount": "5"}, {"amount": "5"},
        ]  # fmt: skip
        assert [plan_of(api, one)["amount_cents"] for one in ("one", "two", "three")] == [1, 2, 3_100]

    @pytest.mark.usefixtures("plan")
    def test_lists_know_them_by_the_code_of_their_plan(self, api: httpx.Client) -> None:
        ok(post(api, "own", plan_overrides={"amount_cents": 1}))
        make_subscription(api, "plain")

        def listed(**query: object) -> set[str]:
            return {
                one["external_id"] for one in ok(api.get(URL, params={"plan_code": "plan", **query}))["subscriptions"]
            }

        assert listed() == {"own", "plain"}
        assert (listed(overridden=True), listed(overridden=False)) == ({"own"}, {"plain"})

    def test_one_that_is_over_has_no_prices_to_change(self, api: httpx.Client, plan: Json) -> None:
        ok(post(api, plan_overrides={"amount_cents": 1}))
        ok(api.delete(f"{URL}/sub"))
        answer = api.put(f"{URL}/sub?status=terminated", json={"subscription": {"plan_overrides": {"amount_cents": 2}}})
        assert refusal(answer) == (405, "no_active_subscription")
        over = ok(api.get(f"{URL}/sub?status=terminated"))["subscription"]
        assert over["plan"]["amount_cents"] == 1
        # Who subscribes again starts from the plan as it is listed.
        assert make_subscription(api)["plan"] == plan


class TestBilled:
    @pytest.mark.usefixtures("plan")
    def test_invoices_and_usage_are_priced_with_them(self, api: httpx.Client) -> None:
        own = {"amount_cents": 1_000, "charges": [{"code": "calls", "properties": {"amount": "9"}}]}
        ok(post(api, subscription_at="2024-05-01T00:00:00Z", plan_overrides=own))
        send_events(api, [event("calls", timestamp=NOON, region=region) for region in ("us", "eu", "eu", "mars")])
        # 2 + 2 x 3 + 9 on the first charge, 4 x 5 on the second.
        assert usage_of(api)["amount_cents"] == 3_700
        ok(put(api, plan_overrides={"charges": [{"code": "more", "properties": {"amount": "1"}}]}))
        assert usage_of(api)["amount_cents"] == 2_100
        set_clock(api, "2024-06-01T10:00:00Z")
        (invoice,) = invoices_of(api)
        assert invoice["fees_amount_cents"] == 1_000 + 2_100
        fees = {fee["item"]["type"]: fee for fee in invoice["fees"] if fee["amount_cents"] == 1_000}
        assert fees["subscription"]["taxes_rate"] == 20

    @pytest.mark.usefixtures("plan")
    def test_grouping_of_its_own_splits_usage(self, api: httpx.Client) -> None:
        make_subscription(api)
        send_events(api, [event("calls", timestamp=NOON, team=team) for team in ("red", "red", "blue")])
        grouped = {"amount": "1", "pricing_group_keys": ["team"]}
        ok(put(api, plan_overrides={"charges": [{"code": "more", "properties": grouped}]}))
        send_events(api, [event("calls", timestamp=NOON, team="blue")])
        _, more = usage_of(api)["charges_usage"]
        units = {one["grouped_by"]["team"]: one["units"] for one in more["grouped_usage"]}
        assert units == {"red": "2.0", "blue": "2.0"}

    @pytest.mark.usefixtures("plan")
    def test_a_metric_is_in_use_as_long_as_a_copy_prices_it(self, api: httpx.Client) -> None:
        ok(post(api, plan_overrides={"amount_cents": 1}))
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": []}}))
        frozen = ok(api.put("/api/v1/billable_metrics/calls", json={"billable_metric": {"code": "new"}}))
        assert frozen["billable_metric"]["code"] == "calls"
        ok(api.delete(f"{URL}/sub"))
        free = ok(api.put("/api/v1/billable_metrics/calls", json={"billable_metric": {"code": "new"}}))
        assert free["billable_metric"]["code"] == "new"

    @pytest.mark.usefixtures("plan")
    def test_a_deleted_metric_leaves_them_too(self, api: httpx.Client) -> None:
        ok(post(api, plan_overrides={"amount_cents": 1}))
        ok(api.delete("/api/v1/billable_metrics/calls"))
        assert plan_of(api)["charges"] == []
        assert units_of(api) == {}


def test_a_plan_with_copies_is_in_use(api: httpx.Client, plan: Json) -> None:
    ok(post(api, plan_overrides={"amount_cents": 1}))
    sent = {
        "interval": "yearly", "code": "x", "amount_currency": "USD", "pay_in_advance": True, "amount_cents": 7,
        "charges": [{"id": one["lago_id"], "charge_model": "package", "code": "x"} for one in plan["charges"][:1]],
    }  # fmt: skip
    changed = ok(api.put("/api/v1/plans/plan", json={"plan": sent}))["plan"]
    assert changed == {**plan, "amount_cents": 7, "charges": plan["charges"][:1]}
