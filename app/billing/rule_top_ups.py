"""Wallets topped up by their rules: at a threshold of the ongoing balance, or on the anniversaries of a day (billing spec
7.6)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, select, update
from sqlalchemy.orm import Session, contains_eager

from app.billing.payers import timezone_of
from app.billing.wallet_transactions import TopUp, top_up_all
from app.core.boundaries import SAME_END
from app.core.money import ZERO
from app.core.periods import Interval, local_date, local_start
from app.core.top_up_rules import Amounts, Limits, Method, Rule, Trigger, is_paused, is_reached, next_top_up, top_up
from app.core.wallets import credits_of, worth
from app.models import Customer, Organization, RecurringTransactionRule, Wallet, WalletTransaction, among

_AUTOMATIC = (Trigger.INTERVAL, Trigger.THRESHOLD)


@dataclass(frozen=True, slots=True)
class _Purchases:
    """The purchases of a wallet: credits that are not paid yet, when one by a rule failed last, and when one was paid."""

    pending: Decimal = ZERO
    last_failed_at: datetime | None = None
    last_settled_at: datetime | None = None


def threshold_rules(db: Session, wallets: Sequence[Wallet]) -> dict[UUID, RecurringTransactionRule]:
    """The active rules by threshold of wallets, by wallet."""
    if not wallets:
        return {}
    rule = RecurringTransactionRule
    rows = db.scalars(
        select(rule).where(
            among(rule.wallet_id, [one.id for one in wallets]),
            rule.status == "active",
            rule.trigger == Trigger.THRESHOLD,
        )
    )
    return {one.wallet_id: one for one in rows}


def top_up_at_threshold(
    db: Session, wallets: Sequence[Wallet], rules: Mapping[UUID, RecurringTransactionRule], now: datetime
) -> None:
    """Top up those of some wallets whose ongoing balance has come to the threshold of their rule. The wallets and their
    customers are locked, and the ongoing balances those of now.

    Each is topped up once at the most: where that does not suffice, its balance has moved, and it comes here again.
    """
    low = [one for one in wallets if one.id in rules and _at(rules[one.id], one.credits_ongoing_balance, ZERO)]
    if not low:
        return
    purchases = _purchases(db, [one.id for one in low])
    due = []
    for wallet in low:
        rule, past = rules[wallet.id], purchases[wallet.id]
        if _expired(rule, now) or not _at(rule, wallet.credits_ongoing_balance, past.pending):
            continue
        if rule_of(rule).sells and is_paused(past.last_failed_at, past.last_settled_at, now):
            wallet.ready_to_be_refreshed = True  # to be looked at again when the pause may be over
            continue
        due.append((wallet, rule, past.pending))
    _top_up(db, due, now)


def expire_rules(db: Session, scope: ColumnElement[bool], until: datetime, now: datetime) -> None:
    """End the rules that have expired by an instant. `scope` limits the organizations."""
    rule = RecurringTransactionRule
    db.execute(
        update(rule)
        .where(
            rule.organization_id.in_(select(Organization.id).where(scope)),
            rule.status == "active",
            rule.expiration_at <= until,
        )
        .values(status="terminated", terminated_at=now, updated_at=now),
        execution_options={"synchronize_session": False},
    )


def due_rules(
    db: Session, scope: ColumnElement[bool], until: datetime, but: Collection[UUID], most: int
) -> dict[UUID, dict[UUID, UUID]]:
    """The rules by interval that are due at an instant, but for some: by organization, each with its customer."""
    rule = RecurringTransactionRule
    rows = db.execute(
        select(rule.organization_id, rule.id, Wallet.customer_id)
        .join(Wallet, Wallet.id == rule.wallet_id)
        .join(Organization, Organization.id == rule.organization_id)
        .where(scope, _is_due(until), rule.id.not_in(but))
        .order_by(rule.organization_id, rule.id)
        .limit(most)
    )
    due: dict[UUID, dict[UUID, UUID]] = defaultdict(dict)
    for organization_id, rule_id, customer_id in rows:
        due[organization_id][rule_id] = customer_id
    return due


def top_up_on_their_day(db: Session, rule_ids: Collection[UUID], instant: datetime, now: datetime) -> None:
    """Top up by those of some rules by interval that are due at an instant, and say when they are due next: on a later
    local day than that of `now`, also where several days have been missed. The wallets and their customers are locked, and
    the ongoing balances those of now."""
    rule = RecurringTransactionRule
    rules = db.scalars(
        select(rule)
        .join(rule.wallet)
        .where(among(rule.id, rule_ids), _is_due(instant))
        .order_by(rule.id)
        .options(contains_eager(rule.wallet).joinedload(Wallet.customer).joinedload(Customer.billing_entity))
        .with_for_update(of=rule)
    ).all()
    _top_up(db, [(one.wallet, one, ZERO) for one in rules], now)
    for one in rules:
        one.due_at = _due_at(one, one.wallet, local_date(now, timezone_of(one.wallet.customer)))
    db.flush()


def schedule_rules(
    db: Session,
    rules: Iterable[tuple[RecurringTransactionRule, Wallet]],
    now: datetime,
    apart: timedelta = timedelta(0),
) -> None:
    """Set when rules by interval are due, at the start of a local day: today at the earliest, but not on a day on which the
    wallet was made or, up to some time before, was topped up by interval already. The customers must be loaded with their
    billing entities."""
    by_interval = []
    for rule, wallet in rules:
        rule.due_at = None
        if rule.trigger == Trigger.INTERVAL:
            by_interval.append((rule, wallet))
    last_ones = db.execute(
        select(WalletTransaction.wallet_id, func.max(WalletTransaction.created_at))
        .where(
            among(WalletTransaction.wallet_id, [wallet.id for _, wallet in by_interval]),
            WalletTransaction.source == Trigger.INTERVAL,
        )
        .group_by(WalletTransaction.wallet_id)
    )
    last: dict[UUID, datetime] = {row[0]: row[1] for row in last_ones}
    for rule, wallet in by_interval:
        tz = timezone_of(wallet.customer)
        yesterday, last_one = local_date(now, tz) - timedelta(days=1), last.get(wallet.id)
        rule.due_at = _due_at(rule, wallet, max(yesterday, local_date(last_one + apart, tz)) if last_one else yesterday)


def reschedule_rules(db: Session, organization_id: UUID, customers: Select[UUID], now: datetime) -> None:
    """The timezone of some customers has changed: set anew when their rules are due that are not yet."""
    rule = RecurringTransactionRule
    query = (
        select(rule)
        .join(rule.wallet)
        .where(
            rule.organization_id == organization_id,
            rule.status == "active",
            rule.due_at > now,
            Wallet.customer_id.in_(customers),
        )
        .options(contains_eager(rule.wallet).joinedload(Wallet.customer).joinedload(Customer.billing_entity))
    )
    # The day of the last top-up may be yet to come in another timezone.
    schedule_rules(db, [(one, one.wallet) for one in db.scalars(query)], now, apart=SAME_END)


def rule_of(rule: RecurringTransactionRule) -> Rule:
    """How much a rule tops up by."""
    return Rule(
        method=Method(rule.method),
        threshold=rule.threshold_credits if rule.trigger == Trigger.THRESHOLD else None,
        fixed=Amounts(rule.paid_credits, rule.granted_credits),
        target=rule.target_ongoing_balance or ZERO,
        grants_target=rule.grants_target_top_up,
    )


def _at(rule: RecurringTransactionRule, ongoing: Decimal, pending: Decimal) -> bool:
    return is_reached(rule.threshold_credits, ongoing, pending)


def _is_due(until: datetime) -> ColumnElement[bool]:
    rule = RecurringTransactionRule
    return and_(rule.status == "active", rule.due_at <= until, Wallet.status == "active")


def _expired(rule: RecurringTransactionRule, now: datetime) -> bool:
    return rule.expiration_at is not None and rule.expiration_at <= now


def _due_at(rule: RecurringTransactionRule, wallet: Wallet, after: date) -> datetime:
    """When a rule by interval is due first after a local day, and after that of the wallet's making."""
    tz = timezone_of(wallet.customer)
    made_on = local_date(wallet.created_at, tz)
    anchor = made_on if rule.started_at is None else local_date(rule.started_at, tz)
    return local_start(next_top_up(Interval(rule.interval or ""), anchor, max(after, made_on)), tz)


