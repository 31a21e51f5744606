"""Wallets that are topped up by themselves (billing spec 7.6)."""

from pathlib import Path
from typing import Any

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
    make_wallet,
    move_credits,
    ok,
    problems,
    send_events,
    set_clock,
    standard,
    transactions_of,
    wallet_of,
)
from tests.support import running, wait_for

JUNE = "2024-06-01T10:00:00Z"
FIELD = "recurring_transaction_rules"
FIXED = {"trigger": "threshold", "threshold_credits": "5", "paid_credits": "20"}
TARGET = {"trigger": "threshold", "method": "target", "threshold_credits": "5", "target_ongoing_balance": "30"}
MONTHLY = {"trigger": "interval", "interval": "monthly", "paid_credits": "20"}


@pytest.fixture(autouse=True)
def customer(api: httpx.Client) -> Json:
    set_clock(api, JUNE)
    return make_customer(api, currency="EUR")


def subscribe(api: httpx.Client) -> None:
    make_plan(api, charges=[standard(make_metric(api, "calls", "sum_agg"))])
    make_subscription(api, subscription_at="2024-06-01T00:00:00Z")


def use(api: httpx.Client, units: object) -> None:
    send_events(api, [event("calls", value=units)])


def with_rule(api: httpx.Client, rule: Json, credits_: str | None = "10", **fields: object) -> Json:
    return make_wallet(api, granted_credits=credits_, **{FIELD: [rule]}, **fields)


def top_ups(api: httpx.Client, wallet: Json) -> list[tuple[str, str, str, str]]:
    """What rules have put in, oldest first: when, why, how and how much."""
    return [
        (one["created_at"], one["source"], one["transaction_status"], one["credit_amount"])
        for one in reversed(transactions_of(api, wallet, transaction_type="inbound"))
        if one["source"] != "manual"
    ]


def last_invoice(api: httpx.Client) -> Json:
    return [one for one in invoices_of(api, "customer") if one["invoice_type"] == "credit"][-1]


def say_paid(api: httpx.Client, payment_status: str = "succeeded") -> None:
    """Tell how the payment of the last top-up went."""
    path = f"/api/v1/invoices/{last_invoice(api)['lago_id']}"
    ok(api.put(path, json={"invoice": {"payment_status": payment_status}}))


def test_a_rule_as_it_is_sent_and_shown(api: httpx.Client) -> None:
    rule = {
        **TARGET, "grants_target_top_up": False, "started_at": "2024-06-02T00:00:00Z", "transaction_name": "auto",
        "expiration_at": "2025-01-01T00:00:00Z", "invoice_requires_successful_payment": True,
        "ignore_paid_top_up_limits": True, "transaction_metadata": [{"key": "why", "value": "low"}],
        "purchase_order_number": "PO-1",
    }  # fmt: skip
    wallet = with_rule(api, rule)
    (shown,) = wallet[FIELD]
    assert shown.keys() == {
        "lago_id", "trigger", "method", "interval", "status", "threshold_credits", "paid_credits", "granted_credits",
        "grants_target_top_up", "started_at", "target_ongoing_balance", "created_at", "expiration_at",
        "invoice_requires_successful_payment", "transaction_metadata", "transaction_name", "ignore_paid_top_up_limits",
        "payment_method", "purchase_order_number", "applied_invoice_custom_sections",
    }  # fmt: skip
    amounts = {"threshold_credits": "5.0", "target_ongoing_balance": "30.0", "paid_credits": "0.0"}
    assert shown.items() >= {**rule, **amounts, "interval": None, "status": "active", "created_at": JUNE}.items()


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"trigger": "never"},
        {**FIXED, "method": "any"},
        {**FIXED, "threshold_credits": None},
        {**FIXED, "threshold_credits": "-5"},
        {**FIXED, "threshold_credits": 5},
        {**FIXED, "paid_credits": 20},
        {**FIXED, "paid_credits": "many"},
        {**FIXED, "granted_credits": "-1"},
        {**FIXED, "paid_credits": "0.001"},
        {**FIXED, "paid_credits": "4"},
        {**FIXED, "paid_credits": "51"},
        {**FIXED, "grants_target_top_up": True},
        {**FIXED, "expiration_at": JUNE},
        {**FIXED, "expiration_at": "soon"},
        {**FIXED, "started_at": "soon"},
        {**FIXED, "transaction_name": "x" * 256},
        {**FIXED, "transaction_metadata": [{"key": "k"}]},
        {**TARGET, "target_ongoing_balance": None},
        {**TARGET, "target_ongoing_balance": "0"},
        {**TARGET, "target_ongoing_balance": "4.9"},
        {"trigger": "threshold", "method": "target", "target_ongoing_balance": "9"},
        {**MONTHLY, "interval": None},
        {**MONTHLY, "interval": "daily"},
    ],
    ids=str,
)
def test_rules_that_cannot_be(api: httpx.Client, rule: Json) -> None:
    limits = {"paid_top_up_min_amount_cents": 500, "paid_top_up_max_amount_cents": 5_000}
    sent = {"external_customer_id": "customer", "rate_amount": "1", "currency": "EUR", **limits, FIELD: [rule]}
    refused = api.post("/api/v1/wallets", json={"wallet": sent})
    assert problems(refused) == {FIELD: ["invalid_recurring_rule"]}
    assert ok(api.get("/api/v1/wallets"))["wallets"] == []


