"""Invoices that are paid with prepaid credits: which wallet pays what, and out of which top-ups (billing spec 7.4)."""

import threading

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    make_wallet,
    move_credits,
    ok,
    send_events,
    set_clock,
    standard,
    transactions_of,
    wallet_of,
)
from tests.support import Server

CLIENTS = 8


@pytest.fixture(autouse=True)
def customer(api: httpx.Client) -> Json:
    set_clock(api, "2024-05-01T00:00:00Z")
    return make_customer(api, currency="EUR")


def balance(api: httpx.Client, wallet: Json) -> int:
    cents: int = wallet_of(api, wallet["lago_id"])["balance_cents"]
    return cents


def spent(invoice: Json) -> tuple[int, int | None, int | None, int]:
    """What was prepaid of an invoice, what of that had been granted and bought, and what is left to pay."""
    return (
        invoice["prepaid_credit_amount_cents"],
        invoice["prepaid_granted_credit_amount_cents"],
        invoice["prepaid_purchased_credit_amount_cents"],
        invoice["total_amount_cents"],
    )


def bill_in_advance(api: httpx.Client, cents: int, **fields: object) -> Json:
    """The invoice of a month that is paid in advance."""
    before = {one["lago_id"] for one in invoices_of(api)}
    code = f"plan-{len(before)}"
    make_plan(api, code, amount_cents=cents, pay_in_advance=True, **fields)
    make_subscription(api, f"sub-{len(before)}", code)
    (invoice,) = (one for one in invoices_of(api) if one["lago_id"] not in before)
    return invoice


