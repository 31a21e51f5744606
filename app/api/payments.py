"""`/api/v1/payments` and `/api/v1/payment_receipts` (billing spec 9.3, 9.5)."""

from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import get, post
from app.api.wire import Opt, PageMeta, Str, changes, instant, paginate, parse_instant
from app.billing.payments import (
    find_payment,
    find_receipt,
    record_payment,
    search_payments,
    search_receipts,
)
from app.customers.customers import find_customer
from app.models import Payment, PaymentReceipt
from app.validation import as_uuid


class PaymentInput(Struct):
    invoice_id: Str | Opt | None = UNSET
    amount_cents: int | Opt | None = UNSET
    reference: Str | Opt | None = UNSET
    paid_at: Str | Opt | None = UNSET


class PaymentBody(Struct):
    payment: PaymentInput


class PaymentObject(Struct, kw_only=True):
    lago_id: UUID
    lago_customer_id: UUID
    external_customer_id: str
    invoice_ids: list[UUID]
    invoice_numbers: list[str]
    lago_payable_id: UUID
    payable_type: str = "Invoice"
    amount_cents: int
    amount_currency: str
    status: str = "succeeded"
    payment_status: str = "succeeded"
    type: str = "manual"
    reference: str
    payment_provider_code: str | None = None
    payment_provider_type: str | None = None
    external_payment_id: str | None = None
    provider_payment_id: str | None = None
    provider_customer_id: str | None = None
    payment_method_id: UUID | None = None
    next_action: dict[str, Any] = {}
    created_at: str


class PaymentAnswer(Struct):
    payment: PaymentObject


class PaymentsAnswer(Struct):
    payments: list[PaymentObject]
    meta: PageMeta


class ReceiptObject(Struct, kw_only=True):
    lago_id: UUID
    number: str
    file_url: str | None = None
    xml_url: str | None = None
    payment: PaymentObject
    created_at: str


class ReceiptAnswer(Struct):
    payment_receipt: ReceiptObject


class ReceiptsAnswer(Struct):
    payment_receipts: list[ReceiptObject]
    meta: PageMeta


def payment_object(payment: Payment) -> PaymentObject:
    """A payment as it is on the wire; what `PAYMENT_PARTS` names must be loaded."""
    return PaymentObject(
        lago_id=payment.id,
        lago_customer_id=payment.customer_id,
        external_customer_id=payment.customer.external_id,
        invoice_ids=[payment.invoice_id],
        invoice_numbers=[payment.invoice.number or ""],
        lago_payable_id=payment.invoice_id,
        amount_cents=payment.amount_cents,
        amount_currency=payment.currency,
        reference=payment.reference,
        created_at=instant(payment.created_at),
    )


def _receipt_object(receipt: PaymentReceipt) -> ReceiptObject:
    return ReceiptObject(
        lago_id=receipt.id,
        number=receipt.number,
        payment=payment_object(receipt.payment),
        created_at=instant(receipt.created_at),
    )


class PaymentController(Controller):
    path = "/payments"
    tags = ["payments"]
    opt = {"resource": "payment"}

    @post()
    def record_payment(self, data: PaymentBody, db: Db, service: Running, organization: Org, now: Now) -> PaymentAnswer:
        """Note that an invoice, or a part of it, was paid."""
        sent = changes(data.payment)
        if sent.get("paid_at"):
            sent["paid_at"] = parse_instant(sent["paid_at"], "paid_at")
        service.wait_until_readable(organization.id)
        payment = record_payment(db, organization.id, sent, now, service.billing_meter)
        return PaymentAnswer(payment_object(find_payment(db, organization.id, payment.id)))

    @get()
    def list_payments(
        self,
        db: Db,
        organization: Org,
        paging: Paging,
        invoice_id: str | None = None,
        external_customer_id: str | None = None,
        currency: str | None = None,
    ) -> PaymentsAnswer:
        """The payments that pass all filters, latest first."""
        query = search_payments(
            organization.id, invoice_id=invoice_id, external_customer_id=external_customer_id, currency=currency
        )
        payments, meta = paginate(db, query, paging)
        return PaymentsAnswer([payment_object(payment) for payment in payments], meta)

    @get("/{lago_id:str}")
    def get_payment(self, lago_id: str, db: Db, organization: Org) -> PaymentAnswer:
        """One payment."""
        return PaymentAnswer(payment_object(find_payment(db, organization.id, as_uuid(lago_id))))


class CustomerPaymentController(Controller):
    path = "/customers/{external_id:str}/payments"
    tags = ["payments"]
    opt = {"resource": "payment"}

    @get()
    def list_customer_payments(
        self, external_id: str, db: Db, organization: Org, paging: Paging, invoice_id: str | None = None
    ) -> PaymentsAnswer:
        """A customer's payments, latest first."""
        customer = find_customer(db, organization.id, external_id)
        query = search_payments(organization.id, invoice_id=invoice_id, customer_id=customer.id)
        payments, meta = paginate(db, query, paging)
        return PaymentsAnswer([payment_object(payment) for payment in payments], meta)


class PaymentReceiptController(Controller):
    path = "/payment_receipts"
    tags = ["payment_receipts"]
    opt = {"resource": "payment_receipt"}

    @get()
    def list_receipts(self, db: Db, organization: Org, paging: Paging, invoice_id: str | None = None) -> ReceiptsAnswer:
        """The receipts of all payments, or of an invoice's, latest first."""
        receipts, meta = paginate(db, search_receipts(organization.id, invoice_id=invoice_id), paging)
        return ReceiptsAnswer([_receipt_object(receipt) for receipt in receipts], meta)

    @get("/{lago_id:str}")
    def get_receipt(self, lago_id: str, db: Db, organization: Org) -> ReceiptAnswer:
        """The receipt of one payment."""
        return ReceiptAnswer(_receipt_object(find_receipt(db, organization.id, as_uuid(lago_id))))
