"""Charges of every model on one metric: what usage says, and the fees of the invoice with how they came about."""

from decimal import Decimal

import httpx

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    problems,
    send_events,
    set_clock,
    usage_of,
)


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


def test_prices_of_single_events_are_refused_for_now(api: httpx.Client) -> None:
    paid, calls = make_metric(api, "paid", "sum_agg"), make_metric(api, "calls")
    free: Json = {"charge_model": "percentage", "properties": {"rate": "1", "free_units_per_events": 2}}
    plan = {
        "name": "p", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
        "pay_in_advance": False,
    }  # fmt: skip

    def post(metric: Json, charge: Json) -> httpx.Response:
        charges = [{"billable_metric_id": metric["lago_id"], **charge}]
        return api.post("/api/v1/plans", json={"plan": {**plan, "charges": charges}})

    assert problems(post(paid, free)) == {"charge_model": ["value_is_invalid"]}
    on_filter = {"properties": {"rate": "1"}, "filters": [{"values": {}, "properties": free["properties"]}]}
    assert problems(post(paid, {**free, **on_filter})) == {"charge_model": ["value_is_invalid"]}
    # Counted events are known without being read.
    assert post(calls, {**free, "properties": {**free["properties"], "fixed_amount": "0.5"}}).status_code == 200
    make_customer(api, currency="EUR")
    make_subscription(api, plan="p")
    send_events(api, [event("calls") for _ in range(5)])
    assert usage_of(api)["amount_cents"] == 3 + 150
