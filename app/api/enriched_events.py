"""`/api/v1/events_enriched`: events with what their metrics read of them (metering spec 1.7, 1.13)."""

from collections.abc import Mapping

from litestar import Controller
from msgspec import Struct

from app.api.events import event_filter
from app.api.given import Db, Org, Paging, Running
from app.api.routes import get
from app.api.wire import PageMeta, instant_ms
from app.catalog.metrics import field_names
from app.core.aggregation import Aggregation, decimal_value
from app.core.money import ZERO, decimal_text
from app.metering.events import plain
from app.metering.instants import wire_instant
from app.metering.listing import ReadEvent, list_read_events


class EnrichedEventObject(Struct):
    """`value` is the text its metric aggregates, `decimal_value` the number it counts as; both are null while no metric
    has the event's code."""

    transaction_id: str
    external_subscription_id: str
    code: str
    timestamp: str
    enriched_at: str
    value: str | None
    decimal_value: str | None
    precise_total_amount_cents: str | None
    properties: dict[str, str]


class EnrichedEventsPage(Struct):
    events: list[EnrichedEventObject]
    meta: PageMeta


class EnrichedEventController(Controller):
    path = "/events_enriched"
    tags = ["events"]
    opt = {"resource": "event"}

    @get()
    def list_enriched_events(
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
    ) -> EnrichedEventsPage:
        """Events with the value each is aggregated with, newest ingested first."""
        wanted = event_filter(
            db, organization.id, external_subscription_id, code, timestamp_from, timestamp_to, timestamp_from_started_at
        )
        service.wait_until_readable(organization.id)
        listed, total = list_read_events(service.clickhouse, wanted, limit=paging.per_page, offset=paging.offset)
        fields = field_names(db, organization.id, {one.event.code for one in listed})
        return EnrichedEventsPage([enriched_object(one, fields) for one in listed], paging.meta(total))


def enriched_object(one: ReadEvent, fields: Mapping[str, str | None]) -> EnrichedEventObject:
    """An event on the wire; `fields` are those that metrics read, by code."""
    event = one.event
    value, decimal = _values(one, fields.get(event.code))
    return EnrichedEventObject(
        transaction_id=event.key[2],
        external_subscription_id=event.key[1],
        code=event.code,
        timestamp=wire_instant(event.timestamp_ms),
        enriched_at=instant_ms(event.received_at),
        value=value,
        decimal_value=decimal,
        precise_total_amount_cents=plain(event.precise_total_amount_cents),
        properties=event.properties,
    )


def _values(one: ReadEvent, field: str | None) -> tuple[str | None, str | None]:
    """What an event's metric aggregates: as text, and as a number, which is 0 for a text that is none."""
    match one.aggregation:
        case "":
            return None, None
        case Aggregation.COUNT:
            return "1", decimal_text(one.value)
        case Aggregation.UNIQUE_COUNT:
            return one.item, decimal_text(decimal_value(one.item) or ZERO)
        case _:
            return one.event.properties.get(field) if field else None, decimal_text(one.value)
