"""Minimum commitments of plans, and the fee for what a period lacks of them."""

import httpx
import pytest

from tests.factories import (
    Json,
    invoices_of,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    set_clock,
)

PLANS = "/api/v1/plans"


def fees(api: httpx.Client, issued: str) -> dict[str, Json]:
    (invoice,) = [one for one in invoices_of(api) if one["issuing_date"] == issued]
    whole = ok(api.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]
    return {fee["item"]["type"]: fee for fee in whole["fees"]}


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A sandbox on 11 April 2024."""
    set_clock(api, "2024-04-11T00:00:00Z")
    return api


class TestPlan:
    def test_shown_changed_and_taken_away(self, april: httpx.Client) -> None:
        make_tax(april, "vat", "20")
        sent = {"amount_cents": 100_000, "invoice_display_name": "At least", "tax_codes": ["vat"]}
        made = make_plan(april, minimum_commitment=sent)["minimum_commitment"]
        assert made.keys() == {
            "lago_id", "plan_code", "amount_cents", "invoice_display_name", "interval", "created_at", "updated_at", "taxes"
        }  # fmt: skip
        assert (made["amount_cents"], made["invoice_display_name"], made["plan_code"]) == (100_000, "At least", "plan")
        assert [tax["code"] for tax in made["taxes"]] == ["vat"]

        def put(change: object) -> Json:
            plan: Json = ok(april.put(f"{PLANS}/plan", json={"plan": {"minimum_commitment": change}}))["plan"]
            return plan

        changed = put({"amount_cents": 5})["minimum_commitment"]
        assert (changed["amount_cents"], changed["lago_id"]) == (5, made["lago_id"])
        assert [tax["code"] for tax in changed["taxes"]] == ["vat"]
        assert ok(april.put(f"{PLANS}/plan", json={"plan": {"name": "New"}}))["plan"]["minimum_commitment"] == changed
        assert put(None)["minimum_commitment"] is None
        assert put({"amount_cents": 7})["minimum_commitment"]["lago_id"] != made["lago_id"]

    @pytest.mark.parametrize("amount", [0, None])
    def test_it_is_an_amount(self, april: httpx.Client, amount: int | None) -> None:
        sent = {
            "name": "p", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR",
            "pay_in_advance": False, "minimum_commitment": {"amount_cents": amount},
        }  # fmt: skip
        assert problems(april.post(PLANS, json={"plan": sent})) == {"amount_cents": ["invalid_amount"]}

    def test_taxes_must_be_there(self, april: httpx.Client) -> None:
        make_plan(april)
        sent = {"plan": {"minimum_commitment": {"amount_cents": 1, "tax_codes": ["none"]}}}
        assert refusal(april.put(f"{PLANS}/plan", json=sent)) == (404, "tax_not_found")
        assert ok(april.get(f"{PLANS}/plan"))["plan"]["minimum_commitment"] is None


class TestFee:
    def test_what_the_days_of_the_first_period_lack(self, april: httpx.Client) -> None:
        make_tax(april, "vat", "20")
        make_plan(
            april, amount_cents=61_875, minimum_commitment={"amount_cents": 100_000, "tax_codes": ["vat"]}, tax_codes=[]
        )
        make_subscription(april)
        set_clock(april, "2024-06-01T01:00:00Z")
        first, second = (fees(april, issued) for issued in ("2024-05-01", "2024-06-01"))
        assert first["subscription"]["amount_cents"] == 41_250
        fee = first["commitment"]
        wanted = {
            "amount_cents": 25_417, "units": "1.0", "taxes_amount_cents": 5_083, "total_amount_cents": 30_500,
            "precise_unit_amount": "254.17", "events_count": None,
        }  # fmt: skip
        assert {key: fee[key] for key in wanted} == wanted
        assert (fee["item"]["name"], fee["item"]["item_type"]) == ("Minimum commitment", "Subscription")
        assert second["commitment"]["amount_cents"] == 100_000 - 61_875

    def test_none_when_nothing_lacks(self, april: httpx.Client) -> None:
        make_plan(april, amount_cents=100, minimum_commitment={"amount_cents": 100})
        make_subscription(april)
        set_clock(april, "2024-05-01T01:00:00Z")
        assert fees(april, "2024-05-01").keys() == {"subscription"}

    @pytest.mark.parametrize("advance", [True, False])
    def test_at_the_end_of_the_subscription(self, april: httpx.Client, advance: bool) -> None:
        """The last days are reckoned up at once; in advance, what was paid for them counts."""
        make_plan(april, amount_cents=3_000, pay_in_advance=advance, minimum_commitment={"amount_cents": 9_000})
        make_subscription(april, subscription_at="2024-04-11T00:00:00Z")
        set_clock(april, "2024-04-20T12:00:00Z")
        ok(april.delete("/api/v1/subscriptions/sub", params={"on_termination_credit_note": "skip"} if advance else {}))
        found = fees(april, "2024-04-20")
        # 10 of 30 days are committed; billed are 10 days, or the 20 days that were paid.
        assert found["commitment"]["amount_cents"] == 3_000 - (2_000 if advance else 1_000)
