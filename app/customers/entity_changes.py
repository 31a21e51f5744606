"""What a change of a billing entity entails for its customers (billing spec 0.2, 1.3)."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.billing.draft_dates import move_drafts
from app.customers.billing_entities import update_entity
from app.customers.customers import ISSUING
from app.customers.subscriptions import reschedule
from app.models import BillingEntity, Customer, Invoice
from app.validation import Changes


def change_entity(db: Session, entity: BillingEntity, sent: Changes, now: datetime) -> None:
    """Change an entity; another timezone moves the periods of its customers that have none of their own.

    Raises what `update_entity` does.
    """
    moves = sent.get("timezone") not in (None, entity.timezone)
    if moves:
        # Whatever bills locks customers before it takes numbers from their entity.
        concerned = select(Customer.id).where(Customer.billing_entity_id == entity.id, Customer.timezone.is_(None))
        db.execute(concerned.order_by(Customer.id).with_for_update(key_share=True)).all()
    of_entity = (Invoice.billing_entity_id == entity.id) & (Invoice.status == "draft")
    moves_drafts = "net_payment_term" in sent or not set(ISSUING).isdisjoint(sent.get("billing_configuration") or ())
    if moves_drafts:
        # Whatever makes drafts final holds them before it takes numbers.
        db.execute(select(Invoice.id).where(of_entity).order_by(Invoice.id).with_for_update()).all()
    update_entity(db, entity, sent, now)
    if moves_drafts:
        move_drafts(db, of_entity, now)
    if moves:
        reschedule(db, entity.organization_id, now, entity=entity)
