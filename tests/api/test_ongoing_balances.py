"""Ongoing balances: what wallets will have left when all that has been used is billed (billing spec 7.5)."""

import httpx
import pytest

from tests.factories import (
    Json,
    event,
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
    wallet_of,
)

JUNE, MIDDLE, JULY = "2024-06-01T00:00:00Z", "2024-06-06T00:00:00Z", "2024-07-01T00:00:00Z"


@pytest.fixture(autouse=True)
def customer(api: httpx.Client) -> Json:
    set_clock(api, JUNE)
    return make_customer(api, currency="EUR")


@pytest.fixture
def calls(api: httpx.Client) -> Json:
    return make_metric(api, "calls", "sum_agg")


def subscribe(api: httpx.Client, *charges: Json, **fields: object) -> None:
    make_plan(api, charges=charges, **fields)
    make_subscription(api, subscription_at=JUNE)


def use(api: httpx.Client, units: object, code: str = "calls", subscription: str = "sub", **more: object) -> None:
    send_events(api, [event(code, subscription, value=units, **more)])


def cents(api: httpx.Client, wallet: Json) -> tuple[int, int, int]:
    """What a wallet holds, what of the usage falls to it, and what is left of it then."""
    now = wallet_of(api, wallet["lago_id"])
    return now["balance_cents"], now["ongoing_usage_balance_cents"], now["ongoing_balance_cents"]


def test_a_read_after_an_event_sees_what_is_left(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls))
    wallet = make_wallet(api, rate_amount="0.5", granted_credits="20")
    use(api, "6.5")
    assert cents(api, wallet) == (1_000, 650, 350)
    now = wallet_of(api, wallet["lago_id"])
    assert (now["credits_balance"], now["credits_ongoing_usage_balance"]) == ("20.0", "13.0")
    assert now["credits_ongoing_balance"] == "7.0"
    use(api, 4)
    listed = ok(api.get("/api/v1/wallets", params={"external_customer_id": "customer"}))["wallets"]
    assert [one["ongoing_balance_cents"] for one in listed] == [-50]
    use(api, 1)
    by_code = ok(api.get("/api/v1/customers/customer/wallets/default"))["wallet"]
    assert (by_code["ongoing_balance_cents"], by_code["credits_ongoing_balance"]) == (-150, "-3.0")
    move_credits(api, wallet, granted_credits="2")
    assert cents(api, wallet) == (1_100, 1_150, -50)


def test_usage_counts_with_its_taxes(api: httpx.Client, calls: Json) -> None:
    make_tax(api, "vat", "20", applied_to_organization=True)
    subscribe(api, standard(calls))
    wallet = make_wallet(api, granted_credits="10")
    use(api, "1.01")
    assert cents(api, wallet) == (1_000, 121, 879)


def test_wallets_in_their_order_and_the_last_takes_the_rest(api: httpx.Client, calls: Json) -> None:
    seats = make_metric(api, "seats", "sum_agg")
    subscribe(api, standard(calls), standard(seats))
    second = make_wallet(api, granted_credits="5")
    first = make_wallet(api, granted_credits="3", priority=1, applies_to={"billable_metric_codes": ["calls"]})
    dollars = make_wallet(api, granted_credits="9", priority=1, currency="USD")
    use(api, 4)
    use(api, 6, "seats")
    assert cents(api, first) == (300, 300, 0)
    assert cents(api, second) == (500, 700, -200)
    assert cents(api, dollars) == (900, 0, 900)
    ok(api.delete(f"/api/v1/wallets/{second['lago_id']}"))
    assert cents(api, first) == (300, 400, -100)


def test_wallets_of_fee_types(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls))
    fees = make_wallet(api, granted_credits="5", applies_to={"fee_types": ["subscription"]})
    charges = make_wallet(api, granted_credits="5", applies_to={"fee_types": ["charge"]})
    use(api, 2)
    assert (cents(api, fees), cents(api, charges)) == ((500, 0, 500), (500, 200, 300))


def test_events_that_name_their_wallet(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls, accepts_target_wallet=True))
    one = make_wallet(api, code="one", granted_credits="5", priority=1)
    two = make_wallet(api, code="two", granted_credits="5")
    use(api, 2)
    use(api, 3, target_wallet_code="two")
    assert (cents(api, one), cents(api, two)) == ((500, 200, 300), (500, 300, 200))


def test_what_is_billed_is_spent_and_no_longer_ongoing(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls))
    wallet = make_wallet(api, granted_credits="10")
    set_clock(api, MIDDLE)
    use(api, 5)
    assert cents(api, wallet) == (1_000, 500, 500)
    set_clock(api, JULY)
    assert cents(api, wallet) == (500, 0, 500)
    use(api, 2)
    assert cents(api, wallet) == (500, 200, 300)
    set_clock(api, "2024-07-02T00:00:00Z")
    ok(api.delete("/api/v1/subscriptions/sub"))
    assert cents(api, wallet) == (300, 0, 300)


def test_what_is_paid_in_advance_is_not_ongoing(api: httpx.Client, calls: Json) -> None:
    seats = make_metric(api, "seats", "sum_agg")
    apart = make_metric(api, "apart", "sum_agg")
    subscribe(
        api,
        standard(calls),
        standard(seats, pay_in_advance=True),
        standard(apart, pay_in_advance=True, invoiceable=False),
    )
    wallet = make_wallet(api, granted_credits="10")
    use(api, 2)
    use(api, 3, "seats")
    use(api, 4, "apart")
    assert cents(api, wallet) == (700, 200, 500)


def test_new_prices_show_at_once(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls))
    wallet = make_wallet(api, granted_credits="10")
    use(api, 2)
    assert cents(api, wallet) == (1_000, 200, 800)
    make_tax(api, "vat", "10", applied_to_organization=True)
    assert cents(api, wallet) == (1_000, 220, 780)


def test_all_subscriptions_of_the_customer(api: httpx.Client, calls: Json, other: httpx.Client) -> None:
    subscribe(api, standard(calls))
    make_subscription(api, "second", subscription_at=JUNE)
    make_subscription(api, "later", subscription_at="2024-06-20T00:00:00Z")
    make_customer(api, "neighbour", currency="EUR")
    make_subscription(api, "theirs", customer="neighbour", subscription_at=JUNE)
    wallet = make_wallet(api, granted_credits="10")
    for units, subscription in ((1, "sub"), (2, "second"), (4, "theirs"), (8, "later")):
        use(api, units, subscription=subscription)
    set_clock(other, JUNE)
    make_customer(other, currency="EUR")
    subscribe(other, standard(make_metric(other, "calls", "sum_agg")))
    use(other, 16)
    assert cents(api, wallet) == (1_000, 300, 700)


def test_yen(api: httpx.Client, calls: Json) -> None:
    subscribe(api, standard(calls, "2.5"), amount_currency="JPY")
    wallet = make_wallet(api, currency="JPY", granted_credits="100", rate_amount="10")
    use(api, 3)
    assert cents(api, wallet) == (1_000, 8, 992)
    assert wallet_of(api, wallet["lago_id"])["credits_ongoing_usage_balance"] == "0.8"
