"""`POST /api/v1/invoices`: add-ons sold outside of any subscription."""

from decimal import Decimal

import httpx
import pytest

from tests.factories import (
    Json,
    invoices_of,
    make_add_on,
    make_customer,
    make_tax,
    ok,
    problems,
    refusal,
    sell,
    set_clock,
)

URL = "/api/v1/invoices"


@pytest.fixture
def shop(api: httpx.Client) -> httpx.Client:
    """A sandbox on 10 May 2024, in the evening, with a customer in Auckland and an add-on at 100.00."""
    set_clock(api, "2024-05-10T20:00:00Z")
    make_customer(api, timezone="Pacific/Auckland", net_payment_term=14, currency="EUR")
    make_add_on(api, "setup", amount_cents=10_000, description="Everything", invoice_display_name="Set-up")
    return api


def post(api: httpx.Client, *fees: object, **fields: object) -> httpx.Response:
    sent = {"external_customer_id": "customer", "fees": list(fees), **fields}
    return api.post(URL, json={"invoice": sent})


def test_an_add_on_with_all_its_defaults(shop: httpx.Client) -> None:
    invoice = sell(shop, {"add_on_code": "setup"}, purchase_order_number="PO", skip_psp=True)
    wanted = {
        "invoice_type": "one_off", "status": "finalized", "payment_status": "pending", "currency": "EUR",
        "issuing_date": "2024-05-11", "payment_due_date": "2024-05-25", "purchase_order_number": "PO",
        "fees_amount_cents": 10_000, "taxes_amount_cents": 0, "total_amount_cents": 10_000,
        "total_due_amount_cents": 10_000, "billing_periods": [], "subscriptions": [], "credits": [],
    }  # fmt: skip
    assert {key: invoice[key] for key in wanted} == wanted
    assert invoice["number"].endswith("-001-001")
    (fee,) = invoice["fees"]
    wanted = {
        "lago_subscription_id": None, "external_subscription_id": None, "external_customer_id": "customer",
        "amount_cents": 10_000, "units": "1.0", "precise_unit_amount": "100.0", "description": "Everything",
        "from_date": "2024-05-10T20:00:00Z", "to_date": "2024-05-10T20:00:00Z", "events_count": None,
    }  # fmt: skip
    assert {key: fee[key] for key in wanted} == wanted
    item = {"type": "add_on", "code": "setup", "name": "setup", "invoice_display_name": "Set-up", "item_type": "AddOn"}
    assert item.items() <= fee["item"].items()
    assert ok(shop.get(f"{URL}/{invoice['lago_id']}"))["invoice"] == invoice
    (listed,) = ok(shop.get("/api/v1/fees", params={"fee_type": "add_on"}))["fees"]
    assert listed == fee


def test_what_is_sent_goes_before_the_add_on(shop: httpx.Client) -> None:
    fee = {
        "add_on_code": "setup", "unit_amount_cents": 333, "units": "1.5", "description": "d", "invoice_display_name": "n",
        "from_datetime": "2024-05-01T00:00:00+02:00", "to_datetime": "2024-05-31",
    }  # fmt: skip
    invoice = sell(shop, fee, currency="EUR")
    (made,) = invoice["fees"]
    assert (made["amount_cents"], made["precise_amount"], made["units"]) == (500, "4.995", "1.5")
    assert (made["description"], made["item"]["invoice_display_name"]) == ("d", "n")
    assert (made["from_date"], made["to_date"]) == ("2024-04-30T22:00:00Z", "2024-05-31T00:00:00Z")
    # A client sends units as a number, and a currency may be one that nothing else is in.
    yen = sell(shop, {"add_on_code": "setup", "unit_amount_cents": 7, "units": 2.5}, currency="JPY")
    assert (yen["currency"], yen["total_amount_cents"], yen["fees"][0]["precise_unit_amount"]) == ("JPY", 18, "7.0")
    assert [one["sequential_id"] for one in invoices_of(shop)] == [1, 2]


def test_nothing_to_pay_is_invoiced_and_paid(shop: httpx.Client) -> None:
    ok(shop.put("/api/v1/organizations", json={"organization": {"finalize_zero_amount_invoice": False}}))
    invoice = sell(shop, {"add_on_code": "setup", "unit_amount_cents": 0})
    assert (invoice["status"], invoice["payment_status"], invoice["total_amount_cents"]) == (
        "finalized",
        "succeeded",
        0,
    )
    assert invoice["number"]


