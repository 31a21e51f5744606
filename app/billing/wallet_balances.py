"""What goes into wallets and out of them: balances, and which top-ups the money comes out of (billing spec 7.2, 7.4).

Whoever calls holds the customer's row, and the wallets' rows locked.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.wallets import Balance, Part, Source, draw
from app.models import DEFAULT_PRIORITY, Wallet, WalletConsumption, WalletTransaction, among
from app.stores.copying import copy_rows, row_text
from app.stores.postgres import JSON


@dataclass(frozen=True, slots=True)
class Outflow:
    """What has been taken out of a wallet, and which top-ups it came out of; it becomes an outbound transaction of this id.
    `fields`: what it is for."""

    wallet: Wallet
    going: Balance
    parts: Sequence[Part]
    fields: Mapping[str, Any]
    id: UUID = field(default_factory=uuid4)


def balance_of(wallet: Wallet) -> Balance:
    """What a wallet holds."""
    return Balance(wallet.balance_cents, wallet.credits_balance)


def put_in(wallet: Wallet, transaction: WalletTransaction, now: datetime) -> None:
    """Settle what goes into a wallet: from now on it can be spent."""
    transaction.status = "settled"
    transaction.settled_at = transaction.updated_at = now
    transaction.failed_at = None
    transaction.remaining_amount_cents = transaction.amount_cents
    wallet.balance_cents += transaction.amount_cents
    wallet.credits_balance += transaction.credit_amount
    _moved(wallet, now)


def take_out(
    wallet: Wallet, going: Balance, sources: Sequence[WalletTransaction], now: datetime, **fields: Any
) -> Outflow:
    """Take money and credits out of a wallet, and the money out of these top-ups, in the order in which they are used. The
    outflow is to be written.

    `fields` are those of its transaction that say what it is for. Raises ValueError when the top-ups hold less than that.
    """
    by_id = {one.id: one for one in sources}
    outflow = Outflow(wallet, going, draw([_source(one) for one in sources], going.amount_cents), fields)
    for part in outflow.parts:
        inbound = by_id[part.source]
        inbound.remaining_amount_cents = (inbound.remaining_amount_cents or 0) - part.amount_cents
        inbound.updated_at = now
    wallet.balance_cents -= going.amount_cents
    wallet.credits_balance -= going.credits
    wallet.consumed_credits += going.credits
    wallet.last_consumed_credit_at = now
    _moved(wallet, now)
    return outflow


def write_outflows(db: Session, outflows: Sequence[Outflow], now: datetime) -> None:
    """Store outflows in one go, and the wallets and top-ups that they came out of."""
    db.flush()
    transactions = [_transaction(one, now) for one in outflows]
    consumptions = [
        {
            "id": uuid4(),
            "organization_id": one.wallet.organization_id,
            "inbound_id": part.source,
            "outbound_id": one.id,
            "amount_cents": part.amount_cents,
            "created_at": now,
        }
        for one in outflows
        for part in one.parts
    ]
    for table, rows in ((WalletTransaction, transactions), (WalletConsumption, consumptions)):
        if rows:
            copy_rows(db, table.__tablename__, rows[0], [row_text(tuple(row.values())) for row in rows])


def sources_of(db: Session, wallets: Collection[UUID]) -> dict[UUID, list[WalletTransaction]]:
    """The top-ups of wallets that have something left, by wallet, as they are now."""
    rows = db.scalars(
        select(WalletTransaction)
        .where(among(WalletTransaction.wallet_id, wallets), WalletTransaction.remaining_amount_cents > 0)
        .execution_options(populate_existing=True)
    )
    sources: dict[UUID, list[WalletTransaction]] = defaultdict(list)
    for one in rows:
        sources[one.wallet_id].append(one)
    return sources


def _transaction(outflow: Outflow, now: datetime) -> dict[str, Any]:
    """The row of an outbound transaction."""
    row = {
        "id": outflow.id,
        "organization_id": outflow.wallet.organization_id,
        "wallet_id": outflow.wallet.id,
        "transaction_type": "outbound",
        "status": "settled",
        "source": "manual",
        "priority": DEFAULT_PRIORITY,
        "amount_cents": outflow.going.amount_cents,
        "credit_amount": outflow.going.credits,
        "invoice_requires_successful_payment": False,
        "transaction_metadata": [],
        "settled_at": now,
        "created_at": now,
        "updated_at": now,
        **outflow.fields,
    }
    return {
        name: JSON.encode(value).decode() if isinstance(value, list | dict) else value for name, value in row.items()
    }


def _source(transaction: WalletTransaction) -> Source:
    return Source(
        transaction.id,
        transaction.priority,
        transaction.transaction_status == "granted",
        transaction.number,
        transaction.remaining_amount_cents or 0,
    )


def _moved(wallet: Wallet, now: datetime) -> None:
    """What follows from a new balance: what will be left of it when the usage that falls to it is billed."""
    wallet.ongoing_balance_cents = wallet.balance_cents - wallet.ongoing_usage_balance_cents
    wallet.credits_ongoing_balance = wallet.credits_balance - wallet.credits_ongoing_usage_balance
    wallet.ready_to_be_refreshed = True
    wallet.last_balance_sync_at = wallet.updated_at = now
