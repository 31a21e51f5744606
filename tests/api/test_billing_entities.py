"""Billing entities: several issuers of invoices in one organization (billing spec 0.2, 2.2, 3.2, 3.4, 4.2)."""

import threading
from collections import defaultdict
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_customer,
    make_entity,
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
from tests.support import Server

URL = "/api/v1/billing_entities"
LISTED = {
    "lago_id", "code", "name", "default_currency", "document_locale", "document_numbering", "document_number_prefix",
    "finalize_zero_amount_invoice", "invoice_footer", "invoice_grace_period",
    "subscription_invoice_issuing_date_anchor", "subscription_invoice_issuing_date_adjustment", "is_default",
    "net_payment_term", "address_line1", "address_line2", "city", "state", "country", "zipcode", "email", "phone",
    "legal_name", "legal_number", "tax_identification_number", "timezone", "email_settings", "eu_tax_management",
    "logo_url", "created_at", "updated_at",
}  # fmt: skip
WHOLE = LISTED | {"taxes", "selected_invoice_custom_sections"}
EVERYTHING: Json = {
    "name": "Tokyo branch", "default_currency": "JPY", "document_numbering": "per_billing_entity",
    "document_number_prefix": "tky", "finalize_zero_amount_invoice": False, "net_payment_term": 45,
    "address_line1": "a", "address_line2": "b", "city": "c", "state": "d", "country": "jp", "zipcode": "e",
    "email": "f@g.example", "phone": "h", "legal_name": "i", "legal_number": "j", "tax_identification_number": "k",
    "timezone": "Asia/Tokyo", "email_settings": ["invoice.finalized", "credit_note.created"],
    "eu_tax_management": True, "logo": "https://example.com/logo.png",
    "billing_configuration": {
        "invoice_footer": "l", "document_locale": "fr", "invoice_grace_period": 4,
        "subscription_invoice_issuing_date_anchor": "current_period_end",
        "subscription_invoice_issuing_date_adjustment": "keep_anchor",
    },
}  # fmt: skip
NOON = 1_715_342_400


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 May 2024 with a metered plan that is paid for in arrears."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, charges=[standard(make_metric(api, "calls"))], amount_cents=3_100)
    return api


def update(api: httpx.Client, code: str, **fields: object) -> Json:
    entity: Json = ok(api.put(f"{URL}/{code}", json={"billing_entity": fields}))["billing_entity"]
    return entity


def read(api: httpx.Client, code: str = "default") -> Json:
    entity: Json = ok(api.get(f"{URL}/{code}"))["billing_entity"]
    return entity


def flat(sent: Json) -> Json:
    """What was sent, as it is shown."""
    fields = {**sent, **sent["billing_configuration"], "logo_url": sent["logo"]}
    shown = {name: value for name, value in fields.items() if name not in {"billing_configuration", "logo"}}
    return {
        **shown,
        "country": shown["country"].upper(),
        "document_number_prefix": shown["document_number_prefix"].upper(),
        "email_settings": sorted(shown["email_settings"]),
    }


def of_each(api: httpx.Client) -> dict[str, list[Json]]:
    """All invoices by billing entity, in the order of their numbers."""
    found: dict[str, list[Json]] = defaultdict(list)
    for one in invoices_of(api):
        found[one["billing_entity_code"]].append(one)
    return {code: sorted(invoices, key=lambda one: one["number"]) for code, invoices in found.items()}


def check_numbers(api: httpx.Client, per_entity: dict[str, str]) -> None:
    """No number is left out: neither of a customer with an entity, nor of an entity that counts its own."""
    for code, invoices in of_each(api).items():
        by_customer: dict[str, list[int]] = defaultdict(list)
        for one in invoices:
            by_customer[one["customer"]["external_id"]].append(one["sequential_id"])
        for given_ in by_customer.values():
            assert sorted(given_) == list(range(1, len(given_) + 1))
        assert len({one["number"] for one in invoices}) == len(invoices)
        if code in per_entity:
            counted = sorted(int(one["number"].rpartition("-")[2]) for one in invoices)
            assert counted == list(range(1, len(invoices) + 1))
            assert {one["number"].split("-")[0] for one in invoices} == {per_entity[code]}


