"""Events: what is accepted, and how it is read (metering spec 1.2 to 1.5, 1.13)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation

import msgspec
from msgspec import Raw, Struct

from app.core.aggregation import Aggregation, decimal_value
from app.core.expressions import Expression, parse
from app.errors import ApiError, BadRequest, Details, Invalid

LATEST_MS = 10_413_791_999_999
"""The last millisecond of 2299, the end of what the store's DateTime64 can hold."""
SURELY_EARLIER = len(str(LATEST_MS // 1000)) - 1
"""How many digits a number of seconds may have that need not be held against that."""

LARGEST_PRECISE_AMOUNT = Decimal(10) ** 25
ABSENT = Raw(b"null")
_decode_string = msgspec.json.Decoder(str).decode


class EventInput(Struct, gc=False):
    """An event as sent. Unknown fields are ignored; values keep their literal text until they are read."""

    transaction_id: str | int | None = None
    external_subscription_id: str | None = None
    code: str | None = None
    timestamp: Raw = ABSENT
    properties: dict[str, Raw] | None = None
    precise_total_amount_cents: Raw = ABSENT


class EventBody(Struct):
    """`POST /events`."""

    event: EventInput


class EventBatchBody(Struct):
    """`POST /events/batch`."""

    events: list[EventInput] | None = None


class Receipt(Struct, gc=False):
    """When events came, for all that were sent together. Once they are taken it is the instant they are stored with: what
    came first is answered as its replays will be."""

    at: datetime


class Event(Struct, gc=False, frozen=True):
    """A valid event of an organization. `key` is what makes it one event (metering spec 1.4); `properties` are the texts
    that are stored; `echo` is what the sender sent of them. `replaced` are the texts, as sent, that the result of an
    expression has taken the place of; None where nothing had been sent."""

    key: tuple[str, str, str]
    code: str
    timestamp_ms: int
    timestamp_given: bool
    properties: dict[str, str]
    echo: Mapping[str, Raw | str | int]
    precise_total_amount_cents: Decimal | None
    receipt: Receipt
    replaced: dict[str, str | None] | None = None

    @property
    def received_at(self) -> datetime:
        """When it came."""
        return self.receipt.at

    @property
    def sent(self) -> dict[str, str]:
        """The properties as they were sent, before an expression was evaluated."""
        if not self.replaced:
            return self.properties
        return {name: text for name, text in {**self.properties, **self.replaced}.items() if text is not None}

    def repeats(self, first: "Event") -> bool:
        """Whether this is a replay of `first`, which has the same key: same content, and the same time or none given."""
        return (
            self.code == first.code
            and self.sent == first.sent
            and self.precise_total_amount_cents == first.precise_total_amount_cents
            and (not self.timestamp_given or self.timestamp_ms == first.timestamp_ms)
        )


class MetricDefinition(Struct, frozen=True):
    """What of a billable metric its events are read with. `dimension_keys` are the properties its usage is split by;
    `expression` is there only where it has a field to fill."""

    aggregation: Aggregation
    field_name: str | None
    dimension_keys: tuple[str, ...] = ()
    expression: Expression | None = None

    @staticmethod
    def of(
        aggregation: str, field_name: str | None, expression: str | None, dimension_keys: Sequence[str]
    ) -> "MetricDefinition":
        """The definition in a metric's columns."""
        parsed = parse(expression) if expression and field_name else None
        return MetricDefinition(Aggregation(aggregation), field_name, tuple(dimension_keys), parsed)


def read_event(
    given: EventInput, organization_id: str, now: datetime, receipt: Receipt
) -> Event | dict[str, list[str]]:
    """A valid event, or what is wrong with it by field. `now` is the time of an event that has none."""
    wrong: dict[str, list[str]] = {}
    transaction_id, code = given.transaction_id, given.code
    if transaction_id is None or transaction_id == "":
        wrong["transaction_id"] = ["value_is_mandatory"]
    if not code:
        wrong["code"] = ["value_is_mandatory"]
    timestamp = bytes(given.timestamp)
    timestamp_given = timestamp != b"null"
    milliseconds = _milliseconds(timestamp) if timestamp_given else int(now.timestamp() * 1000)
    if milliseconds is None:
        wrong["timestamp"] = ["invalid_format"]
    precise = None
    if given.precise_total_amount_cents is not ABSENT:
        try:
            precise = _precise_amount(given.precise_total_amount_cents)
        except (InvalidOperation, ValueError):
            wrong["precise_total_amount_cents"] = ["value_is_invalid"]
    if wrong or milliseconds is None or not code:
        return wrong
    echo = given.properties or {}
    return Event(
        key=(organization_id, given.external_subscription_id or "", str(transaction_id)),
        code=code,
        timestamp_ms=milliseconds,
        timestamp_given=timestamp_given,
        properties={name: _text(value) for name, value in echo.items()},
        echo=echo,
        precise_total_amount_cents=precise,
        receipt=receipt,
    )


def read_batch(
    given: Sequence[EventInput] | None, limit: int, organization_id: str, now: datetime, receipt: Receipt
) -> tuple[dict[int, Event], dict[int, Details]]:
    """The valid events of a batch by position, and what is wrong with the others; then none is accepted (metering
    spec 1.5).

    Raises:
        Invalid: `no_events`, `too_many_events`.
    """
    if not given:
        raise Invalid({"events": ["no_events"]})
    if len(given) > limit:
        raise Invalid({"events": ["too_many_events"]})
    events: dict[int, Event] = {}
    wrong: dict[int, Details] = {}
    for position, one in enumerate(given):
        event = read_event(one, organization_id, now, receipt)
        if isinstance(event, Event):
            events[position] = event
        else:
            wrong[position] = event
    return events, wrong


def explain_undecodable(error: Exception, *, batch: bool) -> ApiError:
    """The error for a body that does not have the shape of events: 400 without the root object, else 422 on the field,
    in a batch under the event's position."""
    message = str(error)
    where = message.partition(" - at `$")[2].rstrip("`")
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest(f"malformed JSON: {message}")
    if "missing required field" in message or not where:
        return BadRequest(f"param is missing or the value is empty: {'events' if batch else 'event'}")
    root, _, field = where.lstrip(".").partition(".")
    details = {(field or root).partition("[")[0].split(".")[0]: ["value_is_invalid"]}
    if batch and "[" in root:
        return Invalid({root.partition("[")[2].rstrip("]"): details})
    return Invalid(details)


def _milliseconds(text: bytes) -> int | None:
    """Whole milliseconds since 1970 of a Unix time in seconds, a JSON literal, digits past the third dropped; None when it
    is not one.

    Metering spec 1.3. The decimal text is read, never a float of it. Times before 1970 and after 2299 are refused: the
    store cannot hold them.
    """
    if text.isdigit() and len(text) <= SURELY_EARLIER:
        return int(text) * 1000
    if text[:1] == b'"':
        text = _decode_string(text).encode()
    value = decimal_value(text.decode("ascii", "replace"))
    if value is None or value < 0:
        return None
    milliseconds = int(value * 1000)
    return milliseconds if milliseconds <= LATEST_MS else None


def _precise_amount(raw: Raw) -> Decimal | None:
    text = bytes(raw).decode()
    if text == "null":
        return None
    if text[:1] == '"':
        text = _decode_string(text)
    value = decimal_value(text)
    if value is None or abs(value) >= LARGEST_PRECISE_AMOUNT:
        raise ValueError(text)
    return value


def _text(raw: Raw) -> str:
    """A property's value as it is stored: a string's content, otherwise the JSON literal as sent."""
    text = str(raw, "utf-8")
    return _decode_string(raw) if text[0] == '"' else text


def plain(value: Decimal | None) -> str | None:
    """A decimal in plain notation without trailing zeros."""
    if value is None:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
