"""`cascade_updates`: what is changed in a plan reaches subscriptions with prices of their own (metering spec 6.9)."""

import random
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
from tests.support import seeded

URL = "/api/v1/subscriptions"
PLAN = "/api/v1/plans/plan"
NOON = 1_715_342_400  # 10 May 2024
REGIONS = ("us", "eu", "asia", "africa")
KEYS = ("pricing_group_keys", "presentation_group_keys")


def region(name: str, amount: str, **properties: Any) -> Json:
    """A charge filter on one region."""
    return {"values": {"region": [name]}, "properties": {"amount": amount, **properties}}


@pytest.fixture
def metric(api: httpx.Client) -> Json:
    """A sandbox on 10 May 2024 with a metric that has regions, and taxes."""
    set_clock(api, "2024-05-10T00:00:00Z")
    make_tax(api, "vat", "20")
    make_tax(api, "low", "5")
    make_customer(api)
    return make_metric(api, "calls", filters=[{"key": "region", "values": list(REGIONS)}])


@pytest.fixture
def plan(api: httpx.Client, metric: Json) -> Json:
    """A plan with two charges, and three subscriptions: on the plan itself, on a copy without a difference in its charges,
    and on one where a price, an amount and a filter are its own."""
    charges = [standard(metric, filters=[region("us", "2"), region("eu", "3")]), standard(metric, "5", code="more")]
    made = make_plan(api, charges=charges, amount_cents=1_000, tax_codes=["vat"])
    make_subscription(api, "plain")
    make_subscription(api, "copy", plan_overrides={"name": "Copy"})
    own = [
        {"code": "calls", "properties": {"amount": "9"}, "invoice_display_name": "Own",
         "filters": [region("us", "8"), region("eu", "3")]},
        {"code": "more", "tax_codes": ["low"]},
    ]  # fmt: skip
    make_subscription(api, "own", plan_overrides={"amount_cents": 7, "charges": own})
    return made


def plan_of(api: httpx.Client, external_id: str) -> Json:
    shown: Json = ok(api.get(f"{URL}/{external_id}"))["subscription"]["plan"]
    return shown


def charge_of(api: httpx.Client, external_id: str, code: str = "calls") -> Json:
    (found,) = (one for one in plan_of(api, external_id)["charges"] if one["code"] == code)
    return found


def prices(charge: Json) -> Json:
    """The prices of a charge, that of the default bucket under an empty name."""
    filters = {one["values"]["region"][0]: one["properties"]["amount"] for one in charge["filters"]}
    return {"": charge["properties"]["amount"], **filters}


def put(api: httpx.Client, path: str = "", *, cascade: bool = True, **fields: Any) -> Json:
    """Change the plan or something in it."""
    root = "filter" if "/filters" in path else "charge" if "/charges" in path else "plan"
    return ok(api.put(f"{PLAN}{path}", json={root: {**fields, "cascade_updates": cascade}}))[root]


