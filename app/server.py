"""The Litestar application: which controllers it has, what they are given, and how errors leave it."""

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import ScalarRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.orm import Session

from app.api import errors
from app.api.access import Access, Caller, require_admin_key, require_key
from app.api.billable_metrics import BillableMetricController
from app.api.customers import CustomerController
from app.api.organizations import AdminOrganizationController, ApiKeyController, OrganizationController
from app.api.plans import PlanController
from app.api.request import ExactRequest
from app.api.taxes import TaxController
from app.api.wire import provide_page
from app.clock import now_of
from app.errors import Unauthorized
from app.models import Organization
from app.service import Service

AnyRequest = Request[Any, Any, Any]


def provide_db(state: State) -> Iterator[Session]:
    """A session whose transaction is the request's: committed before the answer is sent, rolled back on an error."""
    service: Service = state.service
    with service.postgres.session() as session:
        yield session


def provide_caller(request: AnyRequest) -> Caller:
    """Who is asking; the guard has put it there."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def provide_organization(caller: Caller, db: Session) -> Organization:
    """The caller's organization."""
    organization = db.get(Organization, caller.organization_id)
    if organization is None:
        raise Unauthorized
    return organization


def provide_now(organization: Organization) -> datetime:
    """The time in the caller's organization."""
    return now_of(organization)


def provide_service(state: State) -> Service:
    """The service behind the application."""
    service: Service = state.service
    return service


def make_application(service: Service) -> Litestar:
    """The application that serves the API on top of an opened service."""
    public = Router(
        "/api/v1",
        route_handlers=[
            BillableMetricController,
            CustomerController,
            OrganizationController,
            PlanController,
            TaxController,
        ],
        guards=[require_key],
        security=[{"api_key": []}],
    )
    admin = Router(
        "/admin",
        route_handlers=[AdminOrganizationController, ApiKeyController],
        guards=[require_admin_key],
        security=[{"admin_key": []}],
    )
    return Litestar(
        route_handlers=[public, admin],
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
        openapi_config=openapi_config(),
        request_max_body_size=service.settings.max_body_bytes,
        state=State({"service": service, "access": Access(service.postgres, service.settings.admin_key)}),
    )


def openapi_config() -> OpenAPIConfig:
    """The OpenAPI 3.1 document at `/openapi.json`, and the page to browse it at `/docs`."""
    return OpenAPIConfig(
        title="Meterhouse",
        version=version("meterhouse"),
        description="Usage metering and billing. Wire-compatible with Lago's API.",
        path="/docs",
        components=Components(
            security_schemes={
                "api_key": SecurityScheme(type="http", scheme="bearer", description="An organization's API key."),
                "admin_key": SecurityScheme(type="http", scheme="bearer", description="The service's admin key."),
            }
        ),
        render_plugins=[ScalarRenderPlugin()],
    )
