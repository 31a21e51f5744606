"""Events as rows of the store, read as their metrics read them (metering spec 2)."""

from msgspec import Struct

from app.core.aggregation import Aggregation, decimal_value, is_stored_as_it_is
from app.metering.events import Event, MetricDefinition, plain
from app.metering.instants import store_instant
from app.metering.windows import HOUR_MS

COUNT, UNIQUE_COUNT = Aggregation.COUNT, Aggregation.UNIQUE_COUNT


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


def enriched(event: Event, metric: MetricDefinition | None, ingested_at: str) -> EventRow:
    """The row of an event, read as its metric reads it; without a metric it is kept but counts for nothing yet."""
    organization_id, external_subscription_id, transaction_id = event.key
    properties = event.properties
    aggregation, value, item, operation = "", "0", "", "add"
    dimensions: dict[str, str] = {}
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
                operation = "remove" if properties.get("operation_type") == "remove" else "add"
            elif text is not None and is_stored_as_it_is(text):
                value = text
            elif (number := decimal_value(text)) is not None:
                value = format(number, "f")
    milliseconds = event.timestamp_ms
    return EventRow(  # in their order, for naming them would take half as long again
        organization_id,
        external_subscription_id,
        event.code,
        transaction_id,
        store_instant(milliseconds),
        milliseconds // HOUR_MS,
        properties,
        plain(event.precise_total_amount_cents),
        aggregation,
        value,
        item,
        operation,
        dimensions,
        ingested_at,
        event.replaced or {},
    )


def _metered_text(event: Event, metric: MetricDefinition) -> str | None:
    """What an event has in its metric's field; where an expression fills the field, its result and nothing else."""
    field = metric.field_name
    if not field or (metric.expression is not None and field not in (event.replaced or ())):
        return None
    return event.properties.get(field)
