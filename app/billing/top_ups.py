"""The invoices that prepaid credits are bought with, and what follows when they are paid (billing spec 7.3)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.billing.billed import Buyer
from app.billing.close import lock_customer, payer_of
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import next_numbers, write_invoices
from app.billing.wallet_balances import balance_of, put_in, take_out, write_outflows
from app.core.charges.fees import FeeAmounts
from app.core.periods import local_date
from app.core.wallets import spent
from app.models import BillingEntity, Customer, Invoice, Wallet, WalletTransaction

TOP_UP = "credit"
"""The type of these invoices and of their only fee."""


def invoice_top_ups(db: Session, purchases: Sequence[tuple[Wallet, WalletTransaction]], now: datetime) -> None:
    """Make the invoice of each purchase of credits: final at once, or open and invisible until it is paid. The caller holds
    the customers' rows."""
    theirs = select(Customer).where(Customer.id.in_({wallet.customer_id for wallet, _ in purchases}))
    customers = {one.id: one for one in db.scalars(theirs.options(joinedload(Customer.billing_entity)))}
    own = select(BillingEntity).where(BillingEntity.id.in_({wallet.billing_entity_id for wallet, _ in purchases}))
    issuers: dict[UUID | None, BillingEntity] = {one.id: one for one in db.scalars(own)}
    drafts = []
    for wallet, purchase in purchases:
        draft = InvoiceDraft(
            payer_of(customers[wallet.customer_id], issuers.get(wallet.billing_entity_id)),
            wallet.currency,
            now,
            purchase.purchase_order_number,
            other_fees=(_fee(wallet, purchase, now),),
            invoice_type=TOP_UP,
            paid_first=purchase.invoice_requires_successful_payment,
        )
        purchase.invoice_id = draft.id
        drafts.append(draft)
    write_invoices(db, drafts, now)


def settle_top_up(db: Session, invoice: Invoice, *, succeeded: bool, now: datetime) -> None:
    """Give the credits of a top-up invoice that has been paid, or note that it could not be; nothing for invoices of other
    types.

    Credits are given once. A payment that succeeds after one that failed still gives them; an invoice that was settled by
    a credit note gives none. An open invoice is made final, of the day on which it is paid. Locks the customer.
    """
    if invoice.invoice_type != TOP_UP or invoice.offset_amount_cents:
        return
    lock_customer(db, invoice.customer_id)
    purchase, wallet = purchase_of(db, invoice.id)
    if purchase.status == "settled":
        return
    if succeeded:
        put_in(wallet, purchase, now)
        if invoice.status == "open":
            _finalize(db, invoice, now)
    else:
        purchase.status = "failed"
        purchase.failed_at = purchase.updated_at = now
    db.flush()


def purchase_of(db: Session, invoice_id: UUID) -> tuple[WalletTransaction, Wallet]:
    """The purchase that an invoice is for, and its wallet, both locked."""
    row = db.execute(
        select(WalletTransaction, Wallet)
        .join(Wallet, Wallet.id == WalletTransaction.wallet_id)
        .where(WalletTransaction.invoice_id == invoice_id, WalletTransaction.transaction_status == "purchased")
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    return row[0], row[1]


def take_back_credits(db: Session, invoice: Invoice, amount_cents: int, note_id: UUID, now: datetime) -> None:
    """Void what a credit note refunds of a purchase: the credits that this money bought (billing spec 6.3). The caller
    holds the customer's row, and has seen that as much is left of the purchase."""
    purchase, wallet = purchase_of(db, invoice.id)
    going = spent(balance_of(wallet), amount_cents, wallet.rate_amount, wallet.currency)
    outflow = take_out(wallet, going, [purchase], now, transaction_status="voided", credit_note_id=note_id)
    write_outflows(db, [outflow], now)


def _finalize(db: Session, invoice: Invoice, now: datetime) -> None:
    customer = db.get_one(Customer, invoice.customer_id, options=[joinedload(Customer.billing_entity)])
    payer = payer_of(customer, db.get_one(BillingEntity, invoice.billing_entity_id))
    ((invoice.sequential_id, invoice.number),) = next_numbers(db, [payer], now)
    invoice.status = "finalized"
    invoice.issuing_date = invoice.expected_finalization_date = local_date(now, payer.tz)
    invoice.payment_due_date = invoice.issuing_date + timedelta(days=invoice.net_payment_term)
    invoice.updated_at = now


def _fee(wallet: Wallet, purchase: WalletTransaction, now: datetime) -> FeeDraft:
    amounts = FeeAmounts(
        units=purchase.credit_amount,
        amount_cents=purchase.amount_cents,
        precise_amount_cents=Decimal(purchase.amount_cents),
        precise_unit_amount=wallet.rate_amount,
        amount_details={},
    )
    return FeeDraft(
        id=uuid4(),
        buyer=Buyer(wallet.organization_id, wallet.customer_id, wallet.currency),
        subscription=None,
        item=FeeItem(
            fee_type=TOP_UP,
            id=purchase.id,
            code=TOP_UP,
            name=TOP_UP,
            description=None,
            display_name=purchase.name,
        ),
        amounts=amounts,
        from_=now,
        to=now,
        taxes=(),
        tax_amounts=tax_amounts(amounts, ()),
    )
