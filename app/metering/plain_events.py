"""Batches whose events are sent as most are: ids are texts, times whole seconds, properties texts or whole numbers.

They are read in less than half the time that `events.read_batch` takes, with the same result. Whatever else is in a batch,
or wrong with it, is for that function.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from app.metering.events import LATEST_MS, Event, Receipt

Value = TypeVar("Value")
Some = Annotated[str, Meta(min_length=1)]


class PlainEvent(Struct, Generic[Value], gc=False):
    """An event as sent, with next to nothing left to convert."""

    transaction_id: Some
    external_subscription_id: str
    code: Some
    timestamp: Annotated[int, Meta(ge=0, le=LATEST_MS // 1000)]
    properties: dict[str, Value] = {}
    precise_total_amount_cents: None = None


class PlainBatch(Struct, Generic[Value]):
    """`POST /events/batch`, plain."""

    events: list[PlainEvent[Value]]


_decode_texts = msgspec.json.Decoder(PlainBatch[str]).decode
_decode_texts_and_numbers = msgspec.json.Decoder(PlainBatch[str | int]).decode


def read_plain_batch(body: bytes, limit: int, organization_id: str, receipt: Receipt) -> list[Event] | None:
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
    texts: list[dict[str, Any]] = [one.properties for one in given]
    if not texts_only:
        if any(0 in sent.values() for sent in texts):  # perhaps sent as -0, and a number is stored as it was sent
            return None
        texts = [{name: str(value) for name, value in sent.items()} for sent in texts]
    return [
        Event(
            (organization_id, one.external_subscription_id, one.transaction_id),
            one.code,
            one.timestamp * 1000,
            True,
            stored,
            one.properties,
            None,
            receipt,
        )
        for one, stored in zip(given, texts, strict=True)
    ]
