"""`/api/v1/customers`."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

URL = "/api/v1/customers"
FIELDS = {
    "lago_id", "sequential_id", "slug", "external_id", "billing_entity_code", "address_line1", "address_line2",
    "applicable_timezone", "city", "country", "currency", "email", "legal_name", "legal_number", "logo_url", "name",
    "firstname", "lastname", "account_type", "customer_type", "phone", "state", "tax_identification_number",
    "timezone", "url", "zipcode", "net_payment_term", "created_at", "updated_at", "finalize_zero_amount_invoice",
    "skip_invoice_custom_sections", "billing_configuration", "shipping_address", "metadata",
    "integration_customers", "taxes", "applicable_invoice_custom_sections", "error_details",
}  # fmt: skip
ADDRESS = {"address_line1": "1", "address_line2": "2", "city": "3", "zipcode": "4", "state": "5", "country": "DE"}


def problems(response: httpx.Response) -> dict:
    assert response.status_code == 422, response.text
    return response.json()["error_details"]


def post(api: httpx.Client, external_id: object = "c1", **fields: object) -> httpx.Response:
    return api.post(URL, json={"customer": {"external_id": external_id, **fields}})


def save(api: httpx.Client, external_id: str = "c1", **fields: object) -> dict:
    response = post(api, external_id, **fields)
    assert response.status_code == 200, response.text
    return response.json()["customer"]


def listed(api: httpx.Client, query: str) -> list[str]:
    response = api.get(f"{URL}?{query}")
    assert response.status_code == 200, response.text
    return sorted(customer["external_id"] for customer in response.json()["customers"])


class TestSave:
    def test_a_new_customer_has_every_field(self, api: httpx.Client) -> None:
        prefix = api.get("/api/v1/organizations").json()["organization"]["document_number_prefix"]
        made = save(api)
        assert made.keys() == FIELDS
        assert (made["sequential_id"], made["slug"]) == (1, f"{prefix}-001")
        neutral = {
            "name": None, "account_type": "customer", "customer_type": None, "currency": None, "timezone": None,
            "applicable_timezone": "UTC", "net_payment_term": None, "finalize_zero_amount_invoice": "inherit",
            "metadata": [], "taxes": [], "integration_customers": [], "applicable_invoice_custom_sections": [],
            "error_details": [], "skip_invoice_custom_sections": False, "shipping_address": dict.fromkeys(ADDRESS),
        }  # fmt: skip
        assert {field: made[field] for field in neutral} == neutral
        assert made["billing_configuration"]["document_locale"] is None
        assert api.get(f"{URL}/c1").json() == {"customer": made}
        assert save(api, "c2")["slug"] == f"{prefix}-002"

    def test_everything_that_is_sent_is_kept(self, api: httpx.Client) -> None:
        sent = {
            **ADDRESS, "currency": "EUR", "email": "a@b.example", "legal_name": "l", "legal_number": "n",
            "logo_url": "https://example.com/x.png", "name": "Ünïcode 🚀", "firstname": "f", "lastname": "g",
            "account_type": "partner", "customer_type": "company", "phone": "+1", "tax_identification_number": "t",
            "timezone": "Europe/Paris", "url": "https://example.com", "net_payment_term": 14,
            "finalize_zero_amount_invoice": "skip", "shipping_address": ADDRESS,
        }  # fmt: skip
        made = save(api, **sent, billing_configuration={"document_locale": "fr", "sync": True})
        assert {field: made[field] for field in sent} == sent
        assert made["applicable_timezone"] == "Europe/Paris"
        assert (made["billing_configuration"]["document_locale"], made["billing_configuration"]["sync"]) == (
            "fr",
            False,
        )

    def test_only_sent_keys_change_and_null_clears(self, api: httpx.Client) -> None:
        made = save(api, name="a", city="b", country="de", finalize_zero_amount_invoice="skip", account_type="partner")
        assert made["country"] == "DE"
        cleared = {"city": None, "country": None, "finalize_zero_amount_invoice": None, "account_type": None}
        changed = save(api, **cleared)
        same = {"lago_id", "sequential_id", "slug", "name", "created_at"}
        assert {field: changed[field] for field in same} == {field: made[field] for field in same}
        assert (changed["city"], changed["country"]) == (None, None)
        assert (changed["finalize_zero_amount_invoice"], changed["account_type"]) == ("inherit", "customer")
        assert api.get(URL).json()["meta"]["total_count"] == 1

    def test_the_organizations_timezone_applies_where_the_customer_has_none(self, api: httpx.Client) -> None:
        api.put("/api/v1/organizations", json={"organization": {"timezone": "Asia/Tokyo"}})
        assert save(api)["applicable_timezone"] == "Asia/Tokyo"
        assert save(api, timezone="UTC")["applicable_timezone"] == "UTC"

    def test_every_broken_rule_is_told_at_once(self, api: httpx.Client) -> None:
        sent = {
            "name": "x" * 256, "country": "XYZ", "email": "nobody", "timezone": "Nowhere", "currency": "EURO",
            "account_type": "friend", "customer_type": "robot", "finalize_zero_amount_invoice": "never",
        }  # fmt: skip
        assert problems(post(api, None, **sent)) == {
            "external_id": ["value_is_mandatory"],
            "name": ["value_is_too_long"],
            "country": ["not_a_valid_country_code"],
            "email": ["invalid_email_format"],
            "timezone": ["value_is_invalid"],
            "currency": ["value_is_invalid"],
            "account_type": ["value_is_invalid"],
            "customer_type": ["value_is_invalid"],
            "finalize_zero_amount_invoice": ["invalid_value"],
        }
        assert api.get(URL).json()["customers"] == []

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("external_id", "", "value_is_mandatory"),
            ("external_id", "a/b", "value_is_invalid"),
            ("external_id", "a\x00", "value_is_invalid"),
            ("external_id", 7, "value_is_invalid"),
            ("name", "\x00", "value_is_invalid"),
            ("net_payment_term", -1, "value_is_out_of_range"),
            ("net_payment_term", 10**30, "value_is_out_of_range"),
            ("net_payment_term", "soon", "value_is_invalid"),
            ("metadata", {"a": "b"}, "value_is_invalid"),
            ("tax_codes", "vat", "value_is_invalid"),
            ("shipping_address", "here", "value_is_invalid"),
            ("billing_configuration", [], "value_is_invalid"),
            ("integration_customers", [7], "value_is_invalid"),
            ("email", "a b@c.de", "invalid_email_format"),
        ],
    )
    def test_one_broken_rule(self, api: httpx.Client, field: str, value: object, code: str) -> None:
        found = problems(api.post(URL, json={"customer": {"external_id": "c1", field: value}}))
        assert found == {field: [code]}

    def test_shipping_country(self, api: httpx.Client) -> None:
        assert problems(post(api, shipping_address={"country": "?"})) == {"country": ["not_a_valid_country_code"]}
        assert save(api, shipping_address={"country": "fr"})["shipping_address"]["country"] == "FR"
        assert save(api, shipping_address=None)["shipping_address"]["country"] is None

    def test_root_is_mandatory(self, api: httpx.Client) -> None:
        for content in (b"{}", b"", b"[]", b"{", b'{"customer": null}'):
            assert api.post(URL, content=content).status_code == 400

    def test_billing_entity(self, api: httpx.Client) -> None:
        made = save(api)
        assert save(api, billing_entity_code=made["billing_entity_code"])["billing_entity_code"]
        unknown = post(api, billing_entity_code="nope")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "billing_entity_not_found")

    def test_taxes(self, api: httpx.Client) -> None:
        for code in ("vat", "city"):
            assert api.post("/api/v1/taxes", json={"tax": {"name": code, "code": code, "rate": 1}}).status_code == 200
        assert [tax["code"] for tax in save(api, tax_codes=["vat", "city"])["taxes"]] == ["city", "vat"]
        assert [tax["code"] for tax in save(api, name="x")["taxes"]] == ["city", "vat"]
        unknown = post(api, tax_codes=["nope"])
        assert (unknown.status_code, unknown.json()["code"]) == (404, "tax_not_found")
        api.delete("/api/v1/taxes/vat")
        assert [tax["code"] for tax in api.get(f"{URL}/c1").json()["customer"]["taxes"]] == ["city"]
        assert save(api, tax_codes=[])["taxes"] == []
        assert post(api, "new", tax_codes=["nope"]).status_code == 404
        assert api.get(f"{URL}/new").status_code == 404


class TestMetadata:
    def test_by_id_changed_added_and_removed(self, api: httpx.Client) -> None:
        sent = [{"key": "a", "value": "1", "display_in_invoice": True}, {"key": "b", "value": "2"}]
        first, second = save(api, metadata=sent)["metadata"]
        assert first.keys() == {"lago_id", "key", "value", "display_in_invoice", "created_at"}
        assert [(one["key"], one["value"], one["display_in_invoice"]) for one in (first, second)] == [
            ("a", "1", True),
            ("b", "2", False),
        ]
        changed = save(api, metadata=[{"id": second["lago_id"], "value": "3"}, {"key": "c", "value": "4"}])["metadata"]
        assert changed[0] == {**second, "value": "3"}
        assert [one["key"] for one in changed] == ["b", "c"]
        assert save(api, name="x")["metadata"] == changed
        assert save(api, metadata=None)["metadata"] == []

    def test_rules(self, api: httpx.Client) -> None:
        many = [{"key": str(number), "value": "v"} for number in range(6)]
        assert problems(post(api, metadata=many)) == {"metadata": ["invalid_count"]}
        assert len(save(api, metadata=many[:5])["metadata"]) == 5
        assert len(save(api, metadata=many[1:])["metadata"]) == 5
        missing = problems(post(api, metadata=[{"key": None, "display_in_invoice": None}]))
        assert missing == {"key": ["value_is_mandatory"], "value": ["value_is_mandatory"]}
        twice = [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]
        assert problems(post(api, metadata=twice)) == {"key": ["value_already_exist"]}


class TestConcurrency:
    def test_numbers_have_no_gaps_and_no_doubles(self, api: httpx.Client) -> None:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: save(api, f"c{number}"), range(24)))
        assert sorted(customer["sequential_id"] for customer in made) == list(range(1, 25))

    def test_one_external_id_is_one_customer(self, api: httpx.Client) -> None:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: save(api, name=str(number)), range(16)))
        assert len({customer["lago_id"] for customer in made}) == 1
        assert save(api, "next")["sequential_id"] == 2


class TestFindAndDelete:
    @pytest.mark.parametrize("external_id", ["a b", "ä?&#%", "x.json", "🚀", "c:1@d;e=f", "a+b", "%41"])
    def test_external_ids_of_any_characters(self, api: httpx.Client, external_id: str) -> None:
        made = save(api, external_id)
        assert api.get(f"{URL}/{quote(external_id, safe='')}").json()["customer"] == made

    def test_delete(self, api: httpx.Client) -> None:
        made = save(api)
        gone = api.delete(f"{URL}/c1").json()["customer"]
        assert gone["lago_id"] == made["lago_id"]
        for response in (api.get(f"{URL}/c1"), api.delete(f"{URL}/c1"), api.get(f"{URL}/never")):
            assert (response.status_code, response.json()["code"]) == (404, "customer_not_found")
        again = save(api)
        assert again["lago_id"] != made["lago_id"]
        assert again["sequential_id"] == 2

    def test_another_organizations_customer_is_not_found(self, api: httpx.Client, admin: httpx.Client) -> None:
        made = save(api)
        other = admin.post("/admin/organizations", json={"organization": {"name": "Other"}}).json()["organization"]
        headers = {"Authorization": f"Bearer {other['api_key']}"}
        for method in ("GET", "DELETE"):
            response = api.request(method, f"{URL}/c1", headers=headers)
            assert (response.status_code, response.json()["code"]) == (404, "customer_not_found")
        assert api.get(URL, headers=headers).json()["customers"] == []
        theirs = api.post(URL, headers=headers, json={"customer": {"external_id": "c1"}}).json()["customer"]
        assert theirs["lago_id"] != made["lago_id"]
        assert theirs["sequential_id"] == 1

    def test_nul_in_a_path_or_query(self, api: httpx.Client) -> None:
        assert api.get(f"{URL}/%00").status_code == 404
        assert api.get(f"{URL}?search_term=%00").status_code == 422


class TestList:
    def test_pages_newest_first(self, api: httpx.Client) -> None:
        for number in range(3):
            save(api, f"c{number}")
        page = api.get(URL, params={"per_page": 2, "page": 1}).json()
        assert [customer["external_id"] for customer in page["customers"]] == ["c2", "c1"]
        assert page["meta"] == {
            "current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 3,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["a", "b", "c"]),
            ("search_term=ALPHA", ["a"]),
            ("search_term=beta.example", ["b"]),
            ("search_term=%25", []),
            ("search_term=_", []),
            ("external_id=b", ["b"]),
            ("account_type[]=partner", ["b"]),
            ("account_type[]=partner&account_type[]=customer", ["a", "b", "c"]),
            ("countries[]=DE&countries[]=fr", ["a", "b"]),
            ("currencies[]=EUR", ["a"]),
            ("states[]=TX", ["b"]),
            ("zipcodes[]=123&zipcodes[]=456", ["a", "b"]),
            ("has_tax_identification_number=true", ["a"]),
            ("has_tax_identification_number=false", ["b", "c"]),
            ("customer_type=company", ["a"]),
            ("has_customer_type=true", ["a", "b"]),
            ("has_customer_type=false", ["c"]),
            ("metadata[tier]=gold", ["a"]),
            ("metadata[tier]=gold&metadata[seat]=1", ["a"]),
            ("metadata[tier]=gold&metadata[seat]=2", []),
            ("metadata[tier]=", ["c"]),
            ("billing_entity_codes[]=nope", []),
            ("billing_entity_codes[]=nope&billing_entity_codes[]=default", ["a", "b", "c"]),
            ("currencies[]=EUR&countries[]=FR", []),
        ],
    )
    def test_filters(self, api: httpx.Client, query: str, found: list[str]) -> None:
        gold = [{"key": "tier", "value": "gold"}, {"key": "seat", "value": "1"}]
        save(api, "a", name="Alpha", country="DE", currency="EUR", zipcode="123", tax_identification_number="1",
             customer_type="company", metadata=gold)  # fmt: skip
        save(api, "b", email="x@beta.example", country="FR", state="TX", zipcode="456", account_type="partner",
             customer_type="individual", metadata=[{"key": "tier", "value": "basic"}])  # fmt: skip
        save(api, "c", tax_identification_number="")
        assert listed(api, query) == found

    def test_unknown_choices(self, api: httpx.Client) -> None:
        assert problems(api.get(f"{URL}?customer_type=robot&account_type[]=friend")) == {
            "customer_type": ["value_is_invalid"],
            "account_type": ["value_is_invalid"],
        }
