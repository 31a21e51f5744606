"""`/api/v1/wallet_transactions`, and those of one wallet (billing spec 7.2, 7.4)."""

from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.customers import METADATA_FILTER
from app.api.given import Db, Now, Org, Paging, Running
from app.api.request import ExactRequest
from app.api.routes import get, post
from app.api.subscriptions import PaymentMethodInput, PaymentMethodObject
from app.api.wallet_rules import Note, NoteInput
from app.api.wallets import freshened
from app.api.wire import Opt, PageMeta, Str, changes, instant, instant_or_none, paginate
from app.billing.wallet_transactions import (
    STATUSES,
    TRANSACTION_STATUSES,
    TRANSACTION_TYPES,
    consumptions_of,
    create_transactions,
    credits_left,
    find_transaction,
    fundings_of,
    transactions_of,
)
from app.billing.wallets import find_wallet
from app.core.money import decimal_text, from_minor
from app.core.wallets import credits_of
from app.errors import Problems, invalid
from app.models import WalletConsumption, WalletTransaction
from app.validation import as_uuid, check_one_of


class WalletTransactionInput(Struct):
    """Amounts of credits are text; any other kind of value is refused, with a reason, where they are read."""

    wallet_id: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    paid_credits: Any = UNSET
    granted_credits: Any = UNSET
    voided_credits: Any = UNSET
    voided_transaction_id: Str | Opt | None = UNSET
    priority: int | Opt | None = UNSET
    invoice_requires_successful_payment: bool | Opt | None = UNSET
    ignore_paid_top_up_limits: bool | Opt | None = UNSET
    purchase_order_number: Str | Opt | None = UNSET
    invoice_custom_section: dict[str, Any] | Opt | None = UNSET
    payment_method: PaymentMethodInput | Opt | None = UNSET
    metadata: list[NoteInput] | Opt | None = UNSET


class WalletTransactionBody(Struct):
    wallet_transaction: WalletTransactionInput


class WalletTransactionObject(Struct, kw_only=True):
    lago_id: UUID
    lago_wallet_id: UUID
    lago_invoice_id: UUID | None
    lago_credit_note_id: UUID | None
    lago_voided_invoice_id: UUID | None
    status: str
    source: str
    transaction_status: str
    transaction_type: str
    amount: str
    credit_amount: str
    invoice_requires_successful_payment: bool
    metadata: list[Note]
    remaining_amount_cents: int | None
    remaining_credit_amount: str | None
    priority: int
    settled_at: str | None
    failed_at: str | None
    created_at: str
    name: str | None
    applied_invoice_custom_sections: list[Any] = []
    payment_method: PaymentMethodObject
    purchase_order_number: str | None


class WalletTransactionAnswer(Struct):
    wallet_transaction: WalletTransactionObject


class WalletTransactionsMade(Struct):
    wallet_transactions: list[WalletTransactionObject]


class WalletTransactionsAnswer(Struct):
    wallet_transactions: list[WalletTransactionObject]
    meta: PageMeta


class WalletFlowObject(Struct):
    """What of a top-up went out, with the transaction at the other end."""

    lago_id: UUID
    amount_cents: int
    credit_amount: str
    created_at: str
    wallet_transaction: WalletTransactionObject


class WalletConsumptionsAnswer(Struct):
    wallet_transaction_consumptions: list[WalletFlowObject]
    meta: PageMeta


class WalletFundingsAnswer(Struct):
    wallet_transaction_fundings: list[WalletFlowObject]
    meta: PageMeta


class PaymentUrlDetails(Struct):
    lago_customer_id: UUID
    lago_wallet_transaction_id: UUID
    external_customer_id: str
    payment_provider: str
    payment_url: str


class PaymentUrlAnswer(Struct):
    wallet_transaction_payment_details: PaymentUrlDetails


def transaction_object(transaction: WalletTransaction) -> WalletTransactionObject:
    """A transaction as it is on the wire; its wallet must be loaded."""
    left = transaction.remaining_amount_cents
    return WalletTransactionObject(
        lago_id=transaction.id,
        lago_wallet_id=transaction.wallet_id,
        lago_invoice_id=transaction.invoice_id,
        lago_credit_note_id=transaction.credit_note_id,
        lago_voided_invoice_id=transaction.voided_invoice_id,
        status=transaction.status,
        source=transaction.source,
        transaction_status=transaction.transaction_status,
        transaction_type=transaction.transaction_type,
        amount=decimal_text(from_minor(transaction.amount_cents, transaction.wallet.currency)),
        credit_amount=decimal_text(transaction.credit_amount),
        invoice_requires_successful_payment=transaction.invoice_requires_successful_payment,
        metadata=[Note(note["key"], note["value"]) for note in transaction.transaction_metadata],
        remaining_amount_cents=left,
        remaining_credit_amount=None if left is None else decimal_text(credits_left(transaction, transaction.wallet)),
        priority=transaction.priority,
        settled_at=instant_or_none(transaction.settled_at),
        failed_at=instant_or_none(transaction.failed_at),
        created_at=instant(transaction.created_at),
        name=transaction.name,
        payment_method=PaymentMethodObject(**(transaction.payment_method or {})),
        purchase_order_number=transaction.purchase_order_number,
    )


