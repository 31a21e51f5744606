"""Events on the wire (metering spec 1.6)."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.api.wire import instant
from app.metering.event_ids import event_ids
from app.metering.events import Event, plain
from app.metering.instants import Remembered, wire_instant


class EventObject(Struct, gc=False):
    """An event on the wire."""

    lago_id: str
    transaction_id: str
    lago_customer_id: str | None
    code: str
    timestamp: str
    precise_total_amount_cents: str | None
    properties: Mapping[str, Any]
    lago_subscription_id: str | None
    external_subscription_id: str
    created_at: str


_created_at = Remembered(instant).__getitem__  # all events of a block have the same


def event_objects(
    events: Sequence[Event], customer_id: str | None = None, subscription_id: str | None = None
) -> list[EventObject]:
    """Events on the wire; where they are known, with their customer and subscription."""
    objects = []
    for event, lago_id in zip(events, event_ids([event.key for event in events]), strict=True):
        _, external_subscription_id, transaction_id = event.key
        precise = event.precise_total_amount_cents
        objects.append(
            EventObject(  # in their order, for naming them would take half as long again
                lago_id,
                transaction_id,
                customer_id,
                event.code,
                wire_instant(event.timestamp_ms),
                None if precise is None else plain(precise),
                event.echo,
                subscription_id,
                external_subscription_id,
                _created_at(event.receipt.at),
            )
        )
    return objects
