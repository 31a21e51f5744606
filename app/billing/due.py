"""Everything that comes due by itself, run in the order of time (billing spec 2.1, 12; design: time).

The scheduler runs it for all organizations on the system's time, the test clock for one sandbox on its own. A boundary
that was missed is billed at its own date, however late the run is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, select, true, union_all, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.billing.claims import claim
from app.billing.close import Closed, close_all, close_chunk
from app.billing.failures import reason_of
from app.billing.late_drafts import LateDrafts
from app.billing.locks import lock_customer, lock_customers
from app.billing.redrawing import of_subscriptions, redraw_chunk
from app.billing.wallet_upkeep import WalletUpkeep
from app.billing.wallets import expire_wallets
from app.catalog.coupons import expire_coupons, expiring
from app.catalog.plans import finish_deletions, has_plans_to_delete, of_plans_to_delete, was_on_plans_to_delete
from app.customers.gated_starts import give_up
from app.customers.subscriptions import SUBSCRIPTION_PARTS, activate, end_trial
from app.customers.terminations import end_subscriptions
from app.errors import ApiError
from app.metering.meter import Meter
from app.models import (
    Coupon,
    Customer,
    Invoice,
    Organization,
    Plan,
    RecurringTransactionRule,
    Subscription,
    Wallet,
)
from app.models.invoice import FAILED, UNPAID
from app.stores.postgres import Postgres

log = structlog.get_logger(__name__)

STALE = Invoice.ready_to_be_refreshed.is_(True)
LIVE = Organization.sandbox.is_(False)
"""The organizations on the system's time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be done for a customer, and why. It stays due, and the next run tries it again; an invoice that has
    been stored as failed somebody has to retry."""

    customer_id: UUID
    subscription_id: UUID | None
    due_at: datetime
    reason: str
    invoice_id: UUID | None = None

    @staticmethod
    def of(error: Exception, customer_id: UUID, subscription_id: UUID | None, due_at: datetime) -> "Failure":
        """A failure whose reason is an error's first line."""
        return Failure(customer_id, subscription_id, due_at, reason_of(error))

    @staticmethod
    def of_invoice(invoice: Invoice, due_at: datetime) -> "Failure":
        """That of an invoice that is stored as failed."""
        details = (invoice.error_details or {}).get("details", {})
        return Failure(invoice.customer_id, None, due_at, details.get("reason", ""), invoice.id)


class Stopped(Exception):
    """The process is about to end."""


