"""Period close: everything due at an instant is claimed, measured, priced and written, many customers at a time.

A chunk is one transaction: customers are claimed with `FOR UPDATE SKIP LOCKED`, so that any number of closes may run at
once; a process that dies leaves nothing behind; and a unique key on (subscription, reason, boundary) holds even against
mistakes. The number of ClickHouse queries depends on the number of chunks and aggregation types only.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from threading import Event, Lock
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, joinedload

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import load_plans, load_taxes
from app.billing.charge_usage import AS_BILLED, charge_usage
from app.billing.claims import DueSubscription, claim, due_subscriptions
from app.billing.commitments import commitment_fees
from app.billing.failures import is_of_the_store, reason_of
from app.billing.fees import FeeDraft, line_fees
from app.billing.fixed_charges import fixed_charge_fees, load_units, start_units
from app.billing.invoice_drafts import Payers, group_lines
from app.billing.invoices import write_fees, write_invoices
from app.billing.payers import payers_of, timezone_of
from app.billing.statements import write_statements
from app.billing.terms import PlanTerms
from app.catalog.retirement import retire_copies
from app.core.boundaries import Boundaries, joined, periodic, starting
from app.core.periods import local_date, local_start
from app.core.values import replace
from app.metering.meter import Meter
from app.models import BillingPeriod, Customer, Subscription, among, instants, uuids
from app.stores.postgres import Postgres

AT_ONCE = 2
"""How many chunks are closed at the same time by one process."""

COLLECTED_AFTER = 10
"""After how many chunks garbage is looked for."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Closed:
    """What one chunk of a close did: for whom, and the ids of the invoices."""

    customers: tuple[UUID, ...] = ()
    invoices: tuple[UUID, ...] = ()


def close_chunk(
    db: Session,
    scope: ColumnElement[bool],
    until: datetime,
    made_at: datetime,
    size: int,
    meter: Meter,
    *,
    wait: bool = False,
    in_order: bool = False,
) -> Closed:
    """Close what was due at `until` for up to `size` customers; no customers means that nothing was left to claim.

    `wait` and `in_order` say which, see `claim`. `scope` limits the organizations. Of each customer only the earliest
    boundary is closed, so that invoices are numbered in the order of time; call again until nothing is claimed.
    """
    claimed = claim(db, scope, until, size, wait=wait, in_order=in_order)
    if not claimed:
        return Closed()
    invoices = close_subscriptions(db, due_subscriptions(db, claimed, until), made_at, meter)
    return Closed(tuple(claimed), tuple(invoices))


def close_all(
    postgres: Postgres,
    scope: ColumnElement[bool],
    until: datetime,
    made_at: datetime,
    size: int,
    meter: Meter,
    told: Callable[[Closed], None],
) -> None:
    """Close what was due at `until` for all customers that nothing else holds, a few chunks at a time: while one waits for
    the stores another is priced. `told` is called after each, never twice at once. What one raises is raised once the
    others have finished their chunk, and nothing further is begun."""
    telling, failed, chunks = Lock(), Event(), count(1)

    def work() -> None:
        try:
            while not failed.is_set():
                with postgres.session() as db:
                    closed = close_chunk(db, scope, until, made_at, size, meter)
                if not closed.customers:
                    return
                with telling:
                    told(closed)
                    if next(chunks) % COLLECTED_AFTER == 0:
                        gc.collect()
        except BaseException:
            failed.set()
            raise

    with _hardly_collected(), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="close") as threads:
        for one in [threads.submit(work) for _ in range(AT_ONCE)]:
            one.result()


