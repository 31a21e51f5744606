"""Invoices that sell prepaid credits: paid by hand, paid back, called off and voided; and what a void gives back."""

import httpx
import pytest

from tests.factories import (
    Json,
    invoices_of,
    make_customer,
    make_plan,
    make_subscription,
    make_wallet,
    move_credits,
    ok,
    problems,
    refusal,
    set_clock,
    transactions_of,
    wallet_of,
)

NOTES = "/api/v1/credit_notes"


@pytest.fixture
def wallet(api: httpx.Client) -> Json:
    set_clock(api, "2024-05-01T10:00:00Z")
    make_customer(api, currency="EUR", net_payment_term=10)
    return make_wallet(api, rate_amount="2")


def buy(api: httpx.Client, wallet: Json, credits_: str = "10", **fields: object) -> Json:
    (bought,) = move_credits(api, wallet, paid_credits=credits_, **fields)
    return bought


def pay(api: httpx.Client, bought: Json, amount: int) -> httpx.Response:
    sent = {"invoice_id": bought["lago_invoice_id"], "amount_cents": amount, "reference": "r"}
    return api.post("/api/v1/payments", json={"payment": sent})


def give_back(api: httpx.Client, bought: Json, amount: int, part: str, **fields: object) -> httpx.Response:
    invoice = ok(api.get(f"/api/v1/invoices/{bought['lago_invoice_id']}"))["invoice"]
    items = [{"fee_id": invoice["fees"][0]["lago_id"], "amount_cents": amount}]
    sent = {"invoice_id": invoice["lago_id"], "items": items, f"{part}_amount_cents": amount, **fields}
    return api.post(NOTES, json={"credit_note": sent})


def balance(api: httpx.Client, wallet: Json) -> int:
    cents: int = wallet_of(api, wallet["lago_id"])["balance_cents"]
    return cents


def test_a_payment_of_the_whole_gives_the_credits(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet)
    assert problems(pay(api, bought, 1_999)) == {"amount_cents": ["invalid_amount"]}
    assert balance(api, wallet) == 0
    ok(pay(api, bought, 2_000))
    assert balance(api, wallet) == 2_000
    assert problems(pay(api, bought, 1)) == {"amount_cents": ["value_is_out_of_range"]}
    assert balance(api, wallet) == 2_000


def test_one_that_must_be_paid_first_is_final_with_its_payment(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet, invoice_requires_successful_payment=True)
    assert invoices_of(api) == []
    set_clock(api, "2024-05-03T10:00:00Z")
    payment = ok(pay(api, bought, 2_000))["payment"]
    (invoice,) = invoices_of(api)
    assert (invoice["status"], invoice["payment_status"], invoice["issuing_date"], invoice["payment_due_date"]) == (
        "finalized", "succeeded", "2024-05-03", "2024-05-13"
    )  # fmt: skip
    assert payment["invoice_numbers"] == [invoice["number"]]
    assert balance(api, wallet) == 2_000


def test_what_is_not_spent_is_paid_back(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet)
    ok(pay(api, bought, 2_000))
    move_credits(api, wallet, voided_credits="4")
    estimate = {"invoice_id": bought["lago_invoice_id"], "items": []}
    told = ok(api.post(f"{NOTES}/estimate", json={"credit_note": estimate}))["estimated_credit_note"]
    assert [told[f"max_{part}_amount_cents"] for part in ("creditable", "refundable", "offsettable")] == [0, 1_200, 0]
    assert problems(give_back(api, bought, 1_201, "refund")) == {"amount_cents": ["higher_than_wallet_balance"]}
    assert problems(give_back(api, bought, 10, "credit")) == {"credit_amount_cents": ["cannot_credit_invoice"]}
    assert problems(give_back(api, bought, 10, "offset")) == {"offset_amount_cents": ["cannot_apply_to_paid_invoice"]}
    note = ok(give_back(api, bought, 1_000, "refund"))["credit_note"]
    assert (note["refund_amount_cents"], note["refund_status"], note["credit_status"]) == (1_000, "pending", None)
    assert balance(api, wallet) == 200
    (void, *_) = transactions_of(api, wallet, transaction_status="voided")
    assert (void["lago_credit_note_id"], void["credit_amount"]) == (note["lago_id"], "5.0")
    assert problems(give_back(api, bought, 201, "refund")) == {"amount_cents": ["higher_than_wallet_balance"]}


def test_what_was_not_paid_is_called_off_as_a_whole(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet)
    assert problems(give_back(api, bought, 10, "refund")) == {"refund_amount_cents": ["cannot_refund_unpaid_invoice"]}
    assert problems(give_back(api, bought, 1_999, "offset")) == {"offset_amount_cents": ["not_equal_to_total_amount"]}
    ok(give_back(api, bought, 2_000, "offset"))
    (invoice,) = invoices_of(api)
    assert (invoice["payment_status"], invoice["total_due_amount_cents"]) == ("succeeded", 0)
    assert (transactions_of(api, wallet)[0]["status"], balance(api, wallet)) == ("failed", 0)
    assert problems(pay(api, bought, 2_000)) == {"amount_cents": ["value_is_out_of_range"]}


def test_nothing_of_a_wallet_that_is_over(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet)
    ok(pay(api, bought, 2_000))
    ok(api.delete(f"/api/v1/wallets/{wallet['lago_id']}"))
    assert refusal(give_back(api, bought, 10, "refund")) == (405, "invalid_type_or_status")


def test_a_void_calls_off_what_was_not_paid(api: httpx.Client, wallet: Json) -> None:
    bought = buy(api, wallet)
    ok(api.post(f"/api/v1/invoices/{bought['lago_invoice_id']}/void"))
    assert (transactions_of(api, wallet)[0]["status"], balance(api, wallet)) == ("failed", 0)
    assert problems(pay(api, bought, 2_000)) == {"invoice_id": ["value_is_invalid"]}


def test_a_void_gives_spent_credits_back_but_for_one_with_a_credit_note(api: httpx.Client, wallet: Json) -> None:
    move_credits(api, wallet, granted_credits="100")
    make_plan(api, amount_cents=1_000, pay_in_advance=True, interval="weekly")
    for subscription, fields, after in (("a", {}, 20_000), ("b", {"generate_credit_note": True}, 19_000)):
        make_subscription(api, subscription, billing_time="anniversary")
        (*_, invoice) = invoices_of(api)
        assert (invoice["prepaid_credit_amount_cents"], balance(api, wallet)) == (1_000, 19_000)
        ok(api.post(f"/api/v1/invoices/{invoice['lago_id']}/void", json=fields))
        assert balance(api, wallet) == after
        assert refusal(api.post(f"/api/v1/invoices/{invoice['lago_id']}/void")) == (405, "not_voidable")
        assert balance(api, wallet) == after