@dataclass(slots=True)
class Run:
    """What a run has done so far. `told` is called whenever there is more; it may raise `Stopped`."""

    activated: int = 0
    terminated: int = 0
    customers: int = 0
    invoices: int = 0
    finalized: int = 0
    refreshed: int = 0
    failures: list[Failure] = field(default_factory=list)
    told: Callable[["Run"], None] = lambda _: None

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.activated or self.terminated or self.customers or self.finalized or self.failures)

    @property
    def failed_customers(self) -> set[UUID]:
        """Customers whose periods this run could not close: it leaves their later boundaries, too."""
        return {one.customer_id for one in self.failures if one.subscription_id is None and one.invoice_id is None}

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

    def __init__(
        self,
        postgres: Postgres,
        meter: Meter,
        wallets: WalletUpkeep,
        late: LateDrafts,
        chunk: int,
        delay: timedelta,
    ):
        self._postgres = postgres
        self._meter = meter
        self._wallets = wallets
        self._late = late
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
        self._late.flag(LIVE)
        run.refreshed += self._redraw(LIVE, STALE, now, now, final=False)
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
        self._late.flag(scope)
        self._redraw(scope, STALE, until, until, final=False, wait=True)
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
        """Expire coupons and wallets, end what is on a plan that is to be deleted, start what starts, close what can be
        closed, end trials, subscriptions that end and starts that have waited too long, make drafts final, see which
        invoices are overdue, and top up the wallets whose day it is.
        `wait` for customers that something else bills just now; otherwise they are left to the next run."""
        starts, ends = Subscription.activation_due_at, Subscription.termination_due_at
        with self._postgres.session() as db:
            expire_coupons(db, scope, instant, made_at)
        with self._postgres.session() as db:
            expire_wallets(db, scope, instant, made_at, wait=wait)
        self._delete_plans(run, scope, instant, made_at)
        run.activated += self._one_by_one(run, scope, starts, instant, made_at, self._activate, wait=wait)
        self._close(run, scope, instant, made_at, wait=wait)
        self._one_by_one(run, scope, Subscription.trial_due_at, instant, made_at, self._end_trial, wait=wait)
        gates = Subscription.gate_expires_at
        self._one_by_one(run, scope, gates, instant, made_at, self._give_up, wait=wait)
        run.terminated += self._one_by_one(run, scope, ends, instant, made_at, self._terminate, wait=wait)
        due = Invoice.finalization_due_at <= instant
        run.finalized += self._redraw(scope, due, instant, made_at, final=True, wait=wait)
        self._mark_overdue(scope, instant, made_at)
        self._tell_failed(run, scope, instant, made_at)
        self._wallets.run_rules(scope, instant, made_at)
        run.told(run)

    def _delete_plans(self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
        """End the subscriptions of plans that are to be deleted, in chunks as periods are closed, and make their drafts
        final; a plan goes when the last one has ended."""
        with self._postgres.session() as db:
            if not has_plans_to_delete(db, scope, instant):
                return
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
                    break
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
        of_plans = of_subscriptions(was_on_plans_to_delete(instant))
        run.finalized += self._redraw(scope, of_plans, instant, made_at, final=True, wait=True)
        with self._postgres.session() as db:
            finish_deletions(db, scope, instant, made_at)

    def _close(self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime, *, wait: bool) -> None:
        """Close in chunks. A chunk that fails is tried again customer by customer, so that one cannot hold up the rest."""

        def told(closed: Closed) -> None:
            run.customers += len(closed.customers)
            run.invoices += len(closed.invoices)
            run.told(run)

        size, failed = self._chunk, run.failed_customers
        if not wait and not failed:
            try:
                close_all(self._postgres, scope, instant, made_at, size, self._meter, told)
            except (ApiError, Stopped):
                raise
            except Exception as error:
                log.warning("close.failed", due_at=str(instant), exc_info=error)
        while True:
            within = scope & Customer.id.not_in(failed) if failed else scope
            try:
                with self._postgres.session() as db:
                    in_order = size == 1  # to tell who failed
                    closed = close_chunk(db, within, instant, made_at, size, self._meter, wait=wait, in_order=in_order)
            except ApiError:
                raise
            except Exception as error:  # noqa: BLE001 (one customer must not hold up the rest)
                if size > 1:
                    size = 1
                    continue
                with self._postgres.session() as db:
                    customers = claim(db, within, instant, 1, in_order=True)
                for customer_id in customers:
                    run.failed(instant, error, customer_id, None)
                failed.update(customers)
                size = self._chunk
                if not customers:
                    return
            else:
                if not closed.customers:
                    return
                told(closed)

    def _redraw(
        self,
        scope: ColumnElement[bool],
        which: ColumnElement[bool],
        instant: datetime,
        made_at: datetime,
        *,
        final: bool,
        wait: bool = False,
    ) -> int:
        """Make drafts anew in chunks, and `final`."""
        done = 0
        while True:
            with self._postgres.session() as db:
                count = redraw_chunk(
                    db, scope, which, instant, made_at, self._chunk, self._meter, final=final, wait=wait
                )
            if not count:
                return done
            done += count

    def _tell_failed(self, run: Run, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
        """Tell of the invoices that the run has stored as failed."""
        told = {one.invoice_id for one in run.failures}
        with self._postgres.session() as db:
            invoices = select(Invoice).join(Organization, Organization.id == Invoice.organization_id)
            for one in db.scalars(invoices.where(scope, FAILED, Invoice.updated_at == made_at).order_by(Invoice.id)):
                if one.id not in told:
                    run.failures.append(Failure.of_invoice(one, instant))

    def _mark_overdue(self, scope: ColumnElement[bool], instant: datetime, made_at: datetime) -> None:
        """Mark what was to be paid before the day of an instant, in UTC (billing spec 3.6)."""
        with self._postgres.session() as db:
            db.execute(
                update(Invoice)
                .where(
                    Invoice.organization_id.in_(select(Organization.id).where(scope)),
                    Invoice.payment_due_date < instant.astimezone(UTC).date(),
                    UNPAID,
                )
                .values(payment_overdue=True, updated_at=made_at),
                execution_options={"synchronize_session": False},
            )

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

    def _give_up(self, db: Session, subscription: Subscription, _: datetime, made_at: datetime) -> None:
        give_up(db, subscription, "timeout", made_at, self._meter)

    def _end_trial(self, db: Session, subscription: Subscription, instant: datetime, made_at: datetime) -> None:
        end_trial(db, subscription, instant, made_at, self._meter)

    def _terminate(self, db: Session, subscription: Subscription, instant: datetime, made_at: datetime) -> None:
        end_subscriptions(db, [subscription], instant, made_at, self._meter)


def _earliest(
    db: Session, scope: ColumnElement[bool], until: datetime, delay: timedelta, after: datetime | None
) -> datetime | None:
    """The first instant at which something is due, looking no further than `until`; only later ones than `after`, so that
    what has failed does not hold up what comes next."""
    dues = []
    for column, limit, condition in (
        (Subscription.activation_due_at, until, true()),
        (Subscription.next_billing_at, until - delay, true()),
        (Subscription.trial_due_at, until, true()),
        (Subscription.termination_due_at, until, true()),
        (Subscription.gate_expires_at, until, true()),
        (Plan.deletion_due_at, until, Plan.deleted_at.is_(None)),
        (Coupon.expiration_at, until, expiring(until)),
        (Wallet.expiration_at, until, Wallet.status == "active"),
        (Invoice.finalization_due_at, until, true()),
        (RecurringTransactionRule.due_at, until, RecurringTransactionRule.status == "active"),
        (RecurringTransactionRule.expiration_at, until, RecurringTransactionRule.status == "active"),
    ):
        due = select(func.min(column).label("due_at"))
        due = due.join(Organization, Organization.id == column.class_.organization_id)
        due = due.where(scope, column <= limit, condition)
        dues.append(due if after is None else due.where(column > after))
    earliest = union_all(*dues).subquery()
    candidates = (db.scalar(select(func.min(earliest.c.due_at))), _earliest_overdue(db, scope, until, after))
    return min((one for one in candidates if one is not None), default=None)


def _earliest_overdue(
    db: Session, scope: ColumnElement[bool], until: datetime, after: datetime | None
) -> datetime | None:
    """The first midnight in UTC at which an unpaid invoice is overdue; at once for one whose day is past already."""
    unpaid = select(func.min(Invoice.payment_due_date)).join(Organization, Organization.id == Invoice.organization_id)
    unpaid = unpaid.where(scope, UNPAID, Invoice.payment_due_date < until.astimezone(UTC).date())
    if after is not None:
        unpaid = unpaid.where(Invoice.payment_due_date >= after.astimezone(UTC).date())
    day = db.scalar(unpaid)
    return None if day is None else datetime.combine(day + timedelta(days=1), time.min, UTC)
