"""The end of plans that were made for one subscription."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.models import Plan, Subscription, among


def retire_copies(db: Session, subscription_ids: Collection[UUID], now: datetime) -> None:
    """Delete the plans that are copies made for these subscriptions, which are ending. They are still billed by them."""
    copies = (
        select(Plan.id)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .where(among(Subscription.id, subscription_ids), Plan.parent_id.is_not(None), Plan.deleted_at.is_(None))
        .order_by(Plan.id)
        .with_for_update(of=Plan, key_share=True)
    )
    ids = db.scalars(copies).all() if subscription_ids else ()
    if ids:
        db.execute(update(Plan).where(among(Plan.id, ids)).values(deleted_at=now, updated_at=now))
