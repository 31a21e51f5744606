"""What was paid: payments, their receipts, and the requests for the payment of several invoices."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, ColumnElement, ForeignKey, Index, Table, case
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Cents, Id
from app.models.customer import Customer
from app.models.invoice import Invoice

payment_request_invoices = Table(
    "payment_request_invoices",
    Base.metadata,
    Column("payment_request_id", ForeignKey("payment_requests.id"), primary_key=True),
    Column("invoice_id", ForeignKey("invoices.id"), primary_key=True, index=True),
)


class Payment(Base):
    """Money that a customer has paid for an invoice, noted by hand (billing spec 9.3). It has been received: there is none
    that is pending. `created_at` is when it was paid, where that was said."""

    __tablename__ = "payments"
    __table_args__ = (Index("ix_payments_listing", "organization_id", "created_at", "id"),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"), index=True)
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    amount_cents: Mapped[Cents]
    currency: Mapped[str]
    reference: Mapped[str]
    created_at: Mapped[datetime]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    invoice: Mapped[Invoice] = relationship(lazy="raise_on_sql")


class PaymentReceipt(Base):
    """The receipt of a payment (billing spec 9.5)."""

    __tablename__ = "payment_receipts"
    __table_args__ = (
        Index("uq_payment_receipts_number", "organization_id", "number", unique=True),
        Index("ix_payment_receipts_listing", "organization_id", "created_at", "id"),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), unique=True)
    number: Mapped[str]
    created_at: Mapped[datetime]

    payment: Mapped[Payment] = relationship(lazy="raise_on_sql")


class PaymentRequest(Base):
    """A customer is asked to pay several overdue invoices at once (billing spec 9.2). `amount_cents` is what was due of
    them then. It has succeeded when all of them have."""

    __tablename__ = "payment_requests"
    __table_args__ = (Index("ix_payment_requests_listing", "organization_id", "created_at", "id"),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"), index=True)
    amount_cents: Mapped[Cents]
    currency: Mapped[str]
    email: Mapped[str]
    created_at: Mapped[datetime]

    customer: Mapped[Customer] = relationship(lazy="raise_on_sql")
    invoices: Mapped[list[Invoice]] = relationship(
        secondary=payment_request_invoices,
        lazy="raise_on_sql",
        order_by=(Invoice.issuing_date, Invoice.created_at, Invoice.id),
    )

    @hybrid_property
    def payment_status(self) -> str:
        """Whether all of the invoices have been paid; they must be loaded."""
        return "succeeded" if all(one.payment_status == "succeeded" for one in self.invoices) else "pending"

    @payment_status.inplace.expression
    @classmethod
    def _payment_status(cls) -> ColumnElement[str]:
        return case((cls.invoices.any(Invoice.payment_status != "succeeded"), "pending"), else_="succeeded")
