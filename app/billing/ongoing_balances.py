"""What wallets will have left when all that has been used is billed, and the top-ups that this sets off (billing spec 7.5,
7.6)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from app.billing.locks import lock_customers
from app.billing.ongoing_usage import ongoing_usage
from app.billing.prepaid_credits import metrics_of, purse_of
from app.billing.remembered import PriceBook
from app.billing.rule_top_ups import threshold_rules, top_up_at_threshold
from app.core.money import ZERO, minor_int
from app.core.ongoing_balance import allot
from app.core.wallets import credits_of
from app.metering.meter import Meter
from app.models import Organization, RecurringTransactionRule, Wallet, among


def refresh_balances(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    customer_ids: Collection[UUID],
    now: datetime,
) -> None:
    """Compute the ongoing balances of customers of one organization anew, and top up the wallets that have come to their
    threshold. Takes a number of queries that does not grow with the customers; locks them and their wallets.

    `organization` must have been read in this transaction, before anything else is.
    """
    lock_customers(db, customer_ids)
    query = _active(organization, customer_ids, now).order_by(Wallet.id).with_for_update()
    wallets = db.scalars(query.execution_options(populate_existing=True)).all()
    rules = threshold_rules(db, wallets)
    for wallet, share in _shares(db, meter, book, organization, wallets, rules, now):
        _note(wallet, share, now)
    top_up_at_threshold(db, wallets, rules, now)
    db.flush()


def freshen_balances(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    customer_ids: Collection[UUID],
    now: datetime,
) -> bool:
    """The same before wallets are read: nothing is locked where they are up to date, which False says. On the same
    condition; the organization's events must be readable."""
    wallets = db.scalars(_active(organization, customer_ids, now)).all()
    rules = threshold_rules(db, wallets)
    outdated = {
        wallet.customer_id
        for wallet, share in _shares(db, meter, book, organization, wallets, rules, now)
        if wallet.ready_to_be_refreshed or share != wallet.ongoing_usage_balance_cents
    }
    if outdated:
        refresh_balances(db, meter, book, organization, outdated, now)
    return bool(outdated)


def _active(organization: Organization, customer_ids: Collection[UUID], now: datetime) -> Select[Wallet]:
    """The wallets of customers that something can fall to."""
    return select(Wallet).where(
        Wallet.organization_id == organization.id,
        among(Wallet.customer_id, customer_ids),
        Wallet.status == "active",
        or_(Wallet.expiration_at.is_(None), Wallet.expiration_at > now),
    )


def _shares(
    db: Session,
    meter: Meter,
    book: PriceBook,
    organization: Organization,
    wallets: Sequence[Wallet],
    rules: Mapping[UUID, RecurringTransactionRule],
    now: datetime,
) -> Iterable[tuple[Wallet, int]]:
    """What of the usage that has not been billed falls to each wallet, in minor units."""
    if not wallets:
        return
    unbilled = ongoing_usage(db, meter, book, organization, {one.customer_id for one in wallets}, now)
    limits = metrics_of(db, [one.id for one in wallets])
    theirs: dict[tuple[UUID, str], list[Wallet]] = defaultdict(list)
    for wallet in sorted(wallets, key=lambda one: (one.priority, one.created_at, one.id)):
        theirs[wallet.customer_id, wallet.currency].append(wallet)
    for buyer, mine in theirs.items():
        buckets = unbilled.get(buyer, {})
        purses = [purse_of(wallet, limits.get(wallet.id, frozenset())) for wallet in mine]
        yield from zip(mine, allot(purses, rules, buckets, minor_int(sum(buckets.values(), ZERO))), strict=True)


def _note(wallet: Wallet, usage_cents: int, now: datetime) -> None:
    """Note what falls to a wallet. It is depleted from when nothing is left until something is again."""
    used = credits_of(usage_cents, wallet.rate_amount, wallet.currency)
    wallet.ongoing_usage_balance_cents = usage_cents
    wallet.credits_ongoing_usage_balance = used
    wallet.ongoing_balance_cents = wallet.balance_cents - usage_cents
    wallet.credits_ongoing_balance = wallet.credits_balance - used
    wallet.depleted_ongoing_balance = wallet.ongoing_balance_cents <= 0
    wallet.ready_to_be_refreshed = False
    wallet.last_ongoing_balance_sync_at = now