class TestSettings:
    def test_the_default_one_is_made_with_the_organization(self, api: httpx.Client) -> None:
        (default,) = ok(api.get(URL))["billing_entities"]
        assert default.keys() == LISTED
        organization = ok(api.get("/api/v1/organizations"))["organization"]
        assert (default["code"], default["is_default"], default["name"]) == ("default", True, organization["name"])
        assert default["document_number_prefix"] == organization["document_number_prefix"]
        assert read(api) == {**default, "taxes": [], "selected_invoice_custom_sections": []}

    def test_every_field_is_kept(self, api: httpx.Client) -> None:
        made = make_entity(api, "tokyo", **EVERYTHING)
        assert made.keys() == WHOLE
        wanted = {**flat(EVERYTHING), "code": "tokyo", "is_default": False, "taxes": []}
        assert {name: made[name] for name in wanted} == wanted
        assert read(api, "tokyo") == made
        make_entity(api, "paris")
        changed = update(api, "paris", **EVERYTHING)
        assert {name: changed[name] for name in flat(EVERYTHING)} == flat(EVERYTHING)
        assert sorted(one["code"] for one in ok(api.get(URL))["billing_entities"]) == ["default", "paris", "tokyo"]

    def test_what_is_not_sent(self, api: httpx.Client) -> None:
        made = make_entity(api, "paris", name="Paris branch")
        wanted = {
            "default_currency": "USD", "document_locale": "en", "document_numbering": "per_customer",
            "document_number_prefix": f"PAR-{made['lago_id'][-4:].upper()}", "finalize_zero_amount_invoice": True,
            "invoice_footer": None, "invoice_grace_period": 0, "net_payment_term": 0, "timezone": "UTC",
            "subscription_invoice_issuing_date_anchor": "next_period_start", "email_settings": [],
            "subscription_invoice_issuing_date_adjustment": "align_with_finalization_date",
            "eu_tax_management": False, "logo_url": None, "country": None, "phone": None,
        }  # fmt: skip
        assert {name: made[name] for name in wanted} == wanted
        update(api, "paris", city="Paris", document_number_prefix="x", logo="data:image/png;base64,AAAA")
        changed = update(api, "paris", city=None, document_number_prefix=None, logo=None)
        assert {name: changed[name] for name in wanted} == wanted
        assert update(api, "paris", city="Paris")["city"] == update(api, "paris", state="x")["city"]

    def test_the_organization_shows_the_default_one(self, api: httpx.Client) -> None:
        make_entity(api, "paris")
        sent = {
            "document_numbering": "per_organization", "timezone": "Asia/Tokyo", "net_payment_term": 7,
            "billing_configuration": {"invoice_footer": "thanks", "document_locale": "fr", "invoice_grace_period": 2},
        }  # fmt: skip
        ok(api.put("/api/v1/organizations", json={"organization": sent}))
        default = read(api)
        assert (default["document_numbering"], default["timezone"]) == ("per_billing_entity", "Asia/Tokyo")
        assert (default["invoice_footer"], default["invoice_grace_period"]) == ("thanks", 2)
        update(api, "default", document_numbering="per_customer", city="Kyoto", name="Head office")
        organization = ok(api.get("/api/v1/organizations"))["organization"]
        assert (organization["document_numbering"], organization["city"]) == ("per_customer", "Kyoto")
        assert (organization["name"], organization["net_payment_term"]) == ("Sandbox", 7)
        assert read(api, "paris")["timezone"] == "UTC"
        wrong = api.put("/api/v1/organizations", json={"organization": {"document_numbering": "per_billing_entity"}})
        assert problems(wrong) == {"document_numbering": ["value_is_invalid"]}

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("code", "default", "value_already_exist"),
            ("code", "", "value_is_mandatory"),
            ("code", None, "value_is_mandatory"),
            ("code", "a/../b", "value_is_invalid"),
            ("code", "a" * 256, "value_is_too_long"),
            ("name", "", "value_is_mandatory"),
            ("name", "n" * 256, "value_is_too_long"),
            ("default_currency", "XXX", "value_is_invalid"),
            ("default_currency", None, "value_is_mandatory"),
            ("timezone", "Mars/Olympus", "value_is_invalid"),
            ("timezone", None, "value_is_mandatory"),
            ("country", "DEU", "not_a_valid_country_code"),
            ("email", "nobody", "invalid_email_format"),
            ("document_numbering", "per_organization", "value_is_invalid"),
            ("document_number_prefix", "ELEVENCHARS", "value_is_too_long"),
            ("document_number_prefix", "", "value_is_mandatory"),
            ("net_payment_term", -1, "value_is_out_of_range"),
            ("net_payment_term", "soon", "value_is_invalid"),
            ("email_settings", ["x"], "value_is_invalid"),
            ("eu_tax_management", "yes", "value_is_invalid"),
            ("eu_tax_management", None, "value_is_mandatory"),
            ("logo", "javascript:alert(1)", "value_is_invalid"),
            ("city", "a\x00b", "value_is_invalid"),
        ],
    )
    def test_one_broken_rule(self, api: httpx.Client, field: str, value: object, code: str) -> None:
        sent = {"code": "new", "name": "New", "city": "x", field: value}
        assert problems(api.post(URL, json={"billing_entity": sent})) == {field: [code]}
        if field != "code":
            before = read(api)
            changed = api.put(f"{URL}/default", json={"billing_entity": {"city": "x", field: value}})
            assert problems(changed) == {field: [code]}
            assert read(api) == before
        assert [one["code"] for one in ok(api.get(URL))["billing_entities"]] == ["default"]

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("subscription_invoice_issuing_date_anchor", "whenever", "value_is_invalid"),
            ("subscription_invoice_issuing_date_adjustment", "none", "value_is_invalid"),
            ("invoice_grace_period", None, "value_is_mandatory"),
        ],
    )
    def test_one_broken_rule_of_the_configuration(
        self, api: httpx.Client, field: str, value: object, code: str
    ) -> None:
        sent = {"code": "new", "name": "New", "billing_configuration": {field: value}}
        assert problems(api.post(URL, json={"billing_entity": sent})) == {field: [code]}

    def test_one_of_another_organization_is_not_found(self, api: httpx.Client, other: httpx.Client) -> None:
        make_entity(api, "paris")
        missing = (404, "billing_entity_not_found")
        for code in ("paris", "%00", "none"):
            assert refusal(other.get(f"{URL}/{code}")) == missing
            assert refusal(other.put(f"{URL}/{code}", json={"billing_entity": {"name": "x"}})) == missing
        customer = {"external_id": "c", "billing_entity_code": "paris"}
        assert refusal(other.post("/api/v1/customers", json={"customer": customer})) == missing
        make_entity(other, "paris", name="Another")
        assert read(api, "paris")["name"] == "Paris"

    def test_a_key_needs_the_permission(self, server: Server, admin: httpx.Client, api: httpx.Client) -> None:
        organization = ok(api.get("/api/v1/organizations"))["organization"]["lago_id"]
        body = {"api_key": {"permissions": {"billing_entity": ["read"]}}}
        key = ok(admin.post(f"/admin/organizations/{organization}/api_keys", json=body))["api_key"]["value"]
        with server.client(key) as limited:
            assert read(limited)["is_default"]
            refused = limited.put(f"{URL}/default", json={"billing_entity": {"name": "x"}})
            assert refusal(refused) == (403, "write_action_not_allowed_for_billing_entity")


