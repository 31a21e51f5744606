"""Another plan for a subscription: upgrades at once, downgrades at the end of the period; and free trials."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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
)

URL = "/api/v1/subscriptions"


@pytest.fixture
def april(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 April 2024 with plans in arrears at 99.00 and 198.00, and one at 33.00, a month."""
    set_clock(api, "2024-04-01T00:00:00Z")
    for code, amount in (("basic", 9_900), ("more", 19_800), ("less", 3_300)):
        make_plan(api, code, amount_cents=amount)
    return api


def change(api: httpx.Client, plan: str, **fields: object) -> Json:
    sent = {"external_id": "sub", "external_customer_id": "customer", "plan_code": plan, **fields}
    changed: Json = ok(api.post(URL, json={"subscription": sent}))["subscription"]
    return changed


def lines(api: httpx.Client) -> list[tuple[str, str, int]]:
    """The fees of all invoices: issuing date, code and amount."""
    found = []
    for invoice in sorted(invoices_of(api), key=lambda one: str(one["number"])):
        whole = ok(api.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]
        found += [(whole["issuing_date"], fee["item"]["code"], fee["amount_cents"]) for fee in whole["fees"]]
    return found


class TestUpgrade:
    def test_the_day_of_the_change_belongs_to_the_new_plan(self, april: httpx.Client) -> None:
        first = make_subscription(april, plan="basic")
        set_clock(april, "2024-04-20T15:00:00Z")
        second = change(april, "more")
        wanted = {
            "plan_code": "more", "previous_plan_code": "basic", "next_plan_code": None, "status": "active",
            "started_at": "2024-04-20T15:00:00.000Z", "subscription_at": "2024-04-01T00:00:00Z",
        }  # fmt: skip
        assert {key: second[key] for key in wanted} == wanted
        assert second["lago_id"] != first["lago_id"]
        old = ok(april.get(f"{URL}/sub?status=terminated"))["subscription"]
        assert (old["lago_id"], old["next_plan_code"]) == (first["lago_id"], "more")
        assert old["terminated_at"] == "2024-04-20T15:00:00Z"
        set_clock(april, "2024-05-01T01:00:00Z")
        assert lines(april) == [("2024-04-20", "basic", 19 * 330), ("2024-05-01", "more", 11 * 660)]
        (invoice,) = [one for one in invoices_of(april) if one["issuing_date"] == "2024-04-20"]
        (period,) = ok(april.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]["billing_periods"]
        assert period["invoicing_reason"] == "subscription_terminating"

    def test_a_plan_at_the_same_price_is_an_upgrade(self, april: httpx.Client) -> None:
        make_subscription(april, plan="basic")
        make_plan(april, "yearly", interval="yearly", amount_cents=12 * 9_900)
        assert change(april, "yearly")["plan_code"] == "yearly"

    def test_one_paid_in_advance_begins_with_its_fee(self, april: httpx.Client) -> None:
        make_subscription(april, plan="basic")
        make_plan(april, "ahead", amount_cents=30_000, pay_in_advance=True)
        set_clock(april, "2024-04-16T10:00:00Z")
        change(april, "ahead")
        assert lines(april) == [("2024-04-16", "basic", 15 * 330), ("2024-04-16", "ahead", 15_000)]
        assert len(invoices_of(april)) == 1
        assert change(april, "ahead", name="same")["name"] is None
        assert len(invoices_of(april)) == 1

    def test_what_is_paid_already_is_given_back(self, april: httpx.Client) -> None:
        make_plan(april, "ahead", amount_cents=3_000, pay_in_advance=True)
        make_plan(april, "ahead more", amount_cents=6_000, pay_in_advance=True)
        make_subscription(april, plan="ahead")
        set_clock(april, "2024-04-16T10:00:00Z")
        change(april, "ahead more")
        (note,) = ok(april.get("/api/v1/credit_notes"))["credit_notes"]
        assert (note["credit_amount_cents"], note["credit_status"], note["reason"]) == (
            1_500,
            "consumed",
            "order_change",
        )
        assert note["number"] == f"{min(one['number'] for one in invoices_of(april))}-CN001"
        assert lines(april) == [("2024-04-01", "ahead", 3_000), ("2024-04-16", "ahead more", 3_000)]
        latest = max(invoices_of(april), key=lambda one: str(one["number"]))
        assert (latest["credit_notes_amount_cents"], latest["total_amount_cents"]) == (1_500, 1_500)
        (credit,) = ok(april.get(f"/api/v1/invoices/{latest['lago_id']}"))["invoice"]["credits"]
        assert (credit["amount_cents"], credit["item"]["code"]) == (1_500, note["number"])

    def test_an_event_at_the_very_instant_is_the_new_plans(self, april: httpx.Client) -> None:
        metric = make_metric(april, "calls")
        make_plan(april, "counted", [standard(metric, "1")], amount_cents=0)
        make_plan(april, "counted dear", [standard(metric, "10")], amount_cents=1_000)
        make_subscription(april, plan="counted")
        set_clock(april, "2024-04-20T15:00:00Z")
        at = int(datetime(2024, 4, 20, 15, tzinfo=UTC).timestamp())
        send_events(april, [event("calls", timestamp=at - 1), event("calls", timestamp=at)])
        change(april, "counted dear")
        set_clock(april, "2024-05-01T01:00:00Z")
        assert [line for line in lines(april) if line[1] == "calls"] == [
            ("2024-04-20", "calls", 100), ("2024-05-01", "calls", 1_000)
        ]  # fmt: skip

    def test_a_level_that_goes_on_is_billed_by_the_new_plan(self, april: httpx.Client) -> None:
        metric = make_metric(april, "seats", "sum_agg", "value", recurring=True)
        make_plan(april, "seats 1", [standard(metric, "1")], amount_cents=0)
        make_plan(april, "seats 2", [standard(metric, "2")], amount_cents=100)
        make_subscription(april, plan="seats 1")
        send_events(april, [event("seats", value=5, timestamp=int(datetime(2024, 4, 1, tzinfo=UTC).timestamp()))])
        set_clock(april, "2024-04-20T15:00:00Z")
        change(april, "seats 2")
        set_clock(april, "2024-05-01T01:00:00Z")
        assert [line for line in lines(april) if line[1] == "seats"] == [("2024-05-01", "seats", 1_000)]

    def test_before_the_start_only_the_plan_changes(self, april: httpx.Client) -> None:
        first = make_subscription(april, plan="basic", subscription_at="2024-04-10T00:00:00Z")
        for plan in ("more", "less"):
            second = change(april, plan)
            assert (second["lago_id"], second["plan_code"], second["status"]) == (first["lago_id"], plan, "pending")
        assert second["previous_plan_code"] is None


