"""Invoices made anew under their own ids: drafts that are refreshed or become final, and failed ones (billing spec 3.3).

An invoice keeps its lines, with the instants and reasons of the first time; its usage is measured and priced anew, and a
fee that is still there keeps its id. All invoices of a chunk take as many queries as one.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.billing.adjustments import FeeKey, group_key
from app.billing.close import draft_fees
from app.billing.draft_notes import renew_notes
from app.billing.failures import is_of_the_store, reason_of
from app.billing.fees import FeeDraft
from app.billing.invoice_drafts import InvoiceDraft, Stored
from app.billing.invoices import FAILED, failure_details, write_fees, write_invoices
from app.billing.payers import payer_of
from app.billing.stored_lines import load_invoices, stored_lines
from app.core.issuing_dates import IssuingDates, finalized_dates
from app.core.periods import local_date
from app.core.values import replace
from app.metering.meter import Meter
from app.models import (
    BillingPeriod,
    Credit,
    Customer,
    Fee,
    FeeTax,
    Invoice,
    InvoiceTax,
    Organization,
    Subscription,
    among,
)

log = structlog.get_logger(__name__)

FINALIZATION_FAILED = "invoice_finalization_error"

DRAFT = Invoice.status == "draft"


def of_subscriptions(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """The invoices with lines of such subscriptions."""
    lines = select(BillingPeriod.invoice_id).join(Subscription, Subscription.id == BillingPeriod.subscription_id)
    return Invoice.id.in_(lines.where(which))


class _Known(NamedTuple):
    """A stored fee: its id, and what it came to in minor units."""

    id: UUID
    amount_cents: int


Known = Mapping[tuple[UUID, UUID | None, FeeKey], _Known]
"""The stored fees by invoice, subscription and key."""


def redraw_chunk(
    db: Session,
    scope: ColumnElement[bool],
    which: ColumnElement[bool],
    instant: datetime,
    made_at: datetime,
    size: int,
    meter: Meter,
    *,
    final: bool,
    wait: bool = False,
) -> int:
    """Make anew those drafts that fulfil `which`, of each of up to `size` customers the earliest; returns of how many, and
    0 when nothing is left. `scope` limits the organizations. `wait` for customers that something else bills just now."""
    customers = db.scalars(
        select(Customer.id)
        .join(Organization, Organization.id == Customer.organization_id)
        .where(
            scope,
            exists().where(
                Invoice.customer_id == Customer.id, Invoice.organization_id == Customer.organization_id, DRAFT, which
            ),
        )
        .order_by(Customer.id)
        .limit(size)
        .with_for_update(of=Customer, skip_locked=not wait, key_share=True)
    ).all()
    return _redraw_earliest(db, customers, which, instant, made_at, meter, final=final)


def finalize_all(db: Session, customer_id: UUID, instant: datetime, meter: Meter) -> None:
    """Make all drafts of a customer final, in their order. The customer must be locked."""
    while _redraw_earliest(db, [customer_id], DRAFT, instant, instant, meter, final=True):
        pass


def _redraw_earliest(
    db: Session,
    customers: Collection[UUID],
    which: ColumnElement[bool],
    instant: datetime,
    made_at: datetime,
    meter: Meter,
    *,
    final: bool,
) -> int:
    """One draft of each customer: what one invoice takes of credits must be gone before the next is settled."""
    if not customers:
        return 0
    ids = db.scalars(
        select(Invoice.id)
        .distinct(Invoice.customer_id)
        .where(among(Invoice.customer_id, customers), DRAFT, which)
        .order_by(Invoice.customer_id, Invoice.finalization_due_at, Invoice.created_at, Invoice.id)
    ).all()
    redraw(db, ids, instant, made_at, meter, final=final)
    return len(ids)


def redraw(
    db: Session, invoice_ids: Sequence[UUID], instant: datetime, made_at: datetime, meter: Meter, *, final: bool
) -> None:
    """Make invoices anew, drafts or failed ones, as drafts or, `final`, as what they are from an instant on. Their
    customers must be locked, and there must be one for each.

    One that cannot be made is stored as failed with the reason, and the others go on.
    """
    if not invoice_ids:
        return
    try:
        with db.begin_nested():
            _redraw(db, invoice_ids, instant, made_at, meter, final=final)
        return
    except Exception as error:
        if is_of_the_store(error):
            raise
        if len(invoice_ids) == 1:
            log.warning("invoice.failed", invoice_id=str(invoice_ids[0]), exc_info=error)
            _fail(db, invoice_ids[0], reason_of(error), made_at)
            return
    half = len(invoice_ids) // 2
    for part in (invoice_ids[:half], invoice_ids[half:]):
        redraw(db, part, instant, made_at, meter, final=final)


def _redraw(
    db: Session, invoice_ids: Sequence[UUID], instant: datetime, made_at: datetime, meter: Meter, *, final: bool
) -> None:
    invoices = load_invoices(db, invoice_ids)
    lines = stored_lines(db, invoices)
    payers = {(one.customer_id, one.billing_entity_id): payer_of(one.customer, one.billing_entity) for one in invoices}
    known = _known_fees(db, invoice_ids)
    _clear(db, invoice_ids)
    every_line = [line for own in lines.values() for line in own]
    fees_of = {id(line): fees for line, fees in draft_fees(db, every_line, payers, meter)}
    never_made = {one.id for one in invoices if (one.error_details or {}).get("error_code") == FAILED}
    alone = [
        fee
        for invoice_id in never_made
        for line in lines[invoice_id]
        for fee in fees_of[id(line)]
        if not fee.invoiceable
    ]
    write_fees(db, alone, made_at)
    drafts = []
    for one in invoices:
        own = tuple((line, _with_known_ids(one.id, fees_of[id(line)], known)) for line in lines[one.id])
        payer = payers[one.customer_id, one.billing_entity_id]
        billed_at, order = own[0][0].billed_at, one.purchase_order_number
        draft = InvoiceDraft(payer, one.currency, billed_at, order, own, id=one.id)
        drafts.append(replace(draft, stored=Stored(_dates(one, draft, instant, final=final), final)))
    write_invoices(db, drafts, made_at)
    db.execute(
        update(BillingPeriod).where(among(BillingPeriod.invoice_id, invoice_ids)).values(measured_at=func.now()),
        execution_options={"synchronize_session": False},
    )
    renew_notes(db, invoice_ids, {fee.id: fee.amount_cents for fee in known.values()}, made_at, final=final)


def _known_fees(db: Session, invoice_ids: Sequence[UUID]) -> dict[tuple[UUID, UUID | None, FeeKey], _Known]:
    rows = db.execute(
        select(
            Fee.invoice_id,
            Fee.subscription_id,
            Fee.fee_type,
            Fee.charge_id,
            Fee.charge_filter_id,
            Fee.fixed_charge_id,
            Fee.grouped_by,
            Fee.true_up_parent_fee_id,
            Fee.id,
            Fee.amount_cents,
        ).where(among(Fee.invoice_id, invoice_ids))
    )
    known = {}
    for invoice_id, subscription_id, kind, charge_id, filter_id, fixed_id, group, parent, fee_id, amount in rows:
        key = FeeKey(kind, charge_id, filter_id, fixed_id, group_key(group), parent is not None)
        if invoice_id is not None:
            known[invoice_id, subscription_id, key] = _Known(fee_id, amount)
    return known


def _with_known_ids(invoice_id: UUID, fees: Sequence[FeeDraft], known: Known) -> tuple[FeeDraft, ...]:
    """The fees that are on the invoice, those that were there before under the ids they had."""
    ids = {}
    for fee in fees:
        found = known.get((invoice_id, fee.subscription.id if fee.subscription else None, fee.key))
        ids[fee.id] = found.id if found else fee.id
    return tuple(
        replace(fee, id=ids[fee.id], true_up_parent_id=fee.true_up_parent_id and ids[fee.true_up_parent_id])
        for fee in fees
        if fee.invoiceable
    )


def _clear(db: Session, invoice_ids: Sequence[UUID]) -> None:
    """Delete everything of the invoices but themselves and their lines."""
    fees = select(Fee.id).where(among(Fee.invoice_id, invoice_ids))
    for table, condition in (
        (FeeTax, FeeTax.fee_id.in_(fees)),
        (Fee, among(Fee.invoice_id, invoice_ids)),
        (InvoiceTax, among(InvoiceTax.invoice_id, invoice_ids)),
        (Credit, among(Credit.invoice_id, invoice_ids)),
    ):
        db.execute(delete(table).where(condition), execution_options={"synchronize_session": False})


def _dates(invoice: Invoice, draft: InvoiceDraft, instant: datetime, *, final: bool) -> IssuingDates:
    """The dates of an invoice; those of one that has had a grace period change when it becomes final."""
    dates = IssuingDates(invoice.issuing_date, invoice.expected_finalization_date, invoice.payment_due_date)
    rules = replace(draft.payer.issuing, net_payment_term=invoice.net_payment_term)
    if not final or (invoice.status == "failed" and not rules.grace_period):
        return dates
    return finalized_dates(dates, local_date(instant, draft.payer.tz), rules, is_periodic=draft.is_periodic)


def _fail(db: Session, invoice_id: UUID, reason: str, made_at: datetime) -> None:
    """Store why an invoice could not be made anew. What a draft had stays until it is tried again."""
    code = func.coalesce(Invoice.error_details["error_code"].as_string(), FINALIZATION_FAILED)
    known = db.scalar(select(code).where(Invoice.id == invoice_id))
    details = {**failure_details(reason), "error_code": known}
    db.execute(
        update(Invoice)
        .where(Invoice.id == invoice_id)
        .values(
            status="failed",
            error_details=details,
            ready_to_be_refreshed=False,
            finalization_due_at=None,
            updated_at=made_at,
        ),
        execution_options={"synchronize_session": False},
    )
