"""`/api/v1/billing_entities` (billing spec 3.4, 4.1)."""

from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org
from app.api.routes import get, post, put
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Count, Opt, Str, changes, fill, instant
from app.customers.billing_entities import create_entity, entities, find_entity
from app.customers.entity_changes import change_entity
from app.models import BillingEntity


class BillingConfigurationInput(Struct):
    invoice_footer: Str | Opt | None = UNSET
    document_locale: Str | Opt | None = UNSET
    invoice_grace_period: Count | Opt | None = UNSET
    subscription_invoice_issuing_date_anchor: Str | Opt | None = UNSET
    subscription_invoice_issuing_date_adjustment: Str | Opt | None = UNSET


class BillingEntityInput(Struct):
    """`logo` and `logo_url` are the same; custom sections of invoices are read for their type only."""

    name: Str | Opt | None = UNSET
    default_currency: Str | Opt | None = UNSET
    document_numbering: Str | Opt | None = UNSET
    document_number_prefix: Str | Opt | None = UNSET
    finalize_zero_amount_invoice: bool | Opt | None = UNSET
    billing_configuration: BillingConfigurationInput | Opt | None = UNSET
    net_payment_term: Count | Opt | None = UNSET
    address_line1: Str | Opt | None = UNSET
    address_line2: Str | Opt | None = UNSET
    city: Str | Opt | None = UNSET
    state: Str | Opt | None = UNSET
    country: Str | Opt | None = UNSET
    zipcode: Str | Opt | None = UNSET
    email: Str | Opt | None = UNSET
    phone: Str | Opt | None = UNSET
    legal_name: Str | Opt | None = UNSET
    legal_number: Str | Opt | None = UNSET
    tax_identification_number: Str | Opt | None = UNSET
    timezone: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    email_settings: list[Str] | Opt | None = UNSET
    eu_tax_management: bool | Opt | None = UNSET
    logo: Str | Opt | None = UNSET
    logo_url: Str | Opt | None = UNSET
    invoice_custom_section_codes: list[Str] | Opt | None = UNSET


class BillingEntityBody(Struct):
    billing_entity: BillingEntityInput


class NewBillingEntityInput(BillingEntityInput):
    code: Str | Opt | None = UNSET


class NewBillingEntityBody(Struct):
    billing_entity: NewBillingEntityInput


class BillingEntityObject(Struct, kw_only=True):
    lago_id: UUID
    code: str
    name: str
    default_currency: str
    document_locale: str
    document_numbering: str
    document_number_prefix: str
    finalize_zero_amount_invoice: bool
    invoice_footer: str | None
    invoice_grace_period: int
    subscription_invoice_issuing_date_anchor: str
    subscription_invoice_issuing_date_adjustment: str
    is_default: bool
    net_payment_term: int
    address_line1: str | None
    address_line2: str | None
    city: str | None
    state: str | None
    country: str | None
    zipcode: str | None
    email: str | None
    phone: str | None
    legal_name: str | None
    legal_number: str | None
    tax_identification_number: str | None
    timezone: str
    email_settings: list[str]
    eu_tax_management: bool
    logo_url: str | None
    created_at: str
    updated_at: str


class BillingEntityObjectExtended(BillingEntityObject, kw_only=True):
    taxes: list[TaxObject]
    selected_invoice_custom_sections: list[Any] = []


class BillingEntityAnswer(Struct):
    billing_entity: BillingEntityObjectExtended


class BillingEntitiesAnswer(Struct):
    billing_entities: list[BillingEntityObject]


def _fields(entity: BillingEntity) -> dict[str, Any]:
    return {
        "lago_id": entity.id,
        "is_default": entity.is_default,
        "created_at": instant(entity.created_at),
        "updated_at": instant(entity.updated_at),
    }


def _answer(entity: BillingEntity) -> BillingEntityAnswer:
    taxes = [tax_object(tax) for tax in entity.taxes]
    return BillingEntityAnswer(fill(BillingEntityObjectExtended, entity, **_fields(entity), taxes=taxes))


def _sent(data: BillingEntityInput) -> dict[str, Any]:
    given = changes(data)
    return {**given, "logo_url": given["logo"]} if "logo" in given else given


class BillingEntityController(Controller):
    path = "/billing_entities"
    tags = ["billing entities"]
    opt = {"resource": "billing_entity"}

    @post()
    def create_billing_entity(
        self, data: NewBillingEntityBody, db: Db, organization: Org, now: Now
    ) -> BillingEntityAnswer:
        """Make one more billing entity. What is not sent is as for a new organization."""
        return _answer(create_entity(db, organization.id, _sent(data.billing_entity), now))

    @get()
    def list_billing_entities(self, db: Db, organization: Org) -> BillingEntitiesAnswer:
        """All billing entities, newest first."""
        found = db.scalars(entities(organization.id))
        return BillingEntitiesAnswer([fill(BillingEntityObject, one, **_fields(one)) for one in found])

    @get("/{code:path}")
    def get_billing_entity(self, code: str, db: Db, organization: Org) -> BillingEntityAnswer:
        """One billing entity."""
        return _answer(find_entity(db, organization.id, code[1:]))

    @put("/{code:path}")
    def update_billing_entity(
        self, code: str, data: BillingEntityBody, db: Db, organization: Org, now: Now
    ) -> BillingEntityAnswer:
        """Change a billing entity. What it has issued stays as it is; the settings of the default one are those of the
        organization."""
        entity = find_entity(db, organization.id, code[1:])
        change_entity(db, entity, _sent(data.billing_entity), now)
        return _answer(entity)
