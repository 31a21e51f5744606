"""`/api/v1/customers/{external_id}/projected_usage`: what a period comes to if it goes on like this."""

import httpx

from tests.factories import (
    Json,
    event,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

URL = "/api/v1/customers/customer/projected_usage"
FIGURES = {
    "units", "projected_units", "events_count", "amount_cents", "projected_amount_cents", "pricing_unit_details",
    "presentation_breakdowns", "projected_presentation_breakdowns",
}  # fmt: skip


def projected(api: httpx.Client, **query: str) -> Json:
    answer = api.get(URL, params={"external_subscription_id": "sub", **query})
    usage: Json = ok(answer)["customer_projected_usage"]
    return usage


def figures(one: Json) -> tuple[str, str, int, int]:
    return one["units"], one["projected_units"], one["amount_cents"], one["projected_amount_cents"]


def subscribed(api: httpx.Client, *charges: Json, now: str = "2024-04-01T00:00:00Z") -> None:
    set_clock(api, now)
    make_plan(api, charges=charges)
    make_subscription(api)


def test_seven_of_thirty_days(api: httpx.Client) -> None:
    make_tax(api, "vat", "20", applied_to_organization=True)
    metrics = [make_metric(api, "calls", "sum_agg"), make_metric(api, "seats", "sum_agg", recurring=True)]
    subscribed(api, *(standard(metric, "0.10") for metric in metrics))
    send_events(api, [event("calls", value=100), event("seats", value=30)])
    set_clock(api, "2024-04-07T12:00:00Z")
    usage = projected(api)
    calls, seats = usage["charges_usage"]
    assert figures(calls) == ("100.0", "428.57", 1_000, 4_286)
    assert figures(seats) == ("30.0", "30.0", 300, 300)
    totals = {
        "from_datetime": "2024-04-01T00:00:00Z", "to_datetime": "2024-04-30T23:59:59Z", "issuing_date": "2024-04-30",
        "lago_invoice_id": None, "currency": "EUR", "amount_cents": 1_300, "projected_amount_cents": 4_586,
        "taxes_amount_cents": 260, "total_amount_cents": 1_560,
    }  # fmt: skip
    assert {key: value for key, value in usage.items() if key != "charges_usage"} == totals
    assert calls.keys() == FIGURES | {"amount_currency", "charge", "billable_metric", "filters", "grouped_usage"}
    assert calls["charge"].keys() == {"lago_id", "charge_model", "invoice_display_name"}
    assert calls["billable_metric"]["code"] == "calls"
    untaxed = projected(api, apply_taxes="false")
    assert untaxed == {**usage, "taxes_amount_cents": 0, "total_amount_cents": 1_300}


def test_the_last_day_is_what_it_is(api: httpx.Client) -> None:
    subscribed(api, standard(make_metric(api, "calls", "sum_agg"), "0.333"))
    send_events(api, [event("calls", value="7.777")])
    set_clock(api, "2024-04-30T23:00:00Z")
    (calls,) = projected(api)["charges_usage"]
    assert figures(calls) == ("7.777", "7.78", 259, 259)
    assert usage_of(api)["amount_cents"] == 259


def test_nothing_used_is_nothing_projected(api: httpx.Client) -> None:
    """The flat amount of a first tier is due already, and is not projected."""
    ranges = [{"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "2"}]
    charge = {**standard(make_metric(api, "calls", "sum_agg")), "charge_model": "graduated"}
    subscribed(api, {**charge, "properties": {"graduated_ranges": ranges}})
    (calls,) = projected(api)["charges_usage"]
    assert figures(calls) == ("0.0", "0.0", 200, 0)


def test_a_subscription_that_began_within_the_period(api: httpx.Client) -> None:
    """5 of 20 days: from the 11th to the 15th of 30."""
    subscribed(api, standard(make_metric(api, "calls", "sum_agg"), "1"), now="2024-04-11T09:30:00Z")
    send_events(api, [event("calls", value=10)])
    set_clock(api, "2024-04-15T09:00:00Z")
    (calls,) = projected(api)["charges_usage"]
    assert figures(calls) == ("10.0", "40.0", 1_000, 4_000)


def test_every_level_is_the_sum_of_its_buckets(api: httpx.Client) -> None:
    """In graduated prices a projection of the sums would be another one."""
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "5"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
    ]
    regions = [{"key": "region", "values": ["us", "eu"]}]
    properties = {
        "graduated_ranges": ranges,
        "pricing_group_keys": ["team"],
        "presentation_group_keys": [{"value": "host"}],
    }
    filters = [{"values": {"region": ["us"]}, "properties": properties, "invoice_display_name": "US"}]
    metric = make_metric(api, "calls", "sum_agg", filters=regions)
    charge = {**standard(metric), "charge_model": "graduated", "properties": properties, "filters": filters}
    subscribed(api, charge)
    send_events(
        api,
        [
            event("calls", value=4, region="us", team="a", host="x"),
            event("calls", value=2, region="us", team="a", host="y"),
            event("calls", value=6, team="a", host="x"),
            event("calls", value=9, team="b", host="z"),
        ],
    )
    set_clock(api, "2024-04-15T00:00:00Z")
    usage = projected(api)
    (calls,) = usage["charges_usage"]
    us, default = calls["filters"]
    # 6 units become 12, for 5 + 10 + 1; 9 become 18, for 5 + 10 + 4
    assert figures(us) == ("6.0", "12.0", 1_100, 1_600)
    assert figures(default) == ("15.0", "30.0", 1_100 + 1_400, 1_600 + 1_900)
    assert figures(calls) == ("21.0", "42.0", 3_600, 5_100)
    assert usage["projected_amount_cents"] == 5_100
    a, b = calls["grouped_usage"]
    assert (a["grouped_by"], figures(a)) == ({"team": "a"}, ("12.0", "24.0", 2_200, 3_200))
    assert (b["grouped_by"], figures(b)) == ({"team": "b"}, ("9.0", "18.0", 1_400, 1_900))
    assert [figures(one) for one in a["filters"]] == [figures(us), ("6.0", "12.0", 1_100, 1_600)]
    assert us["presentation_breakdowns"] == [
        {"presentation_by": {"host": "x"}, "units": "4.0"},
        {"presentation_by": {"host": "y"}, "units": "2.0"},
    ]
    assert us["projected_presentation_breakdowns"] == [
        {"presentation_by": {"host": "x"}, "units": "8.0"},
        {"presentation_by": {"host": "y"}, "units": "4.0"},
    ]
    assert (us["values"], us["invoice_display_name"], default["values"]) == ({"region": ["us"]}, "US", {})
    assert us.keys() == FIGURES | {"values", "invoice_display_name"}
    assert a.keys() == FIGURES | {"grouped_by", "filters"}


def test_pricing_units(api: httpx.Client) -> None:
    unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
    ok(api.post("/api/v1/pricing_units", json={"pricing_unit": unit}))
    applied = {"code": "credits", "conversion_rate": "0.5"}
    subscribed(api, standard(make_metric(api, "calls", "sum_agg"), "0.10", applied_pricing_unit=applied))
    send_events(api, [event("calls", value=100)])
    set_clock(api, "2024-04-07T12:00:00Z")
    (calls,) = projected(api)["charges_usage"]
    assert figures(calls) == ("100.0", "428.57", 500, 2_143)
    assert calls["pricing_unit_details"] == {
        "amount_cents": 1_000, "projected_amount_cents": 4_286, "short_name": "CR", "conversion_rate": "0.5",
    }  # fmt: skip


def test_refusals(api: httpx.Client, other: httpx.Client) -> None:
    subscribed(api, standard(make_metric(api, "calls")))
    assert problems(api.get(URL)) == {"external_subscription_id": ["value_is_mandatory"]}
    asked = {"external_subscription_id": "none"}
    assert refusal(api.get(URL, params=asked)) == (405, "no_active_subscription")
    assert refusal(other.get(URL, params=asked)) == (404, "customer_not_found")
