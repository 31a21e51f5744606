"""Events as rows of the store, read as their metrics read them (metering spec 2)."""

from collections.abc import Iterable

from msgspec import Struct

from app.core.aggregation import Aggregation, decimal_value, is_stored_as_it_is
from app.metering.definitions import Metrics
from app.metering.events import Event, MetricDefinition, plain
from app.metering.instants import store_instant
from app.metering.windows import HOUR_MS

COUNT, UNIQUE_COUNT = Aggregation.COUNT, Aggregation.UNIQUE_COUNT
NOTHING: dict[str, str | None] = {}
NO_DIMENSIONS: dict[str, str] = {}


class EventRow(Struct, gc=False, array_like=True):
    """An event as a line of the store's JSON input: the columns of `events`, in their order."""

    organization_id: str
    external_subscription_id: str
    code: str
    transaction_id: str
    timestamp: str
    hour: int
    properties: dict[str, str]
    precise_total_amount_cents: str | None
    aggregation: str
    value: str
    item: str
    operation: str
    dimensions: dict[str, str]
    ingested_at: str
    replaced: dict[str, str | None] = {}


def enriched(events: Iterable[Event], metrics: Metrics, ingested_at: str) -> list[EventRow]:
    """The rows of events, each read as the metric of its code reads it; without one it is kept but counts for nothing yet.

    Nearly every event comes through here, a million in a few seconds: hence one loop, few calls, and nothing made that
    can be shared.
    """
    rows = []
    for event in events:
        organization_id, external_subscription_id, transaction_id = event.key
        code, properties, milliseconds = event.code, event.properties, event.timestamp_ms
        precise = event.precise_total_amount_cents
        aggregation, value, item, operation, dimensions = "", "0", "", "add", NO_DIMENSIONS
        metric = metrics[organization_id, code]
        if metric is not None:
            aggregation = metric.aggregation
            if metric.dimension_keys:
                dimensions = {key: text for key in metric.dimension_keys if (text := properties.get(key))}
            if aggregation is COUNT:
                value = "1"
            else:
                text = _metered_text(event, metric)
                if aggregation is UNIQUE_COUNT:
                    item = text or ""
                    if properties.get("operation_type") == "remove":
                        operation = "remove"
                elif text is not None:
                    value = text if is_stored_as_it_is(text) else _as_stored(text)
        rows.append(
            EventRow(  # in their order, for naming them would take half as long again
                organization_id,
                external_subscription_id,
                code,
                transaction_id,
                store_instant(milliseconds),
                milliseconds // HOUR_MS,
                properties,
                None if precise is None else plain(precise),
                aggregation,
                value,
                item,
                operation,
                dimensions,
                ingested_at,
                event.replaced or NOTHING,
            )
        )
    return rows


def _metered_text(event: Event, metric: MetricDefinition) -> str | None:
    """What an event has in its metric's field; where an expression fills the field, its result and nothing else."""
    field = metric.field_name
    if not field or (metric.expression is not None and field not in (event.replaced or ())):
        return None
    return event.properties.get(field)


def _as_stored(text: str) -> str:
    number = decimal_value(text)
    return "0" if number is None else format(number, "f")
