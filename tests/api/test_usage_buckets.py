"""Filters, groups and presentation in current usage and on invoices: every event is in exactly one bucket."""

from collections.abc import Iterable
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
    ok,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

NOON = 1_715_342_400
HOUR = 3_600
MAY = "2024-05-01T00:00:00Z"
REGIONS = [{"key": "region", "values": ["us", "eu", "asia"]}, {"key": "tier", "values": ["gold", "basic"]}]
ALL = "__ALL_FILTER_VALUES__"
PRICES = ({"region": [ALL]}, "2"), ({"region": ["us"]}, "3"), ({"region": ["us"], "tier": ["gold"]}, "5")
AWKWARD = [
    "it's",
    'say "hi"',
    "back\\slash",
    "nul\x00byte",
    "😀",
    "a'); DROP TABLE events; --",
    "{x:String}",
    "k" * 10_000,
]


def filtered(metric: Json, prices: Iterable[tuple[Json, str]] = PRICES, **properties: Any) -> Json:
    """A charge with a price for each filter, and 1 for the rest."""
    filters = [{"values": values, "properties": {"amount": amount}} for values, amount in prices]
    return {**standard(metric, filters=filters), "properties": {"amount": "1", **properties}}


def grouped(metric: Json, *keys: str, **more: Any) -> Json:
    return {**standard(metric), "properties": {"amount": "1", "pricing_group_keys": list(keys), **more}}


def ready(api: httpx.Client, *charges: Json) -> None:
    make_customer(api)
    make_plan(api, charges=charges)
    make_subscription(api)


def charge_of(api: httpx.Client, **query: Any) -> Json:
    (one,) = usage_of(api, **query)["charges_usage"]
    return one


def by_filter(charge: Json) -> dict[str, tuple[str, int]]:
    """Units and amount by the values of the filter, written shortly."""
    return {
        "/".join("+".join(values) for values in (one["values"] or {}).values()) or "default": (
            one["units"],
            one["amount_cents"],
        )
        for one in charge["filters"]
    }


def by_group(charge: Json) -> dict[Any, str]:
    return {tuple(one["grouped_by"].values()): one["units"] for one in charge["grouped_usage"]}


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    set_clock(api, MAY)
    return api


