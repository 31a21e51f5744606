"""What is owed: invoices, the subscription periods they cover, their fees and taxes.

Closes write very many of these rows, and each foreign key takes a quarter of the time of writing the row. So what another
key implies has none: the organization, which is that of the customer or of the invoice, and the customer of a fee, which is
that of its invoice or subscription; nor have the terms of a fee, which are kept with it and never go.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, Numeric, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id, Json, PreciseCents, PreciseUnits, Rate
from app.models.billing_entity import BillingEntity
from app.models.catalog import Charge
from app.models.customer import Customer, Subscription

if TYPE_CHECKING:
    from app.models.credit_note import Credit
    from app.models.progressive import AppliedUsageThreshold

DROPPED = ("voided", "closed", "deleted")
"""Statuses of invoices that have given back what coupons took of them."""


UNBILLED = ("voided", "deleted")
"""Statuses of invoices whose fees count no more."""
FAILED = text("invoices.status = 'failed'")
UNPAID = text(
    "status = 'finalized' AND payment_status <> 'succeeded' AND NOT payment_overdue AND payment_dispute_lost_at IS NULL"
)
"""Invoices that become overdue when their time comes (billing spec 3.6)."""


class Invoice(Base):
    """An invoice (billing spec 3). Amounts are integers in the currency's minor unit. `offset_amount_cents`: what its own
    credit notes have taken off what is due. `voided_invoice_id`: the voided invoice that it was made anew from.
    `finalization_due_at`: when a draft becomes final by itself. `error_details`: why an invoice has failed."""

    __tablename__ = "invoices"
    __table_args__ = (
        Index("uq_invoices_number", "billing_entity_id", "number", unique=True),
        Index("uq_invoices_sequential_id", "customer_id", "billing_entity_id", "sequential_id", unique=True),
        Index(
            "uq_invoices_voided_invoice_id",
            "voided_invoice_id",
            unique=True,
            postgresql_where=text("voided_invoice_id IS NOT NULL"),
        ),
        Index("ix_invoices_listing", "organization_id", "issuing_date", "created_at", "id"),
        Index(
            "ix_invoices_finalization",
            "organization_id",
            "finalization_due_at",
            postgresql_where=text("finalization_due_at IS NOT NULL"),
        ),
        Index(
            "ix_invoices_refresh",
            "organization_id",
            "customer_id",
            postgresql_where=text("status = 'draft' AND ready_to_be_refreshed"),
        ),
        Index("ix_invoices_failed", "organization_id", "updated_at", postgresql_where=FAILED),
        Index("ix_invoices_unpaid", "organization_id", "payment_due_date", postgresql_where=UNPAID),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"), index=True)
    billing_entity_id: Mapped[UUID] = mapped_column(ForeignKey("billing_entities.id"))
    sequential_id: Mapped[int | None]
    number: Mapped[str | None]
    invoice_type: Mapped[str]
    status: Mapped[str]
    payment_status: Mapped[str]
    payment_overdue: Mapped[bool] = mapped_column(default=False)
    currency: Mapped[str]
    timezone: Mapped[str]
    issuing_date: Mapped[date]
    expected_finalization_date: Mapped[date]
    payment_due_date: Mapped[date]
    net_payment_term: Mapped[int]
    fees_amount_cents: Mapped[Cents]
    progressive_billing_credit_amount_cents: Mapped[Cents] = mapped_column(default=0)
    coupons_amount_cents: Mapped[Cents] = mapped_column(default=0)
    taxes_amount_cents: Mapped[Cents]
    taxes_rate: Mapped[Rate]
    sub_total_excluding_taxes_amount_cents: Mapped[Cents]
    sub_total_including_taxes_amount_cents: Mapped[Cents]
    credit_notes_amount_cents: Mapped[Cents] = mapped_column(default=0)
    prepaid_credit_amount_cents: Mapped[Cents] = mapped_column(default=0)
    prepaid_granted_credit_amount_cents: Mapped[Cents | None]
    prepaid_purchased_credit_amount_cents: Mapped[Cents | None]
    total_amount_cents: Mapped[Cents]
    total_paid_amount_cents: Mapped[Cents] = mapped_column(default=0)
    offset_amount_cents: Mapped[Cents] = mapped_column(default=0)
    purchase_order_number: Mapped[str | None]
    ready_to_be_refreshed: Mapped[bool] = mapped_column(default=False)
    finalization_due_at: Mapped[datetime | None]
    error_details: Mapped[Json | None] = mapped_column(JSON(none_as_null=True))
    voided_invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"))
    voided_at: Mapped[datetime | None]
    payment_dispute_lost_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    billing_entity: Mapped[BillingEntity] = relationship(lazy="raise_on_sql")
    billing_periods: Mapped[list["BillingPeriod"]] = relationship(
        lazy="raise_on_sql",
        order_by="BillingPeriod.position",
        back_populates="invoice",
        foreign_keys="BillingPeriod.invoice_id",
    )
    fees: Mapped[list["Fee"]] = relationship(lazy="raise_on_sql", order_by="Fee.position", back_populates="invoice")
    credits: Mapped[list["Credit"]] = relationship(
        lazy="raise_on_sql",
        order_by="Credit.position",
        back_populates="invoice",
        primaryjoin="Invoice.id == foreign(Credit.invoice_id)",
    )
    applied_taxes: Mapped[list["InvoiceTax"]] = relationship(lazy="raise_on_sql", order_by="InvoiceTax.tax_code")
    applied_usage_thresholds: Mapped[list["AppliedUsageThreshold"]] = relationship(
        lazy="raise_on_sql", order_by="AppliedUsageThreshold.lifetime_usage_amount_cents", viewonly=True
    )
    regenerated: Mapped["Invoice | None"] = relationship(
        primaryjoin="Invoice.id == remote(foreign(Invoice.voided_invoice_id))",
        uselist=False,
        lazy="raise_on_sql",
        viewonly=True,
    )
    invoice_metadata: Mapped[list["InvoiceMetadata"]] = relationship(
        lazy="raise_on_sql", order_by="InvoiceMetadata.created_at, InvoiceMetadata.key", cascade="all, delete-orphan"
    )

    @property
    def total_due_amount_cents(self) -> int:
        """What is still to be paid; nothing of a voided invoice (billing spec 3.5)."""
        if self.status == "voided":
            return 0
        return max(self.total_amount_cents - self.total_paid_amount_cents - self.offset_amount_cents, 0)


class InvoiceMetadata(Base):
    """A note on an invoice, five at the most (billing spec 3.6)."""

    __tablename__ = "invoice_metadata"

    id: Mapped[Id]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    key: Mapped[str]
    value: Mapped[str]
    created_at: Mapped[datetime]


class BillingPeriod(Base):
    """One subscription's boundaries on one invoice. The unique key is what keeps a boundary from being billed twice:
    `billed_at` is the boundary itself, not the moment the close happened to run. `measured_at` is when the transaction that
    measured its usage began, on PostgreSQL's clock also in a sandbox: an event ingested later came too late for it.
    `first_measured_at` is the same of the first time, where a draft has been measured again. `regenerated_invoice_id`: the
    invoice that bills it in place of this one, which was voided.

    What is billed in advance in the middle of a period has no boundary: for single events their fees keep it from coming
    twice, for new units of fixed charges what has been billed already, and for usage thresholds that they were passed."""

    __tablename__ = "billing_periods"
    __table_args__ = (
        Index(
            "uq_billing_periods_boundary",
            "subscription_id",
            "invoicing_reason",
            "billed_at",
            unique=True,
            postgresql_where=text(
                "invoicing_reason NOT IN ('in_advance_charge', 'progressive_billing') AND regenerated_invoice_id IS NULL"
            ),
        ),
        Index(
            "ix_billing_periods_progressive",
            "subscription_id",
            postgresql_where=text("invoicing_reason = 'progressive_billing'"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    position: Mapped[int]
    invoicing_reason: Mapped[str]
    billed_at: Mapped[datetime]
    from_datetime: Mapped[datetime]
    to_datetime: Mapped[datetime]
    charges_from_datetime: Mapped[datetime | None]
    charges_to_datetime: Mapped[datetime | None]
    fixed_charges_from_datetime: Mapped[datetime | None]
    fixed_charges_to_datetime: Mapped[datetime | None]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())
    first_measured_at: Mapped[datetime] = mapped_column(server_default=func.now())
    regenerated_invoice_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("invoices.id", deferrable=True, initially="DEFERRED")
    )

    invoice: Mapped[Invoice] = relationship(
        lazy="raise_on_sql", back_populates="billing_periods", foreign_keys=[invoice_id]
    )
    subscription: Mapped[Subscription] = relationship(lazy="raise_on_sql")


class AdjustedFee(Base):
    """What somebody has set a fee of a draft to, however often the draft is made anew (billing spec 3.3): other units, or
    units and the price of one in currency units, or only another name. The other columns say which fee is meant."""

    __tablename__ = "adjusted_fees"

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    fee_type: Mapped[str]
    charge_id: Mapped[UUID | None] = mapped_column(ForeignKey("charges.id"))
    charge_filter_id: Mapped[UUID | None] = mapped_column(ForeignKey("charge_filters.id"))
    fixed_charge_id: Mapped[UUID | None] = mapped_column(ForeignKey("fixed_charges.id"))
    grouped_by: Mapped[Json] = mapped_column(JSON, default=dict)
    units: Mapped[PreciseUnits | None]
    unit_precise_amount: Mapped[PreciseCents | None]
    invoice_display_name: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class PricedTerms(Base):
    """What a charge was when fees were priced with it. The id is made of the content, so that the same terms are kept once;
    nothing here ever changes."""

    __tablename__ = "priced_terms"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    charge_id: Mapped[UUID] = mapped_column(ForeignKey("charges.id"))
    terms: Mapped[Json] = mapped_column(JSON)
    created_at: Mapped[datetime]


class Fee(Base):
    """One line of an invoice, or a fee that stands alone (metering spec 3.10, billing spec 3.9).

    `event_id` is that of the event that a fee paid in advance is for: with it an event has one fee of a charge, also
    after that was deleted (metering spec 6.4). `priced_terms_id` and `figures` are what it was priced with
    and from; null where that is not kept. `precise_coupons_amount_cents`: what progressive billing and coupons took of it
    before taxes, `precise_credit_notes_amount_cents` what credit notes paid of it after them. `original_fee_id`: the fee of
    a voided invoice that it was made anew from."""

    __tablename__ = "fees"
    __table_args__ = (
        Index("ix_fees_listing", "organization_id", "created_at", "id"),
        Index("ix_fees_subscription_id", "subscription_id"),
        Index(
            "ix_fees_true_up_parent_fee_id",
            "true_up_parent_fee_id",
            postgresql_where=text("true_up_parent_fee_id IS NOT NULL"),
        ),
        Index(
            "ix_fees_fixed_charge",
            "subscription_id",
            "to_datetime",
            postgresql_where=text("fixed_charge_id IS NOT NULL AND pay_in_advance"),
        ),
        Index(
            "ix_fees_event",
            "event_transaction_id",
            postgresql_using="hash",
            postgresql_where=text("event_transaction_id IS NOT NULL"),
        ),
        Index("uq_fees_event", "event_id", "charge_id", unique=True, postgresql_where=text("event_id IS NOT NULL")),
        Index(
            "ix_fees_standing_alone",
            "customer_id",
            "payment_status",
            postgresql_where=text("invoice_id IS NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"), index=True)
    customer_id: Mapped[UUID]
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    charge_id: Mapped[UUID | None] = mapped_column(ForeignKey("charges.id"))
    charge_filter_id: Mapped[UUID | None] = mapped_column(ForeignKey("charge_filters.id"))
    fixed_charge_id: Mapped[UUID | None] = mapped_column(ForeignKey("fixed_charges.id"))
    true_up_parent_fee_id: Mapped[UUID | None] = mapped_column(ForeignKey("fees.id"))
    original_fee_id: Mapped[UUID | None] = mapped_column(ForeignKey("fees.id"))
    position: Mapped[int]
    fee_type: Mapped[str]
    item_code: Mapped[str]
    item_name: Mapped[str]
    item_description: Mapped[str | None]
    invoice_display_name: Mapped[str | None]
    item_id: Mapped[UUID]
    item_filters: Mapped[Json | None] = mapped_column(JSON)
    filter_invoice_display_name: Mapped[str | None]
    pay_in_advance: Mapped[bool] = mapped_column(default=False)
    invoiceable: Mapped[bool] = mapped_column(default=True)
    event_transaction_id: Mapped[str | None]
    event_id: Mapped[UUID | None]
    grouped_by: Mapped[Json] = mapped_column(JSON, default=dict)
    presentation_breakdowns: Mapped[list[Json]] = mapped_column(JSON, default=list)
    currency: Mapped[str]
    amount_cents: Mapped[Cents]
    precise_amount_cents: Mapped[PreciseCents]
    precise_coupons_amount_cents: Mapped[PreciseCents] = mapped_column(default=0)
    precise_credit_notes_amount_cents: Mapped[PreciseCents] = mapped_column(default=0)
    taxes_amount_cents: Mapped[Cents]
    taxes_precise_amount_cents: Mapped[PreciseCents]
    taxes_rate: Mapped[Rate]
    units: Mapped[PreciseUnits]
    total_aggregated_units: Mapped[PreciseUnits]
    precise_unit_amount: Mapped[PreciseCents]
    events_count: Mapped[int | None]
    amount_details: Mapped[Json]
    pricing_unit_usage: Mapped[Json | None] = mapped_column(JSON)
    priced_terms_id: Mapped[UUID | None]
    figures: Mapped[Json | None] = mapped_column(JSON)
    payment_status: Mapped[str] = mapped_column(default="pending")
    from_datetime: Mapped[datetime]
    to_datetime: Mapped[datetime]
    created_at: Mapped[datetime]
    succeeded_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    refunded_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    invoice: Mapped[Invoice | None] = relationship(lazy="raise_on_sql", back_populates="fees")
    customer: Mapped[Customer] = relationship(
        lazy="raise_on_sql", primaryjoin="foreign(Fee.customer_id) == Customer.id", viewonly=True
    )
    subscription: Mapped[Subscription | None] = relationship(lazy="raise_on_sql")
    charge: Mapped[Charge | None] = relationship(lazy="raise_on_sql")
    true_up_fee: Mapped["Fee | None"] = relationship(
        primaryjoin="Fee.id == remote(foreign(Fee.true_up_parent_fee_id))",
        uselist=False,
        lazy="raise_on_sql",
        viewonly=True,
    )
    applied_taxes: Mapped[list["FeeTax"]] = relationship(lazy="raise_on_sql", order_by="FeeTax.tax_code")

    @property
    def owning_subscription(self) -> Subscription:
        """The subscription of a fee that has one."""
        if self.subscription is None:
            raise ValueError(f"fee {self.id} has no subscription")
        return self.subscription


class FeeTax(Base):
    """A tax on one fee, with the tax's name and rate as they were when it was invoiced (billing spec 4.3)."""

    __tablename__ = "fee_taxes"

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    fee_id: Mapped[UUID] = mapped_column(ForeignKey("fees.id"), index=True)
    tax_id: Mapped[UUID] = mapped_column(ForeignKey("taxes.id"))
    tax_name: Mapped[str]
    tax_code: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(30, 15))
    tax_description: Mapped[str | None]
    amount_cents: Mapped[Cents]
    currency: Mapped[str]
    created_at: Mapped[datetime]


class InvoiceTax(Base):
    """A tax over a whole invoice, from the unrounded bases of its fees (billing spec 4.4)."""

    __tablename__ = "invoice_taxes"

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    tax_id: Mapped[UUID] = mapped_column(ForeignKey("taxes.id"))
    tax_name: Mapped[str]
    tax_code: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(30, 15))
    tax_description: Mapped[str | None]
    amount_cents: Mapped[Cents]
    fees_amount_cents: Mapped[Cents]
    currency: Mapped[str]
    created_at: Mapped[datetime]
