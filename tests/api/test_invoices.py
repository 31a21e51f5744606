"""`/api/v1/invoices`: what closes produce, how it is numbered, found, and changed."""

from decimal import Decimal

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
    make_tax,
    ok,
    problems,
    refusal,
    send_events,
    set_clock,
    standard,
)

URL = "/api/v1/invoices"
LISTED = {
    "lago_id", "billing_entity_code", "sequential_id", "number", "purchase_order_number", "issuing_date",
    "payment_due_date", "net_payment_term", "invoice_type", "status", "payment_status", "payment_dispute_lost_at",
    "payment_overdue", "currency", "fees_amount_cents", "taxes_amount_cents",
    "progressive_billing_credit_amount_cents", "coupons_amount_cents", "credit_notes_amount_cents",
    "sub_total_excluding_taxes_amount_cents", "sub_total_including_taxes_amount_cents", "total_amount_cents",
    "total_due_amount_cents", "total_paid_amount_cents", "total_offsetted_credit_note_amount_cents",
    "prepaid_credit_amount_cents", "prepaid_granted_credit_amount_cents", "prepaid_purchased_credit_amount_cents",
    "file_url", "xml_url", "web_url", "version_number", "self_billed", "created_at", "updated_at", "voided_at",
    "customer", "metadata", "applied_taxes", "applied_usage_thresholds",
}  # fmt: skip
WHOLE = LISTED | {
    "billing_periods", "subscriptions", "fees", "credits", "error_details", "applied_invoice_custom_sections",
}  # fmt: skip
NOON = 1_715_342_400


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    """A sandbox on 1 May 2024 with a plan at 31.00 a month in arrears."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, amount_cents=3_100)
    return api


def check_sums(invoice: Json) -> None:
    """Every total can be recomputed from the lines."""
    fees = sum(fee["amount_cents"] for fee in invoice["fees"])
    assert invoice["fees_amount_cents"] == invoice["sub_total_excluding_taxes_amount_cents"] == fees
    total = fees + invoice["taxes_amount_cents"]
    assert invoice["sub_total_including_taxes_amount_cents"] == invoice["total_amount_cents"] == total
    exact = sum(
        Decimal(fee["amount_cents"]) * Decimal(str(tax["tax_rate"])) / 100
        for fee in invoice["fees"]
        for tax in fee["applied_taxes"]
    )
    assert abs(exact - invoice["taxes_amount_cents"]) <= Decimal("0.5")


def amounts(invoice: Json) -> list[tuple[str, int]]:
    return [(fee["item"]["type"], fee["amount_cents"]) for fee in invoice["fees"]]


def listed(api: httpx.Client, path: str = URL, **query: object) -> list[str]:
    """The numbers of the invoices found, by customer and count."""
    found = ok(api.get(path, params=query))["invoices"]  # type: ignore[arg-type]
    return [f"{one['customer']['external_id']}{one['sequential_id']}" for one in found]


class TestClose:
    def test_in_arrears(self, may: httpx.Client) -> None:
        make_tax(may, "vat", "20")
        charges = [standard(make_metric(may, "calls"), "0.333"), standard(make_metric(may, "unused"))]
        make_plan(may, "metered", charges, amount_cents=3_100, tax_codes=["vat"])
        make_customer(may, net_payment_term=14, name="Acme")
        make_subscription(may, plan="metered")
        send_events(may, [event("calls", "sub", NOON + each) for each in range(4)])
        set_clock(may, "2024-06-01T00:00:00Z")
        (invoice,) = invoices_of(may)
        assert invoice.keys() == WHOLE
        assert ok(may.get(URL))["invoices"][0] == {key: invoice[key] for key in LISTED}
        wanted = {
            "invoice_type": "subscription", "status": "finalized", "payment_status": "pending", "currency": "EUR",
            "sequential_id": 1, "issuing_date": "2024-06-01", "payment_due_date": "2024-06-15", "net_payment_term": 14,
            "fees_amount_cents": 3_233, "taxes_amount_cents": 647, "total_amount_cents": 3_880,
            "total_due_amount_cents": 3_880, "payment_overdue": False,
        }  # fmt: skip
        assert {key: invoice[key] for key in wanted} == wanted
        prefix = ok(may.get("/api/v1/organizations"))["organization"]["document_number_prefix"]
        assert invoice["number"] == f"{prefix}-001-001"
        check_sums(invoice)
        (tax,) = invoice["applied_taxes"]
        assert (tax["tax_code"], tax["amount_cents"], tax["fees_amount_cents"]) == ("vat", 647, 3_233)
        (period,) = invoice["billing_periods"]
        assert {key: period[key] for key in period if key.endswith("datetime")} == {
            "subscription_from_datetime": "2024-05-01T00:00:00Z", "subscription_to_datetime": "2024-05-31T23:59:59Z",
            "charges_from_datetime": "2024-05-01T00:00:00Z", "charges_to_datetime": "2024-05-31T23:59:59Z",
            "fixed_charges_from_datetime": "2024-05-01T00:00:00Z", "fixed_charges_to_datetime": "2024-05-31T23:59:59Z",
        }  # fmt: skip
        assert [one["external_id"] for one in invoice["subscriptions"]] == ["sub"]

    def test_usage_is_found_whatever_the_subscriptions_are_called(self, may: httpx.Client) -> None:
        make_plan(may, "metered", [standard(make_metric(may, "bytes", "sum_agg"))])
        awkward = ("'", "`", "\\", '"', "\t", "\n", "\\n", "é{}")
        names = [f"{number}{text}" * 60 for number, text in enumerate(awkward)]
        for name in names:
            make_subscription(may, name, plan="metered", customer=name)
        send_events(may, [event("bytes", name, NOON, value=place + 1) for place, name in enumerate(names)])
        set_clock(may, "2024-06-01T00:00:00Z")
        found = {one["customer"]["external_id"]: one for one in invoices_of(may)}
        units = {name: [Decimal(fee["units"]) for fee in one["fees"][1:]] for name, one in found.items()}
        assert units == {name: [place + 1] for place, name in enumerate(names)}

    def test_in_advance(self, may: httpx.Client) -> None:
        metric = make_metric(may, "calls")
        make_plan(may, "advance", [standard(metric)], amount_cents=3_100, pay_in_advance=True)
        set_clock(may, "2024-05-10T12:00:00Z")
        make_subscription(may, plan="advance")
        (first,) = invoices_of(may)
        assert amounts(first) == [("subscription", 2_200)]
        assert first["billing_periods"][0]["invoicing_reason"] == "subscription_starting"
        assert first["issuing_date"] == "2024-05-10"
        send_events(may, [event("calls", "sub", NOON + 1 + each) for each in range(2)])
        set_clock(may, "2024-06-01T00:00:00Z")
        _, second = invoices_of(may)
        assert amounts(second) == [("subscription", 3_100), ("charge", 200)]
        period = second["billing_periods"][0]
        assert (period["subscription_from_datetime"], period["charges_from_datetime"]) == (
            "2024-06-01T00:00:00Z", "2024-05-10T12:00:00Z",
        )  # fmt: skip

    def test_many_months_in_one_step_of_the_clock(self, may: httpx.Client) -> None:
        make_subscription(may)
        set_clock(may, "2025-05-01T00:00:00Z")
        invoices = invoices_of(may)
        assert [one["sequential_id"] for one in invoices] == list(range(1, 13))
        assert [one["issuing_date"] for one in invoices][:3] == ["2024-06-01", "2024-07-01", "2024-08-01"]
        assert [one["created_at"] for one in invoices][-1] == "2025-05-01T00:00:00Z"
        assert {one["total_amount_cents"] for one in invoices} == {3_100}

    def test_two_subscriptions_on_one_invoice(self, may: httpx.Client) -> None:
        make_plan(may, "second", amount_cents=1_000)
        make_plan(may, "dollars", amount_cents=500, amount_currency="EUR")
        for external_id, plan, more in (
            ("a", "plan", {}),
            ("b", "second", {}),
            ("c", "dollars", {"consolidate_invoice": False}),
            ("d", "plan", {"purchase_order_number": "7"}),
        ):
            make_subscription(may, external_id, plan, **more)  # type: ignore[arg-type]
        set_clock(may, "2024-06-01T00:00:00Z")
        together = sorted(
            (sorted(one["external_id"] for one in invoice["subscriptions"]), invoice["total_amount_cents"])
            for invoice in invoices_of(may)
        )
        assert together == [(["a", "b"], 4_100), (["c"], 500), (["d"], 3_100)]
        assert sorted(one["sequential_id"] for one in invoices_of(may)) == [1, 2, 3]

    def test_numbers_of_each_customer(self, may: httpx.Client) -> None:
        for customer in ("x", "y"):
            make_subscription(may, f"sub-{customer}", customer=customer)
        set_clock(may, "2024-08-01T00:00:00Z")
        found = invoices_of(may)
        assert [(one["customer"]["external_id"], one["sequential_id"]) for one in found] == [
            (customer, number) for customer in ("x", "y") for number in (1, 2, 3)
        ]
        assert len({one["number"] for one in found}) == 6
        assert [one["number"].rsplit("-", 2)[1:] for one in found if one["customer"]["external_id"] == "y"] == [
            ["002", "001"], ["002", "002"], ["002", "003"],
        ]  # fmt: skip

    def test_a_zero_amount_invoice_by_the_customers_choice(self, may: httpx.Client) -> None:
        make_plan(may, "free")
        make_customer(may, "quiet", finalize_zero_amount_invoice="skip")
        for customer in ("quiet", "loud"):
            make_subscription(may, f"sub-{customer}", "free", customer)
        set_clock(may, "2024-06-01T00:00:00Z")
        (invoice,) = invoices_of(may)
        assert (invoice["customer"]["external_id"], invoice["payment_status"]) == ("loud", "succeeded")

    @pytest.mark.parametrize(
        ("currency", "price", "amount", "unit"),
        [
            ("JPY", "10.4", 31, "10.4"),
            ("KWD", "0.0015", 5, "0.0015"),
            ("EUR", "0.005", 2, "0.005"),
            ("USD", "1", 300, "1.0"),
        ],
    )
    def test_currencies(self, may: httpx.Client, currency: str, price: str, amount: int, unit: str) -> None:
        charges = [standard(make_metric(may, "calls"), price)]
        make_plan(may, "foreign", charges, amount_cents=1_001, amount_currency=currency)
        make_subscription(may, plan="foreign")
        send_events(may, [event("calls", "sub", NOON + each) for each in range(3)])
        set_clock(may, "2024-06-01T00:00:00Z")
        (invoice,) = invoices_of(may)
        subscription, charge = invoice["fees"]
        exponent = {"JPY": 0, "KWD": 3}.get(currency, 2)
        assert (invoice["currency"], charge["amount_currency"]) == (currency, currency)
        assert (subscription["amount_cents"], charge["amount_cents"]) == (1_001, amount)
        assert Decimal(subscription["precise_amount"]) == Decimal(1_001).scaleb(-exponent)
        assert Decimal(charge["precise_amount"]) == 3 * Decimal(price)
        assert Decimal(charge["precise_unit_amount"]) == Decimal(unit)
        check_sums(invoice)


@pytest.fixture
def two(may: httpx.Client) -> httpx.Client:
    """Two customers: `a` with invoices of June and July, `b` with one of 10.00 in July."""
    make_customer(may, "a", name="Alpha 100%", email="a@x.org")
    make_subscription(may, "sa", customer="a")
    set_clock(may, "2024-06-01T00:00:00Z")
    make_plan(may, "second", amount_cents=1_000, amount_currency="USD")
    make_subscription(may, "sb", "second", "b", purchase_order_number="order 9")
    set_clock(may, "2024-07-01T00:00:00Z")
    return may


class TestFind:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, ["a1", "a2", "b1"]),
            ({"external_customer_id": "a"}, ["a1", "a2"]),
            ({"external_customer_id": "none"}, []),
            ({"amount_from": 1_001}, ["a1", "a2"]),
            ({"amount_to": 1_000}, ["b1"]),
            ({"issuing_date_from": "2024-06-02"}, ["a2", "b1"]),
            ({"issuing_date_to": "2024-06-01"}, ["a1"]),
            ({"currency": "USD"}, ["b1"]),
            ({"status": "finalized"}, ["a1", "a2", "b1"]),
            ({"statuses[]": ["voided", "draft"]}, []),
            ({"payment_status": "succeeded"}, []),
            ({"payment_statuses[]": ["pending"]}, ["a1", "a2", "b1"]),
            ({"invoice_type": "one_off"}, []),
            ({"payment_overdue": "true"}, ["a1"]),
            ({"search_term": "100%"}, ["a1", "a2"]),
            ({"search_term": "%"}, ["a1", "a2"]),
            ({"search_term": "A@X"}, ["a1", "a2"]),
            ({"search_term": "-002-001"}, ["b1"]),
            ({"purchase_order_number": "order 9"}, ["b1"]),
            ({"billing_entity_codes[]": ["elsewhere"]}, []),
            ({"self_billed": "true"}, []),
        ],
    )
    def test_filters(self, two: httpx.Client, query: dict[str, object], found: list[str]) -> None:
        assert sorted(listed(two, **query)) == found

    def test_order_pages_and_one_customer(self, two: httpx.Client) -> None:
        assert listed(two)[-1] == "a1"
        meta = ok(two.get(URL, params={"per_page": 2}))["meta"]
        assert meta == {"current_page": 1, "next_page": 2, "prev_page": None, "total_pages": 2, "total_count": 3}
        assert listed(two, "/api/v1/customers/a/invoices") == ["a2", "a1"]
        for name in ("self_billed", "payment_dispute_lost", "partially_paid"):
            assert listed(two, "/api/v1/customers/a/invoices", **{name: "true"}) == []
            assert listed(two, "/api/v1/customers/a/invoices", **{name: "false"}) == ["a2", "a1"]
        assert refusal(two.get("/api/v1/customers/none/invoices")) == (404, "customer_not_found")
        assert problems(two.get(URL, params={"status": "odd"})) == {"status": ["value_is_invalid"]}

    def test_another_organizations(self, two: httpx.Client, other: httpx.Client) -> None:
        path = f"{URL}/{invoices_of(two)[0]['lago_id']}"
        assert refusal(other.get(path)) == (404, "invoice_not_found")
        assert refusal(other.put(path, json={"invoice": {}})) == (404, "invoice_not_found")
        assert refusal(two.get(f"{URL}/none")) == (404, "invoice_not_found")
        assert listed(other) == []


class TestChange:
    def test_payment_status(self, two: httpx.Client) -> None:
        path = f"{URL}/{invoices_of(two, 'b')[0]['lago_id']}"
        for status, field in (("succeeded", "succeeded_at"), ("failed", "failed_at"), ("pending", None)):
            changed = ok(two.put(path, json={"invoice": {"payment_status": status}}))["invoice"]
            assert changed["payment_status"] == status
            for fee in changed["fees"]:
                set_ones = {name for name in ("succeeded_at", "failed_at", "refunded_at") if fee[name]}
                assert (fee["payment_status"], set_ones) == (status, {field} - {None})
            assert ok(two.get(path))["invoice"] == changed
        for wrong in ("paid", None):
            sent = {"invoice": {"payment_status": wrong}}
            assert problems(two.put(path, json=sent)) == {"payment_status": ["value_is_invalid"]}

    def test_metadata(self, two: httpx.Client) -> None:
        path = f"{URL}/{invoices_of(two, 'b')[0]['lago_id']}"

        def put(*entries: Json) -> httpx.Response:
            return two.put(path, json={"invoice": {"metadata": list(entries)}})

        made = ok(put({"key": "color", "value": "red"}, {"key": "size", "value": "x" * 140}))["invoice"]["metadata"]
        assert {one["key"]: one["value"] for one in made} == {"color": "red", "size": "x" * 140}
        assert listed(two, **{"metadata[color]": "red"}) == ["b1"]
        assert sorted(listed(two, **{"metadata[color]": ""})) == ["a1", "a2"]
        color = next(one for one in made if one["key"] == "color")
        (kept,) = ok(put({"id": color["lago_id"], "key": "color", "value": "blue"}))["invoice"]["metadata"]
        assert kept == {**color, "value": "blue"}
        assert problems(put({"key": "k", "value": "x" * 141})) == {"value": ["value_is_too_long"]}
        assert problems(put({"value": "v"})) == {"key": ["value_is_mandatory"]}
        six = [{"key": str(number), "value": "v"} for number in range(6)]
        assert problems(put(*six)) == {"metadata": ["invalid_count"]}
        assert ok(two.get(path))["invoice"]["metadata"] == [kept]
        assert ok(put())["invoice"]["metadata"] == []
