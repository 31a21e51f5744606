"""`/api/v1/analytics/usage`: what each day, week or month added to the charges."""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

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
    problems,
    send_events,
    set_clock,
    standard,
    usage_of,
)
from tests.support import seeded

URL = "/api/v1/analytics/usage"
FIELDS = {
    "organization_id", "start_of_period_dt", "end_of_period_dt", "amount_currency", "amount_cents",
    "billable_metric_code", "units", "is_billable_metric_deleted",
}  # fmt: skip
JULY = 1_719_792_000
"""2024-07-01 00:00 UTC."""
DAY = 86_400


def usage(api: httpx.Client, **query: Any) -> list[Json]:
    rows: list[Json] = ok(api.get(URL, params=query))["usages"]
    assert all(row.keys() == FIELDS and row["is_billable_metric_deleted"] is False for row in rows)
    return rows


def days(api: httpx.Client, **query: Any) -> dict[tuple[str, str], tuple[Decimal, int]]:
    """Units and amount by first date and metric."""
    return {
        (row["start_of_period_dt"], row["billable_metric_code"]): (Decimal(row["units"]), row["amount_cents"])
        for row in usage(api, **query)
    }


def graduated(metric: Json, *tiers: tuple[int | None, str, str]) -> Json:
    ranges = []
    low = 0
    for high, unit, flat in tiers:
        ranges.append({"from_value": low, "to_value": high, "per_unit_amount": unit, "flat_amount": flat})
        low = (high or 0) + 1
    properties = {"graduated_ranges": ranges}
    return {"billable_metric_id": metric["lago_id"], "charge_model": "graduated", "properties": properties}


@pytest.fixture
def july(api: httpx.Client) -> httpx.Client:
    """An organization on the first of July 2024."""
    set_clock(api, "2024-07-01T00:00:00Z")
    return api


def test_a_day_is_what_it_adds_to_the_period(july: httpx.Client) -> None:
    """The first 10 calls cost 1 each, further ones half; 5 are due even without any, from the first day on."""
    charges = [graduated(make_metric(july, "calls"), (10, "1", "5"), (None, "0.5", "0"))]
    make_plan(july, charges=charges)
    make_customer(july)
    make_subscription(july)
    send_events(july, [event("calls", timestamp=JULY + DAY + 3600) for _ in range(8)])
    send_events(july, [event("calls", timestamp=JULY + 3 * DAY) for _ in range(6)])
    set_clock(july, "2024-07-05T12:00:00Z")
    found = days(july, from_date="2024-07-01", to_date="2024-07-31")
    assert found == {
        ("2024-07-01", "calls"): (Decimal(0), 500),
        ("2024-07-02", "calls"): (Decimal(8), 800),
        ("2024-07-04", "calls"): (Decimal(6), 400),
    }
    [row] = usage(july, from_date="2024-07-01", to_date="2024-07-31", time_granularity="monthly")
    assert (row["start_of_period_dt"], row["end_of_period_dt"]) == ("2024-07-01", "2024-07-31")
    assert (row["units"], row["amount_cents"], row["amount_currency"]) == ("14.0", 1700, "EUR")
    assert row["amount_cents"] == usage_of(july)["amount_cents"]
    weeks = usage(july, from_date="2024-07-01", time_granularity="weekly")
    assert [(row["start_of_period_dt"], row["end_of_period_dt"]) for row in weeks] == [("2024-07-01", "2024-07-07")]
    # A week that is asked for in part has only that part, and what the days before it used up is used up.
    assert days(july, from_date="2024-07-03", to_date="2024-07-07", time_granularity="weekly") == {
        ("2024-07-01", "calls"): (Decimal(6), 400)
    }