class TestTaxes:
    def test_applied_to_the_organization_is_applied_to_the_default_entity(self, api: httpx.Client) -> None:
        make_entity(api, "paris")
        make_tax(api, "vat", "20", applied_to_organization=True)
        make_tax(api, "local", "5")
        assert [one["code"] for one in read(api)["taxes"]] == ["vat"]
        update(api, "paris", tax_codes=["vat", "local"])
        assert not ok(api.get("/api/v1/taxes/local"))["tax"]["applied_to_organization"]
        assert [one["code"] for one in update(api, "default", tax_codes=["local"])["taxes"]] == ["local"]
        shown = {one["code"]: one["applied_to_organization"] for one in ok(api.get("/api/v1/taxes"))["taxes"]}
        assert shown == {"vat": False, "local": True}
        assert [one["code"] for one in ok(api.get("/api/v1/organizations"))["organization"]["taxes"]] == ["local"]
        ok(api.put("/api/v1/taxes/local", json={"tax": {"applied_to_organization": False}}))
        assert read(api)["taxes"] == []
        assert [one["code"] for one in read(api, "paris")["taxes"]] == ["local", "vat"]
        unknown = api.put(f"{URL}/paris", json={"billing_entity": {"tax_codes": ["none"]}})
        assert refusal(unknown) == (404, "tax_not_found")
        ok(api.delete("/api/v1/taxes/vat"))
        assert [one["code"] for one in read(api, "paris")["taxes"]] == ["local"]

    def test_current_usage_follows_every_change(self, may: httpx.Client) -> None:
        make_entity(may, "paris")
        for code, rate in (("ten", "10"), ("thirty", "30")):
            make_tax(may, code, rate)
        make_subscription(may)
        send_events(may, [event("calls", "sub", NOON)])
        set_clock(may, "2024-05-20T00:00:00Z")

        def taxes() -> int:
            cents: int = usage_of(may)["taxes_amount_cents"]
            return cents

        assert taxes() == 0
        update(may, "default", tax_codes=["ten"])
        assert taxes() == 10
        update(may, "paris", tax_codes=["thirty"])
        assert taxes() == 10
        make_customer(may, billing_entity_code="paris")
        assert taxes() == 30
        ok(may.put("/api/v1/taxes/thirty", json={"tax": {"rate": 40}}))
        assert taxes() == 40
        make_customer(may, tax_codes=["ten"])
        assert taxes() == 10

    def test_those_of_the_customers_entity_whoever_issues_the_invoice(self, may: httpx.Client) -> None:
        make_entity(may, "paris")
        for code, rate in (("ten", "10"), ("thirty", "30")):
            make_tax(may, code, rate)
        update(may, "default", tax_codes=["ten"])
        update(may, "paris", tax_codes=["thirty"])
        make_subscription(may, "by-paris", billing_entity_code="paris")
        make_customer(may, "parisian", billing_entity_code="paris")
        make_subscription(may, "by-default", customer="parisian", billing_entity_code="default")
        set_clock(may, "2024-06-01T00:00:00Z")
        found = {
            one["billing_entity_code"]: [tax["tax_code"] for tax in one["applied_taxes"]] for one in invoices_of(may)
        }
        assert found == {"paris": ["ten"], "default": ["thirty"]}