def _flow(consumption: WalletConsumption, other_end: WalletTransaction) -> WalletFlowObject:
    wallet = other_end.wallet
    return WalletFlowObject(
        consumption.id,
        consumption.amount_cents,
        decimal_text(credits_of(consumption.amount_cents, wallet.rate_amount, wallet.currency)),
        instant(consumption.created_at),
        transaction_object(other_end),
    )


class WalletTransactionController(Controller):
    path = "/wallet_transactions"
    tags = ["wallet_transactions"]
    opt = {"resource": "wallet_transaction"}

    @post()
    def create_wallet_transactions(
        self, data: WalletTransactionBody, db: Db, organization: Org, now: Now
    ) -> WalletTransactionsMade:
        """Sell, give or void credits of a wallet: one transaction for each amount. What is sold is invoiced, and can be
        spent once that has been paid."""
        made = create_transactions(db, organization.id, changes(data.wallet_transaction), now)
        found = [find_transaction(db, organization.id, one.id) for one in made]
        return WalletTransactionsMade([transaction_object(one) for one in found])

    @get("/{lago_id:str}")
    def get_wallet_transaction(self, lago_id: str, db: Db, organization: Org) -> WalletTransactionAnswer:
        """One transaction."""
        return WalletTransactionAnswer(transaction_object(find_transaction(db, organization.id, as_uuid(lago_id))))

    @post("/{lago_id:str}/payment_url")
    def wallet_transaction_payment_url(self, lago_id: str, db: Db, organization: Org) -> PaymentUrlAnswer:
        """Where a purchase can be paid. There are no payment providers, so this is always refused."""
        find_transaction(db, organization.id, as_uuid(lago_id))
        raise invalid("base", "no_linked_payment_provider")

    @get("/{lago_id:str}/consumptions")
    def list_consumptions(self, lago_id: str, db: Db, organization: Org, paging: Paging) -> WalletConsumptionsAnswer:
        """What of a top-up went out again, with the transactions that took it."""
        query = consumptions_of(find_transaction(db, organization.id, as_uuid(lago_id)))
        found, meta = paginate(db, query, paging)
        return WalletConsumptionsAnswer([_flow(one, one.outbound) for one in found], meta)

    @get("/{lago_id:str}/fundings")
    def list_fundings(self, lago_id: str, db: Db, organization: Org, paging: Paging) -> WalletFundingsAnswer:
        """The top-ups that what went out of a wallet came from, in the order in which they were used."""
        query = fundings_of(find_transaction(db, organization.id, as_uuid(lago_id)))
        found, meta = paginate(db, query, paging)
        return WalletFundingsAnswer([_flow(one, one.inbound) for one in found], meta)


class OneWalletTransactionController(Controller):
    path = "/wallets/{lago_id:str}/wallet_transactions"
    tags = ["wallet_transactions"]
    opt = {"resource": "wallet_transaction"}

    @get()
    def list_wallet_transactions(
        self,
        lago_id: str,
        *,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        status: str | None = None,
        transaction_type: str | None = None,
        transaction_status: str | None = None,
    ) -> WalletTransactionsAnswer:
        """The transactions of a wallet that pass all filters, newest first; also by `metadata[key]=value`."""
        problems = Problems()
        given = {"status": status, "transaction_type": transaction_type, "transaction_status": transaction_status}
        for field, allowed in (
            ("status", STATUSES),
            ("transaction_type", TRANSACTION_TYPES),
            ("transaction_status", TRANSACTION_STATUSES),
        ):
            check_one_of(problems, given, field, allowed)
        problems.check()
        matches = ((METADATA_FILTER(name), value) for name, value in request.query_params.items())
        wallet = find_wallet(db, organization.id, as_uuid(lago_id))
        freshened(db, service, organization, [wallet.customer_id], now)
        query = transactions_of(
            wallet,
            status=status,
            transaction_type=transaction_type,
            transaction_status=transaction_status,
            metadata={match[1]: value for match, value in matches if match},
        )
        found, meta = paginate(db, query, paging)
        return WalletTransactionsAnswer([transaction_object(one) for one in found], meta)
