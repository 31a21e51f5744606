"""`meterhouse bill`: bill what is due now, or see what would be, in a running server or in none."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import asking
from app.api.billing_runs import BillingRunObject, RehearsalObject, rehearsal_object, run_object
from app.billing.runs import find_run
from app.clock import system_now
from app.config import PREFIX, Settings
from app.core.money import decimal_text, from_minor
from app.running import in_service
from app.service import Service

LOOK_SECONDS = 0.2
LONG_SECONDS = 3_600
FAILED = 1
"""What the command ends with where something could not be billed."""
OK, UNAUTHORIZED = 200, 401


class Refused(Exception):
    """It cannot be done; the message says why."""


def bill(settings: Settings, until: datetime | None, *, dry_run: bool, console: Console) -> int:
    """Bill what was due at an instant (now, without one), or only tell what a run would begin with. Returns what the
    command ends with: 1 where something failed.

    Raises:
        Refused: the server does not want to, or does not take the key.
        CannotStart: no server runs, and the stores cannot be opened.
    """
    url = asking.address(settings)
    if asking.is_meterhouse(asking.ask(f"{url}/health")):
        server = _Remote(url, settings.admin_key, until)
        return _rehearse(server.rehearse(), console) if dry_run else _follow(server.run(), console)
    if dry_run:
        return _rehearse(in_service(settings, lambda service: _rehearsed(service, until)), console)
    return in_service(settings, lambda service: _follow(_run_here(service, until), console))


class _Remote:
    """A server that runs, asked over HTTP."""

    def __init__(self, url: str, key: str, until: datetime | None):
        self._url = f"{url}/admin/billing_runs"
        self._key = key
        self._body = {"billing_run": {} if until is None else {"until": until.isoformat()}}

    def rehearse(self) -> RehearsalObject:
        answer = self._ask("POST", "/rehearsal", seconds=LONG_SECONDS)
        return msgspec.convert(answer["rehearsal"], RehearsalObject)

    def run(self) -> Iterator[BillingRunObject]:
        answer = self._ask("POST", "")
        while True:
            run = msgspec.convert(answer["billing_run"], BillingRunObject)
            yield run
            if run.status != "running":
                return
            time.sleep(LOOK_SECONDS)
            answer = self._ask("GET", f"/{run.lago_id}")

    def _ask(self, method: str, path: str, seconds: float = asking.HEALTH_SECONDS) -> Any:
        if not self._key:
            raise Refused(f"A server runs there, and wants its admin key: put it into {PREFIX}ADMIN_KEY.")
        body = self._body if method == "POST" else None
        answer = asking.ask(f"{self._url}{path}", self._key, method=method, seconds=seconds, body=body)
        if answer is None:
            raise Refused("The server does not answer any more; what is left stays due.")
        if answer.status == UNAUTHORIZED:
            raise Refused("The server does not take this admin key.")
        if answer.status != OK:
            said = answer.body if isinstance(answer.body, dict) else {}
            raise Refused(f"The server refuses: {said.get('error_details') or said.get('code') or answer.status}")
        return answer.body


def _rehearsed(service: Service, until: datetime | None) -> RehearsalObject:
    now = system_now()
    return rehearsal_object(service.runs.rehearse(until or now, now))


def _run_here(service: Service, until: datetime | None) -> Iterator[BillingRunObject]:
    now = system_now()
    if until is not None and until > now:
        raise Refused("--until lies in the future: only --dry-run looks there.")
    run_id: UUID = service.runs.begin(until or now, now)
    while True:
        with service.postgres.session() as db:
            run = run_object(find_run(db, run_id), system_now())
        yield run
        if run.status != "running":
            return
        time.sleep(LOOK_SECONDS)


def _follow(told: Iterator[BillingRunObject], console: Console) -> int:
    """Show how far a run is until it is done, and what it did."""
    columns = (TextColumn("Billing"), BarColumn(), MofNCompleteColumn(), TextColumn("customers"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        for run in told:
            due = max(run.customers_due_count or 0, run.customers_count)
            progress.update(task, total=due or None, completed=run.customers_count)
    console.print(
        f"Billed what was due at {run.until} in {run.duration_seconds:.1f} s: {run.invoices_count:,} invoices of "
        f"{run.customers_count:,} customers; {run.activated_count:,} subscriptions began, {run.terminated_count:,} ended; "
        f"{run.finalized_count:,} drafts became final."
    )
    if run.error:
        console.print(f"It did not come to its end: {run.error}", markup=False)
    _failures(run.failures, run.failures_count, console)
    return FAILED if run.error or run.failures_count else 0


def _rehearse(told: RehearsalObject, console: Console) -> int:
    console.print(
        f"Due at {told.until}: {told.customers_count:,} customers to bill, {told.activations_count:,} subscriptions that "
        f"begin, {told.trials_count:,} trials and {told.terminations_count:,} subscriptions that end, "
        f"{told.finalizations_count:,} drafts that become final. Nothing was changed."
    )
    if told.totals:
        table = Table("Currency", "Invoices", "Total")
        for one in told.totals:
            amount = decimal_text(from_minor(one.total_amount_cents, one.currency))
            table.add_row(one.currency, f"{one.invoices_count:,}", amount)
        console.print(table)
    _failures(told.failures, len(told.failures), console)
    return FAILED if told.failures else 0


def _failures(failures: list[Any], count: int, console: Console) -> None:
    if not count:
        return
    console.print(f"{count:,} could not be billed. They stay due, or have a failed invoice to retry:")
    for one in failures:
        which = f"customer {one.lago_customer_id}"
        if one.lago_subscription_id is not None:
            which += f", subscription {one.lago_subscription_id}"
        if one.lago_invoice_id is not None:
            which += f", invoice {one.lago_invoice_id}"
        console.print(f"  {which}, due {one.due_at}: {one.reason}", markup=False)
    if count > len(failures):
        console.print(f"  and {count - len(failures):,} more")
