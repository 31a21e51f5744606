"""What is put into wallets and taken out of them by hand or by a rule, and how it is looked up (billing spec 7.2, 7.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from app.billing.credit_amounts import check_notes, check_worth, credits_sent
from app.billing.top_ups import invoice_top_ups
from app.billing.wallet_balances import Outflow, balance_of, put_in, sources_of, take_out, write_outflows
from app.billing.wallets import LOWEST_PRIORITY, check_active, find_wallet
from app.core.money import ZERO
from app.core.wallets import Balance, credits_of, voided, worth
from app.errors import NotFound, Problems, invalid
from app.models import DEFAULT_PRIORITY, Wallet, WalletConsumption, WalletTransaction
from app.validation import Changes, as_uuid, empty

LONGEST_NAME = 255
STATUSES = ("pending", "settled", "failed")
TRANSACTION_TYPES = ("inbound", "outbound")
TRANSACTION_STATUSES = ("purchased", "granted", "voided", "invoiced")


@dataclass(frozen=True, slots=True)
class TopUp:
    """Credits to be put into a wallet: bought, given, or some of both. `source`: who says so, a `manual` request or a rule
    by `interval` or `threshold`. `paid_first`: whether the invoice is final only when it is paid."""

    paid_credits: Decimal = ZERO
    granted_credits: Decimal = ZERO
    source: str = "manual"
    name: str | None = None
    priority: int = DEFAULT_PRIORITY
    paid_first: bool = False
    notes: Sequence[Mapping[str, Any]] = ()
    purchase_order_number: str | None = None
    payment_method: Mapping[str, Any] | None = field(default=None)


def top_up(db: Session, wallet: Wallet, what: TopUp, now: datetime) -> list[WalletTransaction]:
    """Put credits into a wallet that is locked, with its customer: what is given can be spent at once; what is bought is
    invoiced, and can be spent when that has been paid. Bought credits are as many as their price in whole minor units
    buys."""
    return top_up_all(db, [(wallet, what)], now)


def top_up_all(db: Session, top_ups: Sequence[tuple[Wallet, TopUp]], now: datetime) -> list[WalletTransaction]:
    """The same for many wallets, in a number of queries that does not grow with them."""
    purchases, grants = [], []
    for wallet, what in top_ups:
        if what.paid_credits:
            amount_cents = worth(what.paid_credits, wallet.rate_amount, wallet.currency)
            buys = credits_of(amount_cents, wallet.rate_amount, wallet.currency)
            purchases.append((wallet, _inbound(wallet, what, "purchased", amount_cents, buys, now)))
        if what.granted_credits:
            amount_cents = worth(what.granted_credits, wallet.rate_amount, wallet.currency)
            grant = _inbound(wallet, what, "granted", amount_cents, what.granted_credits, now)
            put_in(wallet, grant, now)
            grants.append(grant)
    if purchases:
        invoice_top_ups(db, purchases, now)
    made = [*(purchase for _, purchase in purchases), *grants]
    db.add_all(made)
    db.flush()
    return made


def read_initial_credits(sent: Changes, rate: Decimal, currency: str) -> TopUp:
    """What a new wallet is to be given, from the body that it is made with.

    Raises:
        Invalid: a field breaks a rule.
    """
    problems = Problems()
    paid, granted = credits_sent(problems, sent, "paid_credits"), credits_sent(problems, sent, "granted_credits")
    check_worth(problems, "paid_credits", paid, rate, currency)
    check_worth(problems, "granted_credits", granted, rate, currency)
    check_notes(problems, "transaction_metadata", sent.get("transaction_metadata"))
    if len(sent.get("transaction_name") or "") > LONGEST_NAME:
        problems.add("transaction_name", "too_long")
    if not sent.get("ignore_paid_top_up_limits_on_creation"):
        limits = (sent.get("paid_top_up_min_amount_cents"), sent.get("paid_top_up_max_amount_cents"))
        _check_limits(problems, worth(paid, rate, currency), limits)
    problems.check()
    return TopUp(
        paid,
        granted,
        name=sent.get("transaction_name") or None,
        paid_first=bool(sent.get("invoice_requires_successful_payment")),
        notes=sent.get("transaction_metadata") or (),
        purchase_order_number=sent.get("purchase_order_number"),
        payment_method=sent.get("payment_method"),
    )


def create_transactions(
    db: Session, organization_id: UUID, sent: Changes, now: datetime
) -> Sequence[WalletTransaction]:
    """Sell, give and void credits as a request says: one transaction for each amount that is not zero.

    Raises:
        Invalid: a field breaks a rule, or the wallet is not there or has ended.
    """
    wallet = _wallet_of(db, organization_id, sent)
    problems = Problems()
    paid, granted, void = (credits_sent(problems, sent, f"{kind}_credits") for kind in ("paid", "granted", "voided"))
    for name, credit_amount in (("paid_credits", paid), ("granted_credits", granted), ("voided_credits", void)):
        check_worth(problems, name, credit_amount, wallet.rate_amount, wallet.currency)
    if not sent.get("ignore_paid_top_up_limits"):
        limits = wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents
        _check_limits(problems, worth(paid, wallet.rate_amount, wallet.currency), limits)
    _check_fields(problems, sent)
    only = sent.get("voided_transaction_id")
    if void and not empty(only):
        problems.add("voided_credits", "value_must_be_blank")
    elif void > wallet.credits_balance:
        problems.add("voided_credits", "insufficient_credits")
    problems.check()
    common: dict[str, Any] = {
        "name": sent.get("name") or None,
        "priority": sent.get("priority") or DEFAULT_PRIORITY,
        "purchase_order_number": sent.get("purchase_order_number"),
        "payment_method": sent.get("payment_method"),
    }
    notes, paid_first = sent.get("metadata") or (), sent.get("invoice_requires_successful_payment")
    what = TopUp(
        paid,
        granted,
        paid_first=wallet.invoice_requires_successful_payment if paid_first is None else paid_first,
        notes=notes,
        **common,
    )
    voids = []
    if not empty(only):
        voids = [_void_one(db, wallet, only, now, transaction_metadata=list(notes), **common)]
    elif void:
        voids = [_void(db, wallet, void, now, transaction_metadata=list(notes), **common)]
    return [*top_up(db, wallet, what, now), *voids]


def find_transaction(db: Session, organization_id: UUID, transaction_id: UUID | None) -> WalletTransaction:
    """One transaction, with its wallet.

    Raises:
        NotFound: `wallet_transaction_not_found`.
    """
    query = _transactions(organization_id).where(WalletTransaction.id == transaction_id)
    found = db.scalars(query).first() if transaction_id is not None else None
    if found is None:
        raise NotFound("wallet_transaction")
    return found


def transactions_of(
    wallet: Wallet,
    *,
    status: str | None = None,
    transaction_type: str | None = None,
    transaction_status: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Select[WalletTransaction]:
    """The transactions of a wallet that pass all filters given, newest first. An empty metadata value means: without this
    key."""
    query = _transactions(wallet.organization_id).where(WalletTransaction.wallet_id == wallet.id)
    for column, value in (
        (WalletTransaction.status, status),
        (WalletTransaction.transaction_type, transaction_type),
        (WalletTransaction.transaction_status, transaction_status),
    ):
        if value is not None:
            query = query.where(column == value)
    for key, value in (metadata or {}).items():
        notes = WalletTransaction.transaction_metadata
        query = query.where(
            notes.contains([{"key": key, "value": value}]) if value else ~notes.contains([{"key": key}])
        )
    return query


def consumptions_of(transaction: WalletTransaction) -> Select[WalletConsumption]:
    """What of a top-up went out again, the latest first.

    Raises:
        Invalid: nothing was put in with this transaction.
    """
    if transaction.transaction_type != "inbound":
        raise invalid("transaction_type", "invalid_transaction_type")
    return (
        select(WalletConsumption)
        .where(WalletConsumption.inbound_id == transaction.id)
        .order_by(WalletConsumption.created_at.desc(), WalletConsumption.number.desc())
        .options(joinedload(WalletConsumption.outbound).joinedload(WalletTransaction.wallet))
    )


def fundings_of(transaction: WalletTransaction) -> Select[WalletConsumption]:
    """The top-ups that what went out came from, in the order in which they were used.

    Raises:
        Invalid: nothing was taken out with this transaction.
    """
    if transaction.transaction_type != "outbound":
        raise invalid("transaction_type", "invalid_transaction_type")
    return (
        select(WalletConsumption)
        .where(WalletConsumption.outbound_id == transaction.id)
        .order_by(WalletConsumption.number)
        .options(joinedload(WalletConsumption.inbound).joinedload(WalletTransaction.wallet))
    )


def _transactions(organization_id: UUID) -> Select[WalletTransaction]:
    return (
        select(WalletTransaction)
        .where(WalletTransaction.organization_id == organization_id)
        .order_by(WalletTransaction.created_at.desc(), WalletTransaction.number.desc())
        .options(joinedload(WalletTransaction.wallet))
    )


def _wallet_of(db: Session, organization_id: UUID, sent: Changes) -> Wallet:
    """The wallet that a request names, locked."""
    try:
        wallet = find_wallet(db, organization_id, as_uuid(sent.get("wallet_id")), lock=True)
    except NotFound:
        raise invalid("wallet_id", "wallet_not_found") from None
    check_active(wallet)
    return wallet


def _check_fields(problems: Problems, sent: Changes) -> None:
    if len(sent.get("name") or "") > LONGEST_NAME:
        problems.add("name", "too_long")
    if sent.get("priority") is not None and not 1 <= sent["priority"] <= LOWEST_PRIORITY:
        problems.add("priority", "value_is_invalid")
    check_notes(problems, "metadata", sent.get("metadata"))


def _check_limits(problems: Problems, amount_cents: int, limits: tuple[int | None, int | None]) -> None:
    """Note a purchase that comes to less or more than a wallet's purchases may."""
    least, most = limits
    if amount_cents and least is not None and amount_cents < least:
        problems.add("paid_credits", "amount_below_minimum")
    if most is not None and amount_cents > most:
        problems.add("paid_credits", "amount_above_maximum")


