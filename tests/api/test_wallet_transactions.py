"""`/api/v1/wallet_transactions`: credits sold, given and voided, and the invoices that sell them (billing spec 7.2)."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import (
    Json,
    invoices_of,
    make_customer,
    make_tax,
    make_wallet,
    move_credits,
    ok,
    problems,
    refusal,
    set_clock,
    transactions_of,
    wallet_of,
)

URL = "/api/v1/wallet_transactions"
FIELDS = {
    "lago_id", "lago_wallet_id", "lago_invoice_id", "lago_credit_note_id", "lago_voided_invoice_id", "status", "source",
    "transaction_status", "transaction_type", "amount", "credit_amount", "invoice_requires_successful_payment",
    "metadata", "remaining_amount_cents", "remaining_credit_amount", "priority", "settled_at", "failed_at",
    "created_at", "name", "applied_invoice_custom_sections", "payment_method", "purchase_order_number",
}  # fmt: skip


@pytest.fixture(autouse=True)
def customer(api: httpx.Client) -> Json:
    set_clock(api, "2024-05-01T10:00:00Z")
    return make_customer(api, currency="EUR", net_payment_term=10)


def post(api: httpx.Client, wallet: Json, **fields: object) -> httpx.Response:
    return api.post(URL, json={"wallet_transaction": {"wallet_id": wallet["lago_id"], **fields}})


def get(api: httpx.Client, transaction: Json) -> Json:
    found: Json = ok(api.get(f"{URL}/{transaction['lago_id']}"))["wallet_transaction"]
    return found


def pay(api: httpx.Client, invoice_id: str, status: str = "succeeded") -> Json:
    invoice: Json = ok(api.put(f"/api/v1/invoices/{invoice_id}", json={"invoice": {"payment_status": status}}))
    return invoice


def flows(api: httpx.Client, transaction: Json, kind: str) -> list[tuple[str, int]]:
    """The transactions at the other end, and how much of them."""
    listed = ok(api.get(f"{URL}/{transaction['lago_id']}/{kind}s"))[f"wallet_transaction_{kind}s"]
    return [(one["wallet_transaction"]["lago_id"], one["amount_cents"]) for one in listed]


def test_one_transaction_for_each_amount(api: httpx.Client) -> None:
    wallet = make_wallet(api, rate_amount="2", granted_credits="5")
    notes = [{"key": "why", "value": "test"}]
    bought, given, void = move_credits(
        api, wallet, paid_credits="3", granted_credits="2.000009", voided_credits="1", name="May", priority=4,
        metadata=notes, purchase_order_number="PO-1", payment_method={"payment_method_type": "manual"},
    )  # fmt: skip
    assert bought.keys() == FIELDS
    assert [one["transaction_status"] for one in (bought, given, void)] == ["purchased", "granted", "voided"]
    assert [one["transaction_type"] for one in (bought, given, void)] == ["inbound", "inbound", "outbound"]
    assert [one["status"] for one in (bought, given, void)] == ["pending", "settled", "settled"]
    assert [one["amount"] for one in (bought, given, void)] == ["6.0", "4.0", "2.0"]
    assert [one["credit_amount"] for one in (bought, given, void)] == ["3.0", "2.0", "1.0"]
    assert [one["remaining_amount_cents"] for one in (bought, given, void)] == [None, 400, None]
    assert [one["remaining_credit_amount"] for one in (bought, given, void)] == [None, "2.0", None]
    for one in (bought, given, void):
        assert (one["name"], one["priority"], one["source"], one["metadata"]) == ("May", 4, "manual", notes)
        assert one["purchase_order_number"] == "PO-1"
        assert get(api, one) == one
    now = wallet_of(api, wallet["lago_id"])
    assert (now["balance_cents"], now["credits_balance"], now["consumed_credits"]) == (1_200, "6.0", "1.0")
    assert now["last_consumed_credit_at"] == "2024-05-01T10:00:00Z"
    assert move_credits(api, wallet, paid_credits="0", granted_credits="0.000001", voided_credits=None) == []


def test_buying_makes_an_invoice_and_paying_it_gives_the_credits(api: httpx.Client) -> None:
    make_tax(api, "vat", "20", applied_to_organization=True)
    wallet = make_wallet(api, rate_amount="0.003", invoice_requires_successful_payment=False)
    (bought,) = move_credits(api, wallet, paid_credits="10.5", name="Credits for May")
    assert (bought["credit_amount"], bought["amount"]) == ("10.0", "0.03")
    (invoice,) = invoices_of(api)
    assert invoice["lago_id"] == bought["lago_invoice_id"]
    assert (invoice["invoice_type"], invoice["status"], invoice["payment_status"]) == (
        "credit",
        "finalized",
        "pending",
    )
    assert (invoice["issuing_date"], invoice["payment_due_date"]) == ("2024-05-01", "2024-05-11")
    assert (invoice["number"][-7:], invoice["fees_amount_cents"], invoice["taxes_amount_cents"]) == ("001-001", 3, 0)
    assert (invoice["total_amount_cents"], invoice["total_due_amount_cents"]) == (3, 3)
    (fee,) = invoice["fees"]
    assert (fee["item"]["type"], fee["item"]["item_type"]) == ("credit", "WalletTransaction")
    assert (fee["item"]["lago_item_id"], fee["item"]["invoice_display_name"]) == (bought["lago_id"], "Credits for May")
    assert (fee["units"], fee["precise_unit_amount"], fee["amount_cents"]) == ("10.0", "0.003", 3)
    assert (fee["lago_subscription_id"], fee["external_customer_id"]) == (None, "customer")
    assert ok(api.get(f"/api/v1/fees/{fee['lago_id']}"))["fee"]["lago_invoice_id"] == invoice["lago_id"]
    told = ok(api.get(f"/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]
    assert (told["kind"], told["external_subscription_id"], told["amount_cents"]) == ("credit", None, 3)
    assert "10 units cost €0.03." in told["sentences"]
    assert ok(api.get(f"/api/v1/fees/{fee['lago_id']}/events"))["events"] == []
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 0
    set_clock(api, "2024-05-03T00:00:00Z")
    for _ in range(2):
        pay(api, invoice["lago_id"])
        now = wallet_of(api, wallet["lago_id"])
        assert (now["balance_cents"], now["credits_balance"]) == (3, "10.0")
    settled = get(api, bought)
    assert (settled["status"], settled["settled_at"], settled["remaining_amount_cents"]) == (
        "settled",
        "2024-05-03T00:00:00Z",
        3,
    )


def test_a_payment_that_failed_may_still_succeed(api: httpx.Client) -> None:
    wallet = make_wallet(api, paid_credits="10")
    (bought,) = transactions_of(api, wallet)
    pay(api, bought["lago_invoice_id"], "failed")
    failed = get(api, bought)
    assert (failed["status"], failed["failed_at"], failed["settled_at"]) == ("failed", "2024-05-01T10:00:00Z", None)
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 0
    pay(api, bought["lago_invoice_id"])
    settled = get(api, bought)
    assert (settled["status"], settled["failed_at"]) == ("settled", None)
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 1_000
    pay(api, bought["lago_invoice_id"], "failed")
    assert get(api, bought) == settled
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 1_000


def test_an_invoice_that_must_be_paid_first_is_not_seen_until_then(api: httpx.Client) -> None:
    wallet = make_wallet(api, invoice_requires_successful_payment=True)
    (bought,) = move_credits(api, wallet, paid_credits="10")
    assert bought["invoice_requires_successful_payment"]
    assert ok(api.get("/api/v1/invoices"))["invoices"] == []
    assert refusal(api.get(f"/api/v1/invoices/{bought['lago_invoice_id']}")) == (404, "invoice_not_found")
    (at_once,) = move_credits(api, wallet, paid_credits="1", invoice_requires_successful_payment=False)
    (seen,) = invoices_of(api)
    assert (seen["lago_id"], seen["sequential_id"]) == (at_once["lago_invoice_id"], 1)


@pytest.mark.parametrize(
    ("currency", "rate", "credits_", "amount", "cents"),
    [("JPY", "120.5", "1", "121.0", 121), ("KWD", "0.0625", "3", "0.188", 188)],
)
def test_currencies_without_cents_and_with_a_thousand(
    api: httpx.Client, currency: str, rate: str, credits_: str, amount: str, cents: int
) -> None:
    wallet = make_wallet(api, currency=currency, rate_amount=rate, granted_credits=credits_, paid_credits=credits_)
    assert [one["amount"] for one in transactions_of(api, wallet)] == [amount, amount]
    (invoice,) = invoices_of(api)
    pay(api, invoice["lago_id"])
    assert invoice["total_amount_cents"] == cents
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 2 * cents
    (void,) = move_credits(api, wallet, voided_credits=wallet_of(api, wallet["lago_id"])["credits_balance"])
    now = wallet_of(api, wallet["lago_id"])
    assert (now["balance_cents"], now["credits_balance"]) == (0, "0.0")
    assert sum(cents for _, cents in flows(api, void, "funding")) == 2 * cents


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"paid_credits": 10}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"granted_credits": "ten"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"voided_credits": False}, {"voided_credits": ["invalid_voided_credits", "invalid_amount"]}),
        ({"granted_credits": "0.001"}, {"granted_credits": ["invalid_granted_credits", "amount_rounds_to_zero"]}),
        ({"voided_credits": "10.00001"}, {"voided_credits": ["insufficient_credits"]}),
        ({"paid_credits": "0.99"}, {"paid_credits": ["amount_below_minimum"]}),
        ({"paid_credits": "20.01"}, {"paid_credits": ["amount_above_maximum"]}),
        ({"name": "n" * 256}, {"name": ["too_long"]}),
        ({"priority": 51}, {"priority": ["value_is_invalid"]}),
        ({"metadata": [{"key": "k", "value": "v"}] * 16}, {"metadata": ["invalid_count"]}),
        ({"metadata": [{"value": "v"}]}, {"metadata": ["value_is_mandatory"]}),
        ({"voided_transaction_id": "x"}, {"voided_transaction_id": ["wallet_transaction_not_found"]}),
        ({"voided_transaction_id": str(uuid4())}, {"voided_transaction_id": ["wallet_transaction_not_found"]}),
        ({"voided_transaction_id": "x", "voided_credits": "1"}, {"voided_credits": ["value_must_be_blank"]}),
        ({"wallet_id": str(uuid4())}, {"wallet_id": ["wallet_not_found"]}),
        ({"wallet_id": None}, {"wallet_id": ["wallet_not_found"]}),
    ],
)
def test_what_cannot_be_moved(api: httpx.Client, fields: Json, wrong: Json) -> None:
    limits = {"paid_top_up_min_amount_cents": 100, "paid_top_up_max_amount_cents": 2_000}
    wallet = make_wallet(api, granted_credits="10", **limits)
    assert problems(post(api, wallet, **{"granted_credits": "1", **fields})) == wrong
    assert len(transactions_of(api, wallet)) == 1
    assert wallet_of(api, wallet["lago_id"]) == wallet


AMOUNTS = st.none() | st.sampled_from(["", "0", "1", "2.5", "0.001", "-1", "1e3", "9" * 30, "NaN", 3, True, [], {}])
NOTES = st.lists(
    st.dictionaries(st.sampled_from(["key", "value", "else"]), st.none() | st.text(max_size=3)), max_size=3
)


def test_no_request_is_a_server_error_or_moves_what_is_not_there(api: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="10")
    fields = {
        "paid_credits": AMOUNTS, "granted_credits": AMOUNTS, "voided_credits": AMOUNTS, "metadata": NOTES,
        "voided_transaction_id": st.none() | st.text(max_size=3), "priority": st.none() | st.integers(-1, 2**40),
        "name": st.none() | st.text(max_size=3), "payment_method": st.none() | st.just({"payment_method_id": "x"}),
    }  # fmt: skip

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries({}, optional=fields))
    def never_fails(sent: Json) -> None:
        answer = post(api, wallet, **sent)
        assert answer.status_code in {200, 400, 422}, sent
        now = wallet_of(api, wallet["lago_id"])
        inbound = transactions_of(api, wallet, transaction_type="inbound")
        assert now["balance_cents"] == sum(one["remaining_amount_cents"] or 0 for one in inbound) >= 0
        assert not now["credits_balance"].startswith("-")

    never_fails()


def test_limits_of_top_ups_hold_for_what_is_bought_and_can_be_ignored(api: httpx.Client) -> None:
    wallet = make_wallet(api, paid_top_up_min_amount_cents=100, paid_top_up_max_amount_cents=200)
    move_credits(api, wallet, granted_credits="50")
    move_credits(api, wallet, paid_credits="0.5", ignore_paid_top_up_limits=True)
    move_credits(api, wallet, paid_credits="50", ignore_paid_top_up_limits=True)


def test_voiding_one_top_up(api: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="3")
    (first,) = transactions_of(api, wallet)
    (second,) = move_credits(api, wallet, granted_credits="5")
    move_credits(api, wallet, voided_credits="1")
    (void,) = move_credits(api, wallet, voided_transaction_id=second["lago_id"])
    assert (void["amount"], void["credit_amount"]) == ("5.0", "5.0")
    assert flows(api, void, "funding") == [(second["lago_id"], 500)]
    (rest,) = move_credits(api, wallet, voided_transaction_id=first["lago_id"])
    assert (rest["amount"], flows(api, rest, "funding")) == ("2.0", [(first["lago_id"], 200)])
    assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 0
    for one in (first, second):
        left = problems(post(api, wallet, voided_transaction_id=one["lago_id"]))
        assert left == {"voided_transaction_id": ["no_remaining_amount"]}
    outbound = problems(post(api, wallet, voided_transaction_id=void["lago_id"]))
    assert outbound == {"voided_transaction_id": ["wallet_transaction_not_found"]}


def test_what_goes_out_is_traced_to_what_came_in(api: httpx.Client) -> None:
    """By priority, what was given before what was bought, then by age, also of one instant."""
    wallet = make_wallet(api)
    (bought,) = move_credits(api, wallet, paid_credits="4", priority=2)
    pay(api, bought["lago_invoice_id"])
    given = [move_credits(api, wallet, granted_credits="2", priority=2)[0] for _ in range(3)]
    (last,) = move_credits(api, wallet, granted_credits="9")
    (urgent,) = move_credits(api, wallet, granted_credits="1", priority=1)
    ids = [one["lago_id"] for one in (urgent, *given, bought, last)]
    (void,) = move_credits(api, wallet, voided_credits="4.5")
    assert flows(api, void, "funding") == list(zip(ids, [100, 200, 150], strict=False))
    (again,) = move_credits(api, wallet, voided_credits="6")
    assert flows(api, again, "funding") == list(zip(ids[2:], [50, 200, 350], strict=False))
    assert flows(api, given[1], "consumption") == [(again["lago_id"], 50), (void["lago_id"], 150)]
    assert get(api, bought)["remaining_amount_cents"] == 50
    assert get(api, bought)["remaining_credit_amount"] == "0.5"
    left = sum(one["remaining_amount_cents"] for one in transactions_of(api, wallet, transaction_type="inbound"))
    assert left == wallet_of(api, wallet["lago_id"])["balance_cents"] == 950
    page = ok(api.get(f"{URL}/{void['lago_id']}/fundings", params={"per_page": 2, "page": 2}))
    assert (len(page["wallet_transaction_fundings"]), page["meta"]["total_count"]) == (1, 3)
    assert page["wallet_transaction_fundings"][0]["credit_amount"] == "1.5"
    for one, kind in ((void, "consumptions"), (given[0], "fundings")):
        wrong = problems(api.get(f"{URL}/{one['lago_id']}/{kind}"))
        assert wrong == {"transaction_type": ["invalid_transaction_type"]}


def test_lists_and_their_filters(api: httpx.Client, other: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="3", paid_credits="2")
    (void,) = move_credits(api, wallet, voided_credits="1", metadata=[{"key": "why", "value": "test"}])

    def listed(**query: Any) -> list[str]:
        return [one["transaction_status"] for one in transactions_of(api, wallet, **query)]

    assert listed() == ["voided", "granted", "purchased"]
    assert listed(status="pending") == ["purchased"]
    assert listed(transaction_type="inbound") == ["granted", "purchased"]
    assert listed(transaction_status="voided") == ["voided"]
    assert listed(**{"metadata[why]": "test"}) == ["voided"]
    assert listed(**{"metadata[why]": ""}) == ["granted", "purchased"]
    path = f"/api/v1/wallets/{wallet['lago_id']}/wallet_transactions"
    for field in ("status", "transaction_type", "transaction_status"):
        assert problems(api.get(path, params={field: "x"})) == {field: ["value_is_invalid"]}
    page = ok(api.get(path, params={"per_page": 2, "page": 2}))
    assert (len(page["wallet_transactions"]), page["meta"]["total_count"]) == (1, 3)
    assert refusal(other.get(path)) == (404, "wallet_not_found")
    missing = (404, "wallet_transaction_not_found")
    assert refusal(other.get(f"{URL}/{void['lago_id']}")) == missing
    assert refusal(api.get(f"{URL}/no-id/fundings")) == missing
    assert refusal(api.get(f"{URL}/{uuid4()}/consumptions")) == missing


def test_there_is_nowhere_to_pay(api: httpx.Client) -> None:
    wallet = make_wallet(api, paid_credits="2")
    (bought,) = transactions_of(api, wallet)
    path = f"{URL}/{bought['lago_id']}/payment_url"
    assert problems(api.post(path)) == {"base": ["no_linked_payment_provider"]}
    assert refusal(api.post(f"{URL}/{uuid4()}/payment_url")) == (404, "wallet_transaction_not_found")