KINDS = {"calls": "count_agg", "bytes": "sum_agg", "peak": "max_agg", "level": "latest_agg",
         "users": "unique_count_agg", "disk": "weighted_sum_agg"}  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_days_add_up_to_what_is_billed(july: httpx.Client, zone: str) -> None:
    """Two months of every kind of metric, one of them carried over, with a start and an end within."""
    chance = seeded(7)
    charges = [
        graduated(make_metric(july, code, kind), (7, "0.31", "0"), (None, "0.17", "2")) for code, kind in KINDS.items()
    ]
    for code in ("stock", "seats"):
        kind = "sum_agg" if code == "stock" else "unique_count_agg"
        charges.append(standard(make_metric(july, code, kind, recurring=True), "0.37"))
    make_plan(july, charges=charges)
    make_customer(july, timezone=zone)
    make_subscription(july, subscription_at="2024-07-03T07:13:00Z")
    codes = [*KINDS, "stock", "seats"]
    sent = [
        event(
            chance.choice(codes),
            "sub",
            f"{JULY + chance.randrange(70 * DAY)}.{chance.randrange(1000):03d}",
            value=str(chance.randrange(9) if chance.random() < 0.5 else chance.randrange(900) / 100),
            operation_type=chance.choice(["add", "remove"]),
        )
        for _ in range(600)
    ]
    sent += [event("stock", "sub", JULY - DAY, value="3"), event("seats", "sub", JULY - DAY, value="early")]
    send_events(july, sent)
    set_clock(july, "2024-09-05T09:30:00Z")
    ok(july.delete("/api/v1/subscriptions/sub"))
    set_clock(july, "2024-10-02T00:00:00Z")
    billed: dict[tuple[str, str], tuple[Decimal, int]] = {}
    for invoice in invoices_of(july):
        for fee in invoice["fees"]:
            if fee["item"]["type"] == "charge":
                from_ = datetime.fromisoformat(fee["from_date"])
                month = from_.astimezone(ZoneInfo(zone)).strftime("%Y-%m")
                billed[month, fee["item"]["code"]] = (Decimal(fee["units"]), fee["amount_cents"])
    assert len(billed) > 20
    told: dict[tuple[str, str], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for (day, code), (units, cents) in days(july, from_date="2024-06-01", to_date="2024-10-01").items():
        before = told[day[:7], code]
        told[day[:7], code] = (before[0] + units, before[1] + cents)
    assert {key: value for key, value in told.items() if value != (0, 0)} == {
        key: value for key, value in billed.items() if value != (0, 0)
    }
    months = days(july, from_date="2024-06-01", to_date="2024-10-01", time_granularity="monthly")
    assert {(day[:7], code): value for (day, code), value in months.items()} == {
        key: value for key, value in told.items() if value != (0, 0)
    }


def test_a_day_is_the_customers(july: httpx.Client) -> None:
    make_plan(july, charges=[standard(make_metric(july, "calls"))])
    for name, zone in (("east", "Pacific/Auckland"), ("west", "America/Los_Angeles")):
        make_customer(july, name, timezone=zone)
        make_subscription(july, name, customer=name, subscription_at="2024-07-01T00:00:00Z")
        send_events(july, [event("calls", name, JULY + 5 * DAY)])  # noon of the 6th there, 17:00 of the 5th here
    query = {"from_date": "2024-07-01", "to_date": "2024-07-31"}
    one = (Decimal(1), 100)
    assert days(july, **query) == {("2024-07-05", "calls"): one, ("2024-07-06", "calls"): one}
    assert days(july, **query, external_customer_id="east") == {("2024-07-06", "calls"): one}


def test_filters(july: httpx.Client, other: httpx.Client) -> None:
    calls, seats = make_metric(july, "calls"), make_metric(july, "seats", "sum_agg", recurring=True)
    make_plan(july, "eur", charges=[standard(calls), standard(seats)])
    make_plan(july, "jpy", charges=[standard(calls, "2")], amount_currency="JPY")
    for number, (plan, country, kind) in enumerate([("eur", "DE", "company"), ("jpy", "JP", "individual")]):
        make_customer(july, plan, country=country, customer_type=kind)
        make_subscription(july, plan, plan=plan, customer=plan)
        send_events(july, [event("calls", plan, JULY + 60) for _ in range(number + 1)])
    send_events(july, [event("seats", "eur", JULY + 60, value="3")])
    set_clock(july, "2024-07-02T00:00:00Z")
    all_ = {("calls", "EUR", 100), ("calls", "JPY", 4), ("seats", "EUR", 300)}

    def found(**query: Any) -> set[tuple[str, str, int]]:
        return {
            (row["billable_metric_code"], row["amount_currency"], row["amount_cents"]) for row in usage(july, **query)
        }

    assert found() == all_
    assert (
        found(currency="JPY")
        == found(plan_code="jpy")
        == found(external_subscription_id="jpy")
        == {("calls", "JPY", 4)}
    )
    assert found(customer_country="jp") == found(customer_type="individual") == {("calls", "JPY", 4)}
    assert found(external_customer_id="eur") == {("calls", "EUR", 100), ("seats", "EUR", 300)}
    assert found(is_billable_metric_recurring="true") == found(billable_metric_code="seats") == {("seats", "EUR", 300)}
    assert found(is_billable_metric_recurring="false") == {("calls", "EUR", 100), ("calls", "JPY", 4)}
    assert found(external_customer_id="nobody") == found(billable_metric_code="none") == set()
    for name in ("external_customer_id", "external_subscription_id", "plan_code", "billable_metric_code"):
        assert found(**{name: "x' OR 1=1 --"}) == set()
    assert usage(other) == []


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"from_date": "yesterday"}, {"from_date": ["invalid_date"]}),
        ({"to_date": "2024-02-30"}, {"to_date": ["invalid_date"]}),
        ({"from_date": "2024-07-02", "to_date": "2024-07-01"}, {"to_date": ["value_is_out_of_range"]}),
        ({"from_date": "2014-07-02", "to_date": "2024-07-01"}, {"from_date": ["value_is_out_of_range"]}),
        ({"from_date": "9999-12-31", "to_date": "9999-12-31"}, {"from_date": ["value_is_out_of_range"]}),
        ({"time_granularity": "hourly"}, {"time_granularity": ["value_is_invalid"]}),
        ({"customer_type": "dog"}, {"customer_type": ["value_is_invalid"]}),
        ({"is_billable_metric_recurring": "maybe"}, {"is_billable_metric_recurring": ["value_is_invalid"]}),
    ],
)  # fmt: skip
def test_refused(api: httpx.Client, query: dict[str, str], wrong: Json) -> None:
    assert problems(api.get(URL, params=query)) == wrong