class TestInvoices:
    def test_each_numbers_and_taxes_its_own_in_its_own_time(self, may: httpx.Client) -> None:
        make_tax(may, "vat", "20", applied_to_organization=True)
        make_tax(may, "consumption", "10")
        make_entity(
            may, "tokyo", timezone="Asia/Tokyo", document_numbering="per_billing_entity",
            document_number_prefix="TKY", net_payment_term=30,
        )  # fmt: skip
        update(may, "tokyo", tax_codes=["consumption"])
        update(may, "default", document_number_prefix="HQ", net_payment_term=10)
        for customer, entity in (("a", "default"), ("b", "tokyo"), ("c", "tokyo")):
            made = make_customer(may, customer, billing_entity_code=entity)
            assert made["applicable_timezone"] == ("UTC" if entity == "default" else "Asia/Tokyo")
            subscription = make_subscription(may, customer, customer=customer)
            assert subscription["billing_entity_code"] == entity
        # In Tokyo it is June nine hours earlier.
        set_clock(may, "2024-05-31T15:00:00Z")
        assert {code: len(found) for code, found in of_each(may).items()} == {"tokyo": 2}
        set_clock(may, "2024-07-01T00:00:00Z")
        found = of_each(may)
        shown = [
            (one["number"], one["sequential_id"], one["issuing_date"], one["payment_due_date"])
            for one in found["tokyo"]
        ]
        assert shown == [
            ("TKY-202406-001", 1, "2024-06-01", "2024-07-01"), ("TKY-202406-002", 1, "2024-06-01", "2024-07-01"),
            ("TKY-202407-003", 2, "2024-07-01", "2024-07-31"), ("TKY-202407-004", 2, "2024-07-01", "2024-07-31"),
        ]  # fmt: skip
        assert [(one["number"], one["payment_due_date"]) for one in found["default"]] == [
            ("HQ-001-001", "2024-06-11"), ("HQ-001-002", "2024-07-11"),
        ]  # fmt: skip
        for code, tax, total in (("default", "vat", 3_720), ("tokyo", "consumption", 3_410)):
            assert {one["applied_taxes"][0]["tax_code"] for one in found[code]} == {tax}
            assert {one["total_amount_cents"] for one in found[code]} >= {total}
        period = found["tokyo"][-1]["billing_periods"][0]
        assert period["subscription_from_datetime"] == "2024-05-31T15:00:00Z"
        check_numbers(may, {"tokyo": "TKY"})

    def test_a_customer_of_two_entities_has_an_invoice_of_each(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="PAR", net_payment_term=5)
        update(may, "default", document_number_prefix="HQ")
        for number in range(4):
            make_subscription(may, f"s{number}", billing_entity_code="paris" if number % 2 else None)
        set_clock(may, "2024-07-01T00:00:00Z")
        found = of_each(may)
        assert [one["number"] for one in found["paris"]] == ["PAR-001-001", "PAR-001-002"]
        assert [one["number"] for one in found["default"]] == ["HQ-001-001", "HQ-001-002"]
        assert [one["sequential_id"] for one in found["paris"]] == [1, 2]
        billed = sorted(one["external_subscription_id"] for one in found["paris"][0]["billing_periods"])
        assert (billed, found["paris"][0]["net_payment_term"]) == (["s1", "s3"], 5)
        assert {one["billing_entity_code"] for one in found["paris"][0]["subscriptions"]} == {"paris"}
        assert found["paris"][0]["customer"]["billing_entity_code"] == "default"

    def test_the_same_prefix_twice(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="SAME")
        update(may, "default", document_number_prefix="SAME")
        make_subscription(may, "one")
        make_subscription(may, "two", billing_entity_code="paris")
        set_clock(may, "2024-06-01T00:00:00Z")
        assert [one["number"] for one in invoices_of(may)] == ["SAME-001-001"] * 2

    def test_an_empty_invoice_is_left_out_as_its_entity_wants(self, may: httpx.Client) -> None:
        make_plan(may, "free")
        make_entity(may, "paris", finalize_zero_amount_invoice=False, document_numbering="per_billing_entity")
        for entity in ("default", "paris"):
            make_customer(may, entity, billing_entity_code=entity)
            make_subscription(may, entity, plan="free", customer=entity)
        make_customer(may, "wants", billing_entity_code="paris", finalize_zero_amount_invoice="finalize")
        make_subscription(may, "wants", plan="free", customer="wants")
        set_clock(may, "2024-06-01T00:00:00Z")
        assert [one["customer"]["external_id"] for one in invoices_of(may)] == ["default", "wants"]
        check_numbers(may, {"paris": read(may, "paris")["document_number_prefix"].split("-")[0]})

    def test_switching_how_one_numbers_leaves_the_other_alone(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="PAR")
        update(may, "default", document_number_prefix="HQ")
        for entity in ("default", "paris"):
            make_customer(may, entity, billing_entity_code=entity)
            make_subscription(may, entity, customer=entity)
        set_clock(may, "2024-06-01T00:00:00Z")
        update(may, "paris", document_numbering="per_billing_entity")
        set_clock(may, "2024-07-01T00:00:00Z")
        update(may, "paris", document_numbering="per_customer")
        set_clock(may, "2024-08-01T00:00:00Z")
        update(may, "paris", document_numbering="per_billing_entity")
        set_clock(may, "2024-10-01T00:00:00Z")
        found = {code: [one["number"] for one in invoices] for code, invoices in of_each(may).items()}
        assert found == {
            "default": [f"HQ-001-00{number}" for number in range(1, 6)],
            "paris": ["PAR-002-001", "PAR-002-003", "PAR-202407-002", "PAR-202409-004", "PAR-202410-005"],
        }

    def test_a_credit_note_is_of_the_invoices_entity(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="PAR")
        make_plan(may, "advance", amount_cents=3_100, pay_in_advance=True)
        make_subscription(may, plan="advance", billing_entity_code="paris")
        set_clock(may, "2024-05-16T00:00:00Z")
        ok(may.delete("/api/v1/subscriptions/sub"))
        (note,) = ok(may.get("/api/v1/credit_notes"))["credit_notes"]
        assert (note["billing_entity_code"], note["number"]) == ("paris", "PAR-001-001-CN001")
        for codes, number in ((["paris"], 1), (["default"], 0), (["default", "paris"], 1), (["none"], 0)):
            asked = {"billing_entity_codes[]": codes}
            assert len(ok(may.get("/api/v1/credit_notes", params=asked))["credit_notes"]) == number

    def test_fees_of_events_are_invoiced_by_the_subscriptions_entity(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="PAR", document_numbering="per_billing_entity")
        metric = make_metric(may, "seats", "sum_agg")
        make_plan(may, "instant", [standard(metric, pay_in_advance=True)])
        make_subscription(may, "s1", plan="instant", billing_entity_code="paris")
        make_subscription(may, "s2", plan="instant")
        set_clock(may, "2024-05-10T12:00:00Z")
        send_events(may, [event("seats", one, NOON - 60 + each, value=1) for one in ("s1", "s2") for each in range(3)])
        found = of_each(may)
        assert [one["number"] for one in found["paris"]] == [f"PAR-202405-00{number}" for number in (1, 2, 3)]
        assert [one["sequential_id"] for one in found["default"]] == [1, 2, 3]


