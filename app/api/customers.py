"""`/api/v1/customers` (billing spec 11.4, 11.6)."""

import re
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import Parameter
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, post
from app.api.taxes import TaxObject, tax_object
from app.api.wire import Count, Opt, PageMeta, Str, changes, fill, instant, paginate
from app.billing.wallets import terminate_wallets
from app.customers.billing_entities import ids_of
from app.customers.customers import (
    ACCOUNT_TYPES,
    ADDRESS,
    CUSTOMER_TYPES,
    delete_customer,
    find_customer,
    search_customers,
    upsert_customer,
)
from app.customers.subscriptions import end_all, reschedule
from app.errors import Problems
from app.models import Customer, CustomerMetadata
from app.validation import check_one_of

METADATA_FILTER = re.compile(r"metadata\[(.+)\]").fullmatch

AnyRequest = Request[Any, Any, Any]


class AddressInput(Struct):
    address_line1: Str | Opt | None = UNSET
    address_line2: Str | Opt | None = UNSET
    city: Str | Opt | None = UNSET
    zipcode: Str | Opt | None = UNSET
    state: Str | Opt | None = UNSET
    country: Str | Opt | None = UNSET


class CustomerBillingConfigurationInput(Struct):
    invoice_grace_period: Count | Opt | None = UNSET
    subscription_invoice_issuing_date_anchor: Str | Opt | None = UNSET
    subscription_invoice_issuing_date_adjustment: Str | Opt | None = UNSET
    payment_provider: Str | Opt | None = UNSET
    payment_provider_code: Str | Opt | None = UNSET
    provider_customer_id: Str | Opt | None = UNSET
    sync: bool | Opt | None = UNSET
    sync_with_provider: bool | Opt | None = UNSET
    document_locale: Str | Opt | None = UNSET
    provider_payment_methods: list[Str] | Opt | None = UNSET


class IntegrationCustomerInput(Struct):
    id: Str | Opt | None = UNSET
    integration_type: Str | Opt | None = UNSET
    integration_code: Str | Opt | None = UNSET
    external_customer_id: Str | Opt | None = UNSET
    sync_with_provider: bool | Opt | None = UNSET
    subsidiary_id: Str | Opt | None = UNSET


class MetadataInput(Struct):
    id: Str | Opt | None = UNSET
    key: Str | Opt | None = UNSET
    value: Str | Opt | None = UNSET
    display_in_invoice: bool | Opt | None = UNSET


class CustomerInput(Struct):
    external_id: Str | Opt | None = UNSET
    billing_entity_code: Str | Opt | None = UNSET
    address_line1: Str | Opt | None = UNSET
    address_line2: Str | Opt | None = UNSET
    city: Str | Opt | None = UNSET
    country: Str | Opt | None = UNSET
    currency: Str | Opt | None = UNSET
    email: Str | Opt | None = UNSET
    legal_name: Str | Opt | None = UNSET
    legal_number: Str | Opt | None = UNSET
    logo_url: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    firstname: Str | Opt | None = UNSET
    lastname: Str | Opt | None = UNSET
    account_type: Str | Opt | None = UNSET
    customer_type: Str | Opt | None = UNSET
    phone: Str | Opt | None = UNSET
    state: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET
    tax_identification_number: Str | Opt | None = UNSET
    timezone: Str | Opt | None = UNSET
    url: Str | Opt | None = UNSET
    zipcode: Str | Opt | None = UNSET
    net_payment_term: Count | Opt | None = UNSET
    finalize_zero_amount_invoice: Str | Opt | None = UNSET
    billing_configuration: CustomerBillingConfigurationInput | Opt | None = UNSET
    shipping_address: AddressInput | Opt | None = UNSET
    integration_customers: list[IntegrationCustomerInput] | Opt | None = UNSET
    metadata: list[MetadataInput] | Opt | None = UNSET
    skip_invoice_custom_sections: bool | Opt | None = UNSET
    invoice_custom_section_codes: list[Str] | Opt | None = UNSET


class CustomerBody(Struct):
    customer: CustomerInput


class AddressObject(Struct):
    address_line1: str | None
    address_line2: str | None
    city: str | None
    zipcode: str | None
    state: str | None
    country: str | None


class CustomerBillingConfigurationObject(Struct):
    document_locale: str | None
    invoice_grace_period: int = 0
    subscription_invoice_issuing_date_anchor: str | None = None
    subscription_invoice_issuing_date_adjustment: str | None = None
    payment_provider: str | None = None
    payment_provider_code: str | None = None
    provider_customer_id: str | None = None
    sync: bool = False
    sync_with_provider: bool = False
    provider_payment_methods: list[str] = []


class CustomerMetadataObject(Struct):
    lago_id: UUID
    key: str
    value: str
    display_in_invoice: bool
    created_at: str


class CustomerObject(Struct, kw_only=True):
    lago_id: UUID
    sequential_id: int
    slug: str
    external_id: str
    billing_entity_code: str
    address_line1: str | None
    address_line2: str | None
    applicable_timezone: str
    city: str | None
    country: str | None
    currency: str | None
    email: str | None
    legal_name: str | None
    legal_number: str | None
    logo_url: str | None
    name: str | None
    firstname: str | None
    lastname: str | None
    account_type: str
    customer_type: str | None
    phone: str | None
    state: str | None
    tax_identification_number: str | None
    timezone: str | None
    url: str | None
    zipcode: str | None
    net_payment_term: int | None
    created_at: str
    updated_at: str
    finalize_zero_amount_invoice: str
    skip_invoice_custom_sections: bool = False
    billing_configuration: CustomerBillingConfigurationObject
    shipping_address: AddressObject
    metadata: list[CustomerMetadataObject]
    integration_customers: list[Any] = []
    taxes: list[TaxObject] | Opt = UNSET
    applicable_invoice_custom_sections: list[Any] | Opt = UNSET
    error_details: list[Any] | Opt = UNSET


