"""`/api/v1/customers/{external_id}/current_usage`: which events count, what they cost, and what is asked for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    units_of,
    usage_of,
)
from tests.support import seeded

MILLISECOND = timedelta(milliseconds=1)
METRICS = {"calls": "count_agg", "bytes": "sum_agg", "peak": "max_agg", "users": "unique_count_agg"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def stamp(moment: datetime) -> str:
    """Unix seconds with three decimals, exactly."""
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def metered(api: httpx.Client, now: str, **subscription: object) -> None:
    """A subscription to one metric of each kind."""
    set_clock(api, now)
    make_plan(api, charges=[standard(make_metric(api, code, kind)) for code, kind in METRICS.items()])
    make_subscription(api, **subscription)  # type: ignore[arg-type]


PERIODS = [
    ("UTC", "2024-05-10T00:00:00Z", "2024-05-01T00:00:00+00:00", "2024-06-01T00:00:00+00:00"),
    ("Asia/Kolkata", "2024-05-10T00:00:00Z", "2024-05-01T00:00:00+05:30", "2024-06-01T00:00:00+05:30"),
    ("Asia/Kathmandu", "2024-05-10T00:00:00Z", "2024-05-01T00:00:00+05:45", "2024-06-01T00:00:00+05:45"),
    ("America/St_Johns", "2024-05-10T00:00:00Z", "2024-05-01T00:00:00-02:30", "2024-06-01T00:00:00-02:30"),
    ("Europe/Berlin", "2024-03-10T00:00:00Z", "2024-03-01T00:00:00+01:00", "2024-04-01T00:00:00+02:00"),
    ("America/New_York", "2024-11-10T00:00:00Z", "2024-11-01T00:00:00-04:00", "2024-12-01T00:00:00-05:00"),
    ("Australia/Lord_Howe", "2024-04-10T00:00:00Z", "2024-04-01T00:00:00+11:00", "2024-05-01T00:00:00+10:30"),
    ("Pacific/Apia", "2011-12-10T00:00:00Z", "2011-12-01T00:00:00-10:00", "2012-01-01T00:00:00+14:00"),
]


class TestWindows:
    @pytest.mark.parametrize(("timezone", "now", "start", "end"), PERIODS, ids=[one[0] for one in PERIODS])
    def test_both_ends_count_and_nothing_beyond(
        self, api: httpx.Client, timezone: str, now: str, start: str, end: str
    ) -> None:
        make_customer(api, timezone=timezone)
        metered(api, now, subscription_at="2010-01-15T00:00:00Z")
        first, after = at(start), at(end)
        inside = [
            first,
            first + MILLISECOND,
            first + timedelta(hours=1),
            after - timedelta(hours=1),
            after - MILLISECOND,
        ]
        outside = [first - MILLISECOND, first - timedelta(minutes=30), after, after + timedelta(minutes=30)]
        send_events(
            api,
            [event(code, "sub", stamp(one), value="1", n=n) for code in METRICS for n, one in enumerate(inside)]
            + [event(code, "sub", stamp(one), value="100") for code in METRICS for one in outside],
        )
        usage = usage_of(api)
        assert (at(usage["from_datetime"]), at(usage["to_datetime"])) == (first, after - timedelta(seconds=1))
        assert units_of(api) == {"calls": 5, "bytes": 5, "peak": 1, "users": 1}

    @pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"])
    def test_a_start_within_an_hour(self, api: httpx.Client, timezone: str) -> None:
        offset = {"UTC": "+00:00", "Asia/Kolkata": "+05:30", "Asia/Kathmandu": "+05:45", "America/St_Johns": "-02:30"}
        started = f"2024-05-08T07:13:00{offset[timezone]}"
        make_customer(api, timezone=timezone)
        metered(api, f"2024-05-08T09:00:00{offset[timezone]}", subscription_at=started)
        first = at(started)
        send_events(
            api,
            [
                event("calls", "sub", stamp(first + shift))
                for shift in (timedelta(0), MILLISECOND, timedelta(minutes=46))
            ]
            + [event("calls", "sub", stamp(first - shift)) for shift in (MILLISECOND, timedelta(minutes=13))],
        )
        assert at(usage_of(api)["from_datetime"]) == first
        assert units_of(api)["calls"] == 3

    def test_a_later_event_of_the_period_counts_already(self, api: httpx.Client) -> None:
        metered(api, "2024-05-10T00:00:00Z", subscription_at="2024-05-01T00:00:00Z")
        send_events(api, [event("calls", "sub", stamp(at("2024-05-31T23:59:59.999+00:00")))])
        assert units_of(api)["calls"] == 1
        set_clock(api, "2024-06-01T00:00:00Z")
        assert units_of(api)["calls"] == 0

    def test_the_subscription_of_another_has_its_own(self, api: httpx.Client) -> None:
        metered(api, "2024-05-10T00:00:00Z")
        make_subscription(api, "sub2", customer="second")
        send_events(api, [event("calls", name, "1715342400") for name in ("sub", "sub2", "sub2", "SUB", "sub ")])
        assert (units_of(api)["calls"], units_of(api, "sub2", "second")["calls"]) == (1, 2)


class TestAggregations:
    def test_random_events_against_a_model(self, api: httpx.Client) -> None:
        metered(api, "2024-05-20T12:34:56Z", subscription_at="2024-05-03T00:00:00Z")
        chance = seeded(5)
        first, after = at("2024-05-03T00:00:00+00:00"), at("2024-06-01T00:00:00+00:00")
        sent: list[Json] = []
        for number in range(2_000):
            moment = first + timedelta(milliseconds=chance.randrange(-200_000_000, 2_700_000_000))
            value = str(Decimal(chance.randint(-(10**9), 10**12)) / 10**6)
            operation = chance.choice(["add", "add", "remove"])
            one = event(chance.choice(list(METRICS)), "sub", stamp(moment), f"t{number}", value=value)
            if one["code"] == "users":
                one["properties"] = {"value": f"user{chance.randrange(40)}", "operation_type": operation}
            sent.append(one)
        chance.shuffle(sent)
        for start in range(0, len(sent), 400):
            send_events(api, sent[start : start + 400])
        inside = [one for one in sent if Decimal(stamp(first)) <= Decimal(one["timestamp"]) < Decimal(stamp(after))]
        values = {
            code: [Decimal(one["properties"]["value"]) for one in inside if one["code"] == code]
            for code in ("bytes", "peak")
        }
        last = {}
        for one in sorted(inside, key=lambda one: (Decimal(one["timestamp"]), one["transaction_id"])):
            if one["code"] == "users":
                last[one["properties"]["value"]] = one["properties"]["operation_type"]
        assert units_of(api) == {
            "calls": sum(one["code"] == "calls" for one in inside),
            "bytes": sum(values["bytes"]),
            "peak": max(values["peak"]),
            "users": sum(operation == "add" for operation in last.values()),
        }

    def test_last_operation_wins_by_time_then_transaction(self, api: httpx.Client) -> None:
        metered(api, "2024-05-20T00:00:00Z", subscription_at="2024-05-01T00:00:00Z")
        send_events(
            api,
            [
                event("users", "sub", "1715342402", "a", value="later removal", operation_type="remove"),
                event("users", "sub", "1715342401", "b", value="later removal"),
                event("users", "sub", "1715342400", "c", value="tie", operation_type="remove"),
                event("users", "sub", "1715342400", "d", value="tie"),
                event("users", "sub", "1715342400", "e", value="odd operation", operation_type="REMOVE"),
                event("users", "sub", "1715342400", "f", value=""),
                event("users", "sub", "1715342400", "g"),
                event("users", "sub", "1715342400", "h", value="never added", operation_type="remove"),
            ],
        )
        assert units_of(api)["users"] == 2

    def test_the_metrics_rounding(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-10T00:00:00Z")
        roundings = [("up", "ceil", 1), ("down", "floor", 0), ("half", "round", -1)]
        make_plan(
            api,
            charges=[
                standard(make_metric(api, code, "sum_agg", rounding_function=function, rounding_precision=places))
                for code, function, places in roundings
            ],
        )
        make_subscription(api)
        send_events(api, [event(code, "sub", "1715342400", value="15.01") for code, _, _ in roundings])
        assert units_of(api) == {"up": Decimal("15.1"), "down": 15, "half": 20}


class TestPrices:
    def test_amounts_and_taxes(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-10T00:00:00Z")
        for code, rate in (("ten", "10"), ("half", "5.5"), ("plan", "20"), ("organization", "7")):
            make_tax(api, code, rate, applied_to_organization=code == "organization")
        metrics = [make_metric(api, code, "sum_agg") for code in ("a", "b")]
        charges = [standard(metrics[0], "1.11", tax_codes=["ten", "half"]), standard(metrics[1], "0.333")]
        make_plan(api, charges=charges, tax_codes=["plan"])
        make_plan(api, "untaxed", charges=[standard(metrics[0], "2")])
        make_subscription(api)
        make_subscription(api, "sub2", "untaxed")
        batch = [event("a", "sub", "1715342400", value=3), event("b", "sub", "1715342400", value="10")]
        send_events(api, [*batch, event("a", "sub2", "1715342400", value=50)])
        usage = usage_of(api)
        amounts = [(one["billable_metric"]["code"], one["amount_cents"]) for one in usage["charges_usage"]]
        assert amounts == [("a", 333), ("b", 333)]
        # 15.5 % of 333 is 51.615, and 20 % of 333 is 66.6
        totals = (usage["amount_cents"], usage["taxes_amount_cents"], usage["total_amount_cents"])
        assert totals == (666, 118, 784)
        untaxed = usage_of(api, apply_taxes="false")
        assert (untaxed["taxes_amount_cents"], untaxed["total_amount_cents"]) == (0, 666)
        assert usage_of(api, "sub2")["taxes_amount_cents"] == 700
        make_customer(api, tax_codes=["half"])
        assert usage_of(api, "sub2")["taxes_amount_cents"] == 550

    def test_graduated(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-10T00:00:00Z")
        ranges = [
            {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "2"},
            {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
        ]
        charge = {**standard(make_metric(api, "a", "sum_agg")), "charge_model": "graduated"}
        make_plan(api, charges=[{**charge, "properties": {"graduated_ranges": ranges}}])
        make_subscription(api)
        for value, amount in (("10", 1_200), ("0.5", 1_525), ("1.5", 1_600)):
            send_events(api, [event("a", "sub", "1715342400", value=value)])
            assert usage_of(api)["amount_cents"] == amount


class TestRequests:
    def test_restrictions(self, api: httpx.Client) -> None:
        set_clock(api, "2024-05-10T00:00:00Z")
        metrics = {code: make_metric(api, code) for code in ("b", "a", "c")}
        plan = make_plan(api, charges=[standard(metric, code=f"charge-{code}") for code, metric in metrics.items()])
        make_subscription(api)
        ids = {one["billable_metric_code"]: one["lago_id"] for one in plan["charges"]}

        def shown(**query: str) -> list[str]:
            return [one["billable_metric"]["code"] for one in usage_of(api, **query)["charges_usage"]]

        assert shown() == ["a", "b", "c"]
        for name in ("charge_id", "filter_by_charge_id"):
            assert shown(**{name: ids["b"]}) == ["b"]
        for name in ("charge_code", "filter_by_charge_code"):
            assert shown(**{name: "charge-c"}) == ["c"]
        for name in ("billable_metric_code", "filter_by_metric_code"):
            assert shown(**{name: "a"}) == ["a"]
        # the first that is given counts, and an empty one is not
        assert shown(charge_id=ids["b"], charge_code="charge-c", billable_metric_code="a") == ["b"]
        assert shown(filter_by_charge_code="charge-c", billable_metric_code="a") == ["c"]
        assert shown(charge_code="", filter_by_charge_code="", filter_by_metric_code="") == ["a", "b", "c"]
        asked = {"external_subscription_id": "sub", "charge_code": "none"}
        assert refusal(api.get("/api/v1/customers/customer/current_usage", params=asked)) == (404, "charge_not_found")
        asked = {"external_subscription_id": "sub", "charge_id": "none"}
        assert problems(api.get("/api/v1/customers/customer/current_usage", params=asked)) == {
            "charge_id": ["value_is_invalid"]
        }

    def test_usage_since_the_start(self, api: httpx.Client) -> None:
        """Of a restricted part, as long as nothing in it is prorated."""
        set_clock(api, "2024-05-10T00:00:00Z")
        seats = make_metric(api, "seats", "sum_agg", recurring=True)
        charges = [standard(make_metric(api, "calls", "sum_agg")), standard(seats, code="whole")]
        make_plan(api, charges=[*charges, standard(seats, code="prorated", prorated=True)])
        make_subscription(api)
        batch = [
            event(code, value=value, team=team) for code in ("calls", "seats") for value, team in ((1, "a"), (4, "b"))
        ]
        send_events(api, batch)
        set_clock(api, "2024-07-10T00:00:00Z")
        send_events(api, [event("calls", value=10, team="a")])

        def calls(**query: str) -> tuple[str, str]:
            usage = usage_of(api, billable_metric_code="calls", **query)
            return usage["from_datetime"], usage["charges_usage"][0]["units"]

        assert calls() == ("2024-07-01T00:00:00Z", "10.0")
        assert calls(full_usage="true") == ("2024-05-10T00:00:00Z", "15.0")
        assert calls(full_usage="true", **{"group[team]": "a"}) == ("2024-05-10T00:00:00Z", "11.0")
        assert usage_of(api, charge_code="whole", full_usage="true")["charges_usage"][0]["units"] == "5.0"
        for query in ({}, {"charge_code": "prorated"}, {"group[team]": "a"}, {"filter_by_metric_code": "seats"}):
            asked = {"external_subscription_id": "sub", "full_usage": "true", **query}
            answer = api.get("/api/v1/customers/customer/current_usage", params=asked)
            assert refusal(answer) == (405, "full_usage_not_allowed")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            *((name, text) for name in ("group", "filter_by_group") for text in ("a", "[]", "3", '{"a"')),
            *(("filter_by_presentation", text) for text in ("a", "{}", "[1]", '[""]')),
            *((name, "maybe") for name in ("apply_taxes", "skip_grouping", "full_usage")),
            *((name, "1") for name in ("charge_id", "filter_by_charge_id")),
        ],
    )
    def test_parameters_that_cannot_be_read(self, api: httpx.Client, name: str, text: str) -> None:
        asked = {"external_subscription_id": "sub", name: text}
        answer = api.get("/api/v1/customers/customer/current_usage", params=asked)
        assert problems(answer) == {name: ["value_is_invalid"]}

    def test_refusals(self, api: httpx.Client, other: httpx.Client) -> None:
        metered(api, "2024-05-10T00:00:00Z")
        make_customer(api, "second")
        make_subscription(api, "later", customer="second", subscription_at="2024-07-01T00:00:00Z")
        path = "/api/v1/customers/{}/current_usage"
        assert problems(api.get(path.format("customer"))) == {"external_subscription_id": ["value_is_mandatory"]}
        for customer, subscription, wanted in (
            ("nobody", "sub", (404, "customer_not_found")),
            ("customer", "none", (405, "no_active_subscription")),
            ("second", "sub", (405, "no_active_subscription")),
            ("second", "later", (405, "no_active_subscription")),
        ):
            asked = {"external_subscription_id": subscription}
            assert refusal(api.get(path.format(customer), params=asked)) == wanted
        asked = {"external_subscription_id": "sub"}
        assert refusal(other.get(path.format("customer"), params=asked)) == (404, "customer_not_found")
        asked["full_usage"] = "true"
        assert refusal(api.get(path.format("customer"), params=asked)) == (405, "full_usage_not_allowed")