class TestCustomersAndSubscriptions:
    def test_filters(self, may: httpx.Client) -> None:
        make_entity(may, "paris")
        make_customer(may, "a")
        made = make_customer(may, "b", billing_entity_code="paris")
        assert made["slug"] == f"{read(may, 'paris')['document_number_prefix']}-002"
        make_subscription(may, "a1", customer="a")
        make_subscription(may, "a2", customer="a", billing_entity_code="paris")
        make_subscription(may, "b1", customer="b")
        set_clock(may, "2024-06-01T00:00:00Z")

        def found(path: str, key: str, field: str, *codes: str) -> list[str]:
            asked: Any = {"billing_entity_codes[]": codes}
            return sorted(one[field] for one in ok(may.get(f"/api/v1/{path}", params=asked))[key])

        subscriptions = ("subscriptions", "subscriptions", "external_id")
        assert found(*subscriptions, "default") == ["a1"]
        assert found(*subscriptions, "paris") == ["a2", "b1"]
        assert found(*subscriptions, "paris", "default") == ["a1", "a2", "b1"]
        assert found(*subscriptions, "none") == []
        assert found("customers/a/subscriptions", "subscriptions", "external_id", "paris") == ["a2"]
        assert found("customers", "customers", "external_id", "paris") == ["b"]
        assert found("customers", "customers", "external_id", "paris", "default") == ["a", "b"]
        assert found("invoices", "invoices", "billing_entity_code", "paris") == ["paris", "paris"]
        assert found("invoices", "invoices", "billing_entity_code", "default") == ["default"]
        assert found("invoices", "invoices", "billing_entity_code", "none") == []

    def test_unknown_is_not_found_and_makes_nothing(self, may: httpx.Client) -> None:
        missing = (404, "billing_entity_not_found")
        sent = {"external_id": "c", "billing_entity_code": "none"}
        assert refusal(may.post("/api/v1/customers", json={"customer": sent})) == missing
        sent = {"external_id": "s", "external_customer_id": "c", "plan_code": "plan", "billing_entity_code": "none"}
        assert refusal(may.post("/api/v1/subscriptions", json={"subscription": sent})) == missing
        assert refusal(may.get("/api/v1/customers/c")) == (404, "customer_not_found")
        make_subscription(may)
        body = {"subscription": {"billing_entity_code": "none", "name": "x"}}
        assert refusal(may.put("/api/v1/subscriptions/sub", json=body)) == missing
        assert ok(may.get("/api/v1/subscriptions/sub"))["subscription"]["name"] is None

    def test_a_customer_moves(self, may: httpx.Client) -> None:
        """Its subscriptions follow, but for those that have an entity of their own; what was issued stays."""
        make_entity(may, "tokyo", timezone="Asia/Tokyo", document_number_prefix="TKY")
        make_entity(may, "paris", document_number_prefix="PAR")
        make_customer(may)
        make_subscription(may, "follows")
        make_subscription(may, "stays", billing_entity_code="paris")
        set_clock(may, "2024-06-01T00:00:00Z")
        moved = make_customer(may, billing_entity_code="tokyo")
        assert (moved["billing_entity_code"], moved["applicable_timezone"]) == ("tokyo", "Asia/Tokyo")
        assert make_customer(may, name="x", billing_entity_code=None)["billing_entity_code"] == "tokyo"
        set_clock(may, "2024-06-30T15:00:00Z")
        found = of_each(may)
        assert {code: [one["sequential_id"] for one in invoices] for code, invoices in found.items()} == {
            "default": [1], "paris": [1, 2], "tokyo": [1],
        }  # fmt: skip
        assert found["tokyo"][0]["number"] == "TKY-001-001"
        (period,) = found["tokyo"][0]["billing_periods"]
        assert (period["charges_from_datetime"], period["charges_to_datetime"]) == (
            "2024-06-01T00:00:00Z", "2024-06-30T14:59:59Z",
        )  # fmt: skip

    def test_a_subscription_moves_and_comes_back(self, may: httpx.Client) -> None:
        make_entity(may, "paris")
        make_subscription(may)
        for code, shown in (("paris", "paris"), (None, "default"), ("default", "default"), ("paris", "paris")):
            body = {"subscription": {"billing_entity_code": code}}
            changed = ok(may.put("/api/v1/subscriptions/sub", json=body))["subscription"]
            assert changed["billing_entity_code"] == shown
        set_clock(may, "2024-06-01T00:00:00Z")
        assert [one["billing_entity_code"] for one in invoices_of(may)] == ["paris"]

    def test_another_plan_keeps_the_entity_or_brings_another(self, may: httpx.Client) -> None:
        make_entity(may, "paris", document_number_prefix="PAR")
        make_entity(may, "rome", document_number_prefix="ROM")
        make_plan(may, "dear", amount_cents=9_300, pay_in_advance=True)
        make_plan(may, "cheap", amount_cents=310, pay_in_advance=True)
        make_subscription(may, billing_entity_code="paris")
        set_clock(may, "2024-05-11T00:00:00Z")
        assert make_subscription(may, plan="dear")["billing_entity_code"] == "paris"
        found = of_each(may)
        assert [len(one["billing_periods"]) for one in found["paris"]] == [2]
        # A cheaper plan follows at the end of the month, and another entity issues what it bills in advance.
        make_subscription(may, plan="cheap", billing_entity_code="rome")
        set_clock(may, "2024-06-01T00:00:00Z")
        found = of_each(may)
        assert [one["number"] for one in found["rome"]] == ["ROM-001-001"]
        assert found["rome"][0]["fees_amount_cents"] == 310
        assert ok(may.get("/api/v1/subscriptions/sub"))["subscription"]["billing_entity_code"] == "rome"

    def test_an_entitys_timezone_moves_the_periods_of_its_customers_only(self, may: httpx.Client) -> None:
        make_entity(may, "branch")
        for customer, fields in (("ours", {}), ("own", {"timezone": "UTC"})):
            make_customer(may, customer, billing_entity_code="branch", **fields)
            make_subscription(may, customer, customer=customer)
        make_subscription(may, "theirs", customer="theirs")
        update(may, "branch", timezone="Asia/Tokyo")
        set_clock(may, "2024-05-31T15:00:00Z")
        assert [one["customer"]["external_id"] for one in invoices_of(may)] == ["ours"]
        set_clock(may, "2024-06-01T00:00:00Z")
        assert [one["customer"]["external_id"] for one in invoices_of(may)] == ["ours", "own", "theirs"]


