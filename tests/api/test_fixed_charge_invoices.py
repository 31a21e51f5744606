"""What fixed charges come to on invoices: at the start, at period close, at the end, and when units change."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

from tests.factories import (
    Json,
    fixed,
    invoices_of,
    make_add_on,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    set_clock,
    standard,
    usage_of,
)
from tests.support import Server

ADVANCE = {"pay_in_advance": True}
PRORATED = {"prorated": True}
NOW = {"apply_units_immediately": True}
RANGES = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "10", "flat_amount": "2"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "5", "flat_amount": "3"},
]
GRADUATED = {"charge_model": "graduated", "properties": {"graduated_ranges": RANGES}}
VOLUME = {"charge_model": "volume", "properties": {"volume_ranges": RANGES}}

Line = tuple[str, Decimal, int]


@pytest.fixture
def june(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 June 2024, a month of 30 days, with a customer and the add-ons `seat` and `desk`."""
    set_clock(api, "2024-06-01T00:00:00Z")
    make_add_on(api, "seat", name="Seat", description="To sit on")
    make_add_on(api, "desk")
    make_customer(api)
    return api


def begin(api: httpx.Client, fixed_charges: Iterable[Json], start: str | None = None, **plan: object) -> None:
    """A subscription to a plan with these fixed charges, from some day on."""
    make_plan(api, fixed_charges=fixed_charges, **plan)
    if start:
        set_clock(api, start)
    make_subscription(api)


def put_units(api: httpx.Client, units: object, code: str = "seat", subscription: str = "sub", **more: object) -> None:
    path = f"/api/v1/subscriptions/{subscription}/fixed_charges/{code}"
    ok(api.put(path, json={"fixed_charge": {"units": units, **more}}))


def put_plan_units(api: httpx.Client, units: object, code: str = "seat", **more: object) -> None:
    ok(api.put(f"/api/v1/plans/plan/fixed_charges/{code}", json={"fixed_charge": {"units": units, **more}}))


def lines(invoice: Json) -> list[Line]:
    """The fees of fixed charges on an invoice: add-on, units, cents."""
    return [
        (fee["item"]["code"], Decimal(fee["units"]), fee["amount_cents"])
        for fee in invoice["fees"]
        if fee["item"]["type"] == "fixed_charge"
    ]


def billed(api: httpx.Client) -> dict[str, list[Line]]:
    """The fees of fixed charges by the day of the invoice; an invoice without any is there too."""
    found: dict[str, list[Line]] = {}
    for invoice in invoices_of(api):
        found.setdefault(invoice["issuing_date"], []).extend(lines(invoice))
    return found


