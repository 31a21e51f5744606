"""`/api/v1/test_clock`: the simulated time of a sandbox organization (design: time)."""

import threading
from collections import defaultdict
from datetime import datetime
from uuid import UUID

from litestar import Controller
from litestar.datastructures import State
from msgspec import Struct
from sqlalchemy import update

from app.api.access import Access
from app.api.given import Called, Now
from app.api.routes import get, put
from app.api.wire import instant, parse_instant
from app.clock import system_now
from app.errors import Forbidden, invalid
from app.models import Organization
from app.service import Service

_advancing: dict[UUID, threading.Lock] = defaultdict(threading.Lock)


class TestClockInput(Struct):
    now: str


class TestClockBody(Struct):
    test_clock: TestClockInput


class TestClockObject(Struct):
    now: str


class TestClockAnswer(Struct):
    test_clock: TestClockObject


class TestClockController(Controller):
    path = "/test_clock"
    tags = ["test clock"]
    opt = {"resource": "organization"}

    @get()
    def get_test_clock(self, caller: Called, now: Now) -> TestClockAnswer:
        """The time in a sandbox organization."""
        if not caller.sandbox:
            raise Forbidden("feature_unavailable")
        return TestClockAnswer(TestClockObject(instant(now)))

    @put()
    def set_test_clock(self, data: TestClockBody, caller: Called, state: State) -> TestClockAnswer:
        """Move a sandbox's time forward; answers when everything that came due on the way has been done, in the order of
        time. The first call may set any instant."""
        if not caller.sandbox:
            raise Forbidden("feature_unavailable")
        to = parse_instant(data.test_clock.now, "now")
        service: Service = state.service
        access: Access = state.access
        with _advancing[caller.organization_id]:
            _advance(service, access, caller.organization_id, to)
        return TestClockAnswer(TestClockObject(instant(to)))


def _advance(service: Service, access: Access, organization_id: UUID, to: datetime) -> None:
    with service.postgres.session() as db:
        organization = db.get_one(Organization, organization_id)
        if organization.test_clock is not None and to < organization.test_clock:
            raise invalid("now", "value_is_invalid")
        before = organization.test_clock
    service.wait_until_readable(organization_id)
    for instant_due in service.due.run_sandbox(organization_id, before, to):
        _set(service, access, organization_id, instant_due)
    if before is not None:
        service.event_checks.run_sandbox(organization_id, before, to, system_now())
    _set(service, access, organization_id, to)


def _set(service: Service, access: Access, organization_id: UUID, now: datetime) -> None:
    with service.postgres.session() as db:
        db.execute(update(Organization).where(Organization.id == organization_id).values(test_clock=now))
    access.forget()
