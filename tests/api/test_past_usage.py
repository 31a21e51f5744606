"""`/api/v1/customers/{external_id}/past_usage`: the usage of periods that have been billed."""

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
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

URL = "/api/v1/customers/customer/past_usage"
REGIONS = [{"key": "region", "values": ["us", "eu"]}]


def past(api: httpx.Client, **query: Any) -> list[Json]:
    answer = api.get(URL, params={"external_subscription_id": "sub", **query})
    periods: list[Json] = ok(answer)["usage_periods"]
    return periods


def _names_of_filters(charge: Json) -> list[str | None]:
    """Takes the names of all filters out of a charge's usage."""
    levels = [charge, *charge["grouped_usage"]]
    return [one.pop("invoice_display_name") for level in levels for one in level["filters"]]


@pytest.fixture
def spring(api: httpx.Client) -> httpx.Client:
    """April and May 2024 are billed: calls with a filter and groups, and storage with a minimum of 9.00."""
    make_tax(api, "vat", "20", applied_to_organization=True)
    us = [{"values": {"region": ["us"]}, "properties": {"amount": "2", "pricing_group_keys": ["team"]}}]
    calls = standard(make_metric(api, "calls", "sum_agg", name="Calls", filters=REGIONS), filters=us)
    calls["properties"] |= {
        "pricing_group_keys": ["team"],
        "presentation_group_keys": [{"value": "host", "options": {"display_in_invoice": True}}],
    }
    storage = standard(make_metric(api, "storage", "sum_agg", name="a disk"), min_amount_cents=900)
    make_plan(api, charges=[calls, storage], amount_cents=3_000)
    set_clock(api, "2024-04-01T00:00:00Z")
    make_subscription(api)
    send_events(
        api,
        [
            event("calls", value=3, region="us", team="a", host="x"),
            event("calls", value=4, team="a", host="y"),
            event("calls", value=5, team="b", host="y"),
            event("storage", value=2),
        ],
    )
    return api


