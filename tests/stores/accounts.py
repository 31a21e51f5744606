"""Customers to whom everything happens that moves money, at random: many at a time, and none of it over HTTP.

What a request does is done by the functions that the API calls, each step within a savepoint that a refusal undoes; what
comes due by itself is run by what the test clock runs.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID
from zlib import crc32

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.drafts import delete_draft, finalize_invoice, refresh_invoice
from app.billing.due import DueRunner
from app.billing.issued import lock_invoice, update_invoice
from app.billing.issued_credit_notes import find_note, void_note
from app.billing.late_drafts import LateDrafts
from app.billing.notes_by_hand import create_note, estimate_note
from app.billing.one_off import sell
from app.billing.payments import record_payment
from app.billing.remembered import PriceBook
from app.billing.voids import void_invoice
from app.billing.wallet_rules import write_rules
from app.billing.wallet_transactions import TopUp, create_transactions, top_up_all
from app.billing.wallet_upkeep import WalletUpkeep
from app.billing.wallets import create_wallet, find_wallet, terminate_wallet
from app.customers.applied_coupons import apply_coupon, terminate_applied_coupon
from app.customers.customers import find_customer, upsert_customer
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription, find_subscription
from app.customers.terminations import terminate
from app.errors import ApiError
from app.models import (
    AppliedCoupon,
    CreditNote,
    Customer,
    Fee,
    Invoice,
    Organization,
    Subscription,
    Wallet,
    WalletTransaction,
    among,
)
from app.stores.clickhouse import ClickHouse
from app.stores.postgres import Postgres
from tests.stores.originals import BEGIN, COUPONS, ORIGINALS, PLANS, copy_customers, make_catalog
from tests.stores.tables import METER
from tests.support import seeded

LIVELY = 0.12
"""The share of customers to whom much happens: a step is as dear as a request."""
PARTS = ("credit", "refund", "offset")
RATES = ("1", "0.333", "2.5", "0.07")


class NoEvents:
    """An event store that nothing has come to."""

    embedded = True

    def rows(self, _: object) -> list[object]:
        return []


class Bill(NamedTuple):
    """An invoice as it is before a round."""

    id: UUID
    type: str
    status: str
    due: int
    paid: int
    fees: Sequence[tuple[UUID, int]]


@dataclass
class Account:
    """A customer, what has happened to it, and what there is of it before a round."""

    name: str
    random: random.Random
    liveliness: float
    story: list[str] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)
    notes: list[UUID] = field(default_factory=list)
    wallets: list[UUID] = field(default_factory=list)
    top_ups: list[tuple[UUID, UUID]] = field(default_factory=list)
    coupons: list[UUID] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)

    def pick(self, some: Sequence[Any]) -> Any:
        """One of these, where there is one; a step without anything to do it to is left out."""
        if not some:
            raise NothingThere
        return self.random.choice(some)

    def bill(self, *statuses: str, type_: str | None = None) -> Bill:
        return self.pick([one for one in self.bills if one.status in statuses and type_ in (None, one.type)])


class NothingThere(Exception):
    """There is nothing that a step could be done to."""


class Accounts:
    """An organization with customers in one currency; `moved` is called whenever money may have moved."""

    def __init__(self, postgres: Postgres, currency: str, copies: int, seed: int, moved: Callable[["Accounts"], None]):
        self.postgres, self.currency, self.moved = postgres, currency, moved
        self.now = BEGIN
        self.random = seeded(seed)
        self.done: Counter[str] = Counter()
        clickhouse = cast("ClickHouse", NoEvents())
        wallets = WalletUpkeep(postgres, clickhouse, METER, PriceBook(), 500)
        self.due = DueRunner(postgres, METER, wallets, LateDrafts(postgres, clickhouse), 500, timedelta(0))
        originals = [self._account(f"{currency}{count}", seed) for count in range(ORIGINALS)]
        with postgres.session() as db:
            organization, _ = create_organization(db, name=f"In {currency}", now=BEGIN)
            self.id = organization.id
        with postgres.session() as db:
            make_catalog(db, self.id, currency)
        with postgres.session() as db:
            organization = db.get_one(Organization, self.id)
            for one in originals:
                self._make_customer(db, organization, one)
        with postgres.session() as db:
            copy_customers(db, self.id, copies)
        self.accounts = {one.name: one for one in originals}
        for one in originals:
            for number in range(1, copies + 1):
                copied = self._account(f"{one.name}.{number}", seed)
                copied.story += one.story
                self.accounts[copied.name] = copied
        self.steps: dict[Callable[[Session, Account], str], int] = {
            self.pay: 18, self.mark: 6, self.credit: 20, self.void: 7, self.void_credit: 7, self.open_wallet: 5,
            self.move_credits: 16, self.end_wallet: 2, self.give_coupon: 8, self.take_coupon: 1, self.sell: 6,
            self.subscribe: 3, self.end: 3, self.draft: 9,
        }  # fmt: skip

    def round(self) -> None:
        """A step for some of the customers, and then some days, with all that comes due in them."""
        self._look()
        with self.postgres.engine.connect() as connection, connection.begin():
            for one in self.accounts.values():
                if one.random.random() < one.liveliness:
                    with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as db:
                        self._take_one(db, one)
        with self.postgres.session() as db:
            self._top_up_some(db)
        self.moved(self)
        self.now += timedelta(days=self.random.randint(3, 15), hours=self.random.randint(0, 23))
        before = self.now
        for _ in self.due.run_sandbox(self.id, None, self.now):
            pass
        for one in self.accounts.values():
            one.story.append(f"until {before:%d %B}")
        self.moved(self)

    def _take_one(self, db: Session, one: Account) -> None:
        """Try steps until there is something to do one of them to."""
        for step in one.random.choices(list(self.steps), list(self.steps.values()), k=4):
            name = step.__name__
            try:
                said = step(db, one)
                db.commit()
            except NothingThere:
                continue
            except ApiError as refused:
                db.rollback()
                name = f"{name}, refused"
                said = repr(refused)
            except Exception as error:
                raise AssertionError(f"{one.name}: {name} after {one.story}") from error
            one.story.append(f"{name}: {said}")
            self.done[name] += 1
            return

    def _top_up_some(self, db: Session) -> None:
        """Credits sold and granted to many wallets at once, as rules do it."""
        chosen = {wallet: one for one in self.accounts.values() for wallet in one.wallets if one.random.random() < 0.2}
        query = select(Wallet).where(Wallet.status == "active", among(Wallet.id, chosen))
        wallets = db.scalars(query.order_by(Wallet.id).with_for_update()).all()
        wanted = []
        for wallet in sorted(wallets, key=lambda one: (chosen[one.id].name, one.priority)):
            one = chosen[wallet.id]
            paid, granted = (Decimal(one.pick([self._credits(one, str(wallet.rate_amount)), "0"])) for _ in range(2))
            first = one.random.random() < 0.3
            wanted.append((wallet, TopUp(paid, granted, priority=one.random.randint(1, 50), paid_first=first)))
            one.story.append(f"top up: {paid} bought, {granted} granted")
        self.done["top_up"] += len(wanted)
        top_up_all(db, wanted, self.now)

    # What may happen

    def pay(self, db: Session, one: Account) -> str:
        bill = one.pick([bill for bill in one.bills if bill.status in {"finalized", "open"} and bill.due])
        amount = one.pick([bill.due, bill.due, one.random.randint(1, bill.due), bill.due + 1])
        record_payment(
            db, self.id, {"invoice_id": str(bill.id), "amount_cents": amount, "reference": "r"}, self.now, METER
        )
        return f"{amount} of {bill.due}"

    def mark(self, db: Session, one: Account) -> str:
        bill = one.bill("finalized", "open", type_=one.pick(["credit", "credit", None]))
        status = one.pick(["succeeded", "failed", "pending"])
        invoice = lock_invoice(db, self.id, bill.id, ("finalized", "open"))
        update_invoice(db, invoice, {"payment_status": status}, self.now, METER)
        return status

    def credit(self, db: Session, one: Account) -> str:
        bill = one.bill("finalized")
        fees = [fee for fee in bill.fees if fee[1] > 0]
        items = [
            {"fee_id": str(fee_id), "amount_cents": one.pick([amount, one.random.randint(1, amount)])}
            for fee_id, amount in one.random.sample(fees, one.random.randint(1, len(fees)) if fees else 0)
        ]
        sent: dict[str, Any] = {"invoice_id": str(bill.id), "items": items}
        told = estimate_note(db, self.id, sent)
        total, rooms = told.amounts.total_cents, (told.creditable_cents, told.refundable_cents, told.offsettable_cents)
        kinds = [one for one, room in zip(PARTS, rooms, strict=True) if room >= total] or ["credit"]
        parts = Counter({one.pick(kinds): total})
        if total > 1 and one.random.random() < 0.3:
            (kind,) = parts
            parts[kind] -= (moved := one.random.randint(1, total - 1))
            parts[one.pick(PARTS)] += moved
        create_note(db, self.id, {**sent, **{f"{kind}_amount_cents": cents for kind, cents in parts.items()}}, self.now)
        return f"{dict(parts)} of a {bill.type} invoice"

    def void(self, db: Session, one: Account) -> str:
        bill = one.bill("finalized")
        sent: dict[str, Any] = {}
        if bill.type != "credit" and one.random.random() < 0.5:
            most = sum(amount for _, amount in bill.fees)
            wanted = {"credit_amount": one.random.randint(0, most), "refund_amount": one.random.randint(0, bill.paid)}
            sent = {"generate_credit_note": True, **wanted}
        void_invoice(db, self.id, bill.id, sent, self.now)
        return f"{bill.type} {sent}"

    def void_credit(self, db: Session, one: Account) -> str:
        void_note(find_note(db, self.id, one.pick(one.notes), lock=True), self.now)
        return ""

    def open_wallet(self, db: Session, one: Account) -> str:
        rate, priority = one.pick(RATES), one.random.randint(1, 50)
        sent: dict[str, Any] = {
            "rate_amount": rate,
            "currency": self.currency,
            "priority": priority,
            "invoice_requires_successful_payment": one.random.random() < 0.3,
        }
        if one.random.random() < 0.3:
            sent["applies_to"] = {"fee_types": [one.pick(["subscription", "fixed_charge"])]}
        if one.random.random() < 0.2:
            sent["expiration_at"] = self.now + timedelta(days=one.random.randint(5, 60))
        if one.random.random() < 0.4:
            trigger = one.pick([{"trigger": "interval", "interval": "weekly"}, {"trigger": "threshold"}])
            threshold = {"threshold_credits": "1"} if trigger["trigger"] == "threshold" else {}
            rule = {**trigger, **threshold, "method": "fixed", "granted_credits": self._credits(one, rate)}
            sent["recurring_transaction_rules"] = [rule]
        organization = db.get_one(Organization, self.id)
        customer = find_customer(db, self.id, one.name, lock=True)
        wallet = create_wallet(db, organization, customer, sent, self.now, most=3)
        write_rules(db, wallet, sent, self.now)
        return f"{sent}"

    def move_credits(self, db: Session, one: Account) -> str:
        kind = one.pick(["granted", "paid", "paid", "voided", "one"])
        if kind == "one":
            wallet_id, transaction_id = one.pick(one.top_ups)
            sent = {"wallet_id": str(wallet_id), "voided_transaction_id": str(transaction_id)}
        else:
            sent = {"wallet_id": str(one.pick(one.wallets)), f"{kind}_credits": self._credits(one, "1")}
        sent["priority"] = one.random.randint(1, 50)
        create_transactions(db, self.id, sent, self.now)
        return f"{kind} {sent}"

    def end_wallet(self, db: Session, one: Account) -> str:
        terminate_wallet(db, find_wallet(db, self.id, one.pick(one.wallets), lock=True), self.now)
        return ""

    def give_coupon(self, db: Session, one: Account) -> str:
        code = one.pick(list(COUPONS))
        apply_coupon(db, self.id, {"external_customer_id": one.name, "coupon_code": code}, self.now)
        return code

    def take_coupon(self, db: Session, one: Account) -> str:
        terminate_applied_coupon(db, self.id, one.name, one.pick(one.coupons), self.now)
        return ""

    def sell(self, db: Session, one: Account) -> str:
        fees = [
            {
                "add_on_code": one.pick(["setup", "seat"]),
                "units": Decimal(one.random.randint(1, 900)) / 100,
                "unit_amount_cents": one.random.randint(0, 2_000),
                "tax_codes": one.pick([["vat"], ["city", "vat"], []]),
            }
            for _ in range(one.random.randint(1, 3))
        ]
        sell(db, self.id, {"external_customer_id": one.name, "currency": self.currency, "fees": fees}, self.now)
        return f"{len(fees)}"

    def subscribe(self, db: Session, one: Account) -> str:
        """To another plan, or once more."""
        code = one.pick(PLANS)
        external_id = one.pick([*one.subscriptions, f"{one.name} {len(one.story)}"])
        self._subscribe(db, db.get_one(Organization, self.id), one, external_id, code)
        return f"{external_id} {code}"

    def end(self, db: Session, one: Account) -> str:
        subscription = find_subscription(db, self.id, one.pick(one.subscriptions), "active", lock=True)
        mode = one.pick(["credit", "refund", "offset", "skip"])
        terminate(db, subscription, self.now, METER, credit_note=mode)
        return mode

    def draft(self, db: Session, one: Account) -> str:
        bill = one.bill("draft")
        match one.pick(["refresh", "refresh", "finalize", "finalize", "delete"]):
            case "refresh":
                refresh_invoice(db, self.id, bill.id, self.now, METER)
            case "finalize":
                finalize_invoice(db, self.id, bill.id, self.now, METER)
            case _:
                delete_draft(db, self.id, bill.id, self.now)
        return ""

    # What there is

    def _look(self) -> None:
        """See what there is of each customer, in an order that does not depend on ids."""
        for one in self.accounts.values():
            for some in (one.bills, one.notes, one.wallets, one.top_ups, one.coupons, one.subscriptions):
                some.clear()
        with self.postgres.session() as db:
            organization = db.get_one(Organization, self.id)
            names = {one: name for name, one in self._customers(db)}
            fees: dict[UUID | None, list[tuple[UUID, int]]] = defaultdict(list)
            for invoice_id, fee_id, amount in db.execute(
                select(Fee.invoice_id, Fee.id, Fee.amount_cents)
                .where(Fee.organization_id == organization.id)
                .order_by(Fee.position)
            ):
                fees[invoice_id].append((fee_id, amount))

            def of(table: Any, *columns: Any, condition: Any, order: Sequence[Any]) -> list[tuple[Account, Any]]:
                query = select(table.customer_id, *columns).where(table.organization_id == self.id, condition)
                rows = db.execute(query.order_by(*order)).all()
                return [(self.accounts[names[row[0]]], row[1] if len(row) == 2 else row[1:]) for row in rows]

            bills = select(Invoice).where(
                Invoice.organization_id == self.id, Invoice.status.in_(("finalized", "open", "draft"))
            )
            for bill in db.scalars(bills.order_by(Invoice.created_at, Invoice.number, Invoice.total_amount_cents)):
                due, paid = bill.total_due_amount_cents, bill.total_paid_amount_cents
                made = Bill(bill.id, bill.invoice_type, bill.status, due, paid, fees[bill.id])
                self.accounts[names[bill.customer_id]].bills.append(made)
            notes = (CreditNote.created_at, CreditNote.number)
            for one, note in of(CreditNote, CreditNote.id, condition=CreditNote.balance_amount_cents > 0, order=notes):
                one.notes.append(note)
            active = Wallet.status == "active"
            for one, wallet in of(Wallet, Wallet.id, condition=active, order=(Wallet.created_at, Wallet.priority)):
                one.wallets.append(wallet)
            left = (
                select(Wallet.customer_id, Wallet.id, WalletTransaction.id)
                .join(Wallet, Wallet.id == WalletTransaction.wallet_id)
                .where(WalletTransaction.remaining_amount_cents > 0, Wallet.organization_id == self.id)
                .order_by(WalletTransaction.number)
            )
            for customer_id, wallet_id, transaction_id in db.execute(left):
                self.accounts[names[customer_id]].top_ups.append((wallet_id, transaction_id))
            held = AppliedCoupon.terminated_at.is_(None)
            for one, coupon in of(AppliedCoupon, AppliedCoupon.id, condition=held, order=(AppliedCoupon.number,)):
                one.coupons.append(coupon)
            subscribed = Subscription.status == "active"
            for one, external_id in of(
                Subscription, Subscription.external_id, condition=subscribed, order=(Subscription.external_id,)
            ):
                one.subscriptions.append(external_id)

    def _customers(self, db: Session) -> list[tuple[str, UUID]]:
        rows = db.execute(select(Customer.external_id, Customer.id).where(Customer.organization_id == self.id))
        return [(row[0], row[1]) for row in rows]

    @staticmethod
    def _credits(one: Account, rate: str) -> str:
        return f"{Decimal(one.random.randint(0, 400_000)) / 10_000 / Decimal(rate):.5f}"

    @staticmethod
    def _account(name: str, seed: int) -> Account:
        """Somebody to whom much happens, or now and then something."""
        own = seeded(crc32(f"{seed} {name}".encode()))
        return Account(name, own, 0.5 if own.random() < LIVELY else 0.06)

    # How it begins

    def _make_customer(self, db: Session, organization: Organization, one: Account) -> None:
        sent: dict[str, Any] = {"external_id": one.name, "currency": self.currency}
        if one.random.random() < 0.3:
            sent["billing_configuration"] = {"invoice_grace_period": 4}
        if one.random.random() < 0.3:
            sent["tax_codes"] = ["city", "third"]
        upsert_customer(db, organization, sent, BEGIN)
        plan = one.pick(PLANS)
        self._subscribe(db, organization, one, one.name, plan, subscription_at=BEGIN - timedelta(days=9))
        one.story.append(f"{sent} {plan}")
        for chance, step in ((0.8, self.open_wallet), (0.3, self.open_wallet), (0.6, self.give_coupon)):
            if one.random.random() < chance:
                one.story.append(f"{step.__name__}: {step(db, one)}")

    def _subscribe(
        self, db: Session, organization: Organization, one: Account, external_id: str, code: str, **more: object
    ) -> None:
        sent = {"external_customer_id": one.name, "external_id": external_id, "plan_code": code, **more}
        create_subscription(
            db, organization, {**sent, "billing_time": one.pick(["calendar", "anniversary"])}, self.now, METER
        )
