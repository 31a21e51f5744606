"""What is billed before a period ends: the amounts of usage that lead to it, and what was billed when they were passed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id


class UsageThreshold(Base):
    """An amount of lifetime usage at which subscriptions are billed: of a plan, or of one of them (billing spec 8.1)."""

    __tablename__ = "usage_thresholds"
    __table_args__ = (
        CheckConstraint("(plan_id IS NULL) <> (subscription_id IS NULL)", name="owner"),
        Index(
            "uq_usage_thresholds_plan",
            "plan_id",
            "recurring",
            "amount_cents",
            unique=True,
            postgresql_where=text("deleted_at IS NULL AND plan_id IS NOT NULL"),
        ),
        Index(
            "uq_usage_thresholds_subscription",
            "subscription_id",
            "recurring",
            "amount_cents",
            unique=True,
            postgresql_where=text("deleted_at IS NULL AND subscription_id IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    plan_id: Mapped[UUID | None] = mapped_column(ForeignKey("plans.id"))
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    amount_cents: Mapped[Cents]
    threshold_display_name: Mapped[str | None]
    recurring: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class AppliedUsageThreshold(Base):
    """A threshold that was passed, and the invoice that was made of it. The unique key is what keeps the same usage from
    being billed twice: by what was invoiced before, and the highest threshold that was passed (billing spec 8.2)."""

    __tablename__ = "applied_usage_thresholds"
    __table_args__ = (
        Index(
            "uq_applied_usage_thresholds_passed",
            "subscription_id",
            "usage_threshold_id",
            "invoiced_usage_amount_cents",
            unique=True,
            postgresql_where=text("is_highest"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    usage_threshold_id: Mapped[UUID] = mapped_column(ForeignKey("usage_thresholds.id"))
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    is_highest: Mapped[bool]
    invoiced_usage_amount_cents: Mapped[Cents]
    lifetime_usage_amount_cents: Mapped[Cents]
    created_at: Mapped[datetime]

    usage_threshold: Mapped[UsageThreshold] = relationship(lazy="raise_on_sql")


class UsageMark(Base):
    """Until when an organization's events, by the time they were ingested, have been looked at for usage thresholds and
    alerts. An organization has a mark from its first of these on."""

    __tablename__ = "usage_marks"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    looked_until: Mapped[datetime]


class UsageCheck(Base):
    """A subscription whose usage is to be held against its thresholds though no event came: these have changed."""

    __tablename__ = "usage_checks"

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    asked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
