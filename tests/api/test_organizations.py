"""Organizations and API keys: `/admin/organizations` and `/api/v1/organizations`."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

ORGANIZATION_FIELDS = {
    "lago_id", "name", "created_at", "webhook_url", "webhook_urls", "country", "default_currency", "address_line1",
    "address_line2", "state", "zipcode", "email", "city", "legal_name", "legal_number", "document_numbering",
    "document_number_prefix", "net_payment_term", "tax_identification_number", "timezone", "email_settings",
    "billing_configuration", "taxes", "finalize_zero_amount_invoice", "events_store",
}  # fmt: skip


def problems(response: httpx.Response) -> dict:
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (422, 422, "validation_errors"), response.text
    return body["error_details"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def make_organization(admin: httpx.Client, **fields: object) -> dict:
    response = admin.post("/admin/organizations", json={"organization": {"name": "Globex", **fields}})
    assert response.status_code == 200, response.text
    return response.json()["organization"]


def make_key(admin: httpx.Client, organization: dict, **fields: object) -> dict:
    response = admin.post(f"/admin/organizations/{organization['lago_id']}/api_keys", json={"api_key": fields})
    assert response.status_code == 200, response.text
    return response.json()["api_key"]


class TestAdminOrganizations:
    def test_create_shows_the_first_key_and_every_field(self, admin: httpx.Client) -> None:
        made = make_organization(admin)
        assert made.keys() == ORGANIZATION_FIELDS | {"sandbox", "api_key"}
        assert (made["name"], made["sandbox"], made["timezone"]) == ("Globex", False, "UTC")
        assert made["document_number_prefix"] == f"GLO-{made['lago_id'][-4:].upper()}"
        answer = admin.get("/api/v1/organizations", headers=bearer(made["api_key"]))
        assert answer.json()["organization"]["lago_id"] == made["lago_id"]

    @pytest.mark.parametrize(
        ("name", "letters"), [("My organization", "MYO"), ("Ünal & Söhne", "UNA"), ("7-Up", "7UP"), ("北京", "ORG")]
    )
    def test_a_prefix_has_letters_and_digits_only(self, admin: httpx.Client, name: str, letters: str) -> None:
        made = make_organization(admin, name=name)
        assert made["document_number_prefix"] == f"{letters}-{made['lago_id'][-4:].upper()}"

    def test_create_takes_optional_fields(self, admin: httpx.Client) -> None:
        made = make_organization(admin, sandbox=True, timezone="Europe/Paris", default_currency="EUR", country="fr")
        assert (made["sandbox"], made["timezone"], made["default_currency"]) == (True, "Europe/Paris", "EUR")
        assert made["country"] == "FR"

    def test_name_is_mandatory(self, admin: httpx.Client) -> None:
        for body in ({}, {"name": None}, {"name": ""}):
            found = problems(admin.post("/admin/organizations", json={"organization": body}))
            assert found == {"name": ["value_is_mandatory"]}

    def test_root_is_mandatory(self, admin: httpx.Client) -> None:
        response = admin.post("/admin/organizations", json={})
        assert response.status_code == 400
        assert response.json()["error"].startswith("BadRequest: ")

    def test_list_and_find(self, admin: httpx.Client) -> None:
        made = make_organization(admin)
        listed = admin.get("/admin/organizations", params={"per_page": 1}).json()
        assert [one["lago_id"] for one in listed["organizations"]] == [made["lago_id"]]
        assert listed["organizations"][0].keys() == ORGANIZATION_FIELDS | {"sandbox"}
        assert listed["meta"]["current_page"] == 1
        assert listed["meta"]["total_pages"] == listed["meta"]["total_count"]
        found = admin.get(f"/admin/organizations/{made['lago_id']}").json()["organization"]
        assert found == listed["organizations"][0]

    @pytest.mark.parametrize("unknown", ["7f0c0f5c-6a4e-4d0e-9b77-2f6a4f1d9a10", "x", "%20", "%F0%9F%98%80"])
    def test_unknown_is_not_found(self, admin: httpx.Client, unknown: str) -> None:
        for response in (
            admin.get(f"/admin/organizations/{unknown}"),
            admin.get(f"/admin/organizations/{unknown}/api_keys"),
            admin.post(f"/admin/organizations/{unknown}/api_keys", json={"api_key": {}}),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "organization_not_found")

    def test_only_the_admin_key_opens_it(self, api: httpx.Client) -> None:
        for headers in ({}, bearer("wrong"), {"Authorization": ""}, {"Authorization": "Bearer"}):
            assert api.get("/admin/organizations", headers=headers).status_code == 401


class TestOrganization:
    def test_update_and_read(self, api: httpx.Client) -> None:
        sent = {
            "country": "de", "default_currency": "JPY", "address_line1": "a", "address_line2": "b", "state": "c",
            "zipcode": "d", "email": "a@b.example", "city": "e", "legal_name": "f", "legal_number": "g",
            "document_numbering": "per_organization", "document_number_prefix": "inv", "net_payment_term": 30,
            "tax_identification_number": "h", "timezone": "Asia/Kolkata", "finalize_zero_amount_invoice": False,
            "email_settings": ["invoice.finalized"], "webhook_url": "https://example.com",
            "billing_configuration": {"invoice_footer": "i", "document_locale": "fr", "invoice_grace_period": 3},
        }  # fmt: skip
        answer = api.put("/api/v1/organizations", json={"organization": sent})
        assert answer.status_code == 200, answer.text
        shown = answer.json()["organization"]
        assert shown.keys() == ORGANIZATION_FIELDS
        neutral = {"country": "DE", "document_number_prefix": "INV", "webhook_url": None}
        assert {field: shown[field] for field in sent} == {**sent, **neutral}
        assert api.get("/api/v1/organizations").json()["organization"] == shown

    def test_absent_leaves_unchanged_and_null_clears(self, api: httpx.Client) -> None:
        api.put("/api/v1/organizations", json={"organization": {"city": "Bonn", "country": "DE", "email": "a@b.de"}})
        shown = api.put("/api/v1/organizations", json={"organization": {"country": None, "email": ""}}).json()
        assert [shown["organization"][field] for field in ("city", "country", "email")] == ["Bonn", None, None]

    def test_every_broken_rule_is_told_at_once(self, api: httpx.Client) -> None:
        sent = {
            "country": "D1", "default_currency": "XXX", "email": "nobody", "document_numbering": "per_day",
            "document_number_prefix": "ELEVENCHARS", "timezone": "Mars/Olympus", "email_settings": ["x"],
        }  # fmt: skip
        assert problems(api.put("/api/v1/organizations", json={"organization": sent})) == {
            "country": ["not_a_valid_country_code"],
            "default_currency": ["value_is_invalid"],
            "email": ["invalid_email_format"],
            "document_numbering": ["value_is_invalid"],
            "document_number_prefix": ["value_is_too_long"],
            "timezone": ["value_is_invalid"],
            "email_settings": ["value_is_invalid"],
        }

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("default_currency", None, "value_is_mandatory"),
            ("timezone", None, "value_is_mandatory"),
            ("timezone", "", "value_is_mandatory"),
            ("net_payment_term", None, "value_is_mandatory"),
            ("net_payment_term", -1, "value_is_out_of_range"),
            ("net_payment_term", 10**30, "value_is_out_of_range"),
            ("net_payment_term", 1.5, "value_is_invalid"),
            ("net_payment_term", "soon", "value_is_invalid"),
            ("document_numbering", None, "value_is_mandatory"),
            ("document_number_prefix", "", "value_is_mandatory"),
            ("finalize_zero_amount_invoice", None, "value_is_mandatory"),
            ("finalize_zero_amount_invoice", "yes", "value_is_invalid"),
            ("country", "DEU", "not_a_valid_country_code"),
            ("country", "DE\n", "not_a_valid_country_code"),
            ("city", "a\x00b", "value_is_invalid"),
            ("city", 7, "value_is_invalid"),
            ("billing_configuration", [], "value_is_invalid"),
        ],
    )
    def test_one_broken_rule(self, api: httpx.Client, field: str, value: object, code: str) -> None:
        before = api.get("/api/v1/organizations").json()
        sent = {"city": "changed", field: value}
        assert problems(api.put("/api/v1/organizations", json={"organization": sent})) == {field: [code]}
        assert api.get("/api/v1/organizations").json() == before

    def test_taxes_applied_to_the_organization_are_shown(self, api: httpx.Client) -> None:
        for code, applied in (("in", True), ("out", False)):
            tax = {"name": code, "code": code, "rate": 5, "applied_to_organization": applied}
            assert api.post("/api/v1/taxes", json={"tax": tax}).status_code == 200
        assert [tax["code"] for tax in api.get("/api/v1/organizations").json()["organization"]["taxes"]] == ["in"]


class TestApiKeys:
    def test_life_of_a_key(self, admin: httpx.Client) -> None:
        organization = make_organization(admin)
        made = make_key(admin, organization, name="ci", permissions={"plan": ["read", "write"]})
        value = made.pop("value")
        assert made["hint"] == f"••••{value[-4:]}"
        assert (made["name"], made["status"], made["permissions"]) == ("ci", "active", {"plan": ["read", "write"]})
        assert (made["expires_at"], made["revoked_at"]) == (None, None)
        keys = f"/admin/organizations/{organization['lago_id']}/api_keys"
        listed = admin.get(keys).json()
        assert listed["meta"]["total_count"] == 2
        assert made in listed["api_keys"]
        assert all("value" not in key for key in listed["api_keys"])

        assert admin.get("/api/v1/plans", headers=bearer(value)).status_code == 200
        revoked = admin.delete(f"{keys}/{made['lago_id']}").json()["api_key"]
        assert revoked["status"] == "revoked"
        assert revoked["revoked_at"] is not None
        assert admin.get("/api/v1/plans", headers=bearer(value)).status_code == 401
        assert admin.delete(f"{keys}/{made['lago_id']}").json()["api_key"] == revoked

    def test_permissions_limit_a_key(self, admin: httpx.Client) -> None:
        organization = make_organization(admin)
        key = bearer(make_key(admin, organization, permissions={"customer": ["read"], "tax": ["write"]})["value"])
        assert admin.get("/api/v1/customers", headers=key).status_code == 200
        for method, path, code in (
            ("POST", "/api/v1/customers", "write_action_not_allowed_for_customer"),
            ("DELETE", "/api/v1/customers/x", "write_action_not_allowed_for_customer"),
            ("GET", "/api/v1/taxes", "read_action_not_allowed_for_tax"),
            ("GET", "/api/v1/plans", "read_action_not_allowed_for_plan"),
            ("PUT", "/api/v1/billable_metrics/x", "write_action_not_allowed_for_billable_metric"),
            ("GET", "/api/v1/organizations", "read_action_not_allowed_for_organization"),
        ):
            response = admin.request(method, path, headers=key, json={} if method != "GET" else None)
            assert (response.status_code, response.json().get("code")) == (403, code)

    def test_no_permissions_at_all_allow_nothing(self, admin: httpx.Client) -> None:
        key = bearer(make_key(admin, make_organization(admin), permissions={})["value"])
        assert admin.get("/api/v1/customers", headers=key).status_code == 403

    def test_expiry(self, admin: httpx.Client) -> None:
        organization = make_organization(admin)
        soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = make_key(admin, organization, expires_at=soon)
        assert (made["expires_at"], made["status"]) == (soon, "active")
        keys = f"/admin/organizations/{organization['lago_id']}/api_keys"
        for bad in ("2020-01-01T00:00:00Z", "tomorrow", "", "2020-01-01", "9999999999999"):
            found = problems(admin.post(keys, json={"api_key": {"expires_at": bad}}))
            assert found == {"expires_at": ["invalid_date"]}

    def test_rotate_stops_the_old_key_at_once(self, admin: httpx.Client) -> None:
        organization = make_organization(admin)
        old = make_key(admin, organization, name="ci", permissions={"plan": ["read"]})
        assert admin.get("/api/v1/plans", headers=bearer(old["value"])).status_code == 200
        rotate = f"/admin/organizations/{organization['lago_id']}/api_keys/{old['lago_id']}/rotate"
        new = admin.post(rotate).json()["api_key"]
        assert (new["name"], new["permissions"], new["expires_at"]) == ("ci", {"plan": ["read"]}, None)
        assert new["lago_id"] != old["lago_id"]
        assert admin.get("/api/v1/plans", headers=bearer(old["value"])).status_code == 401
        assert admin.get("/api/v1/plans", headers=bearer(new["value"])).status_code == 200
        again = admin.post(rotate)
        assert (again.status_code, again.json()["code"]) == (405, "api_key_not_active")

    def test_rotate_with_a_date_lets_both_keys_live(self, admin: httpx.Client) -> None:
        organization = make_organization(admin)
        old = make_key(admin, organization)
        keys = f"/admin/organizations/{organization['lago_id']}/api_keys"
        soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = admin.post(f"{keys}/{old['lago_id']}/rotate", json={"api_key": {"expires_at": soon}}).json()["api_key"]
        for key in (old, new):
            assert admin.get("/api/v1/plans", headers=bearer(key["value"])).status_code == 200
        shown = {key["lago_id"]: key for key in admin.get(keys).json()["api_keys"]}
        assert (shown[old["lago_id"]]["expires_at"], shown[old["lago_id"]]["status"]) == (soon, "active")
        past = admin.post(f"{keys}/{new['lago_id']}/rotate", json={"api_key": {"expires_at": "2020-01-01T00:00:00Z"}})
        assert problems(past) == {"expires_at": ["invalid_date"]}
        assert admin.get("/api/v1/plans", headers=bearer(new["value"])).status_code == 200

    def test_wrong_permissions(self, admin: httpx.Client) -> None:
        keys = f"/admin/organizations/{make_organization(admin)['lago_id']}/api_keys"
        for bad in ({"plan": ["own"]}, {"plan": "read"}, ["plan"], "all"):
            found = problems(admin.post(keys, json={"api_key": {"permissions": bad}}))
            assert found == {"permissions": ["value_is_invalid"]}

    def test_another_organizations_key_is_not_found(self, admin: httpx.Client) -> None:
        mine, other = make_organization(admin), make_organization(admin)
        key = make_key(admin, other)
        keys = f"/admin/organizations/{mine['lago_id']}/api_keys"
        for unknown in (key["lago_id"], str(uuid4()), "x"):
            for response in (admin.delete(f"{keys}/{unknown}"), admin.post(f"{keys}/{unknown}/rotate")):
                assert (response.status_code, response.json()["code"]) == (404, "api_key_not_found")
        assert admin.get("/api/v1/plans", headers=bearer(key["value"])).status_code == 200
