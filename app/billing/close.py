"""Period close: everything due at an instant is claimed, measured, priced and written, many customers at a time.

A chunk is one transaction: customers are claimed with `FOR UPDATE SKIP LOCKED`, so that any number of closes may run at
once; a process that dies leaves nothing behind; and a unique key on (subscription, reason, boundary) holds even against
mistakes. The number of ClickHouse queries depends on the number of chunks and aggregation types only.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, DateTime, Select, and_, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, contains_eager, joinedload, load_only, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from app.billing.billed import BilledLine, BilledSubscription
from app.billing.book import load_plans, load_taxes
from app.billing.charge_usage import AS_BILLED, charge_usage
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
from app.models import BillingPeriod, Customer, Organization, Subscription, among, uuids
from app.stores.postgres import Postgres

AT_ONCE = 2
"""How many chunks are closed at the same time by one process."""

BILLED_BY = (
    Subscription.id,
    Subscription.organization_id,
    Subscription.customer_id,
    Subscription.plan_id,
    Subscription.billing_entity_id,
    Subscription.replaced_by,
    Subscription.external_id,
    Subscription.name,
    Subscription.status,
    Subscription.billing_time,
    Subscription.subscription_at,
    Subscription.started_at,
    Subscription.gated_at,
    Subscription.consolidate_invoice,
    Subscription.purchase_order_number,
    Subscription.next_billing_at,
    Subscription.trial_ends_at,
)
"""What a close looks at of the subscriptions that are due."""

PAID_BY = (
    Customer.id,
    Customer.organization_id,
    Customer.billing_entity_id,
    Customer.sequential_id,
    Customer.timezone,
    Customer.net_payment_term,
    Customer.invoice_grace_period,
    Customer.subscription_invoice_issuing_date_anchor,
    Customer.subscription_invoice_issuing_date_adjustment,
    Customer.finalize_zero_amount_invoice,
)
"""What it looks at of their customers."""

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
    invoices = close_subscriptions(db, _due(db, claimed, until), made_at, meter)
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
    telling, failed = Lock(), Event()

    def work() -> None:
        try:
            while not failed.is_set():
                with postgres.session() as db:
                    closed = close_chunk(db, scope, until, made_at, size, meter)
                if not closed.customers:
                    return
                with telling:
                    told(closed)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="close") as threads:
        for one in [threads.submit(work) for _ in range(AT_ONCE)]:
            one.result()


def close_subscriptions(
    db: Session, subscriptions: Sequence[Subscription], made_at: datetime, meter: Meter
) -> list[UUID]:
    """Bill each of these subscriptions at its next boundary, and move it on from there; returns the ids of the invoices.
    The customers must be locked, and loaded with their organizations."""
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
    _move_on(db, subscriptions, lines)
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
    drafted = draft_fees(db, lines, payers, meter)
    write_fees(db, [fee for _, fees in drafted for fee in fees if not fee.invoiceable], made_at)
    invoiced = [(line, [fee for fee in fees if fee.invoiceable]) for line, fees in drafted]
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
    drafted: list[tuple[BilledLine, Sequence[FeeDraft]]] = [
        (line, [*line_fees(line, usage.get(id(line), ()), taxes), *fixed_charge_fees(line, units, taxes)])
        for line in lines
    ]
    lacking = commitment_fees(db, drafted, taxes)
    return [(line, [*fees, *lacking.get(line.subscription.id, ())]) for line, fees in drafted]


def billed_subscription(subscription: Subscription, plans: dict[UUID, PlanTerms]) -> BilledSubscription:
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


def claim(
    db: Session,
    scope: ColumnElement[bool],
    until: datetime,
    size: int,
    *,
    wait: bool = False,
    in_order: bool = False,
) -> list[UUID]:
    """Up to `size` customers with something due, locked for this transaction; fewer where some have several subscriptions.

    Those that nothing else holds, the longest due first; with `in_order` the first by their ids. With `wait` the first by
    their ids too, once whatever holds them lets go. By ids it takes longer: who was closed before is looked at again.
    """
    if wait or in_order:
        query = due_customers(scope, until).order_by(Customer.id)
    else:
        query = select(Customer.id).join(Organization, Organization.id == Customer.organization_id)
        query = query.join(Subscription, _is_due(until)).where(scope)
        query = query.order_by(Subscription.organization_id, Subscription.next_billing_at)
    locked = query.limit(size).with_for_update(of=Customer, skip_locked=not wait, key_share=True)
    return list(dict.fromkeys(db.scalars(locked)))


def due_customers(scope: ColumnElement[bool], until: datetime) -> Select[UUID]:
    """The ids of customers with a boundary that has passed."""
    return (
        select(Customer.id)
        .join(Organization, Organization.id == Customer.organization_id)
        .where(scope, exists().where(_is_due(until)))
    )


def _is_due(until: datetime) -> ColumnElement[bool]:
    """Which subscriptions of a customer are to be billed."""
    return and_(
        Subscription.customer_id == Customer.id,
        Subscription.organization_id == Customer.organization_id,
        Subscription.status == "active",
        Subscription.next_billing_at <= until,
    )


def _due(db: Session, customers: Iterable[UUID], until: datetime) -> list[Subscription]:
    """The claimed customers' due subscriptions, of each customer those with its earliest boundary."""
    earliest = (
        select(Subscription.customer_id, func.min(Subscription.next_billing_at).label("boundary"))
        .where(
            among(Subscription.customer_id, customers),
            Subscription.status == "active",
            Subscription.next_billing_at <= until,
        )
        .group_by(Subscription.customer_id)
        .subquery()
    )
    return list(
        db.scalars(
            select(Subscription)
            .join(
                earliest,
                (earliest.c.customer_id == Subscription.customer_id)
                & (earliest.c.boundary == Subscription.next_billing_at),
            )
            .join(Subscription.customer)
            .where(Subscription.status == "active")
            .options(
                load_only(*BILLED_BY, raiseload=True),
                contains_eager(Subscription.customer).options(
                    load_only(*PAID_BY, raiseload=True), selectinload(Customer.billing_entity)
                ),
                selectinload(Subscription.billing_entity),
            )
            .order_by(Subscription.created_at, Subscription.id)
        )
    )