class TestPeriods:
    def test_in_arrears_a_period_is_billed_at_its_end(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10), fixed("desk", 10, **PRORATED)], "2024-06-16T09:00:00Z")
        set_clock(june, "2024-08-01T00:00:00Z")
        assert billed(june) == {
            "2024-07-01": [("seat", 10, 1_000), ("desk", 10, 500)],
            "2024-08-01": [("seat", 10, 1_000), ("desk", 10, 1_000)],
        }

    def test_in_advance_a_period_is_billed_at_its_start(self, june: httpx.Client) -> None:
        charges = [fixed("seat", 10, **ADVANCE), fixed("desk", 10, **ADVANCE, **PRORATED)]
        begin(june, charges, "2024-06-16T09:00:00Z", amount_cents=3_000)
        set_clock(june, "2024-07-31T00:00:00Z")
        assert billed(june) == {
            "2024-06-16": [("seat", 10, 1_000), ("desk", 10, 500)],
            "2024-07-01": [("seat", 10, 1_000), ("desk", 10, 1_000)],
        }
        first, second = invoices_of(june)
        assert [fee["item"]["type"] for fee in first["fees"]] == ["fixed_charge"] * 2
        assert [fee["item"]["type"] for fee in second["fees"]] == ["subscription", "fixed_charge", "fixed_charge"]

    def test_beside_a_subscription_fee_in_advance(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 2, **ADVANCE), fixed("desk", 3)], amount_cents=3_000, pay_in_advance=True)
        set_clock(june, "2024-07-01T00:00:00Z")
        first, second = invoices_of(june)
        assert [(fee["item"]["type"], fee["amount_cents"]) for fee in first["fees"]] == [
            ("subscription", 3_000), ("fixed_charge", 200),
        ]  # fmt: skip
        assert lines(second) == [("seat", 2, 200), ("desk", 3, 300)]

    def test_what_a_fee_says(self, june: httpx.Client) -> None:
        make_tax(june, "vat", "20")
        make_tax(june, "plan", "10")
        more = {"invoice_display_name": "Chairs", "tax_codes": ["vat"]}
        begin(june, [fixed("seat", 10, **more, **PRORATED), fixed("desk", 1, **ADVANCE)], "2024-06-16T09:00:00Z",
              tax_codes=["plan"])  # fmt: skip
        set_clock(june, "2024-07-01T00:00:00Z")
        start, invoice = invoices_of(june)
        seat, desk = (fee for fee in invoice["fees"] if fee["item"]["type"] == "fixed_charge")
        (on_plan, _) = ok(june.get("/api/v1/plans/plan"))["plan"]["fixed_charges"]
        wanted = {
            "lago_fixed_charge_id": on_plan["lago_id"], "lago_charge_id": None, "units": "10.0",
            "total_aggregated_units": "10.0", "amount_cents": 500, "precise_amount": "5.0",
            "precise_unit_amount": "0.5", "taxes_amount_cents": 100, "pay_in_advance": False, "invoiceable": True,
            "from_date": "2024-06-16T09:00:00Z", "to_date": "2024-06-30T23:59:59Z", "events_count": None,
        }  # fmt: skip
        assert {key: seat[key] for key in wanted} == wanted
        item = {
            "type": "fixed_charge", "code": "seat", "name": "Seat", "description": "To sit on", "item_type": "AddOn",
            "invoice_display_name": "Chairs", "lago_item_id": on_plan["lago_add_on_id"],
        }  # fmt: skip
        assert {key: seat["item"][key] for key in item} == item
        assert (desk["from_date"], desk["to_date"]) == ("2024-07-01T00:00:00Z", "2024-07-31T23:59:59Z")
        assert (desk["pay_in_advance"], desk["item"]["invoice_display_name"]) == (True, "desk")
        assert [tax["tax_code"] for fee in (seat, desk) for tax in fee["applied_taxes"]] == ["vat", "plan"]
        (period,) = invoice["billing_periods"]
        assert (period["fixed_charges_from_datetime"], period["fixed_charges_to_datetime"]) == (
            "2024-06-16T09:00:00Z", "2024-06-30T23:59:59Z",
        )  # fmt: skip
        assert start["billing_periods"][0]["invoicing_reason"] == "subscription_starting"
        assert [fee["to_date"] for fee in start["fees"]] == ["2024-06-30T23:59:59Z"]
        listed = ok(june.get("/api/v1/fees", params={"fee_type": "fixed_charge"}))["fees"]
        assert [one["lago_id"] for one in listed] == [start["fees"][0]["lago_id"], seat["lago_id"], desk["lago_id"]]

    def test_nothing_to_bill_is_no_fee(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 0, **ADVANCE), fixed("desk", 0)])
        assert invoices_of(june) == []
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-07-01": []}

    def test_free_units_are_a_fee(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 3, "0")])
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-07-01": [("seat", 3, 0)]}

    def test_models(self, june: httpx.Client) -> None:
        charges = [
            fixed(units=20, **GRADUATED),  # 100 + 50, and both flat amounts
            fixed(units=20, **GRADUATED, **PRORATED),  # half of 150, and both flat amounts
            fixed(units=20, **VOLUME),
            fixed(units=20, **VOLUME, **PRORATED),
            fixed(units=20, **GRADUATED, **ADVANCE),
        ]
        begin(june, charges, "2024-06-16T00:00:00Z")
        assert billed(june) == {"2024-06-16": [("seat", 20, 15_500)]}
        set_clock(june, "2024-07-01T00:00:00Z")
        amounts = [amount for _, _, amount in billed(june)["2024-07-01"]]
        assert amounts == [15_500, 8_000, 10_300, 5_300, 15_500]

    def test_a_start_in_the_past_is_not_billed(self, june: httpx.Client) -> None:
        make_plan(june, fixed_charges=[fixed("seat", 10, **ADVANCE), fixed("desk", 10, **PRORATED)])
        make_subscription(june, subscription_at="2024-05-16T00:00:00Z")
        assert invoices_of(june) == []
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-07-01": [("seat", 10, 1_000), ("desk", 10, 1_000)]}

    def test_a_start_in_the_future(self, june: httpx.Client) -> None:
        make_plan(june, fixed_charges=[fixed("seat", 30, **ADVANCE, **PRORATED)])
        make_subscription(june, subscription_at="2024-06-11T10:00:00Z")
        put_plan_units(june, 15)
        set_clock(june, "2024-07-02T00:00:00Z")
        assert billed(june) == {"2024-06-11": [("seat", 15, 1_000)], "2024-07-01": [("seat", 15, 1_500)]}

    def test_the_customers_days(self, june: httpx.Client) -> None:
        make_customer(june, timezone="America/New_York")
        begin(june, [fixed("seat", 30, **PRORATED)], "2024-06-16T02:00:00Z")
        set_clock(june, "2024-07-01T04:00:00Z")
        assert billed(june) == {"2024-07-01": [("seat", 30, 1_600)]}

    @pytest.mark.parametrize("timezone", ["Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
    def test_a_change_of_timezone_bills_no_day_twice(self, june: httpx.Client, timezone: str) -> None:
        begin(june, [fixed("seat", 30, **PRORATED), fixed("desk", 5, **ADVANCE)])
        set_clock(june, "2024-07-10T00:00:00Z")
        make_customer(june, timezone=timezone)
        put_units(june, 6, "desk", **NOW)
        set_clock(june, "2024-09-02T00:00:00Z")
        assert list(billed(june).values()) == [
            [("desk", 5, 500)],
            [("seat", 30, 3_000), ("desk", 5, 500)],
            [("desk", 1, 100)],
            [("seat", 30, 3_000), ("desk", 6, 600)],
            [("seat", 30, 3_000), ("desk", 6, 600)],
        ]

    def test_usage_does_not_show_them(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10)], charges=[standard(make_metric(june, "calls"))])
        usage = usage_of(june)
        assert (usage["amount_cents"], len(usage["charges_usage"])) == (0, 1)

    def test_many_subscriptions_in_one_close(self, june: httpx.Client) -> None:
        make_plan(june, fixed_charges=[fixed("seat", 1, **ADVANCE), fixed("desk", 2)])
        for number in range(30):
            make_customer(june, f"c{number}")
            make_subscription(june, f"s{number}", customer=f"c{number}")
        put_units(june, 5, "desk", "s3", **NOW)
        set_clock(june, "2024-07-01T00:00:00Z")
        found = {
            one["customer"]["external_id"]: lines(one) for one in invoices_of(june, issuing_date_from="2024-07-01")
        }
        usual = [("seat", 1, 100), ("desk", 2, 200)]
        assert found == {f"c{n}": usual if n != 3 else [("seat", 1, 100), ("desk", 5, 500)] for n in range(30)}


