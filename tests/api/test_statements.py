"""Statements: paid fees of charges paid in advance, put on one paid invoice (billing spec 3.5)."""

import httpx
import pytest

from tests.api.test_pay_in_advance import NOON, charge, fees, subscribe
from tests.factories import event, invoices_of, make_metric, make_tax, ok, send_events, set_clock


@pytest.fixture
def cards(api: httpx.Client) -> httpx.Client:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    metric = make_metric(api, "cards")
    subscribe(api, charge(metric, properties={"amount": "0.33"}, regroup_paid_fees="invoice"), charge(metric))
    send_events(api, [event("cards", "sub", NOON, f"t{number}") for number in range(3)])
    for fee in fees(api):
        if fee["event_transaction_id"] != "t2":
            paid = {"fee": {"payment_status": "succeeded"}}
            assert ok(api.put(f"/api/v1/fees/{fee['lago_id']}", json=paid))["fee"]["succeeded_at"]
    return api


def test_what_was_paid_is_on_one_paid_invoice(cards: httpx.Client) -> None:
    set_clock(cards, "2024-06-01T00:00:00Z")
    (statement,) = invoices_of(cards, invoice_type="advance_charges")
    wanted = {
        "status": "finalized", "payment_status": "succeeded", "fees_amount_cents": 66, "taxes_amount_cents": 14,
        "total_amount_cents": 80, "total_due_amount_cents": 0, "total_paid_amount_cents": 80,
        "issuing_date": "2024-06-01",
    }  # fmt: skip
    assert {key: statement[key] for key in wanted} == wanted
    assert {fee["event_transaction_id"] for fee in statement["fees"]} == {"t0", "t1"}
    assert {fee["amount_cents"] for fee in statement["fees"]} == {33}
    (tax,) = statement["applied_taxes"]
    assert (tax["tax_code"], tax["amount_cents"], tax["fees_amount_cents"]) == ("vat", 14, 66)
    (period,) = statement["billing_periods"]
    assert period["invoicing_reason"] == "in_advance_charge_periodic"
    assert (period["charges_from_datetime"], period["subscription_to_datetime"]) == (
        "2024-05-01T00:00:00Z",
        "2024-05-31T23:59:59Z",
    )
    (payment,) = ok(cards.get("/api/v1/payments"))["payments"]
    assert (payment["invoice_ids"], payment["amount_cents"]) == ([statement["lago_id"]], 80)
    assert payment["reference"] == statement["number"]
    (receipt,) = ok(cards.get("/api/v1/payment_receipts"))["payment_receipts"]
    assert (receipt["payment"], receipt["number"][-12:]) == (payment, "-RCPT-000001")
    # The others still stand alone: not paid, or not to be regrouped. Nothing is regrouped twice.
    set_clock(cards, "2024-07-01T00:00:00Z")
    assert len(invoices_of(cards, invoice_type="advance_charges")) == 1
    alone = [one for one in fees(cards) if one["lago_invoice_id"] is None]
    assert sorted((one["event_transaction_id"], one["amount_cents"]) for one in alone) == [
        ("t0", 100), ("t1", 100), ("t2", 33), ("t2", 100),
    ]  # fmt: skip
    number = [one["sequential_id"] for one in invoices_of(cards)]
    assert number == [1, 2, 3]


@pytest.mark.parametrize("invoice", ["generate", "skip"])
def test_at_the_end(cards: httpx.Client, invoice: str) -> None:
    set_clock(cards, "2024-05-20T10:00:00Z")
    ok(cards.delete("/api/v1/subscriptions/sub", params={"on_termination_invoice": invoice}))
    (statement,) = invoices_of(cards, invoice_type="advance_charges")
    (period,) = statement["billing_periods"]
    assert period["subscription_to_datetime"] == "2024-05-20T10:00:00Z"
    assert len(statement["fees"]) == 2
