"""Customers locked for a transaction: everything that bills one does so before it locks anything else of it."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import Customer


def lock_customers(db: Session, customers: Iterable[UUID]) -> None:
    """Lock customers for this transaction, in the order in which everything that bills many of them does."""
    query = select(Customer.id).where(Customer.id.in_(list(customers))).order_by(Customer.id)
    db.execute(query.with_for_update(key_share=True)).all()


def lock_customer(db: Session, customer_id: UUID, *, wait: bool = True) -> bool:
    """Lock a customer for this transaction, as everything that bills does before it locks anything else of it. Without
    `wait`, False where something else holds it."""
    query = select(Customer.id).where(Customer.id == customer_id)
    return db.scalar(query.with_for_update(skip_locked=not wait, key_share=True)) is not None