class TestUpgradeOfFixedCharges:
    """What was paid in advance for an add-on is taken off the first fee of the new plan for the same days."""

    def begun(self, api: httpx.Client, amount: str = "30", **more: object) -> None:
        """From 1 April, 10 seats at 30.00, in advance and prorated; dearer plans at 60.00 and 90.00."""
        make_add_on(api)
        for code, cents, price in (("one", 1, amount), ("two", 2, "60"), ("three", 3, "90")):
            seats = {**fixed(units=10, amount=price), "pay_in_advance": True, "prorated": True, **more}
            make_plan(api, code, amount_cents=cents, fixed_charges=[seats])
        make_subscription(api, plan="one")

    def seats(self, api: httpx.Client) -> list[tuple[str, int]]:
        return [(issued, amount) for issued, code, amount in lines(api) if code == "seat"]

    def test_it_is_scaled_to_the_days_left(self, april: httpx.Client) -> None:
        self.begun(april)
        set_clock(april, "2024-04-16T15:00:00Z")
        change(april, "two")
        assert self.seats(april) == [("2024-04-01", 30_000), ("2024-04-16", 30_000 - 15_000)]
        fee = next(fee for fee in invoices_of(april)[-1]["fees"] if fee["item"]["code"] == "seat")
        assert (fee["units"], fee["amount_cents"]) == ("10.0", 15_000)
        told = ok(april.get(f"/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]
        assert [(step["kind"], step["amount"]) for step in told["steps"]] == [
            ("amount", "300.0"), ("already_paid", "-150.0")
        ]  # fmt: skip
        set_clock(april, "2024-05-01T01:00:00Z")
        assert self.seats(april)[2:] == [("2024-05-01", 60_000)]

    def test_nothing_below_zero(self, april: httpx.Client) -> None:
        self.begun(april, "300")
        set_clock(april, "2024-04-16T15:00:00Z")
        change(april, "two")
        assert self.seats(april) == [("2024-04-01", 300_000), ("2024-04-16", 0)]

    def test_several_upgrades_in_one_period(self, april: httpx.Client) -> None:
        """In all each day is paid as the plan of that day says."""
        self.begun(april)
        set_clock(april, "2024-04-11T00:00:00Z")
        change(april, "two")
        set_clock(april, "2024-04-21T00:00:00Z")
        change(april, "three")
        assert sum(amount for _, amount in self.seats(april)) == 10_000 + 20_000 + 30_000

    def test_what_was_raised_counts_from_its_day_on(self, april: httpx.Client) -> None:
        self.begun(april)
        set_clock(april, "2024-04-11T00:00:00Z")
        ok(
            april.put(
                f"{URL}/sub/fixed_charges/seat", json={"fixed_charge": {"units": 16, "apply_units_immediately": True}}
            )
        )
        set_clock(april, "2024-04-21T00:00:00Z")
        change(april, "two")
        paid = 30_000 + 12_000
        assert self.seats(april) == [
            ("2024-04-01", 30_000), ("2024-04-11", 12_000), ("2024-04-21", 20_000 - 10_000 - 6_000)
        ]  # fmt: skip
        assert paid == sum(amount for _, amount in self.seats(april)[:2])

    @pytest.mark.parametrize("which", ["prorated", "pay_in_advance"])
    def test_only_what_is_prorated_and_in_advance(self, april: httpx.Client, which: str) -> None:
        self.begun(april, **{which: False})
        set_clock(april, "2024-04-16T00:00:00Z")
        change(april, "two")
        first, second = (30_000, 60_000) if which == "prorated" else (15_000, None)
        assert [amount for _, amount in self.seats(april)] == [first, *([second] if second else [])]

    def test_another_add_on_is_paid_whole(self, april: httpx.Client) -> None:
        self.begun(april)
        make_add_on(april, "desk")
        desks = {**fixed("desk", units=10, amount="60"), "pay_in_advance": True, "prorated": True}
        make_plan(april, "other", amount_cents=5, fixed_charges=[desks])
        set_clock(april, "2024-04-16T00:00:00Z")
        change(april, "other")
        assert lines(april)[-1] == ("2024-04-16", "desk", 30_000)


def test_two_invoices_where_the_orders_differ(april: httpx.Client) -> None:
    """The old plan's under its purchase order, the new one's under another; together they come to the same."""
    make_plan(april, "ahead", amount_cents=30_000, pay_in_advance=True)
    make_subscription(april, plan="basic", purchase_order_number="PO-1")
    set_clock(april, "2024-04-16T00:00:00Z")
    change(april, "ahead", purchase_order_number="PO-2")
    found = [
        (
            one["purchase_order_number"],
            [line["invoicing_reason"] for line in one["billing_periods"]],
            one["fees_amount_cents"],
        )
        for one in invoices_of(april)
    ]
    assert found == [
        ("PO-1", ["subscription_terminating"], 4_950), ("PO-2", ["subscription_starting"], 15_000)
    ]  # fmt: skip


class TestNewAmount:
    """Changing what a plan costs, where a cheaper one waits to follow."""

    def put(self, api: httpx.Client, plan: str, cents: int, **more: object) -> None:
        ok(api.put(f"/api/v1/plans/{plan}", json={"plan": {"amount_cents": cents, **more}}))

    def waiting(self, api: httpx.Client, **fields: object) -> None:
        make_subscription(api, plan="basic")
        change(api, "less", **fields)
        set_clock(api, "2024-04-16T12:00:00Z")

    @pytest.mark.parametrize("cents", [9_900, 30_000])
    def test_what_waits_and_is_dearer_follows_at_once(self, april: httpx.Client, cents: int) -> None:
        self.waiting(april)
        self.put(april, "less", 9_899)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] == "less"
        self.put(april, "less", cents)
        now = ok(april.get(f"{URL}/sub"))["subscription"]
        assert (now["plan_code"], now["started_at"], now["next_plan_code"]) == (
            "less",
            "2024-04-16T12:00:00.000Z",
            None,
        )
        set_clock(april, "2024-05-01T01:00:00Z")
        assert lines(april) == [("2024-04-16", "basic", 4_950), ("2024-05-01", "less", cents // 2)]

    def test_what_waits_is_canceled_where_it_would_be_dearer(self, april: httpx.Client) -> None:
        self.waiting(april)
        self.put(april, "basic", 3_300)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] == "less"
        self.put(april, "basic", 3_299)
        now = ok(april.get(f"{URL}/sub"))["subscription"]
        assert (now["plan_code"], now["next_plan_code"]) == ("basic", None)
        assert len(ok(april.get(f"{URL}?status[]=canceled"))["subscriptions"]) == 1
        set_clock(april, "2024-05-01T01:00:00Z")
        assert lines(april) == [("2024-05-01", "basic", 3_299)]

    def test_years_are_compared(self, april: httpx.Client) -> None:
        make_plan(april, "yearly", interval="yearly", amount_cents=100)
        make_subscription(april, plan="basic")
        change(april, "yearly")
        self.put(april, "yearly", 12 * 9_900 - 1)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] == "yearly"
        self.put(april, "yearly", 12 * 9_900)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["plan_code"] == "yearly"

    def test_copies_follow_in_a_cascade(self, april: httpx.Client) -> None:
        self.waiting(april, plan_overrides={"name": "Mine"})
        self.put(april, "less", 9_900)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] == "less"
        self.put(april, "less", 3_300)
        self.put(april, "less", 9_900, cascade_updates=True)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["plan_code"] == "less"

    def test_an_amount_of_its_own(self, april: httpx.Client) -> None:
        self.waiting(april)
        ok(april.put(f"{URL}/sub", json={"subscription": {"plan_overrides": {"amount_cents": 3_299}}}))
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] is None

    def test_the_same_amount_again_changes_nothing(self, april: httpx.Client) -> None:
        self.waiting(april)
        self.put(april, "less", 3_300)
        self.put(april, "basic", 9_900)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["next_plan_code"] == "less"


