"""A customer's ledger balances, whatever happens in whatever order: invoices, coupons, credit notes, wallets, payments."""

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
from hypothesis import HealthCheck, note, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from tests.factories import Json, make_customer, make_plan, make_subscription, make_tax, ok, set_clock, unique
from tests.support import Server

CURRENCIES = {"JPY": 1, "EUR": 100, "KWD": 1_000}
HAPPENINGS = st.one_of(
    st.tuples(st.just("month")),
    st.tuples(st.just("month")),
    st.tuples(st.just("grant"), st.integers(1, 60)),
    st.tuples(st.just("buy"), st.integers(1, 60), st.sampled_from(["succeeded", "failed", "pending"])),
    st.tuples(st.just("take back"), st.integers(1, 20)),
    st.tuples(st.just("end wallet")),
    st.tuples(st.just("coupon"), st.sampled_from(["once", "third", "always"])),
    st.tuples(st.just("credit"), st.integers(1, 3_000)),
    st.tuples(st.just("pay"), st.integers(1, 4_000)),
    st.tuples(st.just("void")),
)


class Account:
    """A customer on a plan, with whom things happen."""

    def __init__(self, server: Server, currency: str):
        self.api = server.organization(unique("Ledger"), sandbox=True)
        self.currency, self.month = currency, 4
        set_clock(self.api, "2024-04-01T00:00:00Z")
        make_tax(self.api, "vat", "7.7", applied_to_organization=True)
        make_customer(self.api, currency=currency)
        make_plan(self.api, amount_cents=3_333, amount_currency=currency)
        make_subscription(self.api)
        terms = {"expiration": "no_expiration", "reusable": True}
        for code, more in {
            "once": {
                "coupon_type": "fixed_amount",
                "amount_cents": 4_000,
                "amount_currency": currency,
                "frequency": "once",
            },
            "third": {
                "coupon_type": "percentage",
                "percentage_rate": "33.3",
                "frequency": "recurring",
                "frequency_duration": 2,
            },
            "always": {
                "coupon_type": "fixed_amount",
                "amount_cents": 150,
                "amount_currency": currency,
                "frequency": "forever",
            },
        }.items():
            ok(self.api.post("/api/v1/coupons", json={"coupon": {"name": code, "code": code, **terms, **more}}))

    def get(self, path: str, key: str, **query: object) -> list[Json]:
        found: list[Json] = ok(self.api.get(f"/api/v1/{path}", params={"per_page": 1_000, **query}))[key]
        return found

    def wallets(self) -> list[Json]:
        return self.get("wallets", "wallets", external_customer_id="customer")

    def invoices(self) -> list[Json]:
        """Whole ones, the latest first."""
        listed = self.get("invoices", "invoices", external_customer_id="customer")
        return [ok(self.api.get(f"/api/v1/invoices/{one['lago_id']}"))["invoice"] for one in listed]

    def do(self, name: str, *more: Any) -> httpx.Response | None:  # noqa: PLR0911 (one for each thing that may happen)
        """Let something happen; it may be refused."""
        bills = [
            one for one in self.invoices() if one["invoice_type"] == "subscription" and one["status"] == "finalized"
        ]
        active = [one for one in self.wallets() if one["status"] == "active"]
        match name:
            case "month":
                self.month += 1
                at = datetime(2024 + (self.month - 1) // 12, (self.month - 1) % 12 + 1, 1, 1, tzinfo=UTC)
                set_clock(self.api, at.isoformat())
            case "grant" | "buy":
                if not active:
                    wallet = {"external_customer_id": "customer", "rate_amount": "0.333", "currency": self.currency}
                    active = [ok(self.api.post("/api/v1/wallets", json={"wallet": wallet}))["wallet"]]
                what = "granted_credits" if name == "grant" else "paid_credits"
                sent = {"wallet_id": active[0]["lago_id"], what: str(more[0])}
                made = self.api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent})
                if name == "buy" and made.status_code == 200 and more[1] != "pending":
                    (bill,) = made.json()["wallet_transactions"]
                    paid = {"invoice": {"payment_status": more[1]}}
                    return self.api.put(f"/api/v1/invoices/{bill['lago_invoice_id']}", json=paid)
                return made
            case "take back" if active:
                sent = {"wallet_id": active[0]["lago_id"], "voided_credits": str(more[0])}
                return self.api.post("/api/v1/wallet_transactions", json={"wallet_transaction": sent})
            case "end wallet" if active:
                return self.api.delete(f"/api/v1/wallets/{active[0]['lago_id']}")
            case "coupon":
                coupon = {"external_customer_id": "customer", "coupon_code": more[0]}
                return self.api.post("/api/v1/applied_coupons", json={"applied_coupon": coupon})
            case "credit" if bills:
                items = [{"fee_id": bills[0]["fees"][0]["lago_id"], "amount_cents": more[0]}]
                sent = {"invoice_id": bills[0]["lago_id"], "items": items}
                told = self.api.post("/api/v1/credit_notes/estimate", json={"credit_note": sent})
                if told.status_code == 200:
                    one = told.json()["estimated_credit_note"]
                    total = one["sub_total_excluding_taxes_amount_cents"] + one["taxes_amount_cents"]
                    sent["credit_amount_cents"] = total
                    return self.api.post("/api/v1/credit_notes", json={"credit_note": sent})
                return told
            case "pay" if bills:
                payment = {"invoice_id": bills[0]["lago_id"], "amount_cents": more[0], "reference": "r"}
                return self.api.post("/api/v1/payments", json={"payment": payment})
            case "void" if bills:
                return self.api.post(f"/api/v1/invoices/{bills[0]['lago_id']}/void")
        return None

    def check(self) -> None:
        """Every account of the ledger, against the movements on it."""
        invoices = self.invoices()
        self._check_wallets(invoices)
        for one in invoices:
            self._check_sums(one)
        taken = defaultdict(int)
        for one in invoices:
            for credit in one["credits"]:
                taken[credit["item"]["lago_item_id"]] += credit["amount_cents"]
        for one in self.get("credit_notes", "credit_notes"):
            assert one["balance_amount_cents"] == one["credit_amount_cents"] - taken[one["lago_id"]] >= 0
        for one in self.get("applied_coupons", "applied_coupons", external_customer_id="customer"):
            left = one["amount_cents_remaining"]
            spent = sum(
                credit["amount_cents"]
                for bill in invoices
                if bill["status"] == "finalized"
                for credit in one["credits"]
                if credit["invoice"]["lago_id"] == bill["lago_id"]
            )
            if left is not None:
                assert left == 4_000 - spent >= 0

    def _check_wallets(self, invoices: list[Json]) -> None:
        prepaid: dict[str, int] = defaultdict(int)
        for wallet in self.wallets():
            path = f"wallets/{wallet['lago_id']}/wallet_transactions"
            moves = self.get(path, "wallet_transactions")
            balance = 0
            for one in moves:
                cents = int(Decimal(one["amount"]) * CURRENCIES[self.currency])
                if one["status"] == "settled":
                    balance += cents if one["transaction_type"] == "inbound" else -cents
                if one["transaction_status"] == "invoiced":
                    prepaid[one["lago_invoice_id"]] += cents
            assert wallet["balance_cents"] == balance >= 0
            left = [one["remaining_amount_cents"] or 0 for one in moves if one["transaction_type"] == "inbound"]
            assert sum(left) == balance
            assert all(one >= 0 for one in left)
        for one in invoices:
            assert one["prepaid_credit_amount_cents"] == prepaid[one["lago_id"]]

    @staticmethod
    def _check_sums(one: Json) -> None:
        taken: dict[str, int] = defaultdict(int)
        for credit in one["credits"]:
            taken[credit["item"]["type"]] += credit["amount_cents"]
        assert taken["coupon"] == one["coupons_amount_cents"]
        assert taken["credit_note"] == one["credit_notes_amount_cents"]
        assert one["sub_total_excluding_taxes_amount_cents"] == one["fees_amount_cents"] - taken["coupon"] >= 0
        exact = sum(
            (fee["amount_cents"] - Decimal(fee["precise_coupons_amount_cents"])) * Decimal(str(tax["tax_rate"])) / 100
            for fee in one["fees"]
            for tax in fee["applied_taxes"]
        )
        assert abs(one["taxes_amount_cents"] - exact) <= 1
        gross = one["sub_total_including_taxes_amount_cents"]
        assert gross == one["sub_total_excluding_taxes_amount_cents"] + one["taxes_amount_cents"]
        total = gross - one["credit_notes_amount_cents"] - one["prepaid_credit_amount_cents"]
        assert one["total_amount_cents"] == total >= 0
        due = total - one["total_paid_amount_cents"] - one["total_offsetted_credit_note_amount_cents"]
        assert one["total_due_amount_cents"] == (0 if one["status"] == "voided" else due) >= 0


def test_it_balances(server: Server) -> None:
    @settings(
        max_examples=10, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @drawn(st.sampled_from(sorted(CURRENCIES)), st.lists(HAPPENINGS, min_size=6, max_size=16))
    def lived(currency: str, happenings: list[tuple[Any, ...]]) -> None:
        account = Account(server, currency)
        for one in happenings:
            answer = account.do(*one)
            note(f"{one}: {None if answer is None else answer.status_code}")
            assert answer is None or answer.status_code in {200, 404, 405, 422}, answer.text
            account.check()
        account.api.close()

    lived()
