"""`/api/v1/add_ons`."""

import httpx
import pytest

from tests.factories import (
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

URL = "/api/v1/add_ons"
FIELDS = {
    "lago_id", "name", "invoice_display_name", "code", "amount_cents", "amount_currency", "description", "created_at",
    "taxes",
}  # fmt: skip


def test_create_find_update_delete(api: httpx.Client) -> None:
    make_tax(api, "vat", "20")
    made = make_add_on(api, description="d", invoice_display_name="Seats", tax_codes=["vat"])
    assert made.keys() == FIELDS
    assert (made["amount_cents"], made["amount_currency"], made["description"]) == (200, "EUR", "d")
    assert [tax["code"] for tax in made["taxes"]] == ["vat"]
    assert ok(api.get(f"{URL}/seat"))["add_on"] == made
    sent = {"code": "seat/large", "amount_cents": 0, "description": None, "tax_codes": []}
    changed = ok(api.put(f"{URL}/seat", json={"add_on": sent}))["add_on"]
    assert changed == {**made, "code": "seat/large", "amount_cents": 0, "description": None, "taxes": []}
    assert refusal(api.get(f"{URL}/seat")) == (404, "add_on_not_found")
    assert ok(api.delete(f"{URL}/seat/large"))["add_on"] == changed
    for answer in (
        api.get(f"{URL}/seat/large"),
        api.delete(f"{URL}/seat/large"),
        api.put(f"{URL}/seat/large", json={"add_on": {}}),
    ):
        assert refusal(answer) == (404, "add_on_not_found")
    assert make_add_on(api, "seat/large")["lago_id"] != made["lago_id"]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("name", "", "value_is_mandatory"),
        ("name", 3, "value_is_invalid"),
        ("code", None, "value_is_mandatory"),
        ("code", "a/", "value_is_invalid"),
        ("code", "a\x00", "value_is_invalid"),
        ("amount_cents", None, "value_is_mandatory"),
        ("amount_cents", -1, "value_is_out_of_range"),
        ("amount_cents", 10**30, "value_is_out_of_range"),
        ("amount_cents", 1.5, "value_is_invalid"),
        ("amount_currency", "XXX", "value_is_invalid"),
        ("tax_codes", "vat", "value_is_invalid"),
    ],
)
def test_broken_rules(api: httpx.Client, field: str, value: object, code: str) -> None:
    sent = {"name": "Seat", "code": "seat", "amount_cents": 1, "amount_currency": "EUR"}
    assert problems(api.post(URL, json={"add_on": {**sent, field: value}})) == {field: [code]}
    assert ok(api.get(URL))["add_ons"] == []
    made = make_add_on(api)
    assert problems(api.put(f"{URL}/seat", json={"add_on": {"name": "changed", field: value}})) == {field: [code]}
    assert ok(api.get(f"{URL}/seat"))["add_on"] == made


def test_all_that_is_missing_is_told_at_once(api: httpx.Client) -> None:
    mandatory = {field: ["value_is_mandatory"] for field in ("name", "code", "amount_cents", "amount_currency")}
    assert problems(api.post(URL, json={"add_on": {}})) == mandatory
    assert api.post(URL, json={}).status_code == 400


def test_codes_are_unique_and_taxes_known(api: httpx.Client) -> None:
    make_add_on(api)
    make_add_on(api, "desk")
    sent = {"name": "x", "code": "seat", "amount_cents": 1, "amount_currency": "EUR"}
    assert problems(api.post(URL, json={"add_on": sent})) == {"code": ["value_already_exist"]}
    assert problems(api.put(f"{URL}/desk", json={"add_on": {"code": "seat"}})) == {"code": ["value_already_exist"]}
    assert ok(api.put(f"{URL}/seat", json={"add_on": {"code": "seat"}}))
    unknown = {"add_on": {**sent, "code": "new", "tax_codes": ["none"]}}
    assert refusal(api.post(URL, json=unknown)) == (404, "tax_not_found")


def test_pages_newest_first_of_one_organization(api: httpx.Client, other: httpx.Client) -> None:
    for code in ("a", "b", "c"):
        make_add_on(api, code)
    page = ok(api.get(URL, params={"per_page": 2}))
    assert [one["code"] for one in page["add_ons"]] == ["c", "b"]
    assert (page["meta"]["total_count"], page["meta"]["next_page"]) == (3, 2)
    assert ok(other.get(URL))["add_ons"] == []
    assert refusal(other.get(f"{URL}/a")) == (404, "add_on_not_found")
    assert refusal(other.delete(f"{URL}/a")) == (404, "add_on_not_found")


def test_a_deleted_add_on_leaves_the_plans_and_not_the_invoices(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    for code in ("seat", "desk"):
        make_add_on(api, code)
    make_plan(api, fixed_charges=[fixed("seat"), fixed("desk", 3)])
    make_customer(api)
    make_subscription(api)
    set_clock(api, "2024-06-01T00:00:00Z")
    ok(api.delete(f"{URL}/seat"))
    plan = ok(api.get("/api/v1/plans/plan"))["plan"]
    assert [one["add_on_code"] for one in plan["fixed_charges"]] == ["desk"]
    set_clock(api, "2024-07-01T00:00:00Z")
    fees = ok(api.get("/api/v1/fees", params={"fee_type": "fixed_charge"}))["fees"]
    billed = [(one["from_date"][:7], one["item"]["code"], one["amount_cents"]) for one in fees]
    assert billed == [("2024-05", "seat", 1_000), ("2024-05", "desk", 300), ("2024-06", "desk", 300)]
