"""The PostgreSQL tables, by subject."""

from app.models.advance import AdvanceLevel, AdvanceMark
from app.models.alert import Alert, TriggeredAlert
from app.models.base import Base, among, instants, uuids, write_alike
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
    LocalCustomer,
    OwnUnits,
    StartedSubscription,
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
from app.models.payment import Payment, PaymentReceipt, PaymentRequest, payment_request_invoices
from app.models.progressive import AppliedUsageThreshold, UsageCheck, UsageMark, UsageThreshold
from app.models.versions import catalog_changed
from app.models.wallet import (
    DEFAULT_PRIORITY,
    RecurringTransactionRule,
    Wallet,
    WalletConsumption,
    WalletMark,
    WalletTransaction,
    wallet_metrics,
)
from app.models.wallet_refreshes import balances_outdated

__all__ = [
    "DEFAULT_PRIORITY",
    "AddOn",
    "AdjustedFee",
    "AdvanceLevel",
    "AdvanceMark",
    "Alert",
    "ApiKey",
    "AppliedCoupon",
    "AppliedUsageThreshold",
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
    "LocalCustomer",
    "MinimumCommitment",
    "Organization",
    "OwnUnits",
    "Payment",
    "PaymentReceipt",
    "PaymentRequest",
    "Plan",
    "PlanEntitlement",
    "PricedTerms",
    "PricingUnit",
    "RecurringTransactionRule",
    "Setting",
    "StartedSubscription",
    "Subscription",
    "SubscriptionEntitlement",
    "SubscriptionUnits",
    "Tax",
    "TriggeredAlert",
    "UsageCheck",
    "UsageMark",
    "UsageThreshold",
    "Wallet",
    "WalletConsumption",
    "WalletMark",
    "WalletTransaction",
    "among",
    "balances_outdated",
    "catalog_changed",
    "instants",
    "payment_request_invoices",
    "uuids",
    "wallet_metrics",
    "write_alike",
]
