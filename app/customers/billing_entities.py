"""Billing entities: who issues invoices, and the defaults of their customers (billing spec 0.2, 3.2, 3.4)."""

import re
import unicodedata
from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, selectinload, undefer

from app.catalog.taxes import taxes_by_code
from app.errors import NotFound, Problems
from app.models import BillingEntity
from app.validation import (
    Changes,
    assign,
    check_code,
    check_contact,
    check_currency,
    check_length,
    check_mandatory,
    check_one_of,
    empty,
    tidy,
)

DEFAULT_CODE = "default"
"""The code of the entity that is made with an organization."""
DOCUMENT_NUMBERINGS = ("per_customer", "per_billing_entity")
EMAIL_SETTINGS = frozenset({"invoice.finalized", "credit_note.created", "payment_receipt.created"})
ISSUING_DATE_ANCHORS = ("current_period_end", "next_period_start")
ISSUING_DATE_ADJUSTMENTS = ("align_with_finalization_date", "keep_anchor")
LONGEST_PREFIX = 10
LONGEST_NAME = 255

ENTITY_PARTS = (selectinload(BillingEntity.taxes), undefer(BillingEntity.logo_url))
"""What must be loaded with an entity to show it whole."""

_NEVER_NULL = (
    "name",
    "default_currency",
    "timezone",
    "net_payment_term",
    "invoice_grace_period",
    "subscription_invoice_issuing_date_anchor",
    "subscription_invoice_issuing_date_adjustment",
    "finalize_zero_amount_invoice",
    "document_numbering",
    "document_locale",
    "eu_tax_management",
)
_NULLABLE = (
    "country",
    "email",
    "phone",
    "address_line1",
    "address_line2",
    "city",
    "state",
    "zipcode",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "invoice_footer",
    "logo_url",
)
_LOGO = re.compile(r"(https?://|data:image/)\S+", re.IGNORECASE).fullmatch


def create_default_entity(db: Session, organization_id: UUID, name: str, sent: Changes, now: datetime) -> BillingEntity:
    """The entity that is made with an organization, named like it; it has the organization's id.

    Raises:
        Invalid: a field breaks a rule.
    """
    return _create(db, organization_id, organization_id, {**sent, "name": name, "code": DEFAULT_CODE}, now)


