"""`/api/v1/credit_notes` (billing spec 6)."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy import Select

from app.api.customers import CustomerObject, customer_object
from app.api.fees import FeeObject, fee_object
from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, patch, post, put
from app.api.wire import Cents, Opt, PageMeta, Str, changes, instant, number, paginate
from app.billing.credit_notes import REASONS, Estimate, create_note, estimate_note
from app.billing.issued_credit_notes import (
    CREDIT_STATUSES,
    PARTS,
    REFUND_STATUSES,
    find_note,
    search_notes,
    update_note,
    void_note,
)
from app.core.money import round_half_up
from app.customers.billing_entities import ids_of
from app.customers.customers import find_customer
from app.errors import NotFound, Problems
from app.models import CreditNote, CreditNoteTax, FeeTax, Invoice
from app.validation import as_uuid, check_one_of

Texts = dict[Str, Str | None]
PRECISE_PLACES = 5


class ItemInput(Struct):
    fee_id: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET


class CreditNoteInput(Struct):
    invoice_id: Str | Opt | None = UNSET
    reason: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    credit_amount_cents: Cents | Opt | None = UNSET
    refund_amount_cents: Cents | Opt | None = UNSET
    offset_amount_cents: Cents | Opt | None = UNSET
    items: list[ItemInput] | Opt | None = UNSET
    metadata: Texts | Opt | None = UNSET


class CreditNoteBody(Struct):
    credit_note: CreditNoteInput


class CreditNoteChange(Struct):
    refund_status: Str | Opt | None = UNSET
    metadata: Texts | Opt | None = UNSET


class CreditNoteChangeBody(Struct):
    credit_note: CreditNoteChange


class MetadataBody(Struct):
    metadata: Texts


class MetadataAnswer(Struct):
    metadata: dict[str, str | None]


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


class CreditNoteAnswer(Struct):
    credit_note: CreditNoteObject


class CreditNotesAnswer(Struct):
    credit_notes: list[CreditNoteObject]
    meta: PageMeta


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


class EstimateAnswer(Struct):
    estimated_credit_note: EstimateObject


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


def _estimate_object(estimate: Estimate) -> EstimateObject:
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


class CreditNoteController(Controller):
    path = "/credit_notes"
    tags = ["credit_notes"]
    opt = {"resource": "credit_note"}

    @post()
    def create_credit_note(self, data: CreditNoteBody, db: Db, organization: Org, now: Now) -> CreditNoteAnswer:
        """Give something back of an invoice, as credit on later ones or as an offset of what is due."""
        note_id = create_note(db, organization.id, changes(data.credit_note), now).id
        db.expire_all()
        return CreditNoteAnswer(credit_note_object(find_note(db, organization.id, note_id)))

    @post("/estimate")
    def estimate_credit_note(self, data: CreditNoteBody, db: Db, organization: Org) -> EstimateAnswer:
        """What a credit note would come to. Nothing is stored."""
        return EstimateAnswer(_estimate_object(estimate_note(db, organization.id, changes(data.credit_note))))

    @get()
    def list_credit_notes(
        self,
        *,
        db: Db,
        organization: Org,
        paging: Paging,
        external_customer_id: str | None = None,
        issuing_date_from: date | None = None,
        issuing_date_to: date | None = None,
        search_term: str | None = None,
        currency: str | None = None,
        reason: str | None = None,
        credit_status: str | None = None,
        refund_status: str | None = None,
        invoice_number: str | None = None,
        amount_from: int | None = None,
        amount_to: int | None = None,
        self_billed: bool | None = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
        types: Annotated[list[str] | None, Parameter(query="types[]")] = None,
    ) -> CreditNotesAnswer:
        """The credit notes that pass all filters, latest issuing date first."""
        query = _search(
            organization.id,
            external_customer_id=external_customer_id,
            issuing_date_from=issuing_date_from,
            issuing_date_to=issuing_date_to,
            search_term=search_term,
            currency=currency,
            reason=reason,
            credit_status=credit_status,
            refund_status=refund_status,
            invoice_number=invoice_number,
            amount_from=amount_from,
            amount_to=amount_to,
            types=types,
        )
        if billing_entity_codes is not None:
            issued = Invoice.billing_entity_id.in_(ids_of(organization.id, billing_entity_codes))
            query = query.where(CreditNote.invoice.has(issued))
        if self_billed:
            query = query.where(CreditNote.id.is_(None))
        found, meta = paginate(db, query, paging)
        return CreditNotesAnswer([credit_note_object(note) for note in found], meta)

    @get("/{lago_id:str}")
    def get_credit_note(self, lago_id: str, db: Db, organization: Org) -> CreditNoteAnswer:
        """One credit note."""
        return CreditNoteAnswer(credit_note_object(find_note(db, organization.id, as_uuid(lago_id))))

    @put("/{lago_id:str}")
    def update_credit_note(
        self, lago_id: str, data: CreditNoteChangeBody, db: Db, organization: Org, now: Now
    ) -> CreditNoteAnswer:
        """Note how a refund stands, or write the metadata."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        update_note(note, changes(data.credit_note), now)
        return CreditNoteAnswer(credit_note_object(note))

    @put("/{lago_id:str}/void")
    def void_credit_note(self, lago_id: str, db: Db, organization: Org, now: Now) -> CreditNoteAnswer:
        """What is left of a credit note can no longer be spent."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        void_note(note, now)
        return CreditNoteAnswer(credit_note_object(note))

    @post("/{lago_id:str}/metadata")
    def replace_metadata(self, lago_id: str, data: MetadataBody, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Replace the metadata of a credit note."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        update_note(note, {"metadata": data.metadata}, now)
        return MetadataAnswer(note.note_metadata)

    @patch("/{lago_id:str}/metadata")
    def merge_metadata(self, lago_id: str, data: MetadataBody, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Add to the metadata of a credit note."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        update_note(note, {"metadata": {**note.note_metadata, **data.metadata}}, now)
        return MetadataAnswer(note.note_metadata)

    @delete("/{lago_id:str}/metadata")
    def remove_metadata(self, lago_id: str, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Remove all metadata of a credit note."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        update_note(note, {"metadata": {}}, now)
        return MetadataAnswer(note.note_metadata)

    @delete("/{lago_id:str}/metadata/{key:str}")
    def remove_metadata_key(self, lago_id: str, key: str, db: Db, organization: Org, now: Now) -> MetadataAnswer:
        """Remove one key of the metadata of a credit note."""
        note = find_note(db, organization.id, as_uuid(lago_id), lock=True)
        if key not in note.note_metadata:
            raise NotFound("metadata")
        update_note(note, {"metadata": {name: value for name, value in note.note_metadata.items() if name != key}}, now)
        return MetadataAnswer(note.note_metadata)


class CustomerCreditNoteController(Controller):
    path = "/customers/{external_id:str}/credit_notes"
    tags = ["credit_notes"]
    opt = {"resource": "credit_note"}

    @get()
    def list_customer_credit_notes(
        self,
        *,
        external_id: str,
        db: Db,
        organization: Org,
        paging: Paging,
        issuing_date_from: date | None = None,
        issuing_date_to: date | None = None,
        search_term: str | None = None,
        currency: str | None = None,
        reason: str | None = None,
        credit_status: str | None = None,
        refund_status: str | None = None,
        invoice_number: str | None = None,
        amount_from: int | None = None,
        amount_to: int | None = None,
        self_billed: bool | None = None,
        types: Annotated[list[str] | None, Parameter(query="types[]")] = None,
    ) -> CreditNotesAnswer:
        """A customer's credit notes, latest issuing date first."""
        query = _search(
            organization.id,
            customer_id=find_customer(db, organization.id, external_id).id,
            issuing_date_from=issuing_date_from,
            issuing_date_to=issuing_date_to,
            search_term=search_term,
            currency=currency,
            reason=reason,
            credit_status=credit_status,
            refund_status=refund_status,
            invoice_number=invoice_number,
            amount_from=amount_from,
            amount_to=amount_to,
            types=types,
        )
        if self_billed:
            query = query.where(CreditNote.id.is_(None))
        found, meta = paginate(db, query, paging)
        return CreditNotesAnswer([credit_note_object(note) for note in found], meta)


def _search(
    organization_id: UUID,
    *,
    reason: str | None,
    credit_status: str | None,
    refund_status: str | None,
    types: list[str] | None,
    **filters: Any,
) -> Select[CreditNote]:
    """The credit notes that pass filters; those that name values of a fixed set are checked."""
    problems = Problems()
    given: dict[str, Any] = {"reason": reason, "credit_status": credit_status, "refund_status": refund_status}
    for field, allowed in (
        ("reason", REASONS),
        ("credit_status", CREDIT_STATUSES),
        ("refund_status", REFUND_STATUSES),
    ):
        check_one_of(problems, given, field, allowed)
    if not PARTS.keys() >= set(types or ()):
        problems.add("types", "value_is_invalid")
    problems.check()
    return search_notes(organization_id, types=types, **filters, **given)
