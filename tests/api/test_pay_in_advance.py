"""Charges paid in advance: each event is billed by itself, once, as soon as it was sent (metering spec 3.12)."""

from decimal import Decimal
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
    make_tax,
    ok,
    refusal,
    send_event,
    send_events,
    set_clock,
    standard,
    usage_of,
)

NOON = 1_715_342_400  # 2024-05-10T12:00:00Z
HOUR, DAY = 3_600, 86_400
CLIENTS = 16


def charge(metric: Json, model: str = "standard", invoiceable: bool = False, **more: Any) -> Json:
    """A charge paid in advance, whose fees stand alone unless told otherwise."""
    properties = more.pop("properties", {"amount": "1"})
    charge_model = {"charge_model": model, "properties": properties}
    return standard(metric, pay_in_advance=True, invoiceable=invoiceable, **{**charge_model, **more})


def subscribe(api: httpx.Client, *charges: Json, **plan: Any) -> None:
    """`sub` on a plan with these charges since the first of May 2024."""
    make_plan(api, charges=charges, **plan)
    make_customer(api)
    make_subscription(api)


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on the first of May 2024."""
    set_clock(api, "2024-05-01T00:00:00Z")
    return api


def fees(api: httpx.Client, **query: Any) -> list[Json]:
    """The charge fees that there are."""
    found: list[Json] = ok(api.get("/api/v1/fees", params={"fee_type": "charge", "per_page": 1000, **query}))["fees"]
    return found


def cents(api: httpx.Client, **query: Any) -> dict[str, int]:
    """What the fee of each event came to."""
    return {one["event_transaction_id"]: one["amount_cents"] for one in fees(api, **query)}


def send(api: httpx.Client, *values: Any, code: str = "gb", start: int = NOON) -> list[str]:
    """Send events one request after the other, an hour apart; gives their ids."""
    ids = []
    for number, value in enumerate(values):
        one = event(code, "sub", start + number * HOUR, value=value)
        ok(send_event(api, one))
        ids.append(one["transaction_id"])
    return ids


RANGES = {
    "graduated_ranges": [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "5"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "2"},
    ]
}


def test_a_fee_that_stands_alone(may: httpx.Client) -> None:
    make_tax(may, "vat", "20")
    metric = make_metric(may, "gb", "sum_agg")
    subscribe(may, charge(metric, tax_codes=["vat"], properties={"amount": "0.335"}))
    ok(send_event(may, event("gb", "sub", NOON, "t1", value="3")))
    (fee,) = fees(may)
    wanted = {
        "event_transaction_id": "t1", "amount_cents": 101, "units": "3.0", "events_count": 1, "pay_in_advance": True,
        "invoiceable": False, "lago_invoice_id": None, "payment_status": "pending", "succeeded_at": None,
        "taxes_amount_cents": 20, "total_amount_cents": 121, "precise_amount": "1.005", "amount_details": {},
        "from_date": "2024-05-01T00:00:00Z", "to_date": "2024-05-31T23:59:59Z", "created_at": "2024-05-01T00:00:00Z",
        "total_aggregated_units": "3.0", "external_subscription_id": "sub",
    }  # fmt: skip
    assert {key: fee[key] for key in wanted} == wanted
    assert fee["item"]["grouped_by"] == {}
    assert [tax["tax_code"] for tax in fee["applied_taxes"]] == ["vat"]
    assert ok(may.get(f"/api/v1/fees/{fee['lago_id']}"))["fee"] == fee
    assert invoices_of(may) == []
    # The period's invoice does not bill it again.
    set_clock(may, "2024-06-01T00:00:00Z")
    (invoice,) = invoices_of(may)
    assert [one["item"]["type"] for one in invoice["fees"]] == ["subscription"]


def test_a_fee_on_an_invoice(may: httpx.Client) -> None:
    make_tax(may, "vat", "20", applied_to_organization=True)
    metric = make_metric(may, "gb", "sum_agg")
    subscribe(may, charge(metric, invoiceable=True, properties={"amount": "1.5"}))
    make_plan(may, "other")
    send_events(may, [event("gb", "sub", NOON, f"t{number}", value=number) for number in (2, 0)])
    first, second = sorted(invoices_of(may), key=lambda one: one["total_amount_cents"])
    assert (second["total_amount_cents"], second["payment_status"], second["invoice_type"]) == (
        360,
        "pending",
        "subscription",
    )
    assert (first["total_amount_cents"], first["payment_status"]) == (0, "succeeded")
    assert {first["sequential_id"], second["sequential_id"]} == {1, 2}
    assert (second["issuing_date"], second["status"]) == ("2024-05-10", "finalized")
    (period,) = second["billing_periods"]
    assert (period["invoicing_reason"], period["charges_to_datetime"]) == ("in_advance_charge", "2024-05-31T23:59:59Z")
    (fee,) = second["fees"]
    assert (fee["invoiceable"], fee["pay_in_advance"], fee["event_transaction_id"]) == (True, True, "t2")
    assert refusal(may.delete(f"/api/v1/fees/{fee['lago_id']}")) == (405, "invoiced_fee")
    assert fee in fees(may)


def test_every_charge_on_the_metric_makes_a_fee(may: httpx.Client) -> None:
    metric = make_metric(may, "gb", "sum_agg")
    charges = [
        charge(metric),
        charge(metric, "package", properties={"amount": "7", "package_size": 5, "free_units": 0}),
    ]
    subscribe(may, *charges, charge(metric, invoiceable=True), standard(metric))
    send(may, 3)
    assert sorted(one["amount_cents"] for one in fees(may)) == [300, 300, 700]
    set_clock(may, "2024-06-01T00:00:00Z")
    assert sorted(one["amount_cents"] for one in fees(may)) == [300, 300, 300, 700]


def test_the_highest_level_of_a_sum(may: httpx.Client) -> None:
    subscribe(may, charge(make_metric(may, "gb", "sum_agg")))
    ids = send(may, 5, -2, 4, 3)
    found = cents(may)
    assert [found[one] for one in ids] == [500, 0, 200, 300]
    (used,) = usage_of(may)["charges_usage"]
    assert (used["units"], used["amount_cents"]) == ("10.0", 1000)
    send(may, -6, start=NOON + DAY)
    (used,) = usage_of(may)["charges_usage"]
    assert (used["units"], used["amount_cents"]) == ("4.0", 1000)
    # A new period begins at 0.
    set_clock(may, "2024-06-01T00:00:00Z")
    (late,) = send(may, 1, start=NOON + 31 * DAY)
    assert cents(may)[late] == 100


def test_unique_counts(may: httpx.Client) -> None:
    subscribe(may, charge(make_metric(may, "users", "unique_count_agg", "user")))
    moves = [("a", "add"), ("b", "add"), ("a", "add"), ("a", "remove"), ("c", "add"), ("d", "add"), ("b", "remove")]
    for number, (user, move) in enumerate(moves):
        at = NOON + number * HOUR
        ok(send_event(may, event("users", "sub", at, f"t{number}", user=user, operation_type=move)))
    found = cents(may)
    assert [found[f"t{number}"] for number in range(len(moves))] == [100, 100, 0, 0, 0, 100, 0]
    (used,) = usage_of(may)["charges_usage"]
    assert (used["units"], used["amount_cents"]) == ("2.0", 300)
    # Without an item there is nothing to bill.
    ok(send_event(may, event("users", "sub", NOON, "none")))
    assert "none" not in cents(may)


@pytest.mark.parametrize(
    ("model", "properties", "values", "amounts"),
    [
        ("graduated", RANGES, [4, 8, 10], [900, 600 + 200 + 100, 500]),
        ("package", {"amount": "7", "package_size": 5, "free_units": 2}, [2, 1, 5], [0, 700, 700]),
        ("percentage", {"rate": "10", "fixed_amount": "1", "free_units_per_total_aggregation": "10"}, [8, 4, 5],
         [0, 20 + 100, 50 + 100]),
        ("percentage", {"rate": "1", "per_transaction_min_amount": "2", "per_transaction_max_amount": "3"},
         [100, 250, 900], [200, 250, 300]),
        ("percentage", {"rate": "1", "free_units_per_events": 1, "per_transaction_min_amount": "2"}, [900, 10, 300],
         [0, 200, 300]),
        ("graduated_percentage", {"graduated_percentage_ranges": [
            {"from_value": 0, "to_value": 10, "rate": "10", "flat_amount": "1"},
            {"from_value": 11, "to_value": None, "rate": "20", "flat_amount": "2"}]},
         [5, 10], [150, 50 + 100 + 200]),
    ],
)  # fmt: skip
def test_models(may: httpx.Client, model: str, properties: Json, values: list[int], amounts: list[int]) -> None:
    """Each event costs what it adds; together they cost what usage does."""
    subscribe(may, charge(make_metric(may, "gb", "sum_agg"), model, properties=properties))
    found = [ids for value in values for ids in send(may, value, start=NOON + len(fees(may)) * HOUR)]
    by_event = cents(may)
    assert [by_event[one] for one in found] == amounts
    assert usage_of(may)["amount_cents"] == sum(amounts)


def test_events_of_one_request_cost_the_same(may: httpx.Client) -> None:
    subscribe(may, charge(make_metric(may, "gb", "sum_agg"), "graduated", properties=RANGES))
    events = [event("gb", "sub", NOON + number, f"t{number}", value=3) for number in range(6)]
    send_events(may, reversed(events))
    assert cents(may) == {"t0": 800, "t1": 300, "t2": 300, "t3": 100 + 200 + 100, "t4": 150, "t5": 150}


def test_dynamic(may: httpx.Client) -> None:
    subscribe(may, charge(make_metric(may, "gb", "sum_agg"), "dynamic", properties={}))
    for number, amount in enumerate(("200", "0.4", "12.5")):
        one = event("gb", "sub", NOON + number, f"t{number}", value=1)
        ok(send_event(may, {**one, "precise_total_amount_cents": amount}))
    assert cents(may) == {"t0": 200, "t1": 0, "t2": 13}
    assert usage_of(may)["amount_cents"] == 213


def test_pricing_units(may: httpx.Client) -> None:
    unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
    ok(may.post("/api/v1/pricing_units", json={"pricing_unit": unit}))
    applied = {"code": "credits", "conversion_rate": "0.5"}
    metric = make_metric(may, "gb", "sum_agg")
    subscribe(may, charge(metric, properties={"amount": "12.345"}, applied_pricing_unit=applied))
    one = event("gb", "sub", NOON, "t1", value=1)
    (told,) = ok(may.post("/api/v1/events/estimate_fees", json={"event": one}))["fees"]
    ok(send_event(may, one))
    (fee,) = fees(may)
    assert (fee["amount_cents"], fee["precise_amount"]) == (618, "6.175")
    assert fee["pricing_unit_details"]["amount_cents"] == 1235
    assert (told["amount_cents"], told["pricing_unit_details"]) == (618, fee["pricing_unit_details"])


def test_filters_and_groups_each_begin_anew(may: httpx.Client) -> None:
    metric = make_metric(may, "gb", "sum_agg", filters=[{"key": "region", "values": ["eu", "us"]}])
    filters = [{"values": {"region": ["eu"]}, "invoice_display_name": "Europe",
                "properties": {"amount": "7", "package_size": 10, "free_units": 0}}]  # fmt: skip
    package = {"amount": "5", "package_size": 10, "free_units": 0, "pricing_group_keys": ["team"]}
    subscribe(may, charge(metric, "package", properties=package, filters=filters, accepts_target_wallet=True))
    sent: list[dict[str, str]] = [
        {"region": "eu"}, {"region": "eu"}, {"team": "a"}, {"team": "b"}, {"team": "a"}, {}, {"target_wallet_code": "w"},
    ]  # fmt: skip
    for number, properties in enumerate(sent):
        ok(send_event(may, event("gb", "sub", NOON + number, f"t{number}", value=6, **properties)))
    found = {one["event_transaction_id"]: one for one in fees(may)}
    told = [(found[f"t{number}"]["amount_cents"], found[f"t{number}"]["item"]["grouped_by"]) for number in range(7)]
    assert told == [
        (700, {}), (700, {}), (500, {"team": "a"}), (500, {"team": "b"}), (500, {"team": "a"}), (500, {"team": None}),
        (500, {"team": None, "target_wallet_code": "w"}),
    ]  # fmt: skip
    assert found["t0"]["item"]["filters"] == {"region": ["eu"]}
    assert found["t0"]["item"]["filter_invoice_display_name"] == "Europe"
    assert (found["t0"]["lago_charge_filter_id"], found["t2"]["lago_charge_filter_id"]) != (None, None)


def test_proration(may: httpx.Client) -> None:
    metric = make_metric(may, "seats", "unique_count_agg", "user", recurring=True)
    subscribe(may, charge(metric, prorated=True, properties={"amount": "31"}))
    for number, day in enumerate((11, 21, 31)):
        at = NOON + (day - 10) * DAY
        ok(send_event(may, event("seats", "sub", at, f"t{number}", user=f"u{number}")))
    assert cents(may) == {"t0": 2100, "t1": 1100, "t2": 100}
    assert [one["units"] for one in fees(may)] == ["1.0"] * 3
    (used,) = usage_of(may)["charges_usage"]
    assert (used["units"], used["amount_cents"]) == ("3.0", 3300)
    # What is carried over is paid in full for the period that begins, and is there in its usage.
    set_clock(may, "2024-06-01T00:00:00Z")
    renewal = next(one for one in fees(may) if one["event_transaction_id"] is None)
    wanted = {
        "units": "3.0", "amount_cents": 9300, "lago_invoice_id": None, "pay_in_advance": True, "invoiceable": False,
        "from_date": "2024-06-01T00:00:00Z", "to_date": "2024-06-30T23:59:59Z",
    }  # fmt: skip
    assert {key: renewal[key] for key in wanted} == wanted
    assert usage_of(may)["amount_cents"] == 9300
    ok(send_event(may, event("seats", "sub", NOON + 40 * DAY, "t3", user="u3")))
    ok(send_event(may, event("seats", "sub", NOON + 41 * DAY, "gone", user="u0", operation_type="remove")))
    assert (cents(may)["t3"], cents(may)["gone"]) == (round(3100 * Decimal("0.4")), 0)
    (used,) = usage_of(may)["charges_usage"]
    # 4 units were there, of which the new one has been paid for 12 of 30 days.
    assert (used["units"], used["amount_cents"]) == ("3.0", 9300 + 1240)
    (invoice,) = invoices_of(may)
    assert [one["item"]["type"] for one in invoice["fees"]] == ["subscription"]


def test_tiers_go_on_above_what_was_carried_over(may: httpx.Client) -> None:
    metric = make_metric(may, "gb", "sum_agg", recurring=True)
    subscribe(may, charge(metric, "graduated", invoiceable=True, properties=RANGES))
    send(may, 9)
    set_clock(may, "2024-06-01T00:00:00Z")
    (renewal,) = [one for one in fees(may) if one["event_transaction_id"] is None]
    assert (renewal["units"], renewal["amount_cents"], renewal["pay_in_advance"]) == ("9.0", 1400, False)
    (more,) = send(may, 4, start=NOON + 31 * DAY)
    assert cents(may)[more] == 100 + 200 + 150
    assert usage_of(may)["amount_cents"] == 1400 + 450


class TestOnce:
    def test_sent_again(self, may: httpx.Client) -> None:
        subscribe(may, charge(make_metric(may, "calls")), charge(make_metric(may, "gb", "sum_agg"), invoiceable=True))
        one, two = event("calls", "sub", NOON, "t1"), event("gb", "sub", NOON, "t2", value=1)
        for _ in range(3):
            ok(send_event(may, one))
            ok(send_event(may, two))
            assert cents(may) == {"t1": 100, "t2": 100}
        assert len(invoices_of(may)) == 1

    def test_deleted(self, may: httpx.Client) -> None:
        subscribe(may, charge(make_metric(may, "calls")))
        one = event("calls", "sub", NOON, "t1")
        ok(send_event(may, one))
        (fee,) = fees(may)
        path = f"/api/v1/fees/{fee['lago_id']}"
        assert ok(may.delete(path))["fee"] == fee
        assert refusal(may.get(path)) == refusal(may.delete(path)) == (404, "fee_not_found")
        ok(send_event(may, one))
        assert fees(may) == []

    def test_what_matches_nothing(self, may: httpx.Client) -> None:
        """Events of other subscriptions, from before the start, after the end, and without the property."""
        metric = make_metric(may, "gb", "sum_agg")
        subscribe(may, charge(metric))
        set_clock(may, "2024-05-11T00:00:00Z")
        send_events(
            may,
            [
                event("gb", "nobody", NOON, value=1),
                event("gb", "sub", NOON - 30 * DAY, value=1),
                event("gb", "sub", NOON),
                event("odd", "sub", NOON, value=1),
                event("gb", "sub", NOON, "text", value="much"),
            ],
        )
        assert cents(may) == {"text": 0}
        ok(may.delete("/api/v1/subscriptions/sub"))
        send_events(may, [event("gb", "sub", NOON + 2 * DAY, value=1), event("gb", "sub", NOON, "in time", value=2)])
        assert cents(may) == {"text": 0, "in time": 200}

    def test_only_what_comes_after(self, may: httpx.Client) -> None:
        """Events that were there before the charge, or before the subscription, make no fees, but count."""
        metric = make_metric(may, "gb", "sum_agg")
        make_plan(may, charges=[charge(make_metric(may, "calls"))])
        send_events(may, [event("gb", "sub", NOON, value=3), event("calls", "sub", NOON)])
        make_customer(may)
        make_subscription(may)
        send_events(may, [event("gb", "sub", NOON + 1, value=4), event("calls", "sub", NOON + 1, "call")])
        added = {"charge": charge(metric, "graduated", properties=RANGES)}
        ok(may.post("/api/v1/plans/plan/charges", json=added))
        assert cents(may) == {"call": 100}
        send_events(may, [event("gb", "sub", NOON + 2, "after", value=4)])
        # 7 units were there: 3 more at 1, and the first of the second range.
        assert cents(may) == {"call": 100, "after": 300 + 200 + 50}

    def test_other_filters_from_the_next_event_on(self, may: httpx.Client) -> None:
        metric = make_metric(may, "gb", "sum_agg", filters=[{"key": "region", "values": ["eu"]}])
        free = {"amount": "1", "package_size": 1, "free_units": 5}
        subscribe(may, charge(metric, "package", properties=free))
        send_events(may, [event("gb", "sub", NOON + number, f"t{number}", value=4, region="eu") for number in range(2)])
        assert cents(may) == {"t0": 0, "t1": 300}
        one = {"filter": {"values": {"region": ["eu"]}, "properties": {**free, "amount": "10"}}}
        ok(may.post("/api/v1/plans/plan/charges/gb/filters", json=one))
        more = [event("gb", "sub", NOON + 5, "eu", value=1, region="eu"), event("gb", "sub", NOON, "no", value=2)]
        send_events(may, more)
        # What was used in Europe counts under its filter now, and nothing has been used elsewhere.
        assert cents(may) == {"t0": 0, "t1": 300, "eu": 1000, "no": 0}

    def test_another_organization(self, may: httpx.Client, other: httpx.Client) -> None:
        for one in (may, other):
            set_clock(one, "2024-05-01T00:00:00Z")
            subscribe(one, charge(make_metric(one, "calls")))
        ok(send_event(may, event("calls", "sub", NOON, "t1")))
        (fee,) = fees(may)
        assert fees(other) == []
        assert refusal(other.delete(f"/api/v1/fees/{fee['lago_id']}")) == (404, "fee_not_found")
        ok(send_event(other, event("calls", "sub", NOON, "t1")))
        assert cents(other) == cents(may)


class TestLate:
    def test_a_late_event_bills_what_it_adds(self, may: httpx.Client) -> None:
        """In its own period and for its own days, on top of what was billed; what came after it stays."""
        subscribe(may, charge(make_metric(may, "gb", "sum_agg"), "graduated", properties=RANGES))
        later, earlier = send(may, 9), send(may, 4, start=NOON - DAY)
        assert [cents(may)[one] for one in (*later, *earlier)] == [1400, 100 + 200 + 150]
        assert usage_of(may)["amount_cents"] == 1400 + 450

    def test_of_a_period_that_has_ended(self, may: httpx.Client) -> None:
        subscribe(may, charge(make_metric(may, "gb", "sum_agg"), invoiceable=True))
        set_clock(may, "2024-06-05T00:00:00Z")
        (late,) = send(may, 2)
        (fee,) = fees(may, event_transaction_id=late)
        assert (fee["amount_cents"], fee["to_date"]) == (200, "2024-05-31T23:59:59Z")
        assert usage_of(may)["amount_cents"] == 0
