"""Everything that comes due by itself, run in the order of time (billing spec 2.1, 12; design: time).

The scheduler runs it for all organizations on the system's time, the test clock for one sandbox on its own. A boundary
that was missed is billed at its own date, however late the run is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.billing.close import claim, close_chunk, lock_customer, lock_customers
from app.billing.wallet_upkeep import WalletUpkeep
from app.billing.wallets import expire_wallets
from app.catalog.plans import finish_deletions, of_plans_to_delete
from app.customers.subscriptions import SUBSCRIPTION_PARTS, activate, end_subscriptions, end_trial
from app.errors import ApiError
from app.metering.meter import Meter
from app.models import Customer, Organization, Plan, RecurringTransactionRule, Subscription, Wallet
from app.stores.postgres import Postgres

log = structlog.get_logger(__name__)

LIVE = Organization.sandbox.is_(False)
"""The organizations on the system's time."""
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be done for a customer, and why. It stays due, and the next run tries it again."""

    customer_id: UUID
    subscription_id: UUID | None
    due_at: datetime
    reason: str

    @staticmethod
    def of(error: Exception, customer_id: UUID, subscription_id: UUID | None, due_at: datetime) -> "Failure":
        """A failure whose reason is an error's first line."""
        reason = (str(error).splitlines() or [""])[0][:LONGEST_REASON]
        return Failure(customer_id, subscription_id, due_at, f"{type(error).__name__}: {reason}")


@dataclass(slots=True)
class Run:
    """What a run has done so far. `told` is called whenever there is more."""

    activated: int = 0
    terminated: int = 0
    customers: int = 0
    invoices: int = 0
    failures: list[Failure] = field(default_factory=list)
    told: Callable[["Run"], None] = lambda _: None

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.activated or self.terminated or self.customers or self.failures)

    @property
    def failed_customers(self) -> set[UUID]:
        """Customers whose periods this run could not close: it leaves their later boundaries, too."""
        return {one.customer_id for one in self.failures if one.subscription_id is None}

    @property
    def failed_subscriptions(self) -> set[UUID]:
        """Subscriptions that this run could not begin or end."""
        return {one.subscription_id for one in self.failures if one.subscription_id is not None}

    def failed(self, due_at: datetime, error: Exception, customer_id: UUID, subscription_id: UUID | None) -> None:
        """Note what could not be done."""
        self.failures.append(Failure.of(error, customer_id, subscription_id, due_at))
        log.error(
            "due.failed",
            customer_id=str(customer_id),
            subscription_id=subscription_id and str(subscription_id),
            due_at=str(due_at),
            exc_info=error,
        )


