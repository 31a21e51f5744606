"""The PostgreSQL tables, by subject."""

from app.models.advance import AdvanceLevel, AdvanceMark
from app.models.base import Base, among
from app.models.billing_entity import BillingEntity
from app.models.billing_run import BillingRun
from app.models.catalog import (
    AddOn,
    BillableMetric,
    Charge,
    ChargeFilter,
    Feature,
    FixedCharge,
    MinimumCommitment,
    Plan,
    PlanEntitlement,
    PricingUnit,
    Tax,
)
from app.models.coupon import AppliedCoupon, Coupon
from app.models.credit_note import Credit, CreditNote, CreditNoteItem, CreditNoteTax
from app.models.customer import (
    Customer,
    CustomerMetadata,
    LifetimeUsage,
    OwnUnits,
    Subscription,
    SubscriptionEntitlement,
    SubscriptionUnits,
)
from app.models.invoice import (
    AdjustedFee,
    BillingPeriod,
    Fee,
    FeeTax,
    Invoice,
    InvoiceMetadata,
    InvoiceTax,
    PricedTerms,
)
from app.models.metering import EventCheck
from app.models.organization import ApiKey, Organization, Setting
from app.models.versions import catalog_changed

__all__ = [
    "AddOn",
    "AdjustedFee",
    "AdvanceLevel",
    "AdvanceMark",
    "ApiKey",
    "AppliedCoupon",
    "Base",
    "BillableMetric",
    "BillingEntity",
    "BillingPeriod",
    "BillingRun",
    "Charge",
    "ChargeFilter",
    "Coupon",
    "Credit",
    "CreditNote",
    "CreditNoteItem",
    "CreditNoteTax",
    "Customer",
    "CustomerMetadata",
    "EventCheck",
    "Feature",
    "Fee",
    "FeeTax",
    "FixedCharge",
    "Invoice",
    "InvoiceMetadata",
    "InvoiceTax",
    "LifetimeUsage",
    "MinimumCommitment",
    "Organization",
    "OwnUnits",
    "Plan",
    "PlanEntitlement",
    "PricedTerms",
    "PricingUnit",
    "Setting",
    "Subscription",
    "SubscriptionEntitlement",
    "SubscriptionUnits",
    "Tax",
    "among",
    "catalog_changed",
]
