"""Invoices: lines grouped, summed, numbered and written (billing spec 2.2, 2.4, 3.2, 3.4, 3.5)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.billing.billed import BilledLine
from app.billing.credits import Owed, Spent, spend_credit_notes
from app.billing.fees import FeeDraft
from app.billing.rows import Rows
from app.core.periods import local_date
from app.core.taxes import InvoiceTaxes, invoice_taxes
from app.models import Customer, Organization

LARGEST_TOTAL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Payer:
    """What an invoice needs to know of its customer and organization."""

    customer_id: UUID
    organization_id: UUID
    customer_number: int
    tz: ZoneInfo
    organization_tz: ZoneInfo
    net_payment_term: int
    finalize_zero: bool
    numbering: str
    prefix: str


@dataclass(frozen=True, slots=True)
class InvoiceDraft:
    """An invoice that has not been numbered or stored: its lines, each with its fees."""

    payer: Payer
    currency: str
    billed_at: datetime
    purchase_order_number: str | None
    lines: tuple[tuple[BilledLine, tuple[FeeDraft, ...]], ...]

    @property
    def fees(self) -> list[FeeDraft]:
        return [fee for _, fees in self.lines for fee in fees]

    @property
    def issuing_date(self) -> date:
        """The local date of what is billed, however late the close runs."""
        return local_date(self.billed_at, self.payer.tz)


def group_lines(
    lines: Iterable[tuple[BilledLine, Sequence[FeeDraft]]], payers: Mapping[UUID, Payer]
) -> list[InvoiceDraft]:
    """One invoice per customer, instant, currency and purchase order; a subscription that does not consolidate has its
    own (billing spec 2.2). In time order."""
    groups: dict[tuple[Any, ...], list[tuple[BilledLine, tuple[FeeDraft, ...]]]] = defaultdict(list)
    for line, fees in lines:
        subscription = line.subscription
        alone = None if subscription.consolidate_invoice else subscription.id
        key = (
            subscription.customer_id,
            line.billed_at,
            subscription.plan.currency,
            subscription.purchase_order_number,
            alone,
        )
        groups[key].append((line, tuple(fees)))
    drafts = [
        InvoiceDraft(payers[customer_id], currency, billed_at, order, tuple(members))
        for (customer_id, billed_at, currency, order, _), members in groups.items()
    ]
    return sorted(drafts, key=lambda draft: draft.billed_at)


def write_invoices(db: Session, drafts: Sequence[InvoiceDraft], made_at: datetime) -> list[UUID]:
    """Number and store invoices, finalized, in one go; the caller holds the customers' rows and owns the transaction.

    An invoice without amount is closed instead, unnumbered and invisible, where the customer's policy says so
    (billing spec 2.4). Returns the invoices' ids in the drafts' order.
    """
    if not drafts:
        return []
    totals = [invoice_totals(draft) for draft in drafts]
    closed = [not total.fees and not draft.payer.finalize_zero for draft, total in zip(drafts, totals, strict=True)]
    numbered = [draft.payer for draft, skip in zip(drafts, closed, strict=True) if not skip]
    numbers = iter(next_numbers(db, numbered, made_at))
    owed = [
        Owed(draft.payer.customer_id, draft.currency, 0 if skip else total.with_taxes)
        for draft, total, skip in zip(drafts, totals, closed, strict=True)
    ]
    rows = Rows(made_at)
    ids = []
    for draft, total, skip, spent in zip(drafts, totals, closed, spend_credit_notes(db, owed, made_at), strict=True):
        number = (None, None) if skip else next(numbers)
        ids.append(_add(rows, draft, replace(total, spent=tuple(spent)), number))
    rows.copy(db)
    return ids


def write_fees(db: Session, drafts: Sequence[FeeDraft], made_at: datetime) -> None:
    """Store fees that stand alone; the client is told of them and says when they are paid."""
    rows = Rows(made_at)
    for position, fee in enumerate(drafts):
        rows.add_fee(fee, None, position, paid=False)
    rows.copy(db)


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of an invoice, in minor units, and its taxes (billing spec 3.5)."""

    fees: int
    taxes: InvoiceTaxes
    spent: tuple[Spent, ...] = ()

    @property
    def with_taxes(self) -> int:
        return self.fees + self.taxes.amount_cents

    @property
    def credit_notes(self) -> int:
        return sum(one.amount_cents for one in self.spent)

    @property
    def total(self) -> int:
        return self.with_taxes - self.credit_notes


