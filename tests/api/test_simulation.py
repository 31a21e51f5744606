"""Simulations of a plan's draft against a past period, held against what an organization with that plan is invoiced."""

import csv
import io
from typing import Any

import httpx

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
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

URL = "/api/v1/plans/simulate"
MAY_10 = 1_715_299_200
TIERS = [
    {"from_value": 0, "to_value": 2, "per_unit_amount": "3", "flat_amount": "5"},
    {"from_value": 3, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
]


def simulated(api: httpx.Client, *, query: Json | None = None, **simulation: Any) -> Json:
    return ok(api.post(URL, json={"simulation": simulation}, params=query))["simulation"]


def prepared(api: httpx.Client) -> tuple[Json, Json]:
    """Metrics and customers on the first of May, without a plan."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    calls = make_metric(api, "calls", filters=[{"key": "region", "values": ["eu", "us"]}])
    storage = make_metric(api, "storage", "sum_agg", "gb")
    for number in range(4):
        make_customer(api, f"c{number}", name=f"Customer {number}", currency="EUR")
    return calls, storage


def begun(api: httpx.Client) -> None:
    """Subscriptions and usage of May; `c3` ends in the middle of it, and `c1` has two."""
    for number in range(4):
        make_subscription(api, f"s{number}", "metered", f"c{number}")
    make_subscription(api, "s1-more", "metered", "c1")
    sent = []
    for number in range(4):
        for k in range(number + 1):
            region = {"region": ("eu", "us", "mars")[k % 3]} if k else {}
            sent.append(event("calls", f"s{number}", MAY_10 + k, team=f"t{k % 2}", **region))
        sent.append(event("storage", f"s{number}", MAY_10, gb=f"{number}.5"))
    send_events(api, sent)
    set_clock(api, "2024-05-16T00:00:00Z")
    ok(api.delete("/api/v1/subscriptions/s3"))
    set_clock(api, "2024-06-03T00:00:00Z")


def charges_now(calls: Json, storage: Json) -> list[Json]:
    return [standard(calls, "1"), standard(storage, "0.335", code="disk")]


def charges_then(calls: Json, storage: Json) -> list[Json]:
    by_region = [{"values": {"region": ["us"]}, "properties": {"amount": "4"}}]
    ranges = {"graduated_ranges": TIERS, "pricing_group_keys": ["team"]}
    bounded = {"rate": "10", "per_transaction_min_amount": "0.5"}
    return [
        standard(calls, properties={"amount": "2", "pricing_group_keys": ["team"]}, filters=by_region, code="new"),
        standard(storage, charge_model="graduated", properties=ranges, code="disk2"),
        standard(storage, charge_model="percentage", properties=bounded, code="share"),
    ]


def invoiced(api: httpx.Client) -> dict[str, int]:
    """What each customer was invoiced, without taxes."""
    totals: dict[str, int] = {}
    for invoice in invoices_of(api):
        customer = invoice["customer"]["external_id"]
        totals[customer] = totals.get(customer, 0) + invoice["fees_amount_cents"]
    return totals


def test_both_sides_are_what_would_be_invoiced(api: httpx.Client, other: httpx.Client) -> None:
    now, then = prepared(api), prepared(other)
    make_plan(api, "metered", charges_now(*now), amount_cents=3_100)
    committed = {"amount_cents": 6_900}
    make_plan(other, "metered", charges_then(*then), amount_cents=6_200, minimum_commitment=committed)
    begun(api)
    begun(other)
    before, after = invoiced(api), invoiced(other)
    plan = ok(api.get("/api/v1/plans/metered"))

    found = simulated(
        api,
        plan_code="metered",
        plan={"amount_cents": 6_200, "minimum_commitment": committed, "charges": charges_then(*now)},
        query={"largest": 2},
    )
    per_customer = {
        one["external_customer_id"]: (one["before_amount_cents"], one["after_amount_cents"])
        for one in found["customers"]
    }
    assert per_customer == {customer: (before[customer], after[customer]) for customer in before}
    assert found["revenue"] == {
        "before_amount_cents": sum(before.values()), "after_amount_cents": sum(after.values()),
        "difference_amount_cents": sum(after.values()) - sum(before.values()),
    }  # fmt: skip
    assert found["subscription_fees"]["before_amount_cents"] == 4 * 3_100 + 16 * 100
    assert {one["code"] for one in found["charges"]} == {"calls", "disk", "new", "disk2", "share"}
    parts = [found["subscription_fees"], *found["charges"]]
    for side in ("before_amount_cents", "after_amount_cents"):
        assert sum(one[side] for one in parts) == found["revenue"][side]
    assert (found["subscriptions_count"], found["customers_count"], found["paying_more_count"]) == (5, 4, 4)
    assert found["currency"] == "EUR"
    assert (found["from_datetime"], found["to_datetime"]) == ("2024-05-01T00:00:00Z", "2024-05-31T23:59:59Z")
    differences = [one["difference_amount_cents"] for one in found["customers"]]
    assert differences == sorted(differences, reverse=True)
    assert found["largest_increases"] == found["customers"][:2]
    assert found["largest_decreases"] == []

    # Nothing is stored.
    assert ok(api.get("/api/v1/plans/metered")) == plan
    assert len(ok(api.get("/api/v1/plans"))["plans"]) == 1
    assert invoiced(api) == before
    assert {one["charge"]["code"] for one in usage_of(api, "s0", "c0")["charges_usage"]} == {"calls", "disk"}


def test_as_csv(api: httpx.Client) -> None:
    calls, storage = prepared(api)
    make_plan(api, "metered", charges_now(calls, storage), amount_cents=3_100)
    begun(api)
    body = {"simulation": {"plan_code": "metered", "plan": {"amount_cents": 0, "charges": [standard(calls, "1")]}}}
    table = simulated(api, **body["simulation"])
    asked = [({"format": "csv"}, {}), ({}, {"Accept": "text/csv"})]
    for query, headers in asked:
        answer = api.post(URL, json=body, params=query, headers=headers)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["external_customer_id"] for row in rows] == [
            one["external_customer_id"] for one in table["customers"]
        ]
        assert rows[0] == {
            "external_customer_id": table["customers"][0]["external_customer_id"],
            "customer_name": table["customers"][0]["name"], "subscriptions_count": "1", "currency": "EUR",
            "before_amount_cents": str(table["customers"][0]["before_amount_cents"]),
            "after_amount_cents": str(table["customers"][0]["after_amount_cents"]),
            "difference_amount_cents": str(table["customers"][0]["difference_amount_cents"]),
        }  # fmt: skip
    assert table["paying_less_count"] == 4
    assert table["largest_decreases"][0] == table["customers"][-1]
    assert problems(api.post(URL, json=body, params={"format": "xml"})) == {"format": ["value_is_invalid"]}


def test_periods_and_chosen_subscriptions(api: httpx.Client) -> None:
    calls, storage = prepared(api)
    plan = make_plan(api, "metered", charges_now(calls, storage), amount_cents=3_100)
    make_plan(api, "weekly", interval="weekly", amount_cents=100)
    make_plan(api, "dollars", amount_currency="USD")
    make_subscription(api, "w", "weekly", "c0")
    begun(api)
    send_events(api, [event("calls", "s0", MAY_10 + 30 * 86_400)])
    kept = {"id": plan["charges"][0]["lago_id"], **standard(calls, "10")}

    def amounts(**more: Any) -> dict[str, tuple[int, int]]:
        found = simulated(api, plan_code="metered", plan={"charges": [kept]}, **more)
        return {
            one["external_customer_id"]: (one["before_amount_cents"], one["after_amount_cents"])
            for one in found["customers"]
        }

    # May: the fee stays, a call costs ten times as much, and nothing is charged for storage.
    assert amounts(external_subscription_ids=["s0"]) == {"c0": (3_100 + 100 + 17, 3_100 + 1_000)}
    assert amounts(date="2024-05-07", external_subscription_ids=["s0"]) == amounts(external_subscription_ids=["s0"])
    # The current month has no subscription that ended, and one call so far.
    assert amounts(date="2024-06-01") == {
        "c0": (3_200, 4_100), "c1": (6_200, 6_200), "c2": (3_100, 3_100)
    }  # fmt: skip
    assert amounts(date="2024-04-30") == {}

    # A plan that does not exist yet, for subscriptions of whatever plan.
    new = {"interval": "monthly", "amount_cents": 50, "amount_currency": "EUR", "charges": [standard(storage, "2")]}
    found = simulated(api, plan=new, external_subscription_ids=["s1", "s2"])
    assert [(one["external_customer_id"], one["after_amount_cents"]) for one in found["customers"]] == [
        ("c2", 550), ("c1", 350)
    ]  # fmt: skip


def test_what_is_wrong_is_said_as_for_plans(api: httpx.Client, other: httpx.Client) -> None:
    calls, storage = prepared(api)
    make_plan(api, "metered", charges_now(calls, storage))
    make_subscription(api, "s0", "metered", "c0")

    def sent(**simulation: Any) -> httpx.Response:
        return api.post(URL, json={"simulation": simulation})

    wrong = standard(calls, properties={"amount": 1})
    assert problems(sent(plan_code="metered", plan={"charges": [wrong]})) == {"properties": ["invalid_amount"]}
    unlisted = standard(calls, filters=[{"values": {"team": ["a"]}, "properties": {"amount": "1"}}])
    assert problems(sent(plan_code="metered", plan={"charges": [unlisted]})) == {
        "billable_metric_filter": ["relation_must_exist"], "values": ["value_is_invalid"]
    }  # fmt: skip
    assert problems(sent(plan={"name": "x"}, external_subscription_ids=["s0"]))["interval"] == ["value_is_invalid"]
    assert problems(sent(plan={"amount_cents": 1})) == {"plan_code": ["value_is_mandatory"]}
    assert problems(sent(plan_code="metered", plan={"interval": "yearly"})) == {"interval": ["value_is_invalid"]}
    assert problems(sent(plan_code="metered", plan={"amount_currency": "USD"})) == {
        "amount_currency": ["value_is_invalid"]
    }
    assert problems(sent(plan_code="metered", date="soon")) == {"date": ["invalid_date"]}
    assert problems(sent(plan_code="metered", date="2024-05-02")) == {"date": ["value_is_out_of_range"]}
    assert refusal(sent(plan_code="none")) == (404, "plan_not_found")
    assert refusal(sent(plan_code="metered", external_subscription_ids=["s0", "s9"])) == (404, "subscription_not_found")
    missing = standard({"lago_id": "00000000-0000-4000-8000-000000000000"})
    assert refusal(sent(plan_code="metered", plan={"charges": [missing]})) == (404, "billable_metrics_not_found")
    assert refusal(other.post(URL, json={"simulation": {"plan_code": "metered"}})) == (404, "plan_not_found")
    assert api.post(URL, json={}).status_code == 400
    nothing = simulated(api, plan_code="metered", plan={})
    assert (nothing["subscriptions_count"], nothing["customers"], nothing["from_datetime"]) == (0, [], None)


def test_a_year_whose_charges_are_billed_monthly(api: httpx.Client) -> None:
    """The tiers begin anew each month, as on the invoices; the fee and the commitment are those of the year."""
    set_clock(api, "2023-10-01T00:00:00Z")
    calls = make_metric(api, "calls")
    tiers = standard(calls, charge_model="graduated", properties={"graduated_ranges": TIERS})
    more = {"amount_cents": 36_500, "minimum_commitment": {"amount_cents": 60_000}, "bill_charges_monthly": True}
    make_plan(api, "metered", [tiers], interval="yearly", **more)
    make_subscription(api, "s0", "metered", "c0")
    for month in ("2023-10-05", "2023-12-31"):
        set_clock(api, f"{month}T00:00:00Z")
        send_events(api, [event("calls", "s0") for _ in range(4)])
    set_clock(api, "2024-01-01T01:00:00Z")
    fees = [fee for one in invoices_of(api) for fee in one["fees"]]
    billed = sum(fee["amount_cents"] for fee in fees)
    charges = sum(fee["amount_cents"] for fee in fees if fee["item"]["type"] == "charge")
    assert (billed, charges) == (15_123, 1_300 + 500 + 1_300)  # 92 of 365 days of the commitment
    kept = {**tiers, "id": ok(api.get("/api/v1/plans/metered"))["plan"]["charges"][0]["lago_id"]}
    change = {"charges": [kept, standard(calls, "7", code="more")]}
    found = simulated(api, plan_code="metered", plan={**change, "minimum_commitment": {"amount_cents": 1}})
    revenue = found["revenue"]
    assert (revenue["before_amount_cents"], revenue["after_amount_cents"]) == (billed, 9_200 + charges + 8 * 700)
    assert (found["from_datetime"], found["to_datetime"]) == ("2023-10-01T00:00:00Z", "2023-12-31T23:59:59Z")
