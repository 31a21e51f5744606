"""Prepaid credits: wallets, what goes in and out of them, and the rules by which they are topped up."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Numeric, Table, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id, Json
from app.models.billing_entity import BillingEntity
from app.models.catalog import BillableMetric
from app.models.customer import Customer

DEFAULT_PRIORITY = 50
"""Of wallets and of what goes into them, where none is told; 1 is used first (billing spec 7.1)."""

Credits = Annotated[Decimal, mapped_column(Numeric(30, 5))]

_ACTIVE = text("status = 'active'")

wallet_metrics = Table(
    "wallet_metrics",
    Base.metadata,
    Column("wallet_id", ForeignKey("wallets.id"), primary_key=True),
    Column("billable_metric_id", ForeignKey("billable_metrics.id"), primary_key=True),
)


class Wallet(Base):
    """Prepaid credits of a customer (billing spec 7.1). `rate_amount`: the price of one credit in currency units.

    `balance_cents` and `credits_balance` are what has been put in and not spent. `ongoing_usage_balance_cents`: what of the
    usage that has not been billed falls to it; `ongoing_balance_cents`: what is left when that is billed, which may be
    negative. `ready_to_be_refreshed`: these two are to be computed anew. `fee_types` and `metrics`: what alone it pays for,
    where one of them is not empty. `billing_entity_id`: which entity sells its credits, where that is not the customer's.
    """

    __tablename__ = "wallets"
    __table_args__ = (
        Index("uq_wallets_code", "customer_id", "code", unique=True, postgresql_where=_ACTIVE),
        Index("ix_wallets_customer_id", "customer_id"),
        Index("ix_wallets_listing", "organization_id", "created_at", "id"),
        Index(
            "ix_wallets_expiration",
            "organization_id",
            "expiration_at",
            postgresql_where=text("status = 'active' AND expiration_at IS NOT NULL"),
        ),
        Index(
            "ix_wallets_ready_to_be_refreshed",
            "organization_id",
            "customer_id",
            postgresql_where=text("status = 'active' AND ready_to_be_refreshed"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    billing_entity_id: Mapped[UUID | None] = mapped_column(ForeignKey("billing_entities.id"))
    status: Mapped[str] = mapped_column(default="active")
    name: Mapped[str | None]
    code: Mapped[str]
    priority: Mapped[int] = mapped_column(default=DEFAULT_PRIORITY)
    currency: Mapped[str]
    rate_amount: Mapped[Credits]
    credits_balance: Mapped[Credits] = mapped_column(default=Decimal(0))
    balance_cents: Mapped[Cents] = mapped_column(default=0)
    consumed_credits: Mapped[Credits] = mapped_column(default=Decimal(0))
    credits_ongoing_balance: Mapped[Credits] = mapped_column(default=Decimal(0))
    ongoing_balance_cents: Mapped[Cents] = mapped_column(default=0)
    credits_ongoing_usage_balance: Mapped[Credits] = mapped_column(default=Decimal(0))
    ongoing_usage_balance_cents: Mapped[Cents] = mapped_column(default=0)
    depleted_ongoing_balance: Mapped[bool] = mapped_column(default=False)
    ready_to_be_refreshed: Mapped[bool] = mapped_column(default=False)
    fee_types: Mapped[list[str]] = mapped_column(default=list)
    invoice_requires_successful_payment: Mapped[bool] = mapped_column(default=False)
    paid_top_up_min_amount_cents: Mapped[Cents | None]
    paid_top_up_max_amount_cents: Mapped[Cents | None]
    purchase_order_number: Mapped[str | None]
    payment_method: Mapped[Json | None]
    wallet_metadata: Mapped[Json | None]
    expiration_at: Mapped[datetime | None]
    last_balance_sync_at: Mapped[datetime | None]
    last_ongoing_balance_sync_at: Mapped[datetime | None]
    last_consumed_credit_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    billing_entity: Mapped[BillingEntity | None] = relationship(lazy="raise_on_sql")
    metrics: Mapped[list[BillableMetric]] = relationship(
        secondary=wallet_metrics, lazy="raise_on_sql", order_by=BillableMetric.code
    )
    rules: Mapped[list["RecurringTransactionRule"]] = relationship(
        primaryjoin="and_(Wallet.id == RecurringTransactionRule.wallet_id,"
        " RecurringTransactionRule.status == 'active')",
        lazy="raise_on_sql",
        order_by="RecurringTransactionRule.created_at, RecurringTransactionRule.id",
        viewonly=True,
    )

    @property
    def issuer(self) -> BillingEntity:
        """Who sells its credits; the customer's entity must be loaded."""
        return self.billing_entity or self.customer.billing_entity