class TestPlan:
    @pytest.mark.usefixtures("plan")
    def test_the_amount_follows_where_it_is_still_the_plans(self, api: httpx.Client) -> None:
        put(api, amount_cents=2_000, name="New", description="new")
        assert [plan_of(api, one)["amount_cents"] for one in ("plain", "copy", "own")] == [2_000, 2_000, 7]
        assert (plan_of(api, "plain")["name"], plan_of(api, "copy")["name"]) == ("New", "Copy")
        assert plan_of(api, "own")["description"] is None

    def test_taxes_follow_where_they_are_still_the_plans(self, api: httpx.Client, plan: Json) -> None:
        make_subscription(api, "taxed", plan_overrides={"tax_codes": []})
        put(api, tax_codes=["low", "vat"])
        taxes = {one: [tax["code"] for tax in plan_of(api, one)["taxes"]] for one in ("copy", "own", "taxed")}
        assert taxes == {"copy": ["low", "vat"], "own": ["low", "vat"], "taxed": []}
        charges = [{"id": one["lago_id"], "tax_codes": ["vat"]} for one in plan["charges"]]
        put(api, charges=charges)
        assert [tax["code"] for tax in charge_of(api, "copy", "more")["taxes"]] == ["vat"]
        assert [tax["code"] for tax in charge_of(api, "own", "more")["taxes"]] == ["low"]
        assert [tax["code"] for tax in charge_of(api, "own", "calls")["taxes"]] == ["vat"]

    @pytest.mark.usefixtures("plan")
    def test_nothing_follows_without_it(self, api: httpx.Client, metric: Json) -> None:
        before = [plan_of(api, one) for one in ("copy", "own")]
        put(api, cascade=False, amount_cents=2, tax_codes=[], charges=[standard(metric, "1")])
        assert [plan_of(api, one) for one in ("copy", "own")] == before
        changed = plan_of(api, "plain")
        assert (changed["amount_cents"], len(changed["charges"])) == (2, 1)

    def test_charges_come_change_and_go(self, api: httpx.Client, metric: Json, plan: Json) -> None:
        first, _ = plan["charges"]
        sent = [
            {"id": first["lago_id"], "properties": {"amount": "4"}, "invoice_display_name": "New"},
            standard(metric, "6", code="third", filters=[region("eu", "1")], tax_codes=["vat"]),
        ]
        put(api, charges=sent)
        for name, price in (("copy", "4"), ("own", "9")):
            one, third = plan_of(api, name)["charges"]
            assert (one["code"], one["properties"]) == ("calls", {"amount": price})
            assert (third["code"], prices(third)) == ("third", {"": "6", "eu": "1"})
            assert [tax["code"] for tax in third["taxes"]] == ["vat"]
            assert third["lago_parent_id"] == charge_of(api, "plain", "third")["lago_id"]
        names = [charge_of(api, name)["invoice_display_name"] for name in ("plain", "copy", "own")]
        assert names == ["New", None, "Own"]

    def test_grouping_always_follows(self, api: httpx.Client, plan: Json) -> None:
        first, second = plan["charges"]
        shown = [{"value": "city"}]
        grouped = {"pricing_group_keys": ["team"], "presentation_group_keys": shown}
        sent = {"id": first["lago_id"], "properties": {"amount": "1", **grouped}}
        put(api, charges=[sent, {"id": second["lago_id"]}])
        for name, price in (("copy", "1"), ("own", "9")):
            properties = charge_of(api, name)["properties"]
            assert properties == {"amount": price, **grouped, "grouped_by": ["team"]}
        # What was split in the meantime is counted by team on a copy, too.
        send_events(api, [event("calls", "own", NOON, team=team) for team in ("red", "blue", "red")])
        usage = usage_of(api, "own")["charges_usage"][0]["grouped_usage"]
        assert {one["grouped_by"]["team"]: one["units"] for one in usage} == {"red": "2.0", "blue": "1.0"}
        # A grouping of its own stays until the plan's is changed.
        own = {"charges": [{"code": "calls", "properties": {"amount": "9", "pricing_group_keys": ["mine"]}}]}
        ok(api.put(f"{URL}/own", json={"subscription": {"plan_overrides": own}}))
        put(api, charges=[{**sent, "properties": {"amount": "2", **grouped}}, {"id": second["lago_id"]}])
        assert charge_of(api, "own")["properties"]["pricing_group_keys"] == ["mine"]
        put(api, charges=[{**sent, "properties": {"amount": "2"}}, {"id": second["lago_id"]}])
        assert charge_of(api, "own")["properties"] == {"amount": "9"}
        assert charge_of(api, "copy")["properties"] == {"amount": "2"}

    @pytest.mark.usefixtures("plan")
    def test_another_charge_model_does_not_follow(self, api: httpx.Client) -> None:
        package = {"amount": "5", "package_size": 10, "free_units": 0}
        own = {"charges": [{"code": "more", "charge_model": "package", "properties": package}]}
        make_subscription(api, "packed", plan_overrides=own)
        put(api, "/charges/more", properties={"amount": "6", "pricing_group_keys": ["team"]})
        packed = charge_of(api, "packed", "more")["properties"]
        assert packed == {**package, "pricing_group_keys": ["team"], "grouped_by": ["team"]}

    @pytest.mark.usefixtures("plan")
    def test_what_is_wrong_changes_nothing(self, api: httpx.Client, metric: Json) -> None:
        before = [plan_of(api, one) for one in ("plain", "copy", "own")]
        sent = {"amount_cents": 5, "cascade_updates": True, "charges": [standard(metric), standard(metric, "-1")]}
        assert problems(api.put(PLAN, json={"plan": sent})) == {"properties": ["invalid_amount"]}
        assert [plan_of(api, one) for one in ("plain", "copy", "own")] == before