class TestDowngrade:
    def test_it_waits_for_the_end_of_the_period(self, april: httpx.Client) -> None:
        first = make_subscription(april, plan="basic")
        set_clock(april, "2024-04-20T15:00:00Z")
        kept = change(april, "less")
        wanted = {
            "lago_id": first["lago_id"], "plan_code": "basic", "next_plan_code": "less", "status": "active",
            "downgrade_plan_date": "2024-05-01",
        }  # fmt: skip
        assert {key: kept[key] for key in wanted} == wanted
        assert ok(april.get(f"{URL}/sub?status=pending"))["subscription"]["previous_plan_code"] == "basic"
        set_clock(april, "2024-06-01T01:00:00Z")
        assert lines(april) == [("2024-05-01", "basic", 9_900), ("2024-06-01", "less", 3_300)]
        now = ok(april.get(f"{URL}/sub"))["subscription"]
        assert (now["plan_code"], now["started_at"]) == ("less", "2024-05-01T00:00:00.000Z")

    def test_a_part_of_a_week_is_billed_before_the_first_whole_one(self, april: httpx.Client) -> None:
        make_plan(april, "long", amount_cents=19_000)
        make_plan(april, "week", interval="weekly", amount_cents=701)
        make_subscription(april, "weekly", plan="long")
        set_clock(april, "2024-05-10T00:00:00Z")
        make_subscription(april, "weekly", plan="week")
        set_clock(april, "2024-06-04T00:00:00Z")
        fees = ok(april.get("/api/v1/fees", params={"external_subscription_id": "weekly"}))["fees"]
        of_weeks = [(one["from_date"], one["amount_cents"]) for one in fees if one["item"]["code"] == "week"]
        assert of_weeks == [("2024-06-01T00:00:00Z", 200)]

    def test_the_last_one_asked_for_counts(self, april: httpx.Client) -> None:
        make_plan(april, "least", amount_cents=100)
        make_subscription(april, plan="basic")
        change(april, "less")
        assert change(april, "least")["next_plan_code"] == "least"
        assert len(ok(april.get(f"{URL}?status[]=canceled"))["subscriptions"]) == 1
        set_clock(april, "2024-05-01T01:00:00Z")
        assert ok(april.get(f"{URL}/sub"))["subscription"]["plan_code"] == "least"

    def test_it_can_be_taken_back(self, april: httpx.Client) -> None:
        make_subscription(april, plan="basic")
        change(april, "less")
        assert ok(april.delete(f"{URL}/sub?status=pending"))["subscription"]["status"] == "canceled"
        found = ok(april.get(f"{URL}/sub"))["subscription"]
        assert (found["next_plan_code"], found["downgrade_plan_date"]) == (None, None)
        set_clock(april, "2024-05-01T01:00:00Z")
        assert ok(april.get(f"{URL}/sub"))["subscription"]["plan_code"] == "basic"

    @pytest.mark.parametrize("then", ["terminate", "upgrade"])
    def test_what_comes_first_cancels_it(self, april: httpx.Client, then: str) -> None:
        make_subscription(april, plan="basic")
        change(april, "less")
        if then == "terminate":
            ok(april.delete(f"{URL}/sub"))
        else:
            change(april, "more")
        assert ok(april.get(f"{URL}?status[]=pending"))["subscriptions"] == []
        set_clock(april, "2024-05-01T01:00:00Z")
        assert [one["plan_code"] for one in ok(april.get(f"{URL}?status[]=active"))["subscriptions"]] == (
            [] if then == "terminate" else ["more"]
        )

    def test_an_end_that_finds_it_due_ends_what_follows(self, april: httpx.Client) -> None:
        """The period is over by the customer's new timezone, but nobody has closed it yet."""
        make_plan(april, "ahead", amount_cents=3_100, pay_in_advance=True)
        make_subscription(april, plan="basic")
        change(april, "ahead")
        set_clock(april, "2024-04-30T18:00:00Z")
        make_customer(april, timezone="Asia/Tokyo")
        ended = ok(april.delete(f"{URL}/sub", params={"on_termination_credit_note": "skip"}))["subscription"]
        assert (ended["plan_code"], ended["previous_plan_code"], ended["status"], ended["terminated_at"]) == (
            "ahead", "basic", "terminated", "2024-04-30T18:00:00Z"
        )  # fmt: skip
        for status in ("active", "pending"):
            assert ok(april.get(f"{URL}?status[]={status}"))["subscriptions"] == []
        both = ok(april.get(f"{URL}?status[]=terminated"))["subscriptions"]
        modes = {one["plan_code"]: one["on_termination_credit_note"] for one in both}
        assert modes == {"basic": None, "ahead": "skip"}
        assert sorted(lines(april)) == [("2024-05-01", "ahead", 3_100), ("2024-05-01", "basic", 9_900)]
        set_clock(april, "2024-07-01T00:00:00Z")
        assert len(lines(april)) == 2

    def test_in_advance_nothing_is_given_back(self, april: httpx.Client) -> None:
        for code, amount in (("ahead", 9_000), ("ahead less", 3_000)):
            make_plan(april, code, amount_cents=amount, pay_in_advance=True)
        make_subscription(april, plan="ahead")
        change(april, "ahead less")
        set_clock(april, "2024-05-01T01:00:00Z")
        assert lines(april) == [("2024-04-01", "ahead", 9_000), ("2024-05-01", "ahead less", 3_000)]


