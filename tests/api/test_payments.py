"""`/api/v1/payments`, `payment_receipts` and `payment_requests`: what was paid of invoices, and what it does to them."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.factories import (
    Json,
    make_add_on,
    make_customer,
    ok,
    problems,
    refusal,
    sell,
    set_clock,
)

URL = "/api/v1/payments"
FIELDS = {
    "lago_id", "lago_customer_id", "external_customer_id", "invoice_ids", "invoice_numbers", "lago_payable_id",
    "payable_type", "amount_cents", "amount_currency", "status", "payment_status", "type", "reference",
    "payment_provider_code", "payment_provider_type", "external_payment_id", "provider_payment_id",
    "provider_customer_id", "payment_method_id", "next_action", "created_at",
}  # fmt: skip


@pytest.fixture
def invoice(api: httpx.Client) -> Json:
    """An invoice of 100.00 of 10 May 2024."""
    set_clock(api, "2024-05-10T10:00:00Z")
    make_add_on(api, "setup", amount_cents=10_000)
    make_customer(api, email="pay@example.com")
    return sell(api, {"add_on_code": "setup"})


def pay(api: httpx.Client, invoice: Json, amount: object, reference: object = "r", **fields: object) -> httpx.Response:
    sent = {"invoice_id": invoice["lago_id"], "amount_cents": amount, "reference": reference, **fields}
    return api.post(URL, json={"payment": sent})


def again(api: httpx.Client, invoice: Json) -> Json:
    found: Json = ok(api.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]
    return found


class TestPayments:
    def test_in_parts_until_nothing_is_due(self, api: httpx.Client, invoice: Json) -> None:
        payment = ok(pay(api, invoice, 4_000, "first"))["payment"]
        assert payment.keys() == FIELDS
        wanted = {
            "lago_customer_id": invoice["customer"]["lago_id"], "external_customer_id": "customer",
            "invoice_ids": [invoice["lago_id"]], "invoice_numbers": [invoice["number"]],
            "lago_payable_id": invoice["lago_id"], "payable_type": "Invoice", "amount_cents": 4_000,
            "amount_currency": "EUR", "status": "succeeded", "payment_status": "succeeded", "type": "manual",
            "reference": "first", "created_at": "2024-05-10T10:00:00Z",
        }  # fmt: skip
        assert {key: payment[key] for key in wanted} == wanted
        part = again(api, invoice)
        assert (part["total_paid_amount_cents"], part["total_due_amount_cents"]) == (4_000, 6_000)
        assert (part["payment_status"], part["fees"][0]["payment_status"]) == ("pending", "pending")
        set_clock(api, "2024-05-11T10:00:00Z")
        ok(pay(api, invoice, 6_000, "second"))
        paid = again(api, invoice)
        assert (paid["total_paid_amount_cents"], paid["total_due_amount_cents"]) == (10_000, 0)
        fee = paid["fees"][0]
        assert (paid["payment_status"], fee["payment_status"], fee["succeeded_at"]) == (
            "succeeded", "succeeded", "2024-05-11T10:00:00Z"
        )  # fmt: skip
        assert problems(pay(api, invoice, 1)) == {"amount_cents": ["value_is_out_of_range"]}

    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"amount_cents": 10_001}, {"amount_cents": ["value_is_out_of_range"]}),
            ({"amount_cents": 0}, {"amount_cents": ["invalid_value"]}),
            ({"amount_cents": -1}, {"amount_cents": ["invalid_value"]}),
            ({"amount_cents": None}, {"amount_cents": ["invalid_value"]}),
            ({"invoice_id": ""}, {"invoice_id": ["value_is_mandatory"]}),
            ({"reference": None}, {"reference": ["value_is_mandatory"]}),
            ({"reference": "r" * 41}, {"reference": ["value_is_too_long"]}),
            ({"paid_at": "yesterday"}, {"paid_at": ["invalid_date"]}),
        ],
    )
    def test_refused(self, api: httpx.Client, invoice: Json, fields: Json, details: Json) -> None:
        sent = {"invoice_id": invoice["lago_id"], "amount_cents": 1, "reference": "r", **fields}
        assert problems(api.post(URL, json={"payment": sent})) == details
        assert ok(api.get(URL))["payments"] == []

    def test_only_what_is_final(self, api: httpx.Client, other: httpx.Client, invoice: Json) -> None:
        for client, of in ((other, invoice), (api, {"lago_id": str(uuid4())}), (api, {"lago_id": "none"})):
            assert refusal(pay(client, of, 1)) == (404, "invoice_not_found")
        ok(api.post(f"/api/v1/invoices/{invoice['lago_id']}/void"))
        assert problems(pay(api, invoice, 1)) == {"invoice_id": ["value_is_invalid"]}

    def test_two_at_once_do_not_pay_too_much(self, api: httpx.Client, invoice: Json) -> None:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: pay(api, invoice, 4_000).status_code, range(4)))
        assert sorted(answers) == [200, 200, 422, 422]
        assert again(api, invoice)["total_due_amount_cents"] == 2_000
        numbers = [one["number"][-6:] for one in ok(api.get("/api/v1/payment_receipts"))["payment_receipts"]]
        assert numbers == ["000002", "000001"]

    def test_found_and_listed(self, api: httpx.Client, other: httpx.Client, invoice: Json) -> None:
        make_customer(api, "second")
        theirs = sell(api, {"add_on_code": "setup", "unit_amount_cents": 500}, "second")
        early = ok(pay(api, invoice, 100, "early", paid_at="2024-05-01"))["payment"]
        late = ok(pay(api, theirs, 500, "late"))["payment"]
        assert early["created_at"] == "2024-05-01T00:00:00Z"
        assert ok(api.get(URL))["payments"] == [late, early]
        assert ok(api.get(f"{URL}/{early['lago_id']}"))["payment"] == early
        for query, found in (
            ({"invoice_id": invoice["lago_id"]}, [early]),
            ({"invoice_id": "none"}, []),
            ({"external_customer_id": "second"}, [late]),
            ({"currency": "USD"}, []),
        ):
            assert ok(api.get(URL, params=query))["payments"] == found, query
        assert ok(api.get("/api/v1/customers/second/payments"))["payments"] == [late]
        assert refusal(api.get("/api/v1/customers/third/payments")) == (404, "customer_not_found")
        assert refusal(other.get(f"{URL}/{early['lago_id']}")) == (404, "payment_not_found")
        assert ok(other.get(URL))["payments"] == []

    def test_each_has_a_receipt(self, api: httpx.Client, other: httpx.Client, invoice: Json) -> None:
        payments = [ok(pay(api, invoice, amount))["payment"] for amount in (100, 200)]
        url = "/api/v1/payment_receipts"
        second, first = ok(api.get(url, params={"invoice_id": invoice["lago_id"]}))["payment_receipts"]
        slug = invoice["customer"]["slug"]
        assert [first["number"], second["number"]] == [f"{slug}-RCPT-000001", f"{slug}-RCPT-000002"]
        assert [first["payment"], second["payment"]] == payments
        assert ok(api.get(f"{url}/{first['lago_id']}"))["payment_receipt"] == first
        assert refusal(other.get(f"{url}/{first['lago_id']}")) == (404, "payment_receipt_not_found")
        assert ok(api.get(url, params={"invoice_id": str(uuid4())}))["payment_receipts"] == []


class TestInvoices:
    def test_filters(self, api: httpx.Client, invoice: Json) -> None:
        names = {invoice["lago_id"]: "untouched"}
        for name in ("part", "paid", "offset", "lost"):
            names[sell(api, {"add_on_code": "setup"})["lago_id"]] = name
        ids = {name: id_ for id_, name in names.items()}
        ok(pay(api, {"lago_id": ids["part"]}, 1))
        ok(pay(api, {"lago_id": ids["paid"]}, 10_000))
        fee = again(api, {"lago_id": ids["offset"]})["fees"][0]["lago_id"]
        note = {"invoice_id": ids["offset"], "offset_amount_cents": 10, "items": [{"fee_id": fee, "amount_cents": 10}]}
        ok(api.post("/api/v1/credit_notes", json={"credit_note": note}))
        ok(api.put(f"/api/v1/invoices/{ids['lost']}/lose_dispute"))
        everything = set(ids)
        for query, found in (
            ({"partially_paid": "true"}, {"part"}),
            ({"partially_paid": "false"}, everything - {"part"}),
            ({"payment_dispute_lost": "true"}, {"lost"}),
            ({"payment_dispute_lost": "false"}, everything - {"lost"}),
            ({"settlements[]": "payment"}, {"part", "paid"}),
            ({"settlements[]": ["payment", "credit_note"]}, {"part", "paid", "offset"}),
            ({"payment_statuses[]": ["succeeded", "failed"]}, {"paid"}),
            ({"invoice_type": "one_off", "amount_from": "10000", "amount_to": "10000"}, everything),
            ({"invoice_type": "subscription"}, set()),
        ):
            listed = ok(api.get("/api/v1/invoices", params=query))["invoices"]
            assert {names[one["lago_id"]] for one in listed} == found, query
        assert problems(api.get("/api/v1/invoices", params={"settlements[]": "gift"})) == {
            "settlements": ["value_is_invalid"]
        }

    def test_the_status_set_by_hand_pays_nothing(self, api: httpx.Client, invoice: Json) -> None:
        url = f"/api/v1/invoices/{invoice['lago_id']}"
        marked = ok(api.put(url, json={"invoice": {"payment_status": "succeeded"}}))["invoice"]
        assert (marked["payment_status"], marked["fees"][0]["payment_status"]) == ("succeeded", "succeeded")
        assert (marked["total_paid_amount_cents"], marked["total_due_amount_cents"]) == (0, 10_000)
        ok(api.put(url, json={"invoice": {"payment_status": "failed"}}))
        ok(pay(api, invoice, 10_000))
        assert again(api, invoice)["payment_status"] == "succeeded"

    def test_without_a_provider(self, api: httpx.Client, other: httpx.Client, invoice: Json) -> None:
        url = f"/api/v1/invoices/{invoice['lago_id']}"
        for body in (None, {"payment_method": {"payment_method_type": "manual"}}):
            answer = api.post(f"{url}/retry_payment", json=body) if body else api.post(f"{url}/retry_payment")
            assert (answer.status_code, answer.content) == (200, b"")
        assert problems(api.post(f"{url}/payment_url")) == {"base": ["no_linked_payment_provider"]}
        for path in ("retry_payment", "payment_url", "void", "lose_dispute"):
            assert refusal(other.post(f"{url}/{path}")) == (404, "invoice_not_found")
        ok(pay(api, invoice, 10_000))
        assert refusal(api.post(f"{url}/retry_payment")) == (405, "invalid_status")

    def test_a_lost_dispute(self, api: httpx.Client, invoice: Json) -> None:
        url = f"/api/v1/invoices/{invoice['lago_id']}/lose_dispute"
        assert ok(api.post(url))["invoice"]["payment_dispute_lost_at"] == "2024-05-10T10:00:00Z"
        set_clock(api, "2024-05-11T10:00:00Z")
        assert ok(api.put(url))["invoice"]["payment_dispute_lost_at"] == "2024-05-10T10:00:00Z"


class TestRequests:
    URL = "/api/v1/payment_requests"

    def ask(self, api: httpx.Client, ids: list[str], customer: str = "customer", **fields: object) -> httpx.Response:
        sent = {"external_customer_id": customer, "lago_invoice_ids": ids, **fields}
        return api.post(self.URL, json={"payment_request": sent})

    def test_refused(self, api: httpx.Client, other: httpx.Client, invoice: Json) -> None:
        assert refusal(self.ask(api, [invoice["lago_id"]])) == (405, "invoices_not_overdue")
        assert refusal(self.ask(api, [invoice["lago_id"]], "nobody")) == (404, "customer_not_found")
        make_customer(api, "second")
        for ids, customer in (([invoice["lago_id"]], "second"), ([], "customer"), ([str(uuid4()), "x"], "customer")):
            assert refusal(self.ask(api, ids, customer)) == (404, "invoice_not_found")
        make_customer(other)
        assert refusal(self.ask(other, [invoice["lago_id"]])) == (404, "invoice_not_found")
        assert ok(api.get(self.URL))["payment_requests"] == []
        assert problems(api.get(self.URL, params={"payment_status": "no"})) == {"payment_status": ["value_is_invalid"]}
        assert refusal(api.get(f"{self.URL}/{uuid4()}")) == (404, "payment_request_not_found")
