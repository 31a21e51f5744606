"""Tenants: the organization that owns everything else, and the keys that open it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id, Json


class Organization(Base):
    """A tenant. Every other row names the organization it belongs to, and every query filters on it."""

    __tablename__ = "organizations"

    id: Mapped[Id]
    name: Mapped[str]
    sandbox: Mapped[bool] = mapped_column(default=False)
    test_clock: Mapped[datetime | None]
    created_at: Mapped[datetime]
    default_currency: Mapped[str] = mapped_column(default="USD")
    timezone: Mapped[str] = mapped_column(default="UTC")
    net_payment_term: Mapped[int] = mapped_column(default=0)
    document_numbering: Mapped[str] = mapped_column(default="per_customer")
    document_number_prefix: Mapped[str]
    finalize_zero_amount_invoice: Mapped[bool] = mapped_column(default=True)
    invoice_footer: Mapped[str | None]
    invoice_grace_period: Mapped[int] = mapped_column(default=0)
    document_locale: Mapped[str] = mapped_column(default="en")
    email_settings: Mapped[list[str]] = mapped_column(default=list)
    webhook_url: Mapped[str | None]
    country: Mapped[str | None]
    address_line1: Mapped[str | None]
    address_line2: Mapped[str | None]
    city: Mapped[str | None]
    state: Mapped[str | None]
    zipcode: Mapped[str | None]
    email: Mapped[str | None]
    legal_name: Mapped[str | None]
    legal_number: Mapped[str | None]
    tax_identification_number: Mapped[str | None]
    last_customer_number: Mapped[int] = mapped_column(default=0)
    last_invoice_number: Mapped[int] = mapped_column(default=0)
    catalog_version: Mapped[int] = mapped_column(BigInteger, default=0)


class ApiKey(Base):
    """A key of one organization. Only its SHA-256 digest is kept; the key itself is shown once, when made."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("uq_api_keys_digest", "digest", unique=True),)

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str | None]
    digest: Mapped[str]
    hint: Mapped[str]
    permissions: Mapped[Json | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    organization: Mapped[Organization] = relationship(lazy="raise_on_sql")


class Setting(Base):
    """A fact the service keeps about itself between starts, such as the reconcile mark. One row per name."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json] = mapped_column(server_default=text("'{}'"))
