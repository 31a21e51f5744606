"""What is kept of charges paid in advance: how far events have been looked at, and where their periods stand."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Json, PreciseUnits


class AdvanceMark(Base):
    """Until when an organization's events, by the time they were ingested, have had their fees made. An organization has
    a mark from its first charge paid in advance on; events that were ingested before that make no fees."""

    __tablename__ = "advance_marks"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    billed_until: Mapped[datetime]


class AdvanceLevel(Base):
    """Where a bucket of a charge stands in a period (`app.core.charges.advance_level.Level`). `bucket` is its filter and
    its group as JSON; `signature` says by which filters, groups and allowances the events were told apart: a level that
    has another one than its charge is made anew from the events."""

    __tablename__ = "advance_levels"

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    charge_id: Mapped[UUID] = mapped_column(ForeignKey("charges.id"), primary_key=True)
    from_datetime: Mapped[datetime] = mapped_column(primary_key=True)
    bucket_digest: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    bucket: Mapped[Json] = mapped_column(JSON)
    signature: Mapped[str]
    current: Mapped[PreciseUnits]
    maximum: Mapped[PreciseUnits]
    started: Mapped[bool]
    events_count: Mapped[int] = mapped_column(BigInteger)
    precise_total_amount_cents: Mapped[PreciseUnits]
    prorated: Mapped[PreciseUnits]
    spent: Mapped[Json | None] = mapped_column(JSON)