def invoice_totals(draft: InvoiceDraft) -> Totals:
    """The sums of a draft, each recomputable from its fees."""
    fees = sum(fee.amounts.amount_cents for fee in draft.fees)
    bases = [(Decimal(fee.amounts.amount_cents), [tax.tax_rate for tax in fee.taxes]) for fee in draft.fees]
    totals = Totals(fees, invoice_taxes(bases, fees))
    if totals.total > LARGEST_TOTAL:
        raise OverflowError(f"the invoice of customer {draft.payer.customer_id} exceeds what an amount can hold")
    return totals


def next_numbers(db: Session, payers: Sequence[Payer], made_at: datetime) -> Iterable[tuple[int, str]]:
    """The customer's running number and the document number of an invoice for each payer, without gaps (billing spec 3.4).

    The counters are rows of this transaction: when it is rolled back, so are they.
    """
    by_customer: dict[UUID, int] = defaultdict(int)
    by_organization: dict[UUID, int] = defaultdict(int)
    for payer in payers:
        by_customer[payer.customer_id] += 1
        by_organization[payer.organization_id] += 1
    customer_next = _advance(db, Customer, by_customer)
    organization_next = _advance(db, Organization, by_organization)
    for payer in payers:
        customer_next[payer.customer_id] += 1
        organization_next[payer.organization_id] += 1
        sequential_id = customer_next[payer.customer_id]
        if payer.numbering == "per_organization":
            month = made_at.astimezone(payer.organization_tz).strftime("%Y%m")
            yield sequential_id, f"{payer.prefix}-{month}-{organization_next[payer.organization_id]:03d}"
        else:
            yield sequential_id, f"{payer.prefix}-{payer.customer_number:03d}-{sequential_id:03d}"


def _advance(db: Session, owner: type[Customer] | type[Organization], by: Mapping[UUID, int]) -> dict[UUID, int]:
    """Move the counters of these owners on and return where each stood before. Locks in the order of ids."""
    if not by:
        return {}
    ids = sorted(by)
    db.execute(select(owner.id).where(owner.id.in_(ids)).order_by(owner.id).with_for_update(key_share=True)).all()
    steps = func.unnest(ids, [by[one] for one in ids]).table_valued("id", "step").render_derived()
    rows = db.execute(
        update(owner)
        .where(owner.id == steps.c.id)
        .values(last_invoice_number=owner.last_invoice_number + steps.c.step)
        .returning(owner.id, owner.last_invoice_number)
        .execution_options(synchronize_session=False)
    )
    return {one: after - by[one] for one, after in rows}


def _add(rows: Rows, draft: InvoiceDraft, totals: Totals, number: tuple[int | None, str | None]) -> UUID:
    """Add the rows of an invoice and of everything that belongs to it."""
    invoice_id = uuid4()
    payer = draft.payer
    total = totals.total
    rows.add_invoice(
        id=invoice_id,
        organization_id=payer.organization_id,
        customer_id=payer.customer_id,
        sequential_id=number[0],
        number=number[1],
        invoice_type="subscription",
        status="finalized" if number[1] else "closed",
        payment_status="pending" if total > 0 else "succeeded",
        currency=draft.currency,
        timezone=payer.tz.key,
        issuing_date=draft.issuing_date,
        payment_due_date=draft.issuing_date + timedelta(days=payer.net_payment_term),
        net_payment_term=payer.net_payment_term,
        fees_amount_cents=totals.fees,
        taxes_amount_cents=totals.taxes.amount_cents,
        taxes_rate=totals.taxes.rate,
        sub_total_excluding_taxes_amount_cents=totals.fees,
        sub_total_including_taxes_amount_cents=totals.with_taxes,
        credit_notes_amount_cents=totals.credit_notes,
        total_amount_cents=total,
        purchase_order_number=draft.purchase_order_number,
    )
    for place, spent in enumerate(totals.spent):
        rows.add_credit(invoice_id, payer.organization_id, spent, place, draft.currency)
    applied = {str(tax.id): tax for fee in draft.fees for tax in fee.taxes}
    for tax_line in totals.taxes.lines:
        rows.add_invoice_tax(invoice_id, payer.organization_id, applied[tax_line.tax_id], tax_line, draft.currency)
    position = 0
    for place, (line, fees) in enumerate(draft.lines):
        rows.add_period(line, invoice_id, place)
        for fee in fees:
            rows.add_fee(fee, invoice_id, position, paid=total == 0)
            position += 1
    return invoice_id
