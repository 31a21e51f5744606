"""Ongoing balances in PostgreSQL: what they are made of, how many statements they take, and when they are computed anew."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, true, update
from sqlalchemy.orm import Session, joinedload

from app.billing.billed import Buyer
from app.billing.close import close_chunk
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import write_invoices
from app.billing.ongoing_balances import freshen_balances, refresh_balances
from app.billing.payers import payer_of
from app.billing.remembered import PriceBook
from app.billing.rule_top_ups import due_rules, top_up_on_their_day
from app.billing.wallet_rules import write_rules
from app.billing.wallet_transactions import TopUp, top_up
from app.billing.wallets import create_wallet
from app.catalog.metrics import create_metric
from app.catalog.plans import create_plan
from app.core.aggregation import Units
from app.core.buckets import Bucket
from app.core.charges.fees import FeeAmounts
from app.customers.customers import upsert_customer
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription
from app.metering.meter import Meter
from app.metering.windows import Window
from app.models import (
    BillableMetric,
    Customer,
    Fee,
    Invoice,
    Organization,
    RecurringTransactionRule,
    Subscription,
    Wallet,
    WalletTransaction,
)
from app.stores.postgres import Postgres
from tests.stores.tables import statements

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 10, tzinfo=UTC)
JULY = datetime(2024, 7, 1, tzinfo=UTC)
FIXED = {"trigger": "threshold", "threshold_credits": "5", "paid_credits": "20", "granted_credits": "1"}

pytestmark = pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")


class Used:
    """Measures what it is told: units by the month that a window begins in."""

    def __init__(self, units: Mapping[int, int]):
        self._units = units

    def usage(self, windows: Sequence[Window]) -> list[dict[Bucket, Units]]:
        months = [datetime.fromtimestamp(one.from_ms / 1000, UTC).month for one in windows]
        return [{Bucket(None): Units(Decimal(self._units.get(month, 0)), 1)} for month in months]

    def events(self, windows: Sequence[Window]) -> list[object]:
        assert not windows
        return []


def used(**units: int) -> Meter:
    return cast("Meter", Used({{"june": 6, "july": 7}[month]: value for month, value in units.items()}))


@pytest.fixture
def owner(postgres: Postgres) -> UUID:
    """A fresh organization with a metric and a plan."""
    with postgres.session() as db:
        organization, _ = create_organization(db, name="Owner", now=JUNE)
        metric = {"name": "Calls", "code": "calls", "aggregation_type": "sum_agg", "field_name": "value"}
        made = create_metric(db, organization.id, metric, JUNE)
        charge = {"billable_metric_id": str(made.id), "charge_model": "standard", "properties": {"amount": "1"}}
        plan = {"name": "P", "code": "plan", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
        create_plan(db, organization.id, {**plan, "pay_in_advance": False, "charges": [charge]}, JUNE)
        return organization.id


def make_customer(
    postgres: Postgres, owner: UUID, name: str = "c", *, granted: int = 10, rule: Mapping[str, Any] | None = None
) -> UUID:
    """A customer with a subscription and a wallet."""
    with postgres.session() as db:
        organization = db.get_one(Organization, owner)
        customer = upsert_customer(db, organization, {"external_id": name, "currency": "EUR"}, JUNE)
        sent = {"external_customer_id": name, "external_id": f"of {name}", "plan_code": "plan", "subscription_at": JUNE}
        create_subscription(db, organization, sent, JUNE, used())
        wallet = create_wallet(db, organization, customer, {"rate_amount": "1"}, JUNE, most=6)
        if rule is not None:
            write_rules(db, wallet, {"recurring_transaction_rules": [rule]}, JUNE)
        top_up(db, wallet, TopUp(granted_credits=Decimal(granted)), JUNE)
        return customer.id


def refresh(postgres: Postgres, owner: UUID, *customers: UUID, meter: Meter, now: datetime = NOW) -> None:
    with postgres.session() as db:
        organization = db.get_one(Organization, owner)
        refresh_balances(db, meter, PriceBook(), organization, customers, now)


def wallet_of(postgres: Postgres, customer_id: UUID) -> Wallet:
    with postgres.session() as db:
        return db.scalars(select(Wallet).where(Wallet.customer_id == customer_id)).one()


def ongoing(postgres: Postgres, customer_id: UUID) -> tuple[int, int]:
    wallet = wallet_of(postgres, customer_id)
    return wallet.ongoing_usage_balance_cents, wallet.ongoing_balance_cents


def invoice(postgres: Postgres, owner: UUID, customer_id: UUID, cents: int, tax: int, **changes: object) -> UUID:
    """An invoice of a charge for June, with other columns set afterwards; its wallets are left alone."""
    with postgres.session() as db:
        subscription = db.scalars(select(Subscription).where(Subscription.customer_id == customer_id)).one()
        buyer = db.get_one(Customer, customer_id, options=[joinedload(Customer.billing_entity)])
        amounts = FeeAmounts(Decimal(1), cents, Decimal(cents), Decimal(cents) / 100, {})
        fee = FeeDraft(
            id=uuid4(),
            buyer=Buyer(owner, customer_id, "EUR"),
            subscription=None,
            item=FeeItem("charge", uuid4(), "calls", "calls", None, None),
            amounts=amounts,
            from_=JUNE,
            to=JULY,
            taxes=(),
            tax_amounts=tax_amounts(amounts, ()),
        )
        draft = InvoiceDraft(payer_of(buyer), "EUR", NOW, None, other_fees=(fee,), invoice_type="one_off")
        (invoice_id,) = write_invoices(db, [draft], NOW)
        metric = db.scalar(select(BillableMetric.id).where(BillableMetric.organization_id == owner))
        db.execute(
            update(Fee)
            .where(Fee.id == fee.id)
            .values(subscription_id=subscription.id, taxes_precise_amount_cents=Decimal(tax), item_id=metric)
        )
        db.execute(update(Invoice).where(Invoice.id == invoice_id).values(**changes))
        return invoice_id


def test_the_number_of_statements_does_not_grow(postgres: Postgres, owner: UUID) -> None:
    def top_up_all(*customers: UUID) -> int:
        return len(statements(postgres, lambda: refresh(postgres, owner, *customers, meter=used(june=8))))

    one = make_customer(postgres, owner, "one", rule=FIXED)
    many = [make_customer(postgres, owner, f"many {number}", rule=FIXED) for number in range(12)]
    assert top_up_all(*many) <= top_up_all(one)
    with postgres.session() as db:
        sold = db.scalars(select(WalletTransaction.credit_amount).where(WalletTransaction.source == "threshold")).all()
    assert sorted(sold) == [1] * 13 + [20] * 13
    assert {ongoing(postgres, one) for one in many} == {(800, 300)}


def test_a_page_of_wallets_is_read_with_one_measurement(postgres: Postgres, owner: UUID) -> None:
    class Counting(Used):
        measured = 0

        def usage(self, windows: Sequence[Window]) -> list[dict[Bucket, Units]]:
            self.measured += 1
            return super().usage(windows)

    def read(*customers: UUID) -> tuple[int, int]:
        meter = Counting({6: 3})

        def freshen() -> None:
            with postgres.session() as db:
                organization = db.get_one(Organization, owner)
                freshen_balances(db, cast("Meter", meter), PriceBook(), organization, customers, NOW)

        return len(statements(postgres, freshen)), meter.measured

    one = make_customer(postgres, owner, "one")
    many = [make_customer(postgres, owner, f"many {number}") for number in range(12)]
    few, more = read(one), read(*many)
    assert few == more
    assert few[1] == 2, "once to see that they are outdated, and once more when they are locked"
    assert {ongoing(postgres, customer) for customer in (one, *many)} == {(300, 700)}
    assert [read(*customers)[1] for customers in ([one], many)] == [1, 1]


def test_at_the_same_time_one_tops_up(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner, rule=FIXED)
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(refresh, postgres, owner, customer, meter=used(june=8)) for _ in range(8)]
        for one in done:
            one.result()
    with postgres.session() as db:
        made = db.scalars(
            select(WalletTransaction.credit_amount)
            .join(WalletTransaction.wallet)
            .where(Wallet.customer_id == customer, WalletTransaction.source == "threshold")
        ).all()
    assert sorted(made) == [1, 20]


def test_a_read_of_what_is_up_to_date_locks_nothing(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner)

    def freshen(units: int) -> list[str]:
        def read() -> None:
            with postgres.session() as db:
                organization = db.get_one(Organization, owner)
                freshen_balances(db, used(june=units), PriceBook(), organization, [customer], NOW)

        return [one for one in statements(postgres, read) if "FOR UPDATE" in one or "UPDATE wallets" in one]

    assert freshen(3) != []
    assert ongoing(postgres, customer) == (300, 700)
    assert freshen(3) == []
    assert freshen(4) != []
    assert ongoing(postgres, customer) == (400, 600)


def test_drafts_count_with_taxes_and_without_coupons(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner)
    draft = invoice(postgres, owner, customer, 300, 60, status="draft")
    refresh(postgres, owner, customer, meter=used(june=1))
    assert ongoing(postgres, customer) == (460, 540)
    with postgres.session() as db:
        db.execute(update(Fee).where(Fee.invoice_id == draft).values(precise_coupons_amount_cents=Decimal("100.4")))
    refresh(postgres, owner, customer, meter=used(june=1))
    assert ongoing(postgres, customer) == (360, 640)
    assert not wallet_of(postgres, customer).ready_to_be_refreshed
    with postgres.session() as db:
        db.get_one(Invoice, draft).status = "finalized"
    assert wallet_of(postgres, customer).ready_to_be_refreshed
    refresh(postgres, owner, customer, meter=used(june=1))
    assert ongoing(postgres, customer) == (100, 900)


def test_what_was_billed_progressively_is_taken_off(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner, granted=30)
    progressive = {"invoice_type": "progressive_billing"}
    invoice(postgres, owner, customer, 600, 0, **progressive)
    later = invoice(postgres, owner, customer, 1_000, 0, **progressive)
    with postgres.session() as db:  # it bills all so far, less what the one before has billed
        db.execute(update(Fee).where(Fee.invoice_id == later).values(precise_coupons_amount_cents=600))
    invoice(postgres, owner, customer, 5_000, 0, **progressive, status="voided")
    refresh(postgres, owner, customer, meter=used(june=12))
    assert ongoing(postgres, customer) == (200, 2_800)
    refresh(postgres, owner, customer, meter=used(june=9))
    assert ongoing(postgres, customer) == (0, 3_000)
    refresh(postgres, owner, customer, meter=used(june=12, july=4), now=JULY + timedelta(minutes=1))
    assert ongoing(postgres, customer) == (600, 2_400)


def test_a_period_that_is_over_counts_until_it_is_billed(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner)
    meter, after = used(june=5, july=2), JULY + timedelta(minutes=5)
    refresh(postgres, owner, customer, meter=meter, now=after)
    assert ongoing(postgres, customer) == (700, 300)
    with postgres.session() as db:
        close_chunk(db, Organization.id == owner, JULY, after, 100, meter)
    assert wallet_of(postgres, customer).ready_to_be_refreshed
    refresh(postgres, owner, customer, meter=meter, now=after)
    assert ongoing(postgres, customer) == (200, 300)


def test_depleted_from_nothing_left_until_something_is(postgres: Postgres, owner: UUID) -> None:
    customer = make_customer(postgres, owner)
    for units, depleted in ((9, False), (10, True), (11, True), (9, False)):
        refresh(postgres, owner, customer, meter=used(june=units))
        assert wallet_of(postgres, customer).depleted_ongoing_balance is depleted


def test_days_that_were_missed_are_made_up_for_once(postgres: Postgres, owner: UUID) -> None:
    monthly = {"trigger": "interval", "interval": "monthly", "paid_credits": "20"}
    customer = make_customer(postgres, owner, rule=monthly)

    def run(db: Session, now: datetime) -> int:
        due = due_rules(db, true(), now, [], 10).get(owner, {})
        top_up_on_their_day(db, list(due), now, now)
        return len(due)

    with postgres.session() as db:
        runs = [run(db, now) for now in (datetime(2024, 9, 20, 7, tzinfo=UTC), datetime(2024, 9, 30, tzinfo=UTC))]
        due_at = db.scalars(
            select(RecurringTransactionRule.due_at)
            .join(RecurringTransactionRule.wallet)
            .where(Wallet.customer_id == customer)
        ).one()
    assert (runs, due_at) == ([1, 0], datetime(2024, 10, 1, tzinfo=UTC))
