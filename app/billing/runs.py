"""Runs over what is due, noted: what was done, how long it took, what failed; and rehearsals of one (billing spec 2.1)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from app.billing.claims import due_customers
from app.billing.close import close_chunk
from app.billing.due import LIVE, DueRunner, Failure, Run, Stopped
from app.clock import system_now
from app.errors import ApiError, NotAllowed, NotFound
from app.metering.meter import Meter
from app.models import BillingRun, Customer, Invoice, Organization, Subscription
from app.models.invoice import FAILED
from app.stores.postgres import Postgres

log = structlog.get_logger(__name__)

MOST_FAILURES = 100
"""How many failures of a run are kept."""
SILENT = timedelta(minutes=10)
"""A run that has told nothing for so long was interrupted."""


@dataclass(slots=True)
class Rehearsal:
    """What a run would begin with. `totals`: by currency the number of invoices and what they come to, in minor units."""

    until: datetime
    activations: int = 0
    trials: int = 0
    terminations: int = 0
    finalizations: int = 0
    customers: int = 0
    totals: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class BillingRuns:
    """Runs what is due and writes down how that went. One run that was asked for goes on at a time."""

    def __init__(self, postgres: Postgres, meter: Meter, due: DueRunner, chunk: int):
        self._postgres = postgres
        self._meter = meter
        self._due = due
        self._chunk = chunk
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="billing-run")
        self._asked_for = threading.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Let a run that goes on end with its chunk; what is left stays due."""
        self._stopping = True
        self._threads.shutdown(wait=True)

    def scheduled(self, now: datetime) -> Run:
        """Run what is due for everybody on the system's time; noted unless there was nothing to do."""
        run = self._due.run_live(now)
        if not run.is_nothing:
            with self._postgres.session() as db:
                db.add(_noted(BillingRun(source="scheduler", until=now, started_at=now), run, finished=True))
        return run

    def begin(self, until: datetime, now: datetime) -> UUID:
        """Begin to run what was due at an instant, without waiting for late events; returns the id of the run, which goes
        on in a thread of its own.

        Raises:
            NotAllowed: `billing_run_in_progress`.
        """
        if not self._asked_for.acquire(blocking=False):
            raise NotAllowed("billing_run_in_progress")
        try:
            with self._postgres.session() as db:
                due = db.scalar(select(func.count()).select_from(due_customers(LIVE, until).subquery()))
                noted = BillingRun(source="manual", until=until, started_at=now, updated_at=now, customers_due=due)
                db.add(noted)
                db.flush()
                run_id = noted.id
            self._threads.submit(self._go_on, run_id, until, now)
        except BaseException:
            self._asked_for.release()
            raise
        return run_id

    def rehearse(self, until: datetime, now: datetime) -> Rehearsal:
        """What a run until an instant would begin with: periods are closed as they would be, and that is undone again. Of
        each customer only the earliest boundary is looked at, and no number is used up."""
        told, last, size = Rehearsal(until), None, self._chunk
        with self._postgres.session() as db:
            told.activations = _due_count(db, Subscription.activation_due_at <= until)
            told.trials = _due_count(db, Subscription.trial_due_at <= until)
            told.terminations = _due_count(db, Subscription.termination_due_at <= until)
            told.finalizations = _due_count(db, Invoice.finalization_due_at <= until, Invoice)
        while True:
            try:
                with self._postgres.undone() as db:
                    closed = close_chunk(db, _beyond(last), until, now, size, self._meter, in_order=True)
                    sums = _totals(db, closed.invoices)
                    failed = db.scalars(select(Invoice).where(Invoice.id.in_(closed.invoices), FAILED))
                    failures = [Failure.of_invoice(one, until) for one in failed]
            except ApiError:
                raise
            except Exception as error:  # noqa: BLE001 (one customer must not hide the rest)
                if size > 1:
                    size = 1
                    continue
                with self._postgres.session() as db:
                    last = db.scalar(due_customers(_beyond(last), until).order_by(Customer.id).limit(1))
                if last is None:
                    return told
                told.failures.append(Failure.of(error, last, None, until))
                continue
            if not closed.customers:
                return told
            told.customers += len(closed.customers)
            told.failures += failures
            for currency, (count, total) in sums.items():
                invoices, before = told.totals.get(currency, (0, 0))
                told.totals[currency] = invoices + count, before + total
            last, size = max(closed.customers), self._chunk

    def _go_on(self, run_id: UUID, until: datetime, now: datetime) -> None:
        run = Run(told=lambda so_far: self._note(run_id, so_far))
        error = None
        try:
            self._due.run_until(run, until, now)
        except Stopped:
            error = "The server was stopped; what is left stays due."
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            log.error("billing_run.failed", run=str(run_id), exc_info=failure)
        finally:
            try:
                self._note(run_id, run, error=error, finished=True)
            finally:
                self._asked_for.release()

    def _note(self, run_id: UUID, run: Run, *, error: str | None = None, finished: bool = False) -> None:
        with self._postgres.session() as db:
            noted = _noted(db.get_one(BillingRun, run_id), run, finished=finished)
            noted.error = error
        if self._stopping and not finished:
            raise Stopped


def billing_runs() -> Select[BillingRun]:
    """All runs, the latest first."""
    return select(BillingRun).order_by(BillingRun.started_at.desc(), BillingRun.id)


def find_run(db: Session, run_id: UUID | None) -> BillingRun:
    """One run.

    Raises:
        NotFound: `billing_run_not_found`.
    """
    run = None if run_id is None else db.get(BillingRun, run_id)
    if run is None:
        raise NotFound("billing_run")
    return run


def status_of(run: BillingRun, now: datetime) -> str:
    """`running`, `finished`, `failed` where it could not be brought to its end, or `interrupted` where nobody noted it."""
    if run.finished_at is not None:
        return "failed" if run.error else "finished"
    return "interrupted" if now - run.updated_at > SILENT else "running"


def _noted(noted: BillingRun, run: Run, *, finished: bool) -> BillingRun:
    noted.activated, noted.terminated = run.activated, run.terminated
    noted.customers, noted.invoices = run.customers, run.invoices
    noted.finalized = run.finalized
    noted.failures = msgspec.to_builtins(run.failures[:MOST_FAILURES])
    noted.failures_count = len(run.failures)
    noted.updated_at = system_now()
    noted.finished_at = noted.updated_at if finished else None
    return noted


def failures_of(run: BillingRun) -> list[Failure]:
    """What a run could not do, as far as that is kept."""
    return msgspec.convert(run.failures, list[Failure])


def _due_count(db: Session, due: ColumnElement[bool], of: type[Subscription] | type[Invoice] = Subscription) -> int:
    query = select(func.count()).select_from(of).join(Organization, Organization.id == of.organization_id)
    return db.scalar(query.where(LIVE, due)) or 0


def _beyond(last: UUID | None) -> ColumnElement[bool]:
    return LIVE if last is None else LIVE & (Customer.id > last)


def _totals(db: Session, invoices: tuple[UUID, ...]) -> dict[str, tuple[int, int]]:
    sums = select(Invoice.currency, func.count(), func.sum(Invoice.total_amount_cents))
    rows = db.execute(sums.where(Invoice.id.in_(invoices), Invoice.status != "failed").group_by(Invoice.currency))
    return {currency: (count, int(total)) for currency, count, total in rows}
