"""Statements: fees that stood alone and have been paid, put on one invoice that is paid (billing spec 3.5).

At the end of each period, and of the subscription, what has been paid until then is regrouped: the fees of the subscription
and of those that had its external id before, where their charges say so. Fees that are not paid are left for a later one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, contains_eager, selectinload

from app.billing.billed import BilledLine
from app.billing.invoice_drafts import Payer, Payers
from app.billing.numbering import next_numbers
from app.billing.receipts import write_payments
from app.billing.rows import Rows
from app.billing.terms import AppliedTax
from app.core.money import exact, round_half_up
from app.core.periods import local_date
from app.core.taxes import TaxLine
from app.core.values import replace
from app.models import Charge, Fee, FeeTax, Payment, Subscription, among

REASON = "in_advance_charge_periodic"
AT_THE_END_OF = ("subscription_periodic", "subscription_terminating")
RATE_PLACES = 2


@dataclass(frozen=True, slots=True)
class _Statement:
    """An invoice to be: the lines of the subscriptions that it is for, and their fees."""

    payer: Payer
    billed_at: datetime
    currency: str
    parts: list[tuple[BilledLine, list[Fee]]]

    @property
    def fees(self) -> list[Fee]:
        return [fee for _, fees in self.parts for fee in fees]

    @property
    def paid_cents(self) -> int:
        """What the fees came to with their taxes."""
        return sum(fee.amount_cents + fee.taxes_amount_cents for fee in self.fees)


def write_statements(db: Session, lines: Sequence[BilledLine], payers: Payers, made_at: datetime) -> None:
    """Regroup what was paid until these lines are billed: one invoice for each customer, billing entity,
    instant and currency."""
    ending = [one for one in lines if one.reason in AT_THE_END_OF]
    groups: dict[tuple[tuple[UUID, UUID], datetime, str], list[tuple[BilledLine, list[Fee]]]] = defaultdict(list)
    fees = _paid_fees(db, {one.subscription.customer_id for one in ending})
    for line in ending:
        subscription = line.subscription
        left: list[Fee] = []
        mine: dict[UUID, list[Fee]] = defaultdict(list)
        for fee in fees.get((subscription.customer_id, subscription.external_id), ()):
            paid = fee.succeeded_at is not None and fee.succeeded_at <= line.billed_at
            (mine[fee.owning_subscription.id] if paid else left).append(fee)
        fees[subscription.customer_id, subscription.external_id] = left
        for subscription_id, of_one in mine.items():
            own = replace(line, subscription=replace(subscription, id=subscription_id))
            groups[subscription.payer_key, line.billed_at, of_one[0].currency].append((own, of_one))
    statements = [
        _Statement(payers[payer], billed_at, currency, parts) for (payer, billed_at, currency), parts in groups.items()
    ]
    _write(db, statements, made_at)


def _paid_fees(db: Session, customers: set[UUID]) -> dict[tuple[UUID, str], list[Fee]]:
    """The paid fees of these customers that wait for a statement, by customer and external subscription id."""
    found = db.scalars(
        select(Fee)
        .join(Fee.subscription)
        .join(Charge, Charge.id == Fee.charge_id)
        .where(
            among(Fee.customer_id, customers),
            Fee.invoice_id.is_(None),
            Fee.deleted_at.is_(None),
            Fee.payment_status == "succeeded",
            Charge.regroup_paid_fees == "invoice",
        )
        .options(contains_eager(Fee.subscription), selectinload(Fee.applied_taxes))
        .order_by(Subscription.started_at, Fee.created_at, Fee.position, Fee.id)
        .with_for_update(of=Fee)
    )
    fees: dict[tuple[UUID, str], list[Fee]] = defaultdict(list)
    for fee in found:
        fees[fee.customer_id, fee.owning_subscription.external_id].append(fee)
    return fees


def _write(db: Session, statements: Sequence[_Statement], made_at: datetime) -> None:
    if not statements:
        return
    rows, attached, payments = Rows(made_at), list[tuple[UUID, Fee, int]](), list[Payment]()
    numbers = next_numbers(db, [one.payer for one in statements], made_at)
    for one, (sequential_id, number) in zip(statements, numbers, strict=True):
        invoice_id = uuid4()
        _add(rows, one, invoice_id, sequential_id, number)
        attached += [(invoice_id, fee, position) for position, fee in enumerate(one.fees)]
        if one.paid_cents:
            payments.append(_payment(one, invoice_id, number, made_at))
    rows.copy(db)
    write_payments(db, payments, made_at)
    for invoice_id, fee, position in attached:
        fee.invoice_id, fee.position = invoice_id, position
    db.flush()


def _payment(statement: _Statement, invoice_id: UUID, number: str, made_at: datetime) -> Payment:
    """What was paid of the fees while they stood alone, as a payment of their invoice; it refers to its number."""
    return Payment(
        organization_id=statement.payer.organization_id,
        customer_id=statement.payer.customer_id,
        invoice_id=invoice_id,
        amount_cents=statement.paid_cents,
        currency=statement.currency,
        reference=number,
        created_at=made_at,
    )


def _add(rows: Rows, statement: _Statement, invoice_id: UUID, sequential_id: int, number: str) -> None:
    payer, fees = statement.payer, statement.fees
    amount = sum(fee.amount_cents for fee in fees)
    taxes = sum(fee.taxes_amount_cents for fee in fees)
    with exact():
        rate = round_half_up(Decimal(taxes) * 100 / amount, RATE_PLACES) if amount else Decimal(0)
    issuing_date = local_date(statement.billed_at, payer.tz)
    rows.add_invoice(
        id=invoice_id,
        organization_id=payer.organization_id,
        customer_id=payer.customer_id,
        billing_entity_id=payer.billing_entity_id,
        sequential_id=sequential_id,
        number=number,
        invoice_type="advance_charges",
        status="finalized",
        payment_status="succeeded",
        currency=statement.currency,
        timezone=payer.tz.key,
        issuing_date=issuing_date,
        expected_finalization_date=issuing_date,
        payment_due_date=issuing_date + timedelta(days=payer.net_payment_term),
        net_payment_term=payer.net_payment_term,
        fees_amount_cents=amount,
        progressive_billing_credit_amount_cents=0,
        coupons_amount_cents=0,
        taxes_amount_cents=taxes,
        taxes_rate=rate,
        sub_total_excluding_taxes_amount_cents=amount,
        sub_total_including_taxes_amount_cents=amount + taxes,
        credit_notes_amount_cents=0,
        prepaid_credit_amount_cents=0,
        prepaid_granted_credit_amount_cents=None,
        prepaid_purchased_credit_amount_cents=None,
        total_amount_cents=amount + taxes,
        total_paid_amount_cents=amount + taxes,
        purchase_order_number=None,
    )
    for position, (line, _) in enumerate(statement.parts):
        charges = line.boundaries.charges
        own = line.boundaries if charges is None else replace(line.boundaries, from_=charges.from_, to=charges.to)
        rows.add_period(replace(line, reason=REASON, boundaries=own), invoice_id, position)
    for of_tax in _by_tax(fees).values():
        tax, amounts = of_tax[0][1], [own.amount_cents for _, own in of_tax]
        applied = AppliedTax(tax.tax_id, tax.tax_code, tax.tax_name, tax.tax_description, tax.tax_rate)
        total = TaxLine(str(tax.tax_id), sum(amounts), sum(fee.amount_cents for fee, _ in of_tax))
        rows.add_invoice_tax(invoice_id, payer.organization_id, applied, total, statement.currency)


def _by_tax(fees: Sequence[Fee]) -> dict[tuple[UUID, Decimal], list[tuple[Fee, FeeTax]]]:
    """The fees of each tax, at each rate that it had."""
    by_tax: dict[tuple[UUID, Decimal], list[tuple[Fee, FeeTax]]] = defaultdict(list)
    for fee in fees:
        for tax in fee.applied_taxes:
            by_tax[tax.tax_id, tax.tax_rate].append((fee, tax))
    return by_tax
