"""Wallets: finding them, and the rules for making, changing and ending them (billing spec 7.1, 7.7)."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from app.billing.locks import lock_customer
from app.core.money import ZERO, decimal_places
from app.core.wallets import CREDIT_PLACES
from app.customers.billing_entities import find_entity, ids_of
from app.errors import NotFound, Problems, invalid
from app.models import (
    DEFAULT_PRIORITY,
    BillableMetric,
    Customer,
    Organization,
    RecurringTransactionRule,
    Wallet,
    among,
    balances_outdated,
)
from app.validation import (
    Changes,
    assign,
    check_code,
    check_currency,
    check_length,
    check_mandatory,
    check_metadata,
    empty,
)

FEE_TYPES = ("charge", "subscription", "commitment", "fixed_charge")
"""The types of fees that a wallet can be limited to."""
LONGEST_NAME = 255
LOWEST_PRIORITY = 50

WALLET_PARTS = (
    joinedload(Wallet.customer).joinedload(Customer.billing_entity),
    joinedload(Wallet.billing_entity),
    selectinload(Wallet.metrics),
    selectinload(Wallet.rules),
)
"""What must be loaded with a wallet to show it whole."""

_LIMITS = ("paid_top_up_min_amount_cents", "paid_top_up_max_amount_cents")
_FIELDS = (
    "name",
    "code",
    "expiration_at",
    "purchase_order_number",
    "payment_method",
    *_LIMITS,
)
_RATE = re.compile(r"[0-9]{1,25}(\.[0-9]*)?").fullmatch


def wallets(organization_id: UUID) -> Select[Wallet]:
    """An organization's wallets, newest first."""
    return (
        select(Wallet)
        .where(Wallet.organization_id == organization_id)
        .order_by(Wallet.created_at.desc(), Wallet.id)
        .options(*WALLET_PARTS)
    )


def search_wallets(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    currency: str | None = None,
    billing_entity_codes: Collection[str] | None = None,
) -> Select[Wallet]:
    """The wallets that pass all filters given."""
    query = wallets(organization_id)
    if external_customer_id is not None:
        query = query.where(
            Wallet.customer.has((Customer.external_id == external_customer_id) & Customer.deleted_at.is_(None))
        )
    if currency is not None:
        query = query.where(Wallet.currency == currency)
    if billing_entity_codes is not None:
        of_customer = select(Customer.billing_entity_id).where(Customer.id == Wallet.customer_id)
        issuer = func.coalesce(Wallet.billing_entity_id, of_customer.scalar_subquery())
        query = query.where(issuer.in_(ids_of(organization_id, billing_entity_codes)))
    return query


def find_wallet(db: Session, organization_id: UUID, wallet_id: UUID | None, *, lock: bool = False) -> Wallet:
    """One wallet. Whatever moves money locks the customer first, and so does this.

    Raises:
        NotFound: `wallet_not_found`.
    """
    return _found(db, wallets(organization_id).where(Wallet.id == wallet_id), lock=lock)


def find_wallet_of(db: Session, customer: Customer, code: str, *, lock: bool = False) -> Wallet:
    """A customer's wallet by its code: the active one, else the latest of those that have ended.

    Raises:
        NotFound: `wallet_not_found`.
    """
    query = wallets(customer.organization_id).where(Wallet.customer_id == customer.id, Wallet.code == code)
    ended = Wallet.status != "active"
    query = query.order_by(None).order_by(ended, Wallet.created_at.desc(), Wallet.id).limit(1)
    return _found(db, query, lock=lock)


def create_wallet(
    db: Session, organization: Organization, customer: Customer, sent: Changes, now: datetime, *, most: int
) -> Wallet:
    """Make a wallet, empty, for a customer that is locked; `most`: how many a customer may have that are active.

    Raises:
        Invalid: a field breaks a rule, or the customer has as many wallets as it may.
        NotFound: `billable_metrics_not_found`, `billing_entity_not_found`.
    """
    problems = Problems()
    active = db.scalars(select(Wallet.code).where(Wallet.customer_id == customer.id, Wallet.status == "active")).all()
    if len(active) >= most:
        problems.add("customer", "wallet_limit_reached")
    currency = sent.get("currency") or customer.currency
    check_mandatory(problems, {**sent, "currency": currency}, ("rate_amount", "currency"), creating=True)
    check_currency(problems, sent, "currency")
    rate = _rate(problems, sent)
    _check(problems, sent, now, taken=active)
    _check_limits(problems, *(sent.get(field) for field in _LIMITS))
    problems.check()
    customer.currency = customer.currency or currency
    wallet = Wallet(
        organization_id=organization.id,
        customer=customer,
        currency=currency,
        rate_amount=rate,
        metrics=[],
        fee_types=[],
        wallet_metadata={},
        created_at=now,
    )
    _write(db, wallet, sent, now)
    wallet.code = sent.get("code") or _free_code(sent.get("name"), active, now)
    db.add(wallet)
    db.flush()
    return db.scalars(
        wallets(organization.id).where(Wallet.id == wallet.id).execution_options(populate_existing=True)
    ).one()


