"""Voided invoices made anew (billing spec 3.7)."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    fixed,
    give_coupon,
    invoices_of,
    make_add_on,
    make_coupon,
    make_customer,
    make_entity,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    make_wallet,
    move_credits,
    ok,
    problems,
    refusal,
    sell,
    send_events,
    set_clock,
    standard,
    wallet_of,
)
from tests.support import Server

URL = "/api/v1/invoices"
TIERS = {"graduated_ranges": [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
]}  # fmt: skip
MAY_10 = 1_715_299_200


def void(api: httpx.Client, invoice: Json) -> Json:
    voided: Json = ok(api.post(f"{URL}/{invoice['lago_id']}/void"))["invoice"]
    return voided


def ask(api: httpx.Client, invoice: Json, fees: list[Json] | None = None) -> httpx.Response:
    body = None if fees is None else {"invoice": {"fees": fees}}
    return api.post(f"{URL}/{invoice['lago_id']}/regenerate", json=body)


def regenerate(api: httpx.Client, invoice: Json, fees: list[Json] | None = None) -> Json:
    made: Json = ok(ask(api, invoice, fees))["invoice"]
    return made


def fee_of(invoice: Json, code: str) -> Json:
    """The fee of an invoice for something with a code."""
    (fee,) = (one for one in invoice["fees"] if one["item"]["code"] == code)
    return fee


def amounts(invoice: Json) -> list[tuple[str, str, int]]:
    return [(one["item"]["code"], one["units"], one["amount_cents"]) for one in invoice["fees"]]


@pytest.fixture
def may(api: httpx.Client) -> Json:
    """The invoice of May 2024, voided on 2 June: 31.00 for the plan, 12 calls in tiers at 11.00, 5 seats at 10.00, with
    taxes of 20 %."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_add_on(api, "seat")
    calls, idle = make_metric(api, "calls"), make_metric(api, "idle")
    graduated = {"billable_metric_id": calls["lago_id"], "charge_model": "graduated", "properties": TIERS}
    percentage = {"billable_metric_id": idle["lago_id"], "charge_model": "percentage", "properties": {"rate": "1"}}
    make_plan(api, charges=[graduated, percentage], amount_cents=3_100, fixed_charges=[fixed(units=5, amount="2")])
    make_customer(api, currency="EUR", net_payment_term=14)
    make_subscription(api)
    send_events(api, [event("calls", timestamp=MAY_10 + number) for number in range(12)])
    set_clock(api, "2024-06-02T00:00:00Z")
    (invoice,) = invoices_of(api)
    assert invoice["total_amount_cents"] == 6_240
    return void(api, invoice)


