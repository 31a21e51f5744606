"""What follows when an invoice that sold prepaid credits is paid, fails, or is taken back (billing spec 6.3, 7.3)."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.billing.locks import lock_customer
from app.billing.numbering import next_numbers
from app.billing.payers import payer_of
from app.billing.wallet_balances import balance_of, put_in, take_out, write_outflows
from app.core.periods import local_date
from app.core.wallets import spent
from app.models import BillingEntity, Customer, Invoice, Wallet, WalletTransaction

TOP_UP = "credit"
"""The type of these invoices and of their only fee."""


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
            finalize_paid(db, invoice, now)
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


def finalize_paid(db: Session, invoice: Invoice, now: datetime) -> None:
    """Make an open invoice final, of the day on which it is paid (billing spec 7.3). The caller holds the customer."""
    customer = db.get_one(Customer, invoice.customer_id, options=[joinedload(Customer.billing_entity)])
    payer = payer_of(customer, db.get_one(BillingEntity, invoice.billing_entity_id))
    ((invoice.sequential_id, invoice.number),) = next_numbers(db, [payer], now)
    invoice.status = "finalized"
    invoice.issuing_date = invoice.expected_finalization_date = local_date(now, payer.tz)
    invoice.payment_due_date = invoice.issuing_date + timedelta(days=invoice.net_payment_term)
    invoice.updated_at = now