class TestTrial:
    def trials(self, api: httpx.Client, *, advance: bool) -> Iterator[Json]:
        make_plan(api, "tried", amount_cents=3_000, pay_in_advance=advance, trial_period=10)
        yield make_subscription(api, plan="tried")

    @pytest.mark.parametrize(("advance", "issued"), [(True, "2024-04-11"), (False, "2024-05-01")])
    def test_the_days_after_it_are_billed(self, april: httpx.Client, advance: bool, issued: str) -> None:
        made = next(self.trials(april, advance=advance))
        assert (made["trial_ended_at"], made["plan"]["trial_period"]) == (None, 10)
        assert invoices_of(april) == []
        set_clock(april, "2024-05-01T01:00:00Z")
        assert lines(april)[0] == (issued, "tried", 20 * 100)
        assert ok(april.get(f"{URL}/sub"))["subscription"]["trial_ended_at"] == "2024-04-11T00:00:00Z"

    def test_it_does_not_begin_anew(self, april: httpx.Client) -> None:
        next(self.trials(april, advance=True))
        set_clock(april, "2024-04-20T00:00:00Z")
        ok(april.delete(f"{URL}/sub"))
        make_subscription(april, plan="tried")
        assert [line[0] for line in lines(april)] == ["2024-04-11", "2024-04-20"]

    def test_a_period_within_it_is_free(self, april: httpx.Client) -> None:
        make_plan(april, "long", amount_cents=3_000, trial_period=45)
        make_subscription(april, plan="long")
        set_clock(april, "2024-06-01T01:00:00Z")
        assert lines(april) == [("2024-06-01", "long", 1_548)]  # 16 of 31 days


def test_the_days_of_chained_changes_tile_the_time(april: httpx.Client) -> None:
    """Changed every few days, a subscription is billed each day once, at the price of its plan of that day."""
    for step in range(8):
        make_plan(april, f"step {step}", amount_cents=3_000 * (step + 1))
    make_subscription(april, plan="step 0")
    day = datetime(2024, 4, 1, 9, 30, tzinfo=UTC)
    days = [0] * 8
    for step in range(1, 8):
        length = 2 + step % 3
        set_clock(april, (day := day + timedelta(days=length)).isoformat())
        days[step - 1] = length
        change(april, f"step {step}")
    set_clock(april, "2024-05-01T01:00:00Z")
    days[7] = 30 - sum(days)
    assert lines(april) == [
        (line[0], f"step {step}", 100 * (step + 1) * days[step]) for step, line in enumerate(lines(april))
    ]
    assert len(lines(april)) == 8