def test_one_rule_at_the_most(api: httpx.Client) -> None:
    wallet = with_rule(api, FIXED)
    refused = api.put(f"/api/v1/wallets/{wallet['lago_id']}", json={"wallet": {FIELD: [FIXED, TARGET]}})
    assert problems(refused) == {FIELD: ["invalid_number_of_recurring_rules"]}
    assert wallet_of(api, wallet["lago_id"])[FIELD] == wallet[FIELD]


def test_rules_are_matched_by_their_id(api: httpx.Client) -> None:
    wallet = with_rule(api, {**FIXED, "transaction_name": "auto"})

    def put(rules: Any) -> list[Json]:
        changed = ok(api.put(f"/api/v1/wallets/{wallet['lago_id']}", json={"wallet": {FIELD: rules}}))
        found: list[Json] = changed["wallet"][FIELD]
        return found

    (first,) = wallet[FIELD]
    (changed,) = put([{"lago_id": first["lago_id"], "threshold_credits": "7", "granted_credits": "1"}])
    assert changed == {**first, "threshold_credits": "7.0", "granted_credits": "1.0"}
    (as_shown,) = put([changed])
    assert as_shown == changed
    (another,) = put([MONTHLY])
    assert another["lago_id"] != first["lago_id"]
    assert (another["trigger"], another["transaction_name"]) == ("interval", None)
    assert ok(api.put(f"/api/v1/wallets/{wallet['lago_id']}", json={"wallet": {"name": "n"}}))["wallet"][FIELD] == [
        another
    ]
    assert put([]) == []


def test_a_rule_without_amounts_repeats_the_initial_ones(api: httpx.Client) -> None:
    wallet = with_rule(api, {"trigger": "interval", "interval": "weekly"}, "3", paid_credits="4")
    assert (wallet[FIELD][0]["paid_credits"], wallet[FIELD][0]["granted_credits"]) == ("4.0", "3.0")
    wallet = with_rule(api, {"trigger": "interval", "interval": "weekly", "granted_credits": "1"}, paid_credits="4")
    assert (wallet[FIELD][0]["paid_credits"], wallet[FIELD][0]["granted_credits"]) == ("0.0", "1.0")


def test_at_the_threshold_credits_are_sold_once(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, {**FIXED, "transaction_name": "auto"})
    use(api, "4.99")
    assert top_ups(api, wallet) == []
    use(api, "0.01")
    assert top_ups(api, wallet) == [(JUNE, "threshold", "purchased", "20.0")]
    invoice = last_invoice(api)
    assert (invoice["total_amount_cents"], invoice["payment_status"]) == (2_000, "pending")
    use(api, 10)
    assert len(top_ups(api, wallet)) == 1
    say_paid(api)
    now = wallet_of(api, wallet["lago_id"])
    assert (now["balance_cents"], now["ongoing_balance_cents"]) == (3_000, 1_500)
    use(api, 10)
    assert len(top_ups(api, wallet)) == 2


def test_as_many_as_it_takes_but_no_more_than_the_limit(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, {**FIXED, "paid_credits": "20"}, paid_top_up_max_amount_cents=5_000)
    use(api, 46)
    assert top_ups(api, wallet)[0][3] == "50.0"
    freely = {**FIXED, "paid_credits": "20", "granted_credits": "1", "ignore_paid_top_up_limits": True}
    ok(api.delete(f"/api/v1/wallets/{wallet['lago_id']}"))
    free = with_rule(api, freely, paid_top_up_max_amount_cents=5_000)
    assert [one[2:] for one in top_ups(api, free)] == [("purchased", "60.0"), ("granted", "1.0")]


