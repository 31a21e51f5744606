"""`/api/v1/events` (metering spec 1): single, batch, find, list."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import litestar
import msgspec
from litestar import Controller, Response
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from msgspec import Struct
from sqlalchemy.orm import Session

from app.api.access import Caller
from app.api.cloud_events import Mode, in_their_words, mode_of, read_cloud_events
from app.api.documented import TakesEvent, TakesEvents
from app.api.event_objects import EventObject, event_objects
from app.api.event_streams import DEFAULT_ERRORS, MOST_ERRORS, StreamAnswer, take_stream
from app.api.given import Called, Db, Org, Paging, Running
from app.api.media import STREAMS, is_stream
from app.api.request import UNREADABLE, ExactRequest
from app.api.routes import get
from app.api.wire import PageMeta
from app.clock import system_now
from app.customers.lookup import owner_of_event, started_at_of
from app.errors import Invalid, NotFound, invalid
from app.metering.acceptance import refusal
from app.metering.events import (
    Event,
    EventBatchBody,
    EventBody,
    Receipt,
    explain_undecodable,
    read_batch,
    read_event,
)
from app.metering.listing import EventFilter, list_events
from app.metering.plain_events import read_plain_batch
from app.metering.stored import find_event
from app.service import Service

_one = msgspec.json.Decoder(EventBody)
_many = msgspec.json.Decoder(EventBatchBody)
_encoder = msgspec.json.Encoder()


class EventAnswer(Struct):
    event: EventObject


class EventsAnswer(Struct):
    events: list[EventObject]


class EventsPage(Struct):
    events: list[EventObject]
    meta: PageMeta


class EventController(Controller):
    path = "/events"
    tags = ["events"]
    opt = {"resource": "event"}

    @litestar.post(
        status_code=200,
        operation_class=TakesEvent,
        responses={200: ResponseSpec(EventAnswer, generate_examples=False)},
    )
    async def create_event(self, request: ExactRequest, state: State, caller: Called) -> Response[bytes]:
        """Send one event. Sending it again is answered with the event as first stored, and counts once."""
        if (mode := mode_of(request.scope)) is not None:
            return await _take_cloud_events(mode, request, state.service, caller)
        body = await request.body()
        try:
            given = _one.decode(body).event
        except UNREADABLE as error:
            raise explain_undecodable(error, batch=False) from error
        event = read_event(given, str(caller.organization_id), caller.now, Receipt(system_now()))
        if not isinstance(event, Event):
            raise Invalid(event)
        service: Service = state.service
        stored = await service.ingest.accept([event], batch=False)
        return _answer(EventAnswer(event_objects(stored)[0]))

    @litestar.post(
        "/batch",
        status_code=200,
        operation_class=TakesEvents,
        opt={STREAMS: True},
        responses={200: ResponseSpec(EventsAnswer | StreamAnswer, generate_examples=False)},
    )
    async def create_events(
        self,
        request: ExactRequest,
        state: State,
        caller: Called,
        errors: Annotated[
            int,
            Parameter(ge=0, le=MOST_ERRORS, description="How many invalid lines of a stream the answer tells at most."),
        ] = DEFAULT_ERRORS,
    ) -> Response[bytes]:
        """Send many events: all are stored or, when one is invalid, none; errors are given by position.

        As newline-delimited JSON they may be any number: each valid line is stored, and the answer counts them.
        """
        if is_stream(request.scope):
            return _answer(await take_stream(request.receive, state.service, caller, errors))
        if (mode := mode_of(request.scope)) is not None:
            return await _take_cloud_events(mode, request, state.service, caller)
        events = await _read_batch(await request.body(), state.service, caller)
        return _answer(EventsAnswer(event_objects(await state.service.ingest.accept(events, batch=True))))

    @get()
    def list_events(
        self,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        external_subscription_id: str | None = None,
        code: str | None = None,
        timestamp_from: str | None = None,
        timestamp_to: str | None = None,
        timestamp_from_started_at: str | None = None,
    ) -> EventsPage:
        """Events, newest ingested first. Both timestamps are inclusive."""
        wanted = event_filter(
            db, organization.id, external_subscription_id, code, timestamp_from, timestamp_to, timestamp_from_started_at
        )
        service.wait_until_readable(organization.id)
        events, total = list_events(service.clickhouse, wanted, limit=paging.per_page, offset=paging.offset)
        return EventsPage(event_objects(events), paging.meta(total))

    @get("/{transaction_id:str}")
    def get_event(
        self,
        db: Db,
        service: Running,
        organization: Org,
        transaction_id: Annotated[str, Parameter(description="The event's transaction id.")],
    ) -> EventAnswer:
        """One event; where several subscriptions have one with this id, the latest ingested."""
        service.wait_until_readable(organization.id)
        event = find_event(service.clickhouse, organization.id, transaction_id)
        if event is None:
            raise NotFound("event")
        customer_id, subscription_id = owner_of_event(db, organization.id, event.key[1], event.timestamp_ms)
        return EventAnswer(event_objects([event], customer_id, subscription_id)[0])


async def _read_batch(body: bytes, service: Service, caller: Caller) -> list[Event]:
    limit, organization_id = service.settings.max_batch_events, str(caller.organization_id)
    receipt = Receipt(system_now())
    try:
        body.decode()  # a field that is skipped is not looked at, and must be UTF-8 all the same
        plain = read_plain_batch(body, limit, organization_id, receipt)
        if plain is not None:
            return plain
        given = _many.decode(body).events
    except UNREADABLE as error:
        raise explain_undecodable(error, batch=True) from error
    events, wrong = read_batch(given, limit, organization_id, caller.now, receipt)
    if wrong:
        raise refusal(wrong | await service.ingest.failures(events))
    return list(events.values())


async def _take_cloud_events(mode: Mode, request: ExactRequest, service: Service, caller: Caller) -> Response[bytes]:
    """Store CloudEvents; a single one is answered as one event, and a batch is all or nothing."""
    limit, batch = service.settings.max_batch_events, mode is Mode.BATCH
    organization_id, body, receipt = str(caller.organization_id), await request.body(), Receipt(system_now())
    events, wrong = read_cloud_events(mode, request.scope, body, limit, organization_id, caller.now, receipt)
    if wrong:
        raise refusal(wrong | await service.ingest.failures(events)) if batch else Invalid(wrong[0])
    try:
        stored = await service.ingest.accept(list(events.values()), batch=batch)
    except Invalid as error:
        raise in_their_words(error) from error
    objects = event_objects(stored)
    return _answer(EventsAnswer(objects) if batch else EventAnswer(objects[0]))


def _answer(answer: EventAnswer | EventsAnswer | StreamAnswer) -> Response[bytes]:
    return Response(_encoder.encode(answer), media_type="application/json")


def event_filter(
    db: Session,
    organization_id: UUID,
    external_subscription_id: str | None,
    code: str | None,
    timestamp_from: str | None,
    timestamp_to: str | None,
    timestamp_from_started_at: str | None = None,
) -> EventFilter:
    """Which events a query asks for (metering spec 1.7).

    Raises:
        Invalid: a bound is no date-time, or does not go with the other parameters.
    """
    from_ = date_filter("timestamp_from", timestamp_from)
    if _started_at_wanted(timestamp_from_started_at, timestamp_from, external_subscription_id):
        from_ = started_at_of(db, organization_id, external_subscription_id or "")
    to = date_filter("timestamp_to", timestamp_to)
    return EventFilter(organization_id, external_subscription_id, code, from_, to)


def date_filter(field: str, text: str | None) -> datetime | None:
    """An ISO 8601 date-time in the query; `+` in it arrives as a space."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise invalid(field, "invalid_date") from None
    return value if value.tzinfo else value.replace(tzinfo=system_now().tzinfo)


def _started_at_wanted(flag: str | None, timestamp_from: str | None, subscription: str | None) -> bool:
    """Whether the subscription's start is the lower bound (metering spec 1.7)."""
    if flag is None:
        return False
    if flag not in {"true", "false"}:
        raise invalid("timestamp_from_started_at", "value_is_invalid")
    if flag == "true" and timestamp_from is not None:
        raise invalid("timestamp_from", "cannot be used with timestamp_from_started_at")
    if flag == "true" and not subscription:
        raise invalid("external_subscription_id", "required with timestamp_from_started_at")
    return flag == "true"
