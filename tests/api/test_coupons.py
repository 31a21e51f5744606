"""`/api/v1/coupons` and `/api/v1/applied_coupons`: made, changed, expired, given and taken away."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.factories import (
    Json,
    give_coupon,
    invoices_of,
    make_coupon,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    refusal,
    set_clock,
    standard,
)

URL, APPLIED = "/api/v1/coupons", "/api/v1/applied_coupons"
FIELDS = {
    "lago_id", "name", "code", "description", "coupon_type", "amount_cents", "amount_currency", "reusable",
    "limited_plans", "plan_codes", "limited_billable_metrics", "billable_metric_codes", "percentage_rate", "frequency",
    "frequency_duration", "expiration", "expiration_at", "created_at", "terminated_at",
}  # fmt: skip
APPLIED_FIELDS = {
    "lago_id", "lago_coupon_id", "coupon_code", "coupon_name", "coupon_status", "coupon_deleted_at", "lago_customer_id",
    "external_customer_id", "status", "amount_cents", "amount_cents_remaining", "amount_currency", "percentage_rate",
    "frequency", "frequency_duration", "frequency_duration_remaining", "expiration_at", "created_at", "terminated_at",
}  # fmt: skip


def change(api: httpx.Client, path: str = "coupon", /, **fields: object) -> httpx.Response:
    return api.put(f"{URL}/{path}", json={"coupon": fields})


def give(api: httpx.Client, code: str = "coupon", **fields: object) -> httpx.Response:
    sent = {"external_customer_id": "customer", "coupon_code": code, **fields}
    return api.post(APPLIED, json={"applied_coupon": sent})


def applied(api: httpx.Client, **query: str) -> list[Json]:
    found: list[Json] = ok(api.get(APPLIED, params=query))["applied_coupons"]
    return found


class TestCatalog:
    def test_create_find_update_delete(self, api: httpx.Client, other: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        made = make_coupon(api, description="d")
        assert made.keys() == FIELDS
        wanted = {
            "code": "coupon", "description": "d", "coupon_type": "fixed_amount", "amount_cents": 500,
            "amount_currency": "EUR", "reusable": True, "limited_plans": False, "plan_codes": [], "percentage_rate": None,
            "limited_billable_metrics": False, "billable_metric_codes": [], "frequency": "once",
            "frequency_duration": None, "expiration": "no_expiration", "expiration_at": None,
            "created_at": "2024-05-01T00:00:00Z", "terminated_at": None,
        }  # fmt: skip
        assert {key: made[key] for key in wanted} == wanted
        assert ok(api.get(f"{URL}/coupon"))["coupon"] == made
        sent = {
            "code": "half/off", "coupon_type": "percentage", "percentage_rate": "12.5", "frequency": "recurring",
            "frequency_duration": 3, "reusable": False, "expiration": "time_limit", "expiration_at": "2025-01-01",
        }  # fmt: skip
        changed = ok(change(api, **sent))["coupon"]
        instant = "2025-01-01T00:00:00Z"
        assert changed == {**made, **sent, "expiration_at": instant, "amount_cents": None, "amount_currency": None}
        make_coupon(api, "more", percentage_rate=100)
        assert [one["code"] for one in ok(api.get(URL))["coupons"]] in (["half/off", "more"], ["more", "half/off"])
        assert ok(api.get(URL, params={"per_page": 1}))["meta"]["total_count"] == 2
        assert refusal(other.get(f"{URL}/half/off")) == (404, "coupon_not_found")
        assert ok(api.delete(f"{URL}/half/off"))["coupon"] == changed
        for answer in (api.get(f"{URL}/half/off"), api.delete(f"{URL}/half/off"), change(api, "half/off")):
            assert refusal(answer) == (404, "coupon_not_found")
        assert make_coupon(api, "half/off")["lago_id"] != made["lago_id"]

    @pytest.mark.parametrize(
        ("fields", "details"),
        [
            ({"name": ""}, {"name": ["value_is_mandatory"]}),
            ({"code": "a//b"}, {"code": ["value_is_invalid"]}),
            ({"code": "taken"}, {"code": ["value_already_exist"]}),
            ({"coupon_type": None}, {"coupon_type": ["value_is_mandatory"]}),
            ({"coupon_type": "gift"}, {"coupon_type": ["value_is_invalid"]}),
            ({"amount_cents": None}, {"amount_cents": ["value_is_mandatory"]}),
            ({"amount_cents": 0}, {"amount_cents": ["value_is_out_of_range"]}),
            ({"amount_cents": -1}, {"amount_cents": ["value_is_out_of_range"]}),
            ({"amount_currency": None}, {"amount_currency": ["value_is_mandatory"]}),
            ({"amount_currency": "XXX"}, {"amount_currency": ["value_is_invalid"]}),
            ({"percentage_rate": None}, {"percentage_rate": ["value_is_mandatory"]}),
            ({"percentage_rate": 0}, {"percentage_rate": ["value_is_out_of_range"]}),
            ({"percentage_rate": "-5"}, {"percentage_rate": ["value_is_out_of_range"]}),
            ({"percentage_rate": "NaN"}, {"percentage_rate": ["value_is_out_of_range"]}),
            ({"percentage_rate": "much"}, {"percentage_rate": ["value_is_invalid"]}),
            ({"frequency": ""}, {"frequency": ["value_is_mandatory"]}),
            ({"frequency": "often"}, {"frequency": ["value_is_invalid"]}),
            ({"frequency": "recurring"}, {"frequency_duration": ["value_is_mandatory"]}),
            ({"frequency": "recurring", "frequency_duration": 0}, {"frequency_duration": ["value_is_out_of_range"]}),
            ({"expiration": None}, {"expiration": ["value_is_mandatory"]}),
            ({"expiration": "soon"}, {"expiration": ["value_is_invalid"]}),
            ({"expiration": "time_limit"}, {"expiration_at": ["value_is_mandatory"]}),
            ({"expiration": "time_limit", "expiration_at": "2024-05-01T00:00:00Z"}, {"expiration_at": ["invalid_date"]}),
            ({"expiration": "time_limit", "expiration_at": "tomorrow"}, {"expiration_at": ["invalid_date"]}),
        ],
    )  # fmt: skip
    def test_refused(self, api: httpx.Client, fields: Json, details: Json) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_coupon(api, "taken")
        sent = {
            "name": "c", "code": "c", "coupon_type": "fixed_amount", "amount_cents": 1, "amount_currency": "EUR",
            "frequency": "once", "expiration": "no_expiration",
        }  # fmt: skip
        if "percentage_rate" in fields:
            sent["coupon_type"] = "percentage"
        assert problems(api.post(URL, json={"coupon": {**sent, **fields}})) == details
        assert ok(api.get(URL))["meta"]["total_count"] == 1
        if "percentage_rate" in fields:
            make_coupon(api, "c", percentage_rate=5)
        else:
            make_coupon(api, "c")
        assert problems(change(api, "c", **fields)) == details

    def test_limits(self, api: httpx.Client) -> None:
        make_plan(api, "basic")
        make_metric(api, "calls")
        plans = make_coupon(api, "plans", applies_to={"plan_codes": ["basic", "basic"], "billable_metric_codes": []})
        assert (plans["limited_plans"], plans["plan_codes"]) == (True, ["basic"])
        assert (plans["limited_billable_metrics"], plans["billable_metric_codes"]) == (False, [])
        metrics = ok(change(api, "plans", applies_to={"billable_metric_codes": ["calls"]}))["coupon"]
        assert (metrics["limited_plans"], metrics["plan_codes"]) == (False, [])
        assert (metrics["limited_billable_metrics"], metrics["billable_metric_codes"]) == (True, ["calls"])
        assert ok(change(api, "plans", name="n"))["coupon"]["billable_metric_codes"] == ["calls"]
        both = {"plan_codes": ["basic"], "billable_metric_codes": ["calls"]}
        for limits, answer in (
            (both, (405, "only_one_limitation_type_per_coupon_allowed")),
            ({"plan_codes": ["basic", "x"]}, (404, "plans_not_found")),
            ({"billable_metric_codes": ["x"]}, (404, "billable_metrics_not_found")),
        ):
            assert refusal(change(api, "plans", applies_to=limits)) == answer
            sent = {**plans, "code": "new", "applies_to": limits, "expiration_at": None}
            assert refusal(api.post(URL, json={"coupon": sent})) == answer
        assert ok(api.get(f"{URL}/plans"))["coupon"]["billable_metric_codes"] == ["calls"]
        ok(api.delete("/api/v1/billable_metrics/calls"))
        left = ok(api.get(f"{URL}/plans"))["coupon"]
        assert (left["limited_billable_metrics"], left["billable_metric_codes"]) == (True, [])
        assert ok(change(api, "plans", applies_to=None))["coupon"]["limited_billable_metrics"] is False

    def test_of_one_in_use_little_changes(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_customer(api)
        made = make_coupon(api)
        give_coupon(api)
        until = {"expiration": "time_limit", "expiration_at": "2024-06-01T00:00:00Z"}
        sent = {"name": "n", "description": "d", **until}
        frozen = {
            "code": "other", "coupon_type": "percentage", "percentage_rate": 5, "amount_cents": 9, "reusable": False,
            "frequency": "forever", "applies_to": {"plan_codes": ["x"]},
        }  # fmt: skip
        assert ok(change(api, **sent, **frozen))["coupon"] == {**made, **sent}


class TestEnds:
    def test_expired_ones_are_given_to_nobody_but_work_on(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_customer(api)
        make_plan(api, amount_cents=2_000)
        make_subscription(api)
        until = {"expiration": "time_limit", "expiration_at": "2024-05-10T12:30:00Z"}
        make_coupon(api, frequency="forever", **until)
        make_coupon(api, "ended", **until)
        ok(api.delete(f"{URL}/ended"))
        given = give_coupon(api)
        assert (given["expiration_at"], given["coupon_status"]) == ("2024-05-10T12:30:00Z", "active")
        set_clock(api, "2024-05-10T12:29:59Z")
        assert ok(api.get(f"{URL}/coupon"))["coupon"]["terminated_at"] is None
        set_clock(api, "2024-07-01T01:00:00Z")
        assert ok(api.get(f"{URL}/coupon"))["coupon"]["terminated_at"] == "2024-05-10T12:30:00Z"
        assert refusal(give(api)) == (404, "coupon_not_found")
        (still,) = applied(api)
        assert (still["status"], still["coupon_status"]) == ("active", "terminated")
        assert [one["coupons_amount_cents"] for one in invoices_of(api)] == [500, 500]
        assert ok(change(api, expiration_at="2025-01-01"))["coupon"]["terminated_at"] == "2024-05-10T12:30:00Z"

    def test_a_deleted_one_is_taken_away_from_everybody(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_coupon(api)
        make_coupon(api, "other")
        for customer in ("c1", "c2"):
            make_customer(api, customer)
            give_coupon(api, customer=customer)
            give_coupon(api, "other", customer)
        set_clock(api, "2024-05-02T00:00:00Z")
        ok(api.delete(f"{URL}/coupon"))
        assert {one["coupon_code"] for one in applied(api, status="active")} == {"other"}
        ended = applied(api, status="terminated")
        assert {one["external_customer_id"] for one in ended} == {"c1", "c2"}
        assert {(one["terminated_at"], one["coupon_deleted_at"]) for one in ended} == {("2024-05-02T00:00:00Z",) * 2}


class TestGiven:
    def test_as_the_coupon_is(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        customer = make_customer(api)
        coupon = make_coupon(api)
        given = give_coupon(api)
        assert given.keys() == APPLIED_FIELDS
        wanted = {
            "lago_coupon_id": coupon["lago_id"], "coupon_code": "coupon", "coupon_name": "coupon",
            "coupon_status": "active", "coupon_deleted_at": None, "lago_customer_id": customer["lago_id"],
            "external_customer_id": "customer", "status": "active", "amount_cents": 500, "amount_cents_remaining": 500,
            "amount_currency": "EUR", "percentage_rate": None, "frequency": "once", "frequency_duration": None,
            "frequency_duration_remaining": None, "expiration_at": None, "created_at": "2024-05-01T00:00:00Z",
            "terminated_at": None,
        }  # fmt: skip
        assert {key: given[key] for key in wanted} == wanted
        assert applied(api) == [{**given, "credits": []}]

    def test_with_terms_of_its_own(self, api: httpx.Client) -> None:
        make_customer(api)
        make_coupon(api)
        make_coupon(api, "rate", percentage_rate="10", frequency="recurring", frequency_duration=3)
        fixed = give_coupon(api, amount_cents=700, amount_currency="USD", frequency="recurring", frequency_duration=2)
        wanted = {
            "amount_cents": 700, "amount_currency": "USD", "frequency": "recurring", "frequency_duration": 2,
            "frequency_duration_remaining": 2, "amount_cents_remaining": None,
        }  # fmt: skip
        assert {key: fixed[key] for key in wanted} == wanted
        rate = give_coupon(api, "rate", percentage_rate="12.5", frequency="forever", amount_cents=5)
        assert (rate["percentage_rate"], rate["frequency"], rate["frequency_duration"]) == ("12.5", "forever", None)
        assert rate["amount_cents"] is None
        assert give_coupon(api, "rate", frequency=None, percentage_rate=None)["frequency_duration_remaining"] == 3
        for fields, details in (
            ({"amount_cents": 0}, {"amount_cents": ["value_is_out_of_range"]}),
            ({"amount_currency": "X"}, {"amount_currency": ["value_is_invalid"]}),
            ({"frequency": "recurring"}, {"frequency_duration": ["value_is_mandatory"]}),
            ({"frequency": "often"}, {"frequency": ["value_is_invalid"]}),
        ):
            assert problems(give(api, **fields)) == details
        assert problems(give(api, "rate", percentage_rate=0)) == {"percentage_rate": ["value_is_out_of_range"]}
        assert len(applied(api)) == 3

    def test_refused_in_order(self, api: httpx.Client, other: httpx.Client) -> None:
        make_plan(api, "basic")
        make_coupon(api, reusable=False, applies_to={"plan_codes": ["basic"]})
        assert refusal(give(api, "x")) == (404, "customer_not_found")
        for client in (api, other):
            make_customer(client)
        assert refusal(give(api, "x")) == (404, "coupon_not_found")
        assert refusal(give(other)) == (404, "coupon_not_found")
        assert refusal(give(api, external_customer_id=None)) == (404, "customer_not_found")
        given = give_coupon(api)
        assert refusal(give(api)) == (405, "plan_overlapping")
        ok(api.delete(f"/api/v1/customers/customer/applied_coupons/{given['lago_id']}"))
        assert problems(give(api)) == {"coupon": ["coupon_is_not_reusable"]}
        make_customer(api, "second")
        assert give_coupon(api, customer="second")["status"] == "active"

    def test_overlaps(self, api: httpx.Client) -> None:
        make_plan(api, "charged", charges=[standard(make_metric(api, "calls"))])
        make_plan(api, "plain")
        make_metric(api, "bytes")
        make_coupon(api, "all")
        make_coupon(api, "on charged", applies_to={"plan_codes": ["charged", "plain"]})
        make_coupon(api, "on plain", applies_to={"plan_codes": ["plain"]})
        make_coupon(api, "on calls", applies_to={"billable_metric_codes": ["calls", "bytes"]})
        make_coupon(api, "on bytes", applies_to={"billable_metric_codes": ["bytes"]})
        for first, second, overlap in (
            ("all", "all", False), ("all", "on plain", False), ("on calls", "all", False),
            ("on charged", "on plain", True), ("on plain", "on charged", True), ("on plain", "on plain", True),
            ("on calls", "on bytes", True), ("on bytes", "on calls", True), ("on bytes", "on plain", False),
            ("on charged", "on calls", True), ("on calls", "on charged", True), ("on charged", "on bytes", False),
            ("on plain", "on calls", False),
        ):  # fmt: skip
            customer = f"{first} {second}"
            make_customer(api, customer)
            give_coupon(api, first, customer)
            answer = give(api, second, external_customer_id=customer)
            assert (refusal(answer) == (405, "plan_overlapping")) if overlap else answer.status_code == 200, customer

    def test_many_at_once_are_given_one(self, api: httpx.Client) -> None:
        make_customer(api)
        make_coupon(api, reusable=False)
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(lambda _: give(api), range(6)))
        assert sorted(one.status_code for one in answers) == [200] + [422] * 5
        assert len(applied(api)) == 1

    def test_listed(self, api: httpx.Client) -> None:
        make_customer(api)
        make_customer(api, "second")
        for code in ("a", "b"):
            make_coupon(api, code)
            given = give_coupon(api, code)
        give_coupon(api, "a", "second")
        ok(api.delete(f"/api/v1/customers/customer/applied_coupons/{given['lago_id']}"))
        mine = "/api/v1/customers/customer/applied_coupons"
        for query, found in (
            ({}, ["a", "b", "a"]), ({"external_customer_id": "customer"}, ["b", "a"]), ({"status": "active"}, ["a", "a"]),
            ({"status": "terminated"}, ["b"]), ({"coupon_code[]": ["b", "x"]}, ["b"]), ({"external_customer_id": "x"}, []),
        ):  # fmt: skip
            listed = ok(api.get(APPLIED, params=query))
            assert sorted(one["coupon_code"] for one in listed["applied_coupons"]) == sorted(found), query
            assert listed["meta"]["total_count"] == len(found)
        assert [one["coupon_code"] for one in ok(api.get(mine))["applied_coupons"]] == ["b", "a"]
        assert [one["status"] for one in ok(api.get(mine, params={"status": "active"}))["applied_coupons"]] == [
            "active"
        ]
        assert ok(api.get(mine, params={"coupon_code[]": "x"}))["applied_coupons"] == []
        assert refusal(api.get("/api/v1/customers/x/applied_coupons")) == (404, "customer_not_found")
        assert problems(api.get(APPLIED, params={"status": "x"})) == {"status": ["value_is_invalid"]}

    def test_taken_away(self, api: httpx.Client, other: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_customer(api)
        make_customer(api, "second")
        make_customer(other)
        make_coupon(api)
        url = f"applied_coupons/{give_coupon(api)['lago_id']}"
        for client, path, code in (
            (api, f"x/{url}", "customer_not_found"), (api, f"second/{url}", "applied_coupon_not_found"),
            (api, "customer/applied_coupons/x", "applied_coupon_not_found"),
            (other, f"customer/{url}", "applied_coupon_not_found"),
        ):  # fmt: skip
            assert refusal(client.delete(f"/api/v1/customers/{path}")) == (404, code)
        ended = ok(api.delete(f"/api/v1/customers/customer/{url}"))["applied_coupon"]
        assert (ended["status"], ended["terminated_at"]) == ("terminated", "2024-05-01T00:00:00Z")
        set_clock(api, "2024-05-02T00:00:00Z")
        assert ok(api.delete(f"/api/v1/customers/customer/{url}"))["applied_coupon"] == ended

    def test_a_deleted_customer_has_none_but_the_last_invoice_was_lowered(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        make_plan(api, amount_cents=3_100)
        make_customer(api)
        make_subscription(api)
        make_coupon(api, frequency="forever")
        give_coupon(api)
        set_clock(api, "2024-05-10T00:00:00Z")
        ok(api.delete("/api/v1/customers/customer"))
        assert [one["coupons_amount_cents"] for one in invoices_of(api)] == [500]
        (ended,) = applied(api)
        assert (ended["status"], ended["terminated_at"]) == ("terminated", "2024-05-10T00:00:00Z")
