"""`/api/v1/event_errors`: what the hourly checks of events have found (metering spec 1.11)."""

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Org, Paging
from app.api.routes import get
from app.api.wire import PageMeta, instant, paginate
from app.metering.event_errors import event_checks


class EventErrorCounts(Struct):
    invalid_code: int
    missing_aggregation_property: int
    invalid_filter_values: int


class EventErrorObject(Struct):
    hour: str
    invalid_code: list[str]
    missing_aggregation_property: list[str]
    missing_group_key: None
    invalid_filter_values: list[str]
    counts: EventErrorCounts
    checked_at: str


class EventErrorsPage(Struct):
    event_errors: list[EventErrorObject]
    meta: PageMeta


class EventErrorController(Controller):
    path = "/event_errors"
    tags = ["events"]
    opt = {"resource": "event"}

    @get()
    def list_event_errors(self, db: Db, organization: Org, paging: Paging) -> EventErrorsPage:
        """The hours of the last 30 days in which events had errors, newest first: transaction ids, at most 1,000 of each
        error, and how many there were."""
        rows, meta = paginate(db, event_checks(organization.id), paging)
        found = [
            EventErrorObject(
                hour=instant(row.hour),
                counts=EventErrorCounts(**row.counts),
                checked_at=instant(row.checked_at),
                **row.errors,
            )
            for row in rows
        ]
        return EventErrorsPage(found, meta)