def test_up_to_the_target(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, TARGET, paid_top_up_max_amount_cents=1_000, invoice_requires_successful_payment=True)
    use(api, 8)
    assert top_ups(api, wallet) == [(JUNE, "threshold", "purchased", "28.0")]
    assert [one["invoice_type"] for one in invoices_of(api, "customer")] == []  # open until it is paid
    ok(api.delete(f"/api/v1/wallets/{wallet['lago_id']}"))
    more = with_rule(api, TARGET, paid_top_up_min_amount_cents=4_000)
    assert top_ups(api, more)[0][3] == "40.0"


def test_a_target_that_is_given(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, {**TARGET, "grants_target_top_up": True}, paid_top_up_min_amount_cents=4_000)
    use(api, 6)
    assert top_ups(api, wallet) == [(JUNE, "threshold", "granted", "26.0")]
    now = wallet_of(api, wallet["lago_id"])
    assert (now["balance_cents"], now["ongoing_balance_cents"]) == (3_600, 3_000)


def test_what_moves_the_balance_can_bring_it_to_the_threshold(api: httpx.Client) -> None:
    wallet = with_rule(api, FIXED)
    move_credits(api, wallet, voided_credits="4")
    assert top_ups(api, wallet) == []
    move_credits(api, wallet, voided_credits="2")
    assert len(top_ups(api, wallet)) == 1


def test_a_rule_that_is_raised_tops_up(api: httpx.Client) -> None:
    wallet = with_rule(api, FIXED)
    rule = {"lago_id": wallet[FIELD][0]["lago_id"], "threshold_credits": "10"}
    ok(api.put(f"/api/v1/wallets/{wallet['lago_id']}", json={"wallet": {FIELD: [rule]}}))
    assert [one[3] for one in top_ups(api, wallet)] == ["20.0"]


def test_a_wallet_with_a_threshold_is_not_relieved_by_the_next(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, FIXED, priority=1)
    spare = make_wallet(api, granted_credits="100")
    use(api, 30)
    assert top_ups(api, wallet)[0][3] == "40.0"
    assert wallet_of(api, spare["lago_id"])["ongoing_usage_balance_cents"] == 0


def test_nothing_is_sold_for_an_hour_after_a_failure(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, FIXED)
    use(api, 6)
    assert len(top_ups(api, wallet)) == 1
    say_paid(api, "failed")
    use(api, 1)
    assert len(top_ups(api, wallet)) == 1
    set_clock(api, "2024-06-01T10:59:59Z")
    assert len(top_ups(api, wallet)) == 1
    set_clock(api, "2024-06-01T11:00:00Z")
    assert [one[0] for one in top_ups(api, wallet)] == [JUNE, "2024-06-01T11:00:00Z"]


def test_a_payment_ends_the_pause(api: httpx.Client) -> None:
    subscribe(api)
    wallet = with_rule(api, FIXED)
    use(api, 6)
    assert len(top_ups(api, wallet)) == 1
    say_paid(api, "failed")
    set_clock(api, "2024-06-01T10:10:00Z")
    move_credits(api, wallet, paid_credits="1")
    say_paid(api)
    assert len(top_ups(api, wallet)) == 2


def test_the_clock_tops_up_on_its_way(api: httpx.Client) -> None:
    """What the events bring about is done when they came, and what a period's end brings about at that."""
    subscribe(api)
    wallet = with_rule(api, {**FIXED, "granted_credits": "1", "paid_credits": "0"})
    set_clock(api, "2024-06-06T00:00:00Z")
    use(api, 6)
    set_clock(api, "2024-06-07T00:00:00Z")
    assert top_ups(api, wallet)[0] == ("2024-06-06T00:00:00Z", "threshold", "granted", "1.0")


def test_every_month_on_the_day_of_the_customer(api: httpx.Client) -> None:
    make_customer(api, currency="EUR", timezone="America/New_York")
    set_clock(api, "2024-07-01T02:00:00Z")  # still June 30 there
    wallet = with_rule(api, MONTHLY)
    assert top_ups(api, wallet) == []
    set_clock(api, "2024-09-30T03:59:59Z")
    dates = ["2024-07-30T04:00:00Z", "2024-08-30T04:00:00Z"]
    assert top_ups(api, wallet) == [(date, "interval", "purchased", "20.0") for date in dates]
    set_clock(api, "2024-09-30T04:00:00Z")
    assert len(top_ups(api, wallet)) == 3
    assert last_invoice(api)["issuing_date"] == "2024-09-30"


