"""What the customers of tests on ledgers begin with: something to buy, and each other's terms."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Table, Text, Uuid, func, insert, select, true
from sqlalchemy import cast as cast_to
from sqlalchemy.orm import Session

from app.catalog.add_ons import create_add_on
from app.catalog.coupons import create_coupon
from app.catalog.plans import create_plan
from app.catalog.taxes import apply_to_organization
from app.core.money import exponent
from app.models import (
    Customer,
    Organization,
    Subscription,
    Tax,
    Wallet,
)
from app.models.base import Base

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
ORIGINALS = 24
"""Customers that are made one by one; the others begin as copies of them."""
PLANS = ("arrears", "advance", "weekly")
COUPONS: dict[str, dict[str, Any]] = {
    "once": {"coupon_type": "fixed_amount", "amount_cents": 4_000, "frequency": "once"},
    "always": {"coupon_type": "fixed_amount", "amount_cents": 150, "frequency": "forever"},
    "twice": {"coupon_type": "fixed_amount", "amount_cents": 777, "frequency": "recurring", "frequency_duration": 2},
    "third": {"coupon_type": "percentage", "percentage_rate": Decimal("33.3"), "frequency": "once"},
    "eighth": {
        "coupon_type": "percentage",
        "percentage_rate": Decimal("12.5"),
        "frequency": "recurring",
        "frequency_duration": 3,
    },
    "weekly": {
        "coupon_type": "fixed_amount",
        "amount_cents": 123,
        "frequency": "forever",
        "applies_to": {"plan_codes": ["weekly"]},
    },
}


def make_catalog(db: Session, organization_id: UUID, currency: str) -> None:
    """What an organization sells: taxes, add-ons, plans and coupons, with amounts that do not come out even."""
    for code, rate in (("vat", "7.7"), ("city", "2.345"), ("third", "33.33333")):
        tax = Tax(
            organization_id=organization_id,
            code=code,
            name=code,
            rate=Decimal(rate),
            created_at=BEGIN,
            updated_at=BEGIN,
        )
        db.add(tax)
        db.flush()
        apply_to_organization(db, tax, code == "vat")
    money = {"amount_currency": currency}
    for code, cents in (("seat", 333), ("setup", 5_000)):
        taxes = ["city"] if code == "seat" else []
        add_on = {"code": code, "name": code, "amount_cents": cents, **money, "tax_codes": taxes}
        create_add_on(db, organization_id, add_on, BEGIN)
    unit = Decimal(1).scaleb(-exponent(currency))
    seats = {"add_on_code": "seat", "charge_model": "standard", "units": Decimal("3.5")}
    setup = {"add_on_code": "setup", "charge_model": "standard", "units": Decimal(1)}

    def at(cents: str) -> dict[str, str]:
        return {"amount": f"{Decimal(cents) * unit:f}"}

    common = {"interval": "monthly", "pay_in_advance": False, **money}
    plans: dict[str, dict[str, Any]] = {
        "arrears": {
            "amount_cents": 3_333,
            "fixed_charges": [
                {**seats, "properties": at("111.37"), "prorated": True, "tax_codes": ["city", "vat"]},
                {**setup, "properties": at("999.5")},
            ],
            "minimum_commitment": {"amount_cents": 5_001, "tax_codes": ["third"]},
        },
        "advance": {
            "amount_cents": 9_901,
            "pay_in_advance": True,
            "fixed_charges": [{**seats, "properties": at("77.77"), "pay_in_advance": True, "prorated": True}],
        },
        "weekly": {
            "amount_cents": 777,
            "interval": "weekly",
            "fixed_charges": [{**setup, "properties": at("0.5")}],
        },
    }
    for code, plan in plans.items():
        create_plan(db, organization_id, {"name": code, "code": code, **common, **plan}, BEGIN)
    for code, coupon in COUPONS.items():
        in_money = money if coupon["coupon_type"] == "fixed_amount" else {}
        sent = {"name": code, "code": code, "expiration": "no_expiration", "reusable": True, **in_money, **coupon}
        if code == "third":
            sent |= {"expiration": "time_limit", "expiration_at": BEGIN + timedelta(days=50)}
        create_coupon(db, organization_id, sent, BEGIN)


def copy_customers(db: Session, organization_id: UUID, copies: int) -> None:
    """Copy the customers of an organization so many times, with what they have, before anything has happened to them. A
    copy's ids are made of the original's and its number."""
    numbers = func.generate_series(1, copies).table_valued("number").render_derived()
    number = numbers.c.number
    theirs = select(Customer.id).where(Customer.organization_id == organization_id, Customer.sequential_id <= ORIGINALS)
    customers = db.scalars(theirs).all()
    subscriptions = db.scalars(select(Subscription.id).where(Subscription.customer_id.in_(customers))).all()
    wallets = db.scalars(select(Wallet.id).where(Wallet.customer_id.in_(customers))).all()

    def renamed(column: Any) -> Any:
        return cast_to(column, Text) + "." + cast_to(number, Text)

    for name, owner, owners in (
        ("customers", "id", customers),
        ("customer_taxes", "customer_id", customers),
        ("subscriptions", "customer_id", customers),
        ("subscription_units", "subscription_id", subscriptions),
        ("wallets", "customer_id", customers),
        ("recurring_transaction_rules", "wallet_id", wallets),
        ("applied_coupons", "customer_id", customers),
    ):
        table: Table = Base.metadata.tables[name]
        copied: dict[str, Any] = {}
        for column in table.c:
            if column.name in {"id", "customer_id", "subscription_id", "wallet_id"}:
                copied[column.name] = cast_to(func.md5(renamed(column)), Uuid)
            elif column.name in {"external_id", "slug"}:
                copied[column.name] = renamed(column)
            elif column.name == "sequential_id":
                copied[column.name] = column + number * ORIGINALS
            elif column.identity is None:
                copied[column.name] = column
        query = select(*copied.values()).select_from(table.join(numbers, true())).where(table.c[owner].in_(owners))
        db.execute(insert(table).from_select(list(copied), query))
    db.get_one(Organization, organization_id).last_customer_number = ORIGINALS * (copies + 1)
