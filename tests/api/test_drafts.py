"""Draft invoices: their dates, how they are made anew, become final, fail and are deleted (billing spec 2.7, 3)."""

from datetime import UTC, datetime

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    fixed,
    make_add_on,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    make_wallet,
    move_credits,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
)

URL = "/api/v1/invoices"
GRACE = {"invoice_grace_period": 3}


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 May 2024 with a customer that has three days of grace, and a plan at 31.00 a month in arrears with
    calls at 1.00."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api, net_payment_term=14, billing_configuration=GRACE)
    make_plan(api, charges=[standard(make_metric(api, "calls"))], amount_cents=3_100)
    return api


def may_day(day: int) -> int:
    """The first second of a day of May 2024."""
    return int(datetime(2024, 5, day, tzinfo=UTC).timestamp())


def invoices(api: httpx.Client, **query: str) -> list[Json]:
    """All invoices, whole, oldest first."""
    listed = ok(api.get(URL, params={"external_customer_id": "customer", **query}))["invoices"]
    whole = [ok(api.get(f"{URL}/{one['lago_id']}"))["invoice"] for one in listed]
    return sorted(whole, key=lambda one: (one["billing_periods"][0]["charges_to_datetime"], one["created_at"]))


def the_draft(api: httpx.Client) -> Json:
    drafts = invoices(api, status="draft")
    assert len(drafts) == 1, drafts
    return drafts[0]


def act(api: httpx.Client, invoice: Json, action: str) -> Json:
    """Refresh or finalize a draft."""
    done: Json = ok(api.put(f"{URL}/{invoice['lago_id']}/{action}"))["invoice"]
    return done


def dates(invoice: Json) -> tuple[str, str]:
    return invoice["issuing_date"], invoice["payment_due_date"]


def closed_month(api: httpx.Client, **subscription: object) -> Json:
    """The draft of May, on the first of June."""
    make_subscription(api, **subscription)  # type: ignore[arg-type]
    send_events(api, [event("calls", timestamp=may_day(10))])
    set_clock(api, "2024-06-01T01:00:00Z")
    return the_draft(api)