class TestTheEnd:
    def test_arrears_to_the_end_and_nothing_ahead(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 30), fixed("desk", 30, **PRORATED), fixed("seat", 30, **ADVANCE)])
        set_clock(june, "2024-06-10T15:00:00Z")
        put_units(june, 60, "desk", **NOW)
        set_clock(june, "2024-06-15T15:00:00Z")
        ok(june.delete("/api/v1/subscriptions/sub"))
        set_clock(june, "2024-08-01T00:00:00Z")
        # 30 units for 9 days, 60 for 6, the day of the end included.
        assert billed(june) == {
            "2024-06-01": [("seat", 30, 3_000)],
            "2024-06-15": [("seat", 30, 3_000), ("desk", 60, 2_100)],
        }
        (period,) = invoices_of(june)[-1]["billing_periods"]
        assert period["fixed_charges_to_datetime"] == "2024-06-15T15:00:00Z"

    def test_on_the_day_of_the_start(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 30), fixed("desk", 30, **PRORATED)])
        ok(june.delete("/api/v1/subscriptions/sub"))
        assert billed(june) == {"2024-06-01": [("seat", 30, 3_000), ("desk", 30, 100)]}

    def test_a_removed_one_is_not_billed_any_more(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10), fixed("desk", 10)])
        set_clock(june, "2024-06-15T00:00:00Z")
        ok(june.delete("/api/v1/plans/plan/fixed_charges/seat"))
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-07-01": [("desk", 10, 1_000)]}


