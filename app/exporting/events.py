"""Events as a table, part by part (a part is asked for when the one before has been taken, and holds nothing open)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from app.exporting.formats import JSON_TEXT
from app.metering.listing import EventFilter
from app.metering.windows import floor_ms
from app.stores.clickhouse import ClickHouse, Query

FIRST_ROWS, MOST_ROWS = 2_000, 100_000
PART_BYTES = 16 * 1024 * 1024

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("external_subscription_id", pa.string()),
        pa.field("code", pa.string()),
        pa.field("timestamp", pa.timestamp("ms", "UTC")),
        pa.field("properties", pa.string(), metadata=JSON_TEXT),
        pa.field("precise_total_amount_cents", pa.decimal128(38, 18)),
        pa.field("value", pa.decimal128(38, 18)),
        pa.field("ingested_at", pa.timestamp("us", "UTC")),
    ]
)


def event_parts(clickhouse: ClickHouse, wanted: EventFilter, ingested_until: datetime) -> Iterator[pa.Table]:
    """The matching events ingested up to an instant, by subscription, code, time and transaction id.

    Parts have about `PART_BYTES`, going by the size of the rows before.
    """
    limit, after = FIRST_ROWS, {"subscription": "", "code": "", "ms": 0, "transaction": ""}
    scope: dict[str, Any] = {**wanted.parameters, "ingested_until": ingested_until, "is_first": True}
    while True:
        place = {f"after_{name}": value for name, value in after.items()}
        part = clickhouse.table(
            Query("export_events", {**scope, **place, "limit": limit}, {"matching": wanted.matching})
        )
        if part.num_rows:
            yield part.rename_columns(SCHEMA.names).cast(SCHEMA)
        if part.num_rows < limit:
            return
        [last] = part.slice(part.num_rows - 1).to_pylist()
        after = {
            "subscription": last["external_subscription_id"],
            "code": last["code"],
            "ms": floor_ms(last["timestamp"]),
            "transaction": last["transaction_id"],
        }
        scope["is_first"] = False
        limit = max(1, min(MOST_ROWS, PART_BYTES * part.num_rows // max(part.nbytes, 1)))