def _top_up(db: Session, due: Sequence[tuple[Wallet, RecurringTransactionRule, Decimal]], now: datetime) -> None:
    """Top up wallets by their rules, given what credits of each are pending. What is worth nothing in money is left out."""
    top_ups = []
    for wallet, rule, pending in due:
        amounts = top_up(rule_of(rule), wallet.credits_ongoing_balance, pending, _limits(rule, wallet))
        paid, granted = (_worth_something(one, wallet) for one in (amounts.paid, amounts.granted))
        if paid or granted:
            top_ups.append((wallet, _of(rule, paid, granted)))
    top_up_all(db, top_ups, now)


def _of(rule: RecurringTransactionRule, paid: Decimal, granted: Decimal) -> TopUp:
    return TopUp(
        paid,
        granted,
        source=rule.trigger,
        name=rule.transaction_name,
        paid_first=rule.invoice_requires_successful_payment,
        notes=rule.transaction_metadata,
        purchase_order_number=rule.purchase_order_number,
        payment_method=rule.payment_method,
    )


def _worth_something(credit_amount: Decimal, wallet: Wallet) -> Decimal:
    return credit_amount if worth(credit_amount, wallet.rate_amount, wallet.currency) else ZERO


def _limits(rule: RecurringTransactionRule, wallet: Wallet) -> Limits:
    if rule.ignore_paid_top_up_limits:
        return Limits()
    least, most = (
        None if cents is None else credits_of(cents, wallet.rate_amount, wallet.currency)
        for cents in (wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents)
    )
    return Limits(least, most)


def _purchases(db: Session, wallet_ids: Collection[UUID]) -> Mapping[UUID, _Purchases]:
    """What has been bought for wallets."""
    one = WalletTransaction
    rows = db.execute(
        select(
            one.wallet_id,
            func.coalesce(func.sum(one.credit_amount).filter(one.status == "pending"), ZERO),
            func.max(one.failed_at).filter(one.source.in_(_AUTOMATIC)),
            func.max(one.settled_at),
        )
        .where(among(one.wallet_id, wallet_ids), one.transaction_status == "purchased")
        .group_by(one.wallet_id)
    )
    found: dict[UUID, _Purchases] = defaultdict(_Purchases)
    for wallet_id, pending, failed_at, settled_at in rows:
        found[wallet_id] = _Purchases(pending, failed_at, settled_at)
    return found
