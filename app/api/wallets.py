"""`/api/v1/wallets` and `/api/v1/customers/{external_id}/wallets` (billing spec 7.1, 7.7)."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.subscriptions import PaymentMethodInput, PaymentMethodObject
from app.api.wallet_rules import NoteInput, RuleInput, RuleObject, rule_object, rule_sent
from app.api.wire import Cents, Opt, PageMeta, Str, changes, instant, instant_or_none, paginate, parse_instant
from app.billing.ongoing_balances import freshen_balances
from app.billing.wallet_rules import FIELD, write_rules
from app.billing.wallet_transactions import read_initial_credits, top_up
from app.billing.wallets import (
    create_wallet,
    find_wallet,
    find_wallet_of,
    search_wallets,
    terminate_wallet,
    update_wallet,
)
from app.core.money import decimal_text
from app.core.top_up_rules import Amounts
from app.customers.customers import find_customer
from app.errors import NotFound, invalid
from app.models import Customer, Organization, Wallet
from app.service import Service
from app.validation import as_uuid

BillingEntityCodes = Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")]


class AppliesToInput(Struct):
    fee_types: list[Str] | Opt | None = UNSET
    billable_metric_codes: list[Str] | Opt | None = UNSET


class WalletInput(Struct):
    """Amounts of credits are text; any other kind of value is refused, with a reason, where they are read."""

    external_customer_id: Str | Opt | None = UNSET
    billing_entity_code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    priority: int | Opt | None = UNSET
    rate_amount: Any = UNSET
    currency: Str | Opt | None = UNSET
    paid_credits: Any = UNSET
    granted_credits: Any = UNSET
    expiration_at: Str | Opt | None = UNSET
    invoice_requires_successful_payment: bool | Opt | None = UNSET
    transaction_metadata: list[NoteInput] | Opt | None = UNSET
    transaction_name: Str | Opt | None = UNSET
    purchase_order_number: Str | Opt | None = UNSET
    applies_to: AppliesToInput | Opt | None = UNSET
    paid_top_up_min_amount_cents: Cents | Opt | None = UNSET
    paid_top_up_max_amount_cents: Cents | Opt | None = UNSET
    ignore_paid_top_up_limits_on_creation: bool | Opt | None = UNSET
    invoice_custom_section: dict[str, Any] | Opt | None = UNSET
    recurring_transaction_rules: list[RuleInput] | Opt | None = UNSET
    payment_method: PaymentMethodInput | Opt | None = UNSET
    metadata: dict[Str, Str | None] | Opt | None = UNSET


class WalletBody(Struct):
    wallet: WalletInput


class AppliesTo(Struct):
    fee_types: list[str]
    billable_metric_codes: list[str]


class WalletObject(Struct, kw_only=True):
    lago_id: UUID
    lago_customer_id: UUID
    external_customer_id: str
    billing_entity_code: str
    status: str
    currency: str
    name: str | None
    code: str
    priority: int
    rate_amount: str
    credits_balance: str
    balance_cents: int
    consumed_credits: str
    created_at: str
    expiration_at: str | None
    last_balance_sync_at: str | None
    last_consumed_credit_at: str | None
    terminated_at: str | None
    invoice_requires_successful_payment: bool
    applies_to: AppliesTo
    recurring_transaction_rules: list[RuleObject]
    ongoing_balance_cents: int
    ongoing_usage_balance_cents: int
    credits_ongoing_balance: str
    credits_ongoing_usage_balance: str
    paid_top_up_min_amount_cents: int | None
    paid_top_up_max_amount_cents: int | None
    applied_invoice_custom_sections: list[Any] = []
    payment_method: PaymentMethodObject
    purchase_order_number: str | None
    metadata: dict[str, str | None]


class WalletAnswer(Struct):
    wallet: WalletObject


class WalletsAnswer(Struct):
    wallets: list[WalletObject]
    meta: PageMeta


def wallet_object(wallet: Wallet) -> WalletObject:
    """A wallet as it is on the wire; what `WALLET_PARTS` names must be loaded."""
    return WalletObject(
        lago_id=wallet.id,
        lago_customer_id=wallet.customer_id,
        external_customer_id=wallet.customer.external_id,
        billing_entity_code=wallet.issuer.code,
        status=wallet.status,
        currency=wallet.currency,
        name=wallet.name,
        code=wallet.code,
        priority=wallet.priority,
        rate_amount=decimal_text(wallet.rate_amount),
        credits_balance=decimal_text(wallet.credits_balance),
        balance_cents=wallet.balance_cents,
        consumed_credits=decimal_text(wallet.consumed_credits),
        created_at=instant(wallet.created_at),
        expiration_at=instant_or_none(wallet.expiration_at),
        last_balance_sync_at=instant_or_none(wallet.last_balance_sync_at),
        last_consumed_credit_at=instant_or_none(wallet.last_consumed_credit_at),
        terminated_at=instant_or_none(wallet.terminated_at),
        invoice_requires_successful_payment=wallet.invoice_requires_successful_payment,
        applies_to=AppliesTo(wallet.fee_types, [metric.code for metric in wallet.metrics]),
        recurring_transaction_rules=[rule_object(rule) for rule in wallet.rules],
        ongoing_balance_cents=wallet.ongoing_balance_cents,
        ongoing_usage_balance_cents=wallet.ongoing_usage_balance_cents,
        credits_ongoing_balance=decimal_text(wallet.credits_ongoing_balance),
        credits_ongoing_usage_balance=decimal_text(wallet.credits_ongoing_usage_balance),
        paid_top_up_min_amount_cents=wallet.paid_top_up_min_amount_cents,
        paid_top_up_max_amount_cents=wallet.paid_top_up_max_amount_cents,
        payment_method=PaymentMethodObject(**(wallet.payment_method or {})),
        purchase_order_number=wallet.purchase_order_number,
        metadata=wallet.wallet_metadata or {},
    )


class WalletController(Controller):
    path = "/wallets"
    tags = ["wallets"]
    opt = {"resource": "wallet"}

    @post()
    def create_wallet(self, data: WalletBody, db: Db, service: Running, organization: Org, now: Now) -> WalletAnswer:
        """Make a wallet. It is shown empty; the credits that it is made with are there for the next request."""
        external_id = data.wallet.external_customer_id
        try:
            customer = find_customer(db, organization.id, str(external_id or ""), lock=True)
        except NotFound:
            raise invalid("customer", "customer_not_found") from None
        return _create(db, service, organization, customer, data, now)

    @get()
    def list_wallets(
        self,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        external_customer_id: str | None = None,
        currency: str | None = None,
        billing_entity_codes: BillingEntityCodes = None,
    ) -> WalletsAnswer:
        """The wallets that pass all filters, newest first."""
        return _list(db, service, organization, now, paging, external_customer_id, currency, billing_entity_codes)

    @get("/{lago_id:str}")
    def get_wallet(self, lago_id: str, db: Db, service: Running, organization: Org, now: Now) -> WalletAnswer:
        """One wallet."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id))
        if freshened(db, service, organization, [wallet.customer_id], now):
            wallet = find_wallet(db, organization.id, wallet.id)
        return WalletAnswer(wallet_object(wallet))

    @put("/{lago_id:str}")
    def update_wallet(self, lago_id: str, data: WalletBody, db: Db, organization: Org, now: Now) -> WalletAnswer:
        """Change a wallet that is active. Its rate and currency stay."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        sent = _sent(data)
        update_wallet(db, wallet, sent, now)
        write_rules(db, wallet, sent, now)
        return WalletAnswer(wallet_object(wallet))

    @delete("/{lago_id:str}")
    def terminate_wallet(self, lago_id: str, db: Db, organization: Org, now: Now) -> WalletAnswer:
        """End a wallet. What is left in it can no longer be spent."""
        wallet = find_wallet(db, organization.id, as_uuid(lago_id), lock=True)
        terminate_wallet(db, wallet, now)
        return WalletAnswer(wallet_object(wallet))


class CustomerWalletController(Controller):
    path = "/customers/{external_id:str}/wallets"
    tags = ["wallets"]
    opt = {"resource": "wallet"}

    @post()
    def create_customer_wallet(
        self, external_id: str, data: WalletBody, db: Db, service: Running, organization: Org, now: Now
    ) -> WalletAnswer:
        """Make a wallet. It is shown empty; the credits that it is made with are there for the next request."""
        customer = find_customer(db, organization.id, external_id, lock=True)
        return _create(db, service, organization, customer, data, now)

    @get()
    def list_customer_wallets(
        self,
        external_id: str,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        currency: str | None = None,
        billing_entity_codes: BillingEntityCodes = None,
    ) -> WalletsAnswer:
        """A customer's wallets, newest first."""
        customer = find_customer(db, organization.id, external_id)
        return _list(db, service, organization, now, paging, customer.external_id, currency, billing_entity_codes)

    @get("/{code:str}")
    def get_customer_wallet(
        self, external_id: str, code: str, db: Db, service: Running, organization: Org, now: Now
    ) -> WalletAnswer:
        """One wallet of a customer, by its code: the active one, else the one that ended last."""
        customer = find_customer(db, organization.id, external_id)
        freshened(db, service, organization, [customer.id], now)
        return WalletAnswer(wallet_object(find_wallet_of(db, customer, named(code))))

    @put("/{code:str}")
    def update_customer_wallet(
        self, external_id: str, code: str, data: WalletBody, db: Db, organization: Org, now: Now
    ) -> WalletAnswer:
        """Change a wallet that is active. Its rate and currency stay."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        sent = _sent(data)
        update_wallet(db, wallet, sent, now)
        write_rules(db, wallet, sent, now)
        return WalletAnswer(wallet_object(wallet))

    @delete("/{code:str}")
    def terminate_customer_wallet(
        self, external_id: str, code: str, db: Db, organization: Org, now: Now
    ) -> WalletAnswer:
        """End a wallet. What is left in it can no longer be spent."""
        wallet = find_wallet_of(db, find_customer(db, organization.id, external_id), named(code), lock=True)
        terminate_wallet(db, wallet, now)
        return WalletAnswer(wallet_object(wallet))


def freshened(
    db: Session, service: Service, organization: Organization, customer_ids: Collection[UUID], now: datetime
) -> bool:
    """Bring the wallets of customers up to date with all that has come so far. True where any was not: what had been loaded
    of them must be read anew."""
    service.wait_until_readable(organization.id)
    return freshen_balances(db, service.meter, service.price_book, organization, customer_ids, now)


def _sent(data: WalletBody) -> dict[str, Any]:
    """The keys that were sent, with instants read."""
    sent = changes(data.wallet)
    if sent.get("expiration_at"):
        sent["expiration_at"] = parse_instant(sent["expiration_at"], "expiration_at")
    elif "expiration_at" in sent:
        sent["expiration_at"] = None
    if sent.get(FIELD):
        sent[FIELD] = [rule_sent(rule) for rule in sent[FIELD]]
    return sent


def _create(
    db: Session, service: Service, organization: Organization, customer: Customer, data: WalletBody, now: Now
) -> WalletAnswer:
    sent = _sent(data)
    wallet = create_wallet(db, organization, customer, sent, now, most=service.settings.max_wallets)
    initial = read_initial_credits(sent, wallet.rate_amount, wallet.currency)
    write_rules(db, wallet, sent, now, Amounts(initial.paid_credits, initial.granted_credits))
    answer = WalletAnswer(wallet_object(wallet))
    top_up(db, wallet, initial, now)
    return answer


def _list(
    db: Session,
    service: Service,
    organization: Organization,
    now: datetime,
    paging: Paging,
    external_customer_id: str | None,
    currency: str | None,
    billing_entity_codes: list[str] | None,
) -> WalletsAnswer:
    query = search_wallets(
        organization.id,
        external_customer_id=external_customer_id,
        currency=currency,
        billing_entity_codes=billing_entity_codes,
    )
    found, meta = paginate(db, query, paging)
    if freshened(db, service, organization, {wallet.customer_id for wallet in found}, now):
        found, meta = paginate(db, query, paging)
    return WalletsAnswer([wallet_object(wallet) for wallet in found], meta)