@contextmanager
def _hardly_collected() -> Iterator[None]:
    """Let nobody look for garbage within chunks. What they make lives to their end, and next to nothing is in cycles: to
    look through it again and again takes a tenth of a close."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def close_subscriptions(
    db: Session, subscriptions: Sequence[Subscription] | Sequence[DueSubscription], made_at: datetime, meter: Meter
) -> list[UUID]:
    """Bill each of these subscriptions at its next boundary, and move it on from there; returns the ids of the invoices.
    The customers must be locked, and where they are loaded the customers and their billing entities be loaded, too."""
    plans = load_plans(db, {one.plan_id for one in subscriptions})
    before = load_billed_until(db, [one.id for one in subscriptions])
    following = _successors(db, subscriptions)
    plans |= load_plans(db, {one.plan_id for one in following.values()})
    lines, successors = [], {}
    for one in subscriptions:
        billed, boundary = billed_subscription(one, plans), one.next_billing_at
        if boundary is None:
            continue
        boundaries = before.get(one.id, NEVER_BILLED).join(periodic(billed.terms, boundary))
        if one.id in following and boundaries.closes:
            successors[one.id] = following[one.id]
        reason = "subscription_terminating" if one.id in successors else "subscription_periodic"
        lines.append(BilledLine(billed, reason, boundary, boundaries))
    lines += _downgraded(db, subscriptions, successors, plans, made_at)
    invoices = bill_lines(db, lines, payers_of([*subscriptions, *successors.values()]), made_at, meter)
    db.flush()
    _move_on(db, subscriptions, lines, successors.keys())
    return invoices


def bill_lines(db: Session, lines: Sequence[BilledLine], payers: Payers, made_at: datetime, meter: Meter) -> list[UUID]:
    """Measure, price and invoice lines; returns the ids of the invoices. Fees that stand alone are on none of them.

    What cannot be billed holds up nobody else: the invoice is stored as failed, with the reason, to be tried again
    (billing spec 2.7). Most fail alone, so the rest is told apart by halves.
    """
    if not lines:
        return []
    try:
        with db.begin_nested():
            return _bill(db, lines, payers, made_at, meter)
    except Exception as error:
        if is_of_the_store(error):
            raise
        customers = sorted({line.subscription.customer_id for line in lines})
        if len(customers) == 1:
            log.warning("invoice.failed", customer_id=str(customers[0]), exc_info=error)
            failed = group_lines([(line, ()) for line in lines], payers)
            return write_invoices(db, [replace(one, failure=reason_of(error)) for one in failed], made_at)
    half = set(customers[: len(customers) // 2])
    first = [line for line in lines if line.subscription.customer_id in half]
    second = [line for line in lines if line.subscription.customer_id not in half]
    return bill_lines(db, first, payers, made_at, meter) + bill_lines(db, second, payers, made_at, meter)


def _bill(db: Session, lines: Sequence[BilledLine], payers: Payers, made_at: datetime, meter: Meter) -> list[UUID]:
    invoiced = draft_fees(db, lines, payers, meter)
    alone = [fee for _, fees in invoiced for fee in fees if not fee.invoiceable]
    if alone:
        write_fees(db, alone, made_at)
        invoiced = [(line, [fee for fee in fees if fee.invoiceable]) for line, fees in invoiced]
    invoices = write_invoices(db, group_lines(invoiced, payers), made_at)
    write_statements(db, lines, payers, made_at)
    return invoices


def draft_fees(
    db: Session, lines: Sequence[BilledLine], payers: Payers, meter: Meter
) -> list[tuple[BilledLine, list[FeeDraft]]]:
    """All fees of these lines, measured and priced, in as many queries for many lines as for one."""
    with_charges = [line for line in lines if line.charges]
    measured = charge_usage(meter, [(line.measured_subscription, line.boundaries) for line in with_charges], AS_BILLED)
    usage = dict(zip(map(id, with_charges), measured, strict=True))
    taxes = load_taxes(db, {payer.customer_id for payer in payers.values()})
    units = load_units(db, lines)
    drafted = [
        (line, line_fees(line, usage.get(id(line), ()), taxes) + fixed_charge_fees(line, units, taxes))
        for line in lines
    ]
    lacking = commitment_fees(db, drafted, taxes)
    for line, fees in drafted if lacking else ():
        fees.extend(lacking.get(line.subscription.id, ()))
    return drafted


def billed_subscription(
    subscription: Subscription | DueSubscription, plans: dict[UUID, PlanTerms]
) -> BilledSubscription:
    """A started subscription, loaded with its customer and the customer's billing entity, as billing needs it."""
    if subscription.starts_at is None:
        raise ValueError(f"subscription {subscription.id} has not started")
    return BilledSubscription(
        id=subscription.id,
        organization_id=subscription.organization_id,
        customer_id=subscription.customer_id,
        billing_entity_id=subscription.billing_entity_id or subscription.customer.billing_entity_id,
        external_id=subscription.external_id,
        name=subscription.name,
        plan=plans[subscription.plan_id],
        billing_time=subscription.billing_time,
        subscription_at=subscription.subscription_at,
        started_at=subscription.starts_at,
        tz=timezone_of(subscription.customer),
        consolidate_invoice=subscription.consolidate_invoice,
        purchase_order_number=subscription.purchase_order_number,
        trial_ends_at=subscription.trial_ends_at,
        ended_by_upgrade=subscription.replaced_by == "upgrade",
    )


