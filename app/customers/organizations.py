"""Organizations: making them, finding them, changing them (billing spec 3.4, 11)."""

import unicodedata
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.customers.api_keys import create_key
from app.errors import NotFound, Problems
from app.models import Organization
from app.validation import (
    Changes,
    as_uuid,
    assign,
    check_contact,
    check_currency,
    check_mandatory,
    check_one_of,
    empty,
    tidy,
)

DOCUMENT_NUMBERINGS = ("per_customer", "per_organization")
EMAIL_SETTINGS = frozenset({"invoice.finalized", "credit_note.created"})
LONGEST_PREFIX = 10

_NEVER_NULL = (
    "name",
    "default_currency",
    "timezone",
    "net_payment_term",
    "document_numbering",
    "document_number_prefix",
    "finalize_zero_amount_invoice",
    "document_locale",
)
_NULLABLE = (
    "country",
    "email",
    "address_line1",
    "address_line2",
    "city",
    "state",
    "zipcode",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "invoice_footer",
)


def create_organization(
    db: Session, *, name: str, sandbox: bool = False, now: datetime, **fields: Any
) -> tuple[Organization, str]:
    """A new organization, and its first API key, which is not to be had again.

    Raises:
        Invalid: a field breaks a rule.
    """
    organization = Organization(id=uuid4(), sandbox=sandbox, created_at=now)
    prefix = default_prefix(name, organization.id)
    update_organization(organization, {"document_number_prefix": prefix, **fields, "name": name})
    db.add(organization)
    db.flush()
    _, key = create_key(db, organization.id, now)
    return organization, key


def default_prefix(name: str, organization_id: UUID) -> str:
    """What document numbers begin with until the organization chooses: the first three letters or digits of its name,
    without accents, and the end of its id (billing spec 3.4)."""
    plain = [one for one in unicodedata.normalize("NFKD", name).upper() if one.isascii() and one.isalnum()]
    return f"{''.join(plain[:3]) or 'ORG'}-{organization_id.hex[-4:].upper()}"


def organizations() -> Select[Organization]:
    """All organizations, newest first."""
    return select(Organization).order_by(Organization.created_at.desc(), Organization.id)


def find_organization(db: Session, organization_id: str) -> Organization:
    """An organization by its id.

    Raises:
        NotFound: `organization_not_found`.
    """
    known = as_uuid(organization_id)
    organization = db.get(Organization, known) if known else None
    if organization is None:
        raise NotFound("organization")
    return organization


def update_organization(organization: Organization, sent: Changes) -> None:
    """Change an organization. Numbers already given to invoices and customers stay.

    Raises:
        Invalid: a field breaks a rule.
    """
    changes = tidy({**sent, **(sent.get("billing_configuration") or {})})
    _check(changes)
    assign(organization, changes, (*_NEVER_NULL, *_NULLABLE))
    organization.document_number_prefix = organization.document_number_prefix.upper()
    if "email_settings" in changes:
        organization.email_settings = sorted(set(changes["email_settings"] or ()))


def _check(changes: Changes) -> None:
    problems = Problems()
    check_mandatory(problems, changes, _NEVER_NULL, creating=False)
    check_contact(problems, changes)
    check_currency(problems, changes, "default_currency")
    check_one_of(problems, changes, "document_numbering", DOCUMENT_NUMBERINGS)
    prefix = changes.get("document_number_prefix")
    if not empty(prefix) and len(str(prefix).upper()) > LONGEST_PREFIX:
        problems.add("document_number_prefix", "value_is_too_long")
    if not EMAIL_SETTINGS.issuperset(changes.get("email_settings") or ()):
        problems.add("email_settings", "value_is_invalid")
    problems.check()