class TestGracePeriod:
    def test_a_draft_has_no_number_and_becomes_final_by_itself(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        assert (draft["status"], draft["sequential_id"], draft["payment_status"]) == ("draft", None, "pending")
        assert draft["number"].startswith("SAN")
        assert draft["number"].endswith("-DRAFT")
        assert (draft["total_amount_cents"], dates(draft)) == (3_200, ("2024-06-04", "2024-06-18"))
        set_clock(may, "2024-06-03T23:59:59Z")
        assert the_draft(may)["updated_at"] == draft["updated_at"]
        set_clock(may, "2024-06-04T00:00:00Z")
        [final] = invoices(may)
        assert (final["lago_id"], final["status"], final["sequential_id"]) == (draft["lago_id"], "finalized", 1)
        assert final["number"].endswith("-001-001")
        assert dates(final) == ("2024-06-04", "2024-06-18")
        assert [one["lago_id"] for one in final["fees"]] == [one["lago_id"] for one in draft["fees"]]
        assert final["billing_periods"] == draft["billing_periods"]

    @pytest.mark.parametrize(
        ("anchor", "adjustment", "as_draft", "as_final"),
        [
            ("next_period_start", "keep_anchor", "2024-06-01", "2024-06-01"),
            ("current_period_end", "keep_anchor", "2024-05-31", "2024-05-31"),
            ("current_period_end", "align_with_finalization_date", "2024-06-04", "2024-06-02"),
        ],
    )
    def test_the_issuing_date_follows_the_settings(
        self, may: httpx.Client, anchor: str, adjustment: str, as_draft: str, as_final: str
    ) -> None:
        configuration = {
            **GRACE,
            "subscription_invoice_issuing_date_anchor": anchor,
            "subscription_invoice_issuing_date_adjustment": adjustment,
        }
        shown = make_customer(may, billing_configuration=configuration)["billing_configuration"]
        assert configuration.items() <= shown.items()
        draft = closed_month(may)
        assert draft["issuing_date"] == as_draft
        set_clock(may, "2024-06-02T01:00:00Z")
        assert act(may, draft, "finalize")["issuing_date"] == as_final

    def test_settings_that_make_no_sense_are_refused(self, may: httpx.Client) -> None:
        for field, value in (("anchor", "tomorrow"), ("adjustment", "never")):
            name = f"subscription_invoice_issuing_date_{field}"
            sent = {"external_id": "customer", "billing_configuration": {name: value}}
            answer = may.post("/api/v1/customers", json={"customer": sent})
            assert problems(answer) == {name: ["value_is_invalid"]}

    def test_changed_settings_move_drafts(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        make_customer(may, billing_configuration={"invoice_grace_period": 10})
        assert dates(the_draft(may)) == ("2024-06-11", "2024-06-25")
        make_customer(may, net_payment_term=30)
        assert dates(the_draft(may)) == ("2024-06-11", "2024-07-11")
        assert the_draft(may)["net_payment_term"] == 30
        make_customer(may, billing_configuration={"invoice_grace_period": 0})
        assert the_draft(may)["issuing_date"] == "2024-06-01"
        set_clock(may, "2024-06-01T01:01:00Z")
        [final] = invoices(may)
        assert (final["lago_id"], final["status"]) == (draft["lago_id"], "finalized")
        assert dates(final) == ("2024-06-01", "2024-07-01")

    def test_an_organization_says_it_for_its_customers(self, may: httpx.Client) -> None:
        make_customer(may, "second", currency="EUR")
        make_subscription(may, "second", customer="second")
        path, configuration = "/api/v1/organizations", {"invoice_grace_period": 5}
        shown = ok(may.put(path, json={"organization": {"billing_configuration": configuration}}))["organization"]
        assert shown["billing_configuration"]["invoice_grace_period"] == 5
        closed_month(may)
        [other] = ok(may.get(URL, params={"external_customer_id": "second"}))["invoices"]
        assert (other["status"], other["issuing_date"], the_draft(may)["issuing_date"]) == (
            "draft", "2024-06-06", "2024-06-04",
        )  # fmt: skip
        sent = {"net_payment_term": 7, "billing_configuration": {"invoice_grace_period": 1}}
        ok(may.put(path, json={"organization": sent}))
        set_clock(may, "2024-06-02T00:00:00Z")
        [other] = ok(may.get(URL, params={"external_customer_id": "second"}))["invoices"]
        assert (other["status"], dates(other)) == ("finalized", ("2024-06-02", "2024-06-09"))
        assert dates(the_draft(may)) == ("2024-06-04", "2024-06-18")

    def test_what_single_events_bring_is_final_at_once(self, may: httpx.Client) -> None:
        make_plan(may, "now", [standard(make_metric(may, "seats"), pay_in_advance=True)])
        make_subscription(may, "now", "now")
        send_events(may, [event("seats", "now")])
        set_clock(may, "2024-05-01T00:01:00Z")
        assert [one["status"] for one in invoices(may)] == ["finalized"]

    def test_an_invoice_without_amount_is_closed_when_it_becomes_final(self, may: httpx.Client) -> None:
        make_customer(may, finalize_zero_amount_invoice="skip")
        make_plan(may, "free")
        make_subscription(may, "free", "free")
        set_clock(may, "2024-06-01T01:00:00Z")
        draft = the_draft(may)
        assert draft["total_amount_cents"] == 0
        assert act(may, draft, "finalize")["status"] == "closed"
        assert refusal(may.get(f"{URL}/{draft['lago_id']}")) == (404, "invoice_not_found")

    def test_numbers_are_given_in_the_order_of_finalizing(self, may: httpx.Client) -> None:
        first = closed_month(may)
        make_customer(may, billing_configuration={"invoice_grace_period": 60})
        set_clock(may, "2024-07-01T01:00:00Z")
        second = next(one for one in invoices(may, status="draft") if one["lago_id"] != first["lago_id"])
        assert act(may, second, "finalize")["sequential_id"] == 1
        assert act(may, first, "finalize")["sequential_id"] == 2


class TestRefresh:
    def test_late_events_and_new_prices(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        send_events(may, [event("calls", timestamp=may_day(11))])
        assert the_draft(may)["total_amount_cents"] == 3_200
        refreshed = act(may, draft, "refresh")
        assert (refreshed["status"], refreshed["total_amount_cents"]) == ("draft", 3_300)
        assert [one["lago_id"] for one in refreshed["fees"]] == [one["lago_id"] for one in draft["fees"]]
        set_clock(may, "2024-06-01T01:05:00Z")
        ok(may.put("/api/v1/plans/plan", json={"plan": {"amount_cents": 6_200}}))
        set_clock(may, "2024-06-01T01:10:00Z")
        assert the_draft(may)["total_amount_cents"] == 6_400
        send_events(may, [event("calls", timestamp=may_day(12))])
        final = act(may, draft, "finalize")
        assert (final["status"], final["total_amount_cents"], final["number"][-8:]) == ("finalized", 6_500, "-001-001")
        assert act(may, final, "refresh")["updated_at"] == final["updated_at"]

    def test_changes_that_reach_drafts_by_themselves(self, may: httpx.Client) -> None:
        make_tax(may, "vat", "10", applied_to_organization=True)
        closed_month(may)
        assert the_draft(may)["taxes_amount_cents"] == 320
        own = make_tax(may, "own", "50")
        taxed = {"external_id": "customer", "tax_codes": ["own"]}
        steps = (
            ("2024-06-01T02:00:00Z", "PUT", "taxes/vat", {"tax": {"rate": "20"}}, 640),
            ("2024-06-01T03:00:00Z", "POST", "customers", {"customer": taxed}, 1_600),
            ("2024-06-01T04:00:00Z", "DELETE", "taxes/own", None, 640),
            ("2024-06-01T05:00:00Z", "DELETE", "billable_metrics/calls", None, 620),
            ("2024-06-01T06:00:00Z", "PUT", "plans/plan", {"plan": {"tax_codes": ["own2"]}}, 310),
        )  # fmt: skip
        make_tax(may, "own2", "10")
        assert own["rate"] == 50
        for clock, method, path, body, taxes in steps:
            ok(may.request(method, f"/api/v1/{path}", json=body))
            set_clock(may, clock)
            assert the_draft(may)["taxes_amount_cents"] == taxes, path

    def test_of_others_and_of_none(self, may: httpx.Client, other: httpx.Client) -> None:
        draft = closed_month(may)
        path = f"{URL}/{draft['lago_id']}"
        for method, action in (("PUT", "/refresh"), ("PUT", "/finalize"), ("POST", "/retry"), ("DELETE", "")):
            assert refusal(other.request(method, path + action)) == (404, "invoice_not_found")
            assert refusal(may.request(method, f"{URL}/nothing{action}")) == (404, "invoice_not_found")
        assert refusal(may.post(f"{path}/retry")) == (405, "invalid_status")
        act(may, draft, "finalize")
        assert refusal(may.put(f"{path}/finalize")) == (404, "invoice_not_found")
        assert refusal(may.delete(path)) == (405, "not_deletable")

    def test_an_upgrade_stays_what_it_was(self, may: httpx.Client) -> None:
        make_plan(
            may, "big", [standard(make_metric(may, "users", "unique_count_agg", recurring=True))], amount_cents=9_300
        )
        make_subscription(may)
        set_clock(may, "2024-05-11T12:00:00Z")
        make_subscription(may, plan="big")
        draft = the_draft(may)
        assert draft["total_amount_cents"] == 1_000
        set_clock(may, "2024-05-12T12:00:00Z")
        refreshed = act(may, draft, "refresh")
        for field in ("billing_periods", "total_amount_cents", "fees_amount_cents"):
            assert refreshed[field] == draft[field]

    def test_a_period_closed_before_an_upgrade_stays_whole(self, may: httpx.Client) -> None:
        make_plan(may, "big", amount_cents=9_300)
        draft = closed_month(may)
        make_subscription(may, plan="big")
        assert act(may, draft, "refresh")["total_amount_cents"] == 3_200

    def test_units_in_advance_are_not_billed_twice(self, may: httpx.Client) -> None:
        make_add_on(may)
        make_plan(may, "seats", fixed_charges=[fixed(units=10, pay_in_advance=True, code="seat")])
        make_subscription(may, plan="seats")
        draft = the_draft(may)
        assert draft["total_amount_cents"] == 1_000
        path = "/api/v1/subscriptions/sub/fixed_charges/seat"
        ok(may.put(path, json={"fixed_charge": {"units": 14, "apply_units_immediately": True}}))
        assert sorted(one["total_amount_cents"] for one in invoices(may)) == [400, 1_000]
        assert act(may, draft, "refresh")["total_amount_cents"] == 1_000
        set_clock(may, "2024-05-05T00:00:00Z")
        assert sorted((one["total_amount_cents"], one["status"]) for one in invoices(may)) == [
            (400, "finalized"),
            (1_000, "finalized"),
        ]

    def test_commitments_and_spending_minimums_follow(self, may: httpx.Client) -> None:
        metric = ok(may.get("/api/v1/billable_metrics/calls"))["billable_metric"]
        charges = [standard(metric, min_amount_cents=1_000)]
        make_plan(may, "least", charges, minimum_commitment={"amount_cents": 5_000})
        draft = closed_month(may, plan="least")
        assert [one["amount_cents"] for one in draft["fees"]] == [0, 100, 900, 4_000]
        send_events(may, [event("calls", timestamp=may_day(11))])
        refreshed = act(may, draft, "refresh")
        assert [one["amount_cents"] for one in refreshed["fees"]] == [0, 200, 800, 4_000]
        assert [one["lago_id"] for one in refreshed["fees"]] == [one["lago_id"] for one in draft["fees"]]


class TestDelete:
    def test_the_period_is_not_billed_again(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        deleted = ok(may.delete(f"{URL}/{draft['lago_id']}"))["invoice"]
        assert (deleted["lago_id"], deleted["status"]) == (draft["lago_id"], "deleted")
        assert refusal(may.get(f"{URL}/{draft['lago_id']}")) == (404, "invoice_not_found")
        set_clock(may, "2024-06-10T00:00:00Z")
        assert invoices(may) == []


class TestCreditNotes:
    @pytest.fixture
    def ended(self, may: httpx.Client) -> httpx.Client:
        """A plan paid in advance ended on the 16th, with the invoice of its start still a draft."""
        make_customer(may, billing_configuration={"invoice_grace_period": 30})
        make_plan(may, "ahead", amount_cents=3_100, pay_in_advance=True)
        make_subscription(may, plan="ahead")
        set_clock(may, "2024-05-16T12:00:00Z")
        ok(may.delete("/api/v1/subscriptions/sub"))
        return may

    def notes(self, api: httpx.Client) -> list[Json]:
        found: list[Json] = ok(api.get("/api/v1/credit_notes"))["credit_notes"]
        return found

    def test_a_note_of_a_draft_waits_for_it(self, ended: httpx.Client) -> None:
        assert self.notes(ended) == []
        start, end = invoices(ended)
        assert [one["status"] for one in (start, end)] == ["draft", "draft"]
        assert act(ended, end, "refresh")["credit_notes_amount_cents"] == 0
        start = act(ended, start, "finalize")
        [note] = self.notes(ended)
        assert (note["number"], note["total_amount_cents"]) == (f"{start['number']}-CN001", 1_500)
        assert note["items"][0]["fee"]["lago_id"] == start["fees"][0]["lago_id"]
        assert (start["total_amount_cents"], start["credit_notes_amount_cents"]) == (3_100, 0)

    def test_it_is_the_same_part_of_a_new_price(self, ended: httpx.Client) -> None:
        make_tax(ended, "vat", "10")
        ok(ended.put("/api/v1/plans/ahead", json={"plan": {"amount_cents": 6_200, "tax_codes": ["vat"]}}))
        set_clock(ended, "2024-05-16T12:10:00Z")
        start = invoices(ended)[0]
        assert start["total_amount_cents"] == 6_820
        set_clock(ended, "2024-06-20T00:00:00Z")
        [note] = self.notes(ended)
        assert (note["sub_total_excluding_taxes_amount_cents"], note["taxes_amount_cents"]) == (3_000, 300)
        assert (note["credit_amount_cents"], note["balance_amount_cents"]) == (3_300, 3_300)

    def test_it_goes_with_its_draft(self, ended: httpx.Client) -> None:
        ok(ended.delete(f"{URL}/{invoices(ended)[0]['lago_id']}"))
        set_clock(ended, "2024-06-20T00:00:00Z")
        assert self.notes(ended) == []

    def test_no_more_is_taken_off_what_is_due_than_is_when_it_is_final(self, may: httpx.Client) -> None:
        make_customer(may, billing_configuration={"invoice_grace_period": 30})
        make_plan(may, "ahead", amount_cents=3_100, pay_in_advance=True)
        make_subscription(may, plan="ahead")
        set_clock(may, "2024-05-16T12:00:00Z")
        ok(may.delete("/api/v1/subscriptions/sub", params={"on_termination_credit_note": "offset"}))
        start = invoices(may)[0]
        assert (start["total_offsetted_credit_note_amount_cents"], start["total_due_amount_cents"]) == (1_500, 1_600)
        move_credits(may, make_wallet(may), granted_credits="25")
        start = act(may, start, "finalize")
        assert (start["prepaid_credit_amount_cents"], start["total_amount_cents"]) == (2_500, 600)
        assert (start["total_offsetted_credit_note_amount_cents"], start["total_due_amount_cents"]) == (600, 0)
        assert start["payment_status"] == "succeeded"
        [note] = self.notes(may)
        assert (note["offset_amount_cents"], note["credit_amount_cents"], note["total_amount_cents"]) == (
            600,
            900,
            1_500,
        )

    def test_drafts_take_notes_only_when_they_are_final(self, may: httpx.Client) -> None:
        first = act(may, closed_month(may), "finalize")
        item = {"fee_id": first["fees"][0]["lago_id"], "amount_cents": 1_000}
        sent = {"invoice_id": first["lago_id"], "credit_amount_cents": 1_000, "items": [item]}
        ok(may.post("/api/v1/credit_notes", json={"credit_note": sent}))
        set_clock(may, "2024-07-01T01:00:00Z")
        draft = the_draft(may)
        assert (draft["credit_notes_amount_cents"], draft["total_amount_cents"], draft["credits"]) == (0, 3_100, [])
        draft = act(may, draft, "refresh")
        assert self.notes(may)[0]["balance_amount_cents"] == 1_000
        final = act(may, draft, "finalize")
        assert (final["credit_notes_amount_cents"], final["total_amount_cents"]) == (1_000, 2_100)


class TestEnds:
    def test_a_deleted_plan_makes_its_drafts_final(self, may: httpx.Client) -> None:
        closed_month(may)
        ok(may.delete("/api/v1/plans/plan"))
        set_clock(may, "2024-06-01T02:00:00Z")
        assert [one["status"] for one in invoices(may)] == ["finalized", "finalized"]
        assert [one["total_amount_cents"] for one in invoices(may)] == [3_200, 103]

    def test_a_deleted_customer_makes_its_drafts_final(self, may: httpx.Client) -> None:
        closed_month(may)
        ok(may.delete("/api/v1/customers/customer"))
        found = ok(may.get(URL))["invoices"]
        assert sorted((one["status"], one["total_amount_cents"]) for one in found) == [
            ("finalized", 103),
            ("finalized", 3_200),
        ]


class TestOverdue:
    def test_it_is_marked_after_the_due_day_in_utc(self, may: httpx.Client) -> None:
        closed_month(may)
        set_clock(may, "2024-06-18T23:59:59Z")
        [invoice] = invoices(may)
        assert (invoice["payment_due_date"], invoice["payment_overdue"]) == ("2024-06-18", False)
        set_clock(may, "2024-06-19T00:00:00Z")
        assert invoices(may)[0]["payment_overdue"] is True
        ok(may.put(f"{URL}/{invoice['lago_id']}", json={"invoice": {"payment_status": "succeeded"}}))
        set_clock(may, "2024-06-20T00:00:00Z")
        assert invoices(may)[0]["payment_overdue"] is False

    def test_what_is_paid_is_not(self, may: httpx.Client) -> None:
        closed_month(may)
        set_clock(may, "2024-06-10T00:00:00Z")
        [invoice] = invoices(may)
        ok(may.put(f"{URL}/{invoice['lago_id']}", json={"invoice": {"payment_status": "succeeded"}}))
        set_clock(may, "2024-06-30T00:00:00Z")
        assert invoices(may)[0]["payment_overdue"] is False


class TestFailures:
    HUGE = "1000000000000000"

    def broken(self, api: httpx.Client, **customer: object) -> None:
        """Two customers on a plan, of which one has used more than an amount can hold."""
        set_clock(api, "2024-05-01T00:00:00Z")
        make_plan(api, charges=[standard(make_metric(api, "sum", "sum_agg"), "1000")], amount_cents=3_100)
        for name in ("customer", "fine"):
            make_customer(api, name, **customer)
            make_subscription(api, name, customer=name)
        send_events(api, [event("sum", "customer", may_day(10), value=self.HUGE)])

    def test_one_fails_and_the_others_go_on(self, api: httpx.Client) -> None:
        self.broken(api)
        set_clock(api, "2024-06-01T00:00:00Z")
        [fine] = ok(api.get(URL, params={"external_customer_id": "fine"}))["invoices"]
        assert (fine["status"], fine["total_amount_cents"]) == ("finalized", 3_100)
        [failed] = invoices(api)
        assert (failed["status"], failed["sequential_id"], failed["fees"]) == ("failed", None, [])
        assert failed["total_amount_cents"] == 0
        [error] = failed["error_details"]
        assert error["error_code"] == "invoice_generation_error"
        assert "exceeds what an amount can hold" in error["details"]["reason"]
        assert failed["billing_periods"][0]["invoicing_reason"] == "subscription_periodic"
        path = f"{URL}/{failed['lago_id']}/retry"
        assert ok(api.post(path))["invoice"]["status"] == "failed"
        [charge] = ok(api.get("/api/v1/plans/plan"))["plan"]["charges"]
        cheaper = {"id": charge["lago_id"], **standard({"lago_id": charge["lago_billable_metric_id"]}, "0.01")}
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": [cheaper]}}))
        retried = ok(api.post(path))["invoice"]
        assert (retried["status"], retried["sequential_id"], retried["error_details"]) == ("finalized", 1, [])
        assert retried["total_amount_cents"] == 3_100 + int(self.HUGE)
        assert refusal(api.post(path)) == (405, "invalid_status")
        set_clock(api, "2024-07-01T00:00:00Z")
        assert [one["status"] for one in invoices(api)] == ["finalized", "finalized"]

    def test_a_draft_fails_when_it_cannot_become_final(self, api: httpx.Client) -> None:
        self.broken(api, billing_configuration=GRACE)
        set_clock(api, "2024-06-02T00:00:00Z")
        [failed] = invoices(api)
        [charge] = ok(api.get("/api/v1/plans/plan"))["plan"]["charges"]
        metric = {"lago_id": charge["lago_billable_metric_id"]}
        cheaper = {"id": charge["lago_id"], **standard(metric, "0.01")}
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": [cheaper]}}))
        path = f"{URL}/{failed['lago_id']}"
        assert ok(api.post(f"{path}/retry"))["invoice"]["status"] == "draft"
        dearer = {"id": charge["lago_id"], **standard(metric, "1000")}
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": [dearer]}}))
        set_clock(api, "2024-06-04T00:00:00Z")
        failed = ok(api.get(path))["invoice"]
        assert (failed["status"], failed["error_details"][0]["error_code"]) == ("failed", "invoice_finalization_error")
        [fine] = ok(api.get(URL, params={"external_customer_id": "fine"}))["invoices"]
        assert fine["status"] == "finalized"
        ok(api.put("/api/v1/plans/plan", json={"plan": {"charges": [cheaper]}}))
        assert ok(api.post(f"{path}/retry"))["invoice"]["status"] == "finalized"


class TestAdjustedFees:
    def adjust(self, api: httpx.Client, invoice: Json, **sent: object) -> httpx.Response:
        return api.post(f"{URL}/{invoice['lago_id']}/adjusted_fees", json={"adjusted_fee": sent})

    def test_units_amounts_and_names_survive_a_refresh(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        subscription, calls = draft["fees"]
        made = ok(self.adjust(may, draft, fee_id=calls["lago_id"], units="5"))["adjusted_fee"]
        assert (made["units"], made["fee_type"], made["lago_charge_id"]) == ("5.0", "charge", calls["lago_charge_id"])
        sent = {"units": "2", "unit_precise_amount": "1.255", "invoice_display_name": "Fee"}
        ok(self.adjust(may, draft, fee_id=subscription["lago_id"], **sent))
        send_events(may, [event("calls", timestamp=may_day(11))])
        refreshed = act(may, draft, "refresh")
        assert [(one["amount_cents"], one["units"]) for one in refreshed["fees"]] == [(251, "2.0"), (500, "5.0")]
        assert refreshed["fees"][0]["item"]["invoice_display_name"] == "Fee"
        listed = ok(may.get(f"{URL}/{draft['lago_id']}/adjusted_fees"))["adjusted_fees"]
        assert len(listed) == 2
        gone = ok(may.delete(f"{URL}/{draft['lago_id']}/adjusted_fees/{made['lago_id']}"))["adjusted_fee"]
        assert gone == made
        assert [one["amount_cents"] for one in the_draft(may)["fees"]] == [251, 200]
        final = act(may, draft, "finalize")
        assert final["total_amount_cents"] == 451
        refused = self.adjust(may, final, fee_id=calls["lago_id"], units="5")
        assert refusal(refused) == (405, "not_adjustable")

    def test_a_charge_without_usage_can_be_given_units(self, may: httpx.Client) -> None:
        make_subscription(may)
        set_clock(may, "2024-06-01T01:00:00Z")
        draft = the_draft(may)
        [charge] = ok(may.get("/api/v1/plans/plan"))["plan"]["charges"]
        subscription_id = draft["billing_periods"][0]["lago_subscription_id"]
        ok(self.adjust(may, draft, subscription_id=subscription_id, charge_id=charge["lago_id"], units="3"))
        assert [one["amount_cents"] for one in the_draft(may)["fees"]] == [3_100, 300]

    def test_only_a_name(self, may: httpx.Client) -> None:
        draft = closed_month(may)
        ok(self.adjust(may, draft, fee_id=draft["fees"][1]["lago_id"], invoice_display_name="Calls in May"))
        fee = the_draft(may)["fees"][1]
        assert (fee["item"]["invoice_display_name"], fee["amount_cents"]) == ("Calls in May", 100)

    def test_refusals(self, may: httpx.Client) -> None:
        percentage = {"charge_model": "percentage", "properties": {"rate": "10"}}
        metric = make_metric(may, "volume", "sum_agg")
        charges = [{"billable_metric_id": metric["lago_id"], **percentage}]
        make_plan(may, "share", charges)
        make_subscription(may, plan="share")
        send_events(may, [event("volume", timestamp=may_day(10), value="50")])
        set_clock(may, "2024-06-01T01:00:00Z")
        draft = the_draft(may)
        fixed_fee, share = (one["lago_id"] for one in draft["fees"])
        for sent, found in (
            ({"fee_id": share, "units": "5"}, {"charge": ["invalid_charge_model"]}),
            ({"fee_id": share, "units": "-5", "unit_precise_amount": "1"}, {"units": ["value_is_out_of_range"]}),
            ({"fee_id": share, "unit_precise_amount": "1"}, {"units": ["value_is_mandatory"]}),
            ({"fee_id": share}, {"units": ["value_is_mandatory"]}),
            (
                {"fee_id": share, "units": "1e15", "unit_precise_amount": "1e15"},
                {"unit_precise_amount": ["value_is_out_of_range"]},
            ),
        ):
            assert problems(self.adjust(may, draft, **sent)) == found
        ok(self.adjust(may, draft, fee_id=share, units="5", unit_precise_amount="2"))
        again = self.adjust(may, draft, fee_id=share, invoice_display_name="Share")
        assert problems(again) == {"adjusted_fee": ["already_exists"]}
        assert refusal(self.adjust(may, draft, fee_id="nothing", units="5")) == (404, "fee_not_found")
        unknown = self.adjust(may, draft, subscription_id=fixed_fee, units="5")
        assert refusal(unknown) == (404, "subscription_not_found")
        assert [one["amount_cents"] for one in the_draft(may)["fees"]] == [0, 1_000]