def test_the_worked_example(api: httpx.Client) -> None:
    calls = make_metric(api, "api")
    make_plan(api, amount_cents=1_200, charges=[standard(calls)])
    make_subscription(api)
    b = make_wallet(api, priority=10, granted_credits="20")
    a = make_wallet(api, priority=1, granted_credits="25", applies_to={"billable_metric_codes": ["api"]}, code="a")
    send_events(api, [event("api", timestamp=1_715_342_400) for _ in range(36)])
    set_clock(api, "2024-06-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    assert spent(invoice) == (4_500, 4_500, 0, 300)
    assert (invoice["sub_total_including_taxes_amount_cents"], invoice["payment_status"]) == (4_800, "pending")
    for wallet, cents in ((a, "25.0"), (b, "20.0")):
        (outbound,) = transactions_of(api, wallet, transaction_status="invoiced")
        assert (outbound["amount"], outbound["lago_invoice_id"]) == (cents, invoice["lago_id"])
        now = wallet_of(api, wallet["lago_id"])
        assert (now["balance_cents"], now["credits_balance"], now["consumed_credits"]) == (0, "0.0", cents)
        assert now["last_consumed_credit_at"] == "2024-06-01T00:00:00Z"


def test_what_was_granted_goes_before_what_was_bought(api: httpx.Client) -> None:
    wallet = make_wallet(api, rate_amount="3", paid_credits="1")
    (purchase,) = invoices_of(api)
    assert spent(purchase) == (0, None, None, 300)
    ok(api.put(f"/api/v1/invoices/{purchase['lago_id']}", json={"invoice": {"payment_status": "succeeded"}}))
    move_credits(api, wallet, granted_credits="1")
    assert spent(bill_in_advance(api, 100)) == (100, 100, 0, 0)
    assert wallet_of(api, wallet["lago_id"])["credits_balance"] == "1.66667"
    assert spent(bill_in_advance(api, 400)) == (400, 200, 200, 0)
    last = bill_in_advance(api, 150)
    assert spent(last) == (100, 0, 100, 50)
    assert (last["payment_status"], last["fees"][0]["payment_status"]) == ("pending", "pending")
    now = wallet_of(api, wallet["lago_id"])
    assert (now["balance_cents"], now["credits_balance"], now["consumed_credits"]) == (0, "0.0", "2.0")
    assert spent(bill_in_advance(api, 150)) == (0, None, None, 150)


def test_an_invoice_that_is_prepaid_is_paid(api: httpx.Client) -> None:
    make_wallet(api, granted_credits="100")
    invoice = bill_in_advance(api, 1_000)
    assert (invoice["payment_status"], invoice["total_due_amount_cents"]) == ("succeeded", 0)
    assert [fee["payment_status"] for fee in invoice["fees"]] == ["succeeded"]


def test_which_wallets_pay(api: httpx.Client) -> None:
    """The active ones in the invoice's currency that hold something, by priority and then by age."""
    ended = make_wallet(api, granted_credits="50", priority=1, code="ended")
    ok(api.delete(f"/api/v1/wallets/{ended['lago_id']}"))
    dollars = make_wallet(api, granted_credits="50", priority=1, currency="USD", code="dollars")
    make_customer(api, "neighbour")
    theirs = make_wallet(api, "neighbour", granted_credits="50")
    second = make_wallet(api, granted_credits="5", code="second")
    set_clock(api, "2024-05-01T01:00:00Z")
    third = make_wallet(api, granted_credits="5", code="third")
    first = make_wallet(api, granted_credits="5", priority=2, code="first")
    pending = make_wallet(api, paid_credits="5", priority=1, code="pending")
    assert spent(bill_in_advance(api, 1_200))[0] == 1_200
    assert [balance(api, one) for one in (first, second, third, pending)] == [0, 0, 300, 0]
    assert [balance(api, one) for one in (ended, dollars, theirs)] == [5_000, 5_000, 5_000]


def test_taxes_are_prepaid_and_credit_notes_go_first(api: httpx.Client) -> None:
    make_tax(api, "vat", "20", applied_to_organization=True)
    first = bill_in_advance(api, 1_000)
    (fee,) = first["fees"]
    note = {"invoice_id": first["lago_id"], "items": [{"fee_id": fee["lago_id"], "amount_cents": 500}]}
    ok(api.post("/api/v1/credit_notes", json={"credit_note": {**note, "credit_amount_cents": 600}}))
    wallet = make_wallet(api, granted_credits="5")
    invoice = bill_in_advance(api, 1_000)
    assert (invoice["credit_notes_amount_cents"], *spent(invoice)) == (600, 500, 500, 0, 100)
    assert balance(api, wallet) == 0


def test_the_wallet_that_events_name(api: httpx.Client) -> None:
    calls = make_metric(api, "calls")
    charges = [standard(calls, accepts_target_wallet=True)]
    make_plan(api, charges=charges)
    make_subscription(api)
    main = make_wallet(api, granted_credits="100", code="main", priority=1)
    team = make_wallet(api, granted_credits="3", code="team", applies_to={"fee_types": ["subscription"]})
    named = {"team": 5, "gone": 7, None: 2}
    for code, times in named.items():
        carried = {} if code is None else {"target_wallet_code": code}
        send_events(api, [event("calls", timestamp=1_715_342_400, **carried) for _ in range(times)])
    set_clock(api, "2024-06-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    groups = [one["item"]["grouped_by"] for one in invoice["fees"] if one["item"]["type"] == "charge"]
    assert {one["target_wallet_code"] for one in groups} == set(named)
    assert spent(invoice) == (500, 500, 0, 900)
    assert (balance(api, team), balance(api, main)) == (0, 9_800)


def test_events_paid_in_advance_are_prepaid(api: httpx.Client) -> None:
    """Many invoices of one customer in one go: each takes what the ones before have left."""
    calls = make_metric(api, "calls")
    make_plan(api, charges=[standard(calls, pay_in_advance=True)])
    make_subscription(api)
    wallet = make_wallet(api, granted_credits="2.5")
    send_events(api, [event("calls", timestamp=1_714_525_200 + n) for n in range(4)])
    assert [spent(one)[0] for one in invoices_of(api)] == [100, 100, 50, 0]
    assert balance(api, wallet) == 0
    assert len(transactions_of(api, wallet, transaction_status="invoiced")) == 3


def test_prepaid_credits_are_not_bought_with_prepaid_credits(api: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="50", paid_credits="5")
    (purchase,) = invoices_of(api)
    assert spent(purchase) == (0, None, None, 500)
    assert balance(api, wallet) == 5_000


def test_many_invoices_at_once_do_not_spend_the_same_balance(server: Server, api: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="25")
    make_plan(api, amount_cents=700, pay_in_advance=True)
    key = api.headers["Authorization"].removeprefix("Bearer ")
    begin = threading.Barrier(CLIENTS)

    def subscribe(number: int) -> None:
        with server.client(key) as client:
            begin.wait()
            make_subscription(client, f"s{number}")

    threads = [threading.Thread(target=subscribe, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    invoices = invoices_of(api)
    assert len(invoices) == CLIENTS
    assert sum(spent(one)[0] for one in invoices) == 2_500
    assert balance(api, wallet) == 0
    outbound = transactions_of(api, wallet, transaction_status="invoiced")
    assert sorted(float(one["amount"]) for one in outbound) == [4, 7, 7, 7]
