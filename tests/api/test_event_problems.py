"""`/api/v1/event_problems`: every event that is kept and not billed as it was meant is counted, and can be listed."""

from datetime import UTC, datetime

import httpx
import pytest

from app.core.aggregation import decimal_value
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
    units_of,
)
from tests.support import seeded

REASONS = [
    "unknown_code", "unknown_subscription", "before_start", "after_termination", "period_finalized", "missing_property",
    "non_numeric_value", "invalid_filter_value", "invalid_operation_type",
]  # fmt: skip


def at(text: str) -> str:
    """Unix time of an instant in UTC, to the millisecond."""
    return f"{datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp():.3f}"


def counts(api: httpx.Client, **query: str) -> dict[str, dict[str, int]]:
    """What there is of each reason, by code; reasons without events are left out."""
    answer = ok(api.get("/api/v1/event_problems", params={"from": "2024-01-01T00:00:00Z", **query}))["event_problems"]
    assert [one["reason"] for one in answer["reasons"]] == REASONS
    found = {}
    for one in answer["reasons"]:
        by_code = {each["code"]: each["events_count"] for each in one["codes"]}
        assert (sum(by_code.values()), len(by_code)) == (one["events_count"], one["codes_count"])
        if by_code:
            found[one["reason"]] = by_code
    return found


def listed(api: httpx.Client, reason: str, **query: str | int) -> list[str]:
    """The transaction ids of the events with a reason, in their order."""
    asked = {"from": "2024-01-01T00:00:00Z", **query}
    return [one["transaction_id"] for one in ok(api.get(f"/api/v1/event_problems/{reason}", params=asked))["events"]]


@pytest.fixture
def shop(api: httpx.Client) -> httpx.Client:
    """A sandbox in May 2024 with a metric of each kind and a subscription `sub` since the first of April."""
    set_clock(api, "2024-04-01T00:00:00Z")
    make_metric(api, "calls")
    make_metric(
        api, "bytes", "sum_agg", filters=[{"key": "region", "values": ["eu", "us"]}, {"key": "t", "values": ["1"]}]
    )
    make_metric(api, "users", "unique_count_agg")
    make_plan(api)
    make_customer(api)
    make_subscription(api)
    set_clock(api, "2024-04-20T00:00:00Z")
    return api


@pytest.fixture
def seats(shop: httpx.Client) -> httpx.Client:
    """The shop with a recurring metric."""
    if not make_metric(shop, "seats", "sum_agg", recurring=True)["recurring"]:
        pytest.skip("this release does not keep `recurring` yet")
    return shop


