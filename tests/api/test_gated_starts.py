"""Subscriptions that start when their first invoice is paid (billing spec 1.10)."""

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
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    make_wallet,
    ok,
    problems,
    refusal,
    sell,
    send_events,
    set_clock,
    standard,
    units_of,
    wallet_of,
)
from tests.support import Server

URL = "/api/v1/subscriptions"
RULES = [{"type": "payment", "timeout_hours": 48}]
APRIL_10 = 1_712_750_400


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A sandbox on 10 April 2024, 12:00, with plans in advance at 30.00 and 60.00 a month with calls at 1.00, and one in
    arrears."""
    set_clock(api, "2024-04-10T12:00:00Z")
    calls = make_metric(api, "calls")
    make_plan(api, "small", charges=[standard(calls)], amount_cents=3_000, pay_in_advance=True)
    make_plan(api, "large", charges=[standard(calls)], amount_cents=6_000, pay_in_advance=True)
    make_plan(api, "arrears", charges=[standard(calls)], amount_cents=3_000)
    make_customer(api, currency="EUR", net_payment_term=7)
    return api


def gated(api: httpx.Client, plan: str = "small", **fields: object) -> Json:
    return make_subscription(api, plan=plan, **{"activation_rules": RULES, **fields})  # type: ignore[arg-type]


def now_is(api: httpx.Client, status: str = "active") -> Json:
    """The subscription with a status."""
    found: Json = ok(api.get(f"{URL}/sub", params={"status": status}))["subscription"]
    return found


def rule_of(subscription: Json) -> Json:
    (rule,) = subscription["activation_rules"]
    assert isinstance(rule, dict)
    return rule


def to_pay(subscription: Json) -> Json:
    invoice = rule_of(subscription)["invoice"]
    assert isinstance(invoice, dict)
    return invoice


def send_payment(api: httpx.Client, invoice: Json, amount: int | None = None) -> httpx.Response:
    cents = invoice["total_amount_cents"] if amount is None else amount
    sent = {"invoice_id": invoice["lago_id"], "amount_cents": cents, "reference": "r"}
    return api.post("/api/v1/payments", json={"payment": sent})


def note(api: httpx.Client, invoice: Json, status: str) -> Json:
    sent = {"invoice": {"payment_status": status}}
    noted: Json = ok(api.put(f"/api/v1/invoices/{invoice['lago_id']}", json=sent))["invoice"]
    return noted


def totals(api: httpx.Client) -> list[tuple[str, int]]:
    return [(one["status"], one["total_amount_cents"]) for one in invoices_of(api)]


class TestStart:
    def test_it_waits_for_the_payment(self, april: httpx.Client) -> None:
        waiting = gated(april)
        assert (waiting["status"], waiting["started_at"], waiting["activated_at"]) == (
            "incomplete", "2024-04-10T12:00:00.000Z", None
        )  # fmt: skip
        rule = rule_of(waiting)
        assert (rule["type"], rule["timeout_hours"], rule["status"], rule["expires_at"]) == (
            "payment", 48, "pending", "2024-04-12T12:00:00Z"
        )  # fmt: skip
        due = to_pay(waiting)
        assert (due["total_amount_cents"], due["currency"]) == (2_100, "EUR")
        assert refusal(april.get(f"{URL}/sub")) == (404, "subscription_not_found")
        assert now_is(april, "incomplete")["lago_id"] == waiting["lago_id"]
        assert [one["lago_id"] for one in ok(april.get(URL, params={"status": "incomplete"}))["subscriptions"]] == [
            waiting["lago_id"]
        ]
        assert refusal(april.get(f"/api/v1/invoices/{due['lago_id']}")) == (404, "invoice_not_found")
        assert (invoices_of(april), ok(april.get("/api/v1/fees"))["fees"]) == ([], [])

    def test_the_payment_starts_it(self, april: httpx.Client) -> None:
        due = to_pay(gated(april))
        set_clock(april, "2024-04-11T09:00:00Z")
        for wrong in (1, 2_099, 2_101):
            assert send_payment(april, due, wrong).status_code == 422
        ok(send_payment(april, due))
        started = now_is(april)
        assert (started["started_at"], started["activated_at"], started["cancellation_reason"]) == (
            "2024-04-10T12:00:00.000Z", "2024-04-11T09:00:00Z", None
        )  # fmt: skip
        assert rule_of(started)["status"] == "satisfied"
        (invoice,) = invoices_of(april)
        assert (invoice["lago_id"], invoice["status"], invoice["payment_status"]) == (
            due["lago_id"], "finalized", "succeeded"
        )  # fmt: skip
        assert (invoice["issuing_date"], invoice["payment_due_date"], invoice["sequential_id"]) == (
            "2024-04-11", "2024-04-18", 1
        )  # fmt: skip
        assert invoice["billing_periods"][0]["subscription_from_datetime"] == "2024-04-10T00:00:00Z"
        assert send_payment(april, due).status_code == 422
        set_clock(april, "2024-05-02T00:00:00Z")
        assert totals(april) == [("finalized", 2_100), ("finalized", 3_000)]

    def test_a_noted_success_starts_it(self, april: httpx.Client) -> None:
        """It is final at once, also with a grace period; events from its start on are billed."""
        make_customer(april, billing_configuration={"invoice_grace_period": 3})
        due = to_pay(gated(april))
        send_events(april, [event("calls", timestamp=APRIL_10 + 60)])
        assert note(april, due, "succeeded")["status"] == "finalized"
        assert (now_is(april)["status"], units_of(april)["calls"]) == ("active", 1)

    def test_what_came_due_meanwhile_is_billed(self, april: httpx.Client) -> None:
        make_add_on(april)
        make_plan(april, "fixed", fixed_charges=[fixed(pay_in_advance=True)], amount_cents=3_000)
        due = to_pay(gated(april, "fixed", activation_rules=[{"type": "payment"}]))
        assert due["total_amount_cents"] == 1_000
        set_clock(april, "2024-06-03T00:00:00Z")
        assert invoices_of(april) == []
        note(april, due, "succeeded")
        assert [(one["issuing_date"], one["total_amount_cents"]) for one in invoices_of(april)] == [
            ("2024-06-03", 1_000), ("2024-05-01", 3_100), ("2024-06-01", 4_000)
        ]  # fmt: skip
        set_clock(april, "2024-07-02T00:00:00Z")
        assert len(invoices_of(april)) == 4

    def test_a_failure_cancels_it(self, april: httpx.Client) -> None:
        due = to_pay(gated(april))
        assert note(april, due, "failed")["status"] == "closed"
        canceled = now_is(april, "canceled")
        assert (canceled["cancellation_reason"], canceled["canceled_at"], canceled["started_at"]) == (
            "payment_failed", "2024-04-10T12:00:00Z", None
        )  # fmt: skip
        assert rule_of(canceled)["status"] == "failed"
        assert refusal(send_payment(april, due)) == (404, "invoice_not_found")
        assert invoices_of(april) == []
        again = gated(april, "arrears")
        assert (again["status"], rule_of(again)["status"], rule_of(again)["invoice"]) == (
            "active", "not_applicable", None
        )  # fmt: skip

    def test_time_runs_out(self, april: httpx.Client) -> None:
        due = to_pay(gated(april))
        set_clock(april, "2024-04-12T11:59:59Z")
        assert now_is(april, "incomplete")
        set_clock(april, "2024-04-12T12:00:00Z")
        canceled = now_is(april, "canceled")
        assert (canceled["cancellation_reason"], rule_of(canceled)["status"]) == ("timeout", "expired")
        assert refusal(send_payment(april, due)) == (404, "invoice_not_found")
        set_clock(april, "2024-06-01T00:00:00Z")
        assert invoices_of(april) == []
        assert sell_number(april) == 1

    @pytest.mark.parametrize("end", ["failed", "timeout"])
    def test_what_was_taken_is_given_back(self, april: httpx.Client, end: str) -> None:
        """Of a coupon, a credit note and prepaid credits."""
        make_add_on(april, amount_cents=300)
        sold = sell(april, {"add_on_code": "seat"})
        note_sent = {
            "invoice_id": sold["lago_id"], "credit_amount_cents": 300,
            "items": [{"fee_id": sold["fees"][0]["lago_id"], "amount_cents": 300}],
        }  # fmt: skip
        ok(april.post("/api/v1/credit_notes", json={"credit_note": note_sent}))
        make_coupon(april, amount_cents=1_000)
        give_coupon(april)
        wallet = make_wallet(april, granted_credits="5")

        def held() -> tuple[object, object, object]:
            (applied,) = ok(april.get("/api/v1/applied_coupons"))["applied_coupons"]
            (credit,) = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
            return (
                applied["status"],
                credit["balance_amount_cents"],
                wallet_of(april, wallet["lago_id"])["balance_cents"],
            )

        before = held()
        due = to_pay(gated(april))
        assert (due["total_amount_cents"], held()) == (300, ("terminated", 0, 0))
        if end == "failed":
            note(april, due, "failed")
        else:
            set_clock(april, "2024-04-12T12:00:00Z")
        assert held() == before == ("active", 300, 500)
        assert to_pay(gated(april))["total_amount_cents"] == (300 if end == "failed" else 100)

    def test_nothing_to_pay_starts_it_at_once(self, april: httpx.Client) -> None:
        make_coupon(april, amount_cents=10_000)
        give_coupon(april)
        started = gated(april)
        assert (started["status"], rule_of(started)["status"]) == ("active", "not_applicable")
        assert totals(april) == [("finalized", 0)]

    def test_in_the_past_it_bills_nothing(self, april: httpx.Client) -> None:
        started = gated(april, subscription_at="2024-04-01T00:00:00Z")
        assert (started["status"], rule_of(started)["status"]) == ("active", "not_applicable")

    def test_one_that_starts_later_waits_then(self, april: httpx.Client) -> None:
        pending = gated(april, subscription_at="2024-04-15T00:00:00Z", activation_rules=None)
        assert (pending["status"], pending["activation_rules"]) == ("pending", [])
        sent = {"subscription": {"activation_rules": RULES}}
        changed = ok(april.put(f"{URL}/sub", params={"status": "pending"}, json=sent))["subscription"]
        assert (rule_of(changed)["status"], rule_of(changed)["expires_at"]) == ("inactive", None)
        assert rule_of(gated(april, "large", activation_rules=[{"type": "payment"}]))["timeout_hours"] == 0
        assert rule_of(gated(april, "small"))["timeout_hours"] == 48
        set_clock(april, "2024-04-16T00:00:00Z")
        waiting = now_is(april, "incomplete")
        assert (waiting["started_at"], rule_of(waiting)["expires_at"]) == (
            "2024-04-15T00:00:00.000Z", "2024-04-17T00:00:00Z"
        )  # fmt: skip
        note(april, to_pay(waiting), "succeeded")
        assert now_is(april)["started_at"] == "2024-04-15T00:00:00.000Z"

    def test_with_taxes_and_a_trial(self, april: httpx.Client) -> None:
        """In a trial only fixed charges in advance are to be paid; it ends when it would have."""
        make_tax(april, "vat", "20", applied_to_organization=True)
        make_add_on(april)
        plan = {"amount_cents": 3_000, "pay_in_advance": True, "trial_period": 5}
        make_plan(april, "trial", fixed_charges=[fixed(pay_in_advance=True)], **plan)
        due = to_pay(gated(april, "trial"))
        assert due["total_amount_cents"] == 1_200
        set_clock(april, "2024-04-11T00:00:00Z")
        ok(send_payment(april, due))
        set_clock(april, "2024-04-16T00:00:00Z")
        assert now_is(april)["trial_ended_at"] == "2024-04-15T12:00:00Z"
        assert totals(april) == [("finalized", 1_200), ("finalized", 1_920)]

    def test_two_payments_at_once_start_it_once(self, server: Server, april: httpx.Client) -> None:
        due = to_pay(gated(april))
        key = april.headers["Authorization"].removeprefix("Bearer ")

        def pay(_: int) -> int:
            with server.client(key) as http:
                return send_payment(http, due).status_code

        with ThreadPoolExecutor(5) as pool:
            assert sorted(pool.map(pay, range(5))) == [200, 422, 422, 422, 422]
        assert totals(april) == [("finalized", 2_100)]


def sell_number(api: httpx.Client) -> int:
    """The running number of a new invoice."""
    make_add_on(api, "again")
    number: int = sell(api, {"add_on_code": "again"})["sequential_id"]
    return number


class TestUpgrade:
    def test_the_old_plan_goes_on_until_it_is_paid(self, april: httpx.Client) -> None:
        make_subscription(april, plan="small")
        set_clock(april, "2024-04-20T12:00:00Z")
        waiting = gated(april, "large")
        assert (waiting["status"], waiting["plan_code"], waiting["previous_plan_code"]) == (
            "incomplete", "large", "small"
        )  # fmt: skip
        assert to_pay(waiting)["total_amount_cents"] == 2_200
        current = now_is(april)
        assert (current["plan_code"], current["next_plan_code"]) == ("small", "large")
        for refused in (
            april.delete(f"{URL}/sub"),
            april.put(f"{URL}/sub", json={"subscription": {"name": "x"}}),
        ):
            assert problems(refused) == {"base": ["next_subscription_incomplete"]}
        send_events(april, [event("calls", timestamp=APRIL_10 + 86_400)])
        ok(send_payment(april, to_pay(waiting)))
        upgraded = now_is(april)
        assert (upgraded["plan_code"], upgraded["started_at"]) == ("large", "2024-04-20T12:00:00.000Z")
        ended = now_is(april, "terminated")
        assert (ended["plan_code"], ended["terminated_at"]) == ("small", "2024-04-20T12:00:00Z")
        (credit,) = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
        assert credit["credit_amount_cents"] == 1_100
        made = [(one["fees_amount_cents"], one["billing_periods"][0]["invoicing_reason"]) for one in invoices_of(april)]
        assert made == [
            (2_100, "subscription_starting"), (2_200, "subscription_starting"), (100, "subscription_terminating")
        ]  # fmt: skip

    def test_paid_in_the_next_period_it_is_as_if_it_had_been_at_once(self, april: httpx.Client) -> None:
        """Usage is billed where it was, and nothing twice."""
        make_subscription(april, plan="small")
        set_clock(april, "2024-04-30T12:00:00Z")
        due = to_pay(gated(april, "large"))
        send_events(
            april, [event("calls", timestamp=f"{day}") for day in (1_714_435_200, 1_714_500_000, 1_714_600_000)]
        )
        set_clock(april, "2024-05-02T00:00:00Z")
        assert totals(april) == [("finalized", 2_100)]
        ok(send_payment(april, due))
        made = invoices_of(april)[1:]
        assert [(one["fees_amount_cents"], one["issuing_date"]) for one in made] == [
            (200, "2024-05-02"), (100, "2024-04-30"), (6_100, "2024-05-01")
        ]  # fmt: skip
        set_clock(april, "2024-06-02T00:00:00Z")
        assert invoices_of(april)[-1]["fees_amount_cents"] == 6_100

    def test_unpaid_the_old_plan_has_missed_nothing(self, april: httpx.Client) -> None:
        first = make_subscription(april, plan="small")
        set_clock(april, "2024-04-30T12:00:00Z")
        gated(april, "large")
        set_clock(april, "2024-05-02T11:00:00Z")
        assert totals(april) == [("finalized", 2_100)]
        set_clock(april, "2024-05-02T12:00:00Z")
        assert (now_is(april)["lago_id"], now_is(april)["next_plan_code"]) == (first["lago_id"], None)
        assert now_is(april, "canceled")["cancellation_reason"] == "timeout"
        assert [(one["status"], one["total_amount_cents"], one["issuing_date"]) for one in invoices_of(april)] == [
            ("finalized", 2_100, "2024-04-10"), ("finalized", 3_000, "2024-05-01")
        ]  # fmt: skip
        assert ok(april.get("/api/v1/credit_notes"))["credit_notes"] == []
        ok(april.delete(f"{URL}/sub"))

    def test_in_arrears_there_is_nothing_to_wait_for(self, april: httpx.Client) -> None:
        make_subscription(april, plan="arrears")
        upgraded = gated(april, "arrears", plan_overrides={"amount_cents": 4_000})
        assert (upgraded["status"], rule_of(upgraded)["status"]) == ("active", "not_applicable")
        assert now_is(april, "terminated")["plan_code"] == "arrears"

    def test_a_cheaper_plan_waits_only_for_the_period(self, april: httpx.Client) -> None:
        make_subscription(april, plan="large")
        gated(april, "small")
        assert rule_of(now_is(april, "pending"))["status"] == "not_applicable"
        set_clock(april, "2024-05-01T00:00:00Z")
        assert now_is(april)["plan_code"] == "small"


class TestRefused:
    @pytest.mark.parametrize(
        ("rules", "code"),
        [
            ("payment", "invalid_format"),
            (["payment"], "invalid_format"),
            ([{"type": "payment", "timeout_hours": "2"}], "invalid_format"),
            ([{"type": "payment", "timeout_hours": -1}], "invalid_format"),
            ([{"type": "payment", "timeout_hours": 10**9}], "invalid_format"),
            ([{"type": "approval"}], "invalid_type"),
            ([{}], "invalid_type"),
            ([{"type": "payment"}, {"type": "payment", "timeout_hours": 1}], "duplicated_type"),
        ],
    )
    def test_rules_that_are_none(self, april: httpx.Client, rules: object, code: str) -> None:
        sent = {
            "external_id": "sub",
            "external_customer_id": "customer",
            "plan_code": "small",
            "activation_rules": rules,
        }
        assert problems(april.post(URL, json={"subscription": sent})) == {"activation_rules": [code]}
        assert refusal(april.get(f"{URL}/sub")) == (404, "subscription_not_found")

    def test_while_it_waits(self, april: httpx.Client) -> None:
        gated(april)
        incomplete = {"status": "incomplete"}
        sent = {"external_id": "sub", "external_customer_id": "customer", "plan_code": "large"}
        for customer in ("customer", "another"):
            again = april.post(URL, json={"subscription": {**sent, "external_customer_id": customer}})
            assert problems(again) == {"subscription": ["subscription_incomplete"]}
        for change in ({"name": "x"}, {"activation_rules": []}):
            put = april.put(f"{URL}/sub", params=incomplete, json={"subscription": change})
            assert problems(put) == {"subscription": ["subscription_incomplete"]}
        overrides = {"subscription": {"plan_overrides": {"amount_cents": 1}}}
        put = april.put(f"{URL}/sub", params=incomplete, json=overrides)
        assert refusal(put) == (405, "no_active_subscription")
        assert refusal(april.delete(f"{URL}/sub")) == (404, "subscription_not_found")
        assert len(ok(april.get(URL, params=incomplete))["subscriptions"]) == 1

    def test_when_it_has_started(self, april: httpx.Client) -> None:
        make_subscription(april, plan="small")
        put = april.put(f"{URL}/sub", json={"subscription": {"activation_rules": RULES}})
        assert problems(put) == {"activation_rules": ["subscription_not_pending"]}


class TestEnds:
    @pytest.mark.parametrize("what", ["customers/customer", "plans/small"])
    def test_what_it_waits_with_is_deleted(self, april: httpx.Client, what: str) -> None:
        due = to_pay(gated(april))
        ok(april.delete(f"/api/v1/{what}"))
        set_clock(april, "2024-04-10T13:00:00Z")
        canceled = now_is(april, "canceled")
        assert (canceled["cancellation_reason"], rule_of(canceled)["status"]) == (None, "declined")
        assert refusal(send_payment(april, due)) == (404, "invoice_not_found")
        assert invoices_of(april) == []

    def test_the_customer_of_an_upgrade_is_deleted(self, april: httpx.Client) -> None:
        """What came due while the upgrade waited is billed before the end."""
        make_subscription(april, plan="small")
        set_clock(april, "2024-04-30T12:00:00Z")
        gated(april, "large", activation_rules=[{"type": "payment"}])
        set_clock(april, "2024-05-02T00:00:00Z")
        ok(april.delete("/api/v1/customers/customer"))
        assert now_is(april, "canceled")["plan_code"] == "large"
        assert now_is(april, "terminated")["terminated_at"] == "2024-05-02T00:00:00Z"
        starts = [one["billing_periods"][0]["subscription_from_datetime"] for one in invoices_of(april)]
        assert starts[:2] == ["2024-04-10T00:00:00Z", "2024-05-01T00:00:00Z"]

    def test_its_ending_date_comes(self, april: httpx.Client) -> None:
        gated(april, ending_at="2024-05-20T00:00:00Z", activation_rules=[{"type": "payment"}])
        set_clock(april, "2024-05-20T00:00:00Z")
        assert now_is(april, "canceled")["cancellation_reason"] is None
        assert invoices_of(april) == []


def test_more_than_can_be_invoiced(april: httpx.Client) -> None:
    """A start whose invoice no amount can hold is refused, and leaves nothing behind."""
    for code in ("dear", "dearer"):
        make_tax(april, code, "1000000")
    make_plan(april, "huge", amount_cents=10**15, pay_in_advance=True, tax_codes=["dear", "dearer"])
    sent = {"external_customer_id": "customer", "external_id": "sub", "plan_code": "huge", "activation_rules": RULES}
    assert problems(april.post(URL, json={"subscription": sent})) == {"base": ["value_is_out_of_range"]}
    assert (
        ok(april.get(URL, params={"external_customer_id": "customer", "status[]": "incomplete"}))["subscriptions"] == []
    )
    assert invoices_of(april) == []
