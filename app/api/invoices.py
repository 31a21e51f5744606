"""`/api/v1/invoices` (billing spec 3.9, 11.6)."""

import re
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy import false

from app.api.customers import CustomerObject, customer_object
from app.api.fees import AppliedTaxObject, FeeObject, applied_tax_object, fee_object
from app.api.given import Db, Now, Org, Paging, Running
from app.api.request import ExactRequest
from app.api.routes import get, put
from app.api.subscriptions import SubscriptionObject, subscription_object
from app.api.wire import Opt, PageMeta, Str, changes, instant, instant_or_none, paginate
from app.billing.issued import (
    INVOICE_TYPES,
    PAYMENT_STATUSES,
    VISIBLE,
    find_invoice,
    search_invoices,
    set_payment_status,
    write_metadata,
)
from app.customers.customers import find_customer
from app.errors import Problems
from app.models import BillingPeriod, Credit, Invoice, InvoiceMetadata
from app.validation import as_uuid

METADATA = re.compile(r"metadata\[(.+)\]").fullmatch
VERSION = 4


class BillingPeriodObject(Struct):
    lago_subscription_id: UUID
    external_subscription_id: str
    lago_plan_id: UUID
    subscription_from_datetime: str
    subscription_to_datetime: str
    charges_from_datetime: str | None
    charges_to_datetime: str | None
    invoicing_reason: str
    fixed_charges_from_datetime: str | None
    fixed_charges_to_datetime: str | None


class InvoiceMetadataObject(Struct):
    lago_id: UUID
    key: str
    value: str
    created_at: str


class InvoiceListed(Struct, kw_only=True):
    lago_id: UUID
    billing_entity_code: str
    sequential_id: int | None
    number: str | None
    purchase_order_number: str | None
    issuing_date: str
    payment_due_date: str
    net_payment_term: int
    invoice_type: str
    status: str
    payment_status: str
    payment_dispute_lost_at: str | None
    payment_overdue: bool
    currency: str
    fees_amount_cents: int
    taxes_amount_cents: int
    progressive_billing_credit_amount_cents: int
    coupons_amount_cents: int
    credit_notes_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    sub_total_including_taxes_amount_cents: int
    total_amount_cents: int
    total_due_amount_cents: int
    total_paid_amount_cents: int
    total_offsetted_credit_note_amount_cents: int
    prepaid_credit_amount_cents: int
    prepaid_granted_credit_amount_cents: int | None
    prepaid_purchased_credit_amount_cents: int | None
    file_url: str | None = None
    xml_url: str | None = None
    web_url: str | None = None
    version_number: int = VERSION
    self_billed: bool = False
    created_at: str
    updated_at: str
    voided_at: str | None
    customer: CustomerObject
    metadata: list[InvoiceMetadataObject]
    applied_taxes: list[AppliedTaxObject]
    applied_usage_thresholds: list[Any] = []


class CreditItem(Struct):
    lago_item_id: UUID
    type: str
    code: str
    name: str
    description: str | None = None


class CreditInvoice(Struct):
    lago_id: UUID
    payment_status: str


class CreditObject(Struct):
    lago_id: UUID
    amount_cents: int
    amount_currency: str
    before_taxes: bool
    item: CreditItem
    invoice: CreditInvoice


class InvoiceObject(InvoiceListed, kw_only=True):
    billing_periods: list[BillingPeriodObject]
    subscriptions: list[SubscriptionObject]
    fees: list[FeeObject]
    credits: list[CreditObject]
    error_details: list[Any] = []
    applied_invoice_custom_sections: list[Any] = []


class InvoiceAnswer(Struct):
    invoice: InvoiceObject


class InvoicesAnswer(Struct):
    invoices: list[InvoiceListed]
    meta: PageMeta


class MetadataInput(Struct):
    id: Str | Opt | None = UNSET
    key: Str | Opt | None = UNSET
    value: Str | Opt | None = UNSET


class InvoiceInput(Struct):
    payment_status: Str | Opt | None = UNSET
    metadata: list[MetadataInput] | Opt | None = UNSET


class InvoiceBody(Struct):
    invoice: InvoiceInput


def _listed(invoice: Invoice) -> dict[str, Any]:
    same = (
        "sequential_id",
        "number",
        "purchase_order_number",
        "net_payment_term",
        "invoice_type",
        "status",
        "payment_status",
        "payment_overdue",
        "currency",
        "fees_amount_cents",
        "progressive_billing_credit_amount_cents",
        "coupons_amount_cents",
        "taxes_amount_cents",
        "sub_total_excluding_taxes_amount_cents",
        "sub_total_including_taxes_amount_cents",
        "credit_notes_amount_cents",
        "prepaid_credit_amount_cents",
        "prepaid_granted_credit_amount_cents",
        "prepaid_purchased_credit_amount_cents",
        "total_amount_cents",
        "total_paid_amount_cents",
    )
    return {
        **{field: getattr(invoice, field) for field in same},
        "lago_id": invoice.id,
        "billing_entity_code": invoice.billing_entity.code,
        "issuing_date": invoice.issuing_date.isoformat(),
        "payment_due_date": invoice.payment_due_date.isoformat(),
        "total_due_amount_cents": 0
        if invoice.status == "voided"
        else max(invoice.total_amount_cents - invoice.total_paid_amount_cents - invoice.offset_amount_cents, 0),
        "total_offsetted_credit_note_amount_cents": invoice.offset_amount_cents,
        "created_at": instant(invoice.created_at),
        "updated_at": instant(invoice.updated_at),
        "voided_at": instant_or_none(invoice.voided_at),
        "payment_dispute_lost_at": instant_or_none(invoice.payment_dispute_lost_at),
        "customer": customer_object(invoice.customer, extended=False),
        "metadata": [_metadata_object(entry) for entry in invoice.invoice_metadata],
        "applied_taxes": [applied_tax_object(tax) for tax in invoice.applied_taxes],
    }


