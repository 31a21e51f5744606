"""Coupons: what may be taken off invoices, and which customers have it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Table, and_, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id, Rate
from app.models.catalog import LIVE, BillableMetric, Plan
from app.models.credit_note import Credit
from app.models.customer import Customer

coupon_plans = Table(
    "coupon_plans",
    Base.metadata,
    Column("coupon_id", ForeignKey("coupons.id"), primary_key=True),
    Column("plan_id", ForeignKey("plans.id"), primary_key=True),
)
coupon_metrics = Table(
    "coupon_metrics",
    Base.metadata,
    Column("coupon_id", ForeignKey("coupons.id"), primary_key=True),
    Column("billable_metric_id", ForeignKey("billable_metrics.id"), primary_key=True),
)


class Coupon(Base):
    """A discount that customers can be given (billing spec 5.1): an amount in minor units, or a rate in percent.

    One that is limited takes only of what is for certain plans or metrics, also when these have been deleted since.
    `terminated_at`: when it expired; it is given to nobody after that.
    """

    __tablename__ = "coupons"
    __table_args__ = (
        Index("uq_coupons_code", "organization_id", "code", unique=True, postgresql_where=LIVE),
        Index(
            "ix_coupons_expiring",
            "expiration_at",
            postgresql_where=text("expiration_at IS NOT NULL AND terminated_at IS NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    name: Mapped[str]
    code: Mapped[str]
    description: Mapped[str | None]
    coupon_type: Mapped[str]
    amount_cents: Mapped[Cents | None]
    amount_currency: Mapped[str | None]
    percentage_rate: Mapped[Rate | None]
    frequency: Mapped[str]
    frequency_duration: Mapped[int | None]
    reusable: Mapped[bool]
    expiration: Mapped[str]
    expiration_at: Mapped[datetime | None]
    limited_plans: Mapped[bool] = mapped_column(default=False)
    limited_billable_metrics: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    plans: Mapped[list[Plan]] = relationship(
        secondary=coupon_plans,
        secondaryjoin=lambda: and_(Plan.id == coupon_plans.c.plan_id, Plan.deleted_at.is_(None)),
        lazy="raise_on_sql",
        order_by=Plan.code,
    )
    billable_metrics: Mapped[list[BillableMetric]] = relationship(
        secondary=coupon_metrics,
        secondaryjoin=lambda: and_(
            BillableMetric.id == coupon_metrics.c.billable_metric_id, BillableMetric.deleted_at.is_(None)
        ),
        lazy="raise_on_sql",
        order_by=BillableMetric.code,
    )

    @property
    def status(self) -> str:
        return "active" if self.terminated_at is None else "terminated"


class AppliedCoupon(Base):
    """A coupon that a customer has, with what it is worth to that customer (billing spec 5.2).

    `number` counts the customer's coupons in the order in which they were given. `terminated_at`: when it was used up,
    taken away, or its coupon deleted; it takes nothing after that.
    """

    __tablename__ = "applied_coupons"
    __table_args__ = (
        Index("ix_applied_coupons_listing", "organization_id", "created_at", "id"),
        Index("uq_applied_coupons_number", "customer_id", "number", unique=True),
        Index("ix_applied_coupons_active", "customer_id", postgresql_where=text("terminated_at IS NULL")),
        Index("ix_applied_coupons_coupon_id", "coupon_id"),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    coupon_id: Mapped[UUID] = mapped_column(ForeignKey("coupons.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    number: Mapped[int]
    amount_cents: Mapped[Cents | None]
    amount_currency: Mapped[str | None]
    percentage_rate: Mapped[Rate | None]
    frequency: Mapped[str]
    frequency_duration: Mapped[int | None]
    frequency_duration_remaining: Mapped[int | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    terminated_at: Mapped[datetime | None]

    coupon: Mapped[Coupon] = relationship(lazy="raise_on_sql")
    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    credits: Mapped[list[Credit]] = relationship(
        lazy="raise_on_sql", order_by="Credit.created_at, Credit.id", back_populates="applied_coupon"
    )

    @property
    def status(self) -> str:
        return "active" if self.terminated_at is None else "terminated"
