"""`/api/v1/payment_requests` (billing spec 9.2)."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.customers import CustomerObject, customer_object
from app.api.given import Db, Now, Org, Paging
from app.api.invoice_objects import InvoiceBase, invoice_base
from app.api.routes import get, post
from app.api.wire import Opt, Page, PageMeta, Str, changes, instant, paginate
from app.billing.payment_requests import find_request, request_payment, search_requests
from app.billing.payment_status import PAYMENT_STATUSES
from app.customers.billing_entities import ids_of
from app.customers.customers import find_customer
from app.errors import Problems
from app.models import Invoice, PaymentRequest
from app.validation import as_uuid, check_one_of


class PaymentRequestInput(Struct):
    external_customer_id: Str | Opt | None = UNSET
    email: Str | Opt | None = UNSET
    lago_invoice_ids: list[Str] | Opt | None = UNSET
    payment_method: dict[str, Any] | Opt | None = UNSET


class PaymentRequestBody(Struct):
    payment_request: PaymentRequestInput


class PaymentRequestObject(Struct):
    lago_id: UUID
    email: str
    amount_cents: int
    amount_currency: str
    payment_status: str
    created_at: str
    customer: CustomerObject
    invoices: list[InvoiceBase]


class PaymentRequestAnswer(Struct):
    payment_request: PaymentRequestObject


class PaymentRequestsAnswer(Struct):
    payment_requests: list[PaymentRequestObject]
    meta: PageMeta


def _request_object(request: PaymentRequest) -> PaymentRequestObject:
    return PaymentRequestObject(
        lago_id=request.id,
        email=request.email,
        amount_cents=request.amount_cents,
        amount_currency=request.currency,
        payment_status=request.payment_status,
        created_at=instant(request.created_at),
        customer=customer_object(request.customer, extended=False),
        invoices=[InvoiceBase(**invoice_base(invoice)) for invoice in request.invoices],
    )


class PaymentRequestController(Controller):
    path = "/payment_requests"
    tags = ["payment_requests"]
    opt = {"resource": "payment_request"}

    @post()
    def request_payment(self, data: PaymentRequestBody, db: Db, organization: Org, now: Now) -> PaymentRequestAnswer:
        """Ask a customer for what is due of overdue invoices."""
        made = request_payment(db, organization.id, changes(data.payment_request), now)
        db.expire_all()
        return PaymentRequestAnswer(_request_object(find_request(db, organization.id, made.id)))

    @get()
    def list_payment_requests(
        self,
        db: Db,
        organization: Org,
        paging: Paging,
        external_customer_id: str | None = None,
        payment_status: str | None = None,
        currency: str | None = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
    ) -> PaymentRequestsAnswer:
        """The payment requests that pass all filters, latest first."""
        return _page(
            db,
            organization.id,
            paging,
            billing_entity_codes,
            external_customer_id=external_customer_id,
            payment_status=payment_status,
            currency=currency,
        )

    @get("/{lago_id:str}")
    def get_payment_request(self, lago_id: str, db: Db, organization: Org) -> PaymentRequestAnswer:
        """One payment request."""
        return PaymentRequestAnswer(_request_object(find_request(db, organization.id, as_uuid(lago_id))))


class CustomerPaymentRequestController(Controller):
    path = "/customers/{external_id:str}/payment_requests"
    tags = ["payment_requests"]
    opt = {"resource": "payment_request"}

    @get()
    def list_customer_payment_requests(
        self,
        external_id: str,
        db: Db,
        organization: Org,
        paging: Paging,
        payment_status: str | None = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
    ) -> PaymentRequestsAnswer:
        """The payment requests to a customer, latest first."""
        customer = find_customer(db, organization.id, external_id)
        return _page(
            db,
            organization.id,
            paging,
            billing_entity_codes,
            customer_id=customer.id,
            payment_status=payment_status,
        )


def _page(
    db: Session,
    organization_id: UUID,
    paging: Page,
    billing_entity_codes: list[str] | None,
    *,
    payment_status: str | None,
    **filters: Any,
) -> PaymentRequestsAnswer:
    problems = Problems()
    check_one_of(problems, {"payment_status": payment_status}, "payment_status", PAYMENT_STATUSES)
    problems.check()
    query = search_requests(organization_id, payment_status=payment_status, **filters)
    if billing_entity_codes is not None:
        issued = Invoice.billing_entity_id.in_(ids_of(organization_id, billing_entity_codes))
        query = query.where(PaymentRequest.invoices.any(issued))
    requests, meta = paginate(db, query, paging)
    return PaymentRequestsAnswer([_request_object(one) for one in requests], meta)
