"""Wallets kept up by themselves: their ongoing balances after events and whatever else moves these, and the rules that top
them up on a day (billing spec 7.5, 7.6)."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, any_, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Text

from app.billing.ongoing_balances import refresh_balances
from app.billing.remembered import PriceBook
from app.billing.rule_top_ups import due_rules, expire_rules, top_up_on_their_day
from app.errors import ApiError
from app.metering.arrivals import busy_subscriptions, last_arrival
from app.metering.meter import Meter
from app.models import Organization, Subscription, Wallet, WalletMark, balances_outdated
from app.stores.clickhouse import ClickHouse
from app.stores.postgres import Postgres

RECENT = timedelta(minutes=1)
"""How far before its mark an organization's events are looked at again where other processes write: one may be seen later
than others that were ingested after it."""
_START = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


class WalletUpkeep:
    """Computes the ongoing balances anew of customers whose usage, invoices or wallets have changed, many at a time."""

    def __init__(self, postgres: Postgres, clickhouse: ClickHouse, meter: Meter, book: PriceBook, chunk: int):
        self._postgres = postgres
        self._clickhouse = clickhouse
        self._meter = meter
        self._book = book
        self._chunk = chunk

    def run(self, scope: ColumnElement[bool], now: datetime) -> None:
        """Bring the wallets of some organizations up to date, and top up those that have come to their threshold. What
        fails is tried again with the next run."""
        with self._postgres.session() as db:
            has_wallets = exists().where(Wallet.organization_id == Organization.id, Wallet.status == "active")
            organizations = db.scalars(select(Organization.id).where(scope, has_wallets)).all()
        for organization_id in organizations:
            self._after_events(organization_id, now)
            self._after_changes(organization_id, now)

    def run_rules(self, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
        """End the rules that have expired by an instant, and top up where it is the day to. What fails is tried again with
        the next run."""
        with self._postgres.session() as db:
            expire_rules(db, scope, instant, made_at)
        size, tried = self._chunk, set[UUID]()
        while True:
            with self._postgres.session() as db:
                due = due_rules(db, scope, instant, tried, size)
            if not due:
                return
            customers = {rule: customer for rules in due.values() for rule, customer in rules.items()}
            try:
                for organization_id, rules in due.items():
                    self._top_up(organization_id, rules, instant, made_at)
            except ApiError:
                raise
            except Exception as error:
                if size > 1:
                    size = 1
                    continue
                log.error("rules.failed", customers=[str(one) for one in customers.values()], exc_info=error)
            tried.update(customers)

    def _top_up(
        self, organization_id: UUID, customers: Mapping[UUID, UUID], instant: datetime, made_at: datetime
    ) -> None:
        """Top up by rules that are due, given the customer of each."""
        with self._postgres.session() as db:
            organization = db.get_one(Organization, organization_id)
            refresh_balances(db, self._meter, self._book, organization, set(customers.values()), made_at)
            top_up_on_their_day(db, list(customers), instant, made_at)

    def _after_events(self, organization_id: UUID, now: datetime) -> None:
        """Look at the events that have come. The mark moves when all that they touch is done, so that none is lost; the
        same events may be looked at twice."""
        with self._postgres.session() as db:
            seen_until = db.scalar(select(WalletMark.seen_until).where(WalletMark.organization_id == organization_id))
        known = _START if seen_until is None else seen_until
        after = known if self._clickhouse.embedded else max(known - RECENT, _START)
        until = last_arrival(self._clickhouse, organization_id, after)
        if seen_until is not None:
            if until is None:
                return
            busy = busy_subscriptions(self._clickhouse, organization_id, after, until)
            self._refresh(organization_id, self._owners(organization_id, busy), now)
        # Before its first mark an organization's wallets are new, and looked at for that.
        mark = insert(WalletMark).values(organization_id=organization_id, seen_until=until or _START)
        later = func.greatest(WalletMark.seen_until, mark.excluded.seen_until)
        with self._postgres.session() as db:
            db.execute(
                mark.on_conflict_do_update(index_elements=[WalletMark.organization_id], set_={"seen_until": later})
            )

    def _after_changes(self, organization_id: UUID, now: datetime) -> None:
        """Look at the wallets that are marked."""
        with self._postgres.session() as db:
            changed = db.scalars(
                select(Wallet.customer_id)
                .distinct()
                .where(
                    Wallet.organization_id == organization_id,
                    Wallet.status == "active",
                    Wallet.ready_to_be_refreshed,
                )
            ).all()
        self._refresh(organization_id, changed, now)

    def _owners(self, organization_id: UUID, external_ids: Collection[str]) -> Collection[UUID]:
        """The customers with wallets that have subscriptions with these external ids."""
        with self._postgres.session() as db:
            return db.scalars(
                select(Subscription.customer_id)
                .distinct()
                .where(
                    Subscription.organization_id == organization_id,
                    Subscription.external_id == any_(literal(list(external_ids), ARRAY(Text))),
                    Subscription.status == "active",
                    exists().where(Wallet.customer_id == Subscription.customer_id, Wallet.status == "active"),
                )
            ).all()

    def _refresh(self, organization_id: UUID, customers: Collection[UUID], now: datetime) -> None:
        """Compute anew in chunks, each a transaction of its own. A chunk that fails is tried again customer by customer, so
        that one cannot hold up the rest."""
        for chunk in _chunks(sorted(customers), self._chunk):
            try:
                self._refresh_chunk(organization_id, chunk, now)
            except ApiError:
                raise
            except Exception as error:
                if len(chunk) == 1:
                    log.error("wallets.failed", customer_id=str(chunk[0]), exc_info=error)
                    with self._postgres.session() as db:
                        balances_outdated(db, chunk)
                    continue
                for one in chunk:
                    self._refresh(organization_id, [one], now)

    def _refresh_chunk(self, organization_id: UUID, customers: Collection[UUID], now: datetime) -> None:
        with self._postgres.session() as db:
            organization = db.get_one(Organization, organization_id)
            refresh_balances(db, self._meter, self._book, organization, customers, now)


def _chunks(values: list[UUID], size: int) -> Iterator[list[UUID]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
