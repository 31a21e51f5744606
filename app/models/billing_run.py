"""What the service notes about its runs of what was due."""

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json


class BillingRun(Base):
    """One run over what was due until an instant, for all organizations on the system's time.

    `source`: `scheduler`, or `manual` for one that somebody asked for. `failures`: what could not be done, and why;
    the first of them, `failures_count` is complete. `updated_at` moves while it goes on: one that has stopped without
    `finished_at` was interrupted."""

    __tablename__ = "billing_runs"
    __table_args__ = (Index("ix_billing_runs_started_at", "started_at"),)

    id: Mapped[Id]
    source: Mapped[str]
    until: Mapped[datetime]
    activated: Mapped[int] = mapped_column(default=0)
    terminated: Mapped[int] = mapped_column(default=0)
    customers: Mapped[int] = mapped_column(default=0)
    customers_due: Mapped[int | None]
    invoices: Mapped[int] = mapped_column(default=0)
    finalized: Mapped[int] = mapped_column(default=0)
    failures: Mapped[list[Json]] = mapped_column(default=list)
    failures_count: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    started_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
