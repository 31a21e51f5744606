"""The invoices that prepaid credits are bought with (billing spec 7.3)."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.billing.billed import Buyer
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import write_invoices
from app.billing.payers import payer_of
from app.billing.purchases import TOP_UP
from app.core.charges.fees import FeeAmounts
from app.models import BillingEntity, Customer, Wallet, WalletTransaction


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
