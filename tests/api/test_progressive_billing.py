"""Invoices in the middle of a period, what they take off the next, and what is given back when they took too much."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    send_event,
    send_events,
    set_clock,
    standard,
)
from tests.support import running, wait_for

SUBSCRIPTION = "/api/v1/subscriptions/sub"


def use(api: httpx.Client, units: object, code: str = "calls", subscription: str = "sub", **properties: object) -> None:
    """Send an event of so many units."""
    ok(send_event(api, event(code, subscription, value=units, **properties)))


def progressive(api: httpx.Client) -> list[Json]:
    """The progressive invoices, in the order of their numbers."""
    return [one for one in invoices_of(api) if one["invoice_type"] == "progressive_billing"]


def sums(invoice: Json) -> tuple[int, int, int, int]:
    """What an invoice has as fees, what progressive invoices took of these, its taxes and its total."""
    names = ("fees", "progressive_billing_credit", "taxes", "total")
    fees, credit, taxes, total = (invoice[f"{name}_amount_cents"] for name in names)
    return fees, credit, taxes, total


def lifetime(api: httpx.Client) -> Json:
    found: Json = ok(api.get(f"{SUBSCRIPTION}/lifetime_usage"))["lifetime_usage"]
    return found


def thresholds(*amounts: int, step: int = 0) -> list[Json]:
    return [{"amount_cents": one} for one in amounts] + ([{"amount_cents": step, "recurring": True}] if step else [])


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 April 2024, with calls that are added up."""
    set_clock(api, "2024-04-01T00:00:00Z")
    make_metric(api, "calls", "sum_agg")
    return api


def metric(api: httpx.Client, code: str = "calls") -> Json:
    found: Json = ok(api.get(f"/api/v1/billable_metrics/{code}"))["billable_metric"]
    return found