def _metadata_object(entry: InvoiceMetadata) -> InvoiceMetadataObject:
    return InvoiceMetadataObject(entry.id, entry.key, entry.value, instant(entry.created_at))


def _period_object(period: BillingPeriod) -> BillingPeriodObject:
    return BillingPeriodObject(
        lago_subscription_id=period.subscription_id,
        external_subscription_id=period.subscription.external_id,
        lago_plan_id=period.subscription.plan_id,
        subscription_from_datetime=instant(period.from_datetime),
        subscription_to_datetime=instant(period.to_datetime),
        charges_from_datetime=instant_or_none(period.charges_from_datetime),
        charges_to_datetime=instant_or_none(period.charges_to_datetime),
        invoicing_reason=period.invoicing_reason,
        fixed_charges_from_datetime=instant_or_none(period.fixed_charges_from_datetime),
        fixed_charges_to_datetime=instant_or_none(period.fixed_charges_to_datetime),
    )


def whole_invoice(invoice: Invoice, now: datetime) -> InvoiceObject:
    """An invoice as it is on the wire, with its fees; what `WHOLE_PARTS` names must be loaded."""
    return InvoiceObject(
        **_listed(invoice),
        billing_periods=[_period_object(period) for period in invoice.billing_periods],
        subscriptions=[subscription_object(period.subscription, now) for period in invoice.billing_periods],
        fees=[fee_object(fee) for fee in invoice.fees],
        credits=[credit_object(credit) for credit in invoice.credits],
    )


def credit_object(credit: Credit) -> CreditObject:
    """What has lowered an invoice, as it is on the wire."""
    note, applied = credit.credit_note, credit.applied_coupon
    if applied is not None:
        coupon = applied.coupon
        item = CreditItem(coupon.id, "coupon", coupon.code, coupon.name, coupon.description)
        invoice = credit.invoice
    elif note is not None:
        item = CreditItem(note.id, "credit_note", note.number, note.invoice.number or "")
        invoice = note.invoice
    else:
        raise ValueError(f"credit {credit.id} comes from nothing")
    return CreditObject(
        lago_id=credit.id,
        amount_cents=credit.amount_cents,
        amount_currency=credit.currency,
        before_taxes=applied is not None,
        item=item,
        invoice=CreditInvoice(invoice.id, invoice.payment_status),
    )


class InvoiceController(Controller):
    path = "/invoices"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

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
            ),
            amount_from=amount_from,
            amount_to=amount_to,
            issuing_date_from=_date(issuing_date_from),
            issuing_date_to=_date(issuing_date_to),
            payment_overdue=payment_overdue,
            currency=currency,
            search_term=search_term,
            purchase_order_number=purchase_order_number,
            billing_entity_codes=billing_entity_codes,
        )
        if payment_dispute_lost or partially_paid or self_billed:
            query = query.where(false())
        invoices, meta = paginate(db, query, paging)
        return InvoicesAnswer([InvoiceListed(**_listed(invoice)) for invoice in invoices], meta)

    @get("/{lago_id:str}")
    def get_invoice(self, lago_id: str, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """One invoice with its fees."""
        return InvoiceAnswer(whole_invoice(find_invoice(db, organization.id, as_uuid(lago_id)), now))

    @put("/{lago_id:str}")
    def update_invoice(self, lago_id: str, data: InvoiceBody, db: Db, organization: Org, now: Now) -> InvoiceAnswer:
        """Note how an invoice's payment stands, or write its metadata."""
        invoice = find_invoice(db, organization.id, as_uuid(lago_id))
        sent = changes(data.invoice)
        if "payment_status" in sent:
            set_payment_status(invoice, sent["payment_status"], now)
        if "metadata" in sent:
            write_metadata(invoice, sent["metadata"] or [], now)
        db.flush()
        return InvoiceAnswer(whole_invoice(invoice, now))


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
            ),
            amount_from=amount_from,
            amount_to=amount_to,
            issuing_date_from=_date(issuing_date_from),
            issuing_date_to=_date(issuing_date_to),
            payment_overdue=payment_overdue,
            search_term=search_term,
        )
        if payment_dispute_lost or partially_paid or self_billed:
            query = query.where(false())
        invoices, meta = paginate(db, query, paging)
        return InvoicesAnswer([InvoiceListed(**_listed(invoice)) for invoice in invoices], meta)


def _all(one: str | None, many: list[str] | None) -> list[str]:
    return [*([one] if one else []), *(many or [])]


def _filters(
    request: ExactRequest, *, status: list[str], payment_status: list[str], invoice_type: list[str]
) -> dict[str, Any]:
    """The filters that name values of a fixed set, checked, and those on metadata."""
    problems = Problems()
    for field, values, allowed in (
        ("status", status, VISIBLE),
        ("payment_status", payment_status, PAYMENT_STATUSES),
        ("invoice_type", invoice_type, INVOICE_TYPES),
    ):
        if any(value not in allowed for value in values):
            problems.add(field, "value_is_invalid")
    problems.check()
    asked = ((METADATA(name), value) for name, value in request.query_params.multi_items())
    return {
        "statuses": status,
        "payment_statuses": payment_status,
        "invoice_types": invoice_type,
        "metadata": {match[1]: value for match, value in asked if match},
    }


def _date(text: str | None) -> date | None:
    """A date filter; one that cannot be read is ignored (billing spec 11.5)."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        return None
