"""The Litestar application: which controllers it has, what they are given, and how errors leave it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.orm import Session

from app.api import errors
from app.api.access import Access, Caller, require_admin_key, require_key
from app.api.add_ons import AddOnController
from app.api.adjusted_fees import AdjustedFeeController
from app.api.alerts import SubscriptionAlertController, TriggeredAlertController, WalletAlertController
from app.api.applied_coupons import AppliedCouponController, CustomerAppliedCouponController
from app.api.billable_metrics import BillableMetricController
from app.api.billing_entities import BillingEntityController
from app.api.billing_runs import BillingRunController
from app.api.charges import ChargeController, ChargeFilterController
from app.api.collection import CollectionController
from app.api.coupons import CouponController
from app.api.credit_notes import CreditNoteController, CustomerCreditNoteController
from app.api.customers import CustomerController
from app.api.doctor import DoctorController
from app.api.documented import AnswerSchemas
from app.api.encodings import ExpandedBody
from app.api.enriched_events import EnrichedEventController
from app.api.entitlements import PlanEntitlementController, SubscriptionEntitlementController
from app.api.estimates import EstimateController
from app.api.event_errors import EventErrorController
from app.api.event_problems import EventProblemController
from app.api.events import EventController
from app.api.explanations import FeeExplanationController, UsageExplanationController
from app.api.exports import ExportController
from app.api.features import FeatureController
from app.api.fees import FeeController
from app.api.fixed_charges import FixedChargeController, SubscriptionFixedChargeController
from app.api.given import Called, Db, Org
from app.api.health import health
from app.api.invoice_previews import InvoicePreviewController
from app.api.invoices import CustomerInvoiceController, InvoiceController
from app.api.lifetime_usage import LifetimeUsageController
from app.api.limits import LimitedBody
from app.api.organizations import AdminOrganizationController, ApiKeyController, OrganizationController
from app.api.payment_requests import CustomerPaymentRequestController, PaymentRequestController
from app.api.payments import CustomerPaymentController, PaymentController, PaymentReceiptController
from app.api.plan_metadata import PlanMetadataController
from app.api.plans import PlanController
from app.api.pricing_units import PricingUnitController
from app.api.projected_usage import ProjectedUsageController
from app.api.reference import ReferencePage
from app.api.regeneration import RegenerationController
from app.api.request import ExactRequest
from app.api.simulations import SimulationController
from app.api.slashes import joined
from app.api.subscription_charges import SubscriptionChargeController, SubscriptionChargeFilterController
from app.api.subscriptions import CustomerSubscriptionController, SubscriptionController
from app.api.taxes import TaxController
from app.api.test_clock import TestClockController
from app.api.usage import UsageController
from app.api.usage_analytics import UsageAnalyticsController
from app.api.usage_over_time import UsageOverTimeController
from app.api.wallet_metadata import CustomerWalletMetadataController, WalletMetadataController
from app.api.wallet_transactions import OneWalletTransactionController, WalletTransactionController
from app.api.wallets import CustomerWalletController, WalletController
from app.api.wire import provide_page
from app.catalog.changes import billed_in_advance, changed_metrics, watched
from app.clock import now_of
from app.errors import Unauthorized
from app.models import Organization
from app.service import Service

ENDINGS = ThreadPoolExecutor(4, thread_name_prefix="commit")


async def provide_db(state: State) -> AsyncIterator[Session]:
    """A session whose transaction is the request's: committed before the answer is sent, rolled back on an error. Once it
    is committed, the service is told which metrics it has changed.

    Transactions end in threads of their own: were they to share those of the handlers, handlers waiting for a lock could
    fill them all, and the commit that frees the lock would never run.
    """
    loop = asyncio.get_running_loop()
    service: Service = state.service
    transaction = service.postgres.session()
    session = transaction.__enter__()
    try:
        yield session
    except BaseException as error:  # noqa: BLE001 (it ends the transaction; the framework answers with it)
        with suppress(Exception):
            await loop.run_in_executor(ENDINGS, transaction.__exit__, type(error), error, error.__traceback__)
        return
    await loop.run_in_executor(ENDINGS, transaction.__exit__, None, None, None)
    for organization_id, code in changed_metrics(session):
        service.metrics_changed(organization_id, code)
    for organization_id in billed_in_advance(session):
        service.advance.begins(organization_id)
    if watched(session):
        service.usage_watch.begins()


def provide_caller(request: ExactRequest) -> Caller:
    """Who is asking; the guard has put it there."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def provide_organization(caller: Called, db: Db, state: State, request: ExactRequest) -> Organization:
    """The caller's organization. Before it changes anything, events are billed that came before and are billed by
    themselves: under what was in force when they came."""
    if request.method != "GET":
        service: Service = state.service
        service.wait_until_billed(caller.organization_id)
    organization = db.get(Organization, caller.organization_id)
    if organization is None:
        raise Unauthorized
    return organization


