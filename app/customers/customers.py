"""Customers: finding them, and the rules for making and changing them (billing spec 3.4, 11.4, 11.6)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from app.catalog.taxes import taxes_by_code
from app.core.issuing_dates import Adjustment, Anchor
from app.customers.billing_entities import default_entity, find_entity
from app.errors import NotFound, Problems, invalid
from app.models import BillingEntity, Customer, CustomerMetadata, Organization
from app.validation import (
    Changes,
    as_uuid,
    assign,
    check_contact,
    check_currency,
    check_external_id,
    check_mandatory,
    check_one_of,
    empty,
    tidy,
)

ACCOUNT_TYPES = ("customer", "partner")
CUSTOMER_TYPES = ("company", "individual")
ZERO_AMOUNT_CHOICES = ("inherit", "skip", "finalize")
ISSUING = (
    "invoice_grace_period",
    "subscription_invoice_issuing_date_anchor",
    "subscription_invoice_issuing_date_adjustment",
)
"""What of the billing configuration decides the dates of invoices, besides the net payment term (billing spec 3.2)."""
ADDRESS = ("address_line1", "address_line2", "city", "zipcode", "state", "country")
LONGEST_NAME = 255
MOST_METADATA = 5

CUSTOMER_PARTS = (
    selectinload(Customer.billing_entity),
    selectinload(Customer.taxes),
    selectinload(Customer.customer_metadata),
)
"""What must be loaded with a customer to show it whole."""

_SEARCHED = (
    Customer.name,
    Customer.firstname,
    Customer.lastname,
    Customer.legal_name,
    Customer.external_id,
    Customer.email,
)
_FIELDS = (
    "name",
    "firstname",
    "lastname",
    "account_type",
    "customer_type",
    "email",
    "phone",
    "url",
    "logo_url",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "address_line1",
    "address_line2",
    "city",
    "state",
    "zipcode",
    "country",
    "shipping_address",
    "currency",
    "timezone",
    "net_payment_term",
    "finalize_zero_amount_invoice",
    "document_locale",
    *ISSUING,
)


def live_customers(organization_id: UUID) -> Select[Customer]:
    """An organization's customers that have not been deleted, newest first."""
    return (
        select(Customer)
        .where(Customer.organization_id == organization_id, Customer.deleted_at.is_(None))
        .order_by(Customer.created_at.desc(), Customer.id)
        .options(*CUSTOMER_PARTS)
    )


def find_customer(db: Session, organization_id: UUID, external_id: str, *, lock: bool = False) -> Customer:
    """The customer with an external id.

    Raises:
        NotFound: `customer_not_found`.
    """
    customer = _known(db, organization_id, external_id, lock=lock)
    if customer is None:
        raise NotFound("customer")
    return customer


def find_or_create_customer(
    db: Session,
    organization: Organization,
    external_id: str,
    now: datetime,
    *,
    field: str = "external_id",
    entity: BillingEntity | None = None,
) -> Customer:
    """The customer with an external id, locked; a new one where there is none yet, of a billing entity or the default one.

    Raises:
        Invalid: the external id is empty, or contains a slash or is too long; said of the `field` it was sent in.
    """
    if empty(external_id):
        raise invalid(field, "value_is_mandatory")
    problems = Problems()
    check_external_id(problems, {field: external_id}, field)
    problems.check()
    known = _known(db, organization.id, external_id, lock=True)
    if known is not None:
        return known
    db.refresh(organization, with_for_update={"key_share": True})  # rows that refer to it can be made meanwhile
    # While this waited for the lock, the same customer may have been made by another request.
    return _known(db, organization.id, external_id, lock=True) or _create(
        db, organization, external_id, now, entity or default_entity(db, organization.id)
    )


def upsert_customer(db: Session, organization: Organization, sent: Changes, now: datetime) -> Customer:
    """Make the customer with an external id, or change the one there is (billing spec 11.4). What another billing entity
    has issued stays there when a customer is moved.

    Raises:
        NotFound: `tax_not_found`, `billing_entity_not_found`.
        Invalid: a field breaks a rule.
    """
    changes = _complete(sent)
    _check(changes)
    code = changes.get("billing_entity_code")
    entity = None if code is None else find_entity(db, organization.id, code)
    customer = find_or_create_customer(db, organization, changes["external_id"], now, entity=entity)
    customer.billing_entity = entity or customer.billing_entity
    assign(customer, changes, _FIELDS)
    if "tax_codes" in changes:
        customer.taxes = taxes_by_code(db, organization.id, changes["tax_codes"] or ())
    if "metadata" in changes:
        _write_metadata(customer, changes["metadata"] or (), now)
    customer.updated_at = now
    db.flush()
    return customer