class TestAsItWas:
    def test_the_same_fees_on_another_invoice(self, api: httpx.Client, may: Json) -> None:
        made = regenerate(api, may)
        assert (made["status"], made["payment_status"], made["sequential_id"]) == ("finalized", "pending", 2)
        assert (made["number"], made["issuing_date"], made["payment_due_date"]) == (
            may["number"].replace("-001-001", "-001-002"), "2024-06-01", "2024-06-15"
        )  # fmt: skip
        same = (
            "invoice_type", "currency", "billing_periods", "fees_amount_cents", "taxes_amount_cents",
            "sub_total_including_taxes_amount_cents", "total_amount_cents", "net_payment_term",
        )  # fmt: skip
        assert {name: made[name] for name in same} == {name: may[name] for name in same}
        own = {
            "lago_id",
            "lago_invoice_id",
            "lago_original_fee_id",
            "created_at",
            "lago_true_up_fee_id",
            "applied_taxes",
        }
        kept = [{name: value for name, value in one.items() if name not in own} for one in may["fees"]]
        assert [{name: one[name] for name in one if name not in own} for one in made["fees"]] == kept
        assert [one["lago_original_fee_id"] for one in made["fees"]] == [one["lago_id"] for one in may["fees"]]
        assert not {one["lago_id"] for one in made["fees"]} & {one["lago_id"] for one in may["fees"]}
        assert (made["lago_voided_invoice_id"], made.get("lago_regenerated_invoice_id")) == (may["lago_id"], None)
        before = ok(api.get(f"{URL}/{may['lago_id']}"))["invoice"]
        assert (before["status"], before["number"], before["lago_regenerated_invoice_id"]) == (
            "voided", may["number"], made["lago_id"]
        )  # fmt: skip
        assert before["fees"] == may["fees"]

    def test_its_period_is_billed_once(self, api: httpx.Client, may: Json) -> None:
        made = regenerate(api, may)
        set_clock(api, "2024-07-02T00:00:00Z")
        assert [(one["status"], one["total_amount_cents"]) for one in invoices_of(api)] == [
            ("voided", 6_240), ("finalized", 6_240), ("finalized", 4_920)
        ]  # fmt: skip
        past = ok(api.get(
            "/api/v1/customers/customer/past_usage", params={"external_subscription_id": "sub"}
        ))["usage_periods"]  # fmt: skip
        assert [one["lago_invoice_id"] for one in past][1:] == [made["lago_id"]]
        lifetime = ok(api.get("/api/v1/subscriptions/sub/lifetime_usage"))["lifetime_usage"]
        assert lifetime["invoiced_usage_amount_cents"] == 1_100

    def test_fees_are_explained_as_they_were_billed(self, api: httpx.Client, may: Json) -> None:
        """Also when the price has changed, and what came after the period was measured is still late."""
        plan = ok(api.get("/api/v1/plans/plan"))["plan"]
        charges = [{**one, "id": one["lago_id"]} for one in plan["charges"]]
        charges[0]["properties"] = {"graduated_ranges": [{**TIERS["graduated_ranges"][1], "from_value": 0}]}
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": charges}}))
        send_events(api, [event("calls", timestamp=MAY_10)])
        fee = fee_of(regenerate(api, may), "calls")
        assert fee["amount_cents"] == 1_100
        told = [
            ok(api.get(f"/api/v1/fees/{id_}/explanation"))["explanation"]
            for id_ in (fee["lago_original_fee_id"], fee["lago_id"])
        ]
        assert told[0]["steps"] == told[1]["steps"]
        assert told[1]["price"]["as_billed"] is True
        assert [(one["events"]["in_window_count"], one["events"]["late_count"]) for one in told] == [(12, 1)] * 2

    def test_it_may_be_voided_and_made_anew_again(self, api: httpx.Client, may: Json) -> None:
        again = regenerate(api, void(api, regenerate(api, may)))
        assert (again["sequential_id"], again["total_amount_cents"]) == (3, 6_240)
        assert again["billing_periods"] == may["billing_periods"]
        assert refusal(ask(api, may)) == (405, "already_regenerated")
        set_clock(api, "2024-07-02T00:00:00Z")
        assert len(invoices_of(api)) == 4

    def test_it_is_final_within_a_grace_period_and_dated_as_the_voided_one(self, api: httpx.Client, may: Json) -> None:
        make_customer(api, billing_configuration={"invoice_grace_period": 5}, net_payment_term=30)
        set_clock(api, "2024-06-20T00:00:00Z")
        made = regenerate(api, may)
        assert (made["status"], made["created_at"]) == ("finalized", "2024-06-20T00:00:00Z")
        assert (made["issuing_date"], made["payment_due_date"]) == ("2024-06-01", "2024-07-01")

    def test_the_same_entity_issues_it(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_entity(api, "branch", document_number_prefix="BR")
        make_add_on(api)
        make_customer(api, currency="EUR")
        sold = sell(api, {"add_on_code": "seat"}, billing_entity_code="branch", purchase_order_number="PO 7")
        made = regenerate(api, void(api, sold))
        assert (made["billing_entity_code"], made["purchase_order_number"]) == ("branch", "PO 7")
        assert made["number"].startswith("BR-")


class TestOtherFees:
    def test_adjusted_and_left_out(self, api: httpx.Client, may: Json) -> None:
        plan, calls = fee_of(may, "plan"), fee_of(may, "calls")
        made = regenerate(api, may, [
            {"fee_id": calls["lago_id"], "units": "8", "invoice_display_name": "Fewer calls"},
            {"fee_id": plan["lago_id"], "units": 2},
        ])  # fmt: skip
        assert amounts(made) == [("calls", "8.0", 800), ("plan", "2.0", 6_200)]
        assert fee_of(made, "calls")["item"]["invoice_display_name"] == "Fewer calls"
        assert fee_of(made, "calls")["amount_details"]["graduated_ranges"]
        assert (made["taxes_amount_cents"], made["total_amount_cents"]) == (1_400, 8_400)

    def test_a_price_of_its_own(self, api: httpx.Client, may: Json) -> None:
        calls, seat = fee_of(may, "calls"), fee_of(may, "seat")
        made = regenerate(api, may, [
            {"fee_id": calls["lago_id"], "unit_precise_amount": "0.01255"},
            {"fee_id": seat["lago_id"], "units": "2.5", "unit_precise_amount": "3"},
        ])  # fmt: skip
        assert amounts(made) == [("calls", "12.0", 15), ("seat", "2.5", 750)]

    def test_units_of_a_fixed_charge(self, api: httpx.Client, may: Json) -> None:
        made = regenerate(api, may, [{"fee_id": fee_of(may, "seat")["lago_id"], "units": "7"}])
        assert amounts(made) == [("seat", "7.0", 1_400)]

    def test_fees_that_were_not_there(self, api: httpx.Client, may: Json) -> None:
        (period,) = may["billing_periods"]
        charges = ok(api.get("/api/v1/plans/plan"))["plan"]["charges"]
        idle = next(one for one in charges if one["billable_metric_code"] == "idle")
        of = {"subscription_id": period["lago_subscription_id"], "charge_id": idle["lago_id"]}
        assert problems(ask(api, may, [{**of, "units": "3"}])) == {"charge": ["invalid_charge_model"]}
        made = regenerate(
            api, may, [{"fee_id": fee_of(may, "plan")["lago_id"]}, {**of, "units": "3", "unit_precise_amount": "1.5"}]
        )
        assert amounts(made) == [("plan", "1.0", 3_100), ("idle", "3.0", 450)]
        fee = fee_of(made, "idle")
        assert (fee["lago_original_fee_id"], fee["from_date"][:10], fee["taxes_amount_cents"]) == (
            None, "2024-05-01", 90
        )  # fmt: skip

    def test_taxes_are_those_of_now(self, api: httpx.Client, may: Json) -> None:
        make_tax(api, "low", "5.5")
        make_tax(api, "zero", "0")
        make_customer(api, tax_codes=["low"])
        sent = [{"fee_id": one["lago_id"]} for one in may["fees"]]
        sent[0]["tax_codes"] = ["zero"]
        made = regenerate(api, may, sent)
        assert [one["taxes_amount_cents"] for one in made["fees"]] == [0, 61, 55]
        assert {one["tax_code"] for one in made["applied_taxes"]} == {"low", "zero"}
        assert made["taxes_amount_cents"] == 116

    def test_a_spending_minimum_stays_with_its_fee(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_plan(api, charges=[standard(make_metric(api, "calls"), min_amount_cents=5_000)])
        make_subscription(api)
        send_events(api, [event("calls", timestamp=MAY_10)])
        set_clock(api, "2024-06-02T00:00:00Z")
        (invoice,) = invoices_of(api)
        made = regenerate(api, void(api, invoice))
        parent, true_up = (one for one in made["fees"] if one["item"]["type"] == "charge")
        assert (parent["amount_cents"], true_up["amount_cents"]) == (100, 4_900)
        assert parent["lago_true_up_fee_id"] == true_up["lago_id"]
        assert true_up["lago_true_up_parent_fee_id"] == parent["lago_id"]

    def test_one_off(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_tax(api, "vat", "20")
        make_add_on(api, "setup", amount_cents=10_000)
        make_add_on(api, "dollars", amount_currency="USD")
        make_customer(api, currency="EUR")
        sold = void(api, sell(api, {"add_on_code": "setup", "units": "2", "tax_codes": ["vat"]}))
        (fee,) = sold["fees"]
        assert refusal(ask(api, sold, [{"add_on_code": "none"}])) == (404, "add_on_not_found")
        assert problems(ask(api, sold, [{"add_on_code": "dollars"}])) == {"currency": ["currencies_does_not_match"]}
        made = regenerate(api, sold, [
            {"fee_id": fee["lago_id"], "units": "1.5"},
            {"add_on_code": "setup", "units": "0.5", "description": "half"},
            {"add_on_code": "dollars", "unit_precise_amount": "0.015"},
        ])  # fmt: skip
        assert [one["amount_cents"] for one in made["fees"]] == [15_000, 5_000, 2]
        assert [one["taxes_amount_cents"] for one in made["fees"]] == [3_000, 0, 0]
        assert made["fees"][1]["item"]["description"] == "half"
        assert (made["invoice_type"], made["total_amount_cents"]) == ("one_off", 23_002)


class TestSettlement:
    def test_it_takes_what_the_voided_one_gave_back(self, api: httpx.Client) -> None:
        """A coupon, a credit note and prepaid credits, each as far as it is still there."""
        set_clock(api, "2024-04-01T10:00:00Z")
        make_customer(api, currency="EUR")
        make_add_on(api, amount_cents=300)
        sold = sell(api, {"add_on_code": "seat"})
        note = {"invoice_id": sold["lago_id"], "items": [{"fee_id": sold["fees"][0]["lago_id"], "amount_cents": 300}]}
        make_coupon(api, amount_cents=1_500)
        give_coupon(api)
        wallet = make_wallet(api, granted_credits="20")
        make_plan(api, amount_cents=3_000, pay_in_advance=True)
        make_subscription(api)
        april = invoices_of(api)[-1]
        assert (april["coupons_amount_cents"], april["prepaid_credit_amount_cents"]) == (1_500, 1_500)
        void(api, april)
        assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 2_000
        ok(api.post("/api/v1/credit_notes", json={"credit_note": {**note, "credit_amount_cents": 300}}))
        move_credits(api, wallet, voided_credits="15")
        made = regenerate(api, april)
        assert (made["coupons_amount_cents"], made["credit_notes_amount_cents"]) == (1_500, 300)
        assert (made["prepaid_credit_amount_cents"], made["total_amount_cents"]) == (500, 700)
        assert wallet_of(api, wallet["lago_id"])["balance_cents"] == 0
        (applied,) = ok(api.get("/api/v1/applied_coupons"))["applied_coupons"]
        assert (applied["status"], applied["amount_cents_remaining"]) == ("terminated", 0)

    def test_an_early_end_gives_back_of_it(self, api: httpx.Client) -> None:
        set_clock(api, "2024-04-01T10:00:00Z")
        make_plan(api, amount_cents=3_000, pay_in_advance=True)
        make_subscription(api)
        (april,) = invoices_of(api)
        fee = void(api, april)["fees"][0]
        made = regenerate(api, april, [{"fee_id": fee["lago_id"], "units": 1, "unit_precise_amount": "15"}])
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        (note,) = ok(api.get("/api/v1/credit_notes"))["credit_notes"]
        assert (note["lago_invoice_id"], note["credit_amount_cents"]) == (made["lago_id"], 1_400)

    def test_nothing_is_paid_already(self, api: httpx.Client, may: Json) -> None:
        made = regenerate(
            api, may, [{"fee_id": one["lago_id"], "units": 0, "unit_precise_amount": 0} for one in may["fees"]]
        )
        assert (made["status"], made["payment_status"], made["total_amount_cents"]) == ("finalized", "succeeded", 0)

    def test_progressive_billing(self, api: httpx.Client) -> None:
        """The period's end takes off what the invoice in place of the voided one has billed."""
        set_clock(api, "2024-05-01T00:00:00Z")
        thresholds = [{"amount_cents": 1_000}]
        make_plan(api, charges=[standard(make_metric(api, "calls"))], usage_thresholds=thresholds)
        make_subscription(api)
        send_events(api, [event("calls", timestamp=MAY_10 - 86_400 * 9 + number) for number in range(10)])
        set_clock(api, "2024-05-11T00:00:00Z")
        (early,) = invoices_of(api)
        assert (early["invoice_type"], early["total_amount_cents"]) == ("progressive_billing", 1_000)
        (fee,) = void(api, early)["fees"]
        made = regenerate(api, early, [{"fee_id": fee["lago_id"], "units": 6}])
        assert (made["total_amount_cents"], made["billing_periods"]) == (600, early["billing_periods"])
        passed = [one["usage_threshold"]["amount_cents"] for one in made["applied_usage_thresholds"]]
        assert passed == [1_000]
        set_clock(api, "2024-06-02T00:00:00Z")
        last = invoices_of(api)[-1]
        assert (last["fees_amount_cents"], last["progressive_billing_credit_amount_cents"]) == (1_000, 600)


class TestRefused:
    def test_what_is_not_voided_or_of_another_kind(self, api: httpx.Client, other: httpx.Client, may: Json) -> None:
        assert refusal(ask(other, may)) == (404, "invoice_not_found")
        for unknown in ("none", "00000000-0000-0000-0000-000000000000"):
            assert refusal(ask(api, {"lago_id": unknown})) == (404, "invoice_not_found")
        made = regenerate(api, may)
        assert refusal(ask(api, may)) == (405, "already_regenerated")
        assert refusal(ask(api, made)) == (405, "not_voided")
        make_wallet(api, paid_credits="10")
        top_up = next(one for one in invoices_of(api) if one["invoice_type"] == "credit")
        assert refusal(ask(api, void(api, top_up))) == (405, "not_regenerable")

    def test_fees_that_cannot_be(self, api: httpx.Client, may: Json) -> None:
        fee, (period,) = fee_of(may, "calls"), may["billing_periods"]
        charge = {"subscription_id": period["lago_subscription_id"], "charge_id": fee["lago_charge_id"]}
        other_id = "00000000-0000-0000-0000-000000000000"
        assert refusal(ask(api, may, [])) == (404, "fees_not_found")
        for sent, resource in (
            ({"fee_id": other_id}, "fee"),
            ({"fee_id": "none"}, "fee"),
            ({"units": 1}, "subscription"),
            ({"subscription_id": other_id, "units": 1}, "subscription"),
            ({**charge, "charge_id": other_id, "units": 1}, "charge"),
            ({**charge, "charge_id": None, "units": 1}, "charge"),
            ({**charge, "charge_filter_id": other_id, "units": 1}, "charge_filter"),
            ({**charge, "fixed_charge_id": other_id, "units": 1}, "fixed_charge"),
            ({"fee_id": fee["lago_id"], "tax_codes": ["none"]}, "tax"),
        ):
            assert refusal(ask(api, may, [sent])) == (404, f"{resource}_not_found")
        named = {"fee_id": fee["lago_id"]}
        for given, field, code in (
            ([{**named, "units": -1}], "units", "value_is_out_of_range"),
            ([{**named, "unit_precise_amount": "1e30"}], "unit_precise_amount", "value_is_out_of_range"),
            (
                [{**named, "units": 10**14, "unit_precise_amount": 10**14}],
                "unit_precise_amount", "value_is_out_of_range",
            ),
            ([charge], "units", "value_is_mandatory"),
            ([named, named], "fees", "value_already_exist"),
            ([named, {**charge, "units": 1}], "fees", "value_already_exist"),
        ):  # fmt: skip
            assert problems(ask(api, may, given)) == {field: [code]}
        assert len(invoices_of(api)) == 1
        assert regenerate(api, may)["sequential_id"] == 2

    def test_parents_are_of_the_same_invoice(self, api: httpx.Client) -> None:
        """What makes up for a minimum stands alone where the fee that it belongs to is left out."""
        set_clock(api, "2024-05-01T00:00:00Z")
        make_plan(api, charges=[standard(make_metric(api, "calls"), min_amount_cents=5_000)])
        make_subscription(api)
        set_clock(api, "2024-06-02T00:00:00Z")
        invoice = void(api, invoices_of(api)[0])
        true_up = next(one for one in invoice["fees"] if one["lago_true_up_parent_fee_id"])
        (fee,) = regenerate(api, invoice, [{"fee_id": true_up["lago_id"]}])["fees"]
        assert (fee["amount_cents"], fee["lago_true_up_parent_fee_id"]) == (5_000, None)

    def test_all_together_too_much(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_add_on(api)
        make_customer(api, currency="EUR")
        sold = void(api, sell(api, {"add_on_code": "seat"}))
        huge = {"add_on_code": "seat", "units": 90_000_000_000_000, "unit_precise_amount": 10}
        assert problems(ask(api, sold, [huge] * 200)) == {"units": ["value_is_out_of_range"]}

    def test_at_once_it_is_made_once(self, server: Server, api: httpx.Client, may: Json) -> None:
        key = api.headers["Authorization"].removeprefix("Bearer ")

        def once(_: int) -> int:
            with server.client(key) as http:
                return ask(http, may).status_code

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(once, range(6))) == [200, 405, 405, 405, 405, 405]
        assert [one["status"] for one in invoices_of(api)] == ["voided", "finalized"]