class TestPeriod:
    def test_each_threshold_bills_what_has_come_since(self, april: httpx.Client) -> None:
        """Thresholds of 10,000 and 20,000, then every 5,000: usage of 12,000, 21,000 and 30,000 in a month."""
        make_tax(april, "vat", "20", applied_to_organization=True)
        make_plan(
            april, charges=[standard(metric(april))], amount_cents=1_000,
            usage_thresholds=thresholds(10_000, 20_000, step=5_000),
        )  # fmt: skip
        make_subscription(april)
        for day, units in ((3, 99), (4, 21), (8, 79), (9, 11), (20, 39), (25, 51)):
            set_clock(april, f"2024-04-{day:02d}T10:00:00Z")
            use(april, units)
        made = progressive(april)
        assert [sums(one) for one in made] == [
            (12_000, 0, 2_400, 14_400), (21_000, 12_000, 1_800, 10_800), (30_000, 21_000, 1_800, 10_800),
        ]  # fmt: skip
        assert [one["issuing_date"] for one in made] == ["2024-04-04", "2024-04-09", "2024-04-25"]
        assert {(one["status"], one["payment_status"]) for one in made} == {("finalized", "pending")}
        assert [
            [(one["usage_threshold"]["amount_cents"], one["lifetime_usage_amount_cents"])
             for one in invoice["applied_usage_thresholds"]]
            for invoice in made
        ] == [[(10_000, 12_000)], [(20_000, 21_000)], [(5_000, 30_000)]]  # fmt: skip
        (period,) = made[0]["billing_periods"]
        assert (period["invoicing_reason"], period["charges_from_datetime"], period["charges_to_datetime"]) == (
            "progressive_billing", "2024-04-01T00:00:00Z", "2024-04-30T23:59:59Z",
        )  # fmt: skip
        (fee,) = made[1]["fees"]
        assert (Decimal(fee["precise_coupons_amount_cents"]), fee["taxes_amount_cents"]) == (12_000, 1_800)
        (credit,) = made[1]["credits"]
        assert (credit["amount_cents"], credit["before_taxes"], credit["item"]["type"]) == (12_000, True, "invoice")
        assert (credit["item"]["lago_item_id"], credit["item"]["code"]) == (made[0]["lago_id"], made[0]["number"])
        assert credit["invoice"] == {"lago_id": made[0]["lago_id"], "payment_status": "pending"}
        set_clock(april, "2024-05-01T00:00:00Z")
        last = invoices_of(april)[-1]
        assert (last["invoice_type"], sums(last)) == ("subscription", (31_000, 30_000, 200, 1_200))
        assert sum(one["sub_total_excluding_taxes_amount_cents"] for one in invoices_of(april)) == 31_000
        taxes = sorted((fee["item"]["type"], fee["taxes_amount_cents"]) for fee in last["fees"])
        assert taxes == [("charge", 0), ("subscription", 200)]

    def test_lifetime_goes_on_into_the_next_period(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(1_000, 4_000))
        make_subscription(april)
        use(april, 15)
        assert lifetime(april)["usage_thresholds"] == [
            {"amount_cents": 1_000, "completion_ratio": 1, "reached_at": "2024-04-01T00:00:00Z"},
            {"amount_cents": 4_000, "completion_ratio": pytest.approx(1 / 6), "reached_at": None},
        ]
        set_clock(april, "2024-05-02T00:00:00Z")
        use(april, 20)
        assert len(progressive(april)) == 1
        use(april, 5)
        assert [sums(one) for one in progressive(april)] == [(1_500, 0, 0, 1_500), (2_500, 0, 0, 2_500)]
        last = lifetime(april)
        assert (last["invoiced_usage_amount_cents"], last["current_usage_amount_cents"]) == (1_500, 2_500)
        assert [one["reached_at"] for one in last["usage_thresholds"]] == [
            "2024-04-01T00:00:00Z", "2024-05-02T00:00:00Z",
        ]  # fmt: skip

    def test_what_was_used_before_counts(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(1_000))
        make_subscription(april)
        use(april, 5)
        assert progressive(april) == []
        body = {"lifetime_usage": {"external_historical_usage_amount_cents": 600}}
        ok(april.put(f"{SUBSCRIPTION}/lifetime_usage", json=body))
        (made,) = progressive(april)
        assert sums(made) == (500, 0, 0, 500)
        assert made["applied_usage_thresholds"][0]["lifetime_usage_amount_cents"] == 1_100

    def test_without_charges_in_advance_and_without_minimums(self, april: httpx.Client) -> None:
        """What has been billed event by event is not billed again, and what lacks of minimums is only known at the end."""
        make_metric(april, "seats", "sum_agg")
        make_plan(
            april,
            charges=[
                standard(metric(april), min_amount_cents=5_000),
                standard(metric(april, "seats"), pay_in_advance=True),
            ],
            minimum_commitment={"amount_cents": 9_000},
            usage_thresholds=thresholds(1_000, 2_000),
        )
        make_subscription(april)
        use(april, 6, "seats")
        use(april, 5)
        (made,) = progressive(april)
        assert [(fee["item"]["code"], fee["amount_cents"]) for fee in made["fees"]] == [("calls", 500)]
        assert made["applied_usage_thresholds"][0]["lifetime_usage_amount_cents"] == 1_100
        use(april, 20, "seats")
        assert len(progressive(april)) == 1
        set_clock(april, "2024-05-01T00:00:00Z")
        last = invoices_of(april)[-1]
        fees = sorted((fee["item"]["type"], fee["amount_cents"]) for fee in last["fees"])
        assert fees == [
            ("charge", 500), ("charge", 4_500), ("commitment", 9_000 - 5_000 - 2_600), ("subscription", 0),
        ]  # fmt: skip
        assert sums(last)[1] == 500

    def test_past_usage_has_the_period_once(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(100))
        make_subscription(april)
        use(april, 3)
        assert len(progressive(april)) == 1
        set_clock(april, "2024-05-01T00:00:00Z")
        path = "/api/v1/customers/customer/past_usage?external_subscription_id=sub"
        (period,) = ok(april.get(path))["usage_periods"]
        assert period["amount_cents"] == 300


