"""Charges of every model on one metric: what usage says, and the fees of the invoice with how they came about."""

from decimal import Decimal

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
    send_events,
    set_clock,
    usage_of,
)

NOON = 1_715_342_400


def two_ranges(key: str, *prices: tuple[str, str]) -> list[Json]:
    """0 to 100 and above, each with its price and its flat amount."""
    bounds = [{"from_value": 0, "to_value": 100}, {"from_value": 101, "to_value": None}]
    return [{**bound, key: price, "flat_amount": flat} for bound, (price, flat) in zip(bounds, prices, strict=True)]


MODELS: dict[str, tuple[Json, int, Json]] = {
    # Of 350 units in 3 events: the properties, the cents, and the details.
    "standard": ({"amount": "0.015"}, 525, {}),
    "package": (
        {"amount": "4.5", "package_size": 100, "free_units": 50},
        1350,
        {"free_units": "50.0", "paid_units": "300.0", "per_package_size": 100, "per_package_unit_amount": "4.5"},
    ),
    "percentage": (
        {"rate": "2.5", "fixed_amount": "0.1"},
        905,
        {
            "units": "350.0", "free_units": "0.0", "free_events": 0, "paid_units": "350.0", "rate": "2.5",
            "per_unit_total_amount": "8.75", "paid_events": 3, "fixed_fee_unit_amount": "0.1",
            "fixed_fee_total_amount": "0.3", "min_max_adjustment_total_amount": "0.0",
        },
    ),
    "volume": (
        {"volume_ranges": two_ranges("per_unit_amount", ("0.1", "5"), ("0.08", "2"))},
        3000,
        {"flat_unit_amount": "2.0", "per_unit_amount": "0.08", "per_unit_total_amount": "28.0"},
    ),
    "graduated_percentage": (
        {"graduated_percentage_ranges": two_ranges("rate", ("1.5", "1"), ("1", "3"))},
        800,
        {
            "graduated_percentage_ranges": [
                {"from_value": 0, "to_value": 100, "flat_unit_amount": "1.0", "rate": "1.5", "units": "100.0",
                 "per_unit_total_amount": "1.5", "total_with_flat_amount": "2.5"},
                {"from_value": 101, "to_value": None, "flat_unit_amount": "3.0", "rate": "1.0", "units": "250.0",
                 "per_unit_total_amount": "2.5", "total_with_flat_amount": "5.5"},
            ],
        },
    ),
    "dynamic": ({}, 1236, {}),
}  # fmt: skip


def test_usage_and_invoice(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    metric = make_metric(api, "paid", "sum_agg")
    charges = [
        {"billable_metric_id": metric["lago_id"], "charge_model": model, "properties": properties, "code": model}
        for model, (properties, _, _) in MODELS.items()
    ]
    make_plan(api, "all", charges)
    make_customer(api)
    make_subscription(api, plan="all")
    sent = [("200", "1234.5"), ("50", None), ("100", "1.25")]
    send_events(
        api,
        [
            {
                "transaction_id": f"t{number}", "external_subscription_id": "sub", "code": "paid",
                "properties": {"value": value}, "precise_total_amount_cents": amount, "timestamp": 1_715_000_000 + number,
            }
            for number, (value, amount) in enumerate(sent)
        ],
    )  # fmt: skip
    expected = {model: cents for model, (_, cents, _) in MODELS.items()}
    usage = {one["charge"]["code"]: one for one in usage_of(api)["charges_usage"]}
    assert {model: one["amount_cents"] for model, one in usage.items()} == expected
    assert {(one["units"], one["events_count"]) for one in usage.values()} == {("350.0", 3)}
    set_clock(api, "2024-06-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    fees = {fee["lago_charge_id"]: fee for fee in invoice["fees"] if fee["item"]["type"] == "charge"}
    billed = {model: fees[one["charge"]["lago_id"]] for model, one in usage.items()}
    assert {model: fee["amount_cents"] for model, fee in billed.items()} == expected
    assert {model: fee["amount_details"] for model, fee in billed.items()} == {
        model: details for model, (_, _, details) in MODELS.items()
    }
    assert Decimal(billed["package"]["precise_unit_amount"]) == Decimal("0.045")
    assert Decimal(billed["dynamic"]["precise_amount"]) == Decimal("12.3575")


@pytest.mark.parametrize(
    ("properties", "amount"),
    [
        ({}, 1540),
        ({"free_units_per_events": 2}, 940),
        ({"free_units_per_total_aggregation": "260"}, 920),
        ({"free_units_per_events": 1, "free_units_per_total_aggregation": "260"}, 1090),
        ({"per_transaction_min_amount": "2", "per_transaction_max_amount": "5"}, 1440),
        ({"per_transaction_min_amount": "2", "per_transaction_max_amount": "5", "free_units_per_events": 1}, 990),
    ],
)
def test_prices_that_look_at_single_events(api: httpx.Client, properties: Json, amount: int) -> None:
    """In the order of time, whatever order they are sent in, and in each bucket by itself."""
    set_clock(api, "2024-05-01T00:00:00Z")
    metric = make_metric(api, "paid", "sum_agg", filters=[{"key": "card", "values": ["visa"]}])
    price = {"rate": "2", "fixed_amount": "0.5", **properties}
    charge = {
        "billable_metric_id": metric["lago_id"], "charge_model": "percentage", "properties": price,
        "filters": [{"values": {"card": ["visa"]}, "properties": price}],
    }  # fmt: skip
    make_plan(api, charges=[charge])
    make_customer(api, currency="EUR")
    make_subscription(api)
    values = [(3, 120), (1, 50), (0, 200), (2, 300)]
    send_events(
        api,
        [
            event("paid", "sub", NOON + at * 600, value=value, card=card)
            for at, value in values
            for card in ("visa", "")
        ],
    )
    usage = usage_of(api)
    assert usage["amount_cents"] == 2 * amount
    assert {one["amount_cents"] for one in usage["charges_usage"][0]["filters"]} == {amount}
    set_clock(api, "2024-06-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    assert invoice["fees_amount_cents"] == 2 * amount


def test_counted_events_are_known_without_being_read(api: httpx.Client) -> None:
    calls = make_metric(api, "calls")
    properties = {"rate": "1", "free_units_per_events": 2, "fixed_amount": "0.5"}
    charge = {"billable_metric_id": calls["lago_id"], "charge_model": "percentage", "properties": properties}
    make_plan(api, charges=[charge])
    make_customer(api, currency="EUR")
    make_subscription(api)
    send_events(api, [event("calls") for _ in range(5)])
    assert usage_of(api)["amount_cents"] == 3 + 150
