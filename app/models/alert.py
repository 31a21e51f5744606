"""What somebody wants to be told of: alerts on subscriptions and wallets, and when they were triggered."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id, Json
from app.models.catalog import LIVE, BillableMetric
from app.models.customer import Customer
from app.models.wallet import Wallet


class Alert(Base):
    """Values that must not be reached unnoticed (billing spec 8.5): by the usage of a customer's subscriptions with one
    external id, or by what is in a wallet. `thresholds` are `code`, `value` as text, and `recurring` of each;
    `previous_value` is what was found when it was looked at last."""

    __tablename__ = "alerts"
    __table_args__ = (
        CheckConstraint("(external_subscription_id IS NULL) <> (wallet_id IS NULL)", name="target"),
        Index(
            "uq_alerts_subscription_code",
            "customer_id",
            "external_subscription_id",
            "code",
            unique=True,
            postgresql_where=LIVE,
        ),
        Index(
            "uq_alerts_subscription_type",
            "customer_id",
            "external_subscription_id",
            "alert_type",
            text("coalesce(billable_metric_id, '00000000-0000-0000-0000-000000000000')"),
            unique=True,
            postgresql_where=LIVE,
        ),
        Index("uq_alerts_wallet_code", "wallet_id", "code", unique=True, postgresql_where=LIVE),
        Index("uq_alerts_wallet_type", "wallet_id", "alert_type", unique=True, postgresql_where=LIVE),
        Index("ix_alerts_watched", "organization_id", "external_subscription_id", postgresql_where=LIVE),
        Index(
            "ix_alerts_billable_metric_id",
            "billable_metric_id",
            postgresql_where=text("billable_metric_id IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    external_subscription_id: Mapped[str | None]
    wallet_id: Mapped[UUID | None] = mapped_column(ForeignKey("wallets.id"))
    billable_metric_id: Mapped[UUID | None] = mapped_column(ForeignKey("billable_metrics.id"))
    alert_type: Mapped[str]
    code: Mapped[str]
    name: Mapped[str | None]
    thresholds: Mapped[list[Json]]
    previous_value: Mapped[Decimal] = mapped_column(Numeric, default=Decimal(0))
    last_processed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    billable_metric: Mapped[BillableMetric | None] = relationship(lazy="raise_on_sql")
    wallet: Mapped[Wallet | None] = relationship(lazy="raise_on_sql")


class TriggeredAlert(Base):
    """A time when a value crossed thresholds of an alert: `crossed_thresholds` are `code`, `value` and `recurring` of each,
    as the alert was then. `number` tells those of one instant apart."""

    __tablename__ = "triggered_alerts"
    __table_args__ = (
        Index("ix_triggered_alerts_listing", "organization_id", "triggered_at", "number"),
        Index("ix_triggered_alerts_alert_id", "alert_id"),
    )

    id: Mapped[Id]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    current_value: Mapped[Decimal] = mapped_column(Numeric)
    previous_value: Mapped[Decimal] = mapped_column(Numeric)
    crossed_thresholds: Mapped[list[Json]]
    triggered_at: Mapped[datetime]

    alert: Mapped[Alert] = relationship(lazy="raise_on_sql")
    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