ENTITIES = ("default", "paris", "tokyo")


class TestNumbering:
    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        numberings=st.lists(st.sampled_from(["per_customer", "per_billing_entity"]), min_size=3, max_size=3),
        customers=st.lists(
            st.tuples(st.sampled_from(ENTITIES), st.lists(st.sampled_from([None, *ENTITIES]), min_size=1, max_size=4)),
            min_size=1,
            max_size=5,
        ),
    )
    def test_no_number_is_left_out_whoever_issues_what(
        self, server: Server, numberings: list[str], customers: list[tuple[str, list[str | None]]]
    ) -> None:
        with server.organization("Numbers", sandbox=True) as api:
            set_clock(api, "2024-05-01T00:00:00Z")
            make_plan(api, amount_cents=100)
            for code in ENTITIES[1:]:
                make_entity(api, code)
            for code, numbering in zip(ENTITIES, numberings, strict=True):
                update(api, code, document_numbering=numbering, document_number_prefix=code)
            for number, (entity, subscriptions) in enumerate(customers):
                make_customer(api, f"c{number}", billing_entity_code=entity)
                for place, own in enumerate(subscriptions):
                    make_subscription(api, f"s{number}-{place}", customer=f"c{number}", billing_entity_code=own)
            set_clock(api, "2024-08-01T00:00:00Z")
            issuers = {own or entity for entity, subscriptions in customers for own in subscriptions}
            issued = of_each(api)
            assert issued.keys() == issuers
            for code, found in issued.items():
                whose = [1 for entity, subscriptions in customers if code in {own or entity for own in subscriptions}]
                assert len(found) == 3 * len(whose)
            counting = zip(ENTITIES, numberings, strict=True)
            check_numbers(api, {code: code.upper() for code, kind in counting if kind == "per_billing_entity"})

    def test_none_is_left_out_when_many_end_at_once_and_timezones_change(
        self, server: Server, may: httpx.Client
    ) -> None:
        make_entity(may, "paris", document_numbering="per_billing_entity", document_number_prefix="PAR")
        update(may, "default", document_numbering="per_billing_entity", document_number_prefix="HQ")
        ids = [f"s{number}" for number in range(16)]
        for place, one in enumerate(ids):
            make_subscription(may, one, customer=f"c{place % 3}", billing_entity_code="paris" if place % 2 else None)
        set_clock(may, "2024-05-20T00:00:00Z")
        key = may.headers["Authorization"].removeprefix("Bearer ")
        moves = [(code, timezone) for code in ("default", "paris") for timezone in ("Asia/Tokyo", "America/New_York")]
        begin = threading.Barrier(len(ids) + len(moves))
        ended: list[Json] = []

        def end(one: str) -> None:
            with server.client(key) as client:
                begin.wait()
                answer = client.delete(f"/api/v1/subscriptions/{one}")
                while answer.status_code == 503:  # it has waited too long for the others, and may be sent again
                    answer = client.delete(f"/api/v1/subscriptions/{one}")
                ended.append(ok(answer))

        def move(code: str, timezone: str) -> None:
            with server.client(key) as client:
                begin.wait()
                sent = {"billing_entity": {"timezone": timezone}}
                answer = client.put(f"/api/v1/billing_entities/{code}", json=sent)
                while answer.status_code == 503:
                    answer = client.put(f"/api/v1/billing_entities/{code}", json=sent)
                ended.append(ok(answer))

        threads = [threading.Thread(target=end, args=(one,)) for one in ids]
        threads += [threading.Thread(target=move, args=one) for one in moves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == len(ids) + len(moves)
        assert {code: len(found) for code, found in of_each(may).items()} == {"default": 8, "paris": 8}
        check_numbers(may, {"paris": "PAR", "default": "HQ"})
