"""Who issues invoices within an organization."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id
from app.models.catalog import Tax, billing_entity_taxes, live_tax


class BillingEntity(Base):
    """A legal entity that an organization issues invoices through: its address, what is printed, how documents are
    numbered, and the defaults of its customers (billing spec 3.4). The default one has the id of its organization.

    `last_invoice_number` counts what it has issued, while documents are numbered by it: null where nobody has counted."""

    __tablename__ = "billing_entities"
    __table_args__ = (Index("uq_billing_entities_code", "organization_id", "code", unique=True),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    code: Mapped[str]
    name: Mapped[str]
    default_currency: Mapped[str] = mapped_column(default="USD")
    timezone: Mapped[str] = mapped_column(default="UTC")
    net_payment_term: Mapped[int] = mapped_column(default=0)
    invoice_grace_period: Mapped[int] = mapped_column(default=0)
    subscription_invoice_issuing_date_anchor: Mapped[str] = mapped_column(default="next_period_start")
    subscription_invoice_issuing_date_adjustment: Mapped[str] = mapped_column(default="align_with_finalization_date")
    finalize_zero_amount_invoice: Mapped[bool] = mapped_column(default=True)
    document_numbering: Mapped[str] = mapped_column(default="per_customer")
    document_number_prefix: Mapped[str]
    last_invoice_number: Mapped[int | None]
    document_locale: Mapped[str] = mapped_column(default="en")
    invoice_footer: Mapped[str | None]
    email_settings: Mapped[list[str]] = mapped_column(default=list)
    eu_tax_management: Mapped[bool] = mapped_column(default=False)
    logo_url: Mapped[str | None] = mapped_column(deferred=True)
    country: Mapped[str | None]
    address_line1: Mapped[str | None]
    address_line2: Mapped[str | None]
    city: Mapped[str | None]
    state: Mapped[str | None]
    zipcode: Mapped[str | None]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    legal_name: Mapped[str | None]
    legal_number: Mapped[str | None]
    tax_identification_number: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    taxes: Mapped[list[Tax]] = relationship(
        secondary=billing_entity_taxes,
        secondaryjoin=lambda: live_tax(billing_entity_taxes),
        lazy="raise_on_sql",
        order_by=Tax.code,
    )

    @property
    def is_default(self) -> bool:
        """Whether it issues what names no other."""
        return self.id == self.organization_id