def _inbound(
    wallet: Wallet, what: TopUp, transaction_status: str, amount_cents: int, credit_amount: Decimal, now: datetime
) -> WalletTransaction:
    return WalletTransaction(
        id=uuid4(),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        transaction_type="inbound",
        status="pending",
        transaction_status=transaction_status,
        source=what.source,
        name=what.name,
        priority=what.priority,
        amount_cents=amount_cents,
        credit_amount=credit_amount,
        invoice_requires_successful_payment=what.paid_first,
        purchase_order_number=what.purchase_order_number,
        payment_method=None if what.payment_method is None else dict(what.payment_method),
        transaction_metadata=[dict(note) for note in what.notes],
        created_at=now,
        updated_at=now,
    )


def _void(db: Session, wallet: Wallet, credit_amount: Decimal, now: datetime, **fields: Any) -> WalletTransaction:
    """Take credits out of a wallet for nothing, out of its top-ups in the order in which they are used."""
    going = voided(balance_of(wallet), credit_amount, wallet.rate_amount, wallet.currency)
    sources = sources_of(db, [wallet.id])[wallet.id]
    return _voided(db, take_out(wallet, going, sources, now, transaction_status="voided", **fields), now)


def _void_one(db: Session, wallet: Wallet, transaction_id: object, now: datetime, **fields: Any) -> WalletTransaction:
    """Take out what is left of one top-up.

    Raises:
        Invalid: it is not one of this wallet, or nothing is left of it.
    """
    inbound = db.scalars(
        select(WalletTransaction)
        .where(
            WalletTransaction.id == as_uuid(transaction_id),
            WalletTransaction.wallet_id == wallet.id,
            WalletTransaction.transaction_type == "inbound",
        )
        .execution_options(populate_existing=True)
    ).first()
    if inbound is None:
        raise invalid("voided_transaction_id", "wallet_transaction_not_found")
    left = inbound.remaining_amount_cents
    if not left:
        raise invalid("voided_transaction_id", "no_remaining_amount")
    credit_amount = credits_left(inbound, wallet)
    going = Balance(left, min(credit_amount, wallet.credits_balance))
    if left == wallet.balance_cents:
        going = balance_of(wallet)
    return _voided(db, take_out(wallet, going, [inbound], now, transaction_status="voided", **fields), now)


def _voided(db: Session, outflow: Outflow, now: datetime) -> WalletTransaction:
    write_outflows(db, [outflow], now)
    return db.get_one(WalletTransaction, outflow.id)


def credits_left(inbound: WalletTransaction, wallet: Wallet) -> Decimal:
    """How many credits of a settled top-up have not gone out."""
    if inbound.remaining_amount_cents == inbound.amount_cents:
        return inbound.credit_amount
    return credits_of(inbound.remaining_amount_cents or 0, wallet.rate_amount, wallet.currency)
