"""Previews of invoices: they come to what is invoiced then, and nothing of them stays."""

from collections.abc import Iterator
from typing import Any

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
    make_tax,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
)

URL = "/api/v1/invoices/preview"
NEW = ("number", "sequential_id", "status", "customer", "subscriptions")
NEW_WITHIN = (
    "lago_id", "lago_invoice_id", "lago_subscription_id", "lago_item_id", "lago_true_up_fee_id",
    "lago_true_up_parent_fee_id", "lago_fee_id", "created_at", "updated_at", "succeeded_at",
)  # fmt: skip
HERE = {"external_id": "customer"}


def preview(api: httpx.Client, **sent: object) -> Json:
    invoice: Json = ok(api.post(URL, json={"customer": HERE, **sent}))["invoice"]
    return invoice


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value within another, by its path."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from flat(one, f"{path}.{key}")
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from flat(one, f"{path}[{place}]")
    else:
        yield path, value


def compared(invoice: Json) -> Json:
    """Everything that a preview tells of the invoice that is made then, but for what names it and what is made with it."""
    whole = {key: value for key, value in invoice.items() if key not in NEW}
    return {path: value for path, value in flat(whole) if path.rpartition(".")[2] not in NEW_WITHIN}


def everything(api: httpx.Client) -> Json:
    """What a preview must leave as it is."""
    stored = {
        path: ok(api.get(f"/api/v1/{path}", params={"per_page": 100}))
        for path in ("invoices", "customers", "fees", "credit_notes", "plans")
    }
    stored["subscriptions"] = [
        ok(api.get("/api/v1/subscriptions", params={"status[]": status}))["subscriptions"]
        for status in ("active", "pending", "terminated", "canceled")
    ]
    return stored


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A sandbox on 10 April 2024 with a customer in Paris, a tax, an add-on, a metric and plans that have all of it."""
    set_clock(api, "2024-04-10T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_customer(api, timezone="Europe/Paris", net_payment_term=14)
    make_add_on(api)
    charges = [standard(make_metric(api, "calls"), "0.335", min_amount_cents=3_000)]
    for code, cents, advance in (
        ("plan", 3_100, False), ("ahead", 3_000, True), ("dear", 9_001, False), ("dear ahead", 6_000, True),
        ("cheap", 100, False), ("cheap ahead", 90, True),
    ):  # fmt: skip
        make_plan(
            api, code, charges=charges, amount_cents=cents, pay_in_advance=advance,
            fixed_charges=[{**fixed(units=3, amount="2.333"), "pay_in_advance": advance, "prorated": True}],
            minimum_commitment={"amount_cents": 20_000},
        )  # fmt: skip
    return api


def begun(api: httpx.Client, plan: str = "plan") -> None:
    """A subscription since 10 April, with usage; on 20 May."""
    make_subscription(api, plan=plan)
    set_clock(api, "2024-05-20T10:00:00Z")
    send_events(api, [event("calls") for _ in range(7)])


class TestOfSubscriptions:
    @pytest.mark.parametrize("plan", ["plan", "ahead"])
    def test_the_next_invoice(self, april: httpx.Client, plan: str) -> None:
        begun(april, plan)
        before = everything(april)
        told = preview(april, subscriptions={"external_ids": ["sub"]})
        assert everything(april) == before
        set_clock(april, "2024-06-01T00:00:00Z")
        made = invoices_of(april)[-1]
        assert made["issuing_date"] == "2024-06-01"
        assert compared(told) == compared(made)
        assert (told["number"][-6:], told["sequential_id"], told["status"]) == ("-DRAFT", None, "draft")
        assert {fee["lago_id"] for fee in told["fees"]} == {None}
        assert told["customer"] == made["customer"]

    @pytest.mark.parametrize("plan", ["plan", "ahead"])
    def test_an_end(self, april: httpx.Client, plan: str) -> None:
        begun(april, plan)
        before = everything(april)
        told = preview(april, subscriptions={"external_ids": ["sub"], "terminated_at": "2024-05-24T15:00:00Z"})
        assert everything(april) == before
        set_clock(april, "2024-05-24T15:00:00Z")
        ok(april.delete("/api/v1/subscriptions/sub"))
        assert compared(told) == compared(invoices_of(april)[-1])
        assert told["billing_periods"][0]["invoicing_reason"] == "subscription_terminating"

    def test_an_end_that_is_set(self, april: httpx.Client) -> None:
        begun(april)
        ok(april.put("/api/v1/subscriptions/sub", json={"subscription": {"ending_at": "2024-05-24T15:00:00Z"}}))
        told = preview(april, subscriptions={"external_ids": ["sub"]})
        set_clock(april, "2024-05-25T00:00:00Z")
        assert compared(told) == compared(invoices_of(april)[-1])

    @pytest.mark.parametrize("plan", ["plan", "ahead"])
    @pytest.mark.parametrize("other", ["dear", "dear ahead"])
    def test_a_dearer_plan(self, april: httpx.Client, plan: str, other: str) -> None:
        begun(april, plan)
        before = everything(april)
        told = preview(april, subscriptions={"external_ids": ["sub"], "plan_code": other})
        assert everything(april) == before
        make_subscription(april, plan=other)
        made = invoices_of(april)[-1]
        assert compared(told) == compared(made)
        assert (made["credit_notes_amount_cents"] > 0) == (plan == "ahead")

    @pytest.mark.parametrize("plan", ["plan", "ahead"])
    @pytest.mark.parametrize("other", ["cheap", "cheap ahead"])
    def test_a_cheaper_plan(self, april: httpx.Client, plan: str, other: str) -> None:
        begun(april, plan)
        before = everything(april)
        told = preview(april, subscriptions={"external_ids": ["sub"], "plan_code": other})
        assert everything(april) == before
        make_subscription(april, plan=other)
        set_clock(april, "2024-06-01T00:00:00Z")
        assert compared(told) == compared(invoices_of(april)[-1])

    def test_a_cheaper_plan_after_months(self, april: httpx.Client) -> None:
        more = {"interval": "yearly", "bill_fixed_charges_monthly": True, "fixed_charges": [fixed()]}
        make_plan(april, "years", amount_cents=90_000, **more)
        make_plan(april, "less", interval="yearly", amount_cents=100)
        make_subscription(april, plan="years")
        told = preview(april, subscriptions={"external_ids": ["sub"], "plan_code": "less"})
        make_subscription(april, plan="less")
        set_clock(april, "2025-01-01T00:00:00Z")
        assert compared(told) == compared(invoices_of(april)[-1])

    def test_several_on_one(self, april: httpx.Client) -> None:
        begun(april)
        make_subscription(april, "second", consolidate_invoice=False)
        told = preview(april, subscriptions={"external_ids": ["second", "sub"]})
        assert [one["external_id"] for one in told["subscriptions"]] == ["sub", "second"]
        set_clock(april, "2024-06-01T00:00:00Z")
        made = [one for one in invoices_of(april) if one["issuing_date"] == "2024-06-01"]
        assert len(made) == 2
        assert sum(one["fees_amount_cents"] for one in made) == told["fees_amount_cents"]

    def test_what_does_not_go_together(self, april: httpx.Client, other: httpx.Client) -> None:
        begun(april)
        make_plan(april, "dollars", amount_currency="USD")
        make_plan(april, "weeks", interval="weekly")
        for code in ("dollars", "weeks"):
            make_subscription(april, code, plan=code)

        def sent(ids: list[str], **more: object) -> httpx.Response:
            return april.post(URL, json={"customer": HERE, "subscriptions": {"external_ids": ids, **more}})

        assert problems(sent(["sub", "dollars"])) == {"base": ["subscription_currencies_does_not_match"]}
        assert problems(sent(["sub", "weeks"])) == {"base": ["billing_periods_does_not_match"]}
        assert problems(sent(["sub", "weeks"], terminated_at="2024-05-21T00:00:00Z")) == {
            "subscriptions": ["only_one_subscription_allowed_for_termination"]
        }
        assert problems(sent(["sub", "weeks"], plan_code="dear")) == {
            "subscriptions": ["only_one_subscription_allowed_for_plan_change"]
        }
        assert problems(sent(["sub"], plan_code="plan")) == {
            "base": ["new_plan_should_be_different_from_existing_plan"]
        }
        assert problems(sent(["sub"], terminated_at="2024-05-01T00:00:00Z")) == {"terminated_at": ["invalid_date"]}
        assert problems(sent(["sub"], terminated_at="soon")) == {"terminated_at": ["invalid_date"]}
        assert refusal(sent(["sub", "none"])) == (404, "subscription_not_found")
        assert refusal(sent(["sub"], plan_code="none")) == (404, "plan_not_found")
        answer = april.post(URL, json={"customer": {"name": "New"}, "subscriptions": {"external_ids": ["sub"]}})
        assert problems(answer) == {"customer": ["must_be_persisted"]}
        theirs = {"customer": HERE, "subscriptions": {"external_ids": ["sub"]}}
        assert refusal(other.post(URL, json=theirs)) == (404, "customer_not_found")


class TestProposal:
    @pytest.mark.parametrize("billing_time", ["calendar", "anniversary"])
    @pytest.mark.parametrize("plan", ["plan", "ahead"])
    def test_the_first_invoice(self, april: httpx.Client, plan: str, billing_time: str) -> None:
        before = everything(april)
        told = preview(april, plan_code=plan, billing_time=billing_time)
        assert everything(april) == before
        make_subscription(april, plan=plan, billing_time=billing_time)
        set_clock(april, "2024-05-10T00:00:00Z")
        made = invoices_of(april)[0]
        # Nobody knows what will be used: charges are left out, but not what a period costs at least.
        for whole in (told, made):
            whole["fees"] = [fee for fee in whole["fees"] if fee["item"]["type"] in {"subscription", "fixed_charge"}]
        same = ("issuing_date", "payment_due_date", "total_amount_cents", "taxes_amount_cents", "currency")
        assert {key: told[key] for key in same} == {key: made[key] for key in same}
        shown = compared({"fees": told["fees"]})
        for place in range(2):
            shown[f".fees[{place}].external_subscription_id"] = "sub"
        assert shown == compared({"fees": made["fees"]})

    def test_a_start_at_another_time(self, april: httpx.Client) -> None:
        told = preview(april, plan_code="ahead", subscription_at="2024-06-16T00:00:00Z")
        assert (told["issuing_date"], told["payment_due_date"]) == ("2024-06-16", "2024-06-30")
        fees = {fee["item"]["type"]: fee["amount_cents"] for fee in told["fees"]}
        assert fees == {"subscription": 1_500, "fixed_charge": 350}
        past = preview(april, plan_code="plan", subscription_at="2024-02-15", billing_time="anniversary")
        assert past["issuing_date"] == "2024-03-15"

    def test_somebody_new(self, april: httpx.Client) -> None:
        before = everything(april)
        new = {"name": "New", "currency": "EUR", "timezone": "America/Los_Angeles", "country": "us"}
        told = preview(april, customer=new, plan_code="plan")
        assert everything(april) == before
        assert told["customer"]["name"] == "New"
        assert told["customer"]["applicable_timezone"] == "America/Los_Angeles"
        assert told["issuing_date"] == "2024-05-01"
        assert told["fees"][0]["amount_cents"] == 2_273  # 22 days: it is still the ninth there
        assert (told["sub_total_excluding_taxes_amount_cents"], told["taxes_amount_cents"]) == (14_667, 2_933)
        wrong = april.post(URL, json={"customer": {**new, "timezone": "Mars/Olympus"}, "plan_code": "plan"})
        assert problems(wrong) == {"timezone": ["value_is_invalid"]}

    def test_coupons_that_are_sent(self, april: httpx.Client) -> None:
        terms = {
            "coupon_type": "percentage",
            "percentage_rate": "50",
            "frequency": "forever",
            "expiration": "no_expiration",
        }
        ok(
            april.post(
                "/api/v1/coupons",
                json={"coupon": {"name": "Half", "code": "half", "expiration": "no_expiration", **terms}},
            )
        )
        inline = {"code": "new", "coupon_type": "fixed_amount", "amount_cents": 200, "amount_currency": "EUR"}
        told = preview(april, plan_code="ahead", coupons=[{"code": "half"}, inline])
        fees = told["fees_amount_cents"]
        assert told["coupons_amount_cents"] == (fees + 1) // 2 + 200
        assert {one["item"]["code"] for one in told["credits"]} == {"half", "new"}
        assert not ok(april.get("/api/v1/applied_coupons"))["applied_coupons"]
        assert refusal(april.get("/api/v1/coupons/new")) == (404, "coupon_not_found")
        ok(april.post("/api/v1/applied_coupons", json={
            "applied_coupon": {"external_customer_id": "customer", "coupon_code": "half"},
        }))  # fmt: skip
        assert preview(april, plan_code="ahead", coupons=[inline])["coupons_amount_cents"] == (fees + 1) // 2

    def test_within_a_grace_period(self, april: httpx.Client) -> None:
        before = preview(april, plan_code="ahead", coupons=[])
        make_customer(april, billing_configuration={"invoice_grace_period": 3})
        inline = {"code": "new", "coupon_type": "fixed_amount", "amount_cents": 200, "amount_currency": "EUR"}
        told = preview(april, plan_code="ahead", coupons=[inline])
        assert (before["issuing_date"], told["issuing_date"]) == ("2024-04-10", "2024-04-13")
        assert (told["payment_due_date"], told["coupons_amount_cents"]) == ("2024-04-27", 200)
        assert told["customer"]["billing_configuration"]["invoice_grace_period"] == 3

    def test_what_is_wrong(self, april: httpx.Client) -> None:
        def sent(**more: object) -> httpx.Response:
            return april.post(URL, json={"customer": HERE, "plan_code": "plan", **more})

        assert refusal(sent(plan_code="none")) == (404, "plan_not_found")
        assert refusal(sent(plan_code=None)) == (404, "plan_not_found")
        assert refusal(sent(customer={"external_id": "none"})) == (404, "customer_not_found")
        assert problems(sent(customer=None)) == {"customer": ["value_is_mandatory"]}
        assert problems(sent(billing_time="daily")) == {"billing_time": ["value_is_invalid"]}
        assert problems(sent(subscription_at="soon")) == {"subscription_at": ["invalid_date"]}
        assert refusal(sent(billing_entity_code="none")) == (404, "billing_entity_not_found")
        assert sent(coupons={"code": "x"}).json() == {"status": 400, "error": "coupons_must_be_an_array"}
        assert sent(subscriptions=["sub"]).json() == {"status": 400, "error": "subscriptions_must_be_an_object"}
        assert sent(coupons=None, subscriptions=None, subscription_at=None).status_code == 200
