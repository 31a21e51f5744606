"""`min_amount_cents` of charges: what their fees lack of it is billed as a fee of its own."""

import httpx

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    send_events,
    set_clock,
    standard,
    usage_of,
)

REGIONS = [{"key": "region", "values": ["us", "eu"]}]


def charge_fees(invoice: Json) -> list[Json]:
    return [fee for fee in invoice["fees"] if fee["item"]["type"] == "charge"]


def parent_and_child(invoice: Json) -> tuple[Json, Json]:
    """The fee that a true-up belongs to, and the true-up."""
    (child,) = (fee for fee in invoice["fees"] if fee["lago_true_up_parent_fee_id"])
    (parent,) = (fee for fee in invoice["fees"] if fee["lago_true_up_fee_id"])
    assert parent["lago_true_up_fee_id"] == child["lago_id"]
    assert child["lago_true_up_parent_fee_id"] == parent["lago_id"]
    return parent, child


def test_a_broken_first_period_and_a_whole_one(api: httpx.Client) -> None:
    """Of 100.00, 18 of 30 days are 60.00; the second month is whole, and has no usage."""
    set_clock(api, "2024-04-13T00:00:00Z")
    make_tax(api, "vat", "20")
    metric = make_metric(api, "calls", "sum_agg")
    plan = make_plan(api, charges=[standard(metric, "42.10", min_amount_cents=10_000, tax_codes=["vat"])])
    assert plan["charges"][0]["min_amount_cents"] == 10_000
    make_subscription(api)
    send_events(api, [event("calls", "sub", 1_713_096_000, value=1)])
    usage = usage_of(api)
    assert (usage["amount_cents"], usage["charges_usage"][0]["units"]) == (4_210, "1.0")

    set_clock(api, "2024-06-01T00:00:00Z")
    april, may = invoices_of(api)
    used, missing = parent_and_child(april)
    assert (used["amount_cents"], used["units"], used["events_count"]) == (4_210, "1.0", 1)
    wanted = {
        "amount_cents": 1_790, "precise_amount": "17.9", "precise_unit_amount": "17.9", "units": "1.0",
        "total_aggregated_units": "1.0", "events_count": 0, "taxes_amount_cents": 358, "total_amount_cents": 2_148,
        "lago_charge_id": plan["charges"][0]["lago_id"], "lago_charge_filter_id": None, "amount_details": {},
        "from_date": "2024-04-13T00:00:00Z", "to_date": "2024-04-30T23:59:59Z", "pay_in_advance": False,
        "lago_true_up_fee_id": None, "pricing_unit_details": None,
    }  # fmt: skip
    assert {key: missing[key] for key in wanted} == wanted
    assert missing["item"] == used["item"]
    assert (april["fees_amount_cents"], april["taxes_amount_cents"]) == (6_000, 1_200)
    nothing, all_of_it = parent_and_child(may)
    assert (nothing["amount_cents"], nothing["units"], nothing["events_count"]) == (0, "0.0", 0)
    assert all_of_it["amount_cents"] == 10_000
    assert ok(api.get(f"/api/v1/fees/{missing['lago_id']}"))["fee"] == missing


def test_a_minimum_that_is_reached(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T00:00:00Z")
    metrics = [make_metric(api, code, "sum_agg") for code in ("same", "more")]
    make_plan(api, charges=[standard(metric, min_amount_cents=500) for metric in metrics])
    make_subscription(api)
    send_events(api, [event("same", value=5), event("more", value=6)])
    set_clock(api, "2024-05-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    assert [fee["amount_cents"] for fee in charge_fees(invoice)] == [500, 600]
    assert all(fee["lago_true_up_fee_id"] is fee["lago_true_up_parent_fee_id"] is None for fee in invoice["fees"])


def test_at_termination_for_the_days_used(api: httpx.Client) -> None:
    set_clock(api, "2023-02-01T00:00:00Z")
    make_plan(api, charges=[standard(make_metric(api, "calls"), "8", min_amount_cents=1_000)])
    make_subscription(api)
    set_clock(api, "2023-02-25T06:00:00Z")
    send_events(api, [event("calls")])
    ok(api.delete("/api/v1/subscriptions/sub"))
    (invoice,) = invoices_of(api)
    assert [fee["amount_cents"] for fee in charge_fees(invoice)] == [800, 93]
    parent_and_child(invoice)


def test_an_upgrade_ends_it_the_day_before(api: httpx.Client) -> None:
    """From the 11th of April on, the new plan's minimum counts: 10 of 30 days are left to the old one."""
    set_clock(api, "2024-04-01T00:00:00Z")
    metric = make_metric(api, "calls")
    make_plan(api, charges=[standard(metric, min_amount_cents=3_000)])
    make_plan(api, "dearer", charges=[standard(metric, min_amount_cents=6_000)], amount_cents=100)
    make_subscription(api)
    set_clock(api, "2024-04-11T10:00:00Z")
    make_subscription(api, plan="dearer")
    set_clock(api, "2024-05-01T00:00:00Z")
    old, new = invoices_of(api)
    assert parent_and_child(old)[1]["amount_cents"] == 1_000
    assert parent_and_child(new)[1]["amount_cents"] == 4_000


def test_the_fees_of_all_filters_and_groups_count(api: httpx.Client) -> None:
    """10 of 20 are used with a filter and in two groups; the true-up belongs to the bucket without a filter."""
    set_clock(api, "2024-04-01T00:00:00Z")
    us = [{"values": {"region": ["us"]}, "properties": {"amount": "2"}}]
    charges = [
        standard(make_metric(api, "filtered", "sum_agg", filters=REGIONS), filters=us, min_amount_cents=2_000),
        {
            **standard(make_metric(api, "grouped", "sum_agg"), min_amount_cents=2_000),
            "properties": {"amount": "1", "pricing_group_keys": ["team"]},
        },
    ]
    make_plan(api, charges=charges)
    make_subscription(api)
    send_events(
        api,
        [
            event("filtered", value=5, region="us"),
            event("grouped", value=4, team="a"),
            event("grouped", value=6, team="b"),
        ],
    )
    set_clock(api, "2024-05-01T00:00:00Z")
    (invoice,) = invoices_of(api)
    filtered, grouped = (
        [fee for fee in charge_fees(invoice) if fee["item"]["code"] == code] for code in ("filtered", "grouped")
    )
    assert [(fee["amount_cents"], fee["item"]["filters"]) for fee in filtered] == [
        (1_000, {"region": ["us"]}),
        (0, None),
        (1_000, None),
    ]
    assert parent_and_child({"fees": filtered}) == (filtered[1], filtered[2])
    assert [(fee["amount_cents"], fee["item"]["grouped_by"]) for fee in grouped] == [
        (400, {"team": "a"}),
        (600, {"team": "b"}),
        (1_000, {}),
    ]
    assert parent_and_child({"fees": grouped}) == (grouped[0], grouped[2])


def test_a_plan_in_use_keeps_its_minimums(api: httpx.Client) -> None:
    plan = make_plan(api, charges=[standard(make_metric(api, "calls"), min_amount_cents=500)])
    (charge,) = plan["charges"]
    path = "/api/v1/plans/plan/charges/calls"
    changed = ok(api.put(path, json={"charge": {"min_amount_cents": 700}}))["charge"]
    assert changed == {**charge, "min_amount_cents": 700}
    make_subscription(api)
    assert ok(api.put(path, json={"charge": {"min_amount_cents": 900}}))["charge"] == changed
    assert ok(api.put(path, json={"charge": {"min_amount_cents": None}}))["charge"] == changed
