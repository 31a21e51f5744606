"""What can be sold: taxes, billable metrics, add-ons, plans and their charges."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, Column, ColumnElement, ForeignKey, Index, Table, and_, exists, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from app.models.base import Base, Cents, FixedUnits, Id, Json, Rate

if TYPE_CHECKING:
    from app.models.progressive import UsageThreshold

LIVE = text("deleted_at IS NULL")
GROUPED_CHARGE = text(
    "charges.deleted_at IS NULL AND (charges.accepts_target_wallet"
    " OR charges.properties ?| ARRAY['pricing_group_keys', 'presentation_group_keys'])"
)
"""Charges that split usage by properties of its events."""
GROUPED_FILTER = text("charge_filters.deleted_at IS NULL AND charge_filters.properties ? 'pricing_group_keys'")
"""Charge filters that do."""

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
add_on_taxes = Table(
    "add_on_taxes",
    Base.metadata,
    Column("add_on_id", ForeignKey("add_ons.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)
fixed_charge_taxes = Table(
    "fixed_charge_taxes",
    Base.metadata,
    Column("fixed_charge_id", ForeignKey("fixed_charges.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)
commitment_taxes = Table(
    "commitment_taxes",
    Base.metadata,
    Column("commitment_id", ForeignKey("minimum_commitments.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)
billing_entity_taxes = Table(
    "billing_entity_taxes",
    Base.metadata,
    Column("billing_entity_id", ForeignKey("billing_entities.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)


class Tax(Base):
    """A tax with its rate in percent (billing spec 4.1). `applied_to_organization`: the default billing entity has it."""

    __tablename__ = "taxes"
    __table_args__ = (Index("uq_taxes_code", "organization_id", "code", unique=True, postgresql_where=LIVE),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    code: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    rate: Mapped[Rate]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    if TYPE_CHECKING:
        applied_to_organization: Mapped[bool]


# The default billing entity has the id of its organization.
_given = billing_entity_taxes.alias("given")
Tax.applied_to_organization = column_property(
    exists()
    .where(_given.c.tax_id == Tax.id, _given.c.billing_entity_id == Tax.organization_id)
    .correlate_except(_given)
)


def live_tax(link: Table) -> ColumnElement[bool]:
    """Joins a table of tax ids to the taxes that have not been deleted."""
    return and_(Tax.id == link.c.tax_id, Tax.deleted_at.is_(None))


class BillableMetric(Base):
    """What is counted: an event code and how its events become units (metering spec 2.1).

    `dimension_keys` are the event properties its usage is split by; `dimensions_pending`: that of stored events is yet to
    be; `backfill_pending`: stored events are yet to be read by it. `events_to_delete`, of a deleted metric whose events
    are still there: `subscriptions` they are of, and `before` when they were received.
    """

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
            "ix_billable_metrics_events_to_delete",
            "organization_id",
            "code",
            postgresql_where=text("events_to_delete IS NOT NULL"),
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
    events_to_delete: Mapped[Json | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class PricingUnit(Base):
    """A virtual currency that charges can be priced in, such as credits or tokens (metering spec 3.13)."""

    __tablename__ = "pricing_units"
    __table_args__ = (Index("uq_pricing_units_code", "organization_id", "code", unique=True, postgresql_where=LIVE),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    code: Mapped[str]
    name: Mapped[str]
    short_name: Mapped[str]
    description: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Plan(Base):
    """A price list with a recurring fee; subscriptions point at it (billing spec 1.1).

    One with a `parent_id` is the copy of that plan that one subscription is on, with prices of its own (billing spec 1.11).
    `deletion_due_at`: it is to be deleted, and its subscriptions end as of then.
    """

    __tablename__ = "plans"
    __table_args__ = (
        Index(
            "uq_plans_code",
            "organization_id",
            "code",
            unique=True,
            postgresql_where=text("deleted_at IS NULL AND parent_id IS NULL AND deletion_due_at IS NULL"),
        ),
        Index("ix_plans_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index(
            "ix_plans_deletion",
            "organization_id",
            "deletion_due_at",
            postgresql_where=text("deletion_due_at IS NOT NULL AND deleted_at IS NULL"),
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
    bill_charges_monthly: Mapped[bool | None]
    bill_fixed_charges_monthly: Mapped[bool | None]
    trial_period: Mapped[Rate | None]
    plan_metadata: Mapped[Json] = mapped_column(default=dict)
    deletion_due_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    charges: Mapped[list["Charge"]] = relationship(
        primaryjoin="and_(Plan.id == Charge.plan_id, Charge.deleted_at.is_(None))",
        order_by="Charge.position",
        viewonly=True,
        lazy="raise_on_sql",
    )
    minimum_commitment: Mapped["MinimumCommitment | None"] = relationship(
        lazy="raise_on_sql", cascade="all, delete-orphan"
    )
    fixed_charges: Mapped[list["FixedCharge"]] = relationship(
        primaryjoin="and_(Plan.id == FixedCharge.plan_id, FixedCharge.deleted_at.is_(None))",
        order_by="FixedCharge.position",
        viewonly=True,
        lazy="raise_on_sql",
    )
    usage_thresholds: Mapped[list["UsageThreshold"]] = relationship(
        primaryjoin="and_(Plan.id == UsageThreshold.plan_id, UsageThreshold.deleted_at.is_(None))",
        order_by="UsageThreshold.recurring, UsageThreshold.amount_cents",
        viewonly=True,
        lazy="raise_on_sql",
    )
    parents_usage_thresholds: Mapped[list["UsageThreshold"]] = relationship(
        primaryjoin="and_(Plan.parent_id == foreign(UsageThreshold.plan_id), UsageThreshold.deleted_at.is_(None))",
        order_by="UsageThreshold.recurring, UsageThreshold.amount_cents",
        viewonly=True,
        lazy="raise_on_sql",
    )
    taxes: Mapped[list[Tax]] = relationship(
        secondary=plan_taxes, secondaryjoin=lambda: live_tax(plan_taxes), lazy="raise_on_sql", order_by=Tax.code
    )

    @property
    def applicable_usage_thresholds(self) -> list["UsageThreshold"]:
        """Its own, else those of the plan that it is a copy of (billing spec 8.1). Both must be loaded."""
        return self.usage_thresholds or self.parents_usage_thresholds


class MinimumCommitment(Base):
    """What a period of a plan costs at least; what its fees lack of it is a fee of its own (billing spec 2.5)."""

    __tablename__ = "minimum_commitments"

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"), unique=True)
    amount_cents: Mapped[Cents]
    invoice_display_name: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    taxes: Mapped[list[Tax]] = relationship(
        secondary=commitment_taxes,
        secondaryjoin=lambda: live_tax(commitment_taxes),
        lazy="raise_on_sql",
        order_by=Tax.code,
    )


class Charge(Base):
    """The price of one metric on one plan (metering spec 3.1). `parent_id`: the charge that one on a copy is a copy of. Of
    one in pricing units, `conversion_rate` is what a unit is worth in the plan's currency."""

    __tablename__ = "charges"
    __table_args__ = (
        Index("uq_charges_code", "plan_id", "code", unique=True, postgresql_where=LIVE),
        Index("ix_charges_billable_metric_id", "billable_metric_id"),
        Index("ix_charges_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_charges_grouped", "billable_metric_id", postgresql_where=GROUPED_CHARGE),
        Index("ix_charges_pricing_unit_id", "pricing_unit_id", postgresql_where=text("pricing_unit_id IS NOT NULL")),
        CheckConstraint("(pricing_unit_id IS NULL) = (conversion_rate IS NULL)", name="conversion_rate"),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("charges.id"))
    billable_metric_id: Mapped[UUID] = mapped_column(ForeignKey("billable_metrics.id"))
    code: Mapped[str]
    invoice_display_name: Mapped[str | None]
    charge_model: Mapped[str]
    pay_in_advance: Mapped[bool] = mapped_column(default=False)
    prorated: Mapped[bool] = mapped_column(default=False)
    invoiceable: Mapped[bool] = mapped_column(default=True)
    regroup_paid_fees: Mapped[str | None]
    min_amount_cents: Mapped[Cents] = mapped_column(default=0)
    accepts_target_wallet: Mapped[bool] = mapped_column(default=False)
    pricing_unit_id: Mapped[UUID | None] = mapped_column(ForeignKey("pricing_units.id"))
    conversion_rate: Mapped[Rate | None]
    properties: Mapped[Json]
    position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    billable_metric: Mapped[BillableMetric] = relationship(lazy="raise_on_sql")
    pricing_unit: Mapped[PricingUnit | None] = relationship(lazy="raise_on_sql")
    filters: Mapped[list["ChargeFilter"]] = relationship(
        primaryjoin="and_(Charge.id == ChargeFilter.charge_id, ChargeFilter.deleted_at.is_(None))",
        order_by="ChargeFilter.position",
        viewonly=True,
        lazy="raise_on_sql",
    )
    taxes: Mapped[list[Tax]] = relationship(
        secondary=charge_taxes, secondaryjoin=lambda: live_tax(charge_taxes), lazy="raise_on_sql", order_by=Tax.code
    )


