"""The books of an organization's customers, kept once more from what was stored: double entry, in whole minor units.

It shares nothing with the ledger of the service: every document is posted to accounts here, debits and credits, and what
the accounts come to is held against the balances that are stored.
"""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from app.models import Credit, CreditNote, Invoice, Payment, Wallet, WalletConsumption, WalletTransaction

BOOKED = ("finalized", "voided")


class Books:
    """The accounts of each customer: what is above zero is a debit."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[UUID, str], int] = defaultdict(int)

    def post(self, customer_id: UUID, **amounts: int) -> None:
        """A document: its debits and credits are equal."""
        assert sum(amounts.values()) == 0, amounts
        for account, amount in amounts.items():
            self.accounts[customer_id, account] += amount

    def of(self, account: str) -> dict[UUID, int]:
        """What an account comes to, where it is not zero."""
        return {customer: cents for (customer, name), cents in self.accounts.items() if name == account and cents}


def check_books(db: Session, organization_id: UUID) -> Books:
    """Post everything, and hold what it comes to against what is stored of each customer: what is due, what credit notes
    and wallets hold."""
    books = Books()
    invoices = db.scalars(
        select(Invoice)
        .where(Invoice.organization_id == organization_id, Invoice.status.in_(BOOKED))
        .options(selectinload(Invoice.fees), selectinload(Invoice.credits))
    ).all()
    notes = db.scalars(
        select(CreditNote).where(CreditNote.organization_id == organization_id, CreditNote.status == "finalized")
    ).all()
    moves = db.execute(
        select(WalletTransaction, Wallet.customer_id)
        .join(Wallet, Wallet.id == WalletTransaction.wallet_id)
        .where(Wallet.organization_id == organization_id, WalletTransaction.status == "settled")
    ).all()
    spent: dict[UUID | None, int] = defaultdict(int)
    for move, _ in moves:
        if move.transaction_status == "invoiced":
            spent[move.invoice_id] += move.amount_cents
    for invoice in invoices:
        credited = _sums(invoice.credits)
        total = sum(fee.amount_cents for fee in invoice.fees) + invoice.taxes_amount_cents
        books.post(
            invoice.customer_id,
            receivable=total - sum(credited.values()) - spent[invoice.id],
            discounts=credited["coupon"] + credited["progressive"],
            notes=credited["note"],
            prepaid=spent[invoice.id],
            income=invoice.taxes_amount_cents - total,
            taxes=-invoice.taxes_amount_cents,
        )
    for payment in db.scalars(select(Payment).where(Payment.organization_id == organization_id)):
        books.post(payment.customer_id, cash=payment.amount_cents, receivable=-payment.amount_cents)
    for note in notes:
        books.post(
            note.customer_id,
            returned=note.sub_total_excluding_taxes_amount_cents,
            taxes=note.taxes_amount_cents,
            notes=-note.credit_amount_cents,
            refunds=-note.refund_amount_cents,
            receivable=-note.offset_amount_cents,
        )
    for move, customer_id in moves:
        if move.transaction_type == "inbound":
            books.post(customer_id, prepaid=-move.amount_cents, sold_or_given=move.amount_cents)
        elif move.transaction_status == "voided":
            books.post(customer_id, prepaid=move.amount_cents, forfeited=-move.amount_cents)
    _check_balances(db, organization_id, books, invoices, notes)
    return books


def _check_balances(
    db: Session, organization_id: UUID, books: Books, invoices: Iterable[Invoice], notes: Iterable[CreditNote]
) -> None:
    """What is written off of voided invoices and notes, and then the balances."""
    due: dict[UUID, int] = defaultdict(int)
    for invoice in invoices:
        owed = invoice.total_amount_cents - invoice.total_paid_amount_cents - invoice.offset_amount_cents
        if invoice.status == "voided":
            books.post(invoice.customer_id, receivable=-owed, written_off=owed)
        due[invoice.customer_id] += invoice.total_due_amount_cents
    assert books.of("receivable") == _filled(due)
    taken: dict[UUID | None, int] = defaultdict(int)
    for credit in db.scalars(select(Credit).where(Credit.organization_id == organization_id)):
        taken[credit.credit_note_id] += credit.amount_cents
    held: dict[UUID, int] = defaultdict(int)
    for note in notes:
        if note.credit_status == "voided":
            gone = note.credit_amount_cents - taken[note.id]
            books.post(note.customer_id, notes=gone, written_off=-gone)
        held[note.customer_id] -= note.balance_amount_cents
    assert books.of("notes") == _filled(held)
    purses: dict[UUID, int] = defaultdict(int)
    for wallet in db.scalars(select(Wallet).where(Wallet.organization_id == organization_id)):
        purses[wallet.customer_id] -= wallet.balance_cents
    assert books.of("prepaid") == _filled(purses)
    drawn: dict[UUID, int] = defaultdict(int)
    for one in db.scalars(select(WalletConsumption).where(WalletConsumption.organization_id == organization_id)):
        drawn[one.inbound_id] += one.amount_cents
    inbound = select(WalletTransaction).where(WalletTransaction.transaction_type == "inbound")
    for move in db.scalars(inbound.where(WalletTransaction.organization_id == organization_id)):
        assert 0 <= drawn[move.id] == move.amount_cents - (move.remaining_amount_cents or 0) or move.status != "settled"
    assert sum(books.accounts.values()) == 0


def _sums(credits_: Iterable[Credit]) -> dict[str, int]:
    sums = {"coupon": 0, "progressive": 0, "note": 0}
    for one in credits_:
        kind = "coupon" if one.applied_coupon_id else "note" if one.credit_note_id else "progressive"
        sums[kind] += one.amount_cents
    return sums


def _filled(amounts: dict[UUID, int]) -> dict[UUID, int]:
    return {customer: cents for customer, cents in amounts.items() if cents}
