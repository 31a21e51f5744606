"""`/api/v1/wallets`, also by customer and code: made, changed, ended, listed (billing spec 7.1, 7.7)."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.factories import (
    Json,
    invoices_of,
    make_customer,
    make_metric,
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

URL = "/api/v1/wallets"
FIELDS = {
    "lago_id", "lago_customer_id", "external_customer_id", "billing_entity_code", "status", "currency", "name", "code",
    "priority", "rate_amount", "credits_balance", "balance_cents", "consumed_credits", "created_at", "expiration_at",
    "last_balance_sync_at", "last_consumed_credit_at", "terminated_at", "invoice_requires_successful_payment",
    "applies_to", "ongoing_balance_cents", "ongoing_usage_balance_cents", "credits_ongoing_balance",
    "credits_ongoing_usage_balance", "paid_top_up_min_amount_cents", "paid_top_up_max_amount_cents",
    "applied_invoice_custom_sections", "payment_method", "purchase_order_number", "metadata",
}  # fmt: skip


@pytest.fixture(autouse=True)
def customer(api: httpx.Client) -> Json:
    set_clock(api, "2024-05-01T10:00:00Z")
    return make_customer(api, currency="EUR")


def post(api: httpx.Client, **fields: object) -> httpx.Response:
    sent = {"external_customer_id": "customer", "rate_amount": "1", **fields}
    return api.post(URL, json={"wallet": sent})


def put(api: httpx.Client, wallet: Json, **fields: object) -> httpx.Response:
    return api.put(f"{URL}/{wallet['lago_id']}", json={"wallet": fields})


def test_a_wallet_is_made_empty_and_then_has_its_credits(api: httpx.Client, customer: Json) -> None:
    made = ok(post(api, name="My Wállet", rate_amount="2.5", granted_credits="10.5", paid_credits="4"))["wallet"]
    assert made.keys() >= FIELDS
    assert (made["balance_cents"], made["credits_balance"]) == (0, "0.0")
    assert (made["code"], made["currency"], made["priority"], made["status"]) == ("my_wallet", "EUR", 50, "active")
    assert (made["rate_amount"], made["lago_customer_id"]) == ("2.5", customer["lago_id"])
    assert made["created_at"] == "2024-05-01T10:00:00Z"
    wallet = wallet_of(api, made["lago_id"])
    assert (wallet["balance_cents"], wallet["credits_balance"]) == (2_625, "10.5")
    assert (wallet["ongoing_balance_cents"], wallet["credits_ongoing_balance"]) == (2_625, "10.5")
    assert wallet["last_balance_sync_at"] == "2024-05-01T10:00:00Z"
    granted, bought = transactions_of(api, wallet)
    assert (granted["transaction_status"], granted["status"], granted["amount"]) == ("granted", "settled", "26.25")
    assert (bought["transaction_status"], bought["status"], bought["amount"]) == ("purchased", "pending", "10.0")


def test_what_a_wallet_is_made_with(api: httpx.Client, customer: Json) -> None:
    make_metric(api, "calls")
    make_metric(api, "bytes", "sum_agg")
    sent: Json = {
        "name": "Main", "code": "main/eu", "priority": 3, "currency": "USD", "expiration_at": "2024-06-01T00:00:00Z",
        "invoice_requires_successful_payment": True, "paid_top_up_min_amount_cents": 100,
        "paid_top_up_max_amount_cents": 100, "purchase_order_number": "PO-1", "metadata": {"team": "a", "none": None},
        "applies_to": {"fee_types": ["charge", "fixed_charge"], "billable_metric_codes": ["calls", "bytes"]},
        "payment_method": {"payment_method_type": "manual"},
    }  # fmt: skip
    made = ok(post(api, **sent))["wallet"]
    for field in ("payment_method", "applies_to"):
        del sent[field]
    assert {field: made[field] for field in sent} == sent
    assert made["payment_method"] == {"payment_method_type": "manual", "payment_method_id": None}
    assert made["applies_to"] == {"fee_types": ["charge", "fixed_charge"], "billable_metric_codes": ["bytes", "calls"]}
    by_code = ok(api.get("/api/v1/customers/customer/wallets/main/eu"))["wallet"]
    assert by_code == made
    assert customer["currency"] == "EUR"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"paid_credits": 10}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"granted_credits": 1.5}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "-1"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "1e3"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "1\n"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "٣"}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "9" * 26}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": "9" * 25}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"paid_credits": "0.004"}, {"paid_credits": ["invalid_paid_credits", "amount_rounds_to_zero"]}),
        ({"rate_amount": None}, {"rate_amount": ["value_is_mandatory"]}),
        ({"rate_amount": "0"}, {"rate_amount": ["value_is_out_of_range"]}),
        ({"rate_amount": "-1"}, {"rate_amount": ["value_is_invalid"]}),
        ({"rate_amount": "0.000001"}, {"rate_amount": ["value_is_invalid"]}),
        ({"rate_amount": True}, {"rate_amount": ["value_is_invalid"]}),
        ({"rate_amount": ["1"]}, {"rate_amount": ["value_is_invalid"]}),
        ({"currency": "EURO"}, {"currency": ["value_is_invalid"]}),
        ({"priority": 0}, {"priority": ["value_is_invalid"]}),
        ({"priority": 51}, {"priority": ["value_is_invalid"]}),
        ({"expiration_at": "2024-05-01T10:00:00Z"}, {"expiration_at": ["invalid_date"]}),
        ({"expiration_at": "soon"}, {"expiration_at": ["invalid_date"]}),
        (
            {"paid_top_up_min_amount_cents": 2, "paid_top_up_max_amount_cents": 1},
            {"paid_top_up_max_amount_cents": ["value_is_out_of_range"]},
        ),
        ({"paid_top_up_min_amount_cents": 101, "paid_credits": "1"}, {"paid_credits": ["amount_below_minimum"]}),
        ({"paid_top_up_max_amount_cents": 99, "paid_credits": "1"}, {"paid_credits": ["amount_above_maximum"]}),
        ({"applies_to": {"fee_types": ["credit"]}}, {"applies_to": ["invalid_limitations"]}),
        ({"name": "n" * 256}, {"name": ["value_is_too_long"]}),
        ({"code": "a//b"}, {"code": ["value_is_invalid"]}),
        ({"transaction_name": "n" * 256}, {"transaction_name": ["too_long"]}),
        ({"transaction_metadata": [{"key": "k", "value": "v"}] * 16}, {"transaction_metadata": ["invalid_count"]}),
        ({"transaction_metadata": [{"key": "k"}]}, {"transaction_metadata": ["value_is_mandatory"]}),
        ({"metadata": {"k" * 101: "v"}}, {"metadata": ["value_is_too_long"]}),
        ({"external_customer_id": "nobody"}, {"customer": ["customer_not_found"]}),
    ],
)
def test_what_cannot_be_a_wallet(api: httpx.Client, fields: Json, wrong: Json) -> None:
    assert problems(post(api, **fields)) == wrong
    assert ok(api.get(URL))["wallets"] == []


def test_unknown_metrics_and_customers(api: httpx.Client) -> None:
    unknown = post(api, applies_to={"billable_metric_codes": ["calls"]})
    assert refusal(unknown) == (404, "billable_metrics_not_found")
    assert refusal(post(api, billing_entity_code="elsewhere")) == (404, "billing_entity_not_found")
    nested = api.post("/api/v1/customers/nobody/wallets", json={"wallet": {"rate_amount": "1"}})
    assert refusal(nested) == (404, "customer_not_found")
    assert refusal(api.get("/api/v1/customers/nobody/wallets")) == (404, "customer_not_found")


def test_limits_of_top_ups_can_be_ignored_at_the_start(api: httpx.Client) -> None:
    limits = {"paid_top_up_min_amount_cents": 1_000, "paid_credits": "1"}
    wallet = make_wallet(api, **limits, ignore_paid_top_up_limits_on_creation=True)
    assert [one["amount"] for one in transactions_of(api, wallet)] == ["1.0"]


def test_the_currency_is_the_customers_unless_it_has_none(api: httpx.Client) -> None:
    make_customer(api, "blank")
    mandatory = api.post(URL, json={"wallet": {"external_customer_id": "blank", "rate_amount": "1"}})
    assert problems(mandatory) == {"currency": ["value_is_mandatory"]}
    make_wallet(api, "blank", currency="JPY", rate_amount=120, granted_credits="0.5")
    assert ok(api.get("/api/v1/customers/blank"))["customer"]["currency"] == "JPY"
    (wallet,) = ok(api.get("/api/v1/customers/blank/wallets"))["wallets"]
    assert (wallet["balance_cents"], wallet["rate_amount"]) == (60, "120.0")


def test_codes_are_one_of_a_kind_among_the_active(api: httpx.Client) -> None:
    first = make_wallet(api, name="Team 1")
    assert first["code"] == "team_1"
    assert make_wallet(api, name="team-1")["code"] == "team_1_1714557600"
    assert make_wallet(api, name="Team 1")["code"] == "team_1_1714557600_2"
    assert make_wallet(api)["code"] == make_wallet(api, name="日本", code="")["code"][:7] == "default"
    assert problems(post(api, code="team_1")) == {"code": ["value_already_exist"]}
    ok(api.delete(f"{URL}/{first['lago_id']}"))
    again = make_wallet(api, code="team_1")
    by_code = ok(api.get("/api/v1/customers/customer/wallets/team_1"))["wallet"]
    assert by_code["lago_id"] == again["lago_id"]
    assert problems(put(api, again, code="default")) == {"code": ["value_already_exist"]}
    assert problems(put(api, again, code=None)) == {"code": ["value_is_mandatory"]}
    assert ok(put(api, again, code="team_1"))["wallet"]["code"] == "team_1"


def test_a_customer_has_six_active_wallets_at_most(api: httpx.Client) -> None:
    made = [make_wallet(api, code=f"w{number}") for number in range(6)]
    assert problems(post(api)) == {"customer": ["wallet_limit_reached"]}
    ok(api.delete(f"{URL}/{made[0]['lago_id']}"))
    make_wallet(api)


def test_a_wallet_changes_in_what_was_sent(api: httpx.Client) -> None:
    make_metric(api, "calls")
    wallet = make_wallet(api, name="A", expiration_at="2024-07-01", applies_to={"billable_metric_codes": ["calls"]})
    changed = ok(put(api, wallet, name="B", priority=7, rate_amount="9", currency="USD", expiration_at=None))["wallet"]
    assert (changed["name"], changed["priority"], changed["expiration_at"]) == ("B", 7, None)
    assert (changed["rate_amount"], changed["currency"], changed["code"]) == ("1.0", "EUR", "a")
    assert changed["applies_to"]["billable_metric_codes"] == ["calls"]
    path = "/api/v1/customers/customer/wallets/a"
    limits = {"paid_top_up_min_amount_cents": 5, "applies_to": {"fee_types": ["charge"], "billable_metric_codes": []}}
    changed = ok(api.put(path, json={"wallet": limits}))["wallet"]
    assert changed["applies_to"] == {"fee_types": ["charge"], "billable_metric_codes": []}
    assert problems(put(api, wallet, paid_top_up_max_amount_cents=4)) == {
        "paid_top_up_max_amount_cents": ["value_is_out_of_range"]
    }
    assert ok(api.get(path))["wallet"] == changed
    assert refusal(api.put(f"{URL}/{uuid4()}", json={"wallet": {}})) == (404, "wallet_not_found")
    assert refusal(api.get(f"{URL}/no-id")) == (404, "wallet_not_found")
    assert refusal(api.get("/api/v1/customers/customer/wallets/b")) == (404, "wallet_not_found")


def test_a_wallet_that_has_ended(api: httpx.Client) -> None:
    wallet = make_wallet(api, code="main", granted_credits="5")
    ended = ok(api.delete("/api/v1/customers/customer/wallets/main"))["wallet"]
    assert (ended["status"], ended["terminated_at"]) == ("terminated", "2024-05-01T10:00:00Z")
    assert (ended["balance_cents"], ended["credits_balance"]) == (500, "5.0")
    assert problems(put(api, wallet, name="B")) == {"wallet_id": ["wallet_is_terminated"]}
    sent = {"wallet_id": wallet["lago_id"], "granted_credits": "1"}
    refused = api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent})
    assert problems(refused) == {"wallet_id": ["wallet_is_terminated"]}
    assert ok(api.delete(f"{URL}/{wallet['lago_id']}"))["wallet"] == ended
    assert ok(api.get("/api/v1/customers/customer/wallets/main"))["wallet"] == ended
    assert len(transactions_of(api, wallet)) == 1


def test_a_wallet_ends_when_it_expires(api: httpx.Client) -> None:
    wallet = make_wallet(api, granted_credits="5", expiration_at="2024-05-10T12:00:00Z")
    set_clock(api, "2024-05-10T11:59:59Z")
    assert wallet_of(api, wallet["lago_id"])["status"] == "active"
    set_clock(api, "2024-05-20T00:00:00Z")
    ended = wallet_of(api, wallet["lago_id"])
    assert (ended["status"], ended["terminated_at"], ended["balance_cents"]) == (
        "terminated",
        "2024-05-10T12:00:00Z",
        500,
    )


def test_the_wallets_of_a_customer_that_is_deleted_end(api: httpx.Client) -> None:
    """They pay for the invoices that its end makes."""
    make_plan(api, amount_cents=3_100)
    make_subscription(api)
    wallet = make_wallet(api, granted_credits="2")
    set_clock(api, "2024-05-10T00:00:00Z")
    ok(api.delete("/api/v1/customers/customer"))
    ended = wallet_of(api, wallet["lago_id"])
    assert (ended["status"], ended["balance_cents"]) == ("terminated", 0)
    (invoice,) = invoices_of(api)
    assert invoice["prepaid_credit_amount_cents"] == 200


def test_lists(api: httpx.Client, other: httpx.Client) -> None:
    make_customer(api, "second")
    make_customer(other)
    a, b, c = make_wallet(api), make_wallet(api, currency="USD", code="usd"), make_wallet(api, "second")
    make_wallet(other)

    def listed(**query: Any) -> set[str]:
        return {one["lago_id"] for one in ok(api.get(URL, params=query))["wallets"]}

    assert listed() == {a["lago_id"], b["lago_id"], c["lago_id"]}
    assert listed(external_customer_id="customer") == {a["lago_id"], b["lago_id"]}
    assert listed(external_customer_id="customer", currency="USD") == {b["lago_id"]}
    assert listed(external_customer_id="nobody") == set()
    assert listed(**{"billing_entity_codes[]": "elsewhere"}) == set()
    page = ok(api.get("/api/v1/customers/customer/wallets", params={"per_page": 1}))
    assert (len(page["wallets"]), page["meta"]["total_count"]) == (1, 2)
    assert refusal(other.get(f"{URL}/{a['lago_id']}")) == (404, "wallet_not_found")


@pytest.mark.parametrize("by_code", [False, True])
def test_metadata(api: httpx.Client, by_code: bool) -> None:
    wallet = make_wallet(api, code="main", metadata={"a": "1"})
    path = "/api/v1/customers/customer/wallets/main" if by_code else f"{URL}/{wallet['lago_id']}"
    path = f"{path}/metadata"
    assert ok(api.patch(path, json={"metadata": {"b": None}}))["metadata"] == {"a": "1", "b": None}
    assert ok(api.delete(f"{path}/a"))["metadata"] == {"b": None}
    assert refusal(api.delete(f"{path}/a")) == (404, "metadata_not_found")
    assert ok(api.post(path, json={"metadata": {"x/y": "2"}}))["metadata"] == {"x/y": "2"}
    assert problems(api.patch(path, json={"metadata": {"": "v"}})) == {"metadata": ["value_is_invalid"]}
    assert wallet_of(api, wallet["lago_id"])["metadata"] == {"x/y": "2"}
    assert ok(api.delete(f"{path}/x/y"))["metadata"] == {}
    assert ok(api.post(path, json={"metadata": {"c": "3"}}))["metadata"] == {"c": "3"}
    assert ok(api.delete(path))["metadata"] == {}
    other = make_wallet(api, code="alone")
    assert refusal(api.delete(f"{URL}/{uuid4()}/metadata")) == (404, "wallet_not_found")
    assert move_credits(api, other) == []
