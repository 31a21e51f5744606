"""`/api/v1/taxes`."""

import httpx
import pytest

FIELDS = {
    "lago_id", "name", "code", "rate", "description", "applied_to_organization", "created_at", "add_ons_count",
    "customers_count", "plans_count", "charges_count", "commitments_count",
}  # fmt: skip


def problems(response: httpx.Response) -> dict:
    assert response.status_code == 422, response.text
    return response.json()["error_details"]


def make_tax(api: httpx.Client, **fields: object) -> dict:
    response = api.post("/api/v1/taxes", json={"tax": {"name": "VAT", "code": "vat", "rate": 20, **fields}})
    assert response.status_code == 200, response.text
    return response.json()["tax"]


def test_create_find_update_delete(api: httpx.Client) -> None:
    made = make_tax(api, description="d")
    assert made.keys() == FIELDS
    assert (made["rate"], made["applied_to_organization"], made["description"]) == (20, False, "d")
    assert api.get("/api/v1/taxes/vat").json() == {"tax": made}
    changed = api.put("/api/v1/taxes/vat", json={"tax": {"rate": "5.5", "code": "vat/5.5", "description": None}}).json()
    assert changed["tax"] == {**made, "rate": 5.5, "code": "vat/5.5", "description": None}
    assert api.get("/api/v1/taxes/vat").status_code == 404
    assert api.delete("/api/v1/taxes/vat/5.5").json() == changed
    for response in (api.get("/api/v1/taxes/vat/5.5"), api.delete("/api/v1/taxes/vat/5.5")):
        assert (response.status_code, response.json()["code"]) == (404, "tax_not_found")
    assert make_tax(api, code="vat/5.5")["lago_id"] != made["lago_id"]


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, "0"), ("19.600", "19.6"), (7.7, "7.7"), ("0.000000000000001", "0.000000000000001")]
)
def test_rates_are_exact(api: httpx.Client, rate: object, shown: str) -> None:
    make_tax(api, rate=rate)
    assert f'"rate":{shown},' in api.get("/api/v1/taxes/vat").text


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("rate", -1, "value_is_out_of_range"),
        ("rate", "1e30", "value_is_out_of_range"),
        ("rate", "Infinity", "value_is_out_of_range"),
        ("rate", "NaN", "value_is_out_of_range"),
        ("rate", "ten", "value_is_invalid"),
        ("rate", None, "value_is_mandatory"),
        ("name", "", "value_is_mandatory"),
        ("name", 3, "value_is_invalid"),
        ("code", "a\x00", "value_is_invalid"),
        ("applied_to_organization", "yes", "value_is_invalid"),
    ],
)
def test_broken_rules(api: httpx.Client, field: str, value: object, code: str) -> None:
    sent = {"name": "VAT", "code": "vat", "rate": 1, field: value}
    assert problems(api.post("/api/v1/taxes", json={"tax": sent})) == {field: [code]}
    assert api.get("/api/v1/taxes").json()["taxes"] == []


def test_all_that_is_missing_is_told_at_once(api: httpx.Client) -> None:
    mandatory = {field: ["value_is_mandatory"] for field in ("name", "code", "rate")}
    assert problems(api.post("/api/v1/taxes", json={"tax": {}})) == mandatory


def test_codes_are_unique(api: httpx.Client) -> None:
    make_tax(api)
    make_tax(api, code="other")
    taken = {"code": ["value_already_exist"]}
    assert problems(api.post("/api/v1/taxes", json={"tax": {"name": "x", "code": "vat", "rate": 1}})) == taken
    assert problems(api.put("/api/v1/taxes/other", json={"tax": {"code": "vat"}})) == taken
    assert api.put("/api/v1/taxes/vat", json={"tax": {"code": "vat"}}).status_code == 200


def test_pages(api: httpx.Client) -> None:
    empty = {"current_page": 0, "next_page": None, "prev_page": None, "total_pages": 0, "total_count": 0}
    assert api.get("/api/v1/taxes").json() == {"taxes": [], "meta": empty}
    for number in range(3):
        make_tax(api, code=str(number))
    first = api.get("/api/v1/taxes", params={"per_page": 2}).json()
    assert first["meta"] == {"current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 3}
    second = api.get("/api/v1/taxes", params={"per_page": 2, "page": 2}).json()
    assert second["meta"] == {"current_page": 2, "next_page": None, "prev_page": 1, "total_pages": 2, "total_count": 3}
    assert {tax["code"] for page in (first, second) for tax in page["taxes"]} == {"0", "1", "2"}
    past = api.get("/api/v1/taxes", params={"per_page": 2, "page": 9}).json()
    assert (past["taxes"], past["meta"]["current_page"], past["meta"]["next_page"]) == ([], 9, None)
    for bad in ({"page": 0}, {"page": "x"}, {"page": 10**30}, {"per_page": 0}, {"per_page": -1}):
        assert problems(api.get("/api/v1/taxes", params=bad)) == {next(iter(bad)): ["value_is_invalid"]}


def test_another_organizations_tax_is_not_found(api: httpx.Client, admin: httpx.Client) -> None:
    make_tax(api)
    other = admin.post("/admin/organizations", json={"organization": {"name": "Other"}}).json()["organization"]
    headers = {"Authorization": f"Bearer {other['api_key']}"}
    for response in (
        api.get("/api/v1/taxes/vat", headers=headers),
        api.put("/api/v1/taxes/vat", headers=headers, json={"tax": {"name": "mine"}}),
        api.delete("/api/v1/taxes/vat", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "tax_not_found")
    assert api.get("/api/v1/taxes", headers=headers).json()["taxes"] == []
    assert api.get("/api/v1/taxes/vat").json()["tax"]["name"] == "VAT"
