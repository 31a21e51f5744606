"""Invoices voided: what becomes of them, of what they took and of what was paid."""

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    give_coupon,
    invoices_of,
    make_add_on,
    make_coupon,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    sell,
    send_events,
    set_clock,
    standard,
)

NOTES = "/api/v1/credit_notes"


@pytest.fixture
def invoice(api: httpx.Client) -> Json:
    """An invoice of three fees, with taxes of 19 %, that come to 166.60."""
    set_clock(api, "2024-05-10T10:00:00Z")
    make_tax(api, "vat", "19", applied_to_organization=True)
    make_add_on(api, "setup", amount_cents=10_000)
    make_customer(api)
    fees = [
        {"add_on_code": "setup"},
        {"add_on_code": "setup", "units": "0.3333"},
        {"add_on_code": "setup", "units": "0.0667"},
    ]
    sent = {"external_customer_id": "customer", "fees": fees}
    made: Json = ok(api.post("/api/v1/invoices", json={"invoice": sent}))["invoice"]
    assert made["total_amount_cents"] == 16_660
    return made


def void(api: httpx.Client, invoice: Json, **fields: object) -> httpx.Response:
    return api.post(f"/api/v1/invoices/{invoice['lago_id']}/void", json=fields)


def pay(api: httpx.Client, invoice: Json, amount: int) -> None:
    sent = {"invoice_id": invoice["lago_id"], "amount_cents": amount, "reference": "r"}
    ok(api.post("/api/v1/payments", json={"payment": sent}))


def notes_of(api: httpx.Client) -> list[Json]:
    return sorted(ok(api.get(NOTES))["credit_notes"], key=lambda note: str(note["number"]))


def test_it_keeps_its_number_and_nothing_is_due(api: httpx.Client, invoice: Json) -> None:
    pay(api, invoice, 100)
    voided = ok(api.post(f"/api/v1/invoices/{invoice['lago_id']}/void"))["invoice"]
    assert (voided["status"], voided["voided_at"], voided["number"]) == (
        "voided", "2024-05-10T10:00:00Z", invoice["number"]
    )  # fmt: skip
    assert (voided["total_amount_cents"], voided["total_due_amount_cents"]) == (16_660, 0)
    assert (voided["total_paid_amount_cents"], voided["payment_overdue"]) == (100, False)
    assert notes_of(api) == []
    url = f"/api/v1/invoices/{invoice['lago_id']}"
    assert (
        ok(api.get("/api/v1/invoices", params={"statuses[]": "voided"}))["invoices"][0]["lago_id"] == voided["lago_id"]
    )
    assert refusal(void(api, invoice)) == (405, "not_voidable")
    for sent in ({"payment_status": "succeeded"}, {"metadata": [{"key": "a", "value": "b"}]}):
        assert refusal(api.put(url, json={"invoice": sent})) == (405, "update_on_voided_invoice")
    assert refusal(api.post(f"{url}/retry_payment")) == (405, "invalid_status")
    assert ok(api.post(f"{url}/lose_dispute"))["invoice"]["payment_dispute_lost_at"]
    assert sell(api, {"add_on_code": "setup"})["sequential_id"] == 2


def test_a_part_is_given_back_and_the_rest_voided(api: httpx.Client, invoice: Json) -> None:
    pay(api, invoice, 5_000)
    ok(void(api, invoice, generate_credit_note=True, credit_amount=3_333, refund_amount=5_000))
    given, rest = notes_of(api)
    assert (given["credit_amount_cents"], given["refund_amount_cents"], given["total_amount_cents"]) == (
        3_333, 5_000, 8_333
    )  # fmt: skip
    assert (given["credit_status"], given["refund_status"], given["balance_amount_cents"]) == (
        "available", "pending", 3_333
    )  # fmt: skip
    assert (rest["credit_status"], rest["balance_amount_cents"], rest["refund_status"]) == ("voided", 0, None)
    assert (rest["total_amount_cents"], rest["credit_amount_cents"]) == (8_327, 8_327)
    assert [one["number"] for one in (given, rest)] == [f"{invoice['number']}-CN00{place}" for place in (1, 2)]
    for note in (given, rest):
        assert note["total_amount_cents"] == (
            note["sub_total_excluding_taxes_amount_cents"] + note["taxes_amount_cents"]
        )  # fmt: skip
        assert len(note["items"]) == 3
    assert sum(one["sub_total_excluding_taxes_amount_cents"] for one in (given, rest)) == 14_000
    settled = ok(api.put(f"{NOTES}/{given['lago_id']}", json={"credit_note": {"refund_status": "succeeded"}}))
    assert settled["credit_note"]["refund_status"] == "succeeded"


def test_everything_is_given_back_by_one_note(api: httpx.Client, invoice: Json) -> None:
    ok(void(api, invoice, generate_credit_note=True, credit_amount=16_660))
    (note,) = notes_of(api)
    assert (note["credit_amount_cents"], note["credit_status"], note["taxes_amount_cents"]) == (
        16_660, "available", 2_660
    )  # fmt: skip