def mixed(code: str = "calls") -> list[Json]:
    """Events over several hours, with half an hour in between, so that some lie in parts of hours."""
    places: list[Json] = [
        {"region": "us", "tier": "gold"}, {"region": "us", "tier": "basic"}, {"region": "us"}, {"region": "eu"},
        {"region": "mars"}, {"tier": "gold"}, {"region": ""}, {},
    ]  # fmt: skip
    return [event(code, "sub", NOON + number * HOUR // 2, value=10, **one) for number, one in enumerate(places)]


@pytest.mark.parametrize("aggregation", ["count_agg", "sum_agg"])
def test_each_event_is_in_one_bucket(may: httpx.Client, aggregation: str) -> None:
    metric = make_metric(may, "calls", aggregation, filters=REGIONS)
    ready(may, filtered(metric))
    send_events(may, mixed())
    each = 1 if aggregation == "count_agg" else 10
    expected = {
        ALL: (f"{each}.0", 200 * each),
        "us": (f"{2 * each}.0", 600 * each),
        "us/gold": (f"{each}.0", 500 * each),
        "default": (f"{4 * each}.0", 400 * each),
    }
    charge = charge_of(may)
    assert by_filter(charge) == expected
    assert (charge["units"], charge["events_count"]) == (f"{8 * each}.0", 8)
    assert charge["amount_cents"] == sum(amount for _, amount in expected.values())
    set_clock(may, "2024-06-02T00:00:00Z")
    (invoice,) = invoices_of(may)
    fees = {(one["item"]["filter_invoice_display_name"], one["units"], one["amount_cents"]) for one in invoice["fees"]}
    assert {(units, amount) for name, units, amount in fees if name or amount} >= set(expected.values())
    assert sum(one["amount_cents"] for one in invoice["fees"]) == charge["amount_cents"]
    assert {one["lago_charge_filter_id"] is None for one in invoice["fees"] if one["item"]["filters"]} == {False}


@pytest.mark.parametrize(
    ("aggregation", "units"),
    [("max_agg", ("9.0", "7.0")), ("latest_agg", ("3.0", "7.0")), ("unique_count_agg", ("2.0", "1.0"))],
)
def test_what_cannot_be_added_up_is_folded_in_its_bucket(
    may: httpx.Client, aggregation: str, units: tuple[str, str]
) -> None:
    """Several regions of one bucket: their largest, their newest, and an item that was added here and removed there."""
    metric = make_metric(may, "calls", aggregation, filters=REGIONS)
    ready(may, filtered(metric, [({"region": ["us", "eu"]}, "1")]))
    sent = [
        ("us", 9, "add"),
        ("eu", 5, "add"),
        ("us", 5, "remove"),
        ("eu", 3, "add"),
        ("asia", 7, "add"),
        ("", 7, "add"),
    ]
    send_events(
        may,
        [
            event("calls", "sub", NOON + number * HOUR, value=value, region=region, operation_type=operation)
            for number, (region, value, operation) in enumerate(sent)
        ],
    )
    charge = charge_of(may)
    assert by_filter(charge) == {
        "us+eu": (units[0], int(Decimal(units[0]) * 100)),
        "default": (units[1], int(Decimal(units[1]) * 100)),
    }


def test_a_filter_without_usage_is_shown_with_zeros(may: httpx.Client) -> None:
    ready(may, filtered(make_metric(may, "calls", filters=REGIONS)))
    assert by_filter(charge_of(may)) == {
        ALL: ("0.0", 0),
        "us": ("0.0", 0),
        "us/gold": ("0.0", 0),
        "default": ("0.0", 0),
    }


class TestGroups:
    def test_each_group_is_priced_alone(self, may: httpx.Client) -> None:
        metric = make_metric(may, "calls", "sum_agg", rounding_function="ceil", rounding_precision=0)
        ready(may, grouped(metric, "team", "region"))
        for number, (team, region, value) in enumerate(
            [("a", "eu", "1.2"), ("a", "eu", "1.2"), ("a", None, "0.5"), ("b", "", "0.5"), (None, None, "0.1")]
        ):
            given = {key: one for key, one in (("team", team), ("region", region)) if one is not None}
            send_events(may, [event("calls", "sub", NOON + number * HOUR, value=value, **given)])
        charge = charge_of(may)
        assert by_group(charge) == {
            (None, None): "1.0", ("a", None): "1.0", ("a", "eu"): "3.0", ("b", None): "1.0",
        }  # fmt: skip
        assert (charge["units"], charge["amount_cents"], charge["filters"]) == ("6.0", 600, [])
        set_clock(may, "2024-06-02T00:00:00Z")
        (invoice,) = invoices_of(may)
        groups = [one["item"]["grouped_by"] for one in invoice["fees"] if one["item"]["type"] == "charge"]
        assert {tuple(one.values()) for one in groups} == set(by_group(charge))

    def test_without_events_there_is_one_group_of_nothing(self, may: httpx.Client) -> None:
        ready(may, grouped(make_metric(may, "calls"), "team"))
        (group,) = charge_of(may)["grouped_usage"]
        assert (group["grouped_by"], group["units"], group["amount_cents"]) == ({"team": None}, "0.0", 0)

    def test_what_is_asked_for(self, may: httpx.Client) -> None:
        ready(may, grouped(make_metric(may, "calls", "sum_agg"), "team", "region"))
        sent = [("a", "eu"), ("a", "us"), ("b", "eu"), ("", "us")]
        send_events(
            may,
            [event("calls", "sub", NOON + n * HOUR, value=10**n, team=t, region=r) for n, (t, r) in enumerate(sent)],
        )
        assert by_group(charge_of(may, **{"group[team]": "a"})) == {("eu",): "1.0", ("us",): "10.0"}
        assert by_group(charge_of(may, group='{"team": ["a", "b"], "region": "eu"}')) == {}
        assert charge_of(may, group='{"team": ["a", "b"], "region": "eu"}')["units"] == "101.0"
        assert charge_of(may, **{"filter_by_group[team]": "nobody"})["units"] == "0.0"
        assert charge_of(may, **{"group[value]": "100"})["units"] == "100.0"
        skipped = charge_of(may, skip_grouping="true")
        assert (skipped["grouped_usage"], skipped["units"]) == ([], "1111.0")

    def test_full_usage_needs_a_restriction(self, may: httpx.Client) -> None:
        ready(may, grouped(make_metric(may, "calls", "sum_agg"), "team"))
        send_events(may, [event("calls", "sub", NOON, value=1, team="a")])
        set_clock(may, "2024-06-02T00:00:00Z")
        send_events(may, [event("calls", "sub", NOON + 30 * 86_400, value=2, team="a")])
        answer = may.get(
            "/api/v1/customers/customer/current_usage", params={"external_subscription_id": "sub", "full_usage": "true"}
        )
        assert refusal(answer) == (405, "full_usage_not_allowed")
        assert charge_of(may, billable_metric_code="calls")["units"] == "2.0"
        assert charge_of(may, billable_metric_code="calls", full_usage="true")["units"] == "3.0"

    def test_filters_and_groups_together(self, may: httpx.Client) -> None:
        metric = make_metric(may, "calls", "sum_agg", filters=REGIONS)
        charge = {
            **standard(metric),
            "properties": {"amount": "1", "pricing_group_keys": ["team"]},
            "filters": [
                {"values": {"region": ["us"]}, "properties": {"amount": "2", "pricing_group_keys": ["team"]}},
                {"values": {"region": ["eu"]}, "properties": {"amount": "3"}},
            ],
        }
        ready(may, charge)
        sent = [("us", "a", 1), ("us", "b", 10), ("eu", "a", 100), ("asia", "a", 1_000), ("asia", "", 10_000)]
        send_events(
            may, [event("calls", "sub", NOON + n * HOUR, value=v, region=r, team=t) for n, (r, t, v) in enumerate(sent)]
        )
        usage = charge_of(may)
        assert by_filter(usage) == {"us": ("11.0", 2_200), "eu": ("100.0", 30_000), "default": ("11000.0", 1_100_000)}
        assert by_group(usage) == {("a",): "1001.0", ("b",): "10.0", (None,): "10000.0"}
        (of_a,) = (one for one in usage["grouped_usage"] if one["grouped_by"] == {"team": "a"})
        assert by_filter(of_a) == {"us": ("1.0", 200), "default": ("1000.0", 100_000)}


def test_presentation_breaks_down_and_changes_no_price(may: httpx.Client) -> None:
    metric = make_metric(may, "calls", "unique_count_agg")
    keys = [{"value": "dep"}, {"value": "floor", "options": {"display_in_invoice": True}}]
    ready(may, {**standard(metric), "properties": {"amount": "1", "presentation_group_keys": keys}})
    sent = [("ann", "ops", "1"), ("bob", "ops", "2"), ("ann", "it", "1"), ("cid", "", "")]
    send_events(
        may,
        [event("calls", "sub", NOON + n * HOUR, value=u, dep=d, floor=f) for n, (u, d, f) in enumerate(sent)],
    )
    charge = charge_of(may)
    assert (charge["units"], charge["amount_cents"]) == ("3.0", 300)
    assert charge["presentation_breakdowns"] == [
        {"presentation_by": {"dep": "", "floor": ""}, "units": "1.0"},
        {"presentation_by": {"dep": "it", "floor": "1"}, "units": "1.0"},
        {"presentation_by": {"dep": "ops", "floor": "1"}, "units": "1.0"},
        {"presentation_by": {"dep": "ops", "floor": "2"}, "units": "1.0"},
    ]
    assert charge_of(may, filter_by_presentation="[]")["presentation_breakdowns"] == []
    assert charge_of(may, filter_by_presentation='["floor"]')["presentation_breakdowns"] == [
        {"presentation_by": {"floor": ""}, "units": "1.0"},
        {"presentation_by": {"floor": "1"}, "units": "1.0"},
        {"presentation_by": {"floor": "2"}, "units": "1.0"},
    ]
    set_clock(may, "2024-06-02T00:00:00Z")
    (invoice,) = invoices_of(may)
    (fee,) = (one for one in invoice["fees"] if one["item"]["type"] == "charge")
    assert {one["presentation_by"]["floor"] for one in fee["presentation_breakdowns"]} == {"", "1", "2"}
    assert all(list(one["presentation_by"]) == ["floor"] for one in fee["presentation_breakdowns"])


def test_awkward_names_and_values_are_data(may: httpx.Client, other: httpx.Client) -> None:
    """Keys and values as somebody who wants to break a query would choose them; another organization sees nothing."""
    keys = [one for one in AWKWARD if "\x00" not in one]
    for api in (may, other):
        set_clock(api, MAY)
        metric = make_metric(api, "calls", "sum_agg", filters=[{"key": key, "values": AWKWARD[:3]} for key in keys[:3]])
        ready(api, {**filtered(metric, [({keys[0]: [AWKWARD[1]]}, "2")]), "properties": {
            "amount": "1", "pricing_group_keys": keys}})  # fmt: skip
    send_events(
        may,
        [
            event("calls", "sub", NOON + number * HOUR // 2, value=1, **{keys[number % len(keys)]: value})
            for number, value in enumerate(AWKWARD * 7)
        ],
    )
    usage = charge_of(may)
    assert sum(Decimal(one["units"]) for one in usage["filters"]) == Decimal(usage["units"]) == len(AWKWARD) * 7
    seen = {value for one in usage["grouped_usage"] for value in one["grouped_by"].values()}
    assert seen - {None} == set(AWKWARD)
    assert charge_of(other)["units"] == "0.0"


def test_keys_that_come_later_split_what_is_there(may: httpx.Client) -> None:
    """Group keys, then filters, are added to a metric that has usage: reads are right at once and stay right."""
    metric = make_metric(may, "calls", "sum_agg")
    ready(may, standard(metric))
    send_events(may, mixed())
    assert charge_of(may)["units"] == "80.0"
    (charge,) = ok(may.get("/api/v1/plans/plan"))["plan"]["charges"]
    change = {"id": charge["lago_id"], "properties": {"amount": "1", "pricing_group_keys": ["tier"]}}
    ok(may.put("/api/v1/plans/plan", json={"plan": {"charges": [change]}}))
    by_tier = {(None,): "50.0", ("basic",): "10.0", ("gold",): "20.0"}
    assert by_group(charge_of(may)) == by_tier
    send_events(may, mixed())
    for _ in range(20):
        assert by_group(charge_of(may)) == {("basic",): "20.0", ("gold",): "40.0", (None,): "100.0"}
    ok(may.put("/api/v1/billable_metrics/calls", json={"billable_metric": {"filters": REGIONS}}))
    change = {
        "id": charge["lago_id"],
        "properties": {"amount": "1"},
        "filters": [{"values": {"region": ["us"]}, "properties": {"amount": "3"}}],
    }
    ok(may.put("/api/v1/plans/plan", json={"plan": {"charges": [change]}}))
    for _ in range(20):
        assert by_filter(charge_of(may)) == {"us": ("60.0", 18_000), "default": ("100.0", 10_000)}
    set_clock(may, "2024-06-02T00:00:00Z")
    (invoice,) = invoices_of(may)
    assert invoice["fees_amount_cents"] == 28_000
