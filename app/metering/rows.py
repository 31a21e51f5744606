"""Events as rows of the store, read as their metrics read them (metering spec 2)."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from app.core.aggregation import Aggregation, decimal_value, is_stored_as_it_is
from app.metering.definitions import Metrics
from app.metering.events import Event, MetricDefinition, plain
from app.metering.instants import store_instant
from app.metering.windows import HOUR_MS

COUNT, UNIQUE_COUNT = Aggregation.COUNT, Aggregation.UNIQUE_COUNT
NOTHING: dict[str, str | None] = {}
NO_DIMENSIONS: dict[str, str] = {}

_Reader = tuple[str, Aggregation, str, bool, tuple[str, ...]]
"""What of a metric's definition its events are read with: the aggregation's name and itself, the field, whether there is
something in it only where an expression has put it there, and the keys of the dimensions."""


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
    """The rows of events, each read as the metric of its code reads it; without one it is kept but counts for nothing
    yet."""
    return [EventRow(*values) for values in row_values(events, metrics, ingested_at)]


def row_values(events: Iterable[Event], metrics: Metrics, ingested_at: str) -> list[tuple[Any, ...]]:
    """What `enriched` gives, as plain tuples.

    Nearly every event comes through here, a million in a few seconds: hence one loop, few calls, and nothing made that
    can be shared.
    """
    rows: list[tuple[Any, ...]] = []
    readers = {key: None if metric is None else _reader(metric) for key, metric in metrics.items()}
    for event in events:
        organization_id, external_subscription_id, transaction_id = event.key
        code, properties, milliseconds = event.code, event.properties, event.timestamp_ms
        precise = event.precise_total_amount_cents
        aggregation, value, item, operation, dimensions = "", "0", "", "add", NO_DIMENSIONS
        reader = readers[organization_id, code]
        if reader is not None:
            aggregation, kind, field, is_evaluated, dimension_keys = reader
            if dimension_keys:
                dimensions = {key: text for key in dimension_keys if (text := properties.get(key))}
            if kind is COUNT:
                value = "1"
            else:  # where an expression fills the field, its result counts and nothing else
                text = None if is_evaluated and field not in (event.replaced or ()) else properties.get(field)
                if kind is UNIQUE_COUNT:
                    item = text or ""
                    if properties.get("operation_type") == "remove":
                        operation = "remove"
                elif text is not None:
                    value = text if is_stored_as_it_is(text) else _as_stored(text)
        rows.append(
            (
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


def _reader(metric: MetricDefinition) -> _Reader:
    kind, field = metric.aggregation, metric.field_name or ""
    # A metric without a field reads nothing, not a property that has no name.
    return kind.value, kind, field, metric.expression is not None or not field, metric.dimension_keys


def _as_stored(text: str) -> str:
    number = decimal_value(text)
    return "0" if number is None else format(number, "f")
