"""`/api/v1/invoices` (billing spec 3.9, 11.6)."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy import false

from app.api.given import Db, Now, Org, Paging, Running
from app.api.invoice_objects import InvoiceAnswer, InvoiceListed, InvoicesAnswer, invoice_listed, whole_invoice
from app.api.request import ExactRequest
from app.api.routes import delete, get, post, put
from app.api.wire import Cents, Opt, Str, changes, paginate, parse_instant
from app.billing.drafts import delete_draft, finalize_invoice, refresh_invoice, retry_invoice
from app.billing.issued import (
    INVOICE_TYPES,
    PAYABLE,
    SETTLEMENTS,
    STATUSES,
    VISIBLE,
    find_invoice,
    lock_invoice,
    search_invoices,
    update_invoice,
)
from app.billing.one_off import sell
from app.billing.payment_status import PAYMENT_STATUSES
from app.customers.customers import find_customer
from app.errors import Invalid, Problems, invalid
from app.validation import as_uuid

METADATA = re.compile(r"metadata\[(.+)\]").fullmatch


class MetadataInput(Struct):
    id: Str | Opt | None = UNSET
    key: Str | Opt | None = UNSET
    value: Str | Opt | None = UNSET


class OneOffFeeInput(Struct):
    add_on_code: Str | Opt | None = UNSET
    unit_amount_cents: Cents | Opt | None = UNSET
    units: Decimal | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    from_datetime: Str | Opt | None = UNSET
    to_datetime: Str | Opt | None = UNSET


class OneOffInput(Struct):
    external_customer_id: Str | Opt | None = UNSET
    currency: Str | Opt | None = UNSET
    billing_entity_code: Str | Opt | None = UNSET
    purchase_order_number: Str | Opt | None = UNSET
    fees: list[OneOffFeeInput] | Opt | None = UNSET


class OneOffBody(Struct):
    invoice: OneOffInput


class InvoiceInput(Struct):
    payment_status: Str | Opt | None = UNSET
    metadata: list[MetadataInput] | Opt | None = UNSET


class InvoiceBody(Struct):
    invoice: InvoiceInput


class InvoiceController(Controller):
    path = "/invoices"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @post()
    def sell_add_ons(self, data: OneOffBody, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """Invoice add-ons to a customer at once, outside of any subscription."""
        sent = changes(data.invoice)
        sent["fees"] = [_dated(fee) for fee in sent.get("fees") or ()]
        invoice_id = sell(db, organization.id, sent, now)
        db.expire_all()
        return InvoiceAnswer(whole_invoice(find_invoice(db, organization.id, invoice_id), now))

    @get()
    def list_invoices(
        self,
        *,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        external_customer_id: str | None = None,
        amount_from: int | None = None,
        amount_to: int | None = None,
        issuing_date_from: str | None = None,
        issuing_date_to: str | None = None,
        status: str | None = None,
        statuses: Annotated[list[str] | None, Parameter(query="statuses[]")] = None,
        payment_status: str | None = None,
        payment_statuses: Annotated[list[str] | None, Parameter(query="payment_statuses[]")] = None,
        payment_overdue: bool | None = None,
        payment_dispute_lost: bool | None = None,
        partially_paid: bool | None = None,
        settlements: Annotated[list[str] | None, Parameter(query="settlements[]")] = None,
        invoice_type: str | None = None,
        currency: str | None = None,
        self_billed: bool | None = None,
        search_term: str | None = None,
        purchase_order_number: str | None = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
    ) -> InvoicesAnswer:
        """The invoices that pass all filters, latest issuing date first."""
        service.wait_until_readable(organization.id)
        query = search_invoices(
            organization.id,
            external_customer_id=external_customer_id,
            **_filters(
                request,
                status=_all(status, statuses),
                payment_status=_all(payment_status, payment_statuses),
                invoice_type=_all(invoice_type, None),
                settlements=settlements or [],
            ),
            amount_from=amount_from,
            amount_to=amount_to,
            issuing_date_from=_date(issuing_date_from),
            issuing_date_to=_date(issuing_date_to),
            payment_overdue=payment_overdue,
            payment_dispute_lost=payment_dispute_lost,
            partially_paid=partially_paid,
            currency=currency,
            search_term=search_term,
            purchase_order_number=purchase_order_number,
            billing_entity_codes=billing_entity_codes,
        )
        if self_billed:
            query = query.where(false())
        invoices, meta = paginate(db, query, paging)
        return InvoicesAnswer([InvoiceListed(**invoice_listed(invoice)) for invoice in invoices], meta)

    @get("/{lago_id:str}")
    def get_invoice(self, lago_id: str, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """One invoice with its fees."""
        return InvoiceAnswer(whole_invoice(find_invoice(db, organization.id, as_uuid(lago_id)), now))

    @put("/{lago_id:str}")
    def update_invoice(
        self, lago_id: str, data: InvoiceBody, db: Db, service: Running, organization: Org, now: Now
    ) -> InvoiceAnswer:
        """Note how an invoice's payment stands, or write its metadata."""
        service.wait_until_readable(organization.id)
        invoice = lock_invoice(db, organization.id, as_uuid(lago_id), PAYABLE)
        update_invoice(db, invoice, changes(data.invoice), now, service.billing_meter)
        db.flush()
        db.expire_all()  # what follows from a payment has changed more than the invoice
        return InvoiceAnswer(whole_invoice(find_invoice(db, organization.id, invoice.id, (*STATUSES, *PAYABLE)), now))

    @put("/{lago_id:str}/refresh")
    def refresh_invoice(self, lago_id: str, db: Db, service: Running, organization: Org, now: Now) -> InvoiceAnswer:
        """Make a draft anew, with the usage and the prices that there are now. Any other invoice is returned as it is."""
        service.wait_until_readable(organization.id)
        meter = service.billing_meter
        return InvoiceAnswer(whole_invoice(refresh_invoice(db, organization.id, as_uuid(lago_id), now, meter), now))

    @put("/{lago_id:str}/finalize")
    def finalize_invoice(self, lago_id: str, db: Db, service: Running, organization: Org, now: Now) -> InvoiceAnswer:
        """Make a draft final before its grace period ends: it is made anew, takes the customer's credits and gets its
        number."""
        service.wait_until_readable(organization.id)
        meter = service.billing_meter
        return InvoiceAnswer(whole_invoice(finalize_invoice(db, organization.id, as_uuid(lago_id), now, meter), now))

    @post("/{lago_id:str}/retry")
    def retry_invoice(self, lago_id: str, db: Db, service: Running, organization: Org, now: Now) -> InvoiceAnswer:
        """Make a failed invoice again. Where it fails again, it says why."""
        service.wait_until_readable(organization.id)
        meter = service.billing_meter
        return InvoiceAnswer(whole_invoice(retry_invoice(db, organization.id, as_uuid(lago_id), now, meter), now))

    @delete("/{lago_id:str}")
    def remove_invoice(self, lago_id: str, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """Delete a draft. The periods that it is for are not billed again."""
        return InvoiceAnswer(whole_invoice(delete_draft(db, organization.id, as_uuid(lago_id), now), now))


class CustomerInvoiceController(Controller):
    path = "/customers/{external_id:str}/invoices"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @get()
    def list_customer_invoices(
        self,
        *,
        external_id: str,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        amount_from: int | None = None,
        amount_to: int | None = None,
        issuing_date_from: str | None = None,
        issuing_date_to: str | None = None,
        status: str | None = None,
        payment_status: str | None = None,
        payment_overdue: bool | None = None,
        payment_dispute_lost: bool | None = None,
        partially_paid: bool | None = None,
        invoice_type: str | None = None,
        self_billed: bool | None = None,
        search_term: str | None = None,
    ) -> InvoicesAnswer:
        """A customer's invoices, latest issuing date first."""
        service.wait_until_readable(organization.id)
        customer = find_customer(db, organization.id, external_id)
        query = search_invoices(
            organization.id,
            customer_id=customer.id,
            **_filters(
                request,
                status=_all(status, None),
                payment_status=_all(payment_status, None),
                invoice_type=_all(invoice_type, None),
                settlements=[],
            ),
            amount_from=amount_from,
            amount_to=amount_to,
            issuing_date_from=_date(issuing_date_from),
            issuing_date_to=_date(issuing_date_to),
            payment_overdue=payment_overdue,
            payment_dispute_lost=payment_dispute_lost,
            partially_paid=partially_paid,
            search_term=search_term,
        )
        if self_billed:
            query = query.where(false())
        invoices, meta = paginate(db, query, paging)
        return InvoicesAnswer([InvoiceListed(**invoice_listed(invoice)) for invoice in invoices], meta)


def _dated(fee: dict[str, Any]) -> dict[str, Any]:
    """A fee with instants for its boundaries."""
    try:
        bounds = {name: parse_instant(fee[name], name) for name in ("from_datetime", "to_datetime") if fee.get(name)}
    except Invalid:
        raise invalid("boundaries", "values_are_invalid") from None
    return {**fee, "from_datetime": None, "to_datetime": None, **bounds}


def _all(one: str | None, many: list[str] | None) -> list[str]:
    return [*([one] if one else []), *(many or [])]


def _filters(
    request: ExactRequest,
    *,
    status: list[str],
    payment_status: list[str],
    invoice_type: list[str],
    settlements: list[str],
) -> dict[str, Any]:
    """The filters that name values of a fixed set, checked, and those on metadata."""
    problems = Problems()
    for field, values, allowed in (
        ("status", status, VISIBLE),
        ("payment_status", payment_status, PAYMENT_STATUSES),
        ("invoice_type", invoice_type, INVOICE_TYPES),
        ("settlements", settlements, SETTLEMENTS),
    ):
        if any(value not in allowed for value in values):
            problems.add(field, "value_is_invalid")
    problems.check()
    asked = ((METADATA(name), value) for name, value in request.query_params.multi_items())
    return {
        "statuses": status,
        "payment_statuses": payment_status,
        "invoice_types": invoice_type,
        "settlements": settlements,
        "metadata": {match[1]: value for match, value in asked if match},
    }


def _date(text: str | None) -> date | None:
    """A date filter; one that cannot be read is ignored (billing spec 11.5)."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        return None
