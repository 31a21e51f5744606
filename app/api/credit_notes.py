"""`/api/v1/credit_notes` (billing spec 6)."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy import Select

from app.api.credit_note_objects import CreditNoteObject, EstimateObject, credit_note_object, estimate_object
from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, patch, post, put
from app.api.wire import Cents, Opt, PageMeta, Str, changes, paginate
from app.billing.issued_credit_notes import (
    CREDIT_STATUSES,
    PARTS,
    REFUND_STATUSES,
    find_note,
    search_notes,
    update_note,
    void_note,
)
from app.billing.notes_by_hand import REASONS, create_note, estimate_note
from app.customers.billing_entities import ids_of
from app.customers.customers import find_customer
from app.errors import NotFound, Problems
from app.models import CreditNote, Invoice
from app.validation import as_uuid, check_one_of

Texts = dict[Str, Str | None]


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


class CreditNoteAnswer(Struct):
    credit_note: CreditNoteObject


class CreditNotesAnswer(Struct):
    credit_notes: list[CreditNoteObject]
    meta: PageMeta


class EstimateAnswer(Struct):
    estimated_credit_note: EstimateObject


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
        return EstimateAnswer(estimate_object(estimate_note(db, organization.id, changes(data.credit_note))))

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
