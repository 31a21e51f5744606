"""What the service notes about the events it was sent."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json


class EventCheck(Base):
    """What was wrong with the events an organization sent in an hour, in the organization's time (metering spec 1.11).
    `errors` is the body of `events.errors`; its lists are cut, `counts` are complete. `checked_at` is the system's time."""

    __tablename__ = "event_checks"
    __table_args__ = (
        UniqueConstraint("organization_id", "hour"),
        Index("ix_event_checks_checked_at", "checked_at"),
    )

    id: Mapped[Id]
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    hour: Mapped[datetime]
    counts: Mapped[Json]
    errors: Mapped[Json] = mapped_column(JSON)  # JSONB holds no NUL, and a sender's id may have one
    checked_at: Mapped[datetime]
