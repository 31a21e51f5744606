"""Organizations: making them, finding them, changing them (billing spec 3.4, 11)."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.customers.api_keys import create_key
from app.customers.billing_entities import create_default_entity, default_entity
from app.customers.entity_changes import change_entity
from app.errors import NotFound
from app.models import BillingEntity, Organization
from app.validation import Changes, as_uuid

# What an organization calls numbering by billing entity has another name there, and the other way round it has none.
_NUMBERINGS = {"per_organization": "per_billing_entity", "per_billing_entity": "per_organization"}


def create_organization(
    db: Session, *, name: str, sandbox: bool = False, now: datetime, **fields: Any
) -> tuple[Organization, str]:
    """A new organization, and its first API key, which is not to be had again.

    Raises:
        Invalid: a field breaks a rule.
    """
    organization = Organization(id=uuid4(), name=name, sandbox=sandbox, created_at=now)
    db.add(organization)
    db.flush()
    create_default_entity(db, organization.id, name, _as_of_entity(fields), now)
    _, key = create_key(db, organization.id, now)
    return organization, key


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


def update_organization(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> BillingEntity:
    """Change what an organization bills with: its default billing entity, which is returned. Numbers already given to
    invoices and customers stay.

    Raises:
        Invalid: a field breaks a rule.
    """
    entity = default_entity(db, organization_id)
    change_entity(db, entity, _as_of_entity(sent), now)
    return entity


def organization_numbering(entity: BillingEntity) -> str:
    """How documents are numbered, as an organization spells it (billing spec 3.4)."""
    return "per_organization" if entity.document_numbering == "per_billing_entity" else entity.document_numbering


def _as_of_entity(sent: Changes) -> dict[str, Any]:
    changes = dict(sent)
    if "document_numbering" in changes:
        changes["document_numbering"] = _NUMBERINGS.get(changes["document_numbering"], changes["document_numbering"])
    return changes
