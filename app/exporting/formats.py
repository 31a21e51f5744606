"""Tables as the bytes of a file, part by part: Parquet, CSV, or JSON objects one a line."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from app.metering.events import plain

JSON_TEXT = {b"content": b"json"}
"""The metadata of a column whose texts are JSON."""


class Format(StrEnum):
    """What a file holds."""

    PARQUET = "parquet"
    CSV = "csv"
    NDJSON = "ndjson"

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.CSV: "text/csv",
    Format.NDJSON: "application/x-ndjson",
}


def encoded(kind: Format, schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[bytes]:
    """A file with the rows of all parts. Only one part is in memory at a time. Decimals keep every digit, instants are in
    UTC; columns of JSON text are text but in NDJSON, where they are the objects themselves.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit the schema.
    """
    return _WRITERS[kind](schema, parts)


class _Sink:
    """A file object that is emptied by reading it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        """Keep what is written."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is held."""

    def take(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _parquet(schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    with pa.PythonFile(sink, mode="w") as file:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for part in parts:
                writer.write_table(part)
                yield sink.take()
        yield sink.take()


def _csv(schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[bytes]:
    texts = pa.schema([(column.name, pa.string()) for column in schema])
    sink = _Sink()
    with pa.PythonFile(sink, mode="w") as file, pyarrow.csv.CSVWriter(file, texts) as writer:
        for part in parts:
            columns = [
                pa.array(map(_text(field.type), part.column(field.name).to_pylist()), pa.string()) for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=texts))
            yield sink.take()
    yield sink.take()


def _ndjson(schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode_lines
    for part in parts:
        columns = [map(_json(field), part.column(field.name).to_pylist()) for field in schema]
        names = schema.names
        yield encode([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)])


_WRITERS: Mapping[Format, Callable[[pa.Schema, Iterable[pa.Table]], Iterator[bytes]]] = {
    Format.PARQUET: _parquet,
    Format.CSV: _csv,
    Format.NDJSON: _ndjson,
}


def _text(kind: pa.DataType) -> Callable[[Any], str | None]:
    """How a value is written as text; None stays None."""
    if pa.types.is_timestamp(kind):
        return lambda value: None if value is None else iso(value)
    if pa.types.is_decimal(kind):
        return plain
    if pa.types.is_integer(kind):
        return lambda value: None if value is None else str(value)
    return lambda value: value


def _json(field: pa.Field) -> Callable[[Any], Any]:
    if field.metadata == JSON_TEXT:
        return lambda value: None if value is None else msgspec.Raw(value.encode())
    return (lambda value: value) if pa.types.is_integer(field.type) else _text(field.type)


def iso(value: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, or microseconds where it has them."""
    precision = "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.replace(tzinfo=None).isoformat(timespec=precision) + "Z"
