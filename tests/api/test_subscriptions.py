"""`/api/v1/subscriptions`: made, found, changed, started by the clock, and ended."""

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
    refusal,
    send_events,
    set_clock,
    standard,
)

URL = "/api/v1/subscriptions"
FIELDS = {
    "lago_id", "external_id", "lago_customer_id", "external_customer_id", "billing_entity_code", "name", "plan_code",
    "plan_amount_cents", "plan_amount_currency", "status", "billing_time", "subscription_at", "started_at",
    "activated_at", "trial_ended_at", "ending_at", "terminated_at", "canceled_at", "created_at", "previous_plan_code",
    "next_plan_code", "downgrade_plan_date", "current_billing_period_started_at", "current_billing_period_ending_at",
    "on_termination_credit_note", "on_termination_invoice", "cancellation_reason", "consolidate_invoice",
    "progressive_billing_disabled", "purchase_order_number", "payment_method", "activation_rules",
    "applied_invoice_custom_sections",
}  # fmt: skip
MORE_FIELDS = {"plan", "usage_thresholds", "applicable_usage_thresholds", "entitlements"}


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on 10 May 2024 with a plan at 31.00 a month in arrears."""
    set_clock(api, "2024-05-10T12:00:00Z")
    make_plan(api, amount_cents=3_100)
    return api


def post(api: httpx.Client, **fields: object) -> httpx.Response:
    sent = {"external_id": "sub", "external_customer_id": "customer", "plan_code": "plan", **fields}
    return api.post(URL, json={"subscription": sent})


def get(api: httpx.Client, external_id: str = "sub", **query: str) -> Json:
    found: Json = ok(api.get(f"{URL}/{external_id}", params=query))["subscription"]
    return found


def listed(api: httpx.Client, path: str = URL, **query: object) -> list[str]:
    return sorted(one["external_id"] for one in ok(api.get(path, params=query))["subscriptions"])  # type: ignore[arg-type]


class TestCreate:
    def test_active_at_once(self, may: httpx.Client) -> None:
        made = make_subscription(may, name="Main")
        assert made.keys() == FIELDS | MORE_FIELDS
        wanted = {
            "external_id": "sub", "external_customer_id": "customer", "name": "Main", "plan_code": "plan",
            "plan_amount_cents": 3_100, "plan_amount_currency": "EUR", "status": "active", "billing_time": "calendar",
            "subscription_at": "2024-05-10T12:00:00Z", "started_at": "2024-05-10T12:00:00.000Z",
            "activated_at": "2024-05-10T12:00:00Z", "ending_at": None, "terminated_at": None, "canceled_at": None,
            "created_at": "2024-05-10T12:00:00Z", "current_billing_period_started_at": "2024-05-10T12:00:00Z",
            "current_billing_period_ending_at": "2024-05-31T23:59:59Z", "on_termination_invoice": "generate",
            "on_termination_credit_note": None, "consolidate_invoice": True,
        }  # fmt: skip
        assert {key: made[key] for key in wanted} == wanted
        assert made["plan"]["code"] == "plan"
        assert get(may) == made
        (found,) = ok(may.get(URL))["subscriptions"]
        assert found == {key: made[key] for key in FIELDS}

    def test_the_customer_is_made_and_gets_the_currency(self, may: httpx.Client) -> None:
        make_subscription(may, customer="new one")
        assert ok(may.get("/api/v1/customers/new%20one"))["customer"]["currency"] == "EUR"

    def test_again_is_the_same(self, may: httpx.Client) -> None:
        made = make_subscription(may, name="Main")
        assert make_subscription(may, name="Other") == made
        assert make_subscription(may, billing_time="anniversary") == made
        assert listed(may) == ["sub"]

    def test_another_customer_is_refused(self, may: httpx.Client) -> None:
        make_subscription(may)
        assert problems(post(may, external_customer_id="another")) == {"external_id": ["value_already_exist"]}

    @pytest.mark.parametrize(
        ("sent", "details"),
        [
            ({"external_id": ""}, {"external_id": ["value_is_mandatory"]}),
            ({"external_id": "a/b"}, {"external_id": ["value_is_invalid"]}),
            ({"external_customer_id": None}, {"external_customer_id": ["value_is_mandatory"]}),
            ({"plan_code": None}, {"plan_code": ["value_is_mandatory"]}),
            ({"billing_time": "weekly"}, {"billing_time": ["value_is_invalid"]}),
            ({"subscription_at": "soon"}, {"subscription_at": ["invalid_date"]}),
            ({"ending_at": "2024-05-10T23:00:00Z"}, {"ending_at": ["invalid_date"]}),
            ({"ending_at": "2024-06-01", "subscription_at": "2024-06-02"}, {"ending_at": ["invalid_date"]}),
            ({"external_id": 5}, {"external_id": ["value_is_invalid"]}),
            ({"external_id": "a\x00"}, {"external_id": ["value_is_invalid"]}),
        ],
    )
    def test_broken_rules(self, may: httpx.Client, sent: Json, details: Json) -> None:
        assert problems(post(may, **sent)) == details
        assert listed(may) == []

    def test_unknown_plan(self, may: httpx.Client, other: httpx.Client) -> None:
        assert refusal(post(may, plan_code="none")) == (404, "plan_not_found")
        assert refusal(post(other)) == (404, "plan_not_found")

    def test_a_start_in_the_past_bills_no_past_period(self, may: httpx.Client) -> None:
        made = make_subscription(may, subscription_at="2024-03-15T00:00:00Z")
        assert (made["status"], made["started_at"]) == ("active", "2024-03-15T00:00:00.000Z")
        set_clock(may, "2024-06-01T00:00:00Z")
        assert [one["total_amount_cents"] for one in invoices_of(may)] == [3_100]


class TestFindAndChange:
    def test_filters(self, may: httpx.Client) -> None:
        make_plan(may, "second", amount_currency="USD")
        make_subscription(may, "a")
        make_subscription(may, "b", "second", "rich")
        make_subscription(may, "c", subscription_at="2024-07-01T00:00:00Z")
        make_subscription(may, "d")
        ok(may.delete(f"{URL}/d"))
        assert listed(may) == ["a", "b"]
        assert listed(may, external_customer_id="rich") == listed(may, plan_code="second") == ["b"]
        assert (listed(may, currency="EUR"), listed(may, external_id="b")) == (["a"], ["b"])
        assert listed(may, **{"status[]": ["pending", "terminated"]}) == ["c", "d"]
        assert listed(may, status="pending") == ["c"]
        of_customer = "/api/v1/customers/customer/subscriptions"
        assert listed(may, of_customer) == ["a"]
        assert listed(may, of_customer, **{"status[]": ["pending"]}) == ["c"]
        for path, found in ((URL, ["a", "b"]), (of_customer, ["a"])):
            assert listed(may, path, **{"billing_entity_codes[]": ["elsewhere"]}) == []
            assert listed(may, path, **{"billing_entity_codes[]": ["elsewhere", "default"]}) == found
        assert problems(may.get(URL, params={"status[]": "odd"})) == {"status": ["value_is_invalid"]}
        assert ok(may.get(URL, params={"per_page": 1, "page": 2}))["meta"]["prev_page"] == 1

    def test_update(self, may: httpx.Client) -> None:
        made = make_subscription(may)
        sent = {"name": "New", "ending_at": "2024-12-31T00:00:00Z", "consolidate_invoice": False}
        changed = ok(may.put(f"{URL}/sub", json={"subscription": sent}))["subscription"]
        assert changed == {**made, **sent}
        sent = {"subscription_at": "2024-01-01", "plan_code": "none"}
        assert ok(may.put(f"{URL}/sub", json={"subscription": sent}))["subscription"] == changed
        cleared = ok(may.put(f"{URL}/sub", json={"subscription": {"name": None, "ending_at": None}}))["subscription"]
        assert (cleared["name"], cleared["ending_at"]) == (None, None)
        wrong = {"subscription": {"ending_at": "2024-05-10"}}
        assert problems(may.put(f"{URL}/sub", json=wrong)) == {"ending_at": ["invalid_date"]}

    def test_another_organizations(self, may: httpx.Client, other: httpx.Client) -> None:
        make_subscription(may)
        for method, body in (("GET", None), ("DELETE", None), ("PUT", {"subscription": {"name": "x"}})):
            assert refusal(other.request(method, f"{URL}/sub", json=body)) == (404, "subscription_not_found")
        assert listed(other) == []
        assert refusal(other.get("/api/v1/customers/customer/subscriptions")) == (404, "customer_not_found")


class TestClock:
    @pytest.mark.parametrize(
        ("timezone", "before", "start"),
        [("UTC", "2024-05-14T23:59:59Z", "2024-05-15T00:00:00Z"),
         ("America/Bogota", "2024-05-14T04:59:59Z", "2024-05-14T05:00:00Z"),
         ("Asia/Kathmandu", "2024-05-14T18:14:59Z", "2024-05-14T18:15:00Z")],
    )  # fmt: skip
    def test_a_pending_one_starts_with_its_local_day(
        self, may: httpx.Client, timezone: str, before: str, start: str
    ) -> None:
        make_customer(may, timezone=timezone)
        assert make_subscription(may, subscription_at="2024-05-15T00:30:00Z")["status"] == "pending"
        assert refusal(may.get(f"{URL}/sub")) == (404, "subscription_not_found")
        set_clock(may, before)
        assert (listed(may), get(may, status="pending")["started_at"]) == ([], None)
        set_clock(may, start)
        assert get(may)["started_at"] == start.replace("Z", ".000Z")
        assert get(may)["activated_at"] == start

    def test_a_pending_one_can_be_moved(self, may: httpx.Client) -> None:
        make_subscription(may, subscription_at="2024-05-15T00:00:00Z")
        sent = {"subscription": {"subscription_at": "2024-05-20T00:00:00Z"}}
        ok(may.put(f"{URL}/sub", json=sent, params={"status": "pending"}))
        set_clock(may, "2024-05-19T23:59:59Z")
        assert listed(may) == []
        set_clock(may, "2024-05-20T00:00:00Z")
        assert listed(may) == ["sub"]

    def test_it_ends_with_its_ending_date(self, may: httpx.Client) -> None:
        make_subscription(may, subscription_at="2024-05-01T00:00:00Z", ending_at="2024-05-17T00:00:00Z")
        set_clock(may, "2024-05-16T23:59:59Z")
        assert listed(may) == ["sub"]
        set_clock(may, "2024-06-15T00:00:00Z")
        ended = get(may, status="terminated")
        assert (ended["terminated_at"], listed(may)) == ("2024-05-17T00:00:00Z", [])
        (invoice,) = invoices_of(may)
        assert invoice["billing_periods"][0]["invoicing_reason"] == "subscription_terminating"
        assert invoice["issuing_date"] == "2024-05-17"


class TestEnd:
    @pytest.fixture
    def used(self, may: httpx.Client) -> httpx.Client:
        """With a subscription since 1 May, and three events in May."""
        make_plan(may, "metered", [standard(make_metric(may, "calls"))], amount_cents=3_100)
        make_subscription(may, plan="metered", subscription_at="2024-05-01T00:00:00Z")
        send_events(may, [event("calls", "sub", 1_714_953_600 + each) for each in range(3)])
        set_clock(may, "2024-05-16T12:00:00Z")
        return may

    def test_the_last_invoice(self, used: httpx.Client) -> None:
        ended = ok(used.delete(f"{URL}/sub"))["subscription"]
        assert (ended["status"], ended["terminated_at"]) == ("terminated", "2024-05-16T12:00:00Z")
        (invoice,) = invoices_of(used)
        fees = [(fee["item"]["type"], fee["amount_cents"]) for fee in invoice["fees"]]
        assert fees == [("subscription", 1_600), ("charge", 300)]
        (period,) = invoice["billing_periods"]
        assert period["invoicing_reason"] == "subscription_terminating"
        assert period["charges_to_datetime"] == "2024-05-16T12:00:00Z"
        assert refusal(used.delete(f"{URL}/sub")) == (404, "subscription_not_found")
        set_clock(used, "2024-08-01T00:00:00Z")
        assert len(invoices_of(used)) == 1

    def test_without_the_last_invoice(self, used: httpx.Client) -> None:
        ended = ok(used.delete(f"{URL}/sub", params={"on_termination_invoice": "skip"}))["subscription"]
        assert (ended["status"], ended["on_termination_invoice"]) == ("terminated", "skip")
        set_clock(used, "2024-08-01T00:00:00Z")
        assert invoices_of(used) == []

    def test_bad_choices_change_nothing(self, used: httpx.Client) -> None:
        for field in ("on_termination_invoice", "on_termination_credit_note"):
            assert problems(used.delete(f"{URL}/sub", params={field: "odd"})) == {field: ["value_is_invalid"]}
        assert listed(used) == ["sub"]

    def test_a_pending_one_is_canceled(self, may: httpx.Client) -> None:
        make_subscription(may, subscription_at="2024-07-01T00:00:00Z")
        assert refusal(may.delete(f"{URL}/sub")) == (404, "subscription_not_found")
        ended = ok(may.delete(f"{URL}/sub", params={"status": "pending"}))["subscription"]
        assert (ended["status"], ended["canceled_at"]) == ("canceled", "2024-05-10T12:00:00Z")
        set_clock(may, "2024-08-01T00:00:00Z")
        assert (listed(may), invoices_of(may)) == ([], [])

    def test_the_external_id_is_free_again(self, used: httpx.Client) -> None:
        first = ok(used.delete(f"{URL}/sub"))["subscription"]
        again = make_subscription(used)
        assert (again["status"], again["plan_code"]) == ("active", "plan")
        assert again["lago_id"] != first["lago_id"]
        assert get(used, status="terminated")["lago_id"] == first["lago_id"]
