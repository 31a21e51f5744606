"""Fixed charges on plans and subscriptions: `/api/v1/plans/{code}/fixed_charges` and those of a subscription."""

from decimal import Decimal
from uuid import uuid4

import httpx
import pytest

from tests.factories import (
    Json,
    fixed,
    make_add_on,
    make_customer,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    set_clock,
)

PLAN = "/api/v1/plans/plan"
URL = f"{PLAN}/fixed_charges"
OF_SUBSCRIPTION = "/api/v1/subscriptions/sub/fixed_charges"
FIELDS = {
    "lago_id", "lago_add_on_id", "invoice_display_name", "add_on_code", "created_at", "code", "charge_model",
    "pay_in_advance", "prorated", "properties", "units", "lago_parent_id", "taxes",
}  # fmt: skip
RANGES = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
]


@pytest.fixture
def seats(api: httpx.Client) -> httpx.Client:
    """A sandbox in May 2024 with the add-ons `seat` and `desk`."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_add_on(api, "seat")
    make_add_on(api, "desk")
    return api


def put_list(api: httpx.Client, charges: list[Json]) -> httpx.Response:
    return api.put(PLAN, json={"plan": {"fixed_charges": charges}})


def listed(response: httpx.Response) -> list[Json]:
    return ok(response)["plan"]["fixed_charges"]


def units_of(api: httpx.Client, code: str = "seat", **query: str) -> Decimal:
    return Decimal(str(ok(api.get(f"{OF_SUBSCRIPTION}/{code}", params=query))["fixed_charge"]["units"]))


def put_units(api: httpx.Client, units: object, code: str = "seat", **more: object) -> httpx.Response:
    return api.put(f"{OF_SUBSCRIPTION}/{code}", json={"fixed_charge": {"units": units, **more}})


class TestOnThePlan:
    def test_every_field_is_there(self, seats: httpx.Client) -> None:
        make_tax(seats, "vat", "20")
        sent = {
            "code": "seats", "invoice_display_name": "Seats", "charge_model": "graduated",
            "properties": {"graduated_ranges": RANGES}, "units": "12.50", "prorated": True, "tax_codes": ["vat"],
        }  # fmt: skip
        plan = make_plan(seats, fixed_charges=[fixed(**sent), fixed("desk")])
        first, second = plan["fixed_charges"]
        assert first.keys() == FIELDS
        assert [tax["code"] for tax in first["taxes"]] == ["vat"]
        shown = {key: first[key] for key in sent if key not in {"tax_codes", "units"}}
        assert shown == {key: sent[key] for key in shown}
        assert (first["units"], first["add_on_code"], first["lago_parent_id"]) == (12.5, "seat", None)
        neutral = {"code": "desk", "pay_in_advance": False, "prorated": False, "units": 10, "taxes": [],
                   "invoice_display_name": "desk", "properties": {"amount": "1"}}  # fmt: skip
        assert {key: second[key] for key in neutral} == neutral
        assert ok(seats.get(PLAN))["plan"] == plan
        by_id = fixed(add_on_code=None, add_on_id=first["lago_add_on_id"])
        assert make_plan(seats, "by id", fixed_charges=[by_id])["fixed_charges"][0]["add_on_code"] == "seat"

    def test_units_are_exact_and_zero_by_default(self, seats: httpx.Client) -> None:
        make_plan(seats, fixed_charges=[fixed(units=None), fixed(units=0.1), fixed(units="0.000000000000001")])
        shown = [part.partition(",")[0] for part in seats.get(PLAN).text.split('"units":')[1:]]
        assert shown == ["0", "0.1", "0.000000000000001"]

    def test_the_list_replaces(self, seats: httpx.Client) -> None:
        seat, desk = make_plan(seats, fixed_charges=[fixed("seat"), fixed("desk")])["fixed_charges"]
        kept = {"id": desk["lago_id"], "units": 7, "code": "seat"}
        changed, new = listed(put_list(seats, [kept, fixed("seat", code="more")]))
        assert changed == {**desk, "units": 7, "code": "seat"}
        assert (new["code"], new["lago_id"] != seat["lago_id"]) == ("more", True)
        assert listed(seats.put(PLAN, json={"plan": {"name": "x"}})) == [changed, new]
        assert listed(put_list(seats, [])) == []

    def test_codes_are_the_add_ons_unless_given(self, seats: httpx.Client) -> None:
        charges = [fixed(), fixed(), fixed(code="seat_2"), fixed("desk")]
        assert [one["code"] for one in make_plan(seats, fixed_charges=charges)["fixed_charges"]] == [
            "seat", "seat_3", "seat_2", "desk",
        ]  # fmt: skip
        twice = put_list(seats, [fixed(code="a"), fixed(code="a")])
        assert problems(twice) == {"code": ["value_already_exist"]}

    @pytest.mark.parametrize(
        ("change", "wrong"),
        [
            ({"units": -1}, {"units": ["value_is_out_of_range"]}),
            ({"units": "NaN"}, {"units": ["value_is_out_of_range"]}),
            ({"units": 10**15}, {"units": ["value_is_out_of_range"]}),
            ({"units": "0.0000000000000001"}, {"units": ["value_is_invalid"]}),
            ({"units": "many"}, {"units": ["value_is_invalid"]}),
            ({"units": 10**10, "properties": {"amount": "10000"}}, {"units": ["value_is_out_of_range"]}),
            ({"charge_model": None}, {"charge_model": ["value_is_mandatory"]}),
            ({"charge_model": "package"}, {"charge_model": ["value_is_invalid"]}),
            ({"properties": {}}, {"properties": ["invalid_amount"]}),
            ({"properties": {"amount": "-1"}}, {"properties": ["invalid_amount"]}),
            ({"charge_model": "graduated"}, {"properties": ["missing_graduated_ranges"]}),
            (
                {"charge_model": "volume", "properties": {"volume_ranges": RANGES}, "pay_in_advance": True},
                {"pay_in_advance": ["invalid_charge_model"]},
            ),
            (
                {"charge_model": "graduated", "properties": {"graduated_ranges": RANGES}, "pay_in_advance": True,
                 "prorated": True},
                {"prorated": ["invalid_charge_model"]},
            ),
            ({"code": "a/"}, {"code": ["value_is_invalid"]}),
            ({"code": 1}, {"code": ["value_is_invalid"]}),
        ],
    )  # fmt: skip
    def test_broken_rules(self, seats: httpx.Client, change: Json, wrong: Json) -> None:
        plan = make_plan(seats, fixed_charges=[fixed()])
        sent = {**fixed("desk"), **change}
        assert problems(put_list(seats, [sent])) == wrong
        assert problems(seats.post(URL, json={"fixed_charge": sent})) == wrong
        assert ok(seats.get(PLAN))["plan"] == plan

    def test_add_ons_must_be_there(self, seats: httpx.Client, other: httpx.Client) -> None:
        make_plan(seats)
        make_add_on(other, "theirs")
        for sent in (fixed("theirs"), fixed("seat", add_on_id=str(uuid4())), fixed(add_on_id="x"), {"units": 1}):
            assert refusal(put_list(seats, [sent])) == (404, "add_ons_not_found")
            assert refusal(seats.post(URL, json={"fixed_charge": sent})) == (404, "add_on_not_found")
        assert refusal(put_list(seats, [fixed(tax_codes=["none"])])) == (404, "tax_not_found")
        ok(seats.delete("/api/v1/add_ons/seat"))
        assert refusal(put_list(seats, [fixed("seat")])) == (404, "add_ons_not_found")

    def test_in_use_only_some_fields_change(self, seats: httpx.Client) -> None:
        (made,) = make_plan(seats, fixed_charges=[fixed()])["fixed_charges"]
        make_customer(seats)
        make_subscription(seats)
        sent = {
            "code": "new", "charge_model": "volume", "pay_in_advance": True, "prorated": True, "add_on_code": "desk",
            "units": 3, "properties": {"amount": "2"}, "invoice_display_name": "Seats",
        }  # fmt: skip
        (changed,) = listed(put_list(seats, [{"id": made["lago_id"], **sent}]))
        kept = {key: sent[key] for key in ("units", "properties", "invoice_display_name")}
        assert changed == {**made, **kept}


class TestOneByOne:
    def test_they_come_change_and_go(self, seats: httpx.Client) -> None:
        make_plan(seats, "v2/all%in")
        url = "/api/v1/plans/v2/all%25in/fixed_charges"
        first = ok(seats.post(url, json={"fixed_charge": fixed()}))["fixed_charge"]
        second = ok(seats.post(url, json={"fixed_charge": fixed("desk", code="more/desks")}))["fixed_charge"]
        assert ok(seats.get(url))["fixed_charges"] == [first, second]
        assert ok(seats.get(f"{url}/more/desks"))["fixed_charge"] == second
        change = {"units": "3", "properties": {"amount": "2"}, "cascade_updates": True}
        changed = ok(seats.put(f"{url}/seat", json={"fixed_charge": change}))["fixed_charge"]
        assert changed == {**first, "units": 3, "properties": {"amount": "2"}}
        assert ok(seats.delete(f"{url}/seat"))["fixed_charge"] == changed
        page = ok(seats.get(url, params={"per_page": 1}))
        assert (page["fixed_charges"], page["meta"]["total_count"]) == ([second], 1)

    def test_what_is_not_there(self, seats: httpx.Client, other: httpx.Client) -> None:
        make_plan(seats, fixed_charges=[fixed()])
        assert refusal(seats.get("/api/v1/plans/none/fixed_charges")) == (404, "plan_not_found")
        for method in ("get", "delete"):
            assert refusal(getattr(seats, method)(f"{URL}/none")) == (404, "fixed_charge_not_found")
        assert refusal(seats.put(f"{URL}/none", json={"fixed_charge": {}})) == (404, "fixed_charge_not_found")
        assert refusal(other.get(f"{URL}/seat")) == (404, "plan_not_found")
        assert problems(seats.post(URL, json={"fixed_charge": fixed(code="seat")})) == {"code": ["value_already_exist"]}
        assert seats.post(URL, json={}).status_code == 400


class TestOfASubscription:
    @pytest.fixture
    def sub(self, seats: httpx.Client) -> httpx.Client:
        make_plan(seats, fixed_charges=[fixed("seat", 10), fixed("desk", 5, code="v2/desk")])
        make_customer(seats)
        make_subscription(seats)
        return seats

    def test_units_of_its_own(self, sub: httpx.Client) -> None:
        on_plan = ok(sub.get(URL))["fixed_charges"]
        assert ok(sub.get(OF_SUBSCRIPTION))["fixed_charges"] == on_plan
        changed = ok(put_units(sub, 4))["fixed_charge"]
        assert changed == {**on_plan[0], "units": 4}
        ok(put_units(sub, "2.5", "v2/desk"))
        assert (units_of(sub), units_of(sub, "v2/desk")) == (4, Decimal("2.5"))
        assert [one["units"] for one in ok(sub.get(OF_SUBSCRIPTION))["fixed_charges"]] == [4, 2.5]
        assert ok(sub.get(URL))["fixed_charges"] == on_plan

    def test_a_change_of_the_plan_leaves_them_alone(self, sub: httpx.Client) -> None:
        ok(put_units(sub, 4))
        for code in ("seat", "v2/desk"):
            ok(sub.put(f"{URL}/{code}", json={"fixed_charge": {"units": 20, "apply_units_immediately": True}}))
        assert (units_of(sub), units_of(sub, "v2/desk")) == (4, 20)
        assert ok(put_units(sub, None))["fixed_charge"]["units"] == 20

    def test_a_pending_one_has_them_too(self, sub: httpx.Client) -> None:
        make_subscription(sub, "later", subscription_at="2024-06-10T00:00:00Z")
        url = "/api/v1/subscriptions/later/fixed_charges"
        assert refusal(sub.get(url)) == (404, "subscription_not_found")
        pending = {"subscription_status": "pending"}
        sent = {"fixed_charge": {"units": 3}}
        assert ok(sub.put(f"{url}/seat", json=sent, params=pending))["fixed_charge"]["units"] == 3
        assert [one["units"] for one in ok(sub.get(url, params=pending))["fixed_charges"]] == [3, 5]
        set_clock(sub, "2024-07-01T00:00:00Z")
        fees = ok(sub.get("/api/v1/fees", params={"external_subscription_id": "later"}))["fees"]
        assert [Decimal(one["units"]) for one in fees if one["item"]["code"] == "seat"] == [3]

    def test_what_is_wrong(self, sub: httpx.Client, other: httpx.Client) -> None:
        assert problems(put_units(sub, -1)) == {"units": ["value_is_out_of_range"]}
        assert problems(put_units(sub, 10**15)) == {"units": ["value_is_out_of_range"]}
        assert problems(put_units(sub, "x")) == {"units": ["value_is_invalid"]}
        assert refusal(put_units(sub, 1, "none")) == (404, "fixed_charge_not_found")
        assert refusal(put_units(sub, 1, properties={"amount": "2"})) == (403, "feature_unavailable")
        assert units_of(sub) == 10
        assert refusal(other.get(OF_SUBSCRIPTION)) == (404, "subscription_not_found")
        assert problems(sub.get(OF_SUBSCRIPTION, params={"subscription_status": "x"})) == {
            "subscription_status": ["value_is_invalid"]
        }
        ok(sub.delete("/api/v1/subscriptions/sub"))
        ended = {"subscription_status": "terminated"}
        assert units_of(sub, **ended) == 10
        again = sub.put(f"{OF_SUBSCRIPTION}/seat", json={"fixed_charge": {"units": 1}}, params=ended)
        assert refusal(again) == (404, "subscription_not_found")
        assert sub.put(f"{OF_SUBSCRIPTION}/seat", json={}).status_code == 400