def test_nothing_is_given_back_by_one_voided_note(api: httpx.Client, invoice: Json) -> None:
    ok(void(api, invoice, generate_credit_note=True))
    (note,) = notes_of(api)
    assert (note["total_amount_cents"], note["credit_status"], note["balance_amount_cents"]) == (16_660, "voided", 0)


@pytest.mark.parametrize(
    "amounts",
    [{"credit_amount": 16_661}, {"refund_amount": 5_001}, {"credit_amount": 12_000, "refund_amount": 4_661}],
)
def test_no_more_than_there_is(api: httpx.Client, invoice: Json, amounts: Json) -> None:
    pay(api, invoice, 5_000)
    assert problems(void(api, invoice, generate_credit_note=True, **amounts)) == {
        "credit_refund_amount": ["total_amount_exceeds_invoice_amount"]
    }
    assert notes_of(api) == []
    assert invoices_of(api)[0]["status"] == "finalized"


def test_after_earlier_notes(api: httpx.Client, invoice: Json) -> None:
    fee = invoice["fees"][0]["lago_id"]
    pay(api, invoice, 10_000)
    note = {"invoice_id": invoice["lago_id"], "items": [{"fee_id": fee, "amount_cents": 3_001}]}
    ok(api.post(NOTES, json={"credit_note": {**note, "refund_amount_cents": 3_571}}))
    assert problems(void(api, invoice, generate_credit_note=True, refund_amount=6_430)) == {
        "credit_refund_amount": ["total_amount_exceeds_invoice_amount"]
    }
    ok(void(api, invoice, generate_credit_note=True, refund_amount=6_429))
    notes = notes_of(api)
    assert [one["refund_amount_cents"] for one in notes] == [3_571, 6_429, 0]
    assert sum(one["total_amount_cents"] for one in notes) == 16_660


def test_its_period_is_not_billed_again(api: httpx.Client) -> None:
    """And what it billed is neither part of a commitment nor of what was invoiced of the subscription."""
    set_clock(api, "2024-05-01T00:00:00Z")
    metric = make_metric(api, "calls")
    make_plan(api, charges=[standard(metric)], amount_cents=1_000)
    make_subscription(api)
    send_events(api, [event("calls", timestamp=1_715_342_400)])
    set_clock(api, "2024-06-02T00:00:00Z")
    (may,) = invoices_of(api)
    assert may["total_amount_cents"] == 1_100
    lifetime = "/api/v1/subscriptions/sub/lifetime_usage"
    assert ok(api.get(lifetime))["lifetime_usage"]["invoiced_usage_amount_cents"] == 100
    ok(void(api, may))
    set_clock(api, "2024-07-02T00:00:00Z")
    assert [(one["status"], one["total_amount_cents"]) for one in invoices_of(api)] == [
        ("voided", 1_100), ("finalized", 1_000)
    ]  # fmt: skip
    assert ok(api.get(lifetime))["lifetime_usage"]["invoiced_usage_amount_cents"] == 0


def test_coupons_are_given_back_once(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T10:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_coupon(api, amount_cents=1_500)
    make_customer(api, currency="EUR")
    applied = give_coupon(api)
    make_plan(api, amount_cents=1_000, pay_in_advance=True)
    make_subscription(api)
    (april,) = invoices_of(api)
    assert (april["coupons_amount_cents"], april["total_amount_cents"]) == (1_000, 0)

    def remaining() -> object:
        (one,) = ok(api.get("/api/v1/applied_coupons", params={"external_customer_id": "customer"}))["applied_coupons"]
        assert one["lago_id"] == applied["lago_id"]
        return one["amount_cents_remaining"]

    assert remaining() == 500
    ok(void(api, april, generate_credit_note=True))
    assert (remaining(), notes_of(api)) == (1_500, [])
    assert refusal(void(api, april)) == (405, "not_voidable")
    assert remaining() == 1_500


def test_what_coupons_paid_is_not_given_back(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T10:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_coupon(api, percentage_rate="15")
    make_customer(api)
    give_coupon(api)
    make_plan(api, amount_cents=10_000, pay_in_advance=True)
    make_subscription(api)
    (april,) = invoices_of(api)
    assert april["total_amount_cents"] == 10_200
    pay(api, april, 10_200)
    assert problems(void(api, april, generate_credit_note=True, refund_amount=10_201)) == {
        "credit_refund_amount": ["total_amount_exceeds_invoice_amount"]
    }
    ok(void(api, april, generate_credit_note=True, refund_amount=3_400))
    assert [one["total_amount_cents"] for one in notes_of(api)] == [3_400, 6_800]
    assert sum(one["coupons_adjustment_amount_cents"] for one in notes_of(api)) == 1_500


def test_an_early_end_gives_nothing_back_of_a_voided_invoice(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T10:00:00Z")
    make_plan(api, amount_cents=3_000, pay_in_advance=True)
    make_subscription(api)
    ok(void(api, invoices_of(api)[0]))
    set_clock(api, "2024-04-16T10:00:00Z")
    ok(api.delete("/api/v1/subscriptions/sub"))
    assert notes_of(api) == []
