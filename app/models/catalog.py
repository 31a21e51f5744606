"""What can be sold: taxes, billable metrics, plans and their charges."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Column, ColumnElement, ForeignKey, Index, Table, and_, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id, Json, Rate

LIVE = text("deleted_at IS NULL")

plan_taxes = Table(
    "plan_taxes",
    Base.metadata,
    Column("plan_id", ForeignKey("plans.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)
charge_taxes = Table(
    "charge_taxes",
    Base.metadata,
    Column("charge_id", ForeignKey("charges.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)


class Tax(Base):
    """A tax with its rate in percent (billing spec 4.1)."""

    __tablename__ = "taxes"
    __table_args__ = (Index("uq_taxes_code", "organization_id", "code", unique=True, postgresql_where=LIVE),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    code: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    rate: Mapped[Rate]
    applied_to_organization: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


def live_tax(link: Table) -> ColumnElement[bool]:
    """Joins a table of tax ids to the taxes that have not been deleted."""
    return and_(Tax.id == link.c.tax_id, Tax.deleted_at.is_(None))


class BillableMetric(Base):
    """What is counted: an event code and how its events become units (metering spec 2.1)."""

    __tablename__ = "billable_metrics"
    __table_args__ = (
        Index("uq_billable_metrics_code", "organization_id", "code", unique=True, postgresql_where=LIVE),
        Index(
            "ix_billable_metrics_pending_backfill",
            "organization_id",
            "code",
            postgresql_where=text("backfill_pending"),
        ),
        Index(
            "ix_billable_metrics_pending_dimensions",
            "organization_id",
            "code",
            postgresql_where=text("dimensions_pending"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    name: Mapped[str]
    code: Mapped[str]
    description: Mapped[str | None]
    aggregation_type: Mapped[str]
    field_name: Mapped[str | None]
    recurring: Mapped[bool] = mapped_column(default=False)
    weighted_interval: Mapped[str | None]
    expression: Mapped[str | None]
    rounding_function: Mapped[str | None]
    rounding_precision: Mapped[int | None]
    filters: Mapped[list[Json]] = mapped_column(default=list)
    dimension_keys: Mapped[list[str]] = mapped_column(JSONB, default=list)
    dimensions_pending: Mapped[bool] = mapped_column(default=False)
    backfill_pending: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Plan(Base):
    """A price list with a recurring fee; subscriptions point at it (billing spec 1.1)."""

    __tablename__ = "plans"
    __table_args__ = (
        Index(
            "uq_plans_code",
            "organization_id",
            "code",
            unique=True,
            postgresql_where=text("deleted_at IS NULL AND parent_id IS NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("plans.id"))
    code: Mapped[str]
    name: Mapped[str]
    invoice_display_name: Mapped[str | None]
    description: Mapped[str | None]
    interval: Mapped[str]
    amount_cents: Mapped[Cents]
    amount_currency: Mapped[str]
    pay_in_advance: Mapped[bool] = mapped_column(default=False)
    plan_metadata: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    charges: Mapped[list["Charge"]] = relationship(
        primaryjoin="and_(Plan.id == Charge.plan_id, Charge.deleted_at.is_(None))",
        order_by="Charge.position",
        viewonly=True,
        lazy="raise_on_sql",
    )
    taxes: Mapped[list[Tax]] = relationship(
        secondary=plan_taxes, secondaryjoin=lambda: live_tax(plan_taxes), lazy="raise_on_sql", order_by=Tax.code
    )


class Charge(Base):
    """The price of one metric on one plan (metering spec 3.1)."""

    __tablename__ = "charges"
    __table_args__ = (
        Index("uq_charges_code", "plan_id", "code", unique=True, postgresql_where=LIVE),
        Index("ix_charges_billable_metric_id", "billable_metric_id"),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    billable_metric_id: Mapped[UUID] = mapped_column(ForeignKey("billable_metrics.id"))
    code: Mapped[str]
    invoice_display_name: Mapped[str | None]
    charge_model: Mapped[str]
    properties: Mapped[Json]
    position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    billable_metric: Mapped[BillableMetric] = relationship(lazy="raise_on_sql")
    taxes: Mapped[list[Tax]] = relationship(
        secondary=charge_taxes, secondaryjoin=lambda: live_tax(charge_taxes), lazy="raise_on_sql", order_by=Tax.code
    )


def percent(rate: Decimal) -> int | Decimal:
    """A rate as a JSON number is read best: whole where it is whole."""
    return int(rate) if rate == rate.to_integral_value() else rate.normalize()
