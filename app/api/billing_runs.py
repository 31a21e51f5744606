"""`/admin/billing_runs`: what was due, what was done, how long it took, what failed."""

from datetime import datetime
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Paging, Running
from app.api.routes import get, post
from app.api.wire import Opt, PageMeta, Str, instant, instant_or_none, paginate, parse_instant
from app.billing.due import Failure
from app.billing.runs import Rehearsal, billing_runs, failures_of, find_run, status_of
from app.clock import system_now
from app.errors import invalid
from app.models import BillingRun
from app.validation import as_uuid


class FailureObject(Struct):
    lago_customer_id: UUID
    lago_subscription_id: UUID | None
    lago_invoice_id: UUID | None
    due_at: str
    reason: str


class BillingRunObject(Struct):
    """`duration_seconds` is that until now where it goes on. Of the failures the first 100 are shown."""

    lago_id: UUID
    source: str
    status: str
    until: str
    activated_count: int
    terminated_count: int
    customers_due_count: int | None
    customers_count: int
    invoices_count: int
    finalized_count: int
    failures_count: int
    failures: list[FailureObject]
    error: str | None
    duration_seconds: float
    started_at: str
    finished_at: str | None


class BillingRunAnswer(Struct):
    billing_run: BillingRunObject


class BillingRunsAnswer(Struct):
    billing_runs: list[BillingRunObject]
    meta: PageMeta


class BillingRunInput(Struct):
    until: Str | Opt | None = UNSET


class BillingRunBody(Struct):
    billing_run: BillingRunInput


class TotalObject(Struct):
    currency: str
    invoices_count: int
    total_amount_cents: int


class RehearsalObject(Struct):
    until: str
    activations_count: int
    trials_count: int
    terminations_count: int
    finalizations_count: int
    customers_count: int
    totals: list[TotalObject]
    failures: list[FailureObject]


class RehearsalAnswer(Struct):
    rehearsal: RehearsalObject


class BillingRunController(Controller):
    path = "/billing_runs"
    tags = ["admin"]

    @get()
    def list_billing_runs(self, db: Db, paging: Paging) -> BillingRunsAnswer:
        """Runs over what was due, the latest first. Scheduled ones are kept where there was something to do."""
        runs, meta = paginate(db, billing_runs(), paging)
        now = system_now()
        return BillingRunsAnswer([run_object(run, now) for run in runs], meta)

    @post()
    def begin_billing_run(self, data: BillingRunBody, service: Running) -> BillingRunAnswer:
        """Begin to bill what was due at `until` (now, without it), without waiting for late events. It goes on by itself:
        read it again to see how far it is. One goes on at a time."""
        now = system_now()
        until = _until(data.billing_run, now)
        if until > now:
            raise invalid("until", "value_is_out_of_range")
        run_id = service.runs.begin(until, now)
        with service.postgres.session() as db:
            return BillingRunAnswer(run_object(find_run(db, run_id), system_now()))

    @post("/rehearsal")
    def rehearse_billing_run(self, data: BillingRunBody, service: Running) -> RehearsalAnswer:
        """What a run until an instant, which may be to come, would begin with. Nothing is kept of it. Of each customer the
        earliest boundary is looked at."""
        now = system_now()
        told = service.runs.rehearse(_until(data.billing_run, now), now)
        return RehearsalAnswer(rehearsal_object(told))

    @get("/{lago_id:str}")
    def get_billing_run(self, lago_id: str, db: Db) -> BillingRunAnswer:
        """One run."""
        return BillingRunAnswer(run_object(find_run(db, as_uuid(lago_id)), system_now()))


def _until(sent: BillingRunInput, now: datetime) -> datetime:
    return parse_instant(sent.until, "until") if isinstance(sent.until, str) else now


def _failure_object(one: Failure) -> FailureObject:
    return FailureObject(one.customer_id, one.subscription_id, one.invoice_id, instant(one.due_at), one.reason)


def rehearsal_object(told: Rehearsal) -> RehearsalObject:
    """A rehearsal as it is on the wire."""
    return RehearsalObject(
        until=instant(told.until),
        activations_count=told.activations,
        trials_count=told.trials,
        terminations_count=told.terminations,
        finalizations_count=told.finalizations,
        customers_count=told.customers,
        totals=[TotalObject(currency, *total) for currency, total in sorted(told.totals.items())],
        failures=[_failure_object(one) for one in told.failures],
    )


def run_object(run: BillingRun, now: datetime) -> BillingRunObject:
    """A run as it is on the wire."""
    return BillingRunObject(
        lago_id=run.id,
        source=run.source,
        status=status_of(run, now),
        until=instant(run.until),
        activated_count=run.activated,
        terminated_count=run.terminated,
        customers_due_count=run.customers_due,
        customers_count=run.customers,
        invoices_count=run.invoices,
        finalized_count=run.finalized,
        failures_count=run.failures_count,
        failures=[_failure_object(one) for one in failures_of(run)],
        error=run.error,
        duration_seconds=round(((run.finished_at or now) - run.started_at).total_seconds(), 3),
        started_at=instant(run.started_at),
        finished_at=instant_or_none(run.finished_at),
    )