class TestCharges:
    @pytest.mark.usefixtures("plan")
    def test_come_change_and_go(self, api: httpx.Client, metric: Json) -> None:
        sent = {**standard(metric, "6", code="third"), "cascade_updates": True}
        ok(api.post(f"{PLAN}/charges", json={"charge": sent}))
        put(api, "/charges/third", properties={"amount": "7"})
        put(api, "/charges/calls", properties={"amount": "4"})
        got = {
            name: {one["code"]: prices(one)[""] for one in plan_of(api, name)["charges"]} for name in ("copy", "own")
        }
        assert got == {
            "copy": {"calls": "4", "more": "5", "third": "7"},
            "own": {"calls": "9", "more": "5", "third": "7"},
        }
        ok(api.request("DELETE", f"{PLAN}/charges/more", json={"charge": {"cascade_updates": True}}))
        ok(api.delete(f"{PLAN}/charges/third"))
        assert [one["code"] for one in plan_of(api, "plain")["charges"]] == ["calls"]
        assert [one["code"] for one in plan_of(api, "own")["charges"]] == ["calls", "third"]

    @pytest.mark.usefixtures("plan")
    def test_a_code_that_a_copy_has_kept(self, api: httpx.Client, metric: Json) -> None:
        ok(api.delete(f"{PLAN}/charges/more"))
        put(api, "/charges/calls", cascade=False)
        sent = {"cascade_updates": True, **standard(metric, "6", code="more")}
        ok(api.post(f"{PLAN}/charges", json={"charge": sent}))
        make_subscription(api, "late", plan_overrides={"name": "Late"})
        assert [one["code"] for one in plan_of(api, "copy")["charges"]] == ["calls", "more", "more_2"]
        assert [one["code"] for one in plan_of(api, "late")["charges"]] == ["calls", "more"]

    @pytest.mark.usefixtures("plan")
    def test_a_removal_with_an_unreadable_body(self, api: httpx.Client) -> None:
        assert api.request("DELETE", f"{PLAN}/charges/more", content=b"{").status_code == 400
        wrong = {"charge": {"cascade_updates": "yes"}}
        assert api.request("DELETE", f"{PLAN}/charges/more", json=wrong).status_code == 422
        assert len(plan_of(api, "plain")["charges"]) == 2