class TestPeriods:
    def test_a_period_is_shown_as_it_was_while_it_lasted(self, spring: httpx.Client) -> None:
        lasting = usage_of(spring)
        set_clock(spring, "2024-05-01T00:00:00Z")
        (invoice,) = invoices_of(spring)
        (period,) = past(spring)
        totals = {
            "from_datetime": "2024-04-01T00:00:00Z", "to_datetime": "2024-04-30T23:59:59Z",
            "issuing_date": "2024-05-01", "currency": "EUR", "lago_invoice_id": invoice["lago_id"],
            "amount_cents": 3_000 + 1_500 + 900, "taxes_amount_cents": 1_080, "total_amount_cents": 6_480,
        }  # fmt: skip
        assert {key: value for key, value in period.items() if key != "charges_usage"} == totals
        assert period.keys() == lasting.keys()
        disk, calls = period["charges_usage"]
        disk_before, calls_before = lasting["charges_usage"]
        # a fee names its filter by the values where it has no name of its own
        names = [_names_of_filters(one) for one in (calls, calls_before)]
        assert names == [["us", None, "us", None, None], [None] * 5]
        assert calls == calls_before
        # what makes up for the minimum has an amount, and is no usage
        assert disk == {**disk_before, "amount_cents": 900}
        assert (disk["units"], disk["total_aggregated_units"], disk["events_count"]) == ("2.0", "2.0", 1)

    def test_the_latest_comes_first(self, spring: httpx.Client) -> None:
        set_clock(spring, "2024-07-10T00:00:00Z")
        send_events(spring, [event("calls", value=1)])
        ok(spring.delete("/api/v1/subscriptions/sub"))
        begins = [period["from_datetime"][:7] for period in past(spring)]
        assert begins == ["2024-07", "2024-06", "2024-05", "2024-04"]
        assert past(spring)[0]["to_datetime"] == "2024-07-10T00:00:00Z"
        assert [period["from_datetime"][:7] for period in past(spring, periods_count=2)] == begins[:2]
        asked = {"external_subscription_id": "sub", "page": 2, "per_page": 2, "periods_count": 3}
        page = ok(spring.get(URL, params=asked))
        assert [period["from_datetime"][:7] for period in page["usage_periods"]] == begins[2:3]
        assert page["meta"] == {
            "current_page": 2, "next_page": None, "prev_page": 1, "total_pages": 2, "total_count": 3,
        }  # fmt: skip

    def test_one_metric(self, spring: httpx.Client) -> None:
        set_clock(spring, "2024-05-01T00:00:00Z")
        (period,) = past(spring, billable_metric_code="calls")
        assert [one["billable_metric"]["code"] for one in period["charges_usage"]] == ["calls"]
        assert period["amount_cents"] == 5_400

    def test_the_default_bucket_is_shown_beside_filters(self, api: httpx.Client) -> None:
        us = [{"values": {"region": ["us"]}, "properties": {"amount": "2"}}]
        make_plan(api, charges=[standard(make_metric(api, "calls", "sum_agg", filters=REGIONS), filters=us)])
        set_clock(api, "2024-04-01T00:00:00Z")
        make_subscription(api)
        send_events(api, [event("calls", value=1)])
        set_clock(api, "2024-05-01T00:00:00Z")
        (period,) = past(api)
        (calls,) = period["charges_usage"]
        assert [(one["values"], one["units"]) for one in calls["filters"]] == [(None, "1.0")]

    def test_pricing_units(self, api: httpx.Client) -> None:
        unit = {"code": "credits", "name": "Credits", "short_name": "CR"}
        ok(api.post("/api/v1/pricing_units", json={"pricing_unit": unit}))
        applied = {"code": "credits", "conversion_rate": "0.5"}
        metric = make_metric(api, "calls", "sum_agg")
        make_plan(api, charges=[standard(metric, min_amount_cents=700, applied_pricing_unit=applied)])
        set_clock(api, "2024-04-01T00:00:00Z")
        make_subscription(api)
        send_events(api, [event("calls", value=3)])
        set_clock(api, "2024-05-01T00:00:00Z")
        (period,) = past(api)
        (calls,) = period["charges_usage"]
        assert (calls["units"], calls["amount_cents"]) == ("3.0", 350)
        assert calls["pricing_unit_details"] == {"amount_cents": 700, "short_name": "CR", "conversion_rate": "0.5"}

    def test_an_invoice_of_no_usage_is_no_period(self, api: httpx.Client) -> None:
        make_plan(api, amount_cents=3_000, pay_in_advance=True)
        set_clock(api, "2024-04-01T00:00:00Z")
        make_subscription(api)
        assert len(invoices_of(api)) == 1
        assert past(api) == []
        set_clock(api, "2024-05-01T00:00:00Z")
        (period,) = past(api)
        assert (period["from_datetime"], period["charges_usage"]) == ("2024-04-01T00:00:00Z", [])

    def test_a_trial_that_ends_is_no_period(self, api: httpx.Client) -> None:
        """It bills the fee in advance, and no usage, though a whole period has gone by."""
        make_plan(api, amount_cents=3_000, pay_in_advance=True, trial_period=40)
        set_clock(api, "2024-04-01T00:00:00Z")
        make_subscription(api)
        set_clock(api, "2024-05-20T00:00:00Z")
        assert [period["from_datetime"] for period in past(api)] == ["2024-04-01T00:00:00Z"]

    def test_an_invoice_that_nobody_sees_is_no_period(self, api: httpx.Client) -> None:
        make_plan(api, charges=[standard(make_metric(api, "calls"), "0")])
        customer = {"external_id": "customer", "finalize_zero_amount_invoice": "skip"}
        ok(api.post("/api/v1/customers", json={"customer": customer}))
        set_clock(api, "2024-04-01T00:00:00Z")
        make_subscription(api)
        send_events(api, [event("calls")])
        set_clock(api, "2024-05-01T00:00:00Z")
        assert past(api) == []


def test_refusals(spring: httpx.Client, other: httpx.Client) -> None:
    set_clock(spring, "2024-05-01T00:00:00Z")
    assert problems(spring.get(URL)) == {"external_subscription_id": ["value_is_mandatory"]}
    asked = {"external_subscription_id": "sub"}
    unknown = spring.get(URL, params={**asked, "billable_metric_code": "none"})
    assert refusal(unknown) == (404, "billable_metric_not_found")
    for count in ("0", "-1", "x", "1" + "0" * 20):
        assert problems(spring.get(URL, params={**asked, "periods_count": count})) == {
            "periods_count": ["value_is_invalid"]
        }
    empty = {"usage_periods": [], "meta": {
        "current_page": 0, "next_page": None, "prev_page": None, "total_pages": 0, "total_count": 0,
    }}  # fmt: skip
    assert ok(spring.get(URL, params={"external_subscription_id": "none"})) == empty
    assert ok(spring.get("/api/v1/customers/nobody/past_usage", params=asked)) == empty
    assert ok(other.get(URL, params=asked)) == empty
