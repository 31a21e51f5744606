"""`/api/v1/invoices/{lago_id}/…`: an invoice given up, or asked for again (billing spec 3.6, 3.7)."""

from typing import Any
from uuid import UUID

from litestar import Controller, Response
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.given import Db, Now, Org
from app.api.invoice_objects import InvoiceAnswer, whole_invoice
from app.api.routes import post, put
from app.api.wire import Cents, Opt, changes
from app.billing.issued import find_invoice, lock_invoice, lose_dispute
from app.billing.payments import payment_url, retry_payment
from app.billing.voids import void_invoice
from app.models import Organization
from app.validation import as_uuid


class VoidInput(Struct):
    generate_credit_note: bool | Opt | None = UNSET
    credit_amount: Cents | Opt | None = UNSET
    refund_amount: Cents | Opt | None = UNSET


class RetryInput(Struct):
    payment_method: dict[str, Any] | Opt | None = UNSET


class PaymentUrlObject(Struct):
    lago_customer_id: UUID
    external_customer_id: str
    payment_provider: str
    lago_invoice_id: UUID
    payment_url: str


class PaymentUrlAnswer(Struct):
    invoice_payment_details: PaymentUrlObject


class CollectionController(Controller):
    path = "/invoices/{lago_id:str}"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @post("/void")
    def void_invoice(
        self, lago_id: str, db: Db, organization: Org, now: Now, data: VoidInput | None = None
    ) -> InvoiceAnswer:
        """Void an invoice: it keeps its number and is not to be paid any more. With `generate_credit_note` a part of it is
        given back."""
        sent = {} if data is None else changes(data)
        invoice = void_invoice(db, organization.id, as_uuid(lago_id), sent, now)
        return InvoiceAnswer(whole_invoice(invoice, now))

    @post("/lose_dispute")
    def lose_dispute(self, lago_id: str, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """Note that the customer has won a dispute about an invoice."""
        return _lost(db, organization, lago_id, now)

    @put("/lose_dispute")
    def put_lost_dispute(self, lago_id: str, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """The same as POST: clients send both."""
        return _lost(db, organization, lago_id, now)

    @post("/retry_payment")
    def retry_payment(
        self,
        lago_id: str,
        db: Db,
        organization: Org,
        data: RetryInput | None = None,  # noqa: ARG002 (no provider is asked)
    ) -> Response[bytes]:
        """Ask a provider of payments once more. There is none, so nothing happens; the answer has no body."""
        retry_payment(find_invoice(db, organization.id, as_uuid(lago_id)))
        return Response(b"", media_type="application/json")

    @post("/payment_url")
    def payment_url(self, lago_id: str, db: Db, organization: Org) -> PaymentUrlAnswer:
        """Where to pay an invoice. Without a provider of payments it is always refused."""
        return payment_url(find_invoice(db, organization.id, as_uuid(lago_id)))


def _lost(db: Session, organization: Organization, lago_id: str, now: Now) -> InvoiceAnswer:
    invoice = lock_invoice(db, organization.id, as_uuid(lago_id))
    lose_dispute(invoice, now)
    db.flush()
    return InvoiceAnswer(whole_invoice(invoice, now))
