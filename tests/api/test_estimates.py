"""Estimates: what an event would be charged at once, told before it is sent (metering spec 5.6, 5.7)."""

import random
from typing import Any

import httpx
import pytest

from tests.api.test_pay_in_advance import DAY, NOON, RANGES, charge, fees, subscribe
from tests.factories import (
    Json,
    event,
    make_metric,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    send_event,
    send_events,
    set_clock,
    standard,
)
from tests.support import seeded

FEES, INSTANT, BATCH = (
    f"/api/v1/events/{name}" for name in ("estimate_fees", "estimate_instant_fees", "batch_estimate_instant_fees")
)


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on the tenth of May 2024."""
    set_clock(api, "2024-05-10T12:00:00Z")
    return api


def hypothetical(code: str, subscription: str = "sub", **properties: Any) -> Json:
    """An event that is not sent."""
    return {"code": code, "external_subscription_id": subscription, "properties": properties}


def estimate(api: httpx.Client, one: Json, path: str = FEES) -> list[Json]:
    found: list[Json] = ok(api.post(path, json={"event": one}))["fees"]
    return found


SAME = (
    "lago_charge_id", "lago_charge_filter_id", "amount_cents", "precise_amount", "taxes_amount_cents",
    "taxes_precise_amount", "taxes_rate", "total_amount_cents", "units", "precise_unit_amount", "events_count",
    "amount_details", "item", "pay_in_advance", "invoiceable", "external_customer_id",
    "external_subscription_id",
)  # fmt: skip
"""What an estimate tells of the fee that the event then makes."""


def compared(fee: Json) -> Json:
    taxes = [(tax["tax_code"], tax["tax_rate"], tax["amount_cents"]) for tax in fee["applied_taxes"]]
    return {key: fee[key] for key in SAME} | {"taxes": taxes}


def random_event(chance: random.Random, number: int) -> Json:
    """Any of the events that the charges below bill."""
    code = chance.choice(["calls", "gb", "users", "seats", "carried"])
    properties: Json = {"region": chance.choice(["eu", "us", ""]), "team": chance.choice(["a", "b"])}
    if code in {"gb", "carried"}:
        properties["value"] = str(chance.choice([7, 0.25, 12, -3, 40, 0, -0.5]))
    elif code != "calls":
        properties |= {"value": f"u{chance.randint(1, 4)}", "operation_type": chance.choice(["add", "add", "remove"])}
    one = {"transaction_id": f"t{number}", "code": code, "external_subscription_id": "sub", "properties": properties}
    return {**one, "precise_total_amount_cents": str(chance.randint(0, 5_000) / 100)}


@pytest.mark.parametrize("seed", range(2))
def test_an_estimate_is_the_fee_that_the_event_then_makes(may: httpx.Client, seed: int) -> None:
    """Whatever was there before, under every model, with filters, groups, taxes, proration and over a boundary."""
    make_tax(may, "vat", "20", applied_to_organization=True)
    make_tax(may, "city", "5.5")
    region = [{"key": "region", "values": ["eu", "us"]}]
    calls, gb = make_metric(may, "calls", filters=region), make_metric(may, "gb", "sum_agg", filters=region)
    users = make_metric(may, "users", "unique_count_agg")
    seats = make_metric(may, "seats", "unique_count_agg", recurring=True)
    carried = make_metric(may, "carried", "sum_agg", recurring=True, rounding_function="ceil")
    eu = {"values": {"region": ["eu"]}, "properties": {"rate": "3", "free_units_per_events": 2}}
    percent = {"rate": "1.5", "fixed_amount": "0.07", "free_units_per_total_aggregation": "20",
               "per_transaction_min_amount": "0.1", "pricing_group_keys": ["team"]}  # fmt: skip
    first = {"from_value": 0, "to_value": 10, "rate": "2", "flat_amount": "1"}
    rest = {"from_value": 11, "to_value": None, "rate": "1", "flat_amount": "3"}
    subscribe(
        may,
        charge(calls, "graduated", properties=RANGES, tax_codes=["vat", "city"]),
        charge(calls, properties={"amount": "0.004"}),
        charge(gb, "percentage", properties=percent, filters=[eu]),
        charge(gb, "dynamic", invoiceable=True, properties={}),
        charge(gb, "graduated_percentage", properties={"graduated_percentage_ranges": [first, rest]}),
        charge(users, "package", properties={"amount": "3.333", "package_size": 2, "free_units": 1}),
        charge(seats, prorated=True, properties={"amount": "9.99", "pricing_group_keys": ["team"]}),
        charge(carried, "graduated", properties=RANGES),
        charge(carried, prorated=True, properties={"amount": "0.123"}),
    )
    chance = seeded(seed)
    for number in range(40):
        one = random_event(chance, number)
        told = estimate(may, one)
        assert {fee["event_transaction_id"] for fee in told} <= {one["transaction_id"]}
        assert all((fee["lago_id"], fee["lago_invoice_id"], fee["created_at"]) == (None, None, None) for fee in told)
        ok(send_event(may, one))
        made = fees(may, event_transaction_id=one["transaction_id"])
        key = "lago_charge_id"
        for estimated, fee in zip(*(sorted(all_, key=lambda one: one[key]) for all_ in (told, made)), strict=True):
            assert compared(estimated) == compared(fee)
        if number == 25:
            set_clock(may, "2024-06-03T00:00:00Z")


class TestEstimateFees:
    def test_refusals(self, may: httpx.Client) -> None:
        metric = make_metric(may, "gb", "sum_agg")
        subscribe(may, charge(metric), standard(make_metric(may, "calls")))
        good = hypothetical("gb", value=1)
        for one, answer in (
            ({**good, "external_subscription_id": None}, "subscription_not_found"),
            ({**good, "external_subscription_id": "nobody", "timestamp": "soon"}, "subscription_not_found"),
            ({**good, "code": "odd"}, "billable_metric_not_found"),
            ({**good, "code": None}, "billable_metric_not_found"),
        ):
            assert refusal(may.post(FEES, json={"event": one})) == (404, answer)
        for one, details in (
            ({**good, "timestamp": "soon"}, {"timestamp": ["invalid_format"]}),
            ({**good, "properties": {"value": "much"}}, {"properties": ["value_is_not_valid_number"]}),
            ({**good, "properties": {}}, {"properties": ["value_is_not_valid_number"]}),
            (hypothetical("calls"), {"code": ["does_not_match_an_instant_charge"]}),
        ):
            assert problems(may.post(FEES, json={"event": one})) == details
        assert may.post(FEES, json={}).status_code == 400
        assert may.post(FEES, content=b"{").status_code == 400
        assert fees(may) == []
        make_subscription(may, "later", subscription_at="2024-07-01T00:00:00Z")
        ok(may.delete("/api/v1/subscriptions/sub"))
        for name in ("sub", "later"):
            sent = {"event": hypothetical("gb", name, value=1)}
            assert refusal(may.post(FEES, json=sent)) == (404, "subscription_not_found")

    def test_at_this_moment_and_with_an_expression(self, may: httpx.Client) -> None:
        subscribe(may, charge(make_metric(may, "gb", "sum_agg", expression="event.properties.mb / 4")))
        sent = {**hypothetical("gb", mb=10), "timestamp": NOON - 40 * DAY}
        (fee,) = estimate(may, sent)
        assert (fee["amount_cents"], fee["units"]) == (250, "2.5")
        assert problems(may.post(FEES, json={"event": hypothetical("gb")})) == (
            "expression_evaluation_failed: Variable: mb not found"
        )

    def test_another_organization(self, may: httpx.Client, other: httpx.Client) -> None:
        subscribe(may, charge(make_metric(may, "calls")))
        for path in (FEES, INSTANT):
            sent = {"event": hypothetical("calls")}
            assert refusal(other.post(path, json=sent)) == (404, "subscription_not_found")


class TestInstant:
    @pytest.fixture
    def priced(self, may: httpx.Client) -> httpx.Client:
        """Rounded gigabytes in two regions, calls, and charges that have no instant estimate."""
        make_tax(may, "vat", "20", applied_to_organization=True)
        region = [{"key": "region", "values": ["eu"]}]
        gb = make_metric(may, "gb", "sum_agg", filters=region, rounding_function="ceil")
        calls = make_metric(may, "calls")
        percent = {"rate": "10", "fixed_amount": "1", "per_transaction_max_amount": "4", "free_units_per_events": 9,
                   "pricing_group_keys": ["team"]}  # fmt: skip
        eu = {"values": {"region": ["eu"]}, "properties": {"rate": "50"}}
        subscribe(
            may,
            charge(gb, "percentage", properties=percent, filters=[eu]),
            charge(calls, properties={"amount": "0.255"}),
            charge(calls, "graduated", properties=RANGES),
            standard(calls, "9"),
        )
        send_events(may, [event("gb", "sub", NOON, value=100), event("calls", "sub", NOON)])
        return may

    def test_one_event(self, priced: httpx.Client) -> None:
        (fee,) = estimate(priced, {**hypothetical("gb", value=6.5, team="a"), "transaction_id": "mine"}, INSTANT)
        wanted = {
            "amount_cents": 170, "total_amount_cents": 170, "units": "7.0", "events_count": 1, "taxes_amount_cents": 0,
            "taxes_rate": 0, "precise_amount": 1.7, "payment_status": "pending", "event_transaction_id": "mine",
            "pay_in_advance": True, "lago_id": None, "amount_details": None,
        }  # fmt: skip
        assert {key: fee[key] for key in wanted} == wanted
        assert (fee["item"]["grouped_by"], fee["item"]["code"]) == ({}, "gb")

    @pytest.mark.parametrize(
        ("one", "cents", "units"),
        [
            (hypothetical("gb", value=90), 400, "90.0"),
            (hypothetical("gb", value=90, region="eu"), 4500, "90.0"),
            (hypothetical("gb", value=-5), 0, "-5.0"),
            (hypothetical("gb"), 100, "0.0"),
            (hypothetical("calls"), 26, "1.0"),
        ],
    )
    def test_amounts(self, priced: httpx.Client, one: Json, cents: int, units: str) -> None:
        (fee,) = estimate(priced, one, INSTANT)
        assert (fee["amount_cents"], fee["units"]) == (cents, units)

    def test_batch(self, priced: httpx.Client) -> None:
        make_subscription(priced, "second", consolidate_invoice=False)
        events = [
            hypothetical("calls"), hypothetical("calls", "second"), hypothetical("odd"), hypothetical("gb", value=1),
        ]  # fmt: skip
        found = ok(priced.post(BATCH, json={"events": events}))["fees"]
        assert [(fee["external_subscription_id"], fee["item"]["code"], fee["amount_cents"]) for fee in found] == [
            ("sub", "calls", 26), ("sub", "gb", 110), ("second", "calls", 26),
        ]  # fmt: skip
        assert len(fees(priced)) == 3

    def test_refusals(self, priced: httpx.Client) -> None:
        for path, sent in ((INSTANT, {"event": hypothetical("odd")}), (BATCH, {"events": [hypothetical("odd")]})):
            assert problems(priced.post(path, json=sent)) == {"code": ["does_not_match_an_instant_charge"]}
        for path, sent in (
            (INSTANT, {"event": hypothetical("gb", value="much")}),
            (BATCH, {"events": [hypothetical("calls"), hypothetical("gb", value="much")]}),
        ):
            assert problems(priced.post(path, json=sent)) == {"properties": ["value_is_not_valid_number"]}
        unknown = [hypothetical("calls"), hypothetical("calls", "nobody")]
        assert refusal(priced.post(BATCH, json={"events": unknown})) == (404, "subscription_not_found")
        assert problems(priced.post(BATCH, json={"events": []})) == {"events": ["no_events"]}
