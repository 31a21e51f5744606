"""Prepaid credits: spent on invoices that are made final, given back when those are voided (billing spec 3.7, 7.4)."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.billing.fees import FeeDraft
from app.billing.settlement import Settlement
from app.billing.wallet_balances import balance_of, put_in, sources_of, take_out, write_outflows
from app.core.charges.properties import TARGET_WALLET
from app.core.money import exact
from app.core.wallets import Owed, Purse, granted_part, payments, spent
from app.models import Invoice, Wallet, WalletTransaction, among, wallet_metrics


def take_prepaid_credits(db: Session, settlements: Sequence[Settlement], now: datetime) -> None:
    """Take from the customers' wallets what the invoices still owe, one invoice after the other: for each wallet that pays
    there is one outbound transaction.

    The wallets are locked until the transaction ends: what two invoices want at the same time is spent by one of them.
    """
    owing = [one for one in settlements if one.takes_credits and one.total_cents > 0]
    wallets = _lock_paying(db, {one.draft.payer.customer_id for one in owing}, now)
    if not wallets:
        return
    limits = metrics_of(db, wallets)
    sources = sources_of(db, wallets)
    by_payer: dict[tuple[UUID, str], list[Wallet]] = defaultdict(list)
    for wallet in wallets.values():
        by_payer[wallet.customer_id, wallet.currency].append(wallet)
    outflows = []
    for one in owing:
        draft = one.draft
        theirs = by_payer.get((draft.payer.customer_id, draft.currency))
        if theirs is None:
            continue
        purses = [purse_of(wallet, limits.get(wallet.id, frozenset())) for wallet in theirs]
        for wallet_id, amount in payments(_owed(one), one.total_cents, purses).items():
            wallet = wallets[wallet_id]
            going = spent(balance_of(wallet), amount, wallet.rate_amount, wallet.currency)
            outflow = take_out(
                wallet, going, sources[wallet_id], now, transaction_status="invoiced", invoice_id=draft.id
            )
            outflows.append(outflow)
            granted = granted_part(outflow.parts)
            one.prepaid_cents += amount
            one.prepaid_granted_cents = (one.prepaid_granted_cents or 0) + granted
            one.prepaid_purchased_cents = (one.prepaid_purchased_cents or 0) + amount - granted
    write_outflows(db, outflows, now)


def give_back_prepaid_credits(db: Session, invoice: Invoice, now: datetime) -> None:
    """Grant anew what an invoice that is voided has spent, in wallets that are active; the caller holds the customer's row
    and sees to it that an invoice is voided once."""
    rows = db.execute(
        select(WalletTransaction, Wallet)
        .join(Wallet, Wallet.id == WalletTransaction.wallet_id)
        .where(
            WalletTransaction.invoice_id == invoice.id,
            WalletTransaction.transaction_status == "invoiced",
            Wallet.status == "active",
        )
        .order_by(Wallet.id)
        .with_for_update(of=Wallet)
        .execution_options(populate_existing=True)
    ).all()
    for paid, wallet in rows:
        granted = WalletTransaction(
            id=uuid4(),
            organization_id=wallet.organization_id,
            wallet_id=wallet.id,
            voided_invoice_id=invoice.id,
            transaction_type="inbound",
            transaction_status="granted",
            amount_cents=paid.amount_cents,
            credit_amount=paid.credit_amount,
            created_at=now,
        )
        db.add(granted)
        put_in(wallet, granted, now)
    db.flush()


def _lock_paying(db: Session, customers: Collection[UUID], now: datetime) -> dict[UUID, Wallet]:
    """The wallets of customers that have something left to spend, in the order in which they pay."""
    if not customers:
        return {}
    wallets = db.scalars(
        select(Wallet)
        .where(
            among(Wallet.customer_id, customers),
            Wallet.status == "active",
            Wallet.balance_cents > 0,
            or_(Wallet.expiration_at.is_(None), Wallet.expiration_at > now),
        )
        .order_by(Wallet.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    return {one.id: one for one in sorted(wallets, key=lambda one: (one.priority, one.created_at, one.id))}


def metrics_of(db: Session, wallets: Collection[UUID]) -> dict[UUID, frozenset[UUID]]:
    """The metrics that wallets are limited to, by wallet."""
    rows = db.execute(
        select(wallet_metrics.c.wallet_id, wallet_metrics.c.billable_metric_id).where(
            among(wallet_metrics.c.wallet_id, wallets)
        )
    ).all()
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for wallet_id, metric_id in rows:
        found[wallet_id].add(metric_id)
    return {wallet_id: frozenset(metrics) for wallet_id, metrics in found.items()}


def purse_of(wallet: Wallet, metrics: frozenset[UUID]) -> Purse:
    """A wallet as one that may pay, given the metrics that it is limited to."""
    return Purse(wallet.id, wallet.code, wallet.balance_cents, frozenset(wallet.fee_types), metrics)


def _owed(settlement: Settlement) -> list[Owed]:
    """What each fee of an invoice still asks for."""
    with exact():
        return [
            Owed(
                fee.item.fee_type,
                fee.item.id if fee.charge_id is not None else None,
                _target(fee),
                settlement.left_of(fee),
                settlement.left_of(fee) + settlement.fee_taxes(fee).precise_amount_cents - settlement.noted_on(fee),
            )
            for fee in settlement.fees
        ]


def _target(fee: FeeDraft) -> str | None:
    """The code of the wallet that a fee's events name, where its charge lets them (metering spec 3.5)."""
    if fee.terms is None or not fee.terms.accepts_target_wallet:
        return None
    return fee.group.get(TARGET_WALLET) or None