class TestCredit:
    def test_of_each_fee_what_was_billed_of_it(self, april: httpx.Client) -> None:
        """By filter and group, under taxes of their own; a bucket that has come since has nothing taken off."""
        make_tax(april, "high", "20")
        make_tax(april, "low", "10")
        filters = [{"key": "region", "values": ["eu", "us"]}]
        data = make_metric(april, "data", "sum_agg", filters=filters)
        make_plan(
            april,
            charges=[
                standard(metric(april), tax_codes=["high"]),
                standard(
                    data, properties={"amount": "1", "pricing_group_keys": ["team"]}, tax_codes=["low"],
                    filters=[{"values": {"region": ["eu"]}, "properties": {"amount": "2"}}],
                ),
            ],
            usage_thresholds=thresholds(1_000),
        )  # fmt: skip
        make_subscription(april)
        use(april, 5)
        use(april, 2, "data", region="eu")
        use(april, 3, "data", region="us", team="a")
        assert sums(progressive(april)[0]) == (1_200, 0, 100 + 40 + 30, 1_370)
        use(april, 1, "data", region="us", team="b")
        use(april, 1)
        set_clock(april, "2024-05-01T00:00:00Z")
        last = invoices_of(april)[-1]
        taken = sorted((fee["amount_cents"], Decimal(fee["precise_coupons_amount_cents"])) for fee in last["fees"])
        assert [pair for pair in taken if pair != (0, 0)] == [(100, 0), (300, 300), (400, 400), (600, 500)]
        assert sums(last) == (1_400, 1_200, 30, 230)

    def test_a_subscription_that_ends_or_changes_its_plan(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(100))
        make_plan(
            april, "dear", charges=[standard(metric(april))], amount_cents=3_000, usage_thresholds=thresholds(500)
        )
        make_subscription(april)
        make_subscription(april, "two", customer="second")
        use(april, 2)
        use(april, 4, subscription="two")
        set_clock(april, "2024-04-10T00:00:00Z")
        use(april, 1)
        ok(april.delete(SUBSCRIPTION))
        ended = invoices_of(april, "customer")[-1]
        assert (ended["invoice_type"], sums(ended)[:2]) == ("subscription", (300, 200))
        make_subscription(april, "two", "dear", "second")
        upgraded = invoices_of(april, "second")[-1]
        assert sums(upgraded)[:2] == (400, 400)
        set_clock(april, "2024-04-11T00:00:00Z")
        use(april, 1, subscription="two")
        newest = invoices_of(april, "second")[-1]
        assert (newest["invoice_type"], sums(newest)[:2]) == ("progressive_billing", (100, 0))
        assert newest["applied_usage_thresholds"][0]["lifetime_usage_amount_cents"] == 500

    def test_prices_of_its_own_since(self, april: httpx.Client) -> None:
        """The charge of a copy of the plan is the same charge to what was billed before."""
        plan = make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(100))
        make_subscription(april)
        use(april, 2)
        assert len(progressive(april)) == 1
        own = [{"id": plan["charges"][0]["lago_id"], "properties": {"amount": "3"}}]
        ok(april.put(SUBSCRIPTION, json={"subscription": {"plan_overrides": {"charges": own}}}))
        set_clock(april, "2024-05-01T00:00:00Z")
        assert sums(invoices_of(april)[-1]) == (600, 200, 0, 400)

    def test_too_much_is_given_back(self, april: httpx.Client) -> None:
        """Usage that goes down again: a credit note on the progressive invoice, with its taxes, spent on the next one."""
        make_tax(april, "vat", "20", applied_to_organization=True)
        make_plan(april, charges=[standard(metric(april))], amount_cents=200, usage_thresholds=thresholds(1_000))
        make_subscription(april)
        use(april, 12)
        (made,) = progressive(april)
        use(april, -4)
        assert len(progressive(april)) == 1
        set_clock(april, "2024-05-01T00:00:00Z")
        (note,) = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
        assert (note["lago_invoice_id"], note["total_amount_cents"], note["taxes_amount_cents"]) == (
            made["lago_id"], 480, 80,
        )  # fmt: skip
        last = invoices_of(april)[-1]
        assert sums(last) == (1_000, 800, 40, 0)
        assert (last["credit_notes_amount_cents"], note["balance_amount_cents"]) == (240, 240)

    def test_too_much_of_several(self, april: httpx.Client) -> None:
        """What the last progressive invoice has not asked for itself comes back of the one before."""
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(1_000, 2_000))
        make_subscription(april)
        use(april, 12)
        assert len(progressive(april)) == 1
        use(april, 9)
        assert [sums(one)[:2] for one in progressive(april)] == [(1_200, 0), (2_100, 1_200)]
        use(april, -11)
        set_clock(april, "2024-05-01T00:00:00Z")
        notes = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
        assert sorted(one["total_amount_cents"] for one in notes) == [200, 900]
        assert sums(invoices_of(april)[-1])[:2] == (1_000, 1_000)

    def test_nothing_left_of_the_usage(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(100))
        make_subscription(april)
        use(april, 2)
        assert len(progressive(april)) == 1
        use(april, -2)
        set_clock(april, "2024-05-01T00:00:00Z")
        (note,) = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
        assert (note["total_amount_cents"], note["balance_amount_cents"]) == (200, 200)
        assert sums(invoices_of(april)[-1])[:2] == (0, 0)