def update_wallet(db: Session, wallet: Wallet, sent: Changes, now: datetime) -> None:
    """Change a wallet that is locked.

    Raises:
        Invalid: a field breaks a rule, or the wallet has ended.
        NotFound: `billable_metrics_not_found`, `billing_entity_not_found`.
    """
    check_active(wallet)
    problems = Problems()
    others = db.scalars(
        select(Wallet.code).where(
            Wallet.customer_id == wallet.customer_id, Wallet.status == "active", Wallet.id != wallet.id
        )
    ).all()
    _check(problems, sent, now, taken=others)
    if "code" in sent and empty(sent["code"]):
        problems.add("code", "value_is_mandatory")
    _check_limits(problems, *(sent[field] if field in sent else getattr(wallet, field) for field in _LIMITS))
    problems.check()
    _write(db, wallet, sent, now)
    db.flush()


def check_active(wallet: Wallet) -> None:
    """Raise the 422 for a wallet that has ended (billing spec 7.7)."""
    if wallet.status != "active":
        raise invalid("wallet_id", "wallet_is_terminated")


def terminate_wallet(db: Session, wallet: Wallet, now: datetime) -> None:
    """End a wallet, if it is active; what is left in it stays noted and can no longer be spent."""
    if wallet.status == "active":
        _end(db, [wallet.id], now)
        db.refresh(wallet)


def terminate_wallets(db: Session, customer_id: UUID, now: datetime) -> None:
    """End all wallets of a customer that is being deleted."""
    _end(db, _lock(db, select(Wallet.id).where(Wallet.customer_id == customer_id, Wallet.status == "active")), now)


def expire_wallets(
    db: Session, scope: ColumnElement[bool], until: datetime, now: datetime, *, wait: bool = False
) -> int:
    """End the wallets that have expired by `until`; returns their number. `scope` limits the organizations; without `wait`,
    wallets that something else moves money of just now are left out."""
    due = (
        select(Wallet.id)
        .join(Organization, Organization.id == Wallet.organization_id)
        .where(scope, Wallet.status == "active", Wallet.expiration_at <= until)
    )
    return _end(db, _lock(db, due, wait=wait), now)


def write_wallet_metadata(wallet: Wallet, sent: dict[str, str | None], now: datetime, *, replace: bool) -> None:
    """Set entries of a wallet's metadata; with `replace` those that were sent are all that there are.

    Raises:
        Invalid: `metadata` has a key or a value that is too long.
    """
    problems = Problems()
    check_metadata(problems, sent)
    problems.check()
    wallet.wallet_metadata = dict(sent) if replace else {**(wallet.wallet_metadata or {}), **sent}
    wallet.updated_at = now


def remove_wallet_metadata(wallet: Wallet, key: str, now: datetime) -> None:
    """Remove an entry of a wallet's metadata.

    Raises:
        NotFound: `metadata_not_found`.
    """
    entries = wallet.wallet_metadata or {}
    if key not in entries:
        raise NotFound("metadata")
    wallet.wallet_metadata = {known: value for known, value in entries.items() if known != key}
    wallet.updated_at = now


def _found(db: Session, query: Select[Wallet], *, lock: bool) -> Wallet:
    wallet = db.scalars(query).first()
    if wallet is None:
        raise NotFound("wallet")
    if lock:
        lock_customer(db, wallet.customer_id)
        db.scalars(
            select(Wallet)
            .where(Wallet.id == wallet.id)
            .options(*WALLET_PARTS)
            .with_for_update(of=Wallet)
            .execution_options(populate_existing=True)
        ).one()
    return wallet


def _lock(db: Session, query: Select[UUID], *, wait: bool = True) -> Sequence[UUID]:
    """Lock wallets in the order in which whatever locks many of them does."""
    return db.scalars(query.order_by(Wallet.id).with_for_update(of=Wallet, skip_locked=not wait)).all()


