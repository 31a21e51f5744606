"""Credit notes and estimates of them, as they are on the wire (billing spec 6)."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from app.api.customers import CustomerObject, customer_object
from app.api.fees import FeeObject, fee_object
from app.api.wire import instant, number
from app.billing.credit_notes import Estimate
from app.core.money import round_half_up
from app.models import CreditNote, CreditNoteTax, FeeTax

PRECISE_PLACES = 5


class NoteTaxObject(Struct, kw_only=True):
    lago_id: UUID
    lago_credit_note_id: UUID
    lago_tax_id: UUID
    tax_name: str
    tax_code: str
    tax_rate: msgspec.Raw
    tax_description: str | None
    base_amount_cents: int
    amount_cents: int
    amount_currency: str
    created_at: str


class NoteItemObject(Struct):
    lago_id: UUID
    amount_cents: int
    amount_currency: str
    fee: FeeObject


class CreditNoteObject(Struct, kw_only=True):
    lago_id: UUID
    billing_entity_code: str
    sequential_id: int
    number: str
    lago_invoice_id: UUID
    invoice_number: str
    issuing_date: str
    credit_status: str | None
    refund_status: str | None
    reason: str
    description: str | None
    currency: str
    total_amount_cents: int
    taxes_amount_cents: int
    taxes_rate: msgspec.Raw
    sub_total_excluding_taxes_amount_cents: int
    balance_amount_cents: int
    credit_amount_cents: int
    refund_amount_cents: int
    offset_amount_cents: int
    coupons_adjustment_amount_cents: int
    created_at: str
    updated_at: str
    file_url: str | None = None
    self_billed: bool = False
    items: list[NoteItemObject]
    applied_taxes: list[NoteTaxObject]
    customer: CustomerObject
    metadata: dict[str, str | None]
    error_details: list[Any] = []


class EstimatedItem(Struct):
    amount_cents: int
    lago_fee_id: UUID


class EstimatedTax(Struct):
    lago_tax_id: UUID
    tax_name: str
    tax_code: str
    tax_rate: msgspec.Raw
    tax_description: str | None
    base_amount_cents: int
    amount_cents: int
    amount_currency: str


class EstimateObject(Struct, kw_only=True):
    lago_invoice_id: UUID
    invoice_number: str
    currency: str
    taxes_amount_cents: int
    precise_taxes_amount_cents: msgspec.Raw
    taxes_rate: msgspec.Raw
    sub_total_excluding_taxes_amount_cents: int
    max_creditable_amount_cents: int
    max_refundable_amount_cents: int
    max_offsettable_amount_cents: int
    coupons_adjustment_amount_cents: int
    precise_coupons_adjustment_amount_cents: msgspec.Raw
    items: list[EstimatedItem]
    applied_taxes: list[EstimatedTax]


def credit_note_object(note: CreditNote) -> CreditNoteObject:
    """A credit note as it is on the wire; what `NOTE_PARTS` names must be loaded."""
    return CreditNoteObject(
        lago_id=note.id,
        billing_entity_code=note.invoice.billing_entity.code,
        sequential_id=note.sequential_id,
        number=note.number or "",
        lago_invoice_id=note.invoice_id,
        invoice_number=note.invoice.number or "",
        issuing_date=note.issuing_date.isoformat(),
        credit_status=note.credit_status,
        refund_status=note.refund_status,
        reason=note.reason,
        description=note.description,
        currency=note.currency,
        total_amount_cents=note.total_amount_cents,
        taxes_amount_cents=note.taxes_amount_cents,
        taxes_rate=number(note.taxes_rate),
        sub_total_excluding_taxes_amount_cents=note.sub_total_excluding_taxes_amount_cents,
        balance_amount_cents=note.balance_amount_cents,
        credit_amount_cents=note.credit_amount_cents,
        refund_amount_cents=note.refund_amount_cents,
        offset_amount_cents=note.offset_amount_cents,
        coupons_adjustment_amount_cents=note.coupons_adjustment_amount_cents,
        created_at=instant(note.created_at),
        updated_at=instant(note.updated_at),
        items=[NoteItemObject(item.id, item.amount_cents, note.currency, fee_object(item.fee)) for item in note.items],
        applied_taxes=[_tax_object(tax) for tax in note.applied_taxes],
        customer=customer_object(note.customer, extended=False),
        metadata=note.note_metadata,
    )


def _tax_object(tax: CreditNoteTax) -> NoteTaxObject:
    return NoteTaxObject(
        lago_id=tax.id,
        lago_credit_note_id=tax.credit_note_id,
        lago_tax_id=tax.tax_id,
        tax_name=tax.tax_name,
        tax_code=tax.tax_code,
        tax_rate=number(tax.tax_rate),
        tax_description=tax.tax_description,
        base_amount_cents=tax.base_amount_cents,
        amount_cents=tax.amount_cents,
        amount_currency=tax.currency,
        created_at=instant(tax.created_at),
    )


def estimate_object(estimate: Estimate) -> EstimateObject:
    invoice, amounts = estimate.invoice, estimate.amounts
    applied: dict[str, FeeTax] = {str(tax.tax_id): tax for fee, _ in estimate.items for tax in fee.applied_taxes}
    return EstimateObject(
        lago_invoice_id=invoice.id,
        invoice_number=invoice.number or "",
        currency=invoice.currency,
        taxes_amount_cents=amounts.taxes.amount_cents,
        precise_taxes_amount_cents=number(round_half_up(amounts.precise_taxes_cents, PRECISE_PLACES)),
        taxes_rate=number(amounts.taxes.rate),
        sub_total_excluding_taxes_amount_cents=amounts.sub_total_cents,
        max_creditable_amount_cents=estimate.creditable_cents,
        max_refundable_amount_cents=estimate.refundable_cents,
        max_offsettable_amount_cents=estimate.offsettable_cents,
        coupons_adjustment_amount_cents=amounts.coupons_cents,
        precise_coupons_adjustment_amount_cents=number(round_half_up(amounts.precise_coupons_cents, PRECISE_PLACES)),
        items=[EstimatedItem(int(amount), fee.id) for fee, amount in estimate.items],
        applied_taxes=[
            EstimatedTax(
                lago_tax_id=applied[line.tax_id].tax_id,
                tax_name=applied[line.tax_id].tax_name,
                tax_code=applied[line.tax_id].tax_code,
                tax_rate=number(applied[line.tax_id].tax_rate),
                tax_description=applied[line.tax_id].tax_description,
                base_amount_cents=line.fees_amount_cents,
                amount_cents=line.amount_cents,
                amount_currency=invoice.currency,
            )
            for line in amounts.taxes.lines
        ],
    )