class CustomerAnswer(Struct):
    customer: CustomerObject


class CustomersAnswer(Struct):
    customers: list[CustomerObject]
    meta: PageMeta


def customer_object(customer: Customer, extended: bool = True) -> CustomerObject:
    """A customer as it is on the wire, alone (`extended`) or within another object.

    What `CUSTOMER_PARTS` names must be loaded.
    """
    shown = fill(
        CustomerObject,
        customer,
        lago_id=customer.id,
        billing_entity_code=customer.billing_entity.code,
        applicable_timezone=customer.applicable_timezone,
        created_at=instant(customer.created_at),
        updated_at=instant(customer.updated_at),
        billing_configuration=CustomerBillingConfigurationObject(customer.document_locale),
        shipping_address=AddressObject(**{field: customer.shipping_address.get(field) for field in ADDRESS}),
        metadata=[_metadata_object(entry) for entry in customer.customer_metadata],
    )
    if extended:
        shown.taxes = [tax_object(tax) for tax in customer.taxes]
        shown.applicable_invoice_custom_sections = []
        shown.error_details = []
    return shown


def _metadata_object(entry: CustomerMetadata) -> CustomerMetadataObject:
    return fill(CustomerMetadataObject, entry, lago_id=entry.id, created_at=instant(entry.created_at))


class CustomerController(Controller):
    path = "/customers"
    tags = ["customers"]
    opt = {"resource": "customer"}

    @post()
    def upsert_customer(self, data: CustomerBody, db: Db, organization: Org, now: Now) -> CustomerAnswer:
        """Make the customer with an external id, or change the one there is."""
        sent = changes(data.customer)
        customer = upsert_customer(db, organization, sent, now)
        if "timezone" in sent or "billing_entity_code" in sent:
            reschedule(db, organization.id, now, customer=customer)
        return CustomerAnswer(customer_object(customer))

    @get()
    def list_customers(
        self,
        *,
        request: AnyRequest,
        db: Db,
        organization: Org,
        paging: Paging,
        search_term: str | None = None,
        external_id: str | None = None,
        customer_type: str | None = None,
        has_customer_type: bool | None = None,
        has_tax_identification_number: bool | None = None,
        account_types: Annotated[list[str] | None, Parameter(query="account_type[]")] = None,
        billing_entity_codes: Annotated[list[str] | None, Parameter(query="billing_entity_codes[]")] = None,
        countries: Annotated[list[str] | None, Parameter(query="countries[]")] = None,
        states: Annotated[list[str] | None, Parameter(query="states[]")] = None,
        zipcodes: Annotated[list[str] | None, Parameter(query="zipcodes[]")] = None,
        currencies: Annotated[list[str] | None, Parameter(query="currencies[]")] = None,
    ) -> CustomersAnswer:
        """The customers that pass all filters, newest first."""
        problems = Problems()
        check_one_of(problems, {"customer_type": customer_type}, "customer_type", CUSTOMER_TYPES)
        for account_type in account_types or ():
            check_one_of(problems, {"account_type": account_type}, "account_type", ACCOUNT_TYPES)
        problems.check()
        asked = ((METADATA_FILTER(name), value) for name, value in request.query_params.multi_items())
        query = search_customers(
            organization.id,
            term=search_term,
            one_of={
                Customer.external_id: None if external_id is None else [external_id],
                Customer.customer_type: None if customer_type is None else [customer_type],
                Customer.account_type: account_types,
                Customer.country: countries and [country.upper() for country in countries],
                Customer.state: states,
                Customer.zipcode: zipcodes,
                Customer.currency: currencies,
            },
            present={
                Customer.customer_type: has_customer_type,
                Customer.tax_identification_number: has_tax_identification_number,
            },
            metadata={match[1]: value for match, value in asked if match},
        )
        if billing_entity_codes is not None:
            query = query.where(Customer.billing_entity_id.in_(ids_of(organization.id, billing_entity_codes)))
        customers, meta = paginate(db, query, paging)
        return CustomersAnswer([customer_object(customer) for customer in customers], meta)

    @get("/{external_id:str}")
    def get_customer(self, external_id: str, db: Db, organization: Org) -> CustomerAnswer:
        """One customer."""
        return CustomerAnswer(customer_object(find_customer(db, organization.id, external_id)))

    @delete("/{external_id:str}")
    def remove_customer(
        self, external_id: str, db: Db, service: Running, organization: Org, now: Now
    ) -> CustomerAnswer:
        """Delete a customer; its subscriptions end and are billed for the last time."""
        service.wait_until_readable(organization.id)
        customer = find_customer(db, organization.id, external_id, lock=True)
        end_all(db, customer, now, service.billing_meter)
        terminate_wallets(db, customer.id, now)
        delete_customer(customer, now)
        return CustomerAnswer(customer_object(customer))