class TestReasons:
    def test_nothing_wrong(self, shop: httpx.Client) -> None:
        good: list[Json] = [
            event("calls"),
            event("bytes", value=1, region="eu", t="1"),
            event("bytes", value="0"),
            event("bytes", value="-0.0e5"),
            event("bytes", value="1e-40"),
            event("users", value="u"),
            event("users", value="u", operation_type="remove"),
            event("users", value="u", operation_type=""),
        ]
        send_events(shop, good)
        assert counts(shop) == {}

    def test_a_code_without_metric(self, shop: httpx.Client) -> None:
        send_events(shop, [event("later"), event("later"), event("later", "nobody")])
        assert counts(shop) == {"unknown_code": {"later": 3}, "unknown_subscription": {"later": 1}}
        make_metric(shop, "later")
        assert counts(shop) == {"unknown_subscription": {"later": 1}}
        ok(shop.delete("/api/v1/billable_metrics/later"))
        assert counts(shop)["unknown_code"] == {"later": 3}

    def test_a_subscription_that_there_is_not(self, shop: httpx.Client) -> None:
        lost = event("calls", "later", at("2024-04-10T12:00:00"), "lost")
        nameless = event("calls", transaction="nameless")
        del nameless["external_subscription_id"]
        send_events(shop, [lost, nameless])
        assert counts(shop) == {"unknown_subscription": {"calls": 2}}
        make_subscription(shop, "later", subscription_at="2024-04-10T12:00:00.001Z")
        assert counts(shop) == {"unknown_subscription": {"calls": 1}, "before_start": {"calls": 1}}
        assert listed(shop, "before_start") == ["lost"]

    def test_before_the_start(self, shop: httpx.Client) -> None:
        early, first = at("2024-03-31T23:59:59.999"), at("2024-04-01T00:00:00")
        send_events(shop, [event("calls", timestamp=early), event("calls", timestamp=first)])
        assert counts(shop) == {"before_start": {"calls": 1}}

    def test_before_the_start_of_one_that_is_yet_to_come(self, shop: httpx.Client) -> None:
        make_subscription(shop, "soon", subscription_at="2024-05-10T00:00:00Z")
        send_events(shop, [event("calls", "soon"), event("calls", "soon", at("2024-05-10T00:00:00"))])
        assert counts(shop) == {"before_start": {"calls": 1}}
        ok(shop.delete("/api/v1/subscriptions/soon", params={"status": "pending"}))
        assert counts(shop) == {"unknown_subscription": {"calls": 2}}

    def test_after_the_termination(self, shop: httpx.Client) -> None:
        ok(shop.delete("/api/v1/subscriptions/sub"))
        end, after = at("2024-04-20T00:00:00"), at("2024-04-20T00:00:00.001")
        send_events(shop, [event("calls", timestamp=after)])
        assert counts(shop) == {"after_termination": {"calls": 1}}
        send_events(shop, [event("calls", timestamp=end)])
        assert counts(shop) == {"after_termination": {"calls": 1}, "period_finalized": {"calls": 1}}

    def test_between_two_subscriptions(self, shop: httpx.Client) -> None:
        ok(shop.delete("/api/v1/subscriptions/sub"))
        set_clock(shop, "2024-04-25T00:00:00Z")
        make_subscription(shop)
        times = [at("2024-04-22T00:00:00"), at("2024-04-25T00:00:00")]
        send_events(shop, [event("calls", timestamp=when) for when in times])
        assert counts(shop) == {"after_termination": {"calls": 1}}

    def test_a_period_that_was_invoiced(self, shop: httpx.Client) -> None:
        april = at("2024-04-30T23:59:59.999")
        send_events(shop, [event("calls", timestamp=april)])
        set_clock(shop, "2024-05-02T00:00:00Z")
        assert counts(shop) == {}
        late = [event("calls", timestamp=april), event("calls", timestamp=at("2024-05-01T00:00:00"))]
        send_events(shop, late)
        assert counts(shop) == {"period_finalized": {"calls": 1}}
        assert listed(shop, "period_finalized") == [late[0]["transaction_id"]]

    def test_a_recurring_metric_counts_what_came_before_or_late(self, seats: httpx.Client) -> None:
        early, april = at("2024-03-31T23:59:59.999"), at("2024-04-30T23:59:59.999")
        send_events(seats, [event("seats", timestamp=early, value=5)])
        set_clock(seats, "2024-05-02T00:00:00Z")
        send_events(seats, [event("seats", timestamp=april, value=3)])
        assert counts(seats) == {}

    def test_a_recurring_metric_after_the_last_invoice(self, seats: httpx.Client) -> None:
        ok(seats.delete("/api/v1/subscriptions/sub"))
        set_clock(seats, "2024-04-25T00:00:00Z")
        days = [at("2024-04-10T00:00:00"), at("2024-04-22T00:00:00")]
        send_events(seats, [event("seats", timestamp=day, value=3) for day in days])
        assert counts(seats) == {"period_finalized": {"seats": 1}, "after_termination": {"seats": 1}}
        make_subscription(seats)
        assert counts(seats) == {}

    def test_values(self, shop: httpx.Client) -> None:
        bad = [
            "",
            "abc",
            "1,5",
            "NaN",
            "0x10",
            "1e20",
            "-100000000000000000000",
            "1e999999999",
            "0e1234567890",
            " 0",
            "٣",
            True,
        ]
        send_events(shop, [event("bytes"), *(event("bytes", value=one) for one in bad)])
        assert counts(shop) == {"missing_property": {"bytes": 1}, "non_numeric_value": {"bytes": len(bad)}}

    def test_values_of_an_expression(self, shop: httpx.Client) -> None:
        send_events(shop, [event("disk", mb=1), event("disk", mb=0), event("disk", value=5)])
        make_metric(shop, "disk", "sum_agg", expression="event.properties.mb * 2")
        send_events(shop, [event("disk", mb=1, value="none")])
        assert counts(shop) == {"missing_property": {"disk": 1}}

    def test_items(self, shop: httpx.Client) -> None:
        send_events(
            shop,
            [
                event("users"),
                event("users", value=""),
                event("users", value="u", operation_type="Remove"),
                event("users", operation_type="delete"),
            ],
        )
        assert counts(shop) == {"missing_property": {"users": 3}, "invalid_operation_type": {"users": 2}}

    def test_filter_values(self, shop: httpx.Client) -> None:
        sent = [
            event("bytes", value=1, region="mars", t="2"),
            event("bytes", value=1, region=""),
            event("bytes", value=1),
        ]
        send_events(shop, sent)
        assert counts(shop) == {"invalid_filter_value": {"bytes": 2}}


