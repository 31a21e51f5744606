"""Yearly and semiannual plans whose charges, or fixed charges, are billed every month."""

from collections.abc import Mapping
from datetime import datetime

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    fixed,
    invoices_of,
    make_add_on,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_events,
    set_clock,
    standard,
    usage_of,
)

PLAN = "/api/v1/plans/plan"
FLAGS = ("bill_charges_monthly", "bill_fixed_charges_monthly")
BOTH = dict.fromkeys(FLAGS, True)


def started(api: httpx.Client, now: str, *, subscription: Mapping[str, object] | None = None, **plan: object) -> Json:
    """A subscription to a yearly plan of 36,500 with a call for 1 and, for 2 each, 3 seats."""
    set_clock(api, now)
    make_add_on(api)
    charges = [standard(make_metric(api, "calls"))]
    seats = [fixed(units=3, amount="2", pay_in_advance=plan.pop("seats_in_advance", False))]
    make_plan(
        api, charges=charges, fixed_charges=seats, **{"interval": "yearly", "amount_cents": 36_500, **BOTH, **plan}
    )
    return make_subscription(api, **(subscription or {}))


def call(at: str) -> Json:
    """A call at an instant."""
    return event("calls", timestamp=datetime.fromisoformat(at).timestamp())


def billed(api: httpx.Client) -> list[tuple[str, dict[str, int]]]:
    """Of each invoice the date and the amounts by type of fee."""
    return [
        (one["issuing_date"], {fee["item"]["type"]: fee["amount_cents"] for fee in one["fees"]})
        for one in sorted(invoices_of(api), key=lambda one: str(one["issuing_date"]))
    ]


def periods(api: httpx.Client, issued: str, *which: str) -> list[tuple[str | None, str | None]]:
    """What the invoice of a day covers, of each kind."""
    (invoice,) = [one for one in invoices_of(api) if one["issuing_date"] == issued]
    (period,) = invoice["billing_periods"]
    return [(period[f"{one}_from_datetime"], period[f"{one}_to_datetime"]) for one in which]


class TestPlan:
    @pytest.mark.parametrize("interval", ["yearly", "semiannual"])
    def test_kept(self, api: httpx.Client, interval: str) -> None:
        plan = make_plan(api, interval=interval, bill_charges_monthly=True, bill_fixed_charges_monthly=False)
        assert [plan[flag] for flag in FLAGS] == [True, False]
        assert [ok(api.get(PLAN))["plan"][flag] for flag in FLAGS] == [True, False]
        changed = ok(api.put(PLAN, json={"plan": {"bill_fixed_charges_monthly": True}}))["plan"]
        assert [changed[flag] for flag in FLAGS] == [True, True]
        shorter = ok(api.put(PLAN, json={"plan": {"interval": "quarterly"}}))["plan"]
        assert [shorter[flag] for flag in FLAGS] == [None, None]

    @pytest.mark.parametrize("interval", ["weekly", "monthly", "quarterly"])
    def test_only_where_a_period_has_months(self, api: httpx.Client, interval: str) -> None:
        plan = make_plan(api, interval=interval, **BOTH)
        assert [plan[flag] for flag in FLAGS] == [None, None]

    def test_stays_once_somebody_subscribed(self, api: httpx.Client) -> None:
        make_plan(api, interval="yearly", bill_charges_monthly=True)
        make_subscription(api)
        plan = ok(api.put(PLAN, json={"plan": {"bill_charges_monthly": False}}))["plan"]
        assert [plan[flag] for flag in FLAGS] == [True, None]

    def test_a_plan_of_ones_own_has_them_too(self, api: httpx.Client) -> None:
        make_plan(api, interval="yearly", **BOTH)
        own = make_subscription(api, plan_overrides={"amount_cents": 7})["plan"]
        assert [own[flag] for flag in FLAGS] == [True, True]


