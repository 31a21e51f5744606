"""Explanations of fees and of current usage, and the events behind them."""

from decimal import Decimal
from typing import Any

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
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

MAY_10 = 1_715_299_200
"""2024-05-10T00:00:00Z."""
MAY_1, JUNE_1 = 1_714_521_600, 1_717_200_000
TIERS = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.10", "flat_amount": "5"},
    {"from_value": 101, "to_value": None, "per_unit_amount": "0.08", "flat_amount": "2"},
]
PERCENT_TIERS = [{"from_value": 0, "to_value": None, "rate": "1.5", "flat_amount": "1"}]


def fees_of(api: httpx.Client, **query: Any) -> list[Json]:
    return ok(api.get("/api/v1/fees", params={"per_page": 1000, **query}))["fees"]


def explanation_of(api: httpx.Client, fee: Json) -> Json:
    return ok(api.get(f"/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]


def steps_total(told: Json) -> Decimal:
    return sum((Decimal(step["amount"]) for step in told["steps"]), Decimal(0))


def listed(api: httpx.Client, url: str) -> list[str]:
    """The transaction ids of all pages, two at a time."""
    found: list[str] = []
    page: int | None = 1
    while page is not None:
        answer = ok(api.get(url, params={**httpx.URL(url).params, "page": page, "per_page": 2}))
        found += [one["transaction_id"] for one in answer["events"]]
        page = answer["meta"]["next_page"]
        assert len(found) <= answer["meta"]["total_count"]
    return found


def test_a_fee_is_told_from_its_events_to_its_taxes(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_tax(api, "vat", "20", name="VAT")
    metric = make_metric(api, "storage", "sum_agg", "gb", rounding_function="round", rounding_precision=1)
    charge = standard(metric, charge_model="graduated", properties={"graduated_ranges": TIERS}, tax_codes=["vat"])
    plan = make_plan(api, "metered", [charge])
    make_customer(api, "acme", currency="EUR", timezone="Europe/Berlin")
    make_subscription(api, "sub", "metered", "acme")
    send_events(api, [event("storage", "sub", MAY_10, "a", gb="100.04"), event("storage", "sub", MAY_10, "b", gb=50)])
    set_clock(api, "2024-06-01T00:00:00Z")
    (fee,) = fees_of(api, fee_type="charge")

    told = explanation_of(api, fee)
    assert told["kind"] == "usage"
    assert told["window"] == {
        "from_datetime": "2024-05-01T00:00:00.000Z", "to_datetime": "2024-05-31T21:59:59.999Z",
        "timezone": "Europe/Berlin", "days": 31, "period_days": 31,
    }  # fmt: skip
    wanted = {
        "billable_metric_code": "storage", "aggregation_type": "sum_agg", "field_name": "gb", "events_count": 2,
        "measured_units": "150.04", "rounding_function": "round", "rounding_precision": 1, "priced_units": "150.0",
        "units": "150.0", "prorated": False, "filters": None, "grouped_by": {},
    }  # fmt: skip
    assert {key: told["usage"][key] for key in wanted} == wanted
    assert told["price"] == {"charge_model": "graduated", "properties": {"graduated_ranges": TIERS}, "as_billed": True}
    assert told["steps"] == [
        {
            "kind": "tier", "amount": "10.0", "quantity": "100.0", "unit_amount": "0.1", "above": "0.0", "up_to": "100.0",
            "sentence": "Units up to 100: 100 units × €0.10 = €10.00.",
        },
        {
            "kind": "flat_amount", "amount": "5.0", "above": "0.0", "up_to": "100.0",
            "sentence": "Flat amount for the tier up to 100 units: €5.00.",
        },
        {
            "kind": "tier", "amount": "4.0", "quantity": "50.0", "unit_amount": "0.08", "above": "100.0",
            "sentence": "Units above 100: 50 units × €0.08 = €4.00.",
        },
        {
            "kind": "flat_amount", "amount": "2.0", "above": "100.0",
            "sentence": "Flat amount for the tier above 100 units: €2.00.",
        },
    ]  # fmt: skip
    assert told["taxes"] == [{"tax_code": "vat", "tax_name": "VAT", "tax_rate": 20, "amount_cents": 420}]
    assert (told["amount_cents"], told["taxes_amount_cents"], told["total_amount_cents"]) == (2_100, 420, 2_520)
    assert told["sentences"] == [
        "storage, from 1 May 2024, 02:00:00 to 31 May 2024, 23:59:59 (Europe/Berlin).",
        'The values in "gb" of 2 events add up to 150.04 units.',
        "The metric rounds half up to 1 decimal: 150 units.",
        *[step["sentence"] for step in told["steps"]],
        "Together: €21.00.",
        "VAT: 20% of €21.00 = €4.20.",
        "With taxes: €25.20.",
    ]
    assert listed(api, told["events"]["url"]) == ["a", "b"]

    # The price is edited, and the plan loses the charge: what was billed stays explained by what it was billed with.
    own = plan["charges"][0]
    edited = {**charge, "id": own["lago_id"], "properties": {"graduated_ranges": [{**TIERS[0], "to_value": None}]}}
    ok(api.put("/api/v1/plans/metered", json={"plan": {"charges": [edited]}}))
    assert explanation_of(api, fee) == told
    ok(api.put("/api/v1/plans/metered", json={"plan": {"charges": []}}))
    assert explanation_of(api, fee) == told


def test_events_of_filters_and_groups_and_late_ones(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    filters = [{"key": "region", "values": ["asia", "eu", "us"]}, {"key": "tier", "values": ["basic", "gold"]}]
    metric = make_metric(api, "calls", filters=filters)
    charge = standard(
        metric, "1", properties={"amount": "1", "pricing_group_keys": ["team"]},
        filters=[
            {"values": {"region": ["__ALL_FILTER_VALUES__"]}, "properties": {"amount": "2"}},
            {"values": {"region": ["us"]}, "properties": {"amount": "3", "pricing_group_keys": ["team"]}},
            {"values": {"region": ["us"], "tier": ["gold"]}, "properties": {"amount": "4"}},
        ],
    )  # fmt: skip
    make_plan(api, "metered", [charge])
    make_subscription(api, "sub", "metered", "acme")
    make_subscription(api, "other", "metered", "acme")
    sent = {
        "gold": {"region": "us", "tier": "gold"}, "us-a": {"region": "us", "tier": "basic", "team": "a"},
        "us-odd": {"region": "us", "tier": "silver", "team": "a"}, "us-none": {"region": "us"},
        "eu": {"region": "eu", "team": "a"}, "eu-2": {"region": "eu", "tier": "gold"},
        "mars-a": {"region": "mars", "team": "a"}, "mars-b": {"region": "mars", "team": "b"}, "bare": {"team": ""},
        "tier-only": {"tier": "gold"},
    }  # fmt: skip
    send_events(api, [event("calls", "sub", MAY_10, name, **of) for name, of in sent.items()])
    edges = {"first": "1714521600", "last": "1717199999.999"}
    send_events(api, [event("calls", "sub", at, name, region="asia") for name, at in edges.items()])
    outside = [("before", "1714521599.999", "sub"), ("after", JUNE_1, "sub"), ("elsewhere", MAY_10, "other")]
    send_events(api, [event("calls", whose, at, name, region="asia") for name, at, whose in outside])
    set_clock(api, "2024-06-01T00:00:00Z")
    send_events(
        api, [event("calls", "sub", MAY_10, "late", region="eu"), event("calls", "sub", MAY_10, "late-us", region="us")]
    )

    found: dict[tuple[Any, ...], list[str]] = {}
    late: dict[tuple[Any, ...], list[str]] = {}
    for fee in fees_of(api, external_subscription_id="sub", fee_type="charge"):
        told = explanation_of(api, fee)
        of = fee["item"]["filters"] or {}
        key = (
            *sorted((name, *values) for name, values in of.items()),
            fee["item"]["grouped_by"].get("team", "no group"),
        )
        found[key] = sorted(listed(api, told["events"]["url"]))
        assert told["events"]["in_window_count"] == len(found[key]) == fee["events_count"]
        assert steps_total(told) * 100 == fee["amount_cents"]
        if told["events"]["late_url"]:
            late[key] = listed(api, told["events"]["late_url"])
            assert told["events"]["late_count"] == len(late[key])
            assert "1 more event of this time came after it had been measured" in told["sentences"][-1]
    every = ("region", "__ALL_FILTER_VALUES__")
    assert found == {
        (every, "no group"): ["eu", "eu-2", "first", "last"],
        (("region", "us"), "a"): ["us-a", "us-odd"],
        (("region", "us"), None): ["us-none"],
        (("region", "us"), ("tier", "gold"), "no group"): ["gold"],
        ("a",): ["mars-a"],
        ("b",): ["mars-b"],
        (None,): ["bare", "tier-only"],
    }
    assert late == {(every, "no group"): ["late"], (("region", "us"), None): ["late-us"]}

    # The metric forgets a region, and with it a filter: the fees are still told by what they were billed with.
    before = [listed(api, f"/api/v1/fees/{fee['lago_id']}/events") for fee in fees_of(api, fee_type="charge")]
    metric_url = f"/api/v1/billable_metrics/{metric['code']}"
    ok(api.put(metric_url, json={"billable_metric": {"filters": [{"key": "tier", "values": ["basic"]}]}}))
    assert [listed(api, f"/api/v1/fees/{fee['lago_id']}/events") for fee in fees_of(api, fee_type="charge")] == before


def test_what_a_recurring_metric_carries_over(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T00:00:00Z")
    seats = make_metric(api, "seats", "unique_count_agg", "user", recurring=True)
    level = make_metric(api, "level", "weighted_sum_agg", "value", recurring=True)
    disk = make_metric(api, "disk", "sum_agg", "value", recurring=True)
    prorated = standard(disk, "3", prorated=True)
    make_plan(api, "metered", [standard(seats, "10"), standard(level, "1"), prorated])
    make_subscription(api, "sub", "metered", "acme")
    april = MAY_1 - 10 * 86_400
    send_events(
        api,
        [
            event("seats", "sub", april, "s1", user="a"), event("seats", "sub", april, "s2", user="b"),
            event("level", "sub", april, "l1", value=10), event("disk", "sub", april, "d1", value=40),
        ],
    )  # fmt: skip
    set_clock(api, "2024-05-01T00:00:00Z")
    send_events(
        api,
        [
            event("seats", "sub", MAY_10, "s3", user="a", operation_type="remove"),
            event("seats", "sub", MAY_10 + 1, "s4", user="c"), event("seats", "sub", MAY_10 + 2, "no-item"),
            event("level", "sub", MAY_10, "l2", value=5), event("disk", "sub", MAY_10, "d2", value=-6),
        ],
    )  # fmt: skip
    set_clock(api, "2024-06-01T00:00:00Z")
    fees = {fee["item"]["code"]: fee for fee in fees_of(api, fee_type="charge") if fee["from_date"] > "2024-05"}
    told = {code: explanation_of(api, fee) for code, fee in fees.items()}
    counts = {
        code: (one["events"]["before_window_count"], one["events"]["in_window_count"]) for code, one in told.items()
    }
    assert counts == {"seats": (2, 2), "level": (1, 1), "disk": (1, 1)}
    assert listed(api, told["seats"]["events"]["url"]) == ["s1", "s2", "s3", "s4"]
    assert listed(api, told["level"]["events"]["url"]) == ["l1", "l2"]
    for code, one in told.items():
        assert steps_total(one) * 100 == fees[code]["amount_cents"], code
    assert told["seats"]["sentences"][1] == (
        '2 different values in "user" were active at the end of the period, '
        "including what was there before the period: 2 units."
    )
    disk_usage = told["disk"]["usage"]
    # 40 for the whole of May, and 6 less from the 10th on: 40 - 6 * 22 / 31, rounded up to 5 decimals.
    assert (disk_usage["prorated"], disk_usage["priced_units"], disk_usage["units"]) == (True, "35.74194", "34.0")
    assert "out of 31 days: 35.74194 units." in told["disk"]["sentences"][2]


def test_a_subscription_fee_is_told_by_its_days(api: httpx.Client) -> None:
    set_clock(api, "2024-04-17T00:00:00Z")
    make_plan(api, "flat", amount_cents=4_500)
    make_subscription(api, "sub", "flat", "acme")
    set_clock(api, "2024-06-01T00:00:00Z")
    first, second = (explanation_of(api, fee) for fee in fees_of(api, fee_type="subscription"))
    assert (first["kind"], first["amount_cents"], first["events"], first["usage"]) == (
        "subscription",
        2_100,
        None,
        None,
    )
    assert first["steps"] == [
        {
            "kind": "days", "amount": "21.0", "quantity": "14.0", "unit_amount": "45.0", "size": 30,
            "sentence": "€45.00 for 30 days, of which 14 days count: €21.00.",
        }
    ]  # fmt: skip
    assert first["sentences"][0] == "flat, from 17 April 2024 to 30 April 2024 (UTC): 14 of the 30 days of the period."
    assert second["sentences"] == [
        "flat, from 1 May 2024 to 31 May 2024 (UTC).",
        "The price of a whole period: €45.00.",
    ]
    (fee, _) = fees_of(api, fee_type="subscription")
    empty = ok(api.get(f"/api/v1/fees/{fee['lago_id']}/events"))
    assert (empty["events"], empty["meta"]["total_count"]) == ([], 0)


def test_trials_and_upgrades_are_told(api: httpx.Client) -> None:
    set_clock(api, "2024-04-01T00:00:00Z")
    calls = make_metric(api, "calls")
    make_plan(api, "tried", [standard(calls, "1")], amount_cents=3_000, trial_period=10)
    make_plan(api, "dearer", [standard(calls, "2")], amount_cents=9_000)
    make_subscription(api, "sub", "tried", "acme")
    send_events(api, [event("calls", "sub", "1713225599.999", "before"), event("calls", "sub", 1_713_225_600, "at")])
    set_clock(api, "2024-04-16T00:00:00Z")
    make_subscription(api, "sub", "dearer", "acme")
    set_clock(api, "2024-05-01T00:00:00Z")
    told = {(fee["item"]["type"], fee["from_date"][:10]): explanation_of(api, fee) for fee in fees_of(api)}
    old = told["subscription", "2024-04-01"]
    assert old["sentences"][1:] == [
        "The free trial goes on until 11 April 2024, 00:00:00.",
        "The day of the upgrade is billed with the new plan.",
        "€30.00 for 30 days, of which 5 days count: €5.00.",
    ]
    assert told["subscription", "2024-04-16"]["amount_cents"] == 4_500
    # The event at the very instant of the upgrade is the new plan's.
    events = {day: listed(api, told["charge", day]["events"]["url"]) for day in ("2024-04-01", "2024-04-16")}
    assert events == {"2024-04-01": ["before"], "2024-04-16": ["at"]}


def test_a_commitment_is_told_by_what_it_lacks(api: httpx.Client) -> None:
    set_clock(api, "2024-04-16T00:00:00Z")
    charges = [standard(make_metric(api, "calls"), "1.5")]
    make_plan(api, "metered", charges, amount_cents=3_000, minimum_commitment={"amount_cents": 10_000})
    make_subscription(api, "sub", "metered", "acme")
    send_events(api, [event("calls", "sub", 1_713_225_600)])
    set_clock(api, "2024-05-01T00:00:00Z")
    (fee,) = fees_of(api, fee_type="commitment")
    told = explanation_of(api, fee)
    assert (told["kind"], told["amount_cents"], steps_total(told)) == ("commitment", 3_350, Decimal("33.5"))
    assert told["sentences"][1:] == [
        "The minimum of this period is €50.00.",
        "What counts towards it comes to €16.50; the rest is billed here.",
        "Together: €33.50.",
    ]


MODELS: dict[str, tuple[str, Json]] = {
    "standard": ("sum_agg", {"amount": "0.333"}),
    "graduated": ("max_agg", {"graduated_ranges": TIERS}),
    "volume": ("latest_agg", {"volume_ranges": TIERS}),
    "package": ("count_agg", {"amount": "4.5", "package_size": 2, "free_units": 1}),
    "percentage": (
        "sum_agg",
        {
            "rate": "2", "fixed_amount": "0.5", "free_units_per_events": 1,
            "per_transaction_min_amount": "2", "per_transaction_max_amount": "5",
        },
    ),
    "graduated_percentage": ("unique_count_agg", {"graduated_percentage_ranges": PERCENT_TIERS}),
    "dynamic": ("sum_agg", {}),
}  # fmt: skip


def test_every_model_is_told_for_fees_as_for_current_usage(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    charges = []
    for model, (aggregation, of) in MODELS.items():
        charges.append(standard(make_metric(api, model, aggregation), charge_model=model, properties=of))
    level = make_metric(api, "seats", "sum_agg", recurring=True)
    charges.append(
        standard(
            level, prorated=True, charge_model="graduated", properties={"graduated_ranges": TIERS}, code="prorated"
        )
    )
    make_plan(api, "metered", charges)
    make_customer(api, "acme", currency="EUR", billing_configuration={"document_locale": "de"})
    make_subscription(api, "sub", "metered", "acme")
    for number, value in enumerate(("200", "50.5", "300", "120")):
        sent = [event(model, "sub", MAY_10 + number, value=value) for model in (*MODELS, "seats")]
        send_events(api, [{**one, "precise_total_amount_cents": "12.345"} for one in sent])

    usage = usage_of(api, "sub", "acme")
    lines = ok(api.get("/api/v1/customers/acme/current_usage/explanation", params={"external_subscription_id": "sub"}))
    now = {one["lago_charge_id"]: one for one in lines["explanations"]}
    assert {one["charge"]["lago_id"]: one["amount_cents"] for one in usage["charges_usage"]} == {
        charge_id: one["amount_cents"] for charge_id, one in now.items()
    }
    set_clock(api, "2024-06-01T00:00:00Z")
    fees = fees_of(api, fee_type="charge")
    assert len(fees) == len(now) == len(MODELS) + 1
    for fee in fees:
        told, line = explanation_of(api, fee), now[fee["lago_charge_id"]]
        assert told["steps"] == line["steps"]
        assert told["sentences"] == line["sentences"]
        assert steps_total(told) * 100 == fee["amount_cents"]
        assert {step["kind"] for step in told["steps"]}.isdisjoint({"amount"})
        assert listed(api, told["events"]["url"]), told["events"]
    standard_fee = next(fee for fee in fees if fee["item"]["code"] == "standard")
    assert "670,5 units × 0,333\xa0€ = 223,2765\xa0€." in explanation_of(api, standard_fee)["sentences"]


def test_lines_of_current_usage_and_their_events(api: httpx.Client) -> None:
    set_clock(api, "2024-05-20T00:00:00Z")
    metric = make_metric(api, "calls", filters=[{"key": "region", "values": ["eu", "us"]}])
    grouped = {"amount": "1", "pricing_group_keys": ["team", "zone"]}
    filters = [{"values": {"region": ["us"]}, "properties": {"amount": "5"}}]
    charge = make_plan(api, "metered", [standard(metric, properties=grouped, filters=filters)])["charges"][0]
    make_subscription(api, "sub & co", "metered", "acme", subscription_at="2024-04-10T00:00:00Z")
    sent = {
        "t1": {"team": "a", "zone": "1"}, "t2": {"team": "a"}, "t3": {"team": "é&?", "zone": "1"},
        "t4": {"region": "us", "zone": "1"},
    }  # fmt: skip
    send_events(api, [event("calls", "sub & co", MAY_10, name, **of) for name, of in sent.items()])
    url = "/api/v1/customers/acme/current_usage/explanation"

    def lines(**query: Any) -> list[list[str]]:
        answer = ok(api.get(url, params={"external_subscription_id": "sub & co", **query}))
        return sorted(listed(api, one["events"]["url"]) for one in answer["explanations"])

    assert lines() == [["t1"], ["t2"], ["t3"], ["t4"]]
    assert lines(billable_metric_code="calls", **{"group[zone]": "1"}) == [["t1"], ["t3"], ["t4"]]
    assert lines(charge_id=charge["lago_id"], **{"group[team]": "a"}) == [["t1"], ["t2"]]
    assert lines(charge_code="calls", full_usage="true", skip_grouping="true") == [["t1", "t2", "t3"], ["t4"]]

    events_url = "/api/v1/customers/acme/current_usage/events"
    known = {"external_subscription_id": "sub & co", "charge_id": charge["lago_id"]}
    assert problems(api.get(url)) == {"external_subscription_id": ["value_is_mandatory"]}
    assert problems(api.get(events_url, params={"charge_id": charge["lago_id"]})) == {
        "external_subscription_id": ["value_is_mandatory"]
    }
    assert problems(api.get(events_url, params={**known, "grouped_by": "[1]"})) == {"grouped_by": ["value_is_invalid"]}
    other_id = "00000000-0000-4000-8000-000000000000"
    assert refusal(api.get(events_url, params={**known, "charge_id": other_id})) == (404, "charge_not_found")
    assert refusal(api.get(events_url, params={**known, "charge_filter_id": other_id})) == (
        404,
        "charge_filter_not_found",
    )
    assert refusal(api.get(url.replace("acme", "none"), params=known)) == (404, "customer_not_found")
    assert refusal(api.get(url, params={**known, "external_subscription_id": "none"})) == (
        405,
        "no_active_subscription",
    )


def test_fees_of_others_are_not_told(api: httpx.Client, other: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, "flat", amount_cents=100)
    make_subscription(api, "sub", "flat", "acme")
    set_clock(api, "2024-06-01T00:00:00Z")
    (fee,) = fees_of(api)
    for path in ("explanation", "events"):
        assert refusal(other.get(f"/api/v1/fees/{fee['lago_id']}/{path}")) == (404, "fee_not_found")
        assert refusal(api.get(f"/api/v1/fees/nonsense/{path}")) == (404, "fee_not_found")


@pytest.mark.parametrize("late", ["maybe", "2"])
def test_a_malformed_late_is_refused(api: httpx.Client, late: str) -> None:
    answer = api.get("/api/v1/fees/00000000-0000-4000-8000-000000000000/events", params={"late": late})
    assert answer.status_code in {400, 422}


def test_the_fee_of_an_event_is_told_with_the_price_of_its_time(api: httpx.Client) -> None:
    set_clock(api, "2024-05-10T00:00:00Z")
    metric = make_metric(api, "calls")
    plan = make_plan(api, charges=[standard(metric, "0.05", pay_in_advance=True, invoiceable=False)])
    make_subscription(api)
    send_events(api, [event("calls", "sub", MAY_10, "a")])
    (fee,) = fees_of(api, event_transaction_id="a")
    (charge,) = plan["charges"]
    changed = {"plan": {"charges": [{**standard(metric, "9"), "id": charge["lago_id"]}]}}
    ok(api.put("/api/v1/plans/plan", json=changed))
    told = explanation_of(api, fee)
    assert (told["kind"], told["amount_cents"], steps_total(told)) == ("event", 5, Decimal("0.05"))
    assert told["price"] == {"charge_model": "standard", "properties": {"amount": "0.05"}, "as_billed": True}
    assert any("costs €0.05 more with it than without it" in sentence for sentence in told["sentences"])
    assert listed(api, told["events"]["url"]) == ["a"]


def test_a_true_up_and_a_fixed_charge_are_told(api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    ok(api.post("/api/v1/add_ons", json={"add_on": {
        "name": "Seat", "code": "seat", "amount_cents": 0, "amount_currency": "EUR"}}))  # fmt: skip
    fixed = {"add_on_code": "seat", "units": 3, "charge_model": "standard", "properties": {"amount": "12"}}
    make_plan(api, charges=[standard(make_metric(api, "calls"), "1", min_amount_cents=500)], fixed_charges=[fixed])
    make_subscription(api)
    send_events(api, [event("calls", "sub", MAY_10, "a")])
    set_clock(api, "2024-06-01T00:00:00Z")
    explained = [explanation_of(api, fee) for fee in fees_of(api)]
    told = {one["kind"]: one for one in explained}
    assert told["fixed_charge"]["amount_cents"] == 3_600
    assert steps_total(told["fixed_charge"]) == 36
    lacking = next(one for kind, one in told.items() if "true" in kind)
    assert (lacking["amount_cents"], steps_total(lacking)) == (400, Decimal(4))