class TestFilters:
    def test_come_change_and_go(self, api: httpx.Client, plan: Json) -> None:
        us, eu = (one["lago_id"] for one in plan["charges"][0]["filters"])
        path = "/charges/calls/filters"
        put(api, f"{path}/{us}", properties={"amount": "20"}, invoice_display_name="US")
        put(api, f"{path}/{eu}", properties={"amount": "30"})
        assert prices(charge_of(api, "copy")) == {"": "1", "us": "20", "eu": "30"}
        assert prices(charge_of(api, "own")) == {"": "9", "us": "8", "eu": "30"}
        assert charge_of(api, "copy")["filters"][0]["invoice_display_name"] is None
        put(api, f"{path}/{eu}", values={"region": ["asia"]})
        assert prices(charge_of(api, "own")) == {"": "9", "us": "8", "asia": "30"}
        added = {"filter": {**region("eu", "4"), "cascade_updates": True}}
        ok(api.post(f"{PLAN}{path}", json=added))
        ok(api.request("DELETE", f"{PLAN}{path}/{us}", json={"filter": {"cascade_updates": True}}))
        for name, default in (("copy", "1"), ("own", "9")):
            assert prices(charge_of(api, name)) == {"": default, "asia": "30", "eu": "4"}

    @pytest.mark.usefixtures("plan")
    def test_one_that_a_copy_has_already_is_not_added(self, api: httpx.Client) -> None:
        africa = {"filter": region("africa", "1")}
        ok(api.post(f"{URL}/own/charges/calls/filters", json=africa))
        ok(
            api.post(
                f"{PLAN}/charges/calls/filters", json={"filter": {**region("africa", "6"), "cascade_updates": True}}
            )
        )
        assert prices(charge_of(api, "copy")) == {"": "1", "us": "2", "eu": "3", "africa": "6"}
        assert prices(charge_of(api, "own")) == {"": "9", "us": "8", "eu": "3", "africa": "1"}

    def test_grouping_of_filters_always_follows(self, api: httpx.Client, plan: Json) -> None:
        us = plan["charges"][0]["filters"][0]["lago_id"]
        put(api, f"/charges/calls/filters/{us}", properties={"amount": "2", "pricing_group_keys": ["team"]})
        properties = charge_of(api, "own")["filters"][0]["properties"]
        assert properties == {"amount": "8", "pricing_group_keys": ["team"], "grouped_by": ["team"]}

    def test_one_that_a_copy_has_removed_stays_away(self, api: httpx.Client, plan: Json) -> None:
        us = plan["charges"][0]["filters"][0]["lago_id"]
        ok(api.delete(f"{URL}/own/charges/calls/filters/{us}"))
        put(api, f"/charges/calls/filters/{us}", properties={"amount": "20"})
        assert prices(charge_of(api, "own")) == {"": "9", "eu": "3"}


@pytest.mark.usefixtures("plan")
def test_another_organizations_copies_stay(api: httpx.Client, other: httpx.Client) -> None:
    assert refusal(other.put(PLAN, json={"plan": {"amount_cents": 1, "cascade_updates": True}})) == (
        404,
        "plan_not_found",
    )
    set_clock(other, "2024-05-10T00:00:00Z")
    make_plan(other, charges=[standard(make_metric(other, "calls"))], amount_cents=1_000)
    make_subscription(other, "copy", plan_overrides={"name": "Copy"})
    put(api, amount_cents=3, charges=[])
    theirs = plan_of(other, "copy")
    assert (theirs["amount_cents"], len(theirs["charges"])) == (1_000, 1)


@pytest.mark.usefixtures("plan")
def test_a_copy_that_is_over_stays_as_it_was(api: httpx.Client) -> None:
    ok(api.delete(f"{URL}/copy"))
    put(api, amount_cents=3, charges=[])
    over = ok(api.get(f"{URL}/copy?status=terminated"))["subscription"]["plan"]
    assert (over["amount_cents"], len(over["charges"])) == (1_000, 2)


