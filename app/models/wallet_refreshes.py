"""Which wallets' ongoing balances are to be computed anew: those of customers whose invoices or subscriptions a transaction
has changed. Balances that move say so of themselves."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect, select, update
from sqlalchemy.orm import Session

from app.models.base import among
from app.models.customer import Subscription
from app.models.invoice import Invoice
from app.models.wallet import Wallet

_OUTDATED = "customers whose ongoing balances are outdated"
_DECIDING: dict[type[Any], tuple[str, ...]] = {
    Invoice: ("status", "fees_amount_cents", "sub_total_including_taxes_amount_cents"),
    Subscription: ("status", "next_billing_at"),
}
"""What of these decides whether their usage is billed."""


def balances_outdated(db: Session, customer_ids: Iterable[UUID]) -> None:
    """Have the ongoing balances of customers computed anew soon after the transaction is committed. For changes made by a
    bulk statement: others are seen."""
    db.info.setdefault(_OUTDATED, set()).update(customer_ids)


@event.listens_for(Session, "before_flush")
def _look(db: Session, *_: Any) -> None:
    for one in (*db.new, *db.dirty):
        deciding = _DECIDING.get(type(one), ())
        if any(inspect(one).attrs[name].history.has_changes() for name in deciding):
            balances_outdated(db, [one.customer_id])


@event.listens_for(Session, "before_commit", insert=True)
def _mark(db: Session) -> None:
    """Before the organization's row may be locked, which is the last that a transaction waits for."""
    db.flush()
    outdated = db.info.pop(_OUTDATED, None)
    if outdated:
        theirs = select(Wallet.id).where(
            among(Wallet.customer_id, outdated), Wallet.status == "active", Wallet.ready_to_be_refreshed.is_(False)
        )
        db.execute(
            update(Wallet)
            .where(Wallet.id.in_(theirs.order_by(Wallet.id).with_for_update()))  # locked in everybody's order
            .values(ready_to_be_refreshed=True),
            execution_options={"synchronize_session": False},
        )
