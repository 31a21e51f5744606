"""Usage over time as a table, part by part."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import msgspec
import pyarrow as pa

from app.analytics.over_time import Asked, in_slices, owner_ids
from app.exporting.formats import JSON_TEXT, Format
from app.metering.instants import EPOCH
from app.metering.over_time import Question, UsedInBucket

MOST_ROWS = 2_000_000
"""Of one bucket of time."""

PARQUET_UNITS = pa.decimal128(38, 20)
TEXT_UNITS = pa.decimal256(76, 20)


def schema(kind: Format) -> pa.Schema:
    """The columns. Units in Parquet have as many digits as most of its readers can take."""
    units = PARQUET_UNITS if kind is Format.PARQUET else TEXT_UNITS
    return pa.schema(
        [
            pa.field("from_datetime", pa.timestamp("ms", "UTC")),
            pa.field("to_datetime", pa.timestamp("ms", "UTC")),
            pa.field("billable_metric_code", pa.string()),
            pa.field("aggregation_type", pa.string()),
            pa.field("external_customer_id", pa.string()),
            pa.field("external_subscription_id", pa.string()),
            pa.field("grouped_by", pa.string(), metadata=JSON_TEXT),
            pa.field("units", units),
            pa.field("events_count", pa.int64()),
        ]
    )


def usage_parts(
    answer: Callable[[Question], Sequence[UsedInBucket]], question: Question, asked: Asked, columns: pa.Schema
) -> Iterator[pa.Table]:
    """The answer to a question, a few buckets of time at a time.

    Raises:
        pyarrow.ArrowInvalid: units have more digits than their column.
    """
    instants = [EPOCH + timedelta(milliseconds=one) for one in question.bounds_ms]
    encode = msgspec.json.encode
    for rows in in_slices(answer, question):
        if rows:
            owners = [owner_ids(asked, one) for one in rows]
            values = [
                [instants[one.bucket - 1] for one in rows],
                [instants[one.bucket] for one in rows],
                [one.code for one in rows],
                [str(one.aggregation) for one in rows],
                [customer for customer, _ in owners],
                [subscription for _, subscription in owners],
                [
                    encode({key: text or None for key, text in zip(question.keys, one.split, strict=True)}).decode()
                    for one in rows
                ],
                [one.units for one in rows],
                [one.events_count for one in rows],
            ]
            yield pa.Table.from_arrays(
                [pa.array(each, field.type) for each, field in zip(values, columns, strict=True)], schema=columns
            )
