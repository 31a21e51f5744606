"""Pricing units: made, charged in, converted, and shown."""

from collections.abc import Sequence

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    invoices_of,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
    usage_of,
)

URL = "/api/v1/pricing_units"
CREDITS = {"code": "credits", "name": "Credits", "short_name": "CR", "description": None}
CHARGE = "/api/v1/plans/plan/charges/calls"


def make_unit(api: httpx.Client, **fields: object) -> Json:
    unit: Json = ok(api.post(URL, json={"pricing_unit": {**CREDITS, **fields}}))["pricing_unit"]
    return unit


def applied(rate: object = "0.5", code: str = "credits") -> Json:
    return {"applied_pricing_unit": {"code": code, "conversion_rate": rate}}


def set_rate(api: httpx.Client, **unit: object) -> Json:
    """Change what the charge's pricing unit is worth; gives the unit as it then is."""
    changed: Json = ok(api.put(CHARGE, json={"charge": {"applied_pricing_unit": unit}}))["charge"]
    found: Json = changed["applied_pricing_unit"]
    return found


class TestUnits:
    def test_they_come_change_and_go(self, api: httpx.Client) -> None:
        first = make_unit(api)
        assert {key: first[key] for key in CREDITS} == CREDITS
        assert first.keys() == CREDITS.keys() | {"lago_id", "created_at"}
        second = make_unit(api, code="gpu/tokens", description="per thousand")
        assert sorted(one["code"] for one in ok(api.get(URL))["pricing_units"]) == ["credits", "gpu/tokens"]
        assert ok(api.get(f"{URL}/gpu/tokens"))["pricing_unit"] == second
        sent = {"name": "Tokens", "short_name": "TK", "description": None}
        changed = ok(api.put(f"{URL}/gpu/tokens", json={"pricing_unit": sent}))["pricing_unit"]
        assert changed == {**second, **sent}
        assert ok(api.delete(f"{URL}/gpu/tokens"))["pricing_unit"] == changed
        assert refusal(api.get(f"{URL}/gpu/tokens")) == (404, "pricing_unit_not_found")
        assert ok(api.get(URL))["meta"]["total_count"] == 1
        make_unit(api, code="gpu/tokens")

    def test_what_is_refused(self, api: httpx.Client, other: httpx.Client) -> None:
        make_unit(api)
        mandatory = ["value_is_mandatory"]
        assert problems(api.post(URL, json={"pricing_unit": {}})) == {
            "code": mandatory, "name": mandatory, "short_name": mandatory,
        }  # fmt: skip
        taken = {"code": ["value_already_exist"]}
        assert problems(api.post(URL, json={"pricing_unit": CREDITS})) == taken
        make_unit(api, code="tokens")
        assert problems(api.put(f"{URL}/tokens", json={"pricing_unit": {"code": "credits"}})) == taken
        assert problems(api.put(f"{URL}/tokens", json={"pricing_unit": {"name": ""}})) == {"name": mandatory}
        assert problems(api.post(URL, json={"pricing_unit": {**CREDITS, "code": "a//b"}})) == {
            "code": ["value_is_invalid"]
        }
        assert api.post(URL, json={}).status_code == 400
        for method in ("GET", "PUT", "DELETE"):
            answer = other.request(method, f"{URL}/credits", json={"pricing_unit": {"name": "x"}})
            assert refusal(answer) == (404, "pricing_unit_not_found")
        make_unit(other)

    def test_one_in_use_stays(self, api: httpx.Client) -> None:
        make_unit(api)
        make_plan(api, charges=[standard(make_metric(api, "calls"), **applied())])
        assert refusal(api.delete(f"{URL}/credits")) == (405, "attached_to_a_charge")
        ok(api.delete(CHARGE))
        ok(api.delete(f"{URL}/credits"))