class Model:
    """A charge as the rules see it: price, group keys, name, taxes, and the prices and group keys of its regions."""

    def __init__(self, chance: random.Random):
        self.price = chance.choice("123")
        self.keys = dict.fromkeys(KEYS)
        self.name: str | None = None
        self.taxes: set[str] = set()
        self.regions = {one: (chance.choice("123"), chance.choice((None, "team"))) for one in chance.sample(REGIONS, 2)}

    def copy(self) -> "Model":
        made = Model(random.Random(0))  # noqa: S311 (everything is overwritten)
        made.price, made.keys, made.name = self.price, dict(self.keys), self.name
        made.taxes, made.regions = set(self.taxes), dict(self.regions)
        return made

    def shake(self, chance: random.Random) -> None:
        """Change some of it."""
        if chance.random() < 0.5:
            self.price = chance.choice("123")
        for key in KEYS:
            if chance.random() < 0.3:
                self.keys[key] = chance.choice((None, "team", "city"))
        if chance.random() < 0.3:
            self.name = chance.choice(("A", "B"))
        if chance.random() < 0.3:
            self.taxes = set(chance.sample(("vat", "low"), chance.randrange(3)))
        for one in list(self.regions):
            if chance.random() < 0.3:
                self.regions[one] = (chance.choice("123"), chance.choice((None, "team", "city")))
            elif chance.random() < 0.3:
                del self.regions[one]
        if chance.random() < 0.5:
            self.regions.setdefault(chance.choice(REGIONS), (chance.choice("123"), None))

    def follow(self, old: "Model", new: "Model", inherited: set[str]) -> None:
        """What the rules say. `inherited` are the regions whose filters are copies of the plan's; kept up to date."""
        if self.price == old.price:
            self.price = new.price
        for key in KEYS:
            if old.keys[key] != new.keys[key]:
                self.keys[key] = new.keys[key]
        if self.taxes == old.taxes:
            self.taxes = set(new.taxes)
        for one in old.regions.keys() & inherited:
            if one not in new.regions:
                del self.regions[one]
                inherited.discard(one)
                continue
            (price, key), (was, was_key), (is_, is_key) = self.regions[one], old.regions[one], new.regions[one]
            self.regions[one] = (is_ if price == was else price, is_key if was_key != is_key else key)
        for one in new.regions.keys() - old.regions.keys() - self.regions.keys():
            self.regions[one] = new.regions[one]
            inherited.add(one)

    def sent(self) -> Json:
        filters = [
            {"values": {"region": [one]}, "properties": {"amount": price, "pricing_group_keys": [key] if key else []}}
            for one, (price, key) in self.regions.items()
        ]
        grouping, shown = (self.keys[key] for key in KEYS)
        properties: Json = {"amount": self.price, "pricing_group_keys": [grouping] if grouping else []}
        properties["presentation_group_keys"] = [{"value": shown}] if shown else []
        taxes = sorted(self.taxes)
        return {"properties": properties, "filters": filters, "tax_codes": taxes, "invoice_display_name": self.name}

    @staticmethod
    def read(charge: Json) -> Json:
        """A charge as it is shown, as `vars` of a model."""
        properties = charge["properties"]
        first = {key: (properties.get(key) or [None])[0] for key in KEYS}
        shown = first["presentation_group_keys"]
        return {
            "price": properties["amount"],
            "keys": {**first, "presentation_group_keys": shown and shown["value"]},
            "name": charge["invoice_display_name"],
            "taxes": {tax["code"] for tax in charge["taxes"]},
            "regions": {
                one["values"]["region"][0]: (
                    one["properties"]["amount"], (one["properties"].get("pricing_group_keys") or [None])[0],
                )
                for one in charge["filters"]
            },
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_copies_are_what_the_rules_say(api: httpx.Client, metric: Json, seed: int) -> None:
    """Random changes of a plan and of two copies, in turn; after each the copies are compared with a model of the rules."""
    chance = seeded(seed)
    parent = Model(chance)
    (charge,) = make_plan(api, charges=[{**standard(metric), **parent.sent()}])["charges"]
    copies = {name: (parent.copy(), set(parent.regions)) for name in ("one", "two")}
    for name in copies:
        make_subscription(api, name, plan_overrides={"name": name})
    for _ in range(4):
        name = chance.choice(sorted(copies))
        child, inherited = copies[name]
        child.shake(chance)
        inherited.intersection_update(child.regions)
        ok(api.put(f"{URL}/{name}/charges/calls", json={"charge": child.sent()}))
        old = parent.copy()
        parent.shake(chance)
        put(api, charges=[{"id": charge["lago_id"], **parent.sent()}])
        for name, (child, inherited) in copies.items():
            child.follow(old, parent, inherited)
            assert Model.read(charge_of(api, name)) == vars(child)
        assert Model.read(ok(api.get(f"{PLAN}/charges/calls"))["charge"]) == vars(parent)
