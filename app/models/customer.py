"""Who buys: customers and their subscriptions."""

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Table, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, FixedUnits, Id, Json
from app.models.billing_entity import BillingEntity
from app.models.catalog import LIVE, Feature, Plan, Tax, live_tax

if TYPE_CHECKING:
    from app.models.progressive import UsageThreshold

OPEN = ("active", "pending", "incomplete")
"""The statuses of subscriptions that are not over."""

customer_taxes = Table(
    "customer_taxes",
    Base.metadata,
    Column("customer_id", ForeignKey("customers.id"), primary_key=True),
    Column("tax_id", ForeignKey("taxes.id"), primary_key=True),
)


class LocalCustomer:
    """What follows for a customer from what it has and its billing entity has."""

    __slots__ = ()

    @property
    def applicable_timezone(self: Any) -> str:
        """Its own, else its billing entity's, also where another entity issues its invoices (billing spec 0.2)."""
        timezone: str = self.timezone or self.billing_entity.timezone
        return timezone


class Customer(LocalCustomer, Base):
    """A customer of an organization, known by the external id the organization gave it (billing spec 11.4)."""

    __tablename__ = "customers"
    __table_args__ = (
        Index("uq_customers_external_id", "organization_id", "external_id", unique=True, postgresql_where=LIVE),
        Index("uq_customers_sequential_id", "organization_id", "sequential_id", unique=True),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    billing_entity_id: Mapped[UUID] = mapped_column(ForeignKey("billing_entities.id"))
    external_id: Mapped[str]
    sequential_id: Mapped[int]
    slug: Mapped[str]
    name: Mapped[str | None]
    firstname: Mapped[str | None]
    lastname: Mapped[str | None]
    account_type: Mapped[str] = mapped_column(default="customer")
    customer_type: Mapped[str | None]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    url: Mapped[str | None]
    logo_url: Mapped[str | None]
    legal_name: Mapped[str | None]
    legal_number: Mapped[str | None]
    tax_identification_number: Mapped[str | None]
    address_line1: Mapped[str | None]
    address_line2: Mapped[str | None]
    city: Mapped[str | None]
    state: Mapped[str | None]
    zipcode: Mapped[str | None]
    country: Mapped[str | None]
    shipping_address: Mapped[Json] = mapped_column(default=dict)
    currency: Mapped[str | None]
    timezone: Mapped[str | None]
    net_payment_term: Mapped[int | None]
    invoice_grace_period: Mapped[int | None]
    subscription_invoice_issuing_date_anchor: Mapped[str | None]
    subscription_invoice_issuing_date_adjustment: Mapped[str | None]
    finalize_zero_amount_invoice: Mapped[str] = mapped_column(default="inherit")
    document_locale: Mapped[str | None]
    last_receipt_number: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    billing_entity: Mapped[BillingEntity] = relationship(lazy="raise_on_sql")
    taxes: Mapped[list[Tax]] = relationship(
        secondary=customer_taxes,
        secondaryjoin=lambda: live_tax(customer_taxes),
        lazy="raise_on_sql",
        order_by=Tax.code,
    )
    customer_metadata: Mapped[list["CustomerMetadata"]] = relationship(
        lazy="raise_on_sql", order_by="CustomerMetadata.created_at, CustomerMetadata.key", cascade="all, delete-orphan"
    )


class CustomerMetadata(Base):
    """A note on a customer, five at the most (billing spec 11.4)."""

    __tablename__ = "customer_metadata"

    id: Mapped[Id]
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"), index=True)
    key: Mapped[str]
    value: Mapped[str]
    display_in_invoice: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class StartedSubscription:
    """What follows for a subscription from what it has and its customer has."""

    __slots__ = ()

    @property
    def starts_at(self: Any) -> datetime | None:
        """When it has started, or will have where its first invoice is paid."""
        at: datetime | None = self.started_at or self.gated_at
        return at

    @property
    def issuer(self: Any) -> BillingEntity:
        """Who issues its invoices: an entity of its own, else its customer's (billing spec 1.2)."""
        entity: BillingEntity = self.billing_entity or self.customer.billing_entity
        return entity


class Subscription(StartedSubscription, Base):
    """A customer on a plan (billing spec 1.2). `next_billing_at` is the start of the period after the current one:
    the instant from which the current one can be closed; null when there is nothing left to bill. `activation_due_at`
    and `termination_due_at` are the first moments of the local dates on which it starts and ends by itself.
    `previous_subscription_id`: whose plan was changed into this one; `replaced_by`: whether an `upgrade` or a `downgrade`
    ended it. `trial_ends_at`: when its free trial is over; `trial_due_at` is the same until that has been dealt with.
    `billing_entity_id`: which entity issues its invoices, where that is not the customer's own.

    One that is `incomplete` waits for its first invoice to be paid (billing spec 1.10): `gated_at` is the instant from
    which it will have started then, `gate_expires_at` until when it waits, null for ever. `activation_rules` are as on the
    wire, with what has become of them."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        Index(
            "uq_subscriptions_active_external_id",
            "organization_id",
            "external_id",
            unique=True,
            postgresql_where=text("status = 'active'"),
        ),
        Index(
            "uq_subscriptions_incomplete_external_id",
            "organization_id",
            "external_id",
            unique=True,
            postgresql_where=text("status = 'incomplete'"),
        ),
        Index("ix_subscriptions_external_id", "organization_id", "external_id"),
        Index("ix_subscriptions_customer_id", "customer_id"),
        Index("ix_subscriptions_plan_id", "plan_id"),
        Index(
            "ix_subscriptions_due",
            "organization_id",
            "next_billing_at",
            "external_id",
            postgresql_where=text("status = 'active' AND next_billing_at IS NOT NULL"),
        ),
        Index(
            "ix_subscriptions_activation",
            "organization_id",
            "activation_due_at",
            postgresql_where=text("activation_due_at IS NOT NULL"),
        ),
        Index(
            "ix_subscriptions_trial",
            "organization_id",
            "trial_due_at",
            postgresql_where=text("trial_due_at IS NOT NULL"),
        ),
        Index(
            "ix_subscriptions_gate",
            "organization_id",
            "gate_expires_at",
            postgresql_where=text("gate_expires_at IS NOT NULL"),
        ),
        Index(
            "ix_subscriptions_termination",
            "organization_id",
            "termination_due_at",
            postgresql_where=text("termination_due_at IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey("plans.id"))
    billing_entity_id: Mapped[UUID | None] = mapped_column(ForeignKey("billing_entities.id"))
    previous_subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    replaced_by: Mapped[str | None]
    external_id: Mapped[str]
    name: Mapped[str | None]
    status: Mapped[str]
    billing_time: Mapped[str] = mapped_column(default="calendar")
    subscription_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    activated_at: Mapped[datetime | None]
    ending_at: Mapped[datetime | None]
    terminated_at: Mapped[datetime | None]
    canceled_at: Mapped[datetime | None]
    cancellation_reason: Mapped[str | None]
    activation_rules: Mapped[list[Json]] = mapped_column(default=list)
    gated_at: Mapped[datetime | None]
    gate_expires_at: Mapped[datetime | None]
    on_termination_credit_note: Mapped[str | None]
    on_termination_invoice: Mapped[str] = mapped_column(default="generate")
    consolidate_invoice: Mapped[bool] = mapped_column(default=True)
    purchase_order_number: Mapped[str | None]
    progressive_billing_disabled: Mapped[bool] = mapped_column(default=False)
    next_billing_at: Mapped[datetime | None]
    activation_due_at: Mapped[datetime | None]
    termination_due_at: Mapped[datetime | None]
    trial_ends_at: Mapped[datetime | None]
    trial_due_at: Mapped[datetime | None]
    trial_ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    billing_entity: Mapped[BillingEntity | None] = relationship(lazy="raise_on_sql")
    plan: Mapped[Plan] = relationship(lazy="raise_on_sql")
    previous: Mapped["Subscription | None"] = relationship(
        remote_side="Subscription.id", foreign_keys="Subscription.previous_subscription_id", lazy="raise_on_sql"
    )
    usage_thresholds: Mapped[list["UsageThreshold"]] = relationship(
        primaryjoin="and_(Subscription.id == UsageThreshold.subscription_id, UsageThreshold.deleted_at.is_(None))",
        order_by="UsageThreshold.recurring, UsageThreshold.amount_cents",
        viewonly=True,
        lazy="raise_on_sql",
    )
    successors: Mapped[list["Subscription"]] = relationship(
        primaryjoin="and_(Subscription.id == foreign(remote(Subscription.previous_subscription_id)),"
        " remote(Subscription.status) != 'canceled')",
        order_by="Subscription.created_at",
        lazy="raise_on_sql",
        viewonly=True,
    )

    @property
    def applicable_usage_thresholds(self) -> list["UsageThreshold"]:
        """Its own, else its plan's; none where progressive billing is disabled for it (billing spec 8.1)."""
        if self.progressive_billing_disabled:
            return []
        return self.usage_thresholds or self.plan.applicable_usage_thresholds


class SubscriptionEntitlement(Base):
    """What a subscription has of a feature otherwise than its plan: values by the codes of privileges, the codes of
    privileges that it does not have, or, `is_removed`, nothing of the feature (billing spec 8.6)."""

    __tablename__ = "subscription_entitlements"
    __table_args__ = (Index("ix_subscription_entitlements_feature_id", "feature_id"),)

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    feature_id: Mapped[UUID] = mapped_column(ForeignKey("features.id"), primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    values: Mapped[Json]
    removed_privileges: Mapped[list[str]]
    is_removed: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    feature: Mapped[Feature] = relationship(lazy="raise_on_sql")


class LifetimeUsage(Base):
    """What a customer had used before events were sent here, of the subscriptions with one external id (billing spec 8.4).

    Its id follows from the customer and the external id; there is a row only once something was set.
    """

    __tablename__ = "lifetime_usages"

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    external_subscription_id: Mapped[str]
    external_historical_usage_amount_cents: Mapped[Cents]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class OwnUnits(Base):
    """The units of a fixed charge that one subscription has whatever its plan says (metering spec 3.14). The fixed charge
    is the one that others are copies of (`FixedCharge.root_id`)."""

    __tablename__ = "own_units"

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    fixed_charge_id: Mapped[UUID] = mapped_column(ForeignKey("fixed_charges.id"), primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    units: Mapped[FixedUnits]


class SubscriptionUnits(Base):
    """The history of a subscription's units of a fixed charge, the one that others are copies of: a row for each change
    (metering spec 3.14). `number` tells rows written at one instant apart; `recorded_at` is when their transaction began,
    on PostgreSQL's clock also in a sandbox."""

    __tablename__ = "subscription_units"
    __table_args__ = (Index("ix_subscription_units_subscription_id", "subscription_id"),)

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    fixed_charge_id: Mapped[UUID] = mapped_column(ForeignKey("fixed_charges.id"))
    units: Mapped[FixedUnits]
    effective_at: Mapped[datetime]
    created_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