class TestUnitsChange:
    def test_from_the_next_period_on(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE), fixed("desk", 10, **PRORATED)])
        set_clock(june, "2024-06-11T00:00:00Z")
        for code in ("seat", "desk"):
            put_plan_units(june, 20, code)
        set_clock(june, "2024-08-01T00:00:00Z")
        assert billed(june) == {
            "2024-06-01": [("seat", 10, 1_000)],
            "2024-07-01": [("seat", 20, 2_000), ("desk", 10, 1_000)],
            "2024-08-01": [("seat", 20, 2_000), ("desk", 20, 2_000)],
        }

    def test_more_at_once_bills_what_is_more(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE), fixed("desk", 10, **ADVANCE, **PRORATED)], amount_cents=3_000)
        set_clock(june, "2024-06-11T13:00:00Z")
        for code in ("seat", "desk"):
            put_units(june, 25, code, **NOW)
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {
            "2024-06-01": [("seat", 10, 1_000), ("desk", 10, 1_000)],
            "2024-06-11": [("seat", 15, 1_500), ("desk", 15, 1_000)],  # desks for 20 of 30 days
            "2024-07-01": [("seat", 25, 2_500), ("desk", 25, 2_500)],
        }
        between = invoices_of(june)[1]
        (period,) = between["billing_periods"]
        assert (between["invoice_type"], period["invoicing_reason"]) == ("subscription", "in_advance_charge")
        assert (period["fixed_charges_from_datetime"], period["fixed_charges_to_datetime"]) == (
            "2024-06-01T00:00:00Z", "2024-06-30T23:59:59Z",
        )  # fmt: skip
        (fee,) = between["fees"]
        assert (fee["from_date"], fee["to_date"]) == ("2024-06-01T00:00:00Z", "2024-06-30T23:59:59Z")

    def test_less_at_once_bills_nothing_and_is_kept(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE)])
        for day, units in ((5, 4), (10, 8), (15, 10), (20, 13), (25, 2)):
            set_clock(june, f"2024-06-{day:02}T00:00:00Z")
            put_units(june, units, **NOW)
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {
            "2024-06-01": [("seat", 10, 1_000)],
            "2024-06-05": [], "2024-06-10": [], "2024-06-15": [], "2024-06-20": [("seat", 3, 300)], "2024-06-25": [],
            "2024-07-01": [("seat", 2, 200)],
        }  # fmt: skip

    def test_an_empty_invoice_only_for_those_who_want_it(self, june: httpx.Client) -> None:
        make_customer(june, finalize_zero_amount_invoice="skip")
        begin(june, [fixed("seat", 10, **ADVANCE)])
        put_units(june, 4, **NOW)
        assert list(billed(june).values()) == [[("seat", 10, 1_000)]]

    def test_in_arrears_at_once(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10), fixed("desk", 10, **PRORATED)])
        set_clock(june, "2024-06-11T23:00:00Z")
        for code in ("seat", "desk"):
            put_plan_units(june, 25, code, **NOW)
        assert invoices_of(june) == []
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-07-01": [("seat", 25, 2_500), ("desk", 25, 2_000)]}

    def test_several_times_at_one_instant(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE), fixed("desk", 10)])
        for units in (12, 11, 15):
            put_units(june, units, **NOW)
            put_units(june, units, "desk", **NOW)
        set_clock(june, "2024-07-01T00:00:00Z")
        assert [lines(one) for one in invoices_of(june)] == [
            [("seat", 10, 1_000)], [("seat", 2, 200)], [], [("seat", 3, 300)],
            [("seat", 15, 1_500), ("desk", 15, 1_500)],
        ]  # fmt: skip

    def test_what_was_planned_is_superseded(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE)])
        put_units(june, 50)
        put_units(june, 12, **NOW)
        put_units(june, 12)  # so it is already: nothing changes
        set_clock(june, "2024-07-01T00:00:00Z")
        put_units(june, 20)
        put_units(june, 12, **NOW)  # what is planned falls away, and an invoice of 0 says so
        set_clock(june, "2024-08-01T00:00:00Z")
        assert billed(june) == {
            "2024-06-01": [("seat", 10, 1_000), ("seat", 2, 200)],
            "2024-07-01": [("seat", 12, 1_200)],
            "2024-08-01": [("seat", 12, 1_200)],
        }

    def test_the_plans_units_sent_again_at_once(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE)])
        put_plan_units(june, 15)
        make_subscription(june, "starts with 15")
        put_plan_units(june, 15, **NOW)
        put_plan_units(june, 15, **NOW)
        assert [lines(one) for one in invoices_of(june)] == [[("seat", 10, 1_000)], [("seat", 15, 1_500)],
                                                             [("seat", 5, 500)]]  # fmt: skip

    def test_graduated_units_cost_what_they_add(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 8, **GRADUATED, **ADVANCE)])
        for units in (9, 10, 12, 5, 20):
            put_units(june, units, **NOW)
        found = [line for one in invoices_of(june) for line in lines(one)]
        assert found == [("seat", 8, 8_200), ("seat", 1, 1_000), ("seat", 1, 1_000), ("seat", 2, 1_300),
                         ("seat", 8, 4_000)]  # fmt: skip
        assert sum(amount for _, _, amount in found) == 15_500

    def test_graduated_units_by_the_day(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **GRADUATED, **PRORATED)])
        for day, units in ((11, 20), (21, 0)):
            set_clock(june, f"2024-06-{day}T12:00:00Z")
            put_units(june, units, **NOW)
        set_clock(june, "2024-07-01T00:00:00Z")
        # 10 at 10 for 20 days, 10 more at 5 for 10 days, and both flat amounts; none are left at the end.
        assert billed(june) == {"2024-07-01": [("seat", 0, 8_833)]}

    def test_a_new_one(self, june: httpx.Client) -> None:
        begin(june, [])
        set_clock(june, "2024-06-21T00:00:00Z")
        charges = [
            fixed("seat", 30, code="now", **ADVANCE, **PRORATED, **NOW),
            fixed("seat", 30, code="later", **ADVANCE, **PRORATED),
            fixed("desk", 30, code="now in arrears", **PRORATED, **NOW),
            fixed("desk", 30, code="later in arrears", **PRORATED),
        ]
        ok(june.put("/api/v1/plans/plan", json={"plan": {"fixed_charges": charges}}))
        set_clock(june, "2024-08-01T00:00:00Z")
        assert billed(june) == {
            "2024-06-21": [("seat", 30, 1_000)],
            "2024-07-01": [("seat", 30, 3_000), ("seat", 30, 3_000), ("desk", 30, 1_000)],
            "2024-08-01": [("seat", 30, 3_000), ("seat", 30, 3_000), ("desk", 30, 3_000), ("desk", 30, 3_000)],
        }

    def test_all_subscriptions_of_a_plan(self, june: httpx.Client) -> None:
        make_plan(june, fixed_charges=[fixed("seat", 10, **ADVANCE)])
        make_customer(june, "another")
        for number in range(3):
            make_subscription(june, f"a{number}")
        make_subscription(june, "own", "plan", "another")
        make_subscription(june, "ended", "plan", "another")
        ok(june.delete("/api/v1/subscriptions/ended"))
        put_units(june, 3, subscription="own")
        set_clock(june, "2024-06-10T00:00:00Z")
        put_plan_units(june, 12, **NOW)
        (invoice,) = invoices_of(june, issuing_date_from="2024-06-10")
        assert invoice["customer"]["external_id"] == "customer"
        assert sorted(fee["external_subscription_id"] for fee in invoice["fees"]) == ["a0", "a1", "a2"]
        assert lines(invoice) == [("seat", 2, 200)] * 3

    def test_a_new_price_is_not_billed_at_once(self, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE)])
        path = "/api/v1/plans/plan/fixed_charges/seat"
        ok(june.put(path, json={"fixed_charge": {"properties": {"amount": "2"}, **NOW}}))
        set_clock(june, "2024-07-01T00:00:00Z")
        assert billed(june) == {"2024-06-01": [("seat", 10, 1_000)], "2024-07-01": [("seat", 10, 2_000)]}

    def test_many_at_once_add_up_to_the_most(self, server: Server, june: httpx.Client) -> None:
        begin(june, [fixed("seat", 10, **ADVANCE)])
        key = june.headers["Authorization"].removeprefix("Bearer ")

        def raise_to(units: int) -> None:
            with server.client(key) as client:
                put_units(client, units, **NOW)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(raise_to, range(11, 27)))
        found = [line for one in invoices_of(june) for line in lines(one)]
        assert sum(units for _, units, _ in found) == 26
        assert sum(amount for _, _, amount in found) == 2_600
