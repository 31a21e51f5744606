"""Whom invoices are for, and who issues them, from what is stored (billing spec 0.2, 2.4, 3.2, 3.4)."""

from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from app.billing.claims import DueCustomer, DueSubscription
from app.billing.invoice_drafts import Payer, Payers
from app.core.issuing_dates import Adjustment, Anchor, IssuingRules
from app.models import BillingEntity, Customer, Subscription


def timezone_of(customer: Customer | DueCustomer) -> ZoneInfo:
    """The timezone of everything that is local to a customer, loaded with its billing entity (billing spec 0.2)."""
    return ZoneInfo(customer.applicable_timezone)


def payers_of(subscriptions: Iterable[Subscription | DueSubscription]) -> Payers:
    """Whom the invoices of subscriptions are for, and who issues them. The customers, their entities and those of the
    subscriptions must be loaded."""
    pairs = {(one.customer_id, one.issuer.id): one for one in subscriptions}
    return {key: payer_of(one.customer, one.issuer) for key, one in pairs.items()}


def payer_of(customer: Customer | DueCustomer, issuer: BillingEntity | None = None) -> Payer:
    """What an invoice needs to know of a customer, loaded with its billing entity, and of who issues it: that entity, or
    another. Terms that the customer has not of its own are the issuer's."""
    issuer = issuer or customer.billing_entity
    policy = customer.finalize_zero_amount_invoice
    return Payer(
        customer_id=customer.id,
        organization_id=customer.organization_id,
        billing_entity_id=issuer.id,
        customer_number=customer.sequential_id,
        tz=timezone_of(customer),
        issuer_tz=ZoneInfo(issuer.timezone),
        issuing=issuing_rules(customer, issuer),
        finalize_zero=issuer.finalize_zero_amount_invoice if policy == "inherit" else policy == "finalize",
        numbering=issuer.document_numbering,
        prefix=issuer.document_number_prefix,
    )


def issuing_rules(customer: Customer | DueCustomer, issuer: BillingEntity) -> IssuingRules:
    """What decides the dates of a customer's invoices: what it says itself, else who issues them (billing spec 3.2)."""

    def own(field: str) -> Any:
        value = getattr(customer, field)
        return getattr(issuer, field) if value is None else value

    return IssuingRules(
        grace_period=own("invoice_grace_period"),
        anchor=Anchor(own("subscription_invoice_issuing_date_anchor")),
        adjustment=Adjustment(own("subscription_invoice_issuing_date_adjustment")),
        net_payment_term=own("net_payment_term"),
    )
