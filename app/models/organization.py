"""Tenants: the organization that owns everything else, and the keys that open it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id, Json


class Organization(Base):
    """A tenant. Every other row names the organization it belongs to, and every query filters on it. What it bills with is
    set on its billing entities."""

    __tablename__ = "organizations"

    id: Mapped[Id]
    name: Mapped[str]
    sandbox: Mapped[bool] = mapped_column(default=False)
    test_clock: Mapped[datetime | None]
    created_at: Mapped[datetime]
    webhook_url: Mapped[str | None]
    last_customer_number: Mapped[int] = mapped_column(default=0)
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