class ChargeFilter(Base):
    """A price of its own for the part of a charge's usage that has certain values (metering spec 3.4).

    `number` counts a charge's filters in the order they were made; `position` is where it stands in the list as last sent;
    `parent_id`, on a copy of a charge, is the filter it is a copy of.
    """

    __tablename__ = "charge_filters"
    __table_args__ = (
        Index("uq_charge_filters_number", "charge_id", "number", unique=True),
        Index("ix_charge_filters_grouped", "charge_id", postgresql_where=GROUPED_FILTER),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    charge_id: Mapped[UUID] = mapped_column(ForeignKey("charges.id"))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("charge_filters.id"))
    number: Mapped[int]
    position: Mapped[int]
    invoice_display_name: Mapped[str | None]
    values: Mapped[dict[str, list[str]]] = mapped_column(JSON)
    properties: Mapped[Json]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Feature(Base):
    """Something that plans may include, or not (billing spec 8.6).

    `privileges` say how much of it, in their order: `code`, `name`, `value_type` and `select_options` of each.
    """

    __tablename__ = "features"
    __table_args__ = (Index("uq_features_code", "organization_id", "code", unique=True, postgresql_where=LIVE),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    code: Mapped[str]
    name: Mapped[str | None]
    description: Mapped[str | None]
    privileges: Mapped[list[Json]] = mapped_column(default=list)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class PlanEntitlement(Base):
    """A feature that a plan includes, with values of its privileges by their codes."""

    __tablename__ = "plan_entitlements"
    __table_args__ = (Index("ix_plan_entitlements_feature_id", "feature_id"),)

    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"), primary_key=True)
    feature_id: Mapped[UUID] = mapped_column(ForeignKey("features.id"), primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    values: Mapped[Json]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    feature: Mapped[Feature] = relationship(lazy="raise_on_sql")


class AddOn(Base):
    """Something that is sold by itself or by the unit of a fixed charge, not by usage (billing spec 5.4)."""

    __tablename__ = "add_ons"
    __table_args__ = (Index("uq_add_ons_code", "organization_id", "code", unique=True, postgresql_where=LIVE),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    name: Mapped[str]
    code: Mapped[str]
    invoice_display_name: Mapped[str | None]
    description: Mapped[str | None]
    amount_cents: Mapped[Cents]
    amount_currency: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    taxes: Mapped[list[Tax]] = relationship(
        secondary=add_on_taxes, secondaryjoin=lambda: live_tax(add_on_taxes), lazy="raise_on_sql", order_by=Tax.code
    )


class FixedCharge(Base):
    """The price of a stated number of units of an add-on on one plan (metering spec 3.14, billing spec 2.6).

    `units` is what the plan says; `SubscriptionUnits` is what each subscription has, and since when. `parent_id` is set on
    the own plan of a subscription: the fixed charge that it is a copy of.
    """

    __tablename__ = "fixed_charges"
    __table_args__ = (
        Index("uq_fixed_charges_code", "plan_id", "code", unique=True, postgresql_where=LIVE),
        Index("ix_fixed_charges_add_on_id", "add_on_id"),
        Index("ix_fixed_charges_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("fixed_charges.id"))
    add_on_id: Mapped[UUID] = mapped_column(ForeignKey("add_ons.id"))
    code: Mapped[str]
    invoice_display_name: Mapped[str | None]
    charge_model: Mapped[str]
    pay_in_advance: Mapped[bool] = mapped_column(default=False)
    prorated: Mapped[bool] = mapped_column(default=False)
    properties: Mapped[Json]
    units: Mapped[FixedUnits]
    position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    add_on: Mapped[AddOn] = relationship(lazy="raise_on_sql")
    taxes: Mapped[list[Tax]] = relationship(
        secondary=fixed_charge_taxes,
        secondaryjoin=lambda: live_tax(fixed_charge_taxes),
        lazy="raise_on_sql",
        order_by=Tax.code,
    )

    @property
    def display_name(self) -> str:
        """What it is called where it is shown: by its own name for that, else by the add-on's, else as the add-on is."""
        return self.invoice_display_name or self.add_on.invoice_display_name or self.add_on.name

    @property
    def root_id(self) -> UUID:
        """What units are noted under: a subscription that gets a plan of its own keeps them."""
        return self.parent_id or self.id


def percent(rate: Decimal) -> int | Decimal:
    """A rate as a JSON number is read best: whole where it is whole."""
    return int(rate) if rate == rate.to_integral_value() else rate.normalize()