def test_the_day_moves_with_the_customer(api: httpx.Client) -> None:
    wallet = with_rule(api, MONTHLY)
    make_customer(api, timezone="Asia/Tokyo")
    set_clock(api, "2024-06-30T15:00:00Z")
    assert [one[0] for one in top_ups(api, wallet)] == ["2024-06-30T15:00:00Z"]
    make_customer(api, timezone="UTC")
    set_clock(api, "2024-07-31T23:59:59Z")
    assert len(top_ups(api, wallet)) == 1
    set_clock(api, "2024-08-01T00:00:00Z")
    assert len(top_ups(api, wallet)) == 2


def test_from_the_day_that_a_rule_starts(api: httpx.Client) -> None:
    wallet = with_rule(api, {**MONTHLY, "started_at": "2024-07-31T15:00:00Z", "expiration_at": "2024-10-30T00:00:00Z"})
    set_clock(api, "2025-01-01T00:00:00Z")
    assert [one[0][:10] for one in top_ups(api, wallet)] == ["2024-07-31", "2024-08-31", "2024-09-30"]
    assert wallet_of(api, wallet["lago_id"])[FIELD] == []


def test_not_on_the_day_of_making_and_once_a_day(api: httpx.Client) -> None:
    wallet = with_rule(api, {**MONTHLY, "interval": "weekly", "started_at": JUNE})
    set_clock(api, "2024-06-08T12:00:00Z")
    assert [one[0] for one in top_ups(api, wallet)] == ["2024-06-08T00:00:00Z"]
    url = f"/api/v1/wallets/{wallet['lago_id']}"
    weekly = {**MONTHLY, "interval": "weekly"}
    ok(api.put(url, json={"wallet": {FIELD: [weekly]}}))  # another rule, on a day that has had its top-up
    set_clock(api, "2024-06-09T00:00:00Z")
    assert len(top_ups(api, wallet)) == 1
    ok(api.put(url, json={"wallet": {FIELD: [{**weekly, "started_at": "2024-06-09T05:00:00Z"}]}}))
    set_clock(api, "2024-06-09T01:00:00Z")
    assert [one[0] for one in top_ups(api, wallet)][1:] == ["2024-06-09T00:00:00Z"]


def test_every_month_up_to_the_target(api: httpx.Client) -> None:
    subscribe(api)
    rule = {"trigger": "interval", "interval": "monthly", "method": "target", "target_ongoing_balance": "30"}
    wallet = with_rule(api, rule, "40", rate_amount="2")
    use(api, 10)  # 5 credits
    set_clock(api, "2024-07-02T00:00:00Z")
    assert top_ups(api, wallet) == []
    use(api, 20)
    set_clock(api, "2024-08-02T00:00:00Z")
    assert top_ups(api, wallet) == [("2024-08-01T00:00:00Z", "interval", "purchased", "5.0")]


def test_wallets_that_have_ended_are_not_topped_up(api: httpx.Client) -> None:
    subscribe(api)
    ended = with_rule(api, MONTHLY)
    expired = with_rule(api, {**FIXED, "threshold_credits": "10"}, "11", expiration_at="2024-06-10T00:00:00Z")
    ok(api.delete(f"/api/v1/wallets/{ended['lago_id']}"))
    set_clock(api, "2024-06-10T00:00:00Z")
    use(api, 11)
    set_clock(api, "2024-08-10T00:00:00Z")
    assert top_ups(api, ended) == top_ups(api, expired) == []


def test_on_the_systems_time_nobody_needs_to_ask(tmp_path: Path) -> None:
    with running(tmp_path / "data", scheduler_seconds=1) as server, server.organization("Live") as live:
        make_customer(live, currency="EUR")
        make_plan(live, charges=[standard(make_metric(live, "calls", "sum_agg"))])
        make_subscription(live)
        sent = {"external_customer_id": "customer", "rate_amount": "1", "granted_credits": "10", FIELD: [FIXED]}
        ok(live.post("/api/v1/wallets", json={"wallet": sent}))
        use(live, 6)
        (invoice,) = wait_for(lambda: invoices_of(live, "customer"), "the top-up")
        assert (invoice["invoice_type"], invoice["total_amount_cents"]) == ("credit", 2_000)
        assert server.defects() == []
