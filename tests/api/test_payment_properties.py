"""Whatever is paid, given back, offset and voided, in whatever order: the sums of an invoice hold."""

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import Json, make_add_on, make_customer, make_tax, ok, set_clock, unique
from tests.support import Server

amounts = st.integers(1, 4_000)
fee = st.tuples(st.integers(0, 3_000), st.sampled_from([["a"], ["a", "b"], ["c"]]))
operation = st.one_of(
    st.tuples(st.just("pay"), amounts),
    st.tuples(st.just("note"), st.sampled_from(["credit", "refund", "offset"]), st.integers(0, 2), amounts),
    st.tuples(st.just("rest"), st.sampled_from(["credit", "refund", "offset"])),
    st.tuples(st.just("void"), st.integers(0, 4_000), st.integers(0, 4_000)),
)


class Shop:
    """An organization with one customer, an add-on and taxes."""

    def __init__(self, server: Server):
        self.api = server.organization(unique("Shop"), sandbox=True)
        set_clock(self.api, "2024-05-10T10:00:00Z")
        for code, rate in (("a", "20"), ("b", "5.5"), ("c", "7.7")):
            make_tax(self.api, code, rate)
        make_add_on(self.api, "thing")
        make_customer(self.api)

    def sell(self, fees: list[tuple[int, list[str]]]) -> str:
        """The id of an invoice with fees of these amounts and taxes."""
        sent = [{"add_on_code": "thing", "unit_amount_cents": one, "tax_codes": taxes} for one, taxes in fees]
        body = {"invoice": {"external_customer_id": "customer", "fees": sent}}
        made: str = ok(self.api.post("/api/v1/invoices", json=body))["invoice"]["lago_id"]
        return made

    def invoice(self, id_: str) -> Json:
        found: Json = ok(self.api.get(f"/api/v1/invoices/{id_}"))["invoice"]
        return found

    def notes(self, invoice: Json) -> list[Json]:
        return list(
            ok(self.api.get("/api/v1/credit_notes", params={"invoice_number": invoice["number"]}))["credit_notes"]
        )

    def do(self, id_: str, operation: tuple[Any, ...]) -> httpx.Response:
        """Try an operation; it may be refused."""
        invoice = self.invoice(id_)
        fees, name = invoice["fees"], operation[0]
        if name == "pay":
            sent = {"invoice_id": id_, "amount_cents": operation[1], "reference": "r"}
            return self.api.post("/api/v1/payments", json={"payment": sent})
        if name == "void":
            sent = {"generate_credit_note": True, "credit_amount": operation[1], "refund_amount": operation[2]}
            return self.api.post(f"/api/v1/invoices/{id_}/void", json=sent)
        items = (
            [{"fee_id": fees[operation[2] % len(fees)]["lago_id"], "amount_cents": operation[3]}]
            if name == "note"
            else []
        )
        if name == "rest":
            taken: dict[str, int] = {}
            for item in (item for note in self.notes(invoice) for item in note["items"]):
                taken[item["fee"]["lago_id"]] = taken.get(item["fee"]["lago_id"], 0) + item["amount_cents"]
            items = [
                {"fee_id": one["lago_id"], "amount_cents": max(one["amount_cents"] - taken.get(one["lago_id"], 0), 0)}
                for one in fees
            ]
        sent = {"invoice_id": id_, "items": items}
        estimate = self.api.post("/api/v1/credit_notes/estimate", json={"credit_note": sent})
        if estimate.status_code != 200:
            return estimate
        told = estimate.json()["estimated_credit_note"]
        total = told["sub_total_excluding_taxes_amount_cents"] + told["taxes_amount_cents"]
        return self.api.post(
            "/api/v1/credit_notes", json={"credit_note": {**sent, f"{operation[1]}_amount_cents": total}}
        )

    def check(self, id_: str) -> None:
        """The sums of an invoice and of its notes."""
        invoice = self.invoice(id_)
        notes = self.notes(invoice)
        gross, total = invoice["sub_total_including_taxes_amount_cents"], invoice["total_amount_cents"]
        assert total == gross - invoice["credit_notes_amount_cents"] - invoice["prepaid_credit_amount_cents"]
        paid, due = invoice["total_paid_amount_cents"], invoice["total_due_amount_cents"]
        offset = sum(one["offset_amount_cents"] for one in notes)
        assert invoice["total_offsetted_credit_note_amount_cents"] == offset
        assert due == (0 if invoice["status"] == "voided" else total - paid - offset)
        assert due >= 0
        assert (invoice["payment_status"] == "succeeded") == (total == paid + offset)
        assert sum(one["refund_amount_cents"] for one in notes) <= paid
        assert sum(one["total_amount_cents"] for one in notes) <= gross
        for one in notes:
            parts = ("credit", "refund", "offset")
            assert one["total_amount_cents"] == sum(one[f"{part}_amount_cents"] for part in parts) > 0
            assert (
                one["total_amount_cents"] == one["sub_total_excluding_taxes_amount_cents"] + one["taxes_amount_cents"]
            )
            assert one["balance_amount_cents"] in {one["credit_amount_cents"], 0}
        if invoice["status"] == "voided" or (
            notes
            and sum(item["amount_cents"] for one in notes for item in one["items"]) >= invoice["fees_amount_cents"]
        ):
            assert sum(one["total_amount_cents"] for one in notes) == gross


@pytest.fixture(scope="module")
def shop(server: Server) -> Shop:
    """One for all examples."""
    return Shop(server)


@settings(max_examples=15, deadline=None)
@given(st.lists(fee, min_size=1, max_size=3), st.lists(operation, min_size=1, max_size=8))
def test_the_sums_hold(shop: Shop, fees: list[tuple[int, list[str]]], operations: list[tuple[Any, ...]]) -> None:
    id_ = shop.sell(fees)
    for one in operations:
        assert shop.do(id_, one).status_code in {200, 404, 405, 422}
        shop.check(id_)