def create_entity(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> BillingEntity:
    """One more entity of an organization.

    Raises:
        Invalid: a field breaks a rule, or another entity has the code.
        NotFound: `tax_not_found`.
    """
    problems = Problems()
    check_mandatory(problems, sent, ("code", "name"), creating=True)
    check_code(problems, sent)
    code = sent.get("code")
    if not empty(code) and db.scalar(_with_code(organization_id, [str(code)]).with_only_columns(BillingEntity.id)):
        problems.add("code", "value_already_exist")
    _check(problems, sent)
    return _create(db, organization_id, uuid4(), sent, now)


def update_entity(db: Session, entity: BillingEntity, sent: Changes, now: datetime) -> None:
    """Change an entity. What has been issued stays as it is; whoever calls this sees to what is not yet.

    Raises:
        Invalid: a field breaks a rule.
        NotFound: `tax_not_found`.
    """
    _check(Problems(), sent)
    changes, numbering = _complete(sent), entity.document_numbering
    assign(entity, changes, (*_NEVER_NULL, *_NULLABLE))
    if entity.document_numbering != numbering:
        entity.last_invoice_number = None
    if "document_number_prefix" in changes:
        prefix = changes["document_number_prefix"] or default_prefix(entity.name, entity.id)
        entity.document_number_prefix = prefix.upper()
    if "email_settings" in changes:
        entity.email_settings = sorted(set(changes["email_settings"] or ()))
    if "tax_codes" in changes:
        entity.taxes = taxes_by_code(db, entity.organization_id, changes["tax_codes"] or ())
    entity.updated_at = now
    db.flush()


def default_prefix(name: str, entity_id: UUID) -> str:
    """What document numbers begin with until something else is chosen: the first three letters or digits of the entity's
    name, without accents, and the end of its id (billing spec 3.4)."""
    plain = [one for one in unicodedata.normalize("NFKD", name).upper() if one.isascii() and one.isalnum()]
    return f"{''.join(plain[:3]) or 'ORG'}-{entity_id.hex[-4:].upper()}"


def entities(organization_id: UUID) -> Select[BillingEntity]:
    """An organization's entities, newest first."""
    return (
        select(BillingEntity)
        .where(BillingEntity.organization_id == organization_id)
        .order_by(BillingEntity.created_at.desc(), BillingEntity.id)
        .options(*ENTITY_PARTS)
    )


def find_entity(db: Session, organization_id: UUID, code: str) -> BillingEntity:
    """The entity with a code, whole.

    Raises:
        NotFound: `billing_entity_not_found`.
    """
    entity = db.scalar(entities(organization_id).where(BillingEntity.code == code.replace("\x00", "")))
    if entity is None or entity.code != code:
        raise NotFound("billing_entity")
    return entity


def default_entity(db: Session, organization_id: UUID) -> BillingEntity:
    """The entity that issues what names no other, whole."""
    return default_entities(db, [organization_id])[organization_id]


def default_entities(db: Session, organization_ids: Collection[UUID]) -> dict[UUID, BillingEntity]:
    """The same of several organizations, by the organization's id."""
    found = db.scalars(select(BillingEntity).where(BillingEntity.id.in_(organization_ids)).options(*ENTITY_PARTS))
    return {one.id: one for one in found}


def default_timezone(db: Session, organization_id: UUID) -> ZoneInfo:
    """The timezone that an organization's own dates are in: its default entity's."""
    return ZoneInfo(db.scalars(select(BillingEntity.timezone).where(BillingEntity.id == organization_id)).one())


def ids_of(organization_id: UUID, codes: Collection[str]) -> Select[UUID]:
    """The ids of an organization's entities with these codes, for the filter `billing_entity_codes[]` of lists."""
    return _with_code(organization_id, codes).with_only_columns(BillingEntity.id)


def _with_code(organization_id: UUID, codes: Collection[str]) -> Select[BillingEntity]:
    return select(BillingEntity).where(
        BillingEntity.organization_id == organization_id, BillingEntity.code.in_([*codes])
    )


def _create(db: Session, organization_id: UUID, entity_id: UUID, sent: Changes, now: datetime) -> BillingEntity:
    entity = BillingEntity(
        id=entity_id,
        organization_id=organization_id,
        code=sent["code"],
        document_number_prefix=default_prefix(sent["name"], entity_id),
        created_at=now,
        taxes=[],
        logo_url=None,
    )
    update_entity(db, entity, sent, now)
    db.add(entity)
    db.flush()
    return entity


def _complete(sent: Changes) -> dict[str, Any]:
    return tidy({**sent, **(sent.get("billing_configuration") or {})})


def _check(problems: Problems, sent: Changes) -> None:
    changes = _complete(sent)
    check_mandatory(problems, changes, _NEVER_NULL, creating=False)
    check_length(problems, changes, {"name": LONGEST_NAME})
    check_contact(problems, changes)
    check_currency(problems, changes, "default_currency")
    check_one_of(problems, changes, "document_numbering", DOCUMENT_NUMBERINGS)
    check_one_of(problems, changes, "subscription_invoice_issuing_date_anchor", ISSUING_DATE_ANCHORS)
    check_one_of(problems, changes, "subscription_invoice_issuing_date_adjustment", ISSUING_DATE_ADJUSTMENTS)
    prefix, logo = changes.get("document_number_prefix"), changes.get("logo_url")
    if prefix == "":
        problems.add("document_number_prefix", "value_is_mandatory")
    if len((prefix or "").upper()) > LONGEST_PREFIX:
        problems.add("document_number_prefix", "value_is_too_long")
    if logo and not _LOGO(logo):
        problems.add("logo", "value_is_invalid")
    if not EMAIL_SETTINGS.issuperset(changes.get("email_settings") or ()):
        problems.add("email_settings", "value_is_invalid")
    problems.check()
