"""CloudEvents 1.0 over HTTP, to events.

    id, source        transaction_id, as `<source, percent-encoded>:<id>`
    type              code
    subject           external_subscription_id
    time              timestamp, to the millisecond
    data              properties

CloudEvents are told apart by `source` and `id` together, so both are in the transaction id: two sources may count
their events from 1. A source is encoded whole, so that its first colon ends it.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from urllib.parse import quote, unquote

import msgspec
from litestar.types import Scope
from msgspec import Raw, Struct

from app.api.media import header, media_type
from app.errors import ApiError, BadRequest, Details, Invalid, UnsupportedMediaType
from app.metering.events import ABSENT, Event, EventInput, Receipt, read_event

SPECVERSION = "1.0"
FORMATS = "application/cloudevents"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_JSON = re.compile(r"(?:application|text)/(?:[\w.-]+\+)?json *(?:;.*)?", re.ASCII | re.IGNORECASE).fullmatch
_PLACE = re.compile(r" - at `\$(?:\[(\d+)\])?(?:\.(\w+))?").search


class Mode(Enum):
    """How CloudEvents are sent: the media type of the structured modes, nothing for attributes in headers."""

    SINGLE = "application/cloudevents+json"
    BATCH = "application/cloudevents-batch+json"
    BINARY = ""


class CloudEvent(Struct):
    """A CloudEvent in the JSON format. Extension attributes are ignored, but for the last one here."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: Raw = ABSENT
    data_base64: Raw = ABSENT
    precisetotalamountcents: Raw = ABSENT


IN_HEADERS = ("specversion", "id", "source", "type", "subject", "time")
MANDATORY = ("specversion", "id", "source", "type")
WORDS = {"transaction_id": "id", "timestamp": "time", "precise_total_amount_cents": "precisetotalamountcents"}
"""What a CloudEvent calls our fields."""

_one = msgspec.json.Decoder(CloudEvent)
_many = msgspec.json.Decoder(list[CloudEvent])
_object = msgspec.json.Decoder(dict[str, Raw])


def mode_of(scope: Scope) -> Mode | None:
    """How a request sends CloudEvents; None when it does not.

    Raises:
        UnsupportedMediaType: they are in another format than JSON.
    """
    media = media_type(scope)
    if media.startswith(FORMATS):
        try:
            return Mode(media)
        except ValueError:
            raise UnsupportedMediaType("unsupported_cloudevents_format") from None
    return Mode.BINARY if any(name.startswith(b"ce-") for name, _ in scope["headers"]) else None


def read_cloud_events(
    mode: Mode, scope: Scope, body: bytes, limit: int, organization_id: str, now: datetime, receipt: Receipt
) -> tuple[dict[int, Event], dict[int, Details]]:
    """The valid events of a request by position, and what is wrong with the others, by attribute.

    Raises:
        BadRequest: the body is no CloudEvent at all.
        Invalid: an attribute is not of its type; `no_events`, `too_many_events`.
    """
    sent = [_from_headers(scope, body)] if mode is Mode.BINARY else _decoded(mode, body)
    if not sent:
        raise Invalid({"events": ["no_events"]})
    if len(sent) > limit:
        raise Invalid({"events": ["too_many_events"]})
    events: dict[int, Event] = {}
    wrong: dict[int, Details] = {}
    for position, one in enumerate(sent):
        given = _to_input(one)
        event = read_event(given, organization_id, now, receipt) if isinstance(given, EventInput) else given
        if isinstance(event, Event):
            events[position] = event
        else:
            wrong[position] = _renamed(event)
    return events, wrong


def in_their_words(refusal: Invalid) -> Invalid:
    """The same refusal with our fields called by the names of the attributes they were made of."""
    return Invalid(_renamed(refusal.details or {}))


def _renamed(details: Details) -> Details:
    if isinstance(details, str):
        return details
    return {
        WORDS.get(field, field): _renamed(codes) if isinstance(codes, Mapping) else codes
        for field, codes in details.items()
    }


def _decoded(mode: Mode, body: bytes) -> Sequence[CloudEvent]:
    try:
        body.decode()
        return _many.decode(body) if mode is Mode.BATCH else [_one.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> ApiError:
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest(f"malformed JSON: {message}")
    place = _PLACE(message)
    if place is None or not any(place.groups()):
        return BadRequest(f"unexpected value: {message}")
    position, attribute = place.groups()
    wrong = {attribute or "event": ["value_is_invalid"]}
    return Invalid(wrong if position is None else {position: wrong})


def _from_headers(scope: Scope, body: bytes) -> CloudEvent:
    """Binary mode: the attributes are in `ce-` headers, percent-encoded, and the body is the data."""
    event = CloudEvent(datacontenttype=header(scope, b"content-type") or None)
    for name in IN_HEADERS:
        setattr(event, name, unquote(header(scope, f"ce-{name}".encode())) or None)
    if body:
        event.data = Raw(body)
    amount = header(scope, b"ce-precisetotalamountcents")
    if amount:
        event.precisetotalamountcents = Raw(msgspec.json.encode(amount))
    return event


def _to_input(one: CloudEvent) -> EventInput | Details:
    """The event a CloudEvent is, or what is wrong with it by attribute."""
    wrong = {name: ["value_is_mandatory"] for name in MANDATORY if not getattr(one, name)}
    if one.specversion and one.specversion != SPECVERSION:
        wrong["specversion"] = ["value_is_invalid"]
    timestamp = ABSENT
    if one.time is not None:
        seconds = _unix_seconds(one.time)
        if seconds is None:
            wrong["time"] = ["invalid_format"]
        else:
            timestamp = Raw(seconds.encode())
    properties: dict[str, Raw] | None = None
    if not _is_null(one.data_base64):
        wrong["data_base64"] = ["value_is_invalid"]
    if not _is_null(one.data):
        if one.datacontenttype is not None and not _JSON(one.datacontenttype):
            wrong["datacontenttype"] = ["value_is_invalid"]
        try:
            properties = _object.decode(one.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            wrong["data"] = ["value_is_invalid"]
    if wrong:
        return wrong
    return EventInput(
        transaction_id=f"{quote(one.source or '', safe='')}:{one.id}",
        external_subscription_id=one.subject,
        code=one.type,
        timestamp=timestamp,
        properties=properties,
        precise_total_amount_cents=one.precisetotalamountcents,
    )


def _unix_seconds(text: str) -> str | None:
    """Unix time of an RFC 3339 instant as decimal text, digits past the third dropped; None when it is not one."""
    match = _RFC_3339(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    try:
        instant = datetime.fromisoformat(f"{day}T{clock}{offset.upper()}")
    except ValueError:
        return None
    return f"{(instant - EPOCH) // timedelta(seconds=1)}.{(fraction or '0')[:3]}"


def _is_null(value: Raw) -> bool:
    return bytes(value) == b"null"
