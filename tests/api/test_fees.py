"""`/api/v1/fees`: found by what they are for, and their payment noted."""

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
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
)

URL = "/api/v1/fees"


@pytest.fixture
def billed(api: httpx.Client) -> httpx.Client:
    """Invoices of June 2024: `a` with a subscription and a charge fee, `b` with a subscription fee in USD."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_tax(api, "vat", "20")
    charges = [standard(make_metric(api, "calls"), "0.335", invoice_display_name="Calls made", tax_codes=["vat"])]
    make_plan(api, "metered", charges, amount_cents=3_100)
    make_plan(api, "flat", amount_cents=1_000, amount_currency="USD")
    make_subscription(api, "sa", "metered", "a")
    make_subscription(api, "sb", "flat", "b")
    send_events(api, [event("calls", "sa", 1_715_342_400)])
    set_clock(api, "2024-06-01T00:00:00Z")
    return api


def found(api: httpx.Client, **query: str) -> list[str]:
    fees = ok(api.get(URL, params=query))["fees"]
    return sorted(f"{fee['external_subscription_id']} {fee['item']['type']}" for fee in fees)


def test_a_charge_fee(billed: httpx.Client) -> None:
    (fee,) = ok(billed.get(URL, params={"fee_type": "charge"}))["fees"]
    wanted = {
        "amount_cents": 34, "amount_currency": "EUR", "precise_amount": "0.335", "units": "1.0", "events_count": 1,
        "taxes_amount_cents": 7, "taxes_rate": 20, "total_amount_cents": 41, "precise_unit_amount": "0.335",
        "external_customer_id": "a", "external_subscription_id": "sa", "payment_status": "pending",
        "from_date": "2024-05-01T00:00:00Z", "to_date": "2024-05-31T23:59:59Z", "created_at": "2024-06-01T00:00:00Z",
        "pay_in_advance": False, "invoiceable": True, "event_transaction_id": None,
    }  # fmt: skip
    assert {key: fee[key] for key in wanted} == wanted
    item = {"type": "charge", "code": "calls", "invoice_display_name": "Calls made", "item_type": "BillableMetric"}
    assert {key: fee["item"][key] for key in item} == item
    assert [(tax["tax_code"], tax["amount_cents"]) for tax in fee["applied_taxes"]] == [("vat", 7)]
    assert ok(billed.get(f"{URL}/{fee['lago_id']}"))["fee"] == fee
    (invoice,) = invoices_of(billed, "a")
    assert fee in invoice["fees"]


@pytest.mark.parametrize(
    ("query", "fees"),
    [
        ({}, ["sa charge", "sa subscription", "sb subscription"]),
        ({"external_customer_id": "a"}, ["sa charge", "sa subscription"]),
        ({"external_subscription_id": "sb"}, ["sb subscription"]),
        ({"billable_metric_code": "calls"}, ["sa charge"]),
        ({"billable_metric_code": "none"}, []),
        ({"fee_type": "subscription"}, ["sa subscription", "sb subscription"]),
        ({"currency": "USD"}, ["sb subscription"]),
        ({"payment_status": "pending"}, ["sa charge", "sa subscription", "sb subscription"]),
        ({"payment_status": "succeeded"}, []),
        ({"event_transaction_id": "t"}, []),
        ({"created_at_from": "2024-06-01T00:00:00Z"}, ["sa charge", "sa subscription", "sb subscription"]),
        ({"created_at_from": "2024-06-01T00:00:01Z"}, []),
        ({"created_at_to": "2024-05-31"}, []),
        ({"succeeded_at_from": "2024-01-01"}, []),
    ],
)
def test_filters(billed: httpx.Client, query: dict[str, str], fees: list[str]) -> None:
    assert found(billed, **query) == fees


@pytest.mark.parametrize(
    ("query", "details"),
    [
        ({"fee_type": "odd"}, {"fee_type": ["value_is_invalid"]}),
        ({"payment_status": "odd"}, {"payment_status": ["value_is_invalid"]}),
        ({"failed_at_to": "soon"}, {"failed_at_to": ["invalid_date"]}),
    ],
)
def test_bad_filters(billed: httpx.Client, query: dict[str, str], details: Json) -> None:
    assert problems(billed.get(URL, params=query)) == details


def test_payment_status(billed: httpx.Client) -> None:
    (fee,) = ok(billed.get(URL, params={"currency": "USD"}))["fees"]
    path = f"{URL}/{fee['lago_id']}"
    set_clock(billed, "2024-06-03T00:00:00Z")
    now = "2024-06-03T00:00:00Z"
    for status, times in (
        ("succeeded", (now, None, None)),
        ("refunded", (now, None, now)),
        ("failed", (None, now, None)),
        ("pending", (None, None, None)),
    ):
        changed = ok(billed.put(path, json={"fee": {"payment_status": status}}))["fee"]
        assert (changed["succeeded_at"], changed["failed_at"], changed["refunded_at"]) == times
        assert found(billed, payment_status=status, currency="USD") == ["sb subscription"]
    assert problems(billed.put(path, json={"fee": {"payment_status": "odd"}})) == {
        "payment_status": ["value_is_invalid"]
    }
    assert refusal(billed.delete(path)) == (405, "invoiced_fee")


def test_another_organizations(billed: httpx.Client, other: httpx.Client) -> None:
    path = f"{URL}/{ok(billed.get(URL))['fees'][0]['lago_id']}"
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"fee": {"payment_status": "failed"}})):
        assert refusal(other.request(method, path, json=body)) == (404, "fee_not_found")
    assert refusal(billed.get(f"{URL}/none")) == (404, "fee_not_found")
    assert found(other) == []
