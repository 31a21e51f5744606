"""What coupons take of invoices and their fees, and what is given back of these by credit notes."""

from collections.abc import Iterable

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    fixed,
    give_coupon,
    invoices_of,
    make_add_on,
    make_coupon,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    send_events,
    set_clock,
    standard,
)

APPLIED, NOTES = "/api/v1/applied_coupons", "/api/v1/credit_notes"
NEXT = "2024-06-01T01:00:00Z"


def subscribed(api: httpx.Client, **plan: object) -> None:
    """A customer who pays 100.00 for May afterwards, unless told otherwise."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    make_plan(api, **{"amount_cents": 10_000, **plan})
    make_subscription(api)


def give_new(api: httpx.Client, code: str, **fields: object) -> Json:
    make_coupon(api, code, **fields)
    return give_coupon(api, code)


def coupons_of(invoice: Json) -> list[tuple[str, int]]:
    """Codes of the coupons that lowered an invoice, and by how much."""
    return [(one["item"]["code"], one["amount_cents"]) for one in invoice["credits"] if one["item"]["type"] == "coupon"]


def by_item(invoice: Json, field: str) -> Json:
    return {fee["item"]["code"]: fee[field] for fee in invoice["fees"]}


def applied(api: httpx.Client, code: str) -> Json:
    (one,) = ok(api.get(APPLIED, params={"coupon_code[]": code}))["applied_coupons"]
    found: Json = one
    return found


def taken(api: httpx.Client, months: Iterable[str]) -> list[int]:
    """What coupons took of the invoices made until these instants."""
    for now in months:
        set_clock(api, now)
    return [one["coupons_amount_cents"] for one in invoices_of(api)]


MONTHS = [f"2024-{month:02d}-01T01:00:00Z" for month in range(6, 10)]


class TestTotals:
    def test_worked_example(self, api: httpx.Client) -> None:
        make_tax(api, "vat", "20", applied_to_organization=True)
        metrics = {code: make_metric(api, code, "sum_agg") for code in ("large", "small")}
        subscribed(api, charges=[standard(metric, "0.01") for metric in metrics.values()])
        make_plan(api, "before", amount_cents=417, pay_in_advance=True)
        make_subscription(api, "first", "before")
        (first,) = invoices_of(api)
        item = {"fee_id": first["fees"][0]["lago_id"], "amount_cents": 417}
        note = {"invoice_id": first["lago_id"], "credit_amount_cents": 500, "items": [item]}
        ok(api.post(NOTES, json={"credit_note": note}))
        ok(api.delete("/api/v1/subscriptions/first"))
        give_new(api, "fifteen", percentage_rate=15, description="d")
        give_new(api, "five")
        send_events(api, [event("large", timestamp=1_715_342_400, value=3_333)])
        send_events(api, [event("small", timestamp=1_715_342_400, value=667)])
        set_clock(api, NEXT)
        invoice = invoices_of(api)[-1]
        wanted = {
            "fees_amount_cents": 14_000, "coupons_amount_cents": 2_600, "sub_total_excluding_taxes_amount_cents": 11_400,
            "taxes_amount_cents": 2_280, "sub_total_including_taxes_amount_cents": 13_680, "credit_notes_amount_cents": 500,
            "total_amount_cents": 13_180, "total_due_amount_cents": 13_180, "payment_status": "pending",
        }  # fmt: skip
        assert {key: invoice[key] for key in wanted} == wanted
        assert coupons_of(invoice) == [("fifteen", 2_100), ("five", 500)]
        credit, *_, last = invoice["credits"]
        assert (credit["before_taxes"], credit["amount_currency"]) == (True, "EUR")
        assert credit["item"] == {
            "lago_item_id": applied(api, "fifteen")["lago_coupon_id"], "type": "coupon", "code": "fifteen",
            "name": "fifteen", "description": "d",
        }  # fmt: skip
        assert credit["invoice"] == {"lago_id": invoice["lago_id"], "payment_status": "pending"}
        assert (last["item"]["type"], last["before_taxes"]) == ("credit_note", False)
        assert by_item(invoice, "precise_coupons_amount_cents") == {
            "plan": "1857.14286", "large": "618.98571", "small": "123.87143"
        }  # fmt: skip
        assert by_item(invoice, "amount_cents") == {"plan": 10_000, "large": 3_333, "small": 667}
        assert by_item(invoice, "taxes_amount_cents") == {"plan": 1_629, "large": 543, "small": 109}
        assert by_item(invoice, "sub_total_excluding_taxes_amount_cents") == {
            "plan": 8_143,
            "large": 2_714,
            "small": 543,
        }
        precise = by_item(invoice, "sub_total_excluding_taxes_precise_amount_cents")
        assert precise == {"plan": "8142.85714", "large": "2714.01429", "small": "543.12857"}
        assert by_item(invoice, "total_amount_cents") == {"plan": 11_629, "large": 3_876, "small": 776}
        (tax,) = invoice["applied_taxes"]
        assert (tax["fees_amount_cents"], tax["amount_cents"]) == (11_400, 2_280)
        assert applied(api, "five")["credits"] == [one for one in invoice["credits"] if one["item"]["code"] == "five"]

    def test_explained(self, api: httpx.Client) -> None:
        make_tax(api, "vat", "20", applied_to_organization=True)
        subscribed(api)
        give_new(api, "rate", percentage_rate="33.33")
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        (fee,) = invoice["fees"]
        told = ok(api.get(f"/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]
        assert (told["amount_cents"], told["precise_coupons_amount_cents"]) == (10_000, "3333.0")
        assert told["sentences"][-3:] == [
            "Less €33.33 for coupons: €66.67 is left.", "vat: 20% of €66.67 = €13.33.", "With taxes: €80.00.",
        ]  # fmt: skip
        assert invoice["total_amount_cents"] == 8_000

    @pytest.mark.parametrize(
        ("currency", "amount", "rate"), [("JPY", 999, 333), ("EUR", 99_900, 1), ("KWD", 99_999, 1)]
    )
    def test_in_minor_units_of_any_currency(self, api: httpx.Client, currency: str, amount: int, rate: int) -> None:
        subscribed(api, amount_cents=amount, amount_currency=currency)
        give_new(api, "amount", amount_cents=rate, amount_currency=currency, frequency="forever")
        give_new(api, "rate", percentage_rate="50", frequency="forever")
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        half = (amount - rate + 1) // 2
        assert coupons_of(invoice) == [("amount", rate), ("rate", half)]
        assert invoice["total_amount_cents"] == amount - rate - half
        assert {one["amount_currency"] for one in invoice["credits"]} == {currency}

    def test_one_brought_to_nothing_is_paid_and_kept(self, api: httpx.Client) -> None:
        subscribed(api)
        ok(api.put("/api/v1/organizations", json={"organization": {"finalize_zero_amount_invoice": False}}))
        give_new(api, "all", percentage_rate=100)
        give_new(api, "unused")
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        assert (invoice["coupons_amount_cents"], invoice["total_amount_cents"]) == (10_000, 0)
        assert (invoice["status"], invoice["payment_status"]) == ("finalized", "succeeded")
        assert applied(api, "all")["status"] == "terminated"
        assert (applied(api, "unused")["status"], applied(api, "unused")["amount_cents_remaining"]) == ("active", 500)

    def test_an_invoice_of_nothing_uses_none(self, api: httpx.Client) -> None:
        subscribed(api, amount_cents=0)
        give_new(api, "rate", percentage_rate=50)
        give_new(api, "three", frequency="recurring", frequency_duration=3)
        set_clock(api, NEXT)
        assert [(one["status"], coupons_of(one)) for one in invoices_of(api)] == [("finalized", [])]
        assert applied(api, "rate")["status"] == "active"
        assert applied(api, "three")["frequency_duration_remaining"] == 3


class TestLife:
    def test_a_percentage_once_lowers_one_invoice(self, api: httpx.Client) -> None:
        subscribed(api)
        give_new(api, "rate", percentage_rate=10)
        assert taken(api, MONTHS[:2]) == [1_000, 0]
        ended = applied(api, "rate")
        assert (ended["status"], ended["terminated_at"], ended["amount_cents_remaining"]) == (
            "terminated", "2024-06-01T00:00:00Z", None
        )  # fmt: skip

    def test_an_amount_once_is_spent_bit_by_bit(self, api: httpx.Client) -> None:
        subscribed(api)
        given = give_new(api, "amount", amount_cents=25_000)
        left = []
        for month in MONTHS:
            set_clock(api, month)
            left.append((applied(api, "amount")["amount_cents_remaining"], applied(api, "amount")["status"]))
        assert left == [(15_000, "active"), (5_000, "active"), (0, "terminated"), (0, "terminated")]
        assert [one["coupons_amount_cents"] for one in invoices_of(api)] == [10_000, 10_000, 5_000, 0]
        assert given["amount_cents_remaining"] == 25_000
        assert [one["amount_cents"] for one in applied(api, "amount")["credits"]] == [10_000, 10_000, 5_000]

    def test_a_recurring_one_lowers_so_many_invoices_in_full(self, api: httpx.Client) -> None:
        subscribed(api)
        give_new(api, "twice", amount_cents=7_000, frequency="recurring", frequency_duration=2)
        assert taken(api, MONTHS[:1]) == [7_000]
        assert applied(api, "twice")["frequency_duration_remaining"] == 1
        assert taken(api, MONTHS[1:]) == [7_000, 7_000, 0, 0]
        ended = applied(api, "twice")
        assert (ended["status"], ended["frequency_duration"], ended["frequency_duration_remaining"]) == (
            "terminated",
            2,
            0,
        )

    def test_one_for_ever_goes_on_until_it_is_taken_away(self, api: httpx.Client) -> None:
        subscribed(api)
        given = give_new(api, "ever", frequency="forever")
        assert taken(api, MONTHS[:2]) == [500, 500]
        ok(api.delete(f"/api/v1/customers/customer/applied_coupons/{given['lago_id']}"))
        assert taken(api, MONTHS[2:]) == [500, 500, 0, 0]

    def test_the_same_one_twice_takes_twice_in_the_order_given(self, api: httpx.Client) -> None:
        subscribed(api, amount_cents=1_200)
        for code in "cba":
            make_coupon(api, code)
        for code in "abcabc":
            give_coupon(api, code)
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        assert coupons_of(invoice) == [("a", 500), ("b", 500), ("c", 200)]

    def test_several_invoices_at_once_share_one(self, api: httpx.Client) -> None:
        subscribed(api)
        make_subscription(api, "alone", consolidate_invoice=False)
        make_subscription(api, "also alone", consolidate_invoice=False)
        give_new(api, "amount", amount_cents=15_000)
        give_new(api, "twice", percentage_rate=50, frequency="recurring", frequency_duration=2)
        set_clock(api, NEXT)
        assert [coupons_of(one) for one in invoices_of(api)] == [
            [("amount", 10_000)], [("amount", 5_000), ("twice", 2_500)], [("twice", 5_000)]
        ]  # fmt: skip
        assert applied(api, "twice")["status"] == "terminated"


class TestLimits:
    def test_metrics_then_plans_then_all(self, api: httpx.Client) -> None:
        calls = make_metric(api, "calls", "sum_agg")
        storage = make_metric(api, "storage", "sum_agg")
        make_add_on(api)
        subscribed(api, charges=[standard(calls), standard(storage, min_amount_cents=5_000)], fixed_charges=[fixed()])
        make_plan(api, "other", amount_cents=2_000)
        make_subscription(api, "second", "other")
        send_events(api, [event("calls", timestamp=1_715_342_400, value=30)])
        give_new(api, "all", amount_cents=100)
        give_new(api, "on plan", percentage_rate=10, applies_to={"plan_codes": ["other"]})
        give_new(api, "on storage", percentage_rate=50, applies_to={"billable_metric_codes": ["storage"]})
        give_new(api, "on calls", amount_cents=99_999, applies_to={"billable_metric_codes": ["calls"]})
        make_metric(api, "unused")
        give_new(api, "on nothing", applies_to={"billable_metric_codes": ["unused"]})
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        assert coupons_of(invoice) == [("on storage", 2_500), ("on calls", 3_000), ("on plan", 200), ("all", 100)]
        left = sum(fee["amount_cents"] for fee in invoice["fees"]) - 5_700
        shares = {(fee["item"]["code"], fee["amount_cents"]): fee for fee in invoice["fees"]}
        assert float(shares["calls", 3_000]["precise_coupons_amount_cents"]) == 3_000
        assert float(shares["storage", 5_000]["precise_coupons_amount_cents"]) == pytest.approx(
            2_500 + 100 * 2_500 / left, abs=0.00001
        )
        assert float(shares["plan", 10_000]["precise_coupons_amount_cents"]) == pytest.approx(
            100 * 10_000 / left, abs=0.00001
        )
        assert (applied(api, "on nothing")["status"], applied(api, "on calls")["amount_cents_remaining"]) == (
            "active", 96_999
        )  # fmt: skip

    def test_a_plan_with_prices_of_its_own_is_still_that_plan(self, api: httpx.Client) -> None:
        subscribed(api)
        make_subscription(api, "own", plan_overrides={"amount_cents": 3_000})
        make_plan(api, "other", amount_cents=2_000)
        make_subscription(api, "third", "other")
        give_new(api, "half", percentage_rate=50, applies_to={"plan_codes": ["plan"]})
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        assert coupons_of(invoice) == [("half", 6_500)]
        lowered = {fee["external_subscription_id"]: fee["precise_coupons_amount_cents"] for fee in invoice["fees"]}
        assert lowered == {"sub": "5000.0", "own": "1500.0", "third": "0.0"}

    def test_the_tax_is_on_what_is_left_of_the_taxed_fee(self, api: httpx.Client) -> None:
        make_tax(api, "vat", "20")
        subscribed(api, tax_codes=["vat"])
        make_plan(api, "untaxed", amount_cents=10_000)
        make_subscription(api, "second", "untaxed")
        give_new(api, "half", percentage_rate=50, applies_to={"plan_codes": ["plan"]})
        set_clock(api, NEXT)
        (invoice,) = invoices_of(api)
        (tax,) = invoice["applied_taxes"]
        assert (tax["fees_amount_cents"], tax["amount_cents"]) == (5_000, 1_000)
        assert (invoice["taxes_amount_cents"], invoice["total_amount_cents"]) == (1_000, 16_000)


def test_single_events_in_advance_are_lowered_too(api: httpx.Client) -> None:
    metric = make_metric(api, "calls")
    subscribed(api, amount_cents=0, charges=[standard(metric, "3", pay_in_advance=True)])
    give_new(api, "twice", amount_cents=200, frequency="recurring", frequency_duration=2)
    for number in range(3):
        send_events(api, [event("calls", timestamp=1_714_600_000 + number)])
    found = [one for one in invoices_of(api) if one["fees_amount_cents"]]
    assert [one["coupons_amount_cents"] for one in found] == [200, 200, 0]
    assert applied(api, "twice")["status"] == "terminated"


class TestNotes:
    def note(self, api: httpx.Client, invoice: Json, amounts: Json, credit: int, path: str = "") -> httpx.Response:
        ids = by_item(invoice, "lago_id")
        items = [{"fee_id": ids[code], "amount_cents": amount} for code, amount in amounts.items()]
        sent = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": credit}
        return api.post(f"{NOTES}{path}", json={"credit_note": sent})

    @pytest.fixture
    def invoice(self, api: httpx.Client) -> Json:
        """The worked example: 100.00, 33.33 and 6.67 less 15 % and 5.00, and 20 % of taxes."""
        make_tax(api, "vat", "20", applied_to_organization=True)
        subscribed(api)
        for code, amount in (("second", 3_333), ("third", 667)):
            make_plan(api, code, amount_cents=amount)
            make_subscription(api, code, code)
        give_new(api, "fifteen", percentage_rate=15)
        give_new(api, "five")
        set_clock(api, NEXT)
        (one,) = invoices_of(api)
        return one

    def test_a_note_takes_back_what_coupons_have_left(self, api: httpx.Client, invoice: Json) -> None:
        estimate = ok(self.note(api, invoice, {"plan": 4_000}, 0, "/estimate"))["estimated_credit_note"]
        wanted = {
            "coupons_adjustment_amount_cents": 743, "precise_coupons_adjustment_amount_cents": 742.85714,
            "sub_total_excluding_taxes_amount_cents": 3_257, "taxes_amount_cents": 651,
            "precise_taxes_amount_cents": 651.42857, "taxes_rate": 20, "max_creditable_amount_cents": 13_680,
        }  # fmt: skip
        assert {key: estimate[key] for key in wanted} == wanted
        made = ok(self.note(api, invoice, {"plan": 4_000}, 3_909))["credit_note"]
        wanted = {
            "coupons_adjustment_amount_cents": 743, "sub_total_excluding_taxes_amount_cents": 3_257,
            "taxes_amount_cents": 651, "total_amount_cents": 3_908, "credit_amount_cents": 3_908,
        }  # fmt: skip
        assert {key: made[key] for key in wanted} == wanted
        assert made["items"][0]["amount_cents"] == 4_000
        assert made["applied_taxes"][0]["base_amount_cents"] == 3_257

    def test_more_than_coupons_have_left_is_refused(self, api: httpx.Client, invoice: Json) -> None:
        refused = self.note(api, invoice, {"plan": 4_000}, 4_800)
        assert problems(refused) == {"base": ["does_not_match_item_amounts"]}
        ids = by_item(invoice, "lago_id")
        twice = [{"fee_id": ids["plan"], "amount_cents": 6_000}] * 2
        sent = {"invoice_id": invoice["lago_id"], "items": twice, "credit_amount_cents": 11_726}
        answer = api.post(NOTES, json={"credit_note": sent})
        assert problems(answer) == {"amount_cents": ["higher_than_remaining_fee_amount"]}

    def test_notes_over_everything_come_to_the_invoice(self, api: httpx.Client, invoice: Json) -> None:
        for amounts in ({"plan": 3_333, "second": 1}, {"plan": 3_334, "third": 333}, {"plan": 3_333, "second": 3_332}):
            estimate = ok(self.note(api, invoice, amounts, 0, "/estimate"))["estimated_credit_note"]
            total = estimate["sub_total_excluding_taxes_amount_cents"] + estimate["taxes_amount_cents"]
            ok(self.note(api, invoice, amounts, total))
        before = ok(api.get(NOTES))["credit_notes"]
        estimate = ok(self.note(api, invoice, {"third": 334}, 0, "/estimate"))["estimated_credit_note"]
        left = invoice["total_amount_cents"] - sum(one["total_amount_cents"] for one in before)
        assert estimate["max_creditable_amount_cents"] == left
        ok(self.note(api, invoice, {"third": 334}, left))
        made = ok(api.get(NOTES))["credit_notes"]
        for field, of_invoice in (
            ("total_amount_cents", "sub_total_including_taxes_amount_cents"), ("taxes_amount_cents",) * 2,
            ("sub_total_excluding_taxes_amount_cents",) * 2,
        ):  # fmt: skip
            assert sum(one[field] for one in made) == invoice[of_invoice]
        assert sum(one["coupons_adjustment_amount_cents"] for one in made) == pytest.approx(2_600, abs=2)

    def test_unused_days_are_given_back_less_coupons(self, api: httpx.Client) -> None:
        make_tax(api, "vat", "20", applied_to_organization=True)
        set_clock(api, "2024-04-01T00:00:00Z")
        make_customer(api)
        make_plan(api, amount_cents=3_000, pay_in_advance=True)
        give_new(api, "third", percentage_rate="33.33")
        make_subscription(api)
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        (note,) = ok(api.get(NOTES))["credit_notes"]
        wanted = {
            "coupons_adjustment_amount_cents": 467, "sub_total_excluding_taxes_amount_cents": 933,
            "taxes_amount_cents": 187, "credit_amount_cents": 1_120,
        }  # fmt: skip
        assert {key: note[key] for key in wanted} == wanted
