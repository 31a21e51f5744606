"""`/api/v1/organizations` and `/admin/organizations` (billing spec 3.4, 11)."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller
from litestar.datastructures import State
from msgspec import UNSET, Meta, Struct

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.taxes import TaxObject, tax_object
from app.api.wire import (
    Count,
    Opt,
    PageMeta,
    Str,
    changes,
    fill,
    instant,
    instant_or_none,
    paginate,
    parse_instant,
)
from app.clock import system_now
from app.customers.api_keys import create_key, find_key, key_status, organization_keys, revoke_key, rotate_key
from app.customers.billing_entities import default_entities, default_entity
from app.customers.organizations import (
    create_organization,
    find_organization,
    organization_numbering,
    organizations,
    update_organization,
)
from app.models import ApiKey, BillingEntity, Organization
from app.stores.postgres import after_commit

Resource = Annotated[str, Meta(pattern="^[a-z_]{1,50}$")]


class BillingConfigurationInput(Struct):
    invoice_footer: Str | Opt | None = UNSET
    invoice_grace_period: Count | Opt | None = UNSET
    subscription_invoice_issuing_date_anchor: Str | Opt | None = UNSET
    subscription_invoice_issuing_date_adjustment: Str | Opt | None = UNSET
    document_locale: Str | Opt | None = UNSET


class OrganizationInput(Struct):
    webhook_url: Str | Opt | None = UNSET
    country: Str | Opt | None = UNSET
    default_currency: Str | Opt | None = UNSET
    address_line1: Str | Opt | None = UNSET
    address_line2: Str | Opt | None = UNSET
    state: Str | Opt | None = UNSET
    zipcode: Str | Opt | None = UNSET
    email: Str | Opt | None = UNSET
    city: Str | Opt | None = UNSET
    legal_name: Str | Opt | None = UNSET
    legal_number: Str | Opt | None = UNSET
    document_numbering: Str | Opt | None = UNSET
    document_number_prefix: Str | Opt | None = UNSET
    net_payment_term: Count | Opt | None = UNSET
    tax_identification_number: Str | Opt | None = UNSET
    timezone: Str | Opt | None = UNSET
    email_settings: list[Str] | Opt | None = UNSET
    finalize_zero_amount_invoice: bool | Opt | None = UNSET
    billing_configuration: BillingConfigurationInput | Opt | None = UNSET


class OrganizationBody(Struct):
    organization: OrganizationInput


class NewOrganizationInput(OrganizationInput):
    name: Str | Opt | None = UNSET
    sandbox: bool | Opt | None = UNSET


class NewOrganizationBody(Struct):
    organization: NewOrganizationInput


class BillingConfigurationObject(Struct):
    invoice_footer: str | None
    document_locale: str
    invoice_grace_period: int


class OrganizationObject(Struct, kw_only=True):
    lago_id: UUID
    name: str
    created_at: str
    country: str | None
    default_currency: str
    address_line1: str | None
    address_line2: str | None
    state: str | None
    zipcode: str | None
    email: str | None
    city: str | None
    legal_name: str | None
    legal_number: str | None
    document_numbering: str
    document_number_prefix: str
    net_payment_term: int
    tax_identification_number: str | None
    timezone: str
    email_settings: list[str]
    billing_configuration: BillingConfigurationObject
    taxes: list[TaxObject]
    finalize_zero_amount_invoice: bool
    webhook_url: str | None = None
    webhook_urls: list[str] = []
    events_store: str = "clickhouse"


class AdminOrganizationObject(OrganizationObject, kw_only=True):
    sandbox: bool
    api_key: str | Opt = UNSET


class OrganizationAnswer(Struct):
    organization: OrganizationObject


class AdminOrganizationAnswer(Struct):
    organization: AdminOrganizationObject


class AdminOrganizationsAnswer(Struct):
    organizations: list[AdminOrganizationObject]
    meta: PageMeta


class ApiKeyInput(Struct):
    name: Str | Opt | None = UNSET
    permissions: dict[Resource, list[Literal["read", "write"]]] | Opt | None = UNSET
    expires_at: Str | Opt | None = UNSET


class ApiKeyBody(Struct):
    api_key: ApiKeyInput


class ApiKeyObject(Struct):
    lago_id: UUID
    name: str | None
    hint: str
    permissions: dict[str, list[str]] | None
    status: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    value: str | Opt = UNSET


class ApiKeyAnswer(Struct):
    api_key: ApiKeyObject


class ApiKeysAnswer(Struct):
    api_keys: list[ApiKeyObject]
    meta: PageMeta


def organization_object(organization: Organization, entity: BillingEntity) -> OrganizationObject:
    """An organization as it is on the wire, with the settings of its default billing entity."""
    return fill(OrganizationObject, entity, **_made_fields(organization, entity))


def admin_organization_object(
    organization: Organization, entity: BillingEntity, key: str | Opt = UNSET
) -> AdminOrganizationObject:
    """An organization as the admin sees it, with its first key when it has just been made."""
    made = _made_fields(organization, entity)
    return fill(AdminOrganizationObject, entity, sandbox=organization.sandbox, api_key=key, **made)


def _made_fields(organization: Organization, entity: BillingEntity) -> dict[str, Any]:
    return {
        "lago_id": organization.id,
        "name": organization.name,
        "webhook_url": organization.webhook_url,
        "created_at": instant(organization.created_at),
        "document_numbering": organization_numbering(entity),
        "billing_configuration": BillingConfigurationObject(
            entity.invoice_footer, entity.document_locale, entity.invoice_grace_period
        ),
        "taxes": [tax_object(tax) for tax in entity.taxes],
    }


def api_key_object(key: ApiKey, now: datetime, value: str | Opt = UNSET) -> ApiKeyObject:
    """A key without its secret, or with it when it has just been made."""
    return ApiKeyObject(
        lago_id=key.id,
        name=key.name,
        hint=f"••••{key.hint}",
        permissions=key.permissions,
        status=key_status(key, now),
        created_at=instant(key.created_at),
        expires_at=instant_or_none(key.expires_at),
        revoked_at=instant_or_none(key.revoked_at),
        value=value,
    )


class OrganizationController(Controller):
    path = "/organizations"
    tags = ["organizations"]
    opt = {"resource": "organization"}

    @get()
    def get_organization(self, db: Db, organization: Org) -> OrganizationAnswer:
        """The organization the key belongs to."""
        return OrganizationAnswer(organization_object(organization, default_entity(db, organization.id)))

    @put()
    def update_organization(
        self, data: OrganizationBody, db: Db, organization: Org, now: Now, state: State
    ) -> OrganizationAnswer:
        """Change the organization the key belongs to."""
        entity = update_organization(db, organization.id, changes(data.organization), now)
        after_commit(db, state.access.forget)
        return OrganizationAnswer(organization_object(organization, entity))


class AdminOrganizationController(Controller):
    path = "/organizations"
    tags = ["admin"]

    @post()
    def create_organization(self, data: NewOrganizationBody, db: Db) -> AdminOrganizationAnswer:
        """Make an organization. Its first API key is shown here and never again."""
        fields = changes(data.organization)
        name, sandbox = fields.pop("name", None) or "", bool(fields.pop("sandbox", False))
        organization, key = create_organization(db, name=name, sandbox=sandbox, now=system_now(), **fields)
        entity = default_entity(db, organization.id)
        return AdminOrganizationAnswer(admin_organization_object(organization, entity, key))

    @get()
    def list_organizations(self, db: Db, paging: Paging) -> AdminOrganizationsAnswer:
        """All organizations, newest first."""
        rows, meta = paginate(db, organizations(), paging)
        by_id = default_entities(db, [row.id for row in rows])
        return AdminOrganizationsAnswer([admin_organization_object(row, by_id[row.id]) for row in rows], meta)

    @get("/{lago_id:str}")
    def get_organization(self, lago_id: str, db: Db) -> AdminOrganizationAnswer:
        """One organization."""
        organization = find_organization(db, lago_id)
        entity = default_entity(db, organization.id)
        return AdminOrganizationAnswer(admin_organization_object(organization, entity))


class ApiKeyController(Controller):
    path = "/organizations/{lago_id:str}/api_keys"
    tags = ["admin"]

    @post()
    def create_api_key(self, lago_id: str, data: ApiKeyBody, db: Db) -> ApiKeyAnswer:
        """Make an API key. Its value is shown here and never again."""
        organization, now = find_organization(db, lago_id), system_now()
        key, value = create_key(
            db,
            organization.id,
            now,
            name=data.api_key.name or None,
            permissions=None if data.api_key.permissions is UNSET else data.api_key.permissions,
            expires_at=_expiry(data.api_key),
        )
        return ApiKeyAnswer(api_key_object(key, now, value))

    @get()
    def list_api_keys(self, lago_id: str, db: Db, paging: Paging) -> ApiKeysAnswer:
        """All keys the organization has or had, newest first, without their secrets."""
        rows, meta = paginate(db, organization_keys(find_organization(db, lago_id).id), paging)
        now = system_now()
        return ApiKeysAnswer([api_key_object(key, now) for key in rows], meta)

    @post("/{key_id:str}/rotate")
    def rotate_api_key(
        self, lago_id: str, key_id: str, db: Db, state: State, data: ApiKeyBody | None = None
    ) -> ApiKeyAnswer:
        """Replace a key by one with the same name and permissions. The old one stops at once, or at `expires_at`."""
        now = system_now()
        old = find_key(db, find_organization(db, lago_id).id, key_id)
        key, value = rotate_key(db, old, _expiry(data.api_key) if data else None, now)
        after_commit(db, state.access.forget)
        return ApiKeyAnswer(api_key_object(key, now, value))

    @delete("/{key_id:str}")
    def revoke_api_key(self, lago_id: str, key_id: str, db: Db, state: State) -> ApiKeyAnswer:
        """Revoke a key. It stops working at once."""
        now = system_now()
        key = find_key(db, find_organization(db, lago_id).id, key_id)
        revoke_key(key, now)
        after_commit(db, state.access.forget)
        return ApiKeyAnswer(api_key_object(key, now))


def _expiry(sent_key: ApiKeyInput) -> datetime | None:
    return parse_instant(sent_key.expires_at, "expires_at") if isinstance(sent_key.expires_at, str) else None