def _end(db: Session, wallet_ids: Collection[UUID], now: datetime) -> int:
    """End wallets that are locked, and their rules."""
    ended: dict[str, Any] = {"status": "terminated", "terminated_at": now, "updated_at": now}
    for table, column in ((RecurringTransactionRule, RecurringTransactionRule.wallet_id), (Wallet, Wallet.id)):
        if wallet_ids:
            db.execute(
                update(table).where(among(column, wallet_ids), table.status == "active").values(ended),
                execution_options={"synchronize_session": False},
            )
    if wallet_ids:
        balances_outdated(db, db.scalars(select(Wallet.customer_id).where(among(Wallet.id, wallet_ids))))
    return len(wallet_ids)


def _check(problems: Problems, sent: Changes, now: datetime, *, taken: Collection[str]) -> None:
    """Note what is wrong with the fields that a wallet is made with and that can be changed."""
    check_length(problems, sent, {"name": LONGEST_NAME, "purchase_order_number": LONGEST_NAME})
    check_code(problems, sent)
    if sent.get("code") in taken:
        problems.add("code", "value_already_exist")
    if sent.get("priority") is not None and not 1 <= sent["priority"] <= LOWEST_PRIORITY:
        problems.add("priority", "value_is_invalid")
    if sent.get("expiration_at") is not None and sent["expiration_at"] <= now:
        problems.add("expiration_at", "invalid_date")
    applies = sent.get("applies_to") or {}
    if not set(applies.get("fee_types") or ()) <= set(FEE_TYPES):
        problems.add("applies_to", "invalid_limitations")
    check_metadata(problems, sent.get("metadata") or {})


def _check_limits(problems: Problems, least: int | None, most: int | None) -> None:
    """Note what is wrong with what a top-up may come to at least and at most."""
    if least is not None and most is not None and most < least:
        problems.add("paid_top_up_max_amount_cents", "value_is_out_of_range")


def _rate(problems: Problems, sent: Changes) -> Decimal:
    """The price of one credit, sent as text or as a number."""
    value = sent.get("rate_amount")
    if empty(value):
        return ZERO
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, bool) or not _RATE(text):
        problems.add("rate_amount", "value_is_invalid")
        return ZERO
    rate = Decimal(text)
    if rate <= 0:
        problems.add("rate_amount", "value_is_out_of_range")
    elif decimal_places(rate.normalize()) > CREDIT_PLACES:
        problems.add("rate_amount", "value_is_invalid")
    return rate


def _write(db: Session, wallet: Wallet, sent: Changes, now: datetime) -> None:
    """Write the fields that a wallet is made with and that can be changed."""
    if "billing_entity_code" in sent:
        code = sent["billing_entity_code"]
        wallet.billing_entity = None if empty(code) else find_entity(db, wallet.organization_id, code)
    assign(wallet, sent, _FIELDS)
    if "priority" in sent:
        wallet.priority = sent["priority"] or DEFAULT_PRIORITY
    if "invoice_requires_successful_payment" in sent:
        wallet.invoice_requires_successful_payment = bool(sent["invoice_requires_successful_payment"])
    if "metadata" in sent:
        wallet.wallet_metadata = sent["metadata"] or {}
    if "applies_to" in sent:
        applies = sent["applies_to"] or {}
        if "fee_types" in applies:
            wallet.fee_types = list(dict.fromkeys(applies["fee_types"] or ()))
        if "billable_metric_codes" in applies:
            wallet.metrics = _metrics(db, wallet.organization_id, applies["billable_metric_codes"] or ())
    wallet.ready_to_be_refreshed = True
    wallet.updated_at = now


def _metrics(db: Session, organization_id: UUID, codes: Collection[str]) -> list[BillableMetric]:
    """The metrics with these codes.

    Raises:
        NotFound: `billable_metrics_not_found`.
    """
    found = db.scalars(
        select(BillableMetric).where(
            BillableMetric.organization_id == organization_id,
            BillableMetric.code.in_(codes),
            BillableMetric.deleted_at.is_(None),
        )
    ).all()
    if len(found) < len(set(codes)):
        raise NotFound("billable_metrics")
    return list(found)


def _free_code(name: str | None, taken: Collection[str], now: datetime) -> str:
    """The code of a wallet that was given none: its name, made fit for a path (billing spec 7.1)."""
    plain = unicodedata.normalize("NFKD", name or "").encode("ascii", "ignore").decode().lower()
    code = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:200] or "default"
    if code not in taken:
        return code
    dated = f"{code}_{int(now.timestamp())}"
    return next(one for one in [dated, *(f"{dated}_{n}" for n in range(2, len(taken) + 3))] if one not in taken)