def _successors(
    db: Session, subscriptions: Sequence[Subscription] | Sequence[DueSubscription]
) -> dict[UUID, Subscription]:
    """The cheaper plans that follow now, by the subscription that they follow."""
    rows = db.scalars(
        select(Subscription)
        .where(
            among(Subscription.previous_subscription_id, [one.id for one in subscriptions]),
            Subscription.status == "pending",
        )
        .options(joinedload(Subscription.billing_entity))
        .with_for_update(of=Subscription)
    )
    return {one.previous_subscription_id: one for one in rows if one.previous_subscription_id is not None}


def _downgraded(
    db: Session,
    subscriptions: Sequence[Subscription] | Sequence[DueSubscription],
    successors: Mapping[UUID, Subscription],
    plans: dict[UUID, PlanTerms],
    made_at: datetime,
) -> list[BilledLine]:
    """End what is followed by a cheaper plan, begin the cheaper plan, and give what it bills in advance (billing spec
    1.8)."""
    if not successors:
        return []
    ending = db.scalars(
        select(Subscription)
        .where(among(Subscription.id, successors))
        .options(joinedload(Subscription.customer).joinedload(Customer.billing_entity))
    )
    loaded = {one.id: one for one in ending}
    pairs = [
        (loaded[one.id], successors[one.id], one.next_billing_at)
        for one in subscriptions
        if one.id in successors and one.next_billing_at is not None
    ]
    retire_copies(db, [old.id for old, _, _ in pairs], made_at)
    for old, _, boundary in pairs:
        old.status, old.terminated_at, old.replaced_by, old.updated_at = "terminated", boundary, "downgrade", made_at
        old.termination_due_at = old.trial_due_at = None
    db.flush()  # only one of them may be active
    begun = []
    lines = []
    days = {old.id: billed_subscription(old, plans).terms.day_billed(boundary) for old, _, boundary in pairs}
    for old, new, boundary in pairs:
        new.status, new.started_at, new.activated_at, new.updated_at = "active", boundary, made_at, made_at
        new.customer, new.termination_due_at = old.customer, None
        billed = billed_subscription(new, plans)
        # The day is told by the old plan's periods: those of the new one may begin a little later.
        new.next_billing_at = billed.terms.boundary_after_day(days[old.id])
        if new.ending_at is not None:
            new.termination_due_at = local_start(local_date(new.ending_at, billed.tz), billed.tz)
        begun.append(new)
        if billed.plan.pay_in_advance or billed.plan.has_fixed_charges_in_advance:
            lines.append(BilledLine(billed, "subscription_starting", boundary, starting(billed.terms, boundary)))
    start_units(db, begun, made_at)
    return lines


class BilledUntil(NamedTuple):
    """The last boundary at which a subscription was billed, and until when its charges and fixed charges were."""

    boundary: datetime | None = None
    charges: datetime | None = None
    fixed_charges: datetime | None = None

    def join(self, boundaries: Boundaries) -> Boundaries:
        """Boundaries that go on from there, also where the customer's timezone has changed meanwhile."""
        return joined(boundaries, self.charges, self.fixed_charges)


NEVER_BILLED = BilledUntil()


def load_billed_until(db: Session, subscription_ids: Collection[UUID]) -> dict[UUID, BilledUntil]:
    """Where these subscriptions stand that have been billed at the end of a period, in one query."""
    rows = db.execute(
        select(
            BillingPeriod.subscription_id,
            func.max(BillingPeriod.billed_at),
            func.max(BillingPeriod.charges_to_datetime),
            func.max(BillingPeriod.fixed_charges_to_datetime),
        )
        .where(
            among(BillingPeriod.subscription_id, subscription_ids),
            BillingPeriod.invoicing_reason == "subscription_periodic",
        )
        .group_by(BillingPeriod.subscription_id)
    )
    return {subscription_id: BilledUntil(*until) for subscription_id, *until in rows}


def _move_on(
    db: Session,
    subscriptions: Sequence[Subscription] | Sequence[DueSubscription],
    lines: Sequence[BilledLine],
    ended: Collection[UUID],
) -> None:
    """Set each billed subscription's next boundary, all in one statement; those that have ended have none."""
    if not subscriptions:
        return  # somebody else was faster with all of them
    after = {line.subscription.id: line.subscription.terms.boundary_after(line.billed_at) for line in lines}
    following = [None if one.id in ended else after.get(one.id, one.next_billing_at) for one in subscriptions]
    moved = func.unnest(uuids(one.id for one in subscriptions), instants(following))
    table = moved.table_valued("id", "next_billing_at").render_derived()
    db.execute(
        update(Subscription)
        .where(Subscription.id == table.c.id)
        .values(next_billing_at=table.c.next_billing_at)
        .execution_options(synchronize_session="fetch")
    )
