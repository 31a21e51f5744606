"""What is given back: credit notes, the fees they are for, their taxes, and the invoices that they were spent on."""

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id, Json, PreciseCents, Rate
from app.models.customer import Customer
from app.models.invoice import Fee, Invoice

if TYPE_CHECKING:
    from app.models.coupon import AppliedCoupon


class CreditNote(Base):
    """A credit note (billing spec 6.1). Amounts are integers in the currency's minor unit, taxes included but for the sub
    total; `balance_amount_cents` is what of the credit has not been spent. One on a draft invoice is a draft itself: it has
    no number, and is neither seen nor spent until the invoice is final."""

    __tablename__ = "credit_notes"
    __table_args__ = (
        UniqueConstraint("invoice_id", "sequential_id"),
        Index("ix_credit_notes_listing", "organization_id", "issuing_date", "created_at", "id"),
        Index(
            "ix_credit_notes_available",
            "customer_id",
            "created_at",
            postgresql_where=text("credit_status = 'available' AND status = 'finalized'"),
        ),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    sequential_id: Mapped[int]
    number: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="finalized")
    issuing_date: Mapped[date]
    credit_status: Mapped[str | None]
    refund_status: Mapped[str | None]
    reason: Mapped[str]
    description: Mapped[str | None]
    currency: Mapped[str]
    sub_total_excluding_taxes_amount_cents: Mapped[Cents]
    taxes_amount_cents: Mapped[Cents]
    taxes_rate: Mapped[Rate]
    coupons_adjustment_amount_cents: Mapped[Cents] = mapped_column(default=0)
    total_amount_cents: Mapped[Cents]
    credit_amount_cents: Mapped[Cents]
    refund_amount_cents: Mapped[Cents]
    offset_amount_cents: Mapped[Cents]
    balance_amount_cents: Mapped[Cents]
    note_metadata: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    invoice: Mapped[Invoice] = relationship(lazy="raise_on_sql")
    items: Mapped[list["CreditNoteItem"]] = relationship(lazy="raise_on_sql", order_by="CreditNoteItem.position")
    applied_taxes: Mapped[list["CreditNoteTax"]] = relationship(lazy="raise_on_sql", order_by="CreditNoteTax.tax_code")


class CreditNoteItem(Base):
    """What a note takes back of one fee, before taxes."""

    __tablename__ = "credit_note_items"

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    credit_note_id: Mapped[UUID] = mapped_column(ForeignKey("credit_notes.id"), index=True)
    fee_id: Mapped[UUID] = mapped_column(ForeignKey("fees.id", deferrable=True, initially="DEFERRED"), index=True)
    position: Mapped[int]
    amount_cents: Mapped[Cents]
    precise_amount_cents: Mapped[PreciseCents]

    fee: Mapped[Fee] = relationship(lazy="raise_on_sql")


class CreditNoteTax(Base):
    """A tax that a note takes back, with its name and rate as they were on the invoice."""

    __tablename__ = "credit_note_taxes"

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    credit_note_id: Mapped[UUID] = mapped_column(ForeignKey("credit_notes.id"), index=True)
    tax_id: Mapped[UUID] = mapped_column(ForeignKey("taxes.id"))
    tax_name: Mapped[str]
    tax_code: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(30, 15))
    tax_description: Mapped[str | None]
    amount_cents: Mapped[Cents]
    base_amount_cents: Mapped[Cents]
    currency: Mapped[str]
    created_at: Mapped[datetime]


class Credit(Base):
    """What has lowered an invoice: a part of a credit note (billing spec 6.5), a coupon (5.3), or an earlier invoice of
    progressive billing (8.3). One of the three is set."""

    __tablename__ = "credits"

    id: Mapped[Id]
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    credit_note_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_notes.id"), index=True)
    applied_coupon_id: Mapped[UUID | None] = mapped_column(ForeignKey("applied_coupons.id"), index=True)
    progressive_invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"), index=True)
    position: Mapped[int]
    amount_cents: Mapped[Cents]
    currency: Mapped[str]
    created_at: Mapped[datetime]

    credit_note: Mapped[CreditNote | None] = relationship(lazy="raise_on_sql")
    applied_coupon: Mapped["AppliedCoupon | None"] = relationship(lazy="raise_on_sql", back_populates="credits")
    invoice: Mapped[Invoice] = relationship(
        lazy="raise_on_sql", back_populates="credits", foreign_keys="Credit.invoice_id"
    )
    progressive_invoice: Mapped[Invoice | None] = relationship(
        lazy="raise_on_sql", foreign_keys="Credit.progressive_invoice_id"
    )