class TestArrears:
    def test_months_and_then_the_year(self, api: httpx.Client) -> None:
        started(api, "2023-11-15T10:00:00Z")
        send_events(api, [call("2023-11-20T00:00:00Z")])
        set_clock(api, "2023-12-31T23:00:00Z")
        send_events(api, [event("calls"), event("calls")])
        set_clock(api, "2024-02-01T01:00:00Z")
        assert billed(api) == [
            ("2023-12-01", {"charge": 100, "fixed_charge": 600}),
            ("2024-01-01", {"charge": 200, "fixed_charge": 600, "subscription": 4_700}),  # 47 days
            ("2024-02-01", {"fixed_charge": 600}),
        ]
        assert periods(api, "2023-12-01", "charges") == [("2023-11-15T10:00:00Z", "2023-11-30T23:59:59Z")]
        assert periods(api, "2024-01-01", "subscription", "charges", "fixed_charges") == [
            ("2023-11-15T00:00:00Z", "2023-12-31T23:59:59Z"),
            *[("2023-12-01T00:00:00Z", "2023-12-31T23:59:59Z")] * 2,
        ]

    @pytest.mark.parametrize("monthly", FLAGS)
    def test_one_of_them_alone(self, api: httpx.Client, monthly: str) -> None:
        started(api, "2024-11-30T00:00:00Z", **{**dict.fromkeys(FLAGS, False), monthly: True})
        send_events(api, [event("calls"), call("2024-12-05T00:00:00Z")])
        set_clock(api, "2025-01-01T01:00:00Z")
        of_charges = monthly == FLAGS[0]
        yearly = "fixed_charges" if of_charges else "charges"
        assert billed(api) == [
            ("2024-12-01", {"charge": 100} if of_charges else {"fixed_charge": 600}),
            ("2025-01-01", {"subscription": 3_191, "charge": 100 if of_charges else 200, "fixed_charge": 600}),
        ]
        assert periods(api, "2024-12-01", yearly) == [(None, None)]
        assert periods(api, "2025-01-01", yearly) == [("2024-11-30T00:00:00Z", "2024-12-31T23:59:59Z")]

    def test_current_usage_and_period_are_of_the_month(self, api: httpx.Client) -> None:
        started(api, "2024-01-31T00:00:00Z", subscription={"billing_time": "anniversary"})
        send_events(api, [call("2024-02-10T00:00:00Z")])
        set_clock(api, "2024-03-05T00:00:00Z")
        send_events(api, [event("calls")])
        usage = usage_of(api)
        assert (usage["from_datetime"], usage["to_datetime"]) == ("2024-02-29T00:00:00Z", "2024-03-30T23:59:59Z")
        assert usage["amount_cents"] == 100
        shown = ok(api.get("/api/v1/subscriptions/sub"))["subscription"]
        assert shown["current_billing_period_started_at"] == "2024-02-29T00:00:00Z"
        assert shown["current_billing_period_ending_at"] == "2024-03-30T23:59:59Z"
        past = ok(api.get("/api/v1/customers/customer/past_usage", params={"external_subscription_id": "sub"}))
        assert [one["from_datetime"] for one in past["usage_periods"]] == ["2024-01-31T00:00:00Z"]

    def test_the_end_bills_the_year_and_the_month(self, api: httpx.Client) -> None:
        started(api, "2023-01-01T00:00:00Z")
        set_clock(api, "2023-03-10T12:00:00Z")
        send_events(api, [event("calls")])
        ok(api.delete("/api/v1/subscriptions/sub"))
        assert billed(api)[-1] == ("2023-03-10", {"subscription": 6_900, "charge": 100, "fixed_charge": 600})
        assert periods(api, "2023-03-10", "subscription", "charges", "fixed_charges") == [
            ("2023-01-01T00:00:00Z", "2023-03-10T12:00:00Z"), *[("2023-03-01T00:00:00Z", "2023-03-10T12:00:00Z")] * 2,
        ]  # fmt: skip

    def test_the_end_bills_the_year_of_what_is_not_monthly(self, api: httpx.Client) -> None:
        started(api, "2023-01-01T00:00:00Z", bill_charges_monthly=False)
        send_events(api, [event("calls")])
        set_clock(api, "2023-03-10T12:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        assert billed(api)[-1] == ("2023-03-10", {"subscription": 6_900, "charge": 100, "fixed_charge": 600})
        assert periods(api, "2023-03-10", "charges") == [("2023-01-01T00:00:00Z", "2023-03-10T12:00:00Z")]

    def test_an_upgrade_bills_up_to_its_day(self, api: httpx.Client) -> None:
        started(api, "2023-01-01T00:00:00Z")
        make_plan(api, "dear", interval="yearly", amount_cents=73_000, pay_in_advance=True, **BOTH)
        set_clock(api, "2023-03-10T12:00:00Z")
        send_events(api, [call("2023-03-09T00:00:00Z")])
        make_subscription(api, plan="dear")
        fees = [(fee["item"]["code"], fee["amount_cents"]) for fee in invoices_of(api)[-1]["fees"]]
        assert fees == [("plan", 6_800), ("calls", 100), ("seat", 600), ("dear", 59_400)]

    def test_a_cheaper_plan_follows_after_the_year(self, api: httpx.Client) -> None:
        started(api, "2023-10-01T00:00:00Z")
        make_plan(api, "cheap", interval="yearly", amount_cents=100, **BOTH)
        kept = make_subscription(api, plan="cheap")
        assert (kept["plan_code"], kept["downgrade_plan_date"]) == ("plan", "2024-01-01")
        set_clock(api, "2023-12-01T01:00:00Z")
        assert ok(api.get("/api/v1/subscriptions/sub"))["subscription"]["plan_code"] == "plan"
        set_clock(api, "2024-01-01T01:00:00Z")
        assert ok(api.get("/api/v1/subscriptions/sub"))["subscription"]["plan_code"] == "cheap"
        assert billed(api)[-1] == ("2024-01-01", {"subscription": 9_200, "fixed_charge": 600})

    def test_prorated_charges_and_minimums_are_of_the_month(self, api: httpx.Client) -> None:
        set_clock(api, "2024-01-01T00:00:00Z")
        seats = make_metric(api, "seats", "sum_agg", recurring=True)
        calls = make_metric(api, "calls")
        charges = [standard(seats, "31", prorated=True), standard(calls, min_amount_cents=2_900)]
        make_plan(api, charges=charges, interval="yearly", bill_charges_monthly=True)
        make_subscription(api)
        set_clock(api, "2024-01-22T00:00:00Z")
        send_events(api, [event("seats", value=1)])
        set_clock(api, "2024-02-10T12:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        amounts = [
            {
                fee["item"]["code"] + ("*" if fee["lago_true_up_parent_fee_id"] else ""): fee["amount_cents"]
                for fee in one["fees"]
            }
            for one in invoices_of(api)
        ]
        assert amounts == [
            {"seats": 1_000, "calls": 0, "calls*": 2_900},
            {"plan": 0, "seats": 1_069, "calls": 0, "calls*": 1_000},
        ]


class TestAdvance:
    def test_the_fee_at_the_start_and_the_seats_each_month(self, api: httpx.Client) -> None:
        started(api, "2024-02-01T00:00:00Z", pay_in_advance=True, seats_in_advance=True)
        set_clock(api, "2024-03-15T00:00:00Z")
        update = {"fixed_charges": [{"code": "seat", "units": 5}]}
        plan = ok(api.get(PLAN))["plan"]
        update["fixed_charges"][0]["id"] = plan["fixed_charges"][0]["lago_id"]
        ok(api.put(PLAN, json={"plan": update}))
        set_clock(api, "2025-01-01T01:00:00Z")
        issued = billed(api)
        assert issued[0] == ("2024-02-01", {"subscription": 33_408, "fixed_charge": 600})  # 335 of 366 days
        assert issued[1:3] == [("2024-03-01", {"fixed_charge": 600}), ("2024-04-01", {"fixed_charge": 1_000})]
        assert issued[3:-1] == [(f"2024-{month:02}-01", {"fixed_charge": 1_000}) for month in range(5, 13)]
        assert issued[-1] == ("2025-01-01", {"subscription": 36_500, "fixed_charge": 1_000})

    def test_yearly_seats_change_with_the_year(self, api: httpx.Client) -> None:
        started(api, "2024-10-01T00:00:00Z", bill_fixed_charges_monthly=False)
        change = {"fixed_charge": {"units": 5}}
        ok(api.put("/api/v1/subscriptions/sub/fixed_charges/seat", json=change))
        set_clock(api, "2024-11-01T01:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        assert billed(api)[-1][1]["fixed_charge"] == 600

    def test_a_start_in_the_past_waits_for_the_next_year(self, api: httpx.Client) -> None:
        started(
            api, "2024-10-15T00:00:00Z", pay_in_advance=True, subscription={"subscription_at": "2024-09-10T00:00:00Z"}
        )
        set_clock(api, "2025-01-01T01:00:00Z")
        assert billed(api) == [
            ("2024-11-01", {"fixed_charge": 600}),
            ("2024-12-01", {"fixed_charge": 600}),
            ("2025-01-01", {"subscription": 36_500, "fixed_charge": 600}),
        ]

    @pytest.mark.parametrize("trial", [29, "29.5"])
    def test_a_trial_that_ends_with_a_month(self, api: httpx.Client, trial: object) -> None:
        started(api, "2024-02-01T00:00:00Z", pay_in_advance=True, trial_period=trial)
        set_clock(api, "2024-04-01T01:00:00Z")
        assert billed(api) == [
            ("2024-03-01", {"subscription": 30_516, "fixed_charge": 600}),  # 306 of 366 days
            ("2024-04-01", {"fixed_charge": 600}),
        ]

    def test_what_is_carried_over_is_paid_for_each_month(self, api: httpx.Client) -> None:
        set_clock(api, "2024-01-01T00:00:00Z")
        seats = make_metric(api, "seats", "sum_agg", recurring=True)
        make_plan(
            api, charges=[standard(seats, "1", pay_in_advance=True)], interval="yearly", bill_charges_monthly=True
        )
        make_subscription(api)
        set_clock(api, "2024-01-20T00:00:00Z")
        send_events(api, [event("seats", value=4)])
        set_clock(api, "2024-03-01T01:00:00Z")
        fees = [
            (fee["amount_cents"], fee["from_date"], fee["to_date"]) for one in invoices_of(api) for fee in one["fees"]
        ]
        assert fees == [
            (400, "2024-01-01T00:00:00Z", "2024-01-31T23:59:59Z"),
            (400, "2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z"),
            (400, "2024-03-01T00:00:00Z", "2024-03-31T23:59:59Z"),
        ]


class TestCommitment:
    def test_once_a_year_with_all_its_months(self, api: httpx.Client) -> None:
        started(api, "2023-10-01T00:00:00Z", minimum_commitment={"amount_cents": 100_000})
        send_events(api, [event("calls"), call("2023-11-20T00:00:00Z")])
        set_clock(api, "2024-01-01T01:00:00Z")
        issued = billed(api)
        assert [one for _, one in issued[:2]] == [{"charge": 100, "fixed_charge": 600}] * 2
        # 92 of 365 days: 25,205; less 9,200 for the year, 3 times 600 for seats and 200 for calls
        assert issued[2][1] == {"subscription": 9_200, "fixed_charge": 600, "commitment": 14_005}

    def test_in_advance_for_the_year_before(self, api: httpx.Client) -> None:
        started(api, "2023-10-01T00:00:00Z", pay_in_advance=True, minimum_commitment={"amount_cents": 100_000})
        set_clock(api, "2024-01-01T01:00:00Z")
        issued = billed(api)
        assert issued[-1][1] == {"subscription": 36_500, "fixed_charge": 600, "commitment": 25_205 - 9_200 - 1_800}
        assert [set(one) for _, one in issued[:-1]] == [{"subscription"}, {"fixed_charge"}, {"fixed_charge"}]

    def test_at_the_end(self, api: httpx.Client) -> None:
        started(api, "2023-10-01T00:00:00Z", minimum_commitment={"amount_cents": 36_500})
        set_clock(api, "2023-11-09T12:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        assert billed(api)[-1][1] == {"subscription": 4_000, "fixed_charge": 600}

        make_customer(api, "other")
        ok(api.put(PLAN, json={"plan": {"minimum_commitment": {"amount_cents": 73_000}}}))
        make_subscription(api, "second", customer="other")
        set_clock(api, "2023-12-09T12:00:00Z")
        ok(api.delete("/api/v1/subscriptions/second"))
        (last, *_) = [one for one in invoices_of(api, "other") if one["issuing_date"] == "2023-12-09"]
        fees = {fee["item"]["type"]: fee["amount_cents"] for fee in last["fees"]}
        assert fees == {"subscription": 3_100, "fixed_charge": 600, "commitment": 6_200 - 3_100 - 1_200}


def test_a_change_of_timezone_loses_no_event(api: httpx.Client) -> None:
    """To the east, to where the new month has begun already, and to the west."""
    make_customer(api, "customer", timezone="America/New_York")
    started(api, "2024-01-01T12:00:00Z")
    set_clock(api, "2024-02-29T20:00:00Z")
    send_events(api, [event("calls")])
    make_customer(api, "customer", timezone="Asia/Tokyo")  # the first of March
    set_clock(api, "2024-03-01T02:00:00Z")
    send_events(api, [event("calls"), call("2024-02-29T20:30:00Z")])
    make_customer(api, "customer", timezone="America/Los_Angeles")  # the last of February once more
    set_clock(api, "2024-03-01T07:00:00Z")
    send_events(api, [event("calls")])
    set_clock(api, "2024-04-10T00:00:00Z")
    spans = [
        (period["charges_from_datetime"], period["charges_to_datetime"])
        for one in invoices_of(api)
        for period in one["billing_periods"]
    ]
    assert spans == [
        ("2024-01-01T12:00:00Z", "2024-02-01T04:59:59Z"),
        ("2024-02-01T05:00:00Z", "2024-02-29T14:59:59Z"),
        ("2024-02-29T15:00:00Z", "2024-04-01T06:59:59Z"),
    ]
    units = [fee["units"] for one in invoices_of(api) for fee in one["fees"] if fee["item"]["type"] == "charge"]
    assert sum(map(float, units)) == 4