def test_the_nearest_taxes_count(shop: httpx.Client) -> None:
    for code, rate in (("org", "10"), ("customer", "20"), ("add_on", "5.5"), ("sent", "19"), ("sent too", "1")):
        make_tax(shop, code, rate, applied_to_organization=code == "org")
    make_add_on(shop, "taxed", amount_cents=1_000, tax_codes=["add_on"])

    def rates(fee: Json) -> list[tuple[str, int]]:
        invoice = sell(shop, fee)
        taxes = invoice["fees"][0]["applied_taxes"]
        assert invoice["total_amount_cents"] == invoice["fees_amount_cents"] + invoice["taxes_amount_cents"]
        assert Decimal(str(invoice["fees"][0]["taxes_rate"])) == sum(Decimal(str(one["tax_rate"])) for one in taxes)
        return [(one["tax_code"], one["amount_cents"]) for one in taxes]

    assert rates({"add_on_code": "setup"}) == [("org", 1_000)]
    make_customer(shop, tax_codes=["customer"])
    assert rates({"add_on_code": "setup"}) == [("customer", 2_000)]
    assert rates({"add_on_code": "taxed"}) == [("add_on", 55)]
    assert rates({"add_on_code": "taxed", "tax_codes": []}) == [("add_on", 55)]
    assert rates({"add_on_code": "taxed", "tax_codes": ["sent", "sent too"]}) == [("sent", 190), ("sent too", 10)]


@pytest.mark.parametrize(
    ("fee", "details"),
    [
        ({"from_datetime": "2024-05-01T00:00:00Z"}, {"boundaries": ["values_are_invalid"]}),
        ({"to_datetime": "2024-05-01T00:00:00Z"}, {"boundaries": ["values_are_invalid"]}),
        ({"from_datetime": "2024-05-02", "to_datetime": "2024-05-01"}, {"boundaries": ["values_are_invalid"]}),
        ({"from_datetime": "soon", "to_datetime": "2024-05-01"}, {"boundaries": ["values_are_invalid"]}),
        ({"units": -1}, {"units": ["value_is_out_of_range"]}),
        ({"units": "0.0000000000000001"}, {"units": ["value_is_invalid"]}),
        ({"units": 10**14}, {"units": ["value_is_out_of_range"]}),
    ],
)
def test_a_fee_refused(shop: httpx.Client, fee: Json, details: Json) -> None:
    assert problems(post(shop, {"add_on_code": "setup"}, {"add_on_code": "setup", **fee})) == details
    assert invoices_of(shop) == []


def test_refused(shop: httpx.Client, other: httpx.Client) -> None:
    fee = {"add_on_code": "setup"}
    assert refusal(post(shop, fee, external_customer_id="nobody")) == (404, "customer_not_found")
    assert refusal(post(shop)) == (404, "fees_not_found")
    assert refusal(post(shop, fees=None)) == (404, "fees_not_found")
    assert refusal(post(shop, fee, {"add_on_code": "none"})) == (404, "add_on_not_found")
    assert refusal(post(shop, {})) == (404, "add_on_not_found")
    assert refusal(post(shop, {**fee, "tax_codes": ["none"]})) == (404, "tax_not_found")
    assert problems(post(shop, fee, currency="XXX")) == {"currency": ["value_is_invalid"]}
    assert problems(post(shop, fee, currency="USD")) == {"currency": ["currencies_does_not_match"]}
    make_customer(other)
    assert refusal(post(other, fee)) == (404, "add_on_not_found")
    ok(shop.delete("/api/v1/add_ons/setup"))
    assert refusal(post(shop, fee)) == (404, "add_on_not_found")
    assert invoices_of(shop) == []


def test_a_customer_without_a_currency_gets_that_of_the_invoice(shop: httpx.Client) -> None:
    make_customer(shop, "new")
    assert sell(shop, {"add_on_code": "setup"}, "new")["currency"] == "EUR"
    assert ok(shop.get("/api/v1/customers/new"))["customer"]["currency"] == "EUR"


def test_no_credit_is_spent_on_it(shop: httpx.Client) -> None:
    first = sell(shop, {"add_on_code": "setup"})
    items = [{"fee_id": first["fees"][0]["lago_id"], "amount_cents": 10_000}]
    note = {"invoice_id": first["lago_id"], "credit_amount_cents": 10_000, "items": items}
    ok(shop.post("/api/v1/credit_notes", json={"credit_note": note}))
    second = sell(shop, {"add_on_code": "setup"})
    assert (second["credit_notes_amount_cents"], second["total_amount_cents"]) == (0, 10_000)