def test_numbers_are_told_as_ingest_tells_them(shop: httpx.Client) -> None:
    chance = seeded(11)
    texts = {"".join(chance.choices("0019.+-eE", k=chance.randint(1, 7))) for _ in range(1_500)}
    texts |= {"9" * 128, "0" * 128, "0" * 129, "1e20", "99999999999999999999.9", "1e-18", "1e-19", "1e999", "1e-999"}
    bad = sum(decimal_value(one) is None for one in texts)
    assert 0 < bad < len(texts)
    send_events(shop, [event("bytes", value=one) for one in texts])
    assert counts(shop) == {"non_numeric_value": {"bytes": bad}}


class TestQueries:
    def test_a_span_of_time(self, shop: httpx.Client) -> None:
        times = ["2024-04-02T00:00:00", "2024-04-03T00:00:00", "2024-04-04T00:00:00"]
        send_events(shop, [event("none", timestamp=at(one)) for one in times])
        assert counts(shop, **{"from": f"{times[1]}Z"}) == {"unknown_code": {"none": 2}}
        assert counts(shop, to=f"{times[1]}Z") == {"unknown_code": {"none": 2}}
        assert counts(shop, **{"from": f"{times[1]}.001Z", "to": f"{times[2]}+00:00"}) == {"unknown_code": {"none": 1}}
        assert counts(shop, **{"from": "9999-12-31T23:59:59Z"}) == {}
        answer = ok(shop.get("/api/v1/event_problems"))["event_problems"]
        assert (answer["from"], answer["to"]) == ("2024-03-21T00:00:00.000Z", None)
        assert ok(shop.get("/api/v1/event_problems", params={"to": "0001-01-01"}))["event_problems"]["reasons"]

    def test_one_code_or_subscription(self, shop: httpx.Client) -> None:
        send_events(shop, [event("none", "a"), event("none", "b"), event("nil", "a")])
        assert counts(shop, code="nil") == {"unknown_code": {"nil": 1}, "unknown_subscription": {"nil": 1}}
        assert counts(shop, external_subscription_id="b")["unknown_code"] == {"none": 1}
        assert counts(shop, external_subscription_id="sub") == {}
        assert counts(shop, external_subscription_id="su\x00b") == {}

    def test_pages(self, shop: httpx.Client) -> None:
        send_events(shop, [event("none", sub, transaction=f"{sub}{n}") for n in range(3) for sub in ("b", "a")])
        asked = {"from": "2024-01-01T00:00:00Z", "per_page": 4}
        first = ok(shop.get("/api/v1/event_problems/unknown_code", params=asked))
        second = ok(shop.get("/api/v1/event_problems/unknown_code", params={**asked, "page": 2}))
        assert first["meta"] == {
            "current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 6,
        }  # fmt: skip
        assert [one["transaction_id"] for one in first["events"] + second["events"]] == [
            "a0",
            "a1",
            "a2",
            "b0",
            "b1",
            "b2",
        ]
        assert first["events"][0] == ok(shop.get("/api/v1/events/a0"))["event"]

    def test_what_cannot_be_asked(self, shop: httpx.Client) -> None:
        assert refusal(shop.get("/api/v1/event_problems/none")) == (404, "reason_not_found")
        assert problems(shop.get("/api/v1/event_problems", params={"from": "May"})) == {"from": ["invalid_date"]}
        assert problems(shop.get("/api/v1/event_problems/unknown_code", params={"to": "x"})) == {"to": ["invalid_date"]}

    def test_another_organization_sees_nothing(self, shop: httpx.Client, other: httpx.Client) -> None:
        send_events(shop, [event("none", "nobody")])
        assert counts(other) == {}


def test_what_is_a_problem_is_not_billed_and_the_rest_is(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T00:00:00Z")
    make_plan(
        api, charges=[standard(make_metric(api, "calls"), "1"), standard(make_metric(api, "bytes", "sum_agg"), "1")]
    )
    make_customer(api)
    make_subscription(api)
    good = [
        event("calls", timestamp=at("2024-04-05T00:00:00")),
        event("bytes", timestamp=at("2024-04-05T00:00:00"), value=7),
    ]
    bad = [
        event("calls", timestamp=at("2024-03-05T00:00:00")),
        event("bytes", timestamp=at("2024-04-05T00:00:00"), value="x"),
    ]
    send_events(api, good + bad)
    set_clock(api, "2024-05-01T00:00:00Z")
    send_events(api, [event("calls", timestamp=at("2024-04-06T00:00:00"))])
    (invoice,) = invoices_of(api)
    assert invoice["total_amount_cents"] == 800
    assert units_of(api)["calls"] == 0
    assert counts(api) == {
        "before_start": {"calls": 1}, "period_finalized": {"calls": 1}, "non_numeric_value": {"bytes": 1},
    }  # fmt: skip
