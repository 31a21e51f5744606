"""Newline-delimited JSON on `/api/v1/events/batch`: read as it comes, answered with counts and the first errors."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.types import Receive
from msgspec import Struct

from app.api.access import Caller
from app.api.limits import DRAINED_TIMES, drain
from app.clock import system_now
from app.errors import ApiError, BadRequest, Details, StoreDown, TooManyRequests
from app.metering.events import Event, EventInput, Receipt, read_event
from app.metering.stream import EventStream, Taken
from app.service import Service

DEFAULT_ERRORS = 100
MOST_ERRORS = 10_000
STOPPING_SECONDS = 1.0


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
        return read_event(given, organization_id, caller.now, Receipt(system_now()))

    stream = EventStream(
        service.ingest.accept,
        read,
        line_bytes=settings.max_line_bytes,
        patience=settings.stream_wait_seconds,
        most_errors=most_errors,
    )
    try:
        async with aclosing(_pieces(receive, service)) as pieces:
            await stream.take(pieces)
    except ApiError as error:
        if isinstance(error, TooManyRequests | StoreDown) and not await _drained(receive, service):
            error.headers["Connection"] = "close"
        error.details = msgspec.to_builtins(StreamAnswer(stream.taken))
        raise
    return StreamAnswer(stream.taken)


async def _drained(receive: Receive, service: Service) -> bool:
    """Read on, that the sender gets to read its answer; whether that came to an end."""
    try:
        async with asyncio.timeout(STOPPING_SECONDS if service.stopping.is_set() else None):
            return await drain(receive, service.settings.max_body_bytes * DRAINED_TIMES)
    except TimeoutError:
        return False


async def _pieces(receive: Receive, service: Service) -> AsyncGenerator[bytes, None]:
    stopping = asyncio.create_task(service.stopping.wait())
    more = True
    try:
        while more:
            asked = asyncio.ensure_future(receive())
            await asyncio.wait({asked, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():  # also where nothing comes
                asked.cancel()
                raise StoreDown("service")
            message: Any = asked.result()
            if message["type"] != "http.request":
                raise BadRequest("the connection ended before the body did")
            more = message["more_body"]
            yield message["body"]
    finally:
        stopping.cancel()
