"""Invoices as they are on the wire."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct

from app.api.customers import CustomerObject, customer_object
from app.api.fees import AppliedTaxObject, FeeObject, applied_tax_object, fee_object
from app.api.plans import UsageThresholdObject, threshold_object
from app.api.subscriptions import SubscriptionObject, subscription_object
from app.api.wire import Opt, PageMeta, instant, instant_or_none
from app.models import AppliedUsageThreshold, BillingPeriod, Credit, Invoice, InvoiceMetadata

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


class AppliedThresholdObject(Struct):
    lifetime_usage_amount_cents: int
    created_at: str
    usage_threshold: UsageThresholdObject


class InvoiceBase(Struct, kw_only=True):
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


class InvoiceListed(InvoiceBase, kw_only=True):
    customer: CustomerObject
    metadata: list[InvoiceMetadataObject]
    applied_taxes: list[AppliedTaxObject]
    applied_usage_thresholds: list[AppliedThresholdObject]


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


class ErrorDetail(Struct):
    lago_id: UUID | None
    error_code: str
    details: dict[str, str]


class InvoiceObject(InvoiceListed, kw_only=True):
    billing_periods: list[BillingPeriodObject]
    subscriptions: list[SubscriptionObject]
    fees: list[FeeObject]
    credits: list[CreditObject]
    error_details: list[ErrorDetail]
    applied_invoice_custom_sections: list[Any] = []
    lago_voided_invoice_id: UUID | Opt = UNSET
    lago_regenerated_invoice_id: UUID | Opt = UNSET


class InvoiceAnswer(Struct):
    invoice: InvoiceObject


class InvoicesAnswer(Struct):
    invoices: list[InvoiceListed]
    meta: PageMeta


def invoice_base(invoice: Invoice) -> dict[str, Any]:
    """The fields of an invoice that it has wherever it is shown."""
    same = (
        "sequential_id",
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
        "number": invoice.number or f"{invoice.billing_entity.document_number_prefix}-DRAFT",
        "issuing_date": invoice.issuing_date.isoformat(),
        "payment_due_date": invoice.payment_due_date.isoformat(),
        "total_due_amount_cents": invoice.total_due_amount_cents,
        "total_offsetted_credit_note_amount_cents": invoice.offset_amount_cents,
        "created_at": instant(invoice.created_at),
        "updated_at": instant(invoice.updated_at),
        "voided_at": instant_or_none(invoice.voided_at),
        "payment_dispute_lost_at": instant_or_none(invoice.payment_dispute_lost_at),
    }


def invoice_listed(invoice: Invoice) -> dict[str, Any]:
    """The fields of an invoice in a list."""
    return {
        **invoice_base(invoice),
        "customer": customer_object(invoice.customer, extended=False),
        "metadata": [_metadata_object(entry) for entry in invoice.invoice_metadata],
        "applied_taxes": [applied_tax_object(tax) for tax in invoice.applied_taxes],
        "applied_usage_thresholds": [
            AppliedThresholdObject(
                one.lifetime_usage_amount_cents, instant(one.created_at), threshold_object(one.usage_threshold)
            )
            for one in _by_amount(invoice)
        ],
    }


def _by_amount(invoice: Invoice) -> list[AppliedUsageThreshold]:
    """The thresholds that an invoice was made of, the recurring one last."""
    return sorted(
        invoice.applied_usage_thresholds,
        key=lambda one: (one.usage_threshold.recurring, one.usage_threshold.amount_cents),
    )


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
        **invoice_listed(invoice),
        billing_periods=[_period_object(period) for period in invoice.billing_periods],
        subscriptions=[subscription_object(period.subscription, now) for period in invoice.billing_periods],
        fees=[fee_object(fee) for fee in invoice.fees],
        credits=[credit_object(credit) for credit in invoice.credits],
        error_details=[ErrorDetail(invoice.id, **invoice.error_details)] if invoice.error_details else [],
        lago_voided_invoice_id=invoice.voided_invoice_id or UNSET,
        lago_regenerated_invoice_id=invoice.regenerated.id if invoice.regenerated else UNSET,
    )


def credit_object(credit: Credit) -> CreditObject:
    """What has lowered an invoice, as it is on the wire."""
    note, applied, progressive = credit.credit_note, credit.applied_coupon, credit.progressive_invoice
    if applied is not None:
        coupon = applied.coupon
        item = CreditItem(coupon.id, "coupon", coupon.code, coupon.name, coupon.description)
        invoice = credit.invoice
    elif note is not None:
        item = CreditItem(note.id, "credit_note", note.number or "", note.invoice.number or "")
        invoice = note.invoice
    elif progressive is not None:
        item = CreditItem(progressive.id, "invoice", progressive.number or "", progressive.number or "")
        invoice = progressive
    else:
        raise ValueError(f"credit {credit.id} comes from nothing")
    return CreditObject(
        lago_id=credit.id,
        amount_cents=credit.amount_cents,
        amount_currency=credit.currency,
        before_taxes=note is None,
        item=item,
        invoice=CreditInvoice(invoice.id, invoice.payment_status),
    )