class TestWhen:
    def test_thresholds_that_come_after_the_usage(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))])
        make_subscription(april)
        make_subscription(april, "off", customer="off", progressive_billing_disabled=True)
        for subscription in ("sub", "off"):
            use(april, 3, subscription=subscription)
        assert invoices_of(april) == []
        ok(april.put("/api/v1/plans/plan", json={"plan": {"usage_thresholds": thresholds(200)}}))
        assert [sums(one)[0] for one in progressive(april)] == [300]
        ok(april.put(SUBSCRIPTION, json={"subscription": {"usage_thresholds": thresholds(250, 300)}}))
        assert len(progressive(april)) == 1
        use(april, 1)
        assert len(progressive(april)) == 1
        ok(april.put(SUBSCRIPTION, json={"subscription": {"usage_thresholds": thresholds(350)}}))
        assert [sums(one)[:2] for one in progressive(april)] == [(300, 0), (400, 300)]

    def test_whoever_looks_how_often(self, april: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(step=100))
        names = [f"s{number}" for number in range(8)]
        for name in names:
            make_subscription(april, name, customer=name)
        send_events(april, [event("calls", name, value=2) for name in names])
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: ok(april.get("/api/v1/invoices")), range(16)))
        assert [(one["customer"]["external_id"], sums(one)[0]) for one in progressive(april)] == [
            (name, 200) for name in names
        ]

    def test_events_of_organizations_that_watch_nothing(self, april: httpx.Client, other: httpx.Client) -> None:
        make_plan(april, charges=[standard(metric(april))], usage_thresholds=thresholds(100))
        make_subscription(april)
        set_clock(other, "2024-04-01T00:00:00Z")
        make_plan(other, charges=[standard(make_metric(other, "calls", "sum_agg"))])
        make_subscription(other)
        use(other, 5)
        assert (progressive(other), progressive(april)) == ([], [])


def test_what_was_taken_before_a_crash_is_looked_at_after_it(tmp_path: Path) -> None:
    """On the system's time usage is looked at by itself; a process that dies before has lost nothing."""
    settings: Any = {"scheduler_seconds": 86_400}
    with running(tmp_path / "data", **settings) as server, server.organization("Live") as live:
        make_plan(live, charges=[standard(make_metric(live, "calls", "sum_agg"))], usage_thresholds=thresholds(100))
        make_subscription(live)
        alert = {"alert_type": "current_usage_amount", "code": "a", "thresholds": [{"value": 100}]}
        ok(live.post(f"{SUBSCRIPTION}/alerts", json={"alert": alert}))
        use(live, 3)
        server.kill()
        server.start()
        (made,) = wait_for(lambda: progressive(live), "the look at the usage")
        assert sums(made)[0] == 300
        (triggered,) = ok(live.get("/api/v1/triggered_alerts"))["triggered_alerts"]
        assert Decimal(triggered["current_value"]) == 300
