"""Batches whose events are sent as most are: ids are texts, times whole seconds, properties texts or whole numbers.

They are read in less than half the time that `events.read_batch` takes, with the same result. Whatever else is in a batch,
or wrong with it, is for that function.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from app.metering.events import LATEST_MS, Event

LATEST_SECOND = LATEST_MS // 1000

Value = TypeVar("Value")


class PlainEvent(Struct, Generic[Value], gc=False):
    """An event as sent, with next to nothing left to convert."""

    transaction_id: str
    external_subscription_id: str
    code: str
    timestamp: int
    properties: dict[str, Value] = {}
    precise_total_amount_cents: None = None


class PlainBatch(Struct, Generic[Value]):
    """`POST /events/batch`, plain."""

    events: list[PlainEvent[Value]]


_decode_texts = msgspec.json.Decoder(PlainBatch[str]).decode
_decode_texts_and_numbers = msgspec.json.Decoder(PlainBatch[str | int]).decode


def read_plain_batch(body: bytes, limit: int, organization_id: str, received_at: datetime) -> list[Event] | None:
    """The events of a valid plain batch of up to `limit`; None for any other body. `body` must be UTF-8."""
    given: Sequence[PlainEvent[Any]] = ()
    texts_only = True
    try:
        given = _decode_texts(body).events
    except (msgspec.DecodeError, RecursionError):
        texts_only = False
        with suppress(msgspec.DecodeError, RecursionError):
            given = _decode_texts_and_numbers(body).events
    if not 0 < len(given) <= limit:
        return None
    events = []
    for one in given:
        transaction_id, code, second, properties = one.transaction_id, one.code, one.timestamp, one.properties
        texts = properties if texts_only else _texts(properties)
        if not transaction_id or not code or not 0 <= second <= LATEST_SECOND or texts is None:
            return None
        events.append(
            Event(
                key=(organization_id, one.external_subscription_id, transaction_id),
                code=code,
                timestamp_ms=second * 1000,
                timestamp_given=True,
                properties=texts,
                echo=properties,
                precise_total_amount_cents=None,
                received_at=received_at,
            )
        )
    return events


def _texts(properties: Mapping[str, str | int]) -> dict[str, str] | None:
    """Properties as they are stored; None with a 0, for it may have been sent as -0, and is stored as it was sent."""
    return None if 0 in properties.values() else {name: str(value) for name, value in properties.items()}
