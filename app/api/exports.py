"""`/api/v1/exports`: events and usage as files of any size. Not in Lago's API."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pyarrow as pa
import structlog
from litestar import Controller
from litestar.concurrency import sync_to_thread
from litestar.params import Parameter
from litestar.response import Stream

from app.analytics.over_time import prepare
from app.api.events import event_filter
from app.api.given import Db, Now, Org, Running
from app.api.routes import get
from app.api.usage_over_time import read_asked
from app.clock import system_now
from app.core.timeline import Granularity
from app.errors import invalid
from app.exporting import events, usage
from app.exporting.formats import Format, encoded
from app.metering.over_time import Owner

MOST_BUCKETS = 1_000_000

log = structlog.get_logger(__name__)


class ExportController(Controller):
    path = "/exports"
    tags = ["exports"]

    @get("/events", opt={"resource": "event"})
    def export_events(
        self,
        db: Db,
        service: Running,
        organization: Org,
        format: Format = Format.PARQUET,  # noqa: A002 (its name on the wire)
        external_subscription_id: str | None = None,
        code: str | None = None,
        timestamp_from: str | None = None,
        timestamp_to: str | None = None,
    ) -> Stream:
        """Events as a file, by subscription, code and time: those ingested before the request. Both timestamps are
        inclusive."""
        wanted = event_filter(db, organization.id, external_subscription_id, code, timestamp_from, timestamp_to)
        service.wait_until_readable(organization.id)
        parts = events.event_parts(service.clickhouse, wanted, system_now())
        return _file("events", format, events.SCHEMA, parts)

    @get("/usage", opt={"resource": "analytics"})
    def export_usage(
        self,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        format: Format = Format.PARQUET,  # noqa: A002 (its name on the wire)
        time_granularity: Granularity = Granularity.DAILY,
        from_date: str | None = None,
        to_date: str | None = None,
        timezone: str | None = None,
        billable_metric_code: str | None = None,
        external_customer_id: str | None = None,
        external_subscription_id: str | None = None,
        split_by: Owner = Owner.SUBSCRIPTION,
        group_by: Annotated[list[str] | None, Parameter(description="Properties to tell usage apart by.")] = None,
    ) -> Stream:
        """Usage over time as a file, by subscription unless asked otherwise; see `/analytics/usage_over_time`."""
        asked = read_asked(
            time_granularity,
            from_date,
            to_date,
            timezone,
            billable_metric_code,
            external_customer_id,
            external_subscription_id,
            split_by,
            group_by,
        )
        question = prepare(db, organization, asked, now, MOST_BUCKETS)
        service.wait_until_readable(organization.id)
        columns = usage.schema(format)
        parts = usage.usage_parts(lambda part: service.usage_over_time(part, usage.MOST_ROWS), question, asked, columns)
        return _file("usage", format, columns, parts)


def _file(name: str, kind: Format, schema: pa.Schema, parts: Iterator[Any]) -> Stream:
    """The answer that streams a file. Its first part is made at once: what can be refused is refused with an error."""
    chunks = encoded(kind, schema, parts)
    try:
        first = next(chunks, b"")
    except pa.ArrowInvalid:
        raise invalid("format", "value_is_out_of_range") from None
    headers = {"Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    return Stream(_in_threads(name, first, chunks), media_type=kind.media_type, headers=headers)


async def _in_threads(name: str, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """All chunks, each made in a thread. An error ends the connection, so that no one takes a part for the whole."""
    chunk: bytes | None = first
    while chunk is not None:
        if chunk:
            yield chunk
        try:
            chunk = await sync_to_thread(next, chunks, None)
        except Exception as error:
            log.error("export.failed", export=name, exc_info=error)
            raise