def provide_now(organization: Org) -> datetime:
    """The time in the caller's organization."""
    return now_of(organization)


def provide_service(state: State) -> Service:
    """The service behind the application."""
    service: Service = state.service
    return service


class Application(Litestar):
    """The application; codes with slashes are one segment of a path to its router."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == ScopeType.HTTP:
            scope["path"] = joined(scope["path"])
        await super().__call__(scope, receive, send)


def make_application(service: Service, admin_digests: Collection[str]) -> Litestar:
    """The application that serves the API on top of a service; `admin_digests` are those of the keys to `/admin`."""
    public = Router(
        "/api/v1",
        route_handlers=[
            AddOnController,
            AppliedCouponController,
            BillableMetricController,
            BillingEntityController,
            ChargeController,
            ChargeFilterController,
            CollectionController,
            RegenerationController,
            CouponController,
            CreditNoteController,
            CustomerAppliedCouponController,
            CustomerController,
            CustomerCreditNoteController,
            AdjustedFeeController,
            CustomerInvoiceController,
            CustomerPaymentController,
            CustomerPaymentRequestController,
            CustomerSubscriptionController,
            CustomerWalletController,
            CustomerWalletMetadataController,
            EnrichedEventController,
            EstimateController,
            EventController,
            EventErrorController,
            EventProblemController,
            ExportController,
            FeatureController,
            FeeController,
            FeeExplanationController,
            FixedChargeController,
            InvoiceController,
            InvoicePreviewController,
            LifetimeUsageController,
            OneWalletTransactionController,
            OrganizationController,
            PaymentController,
            PaymentReceiptController,
            PaymentRequestController,
            PlanController,
            PlanEntitlementController,
            PlanMetadataController,
            PricingUnitController,
            ProjectedUsageController,
            SimulationController,
            SubscriptionAlertController,
            SubscriptionChargeController,
            SubscriptionChargeFilterController,
            SubscriptionController,
            SubscriptionEntitlementController,
            SubscriptionFixedChargeController,
            TaxController,
            TestClockController,
            TriggeredAlertController,
            UsageAnalyticsController,
            UsageController,
            UsageExplanationController,
            UsageOverTimeController,
            WalletAlertController,
            WalletController,
            WalletMetadataController,
            WalletTransactionController,
        ],
        before_request=require_key,
        security=[{"api_key": []}],
    )
    admin = Router(
        "/admin",
        route_handlers=[AdminOrganizationController, ApiKeyController, BillingRunController, DoctorController],
        before_request=require_admin_key,
        security=[{"admin_key": []}],
    )
    return Application(
        route_handlers=[public, admin, health],
        dependencies={
            "db": Provide(provide_db),
            "service": Provide(provide_service, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
            "organization": Provide(provide_organization, sync_to_thread=True),
            "now": Provide(provide_now, sync_to_thread=False),
            "paging": Provide(provide_page, sync_to_thread=False),
        },
        exception_handlers=errors.HANDLERS,
        request_class=ExactRequest,
        logging_config=None,
        openapi_config=openapi_config(),
        plugins=[AnswerSchemas()],
        middleware=[
            DefineMiddleware(LimitedBody, limit=service.settings.max_body_bytes),
            DefineMiddleware(ExpandedBody, limit=service.settings.max_body_bytes),
        ],
        request_max_body_size=service.settings.max_body_bytes,
        state=State({"service": service, "access": Access(service.postgres, admin_digests)}),
    )


def openapi_config() -> OpenAPIConfig:
    """The OpenAPI 3.1 document at `/docs/openapi.json`, and the page to browse it at `/docs`."""
    return OpenAPIConfig(
        title="Meterhouse",
        version=version("meterhouse"),
        description="Usage metering and billing. Wire-compatible with Lago's API.",
        path="/docs",
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "api_key": SecurityScheme(type="http", scheme="bearer", description="An organization's API key."),
                "admin_key": SecurityScheme(type="http", scheme="bearer", description="The service's admin key."),
            }
        ),
        render_plugins=[ReferencePage()],
    )