def delete_customer(customer: Customer, now: datetime) -> None:
    """Delete a customer. Invoices keep naming it."""
    customer.deleted_at = customer.updated_at = now


def search_customers(
    organization_id: UUID,
    *,
    term: str | None = None,
    one_of: Mapping[InstrumentedAttribute[Any], Sequence[str] | None] | None = None,
    present: Mapping[InstrumentedAttribute[Any], bool | None] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Select[Customer]:
    """The customers a list is asked for (billing spec 11.6).

    `one_of` has the allowed values of columns, `present` whether columns must be set; an empty metadata value asks
    for customers without the key.
    """
    query = live_customers(organization_id)
    if term:
        query = query.where(or_(*(column.icontains(term, autoescape=True) for column in _SEARCHED)))
    for column, values in (one_of or {}).items():
        if values is not None:
            query = query.where(column.in_(values))
    for column, wanted in (present or {}).items():
        if wanted is not None:
            is_set = column.is_not(None) & (column != "")
            query = query.where(is_set if wanted else ~is_set)
    for key, value in (metadata or {}).items():
        has_key = Customer.customer_metadata.any(CustomerMetadata.key == key)
        has_value = Customer.customer_metadata.any((CustomerMetadata.key == key) & (CustomerMetadata.value == value))
        query = query.where(has_value if value else ~has_key)
    return query


def _known(db: Session, organization_id: UUID, external_id: str, *, lock: bool) -> Customer | None:
    query = live_customers(organization_id).where(Customer.external_id == external_id)
    return db.scalar(query.with_for_update(of=Customer) if lock else query)


def _create(
    db: Session, organization: Organization, external_id: str, now: datetime, entity: BillingEntity
) -> Customer:
    organization.last_customer_number += 1
    customer = Customer(
        organization_id=organization.id,
        billing_entity=entity,
        external_id=external_id,
        sequential_id=organization.last_customer_number,
        slug=f"{entity.document_number_prefix}-{organization.last_customer_number:03d}",
        taxes=[],
        customer_metadata=[],
        created_at=now,
        updated_at=now,
    )
    db.add(customer)
    db.flush()
    return customer


def _complete(sent: Changes) -> dict[str, Any]:
    """The changes with what null stands for, and with the stored part of the billing configuration."""
    changes = tidy(sent)
    for field, default in (("account_type", "customer"), ("finalize_zero_amount_invoice", "inherit")):
        if field in changes:
            changes[field] = changes[field] or default
    if "customer_type" in changes:
        changes["customer_type"] = changes["customer_type"] or None
    if "shipping_address" in changes:
        changes["shipping_address"] = tidy(changes["shipping_address"] or {})
    configuration = changes.get("billing_configuration") or {}
    for field in ("document_locale", *ISSUING):
        if field in configuration:
            changes[field] = None if configuration[field] == "" else configuration[field]
    return changes


def _check(changes: Changes) -> None:
    problems = Problems()
    check_mandatory(problems, changes, ("external_id",), creating=True)
    check_external_id(problems, changes, "external_id")
    if len(changes.get("name") or "") > LONGEST_NAME:
        problems.add("name", "value_is_too_long")
    check_contact(problems, changes)
    check_contact(problems, changes.get("shipping_address") or {})
    check_currency(problems, changes, "currency")
    check_one_of(problems, changes, "account_type", ACCOUNT_TYPES)
    check_one_of(problems, changes, "customer_type", CUSTOMER_TYPES)
    check_one_of(problems, changes, "subscription_invoice_issuing_date_anchor", [*Anchor])
    check_one_of(problems, changes, "subscription_invoice_issuing_date_adjustment", [*Adjustment])
    check_one_of(problems, changes, "finalize_zero_amount_invoice", ZERO_AMOUNT_CHOICES, "invalid_value")
    if len(changes.get("metadata") or ()) > MOST_METADATA:
        problems.add("metadata", "invalid_count")
    problems.check()


def _write_metadata(customer: Customer, sent: Sequence[Changes], now: datetime) -> None:
    """Make a customer's notes those that were sent: changed by `id`, made without one, and removed when absent."""
    known = {entry.id: entry for entry in customer.customer_metadata}
    kept = []
    for one in sent:
        entry_id = as_uuid(one.get("id"))
        entry = (known.pop(entry_id, None) if entry_id else None) or CustomerMetadata(created_at=now)
        assign(entry, one, ("key", "value"))
        entry.display_in_invoice = bool(one.get("display_in_invoice", entry.display_in_invoice))
        kept.append(entry)
    problems = Problems()
    for field in ("key", "value"):
        if any(empty(getattr(entry, field)) for entry in kept):
            problems.add(field, "value_is_mandatory")
    if len({entry.key for entry in kept}) < len(kept):
        problems.add("key", "value_already_exist")
    problems.check()
    customer.customer_metadata = kept