class TestCharges:
    def test_shown_and_only_the_rate_changes(self, api: httpx.Client) -> None:
        make_unit(api)
        make_unit(api, code="tokens")
        metric = make_metric(api, "calls")
        (charge,) = make_plan(api, charges=[standard(metric, **applied(0.125))])["charges"]
        shown = {"code": "credits", "conversion_rate": "0.125"}
        assert charge["applied_pricing_unit"] == shown
        assert set_rate(api, code="tokens", conversion_rate="2") == {**shown, "conversion_rate": "2.0"}
        make_subscription(api)
        for rate, text in (("0.000000000000001", "0.000000000000001"), (1_000_000, "1000000.0"), ("1e-2", "0.01")):
            assert set_rate(api, conversion_rate=rate)["conversion_rate"] == text
        kept = {**shown, "conversion_rate": "0.01"}
        assert set_rate(api, code="tokens") == kept
        for nothing in (None, {}):
            answer = api.put(CHARGE, json={"charge": {"applied_pricing_unit": nothing}})
            assert ok(answer)["charge"]["applied_pricing_unit"] == kept
        (found,) = ok(api.get("/api/v1/plans/plan"))["plan"]["charges"]
        assert found["applied_pricing_unit"] == kept
        sent = {"plan": {"charges": [{"id": charge["lago_id"], **applied("3")}, standard(metric, **applied("4"))]}}
        changed = ok(api.put("/api/v1/plans/plan", json=sent))["plan"]["charges"]
        assert [one["applied_pricing_unit"]["conversion_rate"] for one in changed] == ["3.0", "4.0"]

    def test_a_charge_in_money_stays_in_money(self, api: httpx.Client) -> None:
        make_unit(api)
        make_plan(api, charges=[standard(make_metric(api, "calls"))])
        answer = ok(api.put(CHARGE, json={"charge": applied()}))
        assert answer["charge"]["applied_pricing_unit"] is None

    @pytest.mark.parametrize(
        ("unit", "wanted"),
        [
            ({"code": "credits"}, {"conversion_rate": ["value_is_mandatory"]}),
            ({"conversion_rate": "1"}, {"applied_pricing_unit": ["value_is_mandatory"]}),
            ({}, {"applied_pricing_unit": ["value_is_mandatory"]}),
            *(
                ({"code": "credits", "conversion_rate": rate}, {"conversion_rate": ["value_is_out_of_range"]})
                for rate in ("0", -1, "NaN", "Infinity", "1e13", "1e-16", "1.0000000000000001", "1e-99999999")
            ),
            ({"code": "credits", "conversion_rate": "much"}, {"conversion_rate": ["value_is_invalid"]}),
            ({"code": 7, "conversion_rate": "1"}, {"code": ["value_is_invalid"]}),
        ],
    )
    def test_what_is_refused(self, api: httpx.Client, unit: Json, wanted: dict[str, Sequence[str]]) -> None:
        make_unit(api)
        metric = make_metric(api, "calls")
        make_plan(api, charges=[standard(metric, **applied())])
        sent = standard(metric, applied_pricing_unit=unit)
        assert problems(api.post("/api/v1/plans/plan/charges", json={"charge": sent})) == wanted
        body = {"name": "b", "code": "b", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
        answer = api.post("/api/v1/plans", json={"plan": {**body, "pay_in_advance": False, "charges": [sent]}})
        assert problems(answer) == wanted

    def test_a_rate_is_checked_when_it_changes(self, api: httpx.Client) -> None:
        make_unit(api)
        make_plan(api, charges=[standard(make_metric(api, "calls"), **applied())])
        for rate, code in (("0", "value_is_out_of_range"), (None, "value_is_mandatory")):
            answer = api.put(CHARGE, json={"charge": {"applied_pricing_unit": {"conversion_rate": rate}}})
            assert problems(answer) == {"conversion_rate": [code]}
        assert ok(api.get(CHARGE))["charge"]["applied_pricing_unit"]["conversion_rate"] == "0.5"

    def test_an_unknown_unit(self, api: httpx.Client, other: httpx.Client) -> None:
        make_unit(other, code="theirs")
        metric = make_metric(api, "calls")
        make_plan(api)
        for code in ("none", "theirs"):
            sent = {"charge": standard(metric, **applied(code=code))}
            answer = api.post("/api/v1/plans/plan/charges", json=sent)
            assert refusal(answer) == (404, "pricing_unit_not_found")
            answer = api.put("/api/v1/plans/plan", json={"plan": {"charges": [standard(metric, **applied(code=code))]}})
            assert refusal(answer) == (404, "pricing_unit_not_found")


class TestAmounts:
    def test_fees_and_usage(self, api: httpx.Client) -> None:
        """12.345 credits are billed as 12.35, at 0.50 each."""
        set_clock(api, "2024-04-01T00:00:00Z")
        unit = make_unit(api)
        make_plan(api, charges=[standard(make_metric(api, "calls", "sum_agg"), "4.115", **applied())])
        make_subscription(api)
        send_events(api, [event("calls", value=3)])
        (used,) = usage_of(api)["charges_usage"]
        assert used["amount_cents"] == 618
        shown = {"amount_cents": 1_235, "short_name": "CR", "conversion_rate": "0.5"}
        assert used["pricing_unit_details"] == shown

        ok(api.put(f"{URL}/credits", json={"pricing_unit": {"short_name": "C"}}))
        (used,) = usage_of(api)["charges_usage"]
        assert used["pricing_unit_details"] == {**shown, "short_name": "C"}
        set_rate(api, conversion_rate="2")
        assert usage_of(api)["amount_cents"] == 2_470
        set_rate(api, conversion_rate="0.5")

        set_clock(api, "2024-05-01T00:00:00Z")
        (invoice,) = invoices_of(api)
        fee = invoice["fees"][1]
        wanted = {
            "amount_cents": 618, "amount_currency": "EUR", "precise_amount": "6.175", "precise_unit_amount": "2.0575",
            "units": "3.0",
        }  # fmt: skip
        assert {key: fee[key] for key in wanted} == wanted
        details = {
            "lago_pricing_unit_id": unit["lago_id"], "pricing_unit_code": "credits", "short_name": "C",
            "amount_cents": 1_235, "precise_amount_cents": "1234.5", "unit_amount_cents": 412,
            "precise_unit_amount": "4.115", "conversion_rate": "0.5",
        }  # fmt: skip
        assert fee["pricing_unit_details"] == details
        assert invoice["fees"][0]["pricing_unit_details"] is None
        assert invoice["fees_amount_cents"] == 618
        ok(api.put(f"{URL}/credits", json={"pricing_unit": {"short_name": "X", "code": "x"}}))
        set_rate(api, conversion_rate="9")
        assert ok(api.get(f"/api/v1/fees/{fee['lago_id']}"))["fee"] == fee

    def test_filters_and_groups_have_their_shares(self, api: httpx.Client) -> None:
        set_clock(api, "2024-04-01T00:00:00Z")
        make_unit(api)
        regions = [{"key": "region", "values": ["us", "eu"]}]
        us = [{"values": {"region": ["us"]}, "properties": {"amount": "2", "pricing_group_keys": ["team"]}}]
        charge = standard(make_metric(api, "calls", "sum_agg", filters=regions), filters=us, **applied("0.1"))
        charge["properties"]["pricing_group_keys"] = ["team"]
        make_plan(api, charges=[charge])
        make_subscription(api)
        send_events(
            api,
            [
                event("calls", value="1.111", region="us", team="a"),
                event("calls", value="1.111", region="eu", team="a"),
                event("calls", value="3", team="b"),
            ],
        )
        (used,) = usage_of(api)["charges_usage"]

        def cents(one: Json) -> tuple[int, int]:
            details = one["pricing_unit_details"]
            assert (details["short_name"], details["conversion_rate"]) == ("CR", "0.1")
            return details["amount_cents"], one["amount_cents"]

        assert cents(used) == (222 + 111 + 300, 22 + 11 + 30)
        assert [cents(one) for one in used["filters"]] == [(222, 22), (411, 41)]
        assert [cents(one) for one in used["grouped_usage"]] == [(333, 33), (300, 30)]
        assert [cents(one) for one in used["grouped_usage"][0]["filters"]] == [(222, 22), (111, 11)]

    def test_a_minimum_is_in_pricing_units(self, api: httpx.Client) -> None:
        """Of 10.00 credits 4.21 are used; 5.79 are missing, at 0.25 each."""
        set_clock(api, "2024-04-01T00:00:00Z")
        make_unit(api)
        metric = make_metric(api, "calls", "sum_agg")
        make_plan(api, charges=[standard(metric, "4.21", min_amount_cents=1_000, **applied("0.25"))])
        make_subscription(api)
        send_events(api, [event("calls", value=1)])
        set_clock(api, "2024-05-01T00:00:00Z")
        (invoice,) = invoices_of(api)
        used, missing = invoice["fees"][1:]
        assert missing["lago_true_up_parent_fee_id"] == used["lago_id"]
        assert (used["amount_cents"], missing["amount_cents"], missing["precise_amount"]) == (105, 145, "1.4475")
        wanted = {"amount_cents": 579, "precise_amount_cents": "579.0", "unit_amount_cents": 579}
        assert {key: missing["pricing_unit_details"][key] for key in wanted} == wanted
        assert missing["pricing_unit_details"]["precise_unit_amount"] == "5.79"

    def test_unit_prices_that_never_end(self, api: httpx.Client) -> None:
        """A package at 10 credits has three units: each is 3.33… credits, as precisely as prices in money are kept."""
        set_clock(api, "2024-04-01T00:00:00Z")
        make_unit(api)
        properties = {"amount": "10", "package_size": 3, "free_units": 0}
        charge = {**standard(make_metric(api, "calls", "sum_agg"), **applied("1")), "charge_model": "package"}
        make_plan(api, charges=[{**charge, "properties": properties}])
        make_subscription(api)
        send_events(api, [event("calls", value=3)])
        set_clock(api, "2024-05-01T00:00:00Z")
        (invoice,) = invoices_of(api)
        fee = invoice["fees"][1]
        assert fee["pricing_unit_details"]["precise_unit_amount"] == fee["precise_unit_amount"] == "3." + "3" * 30
        assert fee["pricing_unit_details"]["unit_amount_cents"] == 333

    def test_the_amounts_of_events_are_in_pricing_units(self, api: httpx.Client) -> None:
        """150 hundredths of a credit are 1.50, also where the plan's currency has no decimals."""
        set_clock(api, "2024-04-01T00:00:00Z")
        make_unit(api)
        charge = standard(make_metric(api, "calls", "sum_agg"), **applied("100"))
        charge |= {"charge_model": "dynamic", "properties": {}}
        make_plan(api, charges=[charge], amount_currency="JPY")
        make_subscription(api)
        send_events(api, [{**event("calls", value=1), "precise_total_amount_cents": "150"}])
        (used,) = usage_of(api)["charges_usage"]
        assert (used["amount_cents"], used["pricing_unit_details"]["amount_cents"]) == (150, 150)