class WalletTransaction(Base):
    """What goes into a wallet or out of it (billing spec 7.2). `amount_cents` is what `credit_amount` credits are worth.

    `remaining_amount_cents`: what of an inbound one, once it is settled, has not gone out again; null for others.
    `invoice_id`: the invoice that sells these credits, or the one that they were spent on. `number` tells those of one
    instant apart: lower is older.
    """

    __tablename__ = "wallet_transactions"
    __table_args__ = (
        Index("ix_wallet_transactions_listing", "wallet_id", "created_at", "number"),
        Index("ix_wallet_transactions_left", "wallet_id", postgresql_where=text("remaining_amount_cents > 0")),
        Index("ix_wallet_transactions_pending", "wallet_id", postgresql_where=text("status = 'pending'")),
        Index("ix_wallet_transactions_invoice_id", "invoice_id", postgresql_where=text("invoice_id IS NOT NULL")),
    )

    id: Mapped[Id]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    wallet_id: Mapped[UUID] = mapped_column(ForeignKey("wallets.id"))
    invoice_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("invoices.id", deferrable=True, initially="DEFERRED")  # invoices are written when all is settled
    )
    credit_note_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_notes.id"))
    voided_invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"))
    transaction_type: Mapped[str]
    status: Mapped[str]
    transaction_status: Mapped[str]
    source: Mapped[str] = mapped_column(default="manual")
    name: Mapped[str | None]
    priority: Mapped[int] = mapped_column(default=DEFAULT_PRIORITY)
    amount_cents: Mapped[Cents]
    credit_amount: Mapped[Credits]
    remaining_amount_cents: Mapped[Cents | None]
    invoice_requires_successful_payment: Mapped[bool] = mapped_column(default=False)
    purchase_order_number: Mapped[str | None]
    payment_method: Mapped[Json | None]
    transaction_metadata: Mapped[list[Json]] = mapped_column(default=list)
    settled_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    wallet: Mapped[Wallet] = relationship(lazy="raise_on_sql")


class WalletConsumption(Base):
    """How much of what went into a wallet with one transaction went out of it with another (billing spec 7.4)."""

    __tablename__ = "wallet_consumptions"
    __table_args__ = (
        UniqueConstraint("inbound_id", "outbound_id"),
        Index("ix_wallet_consumptions_outbound_id", "outbound_id"),
    )

    id: Mapped[Id]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    inbound_id: Mapped[UUID] = mapped_column(ForeignKey("wallet_transactions.id"))
    outbound_id: Mapped[UUID] = mapped_column(ForeignKey("wallet_transactions.id"))
    amount_cents: Mapped[Cents]
    created_at: Mapped[datetime]

    inbound: Mapped[WalletTransaction] = relationship(foreign_keys=[inbound_id], lazy="raise_on_sql")
    outbound: Mapped[WalletTransaction] = relationship(foreign_keys=[outbound_id], lazy="raise_on_sql")


class RecurringTransactionRule(Base):
    """By which a wallet is topped up without being told (billing spec 7.6). `due_at`: when one by interval does so next."""

    __tablename__ = "recurring_transaction_rules"
    __table_args__ = (
        Index("ix_recurring_transaction_rules_wallet_id", "wallet_id"),
        Index(
            "ix_recurring_transaction_rules_due",
            "organization_id",
            "due_at",
            postgresql_where=text("status = 'active' AND due_at IS NOT NULL"),
        ),
        Index(
            "ix_recurring_transaction_rules_expiration",
            "organization_id",
            "expiration_at",
            postgresql_where=text("status = 'active' AND expiration_at IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    wallet_id: Mapped[UUID] = mapped_column(ForeignKey("wallets.id"))
    status: Mapped[str] = mapped_column(default="active")
    trigger: Mapped[str]
    method: Mapped[str] = mapped_column(default="fixed")
    interval: Mapped[str | None]
    threshold_credits: Mapped[Credits] = mapped_column(default=Decimal(0))
    paid_credits: Mapped[Credits] = mapped_column(default=Decimal(0))
    granted_credits: Mapped[Credits] = mapped_column(default=Decimal(0))
    target_ongoing_balance: Mapped[Credits | None]
    grants_target_top_up: Mapped[bool] = mapped_column(default=False)
    invoice_requires_successful_payment: Mapped[bool] = mapped_column(default=False)
    ignore_paid_top_up_limits: Mapped[bool] = mapped_column(default=False)
    transaction_name: Mapped[str | None]
    transaction_metadata: Mapped[list[Json]] = mapped_column(default=list)
    purchase_order_number: Mapped[str | None]
    payment_method: Mapped[Json | None]
    started_at: Mapped[datetime | None]
    expiration_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]

    wallet: Mapped[Wallet] = relationship(lazy="raise_on_sql")


class WalletMark(Base):
    """Until when an organization's events, by the time they were ingested, count in the ongoing balances of its wallets. An
    organization has a mark from its first wallet on."""

    __tablename__ = "wallet_marks"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    seen_until: Mapped[datetime]
