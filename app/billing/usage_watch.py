"""Looking at usage as it comes, and at what is left in wallets: at the alerts on them, and at the thresholds at which usage
is billed before its period ends (billing spec 8.2, 8.5, 12).

An organization that has any has a mark: until when its events, by the time they were ingested, have been looked at. A look
finds the subscriptions that have had events since, and those whose thresholds have changed; measures those that have alerts
or thresholds, many at a time; and moves the mark when all of them are done. What breaks off is looked at again, which does
no harm: an alert remembers what it has found, and the same usage is billed once. Organizations are looked at every few
seconds; those on a test clock also before anybody reads or changes something there, so that what comes of events is told
in the order of the simulated time.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.billing.charge_usage import charge_usage
from app.billing.lifetime_usage import UNDIVIDED
from app.billing.paid_levels import paid_levels
from app.billing.progressive_billing import (
    active_subscriptions,
    bill_progressively,
    current_items,
    thresholds_in_force,
    used_so_far,
)
from app.billing.remembered import PriceBook
from app.billing.usage_alerts import alerts_of, hold_against
from app.billing.wallet_alerts import hold_wallets_against, organizations_with_changed_wallets
from app.catalog.usage_thresholds import ask_to_look
from app.clock import now_of
from app.core.usage_thresholds import passed
from app.errors import ApiError
from app.metering.arrivals import busy_since, busy_subscriptions, last_arrival
from app.metering.ingest import Ingest
from app.metering.meter import Meter
from app.models import Alert, Organization, Plan, Subscription, UsageCheck, UsageMark, UsageThreshold, among
from app.stores.clickhouse import ClickHouse
from app.stores.postgres import Postgres

CHUNK = 500
"""How many subscriptions are looked at in one transaction."""
RECENT = timedelta(minutes=1)
"""How far before the mark is looked where several processes write: an event may be seen later than others that were
ingested after it."""
LATE = timedelta(minutes=15)
"""The same, once in as long a time: longer than it takes until what a process that died left half-written is put right."""
NO_TIME = timedelta(0)
REMEMBER_SECONDS = 5.0
"""How long an organization may have had its first threshold or alert, by another process, before that is known."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class UsageWatch:
    """Looks at usage. May be asked from any thread that has locked nothing in PostgreSQL."""

    def __init__(
        self,
        postgres: Postgres,
        clickhouse: ClickHouse,
        meter: Meter,
        billing_meter: Meter,
        book: PriceBook,
        readable: Callable[[UUID], None],
    ):
        """`readable` waits until an organization's acknowledged events can be read."""
        self._postgres = postgres
        self._clickhouse = clickhouse
        self._meter = meter
        self._billing_meter = billing_meter
        self._book = book
        self._readable = readable
        self._looking: dict[UUID, threading.Lock] = defaultdict(threading.Lock)
        self._changes = 0
        self._sandboxes: tuple[int, float, frozenset[UUID]] = -1, 0.0, frozenset()
        self._late_at = 0.0

    def start(self, ingest: Ingest | None) -> None:
        """Let everything that comes from now on come after what has been looked at."""
        with self._postgres.session() as db:
            last = db.scalar(select(func.max(UsageMark.looked_until)))
        if ingest is not None and last is not None:
            ingest.stamp_after(last)

    def begins(self) -> None:
        """An organization has a threshold or an alert, and that is committed."""
        self._changes += 1

    def wait(self, organization_id: UUID) -> None:
        """On a test clock, look at what has come so far before going on.

        Raises:
            StoreDown: a store does not answer.
        """
        if organization_id in self._watched_sandboxes():
            self._readable(organization_id)
            self.look(organization_id)

    def run(self) -> int:
        """Look at every organization that something has come for; returns how many these were."""
        back = NO_TIME if self._clickhouse.embedded else RECENT
        if not self._clickhouse.embedded and self._late_at <= time.monotonic():
            self._late_at, back = time.monotonic() + LATE.total_seconds(), LATE
        with self._postgres.session() as db:
            marks = db.execute(select(UsageMark.organization_id, UsageMark.looked_until)).all()
            asked = set(db.scalars(select(UsageCheck.organization_id).distinct()))
            asked |= set(db.scalars(organizations_with_changed_wallets()))
        busy = {*busy_since(self._clickhouse, [(one, until - back) for one, until in marks]), *asked}
        for organization_id in busy:
            try:
                self._readable(organization_id)
                self.look(organization_id, back)
            except ApiError:
                raise
            except Exception as error:
                log.error("usage_watch.failed", organization_id=str(organization_id), exc_info=error)
        return len(busy)

    def look(self, organization_id: UUID, back: timedelta = NO_TIME) -> None:
        """Look at the usage that has come since the last look at an organization, or a while before that."""
        with self._looking[organization_id]:
            with self._postgres.session() as db:
                organization = db.get_one(Organization, organization_id)
                mark = db.get(UsageMark, organization_id)
                if mark is None:
                    return
                after, now = mark.looked_until - back, now_of(organization)
                until = last_arrival(self._clickhouse, organization_id, after)
                came = busy_subscriptions(self._clickhouse, organization_id, after, until) if until else []
                asked = _asked(db, organization_id)
                ids = _watched(db, organization_id, came, [one for one, _ in asked])
            failed = [one for chunk in _chunks(ids) for one in self._look_at(organization_id, chunk, now)]
            with self._postgres.session() as db:
                _move_on(db, organization_id, until, asked)
                hold_wallets_against(db, organization_id, now)
                if failed:
                    ask_to_look(db, organization_id, among(Subscription.id, failed))

    def _look_at(self, organization_id: UUID, ids: Sequence[UUID], now: datetime) -> list[UUID]:
        """Look at some subscriptions; where that fails, at one after the other, so that one cannot hold up the rest.
        Returns those that could not be looked at."""
        try:
            self._look_together(organization_id, ids, now)
        except ApiError:
            raise
        except Exception as error:
            if len(ids) > 1:
                return [failed for one in ids for failed in self._look_at(organization_id, [one], now)]
            log.error("usage_watch.failed", subscription_id=str(ids[0]), exc_info=error)
            return list(ids)
        return []

    def _look_together(self, organization_id: UUID, ids: Sequence[UUID], now: datetime) -> None:
        passing = None
        while passing is None:
            with self._postgres.session() as db:
                passing = self._hold(db, db.get_one(Organization, organization_id), ids, now)
        if passing:
            with self._postgres.session() as db:
                organization = db.get_one(Organization, organization_id)
                bill_progressively(db, self._billing_meter, self._book, organization, passing, now)

    def _hold(self, db: Session, organization: Organization, ids: Sequence[UUID], now: datetime) -> list[UUID] | None:
        """Hold usage against alerts; gives the subscriptions that have passed thresholds, None where it must be measured
        anew."""
        subscriptions = active_subscriptions(db, ids)
        alerts = alerts_of(db, subscriptions)
        plans = {one.plan_id: self._book.plan(db, organization, one.plan_id) for one in subscriptions}
        items = current_items(subscriptions, plans, now)
        usage = charge_usage(self._meter, items, UNDIVIDED, paid_levels(db, items))
        used = used_so_far(db, subscriptions, items, usage)
        if hold_against(db, self._meter, alerts, items, usage, used, now) is None:
            return None
        thresholds = thresholds_in_force(db, subscriptions)
        return [one for one, found in thresholds.items() if passed(found, used[one])]

    def _watched_sandboxes(self) -> frozenset[UUID]:
        changes = self._changes
        known_changes, known_until, known = self._sandboxes
        if known_changes == changes and (self._clickhouse.embedded or time.monotonic() < known_until):
            return known
        marked = select(UsageMark.organization_id).join(Organization, Organization.id == UsageMark.organization_id)
        with self._postgres.session() as db:
            known = frozenset(db.scalars(marked.where(Organization.sandbox)))
        self._sandboxes = changes, time.monotonic() + REMEMBER_SECONDS, known
        return known


