"""`/api/v1/event_problems`: events that are kept and not billed as they were meant (metering spec 1.10)."""

from datetime import datetime, timedelta
from typing import Annotated

from litestar import Controller
from litestar.params import Parameter
from msgspec import Struct

from app.api.event_objects import event_objects
from app.api.events import EventsPage, date_filter
from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import get
from app.api.wire import instant_ms, instant_ms_or_none
from app.errors import NotFound
from app.metering.problems import Reason, Scope, count_problems, list_problems
from app.metering.stored import within
from app.models import Organization

DEFAULT_SPAN = timedelta(days=30)
MOST_CODES = 1_000

From = Annotated[
    str | None, Parameter(query="from", description="ISO 8601; inclusive. Without it, 30 days before `to` or now.")
]
To = Annotated[str | None, Parameter(query="to", description="ISO 8601; inclusive. Without it there is no end.")]


class CodeCount(Struct):
    code: str
    events_count: int


class ProblemObject(Struct):
    reason: str
    events_count: int
    codes_count: int
    codes: list[CodeCount]


class EventProblemsObject(Struct, rename={"from_": "from"}):
    from_: str
    to: str | None
    reasons: list[ProblemObject]


class EventProblemsAnswer(Struct):
    event_problems: EventProblemsObject


class EventProblemController(Controller):
    path = "/event_problems"
    tags = ["events"]
    opt = {"resource": "event"}

    @get()
    def count_event_problems(
        self,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        from_: From = None,
        to: To = None,
        code: str | None = None,
        external_subscription_id: str | None = None,
    ) -> EventProblemsAnswer:
        """How many events of a span of time (by their timestamps) are not billed as they were meant: by reason, with the
        most frequent codes of each. An event with two reasons counts under both."""
        scope = _scope(organization, now, from_, to, code, external_subscription_id)
        service.wait_until_readable(organization.id)
        counts = count_problems(db, service.clickhouse, scope)
        reasons = [_problem(reason, by_code) for reason, by_code in counts.items()]
        return EventProblemsAnswer(EventProblemsObject(instant_ms(scope.from_), instant_ms_or_none(scope.to), reasons))

    @get("/{reason:str}")
    def list_event_problems(
        self,
        reason: Annotated[str, Parameter(description="One of the reasons that the counts have.")],
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        paging: Paging,
        from_: From = None,
        to: To = None,
        code: str | None = None,
        external_subscription_id: str | None = None,
    ) -> EventsPage:
        """The events with one reason, by subscription, code and time."""
        try:
            known = Reason(reason)
        except ValueError:
            raise NotFound("reason") from None
        scope = _scope(organization, now, from_, to, code, external_subscription_id)
        service.wait_until_readable(organization.id)
        events, total = list_problems(db, service.clickhouse, scope, known, paging.per_page, paging.offset)
        return EventsPage(event_objects(events), paging.meta(total))


def _scope(
    organization: Organization,
    now: datetime,
    from_: str | None,
    to: str | None,
    code: str | None,
    external_subscription_id: str | None,
) -> Scope:
    end, start = date_filter("to", to), date_filter("from", from_)
    until = None if end is None else within(end)
    since = within(start or (until or now) - DEFAULT_SPAN)
    return Scope(organization.id, since, until, code, external_subscription_id)


def _problem(reason: Reason, by_code: dict[str, int]) -> ProblemObject:
    most = sorted(by_code.items(), key=lambda one: (-one[1], one[0]))[:MOST_CODES]
    return ProblemObject(
        reason=reason.value,
        events_count=sum(by_code.values()),
        codes_count=len(by_code),
        codes=[CodeCount(code, number) for code, number in most],
    )
