"""`/api/v1/credit_notes`: made by hand and at an early end, estimated, spent on later invoices, voided."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.factories import (
    Json,
    invoices_of,
    make_plan,
    make_subscription,
    make_tax,
    ok,
    problems,
    refusal,
    set_clock,
)

URL = "/api/v1/credit_notes"
FIELDS = {
    "lago_id", "billing_entity_code", "sequential_id", "number", "lago_invoice_id", "invoice_number", "issuing_date",
    "credit_status", "refund_status", "reason", "description", "currency", "total_amount_cents", "taxes_amount_cents",
    "taxes_rate", "sub_total_excluding_taxes_amount_cents", "balance_amount_cents", "credit_amount_cents",
    "refund_amount_cents", "offset_amount_cents", "coupons_adjustment_amount_cents", "created_at", "updated_at",
    "file_url", "self_billed", "items", "applied_taxes", "customer", "metadata", "error_details",
}  # fmt: skip


@pytest.fixture
def invoiced(api: httpx.Client) -> tuple[str, str]:
    """The invoice, and its fee, of a month paid in advance: 100.00 and 20 % of taxes."""
    set_clock(api, "2024-04-01T10:00:00Z")
    make_tax(api, "vat", "20", applied_to_organization=True)
    make_plan(api, amount_cents=10_000, pay_in_advance=True)
    make_subscription(api)
    (invoice,) = invoices_of(api)
    (fee,) = ok(api.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]["fees"]
    return invoice["lago_id"], fee["lago_id"]


def post(api: httpx.Client, invoiced: tuple[str, str], amount: int, path: str = "", **fields: object) -> httpx.Response:
    invoice, fee = invoiced
    sent = {"invoice_id": invoice, "items": [{"fee_id": fee, "amount_cents": amount}], **fields}
    return api.post(f"{URL}{path}", json={"credit_note": sent})


def pay(api: httpx.Client, invoiced: tuple[str, str], amount: int) -> None:
    sent = {"invoice_id": invoiced[0], "amount_cents": amount, "reference": "r"}
    ok(api.post("/api/v1/payments", json={"payment": sent}))


def note_of(response: httpx.Response) -> Json:
    note: Json = ok(response)["credit_note"]
    return note


class TestByHand:
    def test_made_found_and_listed(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        note = note_of(
            post(api, invoiced, 5_000, credit_amount_cents=6_000, reason="other", description="d", metadata={"a": "b"})
        )
        assert note.keys() == FIELDS
        wanted = {
            "sequential_id": 1, "issuing_date": "2024-04-01", "credit_status": "available", "refund_status": None,
            "total_amount_cents": 6_000, "taxes_amount_cents": 1_000, "sub_total_excluding_taxes_amount_cents": 5_000,
            "balance_amount_cents": 6_000, "credit_amount_cents": 6_000, "taxes_rate": 20, "description": "d",
            "currency": "EUR", "metadata": {"a": "b"},
        }  # fmt: skip
        assert {key: note[key] for key in wanted} == wanted
        assert note["number"] == f"{note['invoice_number']}-CN001"
        (item,) = note["items"]
        assert (item["amount_cents"], item["fee"]["lago_id"]) == (5_000, invoiced[1])
        (tax,) = note["applied_taxes"]
        assert (tax["tax_code"], tax["amount_cents"], tax["base_amount_cents"]) == ("vat", 1_000, 5_000)
        assert note_of(api.get(f"{URL}/{note['lago_id']}")) == note
        found = {
            "external_customer_id": "customer", "issuing_date_from": "2024-04-01", "issuing_date_to": "2024-04-01",
            "search_term": "CN001", "currency": "EUR", "reason": "other", "credit_status": "available",
            "invoice_number": note["invoice_number"], "amount_from": "6000", "amount_to": "6000",
        }  # fmt: skip
        assert ok(api.get(URL, params=found))["credit_notes"] == [note]
        theirs = "/api/v1/customers/customer/credit_notes"
        assert ok(api.get(theirs, params=found))["credit_notes"] == [note]
        assert ok(api.get(theirs, params={"reason": "order_change"}))["credit_notes"] == []
        assert refusal(api.get("/api/v1/customers/nobody/credit_notes")) == (404, "customer_not_found")
        for name, value in {
            "external_customer_id": "x", "issuing_date_from": "2024-04-02", "issuing_date_to": "2024-03-31",
            "search_term": "x", "currency": "USD", "reason": "order_change", "credit_status": "voided",
            "refund_status": "pending", "invoice_number": "x", "amount_from": "6001", "amount_to": "5999",
            "self_billed": "true", "billing_entity_codes[]": "x",
        }.items():  # fmt: skip
            assert ok(api.get(URL, params={name: value}))["credit_notes"] == [], name

    def test_the_total_must_follow_from_the_items(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        for total in (5_998, 6_002):
            refused = post(api, invoiced, 5_000, credit_amount_cents=total)
            assert problems(refused) == {"base": ["does_not_match_item_amounts"]}
        assert note_of(post(api, invoiced, 5_000, credit_amount_cents=6_001))["credit_amount_cents"] == 6_000

    @pytest.mark.parametrize(
        ("amount", "fields", "details"),
        [
            (10_001, {"credit_amount_cents": 12_001}, {"amount_cents": ["higher_than_remaining_fee_amount"]}),
            (5_000, {}, {"base": ["total_amount_must_be_positive"]}),
            (5_000, {"refund_amount_cents": 6_000}, {"refund_amount_cents": ["cannot_refund_unpaid_invoice"]}),
            (10_000, {"credit_amount_cents": 12_002},
             {"credit_amount_cents": ["higher_than_remaining_invoice_amount"]}),
            (5_000, {"credit_amount_cents": 6_000, "reason": "whim"}, {"reason": ["value_is_invalid"]}),
            (5_000, {"credit_amount_cents": 6_000, "items": None}, {"items": ["must_be_an_array"]}),
        ],
    )  # fmt: skip
    def test_refused(
        self, api: httpx.Client, invoiced: tuple[str, str], amount: int, fields: Json, details: Json
    ) -> None:
        assert problems(post(api, invoiced, amount, **fields)) == details
        assert ok(api.get(URL))["credit_notes"] == []

    def test_what_is_not_there(self, api: httpx.Client, other: httpx.Client, invoiced: tuple[str, str]) -> None:
        invoice, fee = invoiced
        nowhere = str(uuid4())
        assert refusal(post(api, (nowhere, fee), 1, credit_amount_cents=1)) == (404, "invoice_not_found")
        assert refusal(post(api, (invoice, nowhere), 1, credit_amount_cents=1)) == (404, "fee_not_found")
        assert refusal(post(other, invoiced, 1, credit_amount_cents=1)) == (404, "invoice_not_found")
        note = note_of(post(api, invoiced, 5_000, credit_amount_cents=6_000))
        for response in (
            api.get(f"{URL}/{nowhere}"), other.get(f"{URL}/{note['lago_id']}"), other.put(f"{URL}/{note['lago_id']}/void")
        ):  # fmt: skip
            assert refusal(response) == (404, "credit_note_not_found")

    def test_an_offset_lowers_what_is_due(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        note = note_of(post(api, invoiced, 5_000, offset_amount_cents=6_000))
        assert (note["credit_status"], note["balance_amount_cents"], note["offset_amount_cents"]) == (None, 0, 6_000)
        (invoice,) = invoices_of(api)
        assert (invoice["total_amount_cents"], invoice["total_due_amount_cents"]) == (12_000, 6_000)
        assert invoice["total_offsetted_credit_note_amount_cents"] == 6_000
        assert invoice["payment_status"] == "pending"
        ok(post(api, invoiced, 5_000, offset_amount_cents=6_000))
        (invoice,) = invoices_of(api)
        assert (invoice["total_due_amount_cents"], invoice["payment_status"]) == (0, "succeeded")

    def test_estimate(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        estimate = ok(post(api, invoiced, 4_214, "/estimate"))["estimated_credit_note"]
        wanted = {
            "lago_invoice_id": invoiced[0], "taxes_amount_cents": 843, "precise_taxes_amount_cents": 842.8,
            "sub_total_excluding_taxes_amount_cents": 4_214, "max_creditable_amount_cents": 12_000,
            "max_refundable_amount_cents": 0, "max_offsettable_amount_cents": 12_000, "taxes_rate": 20,
            "items": [{"amount_cents": 4_214, "lago_fee_id": invoiced[1]}],
        }  # fmt: skip
        assert {key: estimate[key] for key in wanted} == wanted
        assert ok(api.get(URL))["credit_notes"] == []


class TestRefunds:
    def test_up_to_what_was_paid(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        pay(api, invoiced, 7_000)
        estimate = ok(post(api, invoiced, 5_000, "/estimate"))["estimated_credit_note"]
        assert [estimate[f"max_{part}_amount_cents"] for part in ("creditable", "refundable", "offsettable")] == [
            12_000, 7_000, 5_000
        ]  # fmt: skip
        higher = {"refund_amount_cents": ["higher_than_remaining_invoice_amount"]}
        assert problems(post(api, invoiced, 5_835, refund_amount_cents=7_002)) == higher
        note = note_of(post(api, invoiced, 2_500, refund_amount_cents=1_000, credit_amount_cents=2_000))
        assert (note["refund_status"], note["credit_status"], note["total_amount_cents"]) == (
            "pending", "available", 3_000
        )  # fmt: skip
        (invoice,) = invoices_of(api)
        assert (invoice["total_due_amount_cents"], invoice["total_paid_amount_cents"]) == (5_000, 7_000)
        assert problems(post(api, invoiced, 5_001, refund_amount_cents=6_001)) == higher
        assert note_of(post(api, invoiced, 5_000, refund_amount_cents=6_000))["credit_status"] is None
        assert problems(post(api, invoiced, 1, refund_amount_cents=1)) == higher
        for query, found in (({"refund_status": "pending"}, 2), ({"types[]": "refund"}, 2), ({"types[]": "credit"}, 1),
                             ({"types[]": ["credit", "offset"]}, 1), ({"types[]": "offset"}, 0)):  # fmt: skip
            assert len(ok(api.get(URL, params=query))["credit_notes"]) == found, query
        assert problems(api.get(URL, params={"types[]": "gift"})) == {"types": ["value_is_invalid"]}

    def test_how_it_stands_is_noted(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        pay(api, invoiced, 12_000)
        refund = note_of(post(api, invoiced, 5_000, refund_amount_cents=6_000))
        credit = note_of(post(api, invoiced, 5_000, credit_amount_cents=6_000))
        for status in ("failed", "succeeded"):
            sent = {"credit_note": {"refund_status": status}}
            assert note_of(api.put(f"{URL}/{refund['lago_id']}", json=sent))["refund_status"] == status
            assert note_of(api.put(f"{URL}/{credit['lago_id']}", json=sent))["refund_status"] is None

    def test_all_three_parts(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        """What is due of the invoice is offset, what was paid is paid back, and the rest is credit."""
        pay(api, invoiced, 5_000)
        parts = {"refund_amount_cents": 4_000, "offset_amount_cents": 7_000, "credit_amount_cents": 1_000}
        note = note_of(post(api, invoiced, 10_000, **parts))
        assert {name: note[name] for name in parts} == parts
        (invoice,) = invoices_of(api)
        assert (invoice["payment_status"], invoice["total_due_amount_cents"]) == ("succeeded", 0)
        assert problems(post(api, invoiced, 0, credit_amount_cents=1)) == {"base": ["total_amount_must_be_positive"]}

    def test_no_more_is_due_than_offset(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        pay(api, invoiced, 11_999)
        assert problems(post(api, invoiced, 2, offset_amount_cents=2)) == {
            "offset_amount_cents": ["higher_than_remaining_invoice_amount"]
        }
        ok(post(api, invoiced, 1, offset_amount_cents=1))
        assert invoices_of(api)[0]["payment_status"] == "succeeded"

    def test_one_fee_twice(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        items = [{"fee_id": invoiced[1], "amount_cents": 6_000}] * 2
        assert problems(post(api, invoiced, 0, credit_amount_cents=12_000, items=items)) == {
            "amount_cents": ["higher_than_remaining_fee_amount"]
        }

    def test_many_small_ones_never_come_to_more_than_the_invoice(
        self, api: httpx.Client, invoiced: tuple[str, str]
    ) -> None:
        """20 % of 3 is 0.6, so that each of these is rounded up; the last takes what is left."""
        given = 0
        for _ in range(30):
            given += note_of(post(api, invoiced, 3, credit_amount_cents=4))["total_amount_cents"]
        assert given == 120
        left = ok(post(api, invoiced, 9_910, "/estimate"))["estimated_credit_note"]
        assert left["max_creditable_amount_cents"] == 11_880
        last = note_of(post(api, invoiced, 9_910, credit_amount_cents=11_880))
        assert given + last["total_amount_cents"] == 12_000
        assert last["total_amount_cents"] == last["taxes_amount_cents"] + 9_910


class TestSpent:
    def test_oldest_first_until_nothing_is_left(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        for amount, at in ((7_500, "2024-04-02T00:00:00Z"), (2_500, "2024-04-03T00:00:00Z")):
            set_clock(api, at)
            ok(post(api, invoiced, amount, credit_amount_cents=amount * 12 // 10))
        make_plan(api, "other", amount_cents=8_000, amount_currency="USD", pay_in_advance=True)
        make_subscription(api, plan="other", customer="customer", external_id="dollars")
        set_clock(api, "2024-05-01T01:00:00Z")
        (invoice,) = [
            one for one in invoices_of(api) if one["currency"] == "EUR" and one["issuing_date"] == "2024-05-01"
        ]
        assert (invoice["sub_total_including_taxes_amount_cents"], invoice["credit_notes_amount_cents"]) == (
            12_000, 12_000
        )  # fmt: skip
        assert (invoice["total_amount_cents"], invoice["payment_status"]) == (0, "succeeded")
        spent = ok(api.get(f"/api/v1/invoices/{invoice['lago_id']}"))["invoice"]["credits"]
        assert [(one["amount_cents"], one["item"]["code"][-5:]) for one in spent] == [
            (9_000, "CN001"), (3_000, "CN002")
        ]  # fmt: skip
        assert {one["credit_status"] for one in ok(api.get(URL))["credit_notes"]} == {"consumed"}
        set_clock(api, "2024-06-01T01:00:00Z")
        assert {
            one["credit_notes_amount_cents"] for one in invoices_of(api) if one["issuing_date"] == "2024-06-01"
        } == {0}

    def test_what_is_voided_is_not_spent(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        note = note_of(post(api, invoiced, 5_000, credit_amount_cents=6_000))
        voided = note_of(api.put(f"{URL}/{note['lago_id']}/void"))
        assert (voided["credit_status"], voided["balance_amount_cents"]) == ("voided", 0)
        assert refusal(api.put(f"{URL}/{note['lago_id']}/void")) == (405, "no_voidable_amount")
        set_clock(api, "2024-05-01T01:00:00Z")
        assert {one["credit_notes_amount_cents"] for one in invoices_of(api)} == {0}

    def test_two_ends_at_once_do_not_spend_the_same(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        """Four subscriptions of one customer end at the same time, and their last invoices want the same credit."""
        make_plan(api, "late", amount_cents=30_000)
        for number in range(4):
            make_subscription(api, plan="late", customer="customer", external_id=f"late {number}")
        ok(post(api, invoiced, 1_000, credit_amount_cents=1_200))
        set_clock(api, "2024-04-10T00:00:00Z")
        with ThreadPoolExecutor(4) as threads:
            ended = list(threads.map(lambda number: api.delete(f"/api/v1/subscriptions/late {number}"), range(4)))
        assert [one.status_code for one in ended] == [200] * 4
        assert sum(one["credit_notes_amount_cents"] for one in invoices_of(api)) == 1_200
        (note,) = ok(api.get(URL))["credit_notes"]
        assert (note["balance_amount_cents"], note["credit_status"]) == (0, "consumed")


class TestEarlyEnd:
    def test_unused_days_are_given_back(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        (note,) = ok(api.get(URL))["credit_notes"]
        wanted = {
            "reason": "order_cancellation", "sub_total_excluding_taxes_amount_cents": 4_667, "taxes_amount_cents": 933,
            "credit_amount_cents": 5_600, "lago_invoice_id": invoiced[0],
        }  # fmt: skip
        assert {key: note[key] for key in wanted} == wanted

    @pytest.mark.parametrize(("before", "given"), [(1_000, [1_000, 3_667]), (9_000, [9_000])])
    def test_not_what_a_note_has_given_back_before(
        self, api: httpx.Client, invoiced: tuple[str, str], before: int, given: list[int]
    ) -> None:
        ok(post(api, invoiced, before, credit_amount_cents=before * 12 // 10))
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub"))
        notes = ok(api.get(URL))["credit_notes"]
        assert sorted(one["sub_total_excluding_taxes_amount_cents"] for one in notes) == given

    @pytest.mark.parametrize(
        ("mode", "paid", "parts"),
        [
            ("credit", 12_000, (5_600, 0, 0)),
            ("refund", 12_000, (0, 5_600, 0)),
            ("refund", 8_000, (4_000, 1_600, 0)),
            ("refund", 6_000, (5_600, 0, 0)),
            ("offset", 12_000, (0, 5_600, 0)),
            ("offset", 8_000, (0, 1_600, 4_000)),
            ("offset", 6_000, (0, 0, 5_600)),
            ("offset", 0, (0, 0, 5_600)),
        ],
    )
    def test_as_credit_refund_or_offset(
        self, api: httpx.Client, invoiced: tuple[str, str], mode: str, paid: int, parts: tuple[int, int, int]
    ) -> None:
        """Of 120.00, 64.00 are used and 56.00 are not."""
        if paid:
            pay(api, invoiced, paid)
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub", params={"on_termination_credit_note": mode}))
        (note,) = ok(api.get(URL))["credit_notes"]
        assert tuple(note[f"{part}_amount_cents"] for part in ("credit", "refund", "offset")) == parts
        invoice = ok(api.get(f"/api/v1/invoices/{invoiced[0]}"))["invoice"]
        assert invoice["total_due_amount_cents"] == 12_000 - paid - parts[2]

    def test_no_more_is_paid_back_than_by_earlier_notes_is_left(
        self, api: httpx.Client, invoiced: tuple[str, str]
    ) -> None:
        pay(api, invoiced, 12_000)
        ok(post(api, invoiced, 2_000, refund_amount_cents=2_400))
        set_clock(api, "2024-04-16T10:00:00Z")
        ok(api.delete("/api/v1/subscriptions/sub", params={"on_termination_credit_note": "refund"}))
        refunds = [one["refund_amount_cents"] for one in ok(api.get(URL))["credit_notes"]]
        assert sorted(refunds) == [2_400, 3_200]

    def test_an_upgrade_gives_credit(self, api: httpx.Client, invoiced: tuple[str, str]) -> None:
        pay(api, invoiced, 12_000)
        make_plan(api, "dearer", amount_cents=20_000, pay_in_advance=True)
        set_clock(api, "2024-04-16T10:00:00Z")
        make_subscription(api, plan="dearer")
        (note,) = ok(api.get(URL))["credit_notes"]
        assert (note["credit_amount_cents"], note["refund_amount_cents"]) == (6_000, 0)

    @pytest.mark.usefixtures("invoiced")
    def test_skipped(self, api: httpx.Client) -> None:
        ok(api.delete("/api/v1/subscriptions/sub", params={"on_termination_credit_note": "skip"}))
        assert ok(api.get(URL))["credit_notes"] == []


def test_metadata(api: httpx.Client, invoiced: tuple[str, str]) -> None:
    note = note_of(post(api, invoiced, 5_000, credit_amount_cents=6_000))
    url = f"{URL}/{note['lago_id']}/metadata"
    assert ok(api.post(url, json={"metadata": {"a": "1"}}))["metadata"] == {"a": "1"}
    assert ok(api.patch(url, json={"metadata": {"b": None}}))["metadata"] == {"a": "1", "b": None}
    assert ok(api.delete(f"{url}/a"))["metadata"] == {"b": None}
    assert refusal(api.delete(f"{url}/a")) == (404, "metadata_not_found")
    assert ok(api.delete(url))["metadata"] == {}
    changed = api.put(f"{URL}/{note['lago_id']}", json={"credit_note": {"refund_status": "lost"}})
    assert problems(changed) == {"refund_status": ["value_is_invalid"]}
