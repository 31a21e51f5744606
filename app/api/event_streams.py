"""Newline-delimited JSON on `/api/v1/events/batch`: read as it comes, answered with counts and the first errors."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar.types import Receive
from msgspec import Struct

from app.api.access import Caller
from app.api.limits import DRAINED_TIMES, drain
from app.clock import system_now
from app.errors import ApiError, BadRequest, Details, StoreDown, TooManyRequests
from app.metering.events import Event, EventInput, read_event
from app.metering.stream import EventStream, Taken
from app.service import Service

DEFAULT_ERRORS = 100
MOST_ERRORS = 10_000


class StreamAnswer(Struct):
    """What has become of a stream."""

    stream: Taken


async def take_stream(receive: Receive, service: Service, caller: Caller, most_errors: int) -> StreamAnswer:
    """Take the events of a body as it comes.

    Raises:
        ApiError: the stream ended badly; `error_details` say what has been taken until then.
    """
    organization_id = str(caller.organization_id)
    settings = service.settings

    def read(given: EventInput) -> Event | Details:
        return read_event(given, organization_id, caller.now, system_now())

    stream = EventStream(
        service.ingest.accept,
        read,
        line_bytes=settings.max_line_bytes,
        patience=settings.stream_wait_seconds,
        most_errors=most_errors,
    )
    try:
        await stream.take(_pieces(receive, service))
    except ApiError as error:
        busy = isinstance(error, TooManyRequests | StoreDown)
        if busy and not await drain(receive, settings.max_body_bytes * DRAINED_TIMES):
            error.headers["Connection"] = "close"
        error.details = msgspec.to_builtins(StreamAnswer(stream.taken))
        raise
    return StreamAnswer(stream.taken)


async def _pieces(receive: Receive, service: Service) -> AsyncIterator[bytes]:
    more = True
    while more:
        if service.is_stopping:
            raise StoreDown("service")
        message: Any = await receive()
        if message["type"] != "http.request":
            raise BadRequest("the connection ended before the body did")
        more = message["more_body"]
        yield message["body"]