class DueRunner:
    """Runs what is due. `meter` gives the usage of windows that are about to be billed."""

    def __init__(self, postgres: Postgres, meter: Meter, wallets: WalletUpkeep, chunk: int, delay: timedelta):
        self._postgres = postgres
        self._meter = meter
        self._wallets = wallets
        self._chunk = chunk
        self._delay = delay

    def run_live(self, now: datetime) -> Run:
        """Run what is due for every organization on the system's time. Periods are closed after a delay, so that events
        which arrive a little late are billed with the period they belong to."""
        return self._run_until(Run(), now, now, self._delay)

    def run_until(self, run: Run, until: datetime, now: datetime) -> Run:
        """Run what was due at an instant, without waiting for late events."""
        return self._run_until(run, until, now, timedelta(0))

    def _run_until(self, run: Run, until: datetime, now: datetime, delay: timedelta) -> Run:
        for instant in self._instants(LIVE, until, delay):
            self._run_at(run, LIVE, instant, made_at=now)
        return run

    def run_sandbox(self, organization_id: UUID, since: datetime | None, until: datetime) -> Iterator[datetime]:
        """Run what comes due for one sandbox until an instant, step by step; yields each instant before it is run, so
        that the caller can set the clock to it. Wallets are brought up to date at each of them, at `until`, and at `since`,
        when the clock was set last: for the events that have come in between."""
        scope = Organization.id == organization_id
        if since is not None:
            self._wallets.run(scope, since)
        for instant in self._instants(scope, until, timedelta(0)):
            yield instant
            self._run_at(Run(), scope, instant, made_at=instant, wait=True)
            self._wallets.run(scope, instant)
        self._wallets.run(scope, until)

    def _instants(self, scope: ColumnElement[bool], until: datetime, delay: timedelta) -> Iterator[datetime]:
        """The instants at which something is due, until there are none; each is looked up after the one before is done."""
        instant: datetime | None = None
        while True:
            with self._postgres.session() as db:
                instant = _earliest(db, scope, until, delay, after=instant)
            if instant is None:
                return
            yield instant

    def _run_at(
        self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime, *, wait: bool = False
    ) -> None:
        """End the wallets that expire, which pay for nothing more; end what is on a plan that is to be deleted, start what
        starts, close what can be closed, end the trials and subscriptions that end, and top up the
        wallets whose day it is. `wait` for customers that something
        else bills just now; otherwise they are left to the next run."""
        starts, ends = Subscription.activation_due_at, Subscription.termination_due_at
        with self._postgres.session() as db:
            expire_wallets(db, scope, instant, made_at, wait=wait)
        self._delete_plans(run, scope, instant, made_at)
        run.activated += self._one_by_one(run, scope, starts, instant, made_at, self._activate, wait=wait)
        self._close(run, scope, instant, made_at, wait=wait)
        self._one_by_one(run, scope, Subscription.trial_due_at, instant, made_at, self._end_trial, wait=wait)
        run.terminated += self._one_by_one(run, scope, ends, instant, made_at, self._terminate, wait=wait)
        self._wallets.run_rules(scope, instant, made_at)
        run.told(run)

    def _delete_plans(self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
        """End the subscriptions of plans that are to be deleted, in chunks as periods are closed; a plan goes when the last
        one has ended."""
        size, failed = self._chunk, run.failed_subscriptions
        while True:
            with self._postgres.session() as db:
                open_ = db.execute(
                    select(Subscription.id, Subscription.customer_id)
                    .join(Organization, Organization.id == Subscription.organization_id)
                    .where(scope, of_plans_to_delete(instant), Subscription.id.not_in(failed))
                    .order_by(Subscription.id)
                    .limit(size)
                ).all()
                if not open_:
                    finish_deletions(db, scope, instant, made_at)
                    return
                lock_customers(db, {one.customer_id for one in open_})
                found = db.scalars(
                    select(Subscription)
                    .where(Subscription.id.in_([one.id for one in open_]), of_plans_to_delete(instant))
                    .order_by(Subscription.id)
                    .options(*SUBSCRIPTION_PARTS)
                    .with_for_update(of=Subscription, key_share=True)
                ).all()
                if not found:
                    continue
                try:
                    with db.begin_nested():
                        end_subscriptions(db, found, instant, made_at, self._meter)
                except ApiError:
                    raise
                except Exception as error:  # noqa: BLE001 (one customer must not hold up the rest)
                    if size > 1:
                        size = 1
                        continue
                    run.failed(instant, error, found[0].customer_id, found[0].id)
                    failed.add(found[0].id)
                else:
                    run.terminated += len(found)
            run.told(run)

    def _close(self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime, *, wait: bool) -> None:
        """Close in chunks. A chunk that fails is tried again customer by customer, so that one cannot hold up the rest."""
        size, failed = self._chunk, run.failed_customers
        while True:
            within = scope & Customer.id.not_in(failed) if failed else scope
            try:
                with self._postgres.session() as db:
                    closed = close_chunk(db, within, instant, made_at, size, self._meter, wait=wait)
            except ApiError:
                raise
            except Exception as error:  # noqa: BLE001 (one customer must not hold up the rest)
                if size > 1:
                    size = 1
                    continue
                with self._postgres.session() as db:
                    customers = claim(db, within, instant, 1)
                for customer_id in customers:
                    run.failed(instant, error, customer_id, None)
                failed.update(customers)
                if not customers:
                    return
            else:
                if not closed.customers:
                    return
                run.customers += len(closed.customers)
                run.invoices += len(closed.invoices)
            run.told(run)

    def _one_by_one(
        self,
        run: Run,
        scope: ColumnElement[bool],
        due_at: InstrumentedAttribute[datetime | None],
        instant: datetime,
        made_at: datetime,
        action: Callable[[Session, Subscription, datetime, datetime], None],
        *,
        wait: bool,
    ) -> int:
        """Do something to each subscription that is due, each in a transaction of its own; one that fails is left out."""
        done, failed = 0, run.failed_subscriptions
        while True:
            with self._postgres.session() as db:
                due = db.execute(
                    select(Subscription.id, Subscription.customer_id)
                    .join(Organization, Organization.id == Subscription.organization_id)
                    .where(scope, due_at <= instant, Subscription.id.not_in(failed))
                    .order_by(due_at, Subscription.id)
                    .limit(1)
                ).first()
                if due is None:
                    return done
                failed.add(due.id)
                if not lock_customer(db, due.customer_id, wait=wait):
                    continue
                subscription = db.scalars(
                    select(Subscription)
                    .where(Subscription.id == due.id, due_at <= instant)
                    .options(*SUBSCRIPTION_PARTS)
                    .with_for_update(of=Subscription, key_share=True)
                ).first()
                if subscription is None:
                    continue
                try:
                    with db.begin_nested():
                        action(db, subscription, instant, made_at)
                except ApiError:
                    raise
                except Exception as error:  # noqa: BLE001 (one customer must not hold up the rest)
                    run.failed(instant, error, subscription.customer_id, subscription.id)
                else:
                    done += 1

    def _activate(self, db: Session, subscription: Subscription, instant: datetime, made_at: datetime) -> None:
        activate(db, subscription, instant, made_at, self._meter)

    def _end_trial(self, db: Session, subscription: Subscription, instant: datetime, made_at: datetime) -> None:
        end_trial(db, subscription, instant, made_at, self._meter)

    def _terminate(self, db: Session, subscription: Subscription, instant: datetime, made_at: datetime) -> None:
        end_subscriptions(db, [subscription], instant, made_at, self._meter)


def _earliest(
    db: Session, scope: ColumnElement[bool], until: datetime, delay: timedelta, after: datetime | None
) -> datetime | None:
    """The first instant at which something is due, looking no further than `until`; only later ones than `after`, so that
    what has failed does not hold up what comes next."""
    candidates = []
    for column, limit, condition in (
        (Subscription.activation_due_at, until, true()),
        (Subscription.next_billing_at, until - delay, true()),
        (Subscription.trial_due_at, until, true()),
        (Subscription.termination_due_at, until, true()),
        (Plan.deletion_due_at, until, Plan.deleted_at.is_(None)),
        (Wallet.expiration_at, until, Wallet.status == "active"),
        (RecurringTransactionRule.due_at, until, RecurringTransactionRule.status == "active"),
        (RecurringTransactionRule.expiration_at, until, RecurringTransactionRule.status == "active"),
    ):
        due = select(func.min(column)).join(Organization, Organization.id == column.class_.organization_id)
        due = due.where(scope, column <= limit, condition)
        candidates.append(db.scalar(due if after is None else due.where(column > after)))
    return min((one for one in candidates if one is not None), default=None)