def _successors(db: Session, subscriptions: Sequence[Subscription]) -> dict[UUID, Subscription]:
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
    subscriptions: Sequence[Subscription],
    successors: Mapping[UUID, Subscription],
    plans: dict[UUID, PlanTerms],
    made_at: datetime,
) -> list[BilledLine]:
    """End what is followed by a cheaper plan, begin the cheaper plan, and give what it bills in advance (billing spec
    1.8)."""
    pairs = [
        (one, successors[one.id], one.next_billing_at)
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


def _move_on(db: Session, subscriptions: Sequence[Subscription], lines: Sequence[BilledLine]) -> None:
    """Set each billed subscription's next boundary, all in one statement."""
    if not subscriptions:
        return  # somebody else was faster with all of them
    after = {line.subscription.id: line.subscription.terms.boundary_after(line.billed_at) for line in lines}
    following = [
        None if one.status == "terminated" else after.get(one.id, one.next_billing_at) for one in subscriptions
    ]
    moved = func.unnest(uuids(one.id for one in subscriptions), cast(following, ARRAY(DateTime(timezone=True))))
    table = moved.table_valued("id", "next_billing_at").render_derived()
    db.execute(
        update(Subscription)
        .where(Subscription.id == table.c.id)
        .values(next_billing_at=table.c.next_billing_at)
        .execution_options(synchronize_session=False)
    )
    for one, instant in zip(subscriptions, following, strict=True):
        set_committed_value(one, "next_billing_at", instant)