def _asked(db: Session, organization_id: UUID) -> list[tuple[UUID, datetime]]:
    """The subscriptions that are to be looked at though no event came, and since when."""
    query = select(UsageCheck.subscription_id, UsageCheck.asked_at).where(UsageCheck.organization_id == organization_id)
    return list(db.execute(query))


def _watched(db: Session, organization_id: UUID, external_ids: Sequence[str], ids: Sequence[UUID]) -> list[UUID]:
    """The active ones of some subscriptions that have alerts or thresholds."""
    if not external_ids and not ids:
        return []
    has_alerts = exists().where(
        Alert.organization_id == Subscription.organization_id,
        Alert.customer_id == Subscription.customer_id,
        Alert.external_subscription_id == Subscription.external_id,
        Alert.deleted_at.is_(None),
    )
    has_thresholds = exists().where(
        UsageThreshold.deleted_at.is_(None),
        or_(
            UsageThreshold.subscription_id == Subscription.id,
            UsageThreshold.plan_id == Subscription.plan_id,
            UsageThreshold.plan_id.in_(select(Plan.parent_id).where(Plan.id == Subscription.plan_id)),
        ),
    )
    return list(
        db.scalars(
            select(Subscription.id)
            .where(
                Subscription.organization_id == organization_id,
                Subscription.status == "active",
                or_(Subscription.external_id == func.any(list(external_ids)), among(Subscription.id, ids)),
                or_(has_alerts, ~Subscription.progressive_billing_disabled & has_thresholds),
            )
            .order_by(Subscription.id)
        )
    )


def _move_on(
    db: Session, organization_id: UUID, until: datetime | None, asked: Sequence[tuple[UUID, datetime]]
) -> None:
    """Note what has been looked at; what was asked for meanwhile stays."""
    if until is not None:
        db.execute(
            update(UsageMark)
            .where(UsageMark.organization_id == organization_id)
            .values(looked_until=func.greatest(UsageMark.looked_until, until))
        )
    for chunk in _chunks(asked):
        db.execute(delete(UsageCheck).where(tuple_(UsageCheck.subscription_id, UsageCheck.asked_at).in_(chunk)))


def _chunks(all_of: Sequence[T]) -> Iterator[Sequence[T]]:
    return (all_of[start : start + CHUNK] for start in range(0, len(all_of), CHUNK))
