"""Files of history, read in batches of rows whatever their size, with every value as it is written there.

A row is a dict of its columns that have a value. A value is text, or where the file has JSON the literal: no number
passes through a float. Columns of a CSV file are all read as text, and lines of JSON are not left to polars, which reads
numbers into floats. Only what a Parquet file itself keeps as a float is one.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec
import polars as pl
from msgspec import Raw
from polars.exceptions import PolarsError

from app.metering.stream import BYTE_ORDER_MARK, Lines

LONGEST_LINE = 16 * 1024 * 1024
PIECE = 1024 * 1024
NULL = b"null"

Row = dict[str, "str | Raw"]

_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)


class Unreadable(RuntimeError):
    """The file cannot be read, or not any further."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row."""

    why: str
    text: str


class File(Protocol):
    """A file of rows. Rows count from 1; the header of a CSV file is none, empty lines of NDJSON are."""

    def columns(self) -> list[str] | None:
        """The names of the columns; None where every row has its own."""

    def sample(self, size: int) -> Sequence["Row | BadRow | None"]:
        """The first rows."""

    def count(self) -> int:
        """How many rows there are."""

    def batches(self, start: int, size: int) -> Iterator[Sequence[Row | BadRow | None]]:
        """The rows after the first `start`, in parts of `size`; None for an empty line.

        Raises:
            Unreadable: the file is broken from here on.
        """


class Format(StrEnum):
    """What a file holds."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


SUFFIXES = {
    ".csv": Format.CSV, ".tsv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON,
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET,
}  # fmt: skip


def open_file(path: Path, given: Format | None, separator: str | None) -> File:
    """A file, of the format its name says unless one is given.

    Raises:
        Unreadable: neither says it, or it is not of that format.
    """
    names = [suffix.lower() for suffix in path.suffixes]
    packed = names[-1:] == [".gz"]
    suffix = (names[:-1] if packed else names)[-1:]
    kind = given or SUFFIXES.get(suffix[0] if suffix else "")
    if kind is None:
        raise Unreadable(f"{path}: its name does not tell what it holds; say --format csv, ndjson or parquet")
    if kind is Format.NDJSON:
        return LinesFile(path, gzip.open if packed else open)
    if kind is Format.PARQUET:
        return TableFile(path, pl.scan_parquet(path, glob=False))
    tab = "\t" if suffix == [".tsv"] else ","
    return TableFile(path, pl.scan_csv(path, infer_schema=False, separator=separator or tab, glob=False))


class TableFile:
    """A CSV or Parquet file."""

    def __init__(self, path: Path, frame: pl.LazyFrame):
        self._path = path
        with _reading(path):
            schema = frame.collect_schema()
        self._nested = {name for name, kind in schema.items() if kind.is_nested()}
        self._names = list(schema)
        self._frame = frame.select(_as_text(name, kind) for name, kind in schema.items())

    def columns(self) -> list[str]:
        """See `File`."""
        return self._names

    def sample(self, size: int) -> Sequence[Row | BadRow | None]:
        """See `File`."""
        with _reading(self._path):
            return self._rows(self._frame.head(size).collect())

    def count(self) -> int:
        """See `File`."""
        with _reading(self._path):
            return int(self._frame.select(pl.len()).collect().item())

    def batches(self, start: int, size: int) -> Iterator[Sequence[Row | BadRow | None]]:
        """See `File`."""
        frame = self._frame.slice(start) if start else self._frame
        with _reading(self._path):
            for part in frame.collect_batches(chunk_size=size, lazy=True):
                for first in range(0, part.height, size):
                    yield self._rows(part.slice(first, size))

    def _rows(self, part: pl.DataFrame) -> list[Row | BadRow | None]:
        return [self._row(values) for values in part.iter_rows()]

    def _row(self, values: tuple[Any, ...]) -> Row:
        row: Row = {name: value for name, value in zip(self._names, values, strict=True) if value is not None}
        for name in self._nested & row.keys():
            value: Any = row[name]
            if isinstance(value, dict):
                value = {key: each for key, each in value.items() if each is not None}
            row[name] = Raw(msgspec.json.encode(value, enc_hook=str))
        return row


def _as_text(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind.is_nested():
        return column
    if isinstance(kind, pl.Datetime):
        return column.dt.to_string("iso:strict")
    if isinstance(kind, pl.Duration):
        return column.dt.to_string("iso")
    if isinstance(kind, pl.Binary):
        return column.bin.encode("base64")
    return column.cast(pl.String)


class LinesFile:
    """A file with one JSON object a line; an object with one in `event` stands for that one."""

    def __init__(self, path: Path, opener: Callable[..., Any]):
        self._path = path
        self._open = opener

    def columns(self) -> None:
        """See `File`."""

    def sample(self, size: int) -> Sequence[Row | BadRow | None]:
        """See `File`."""
        return next(self.batches(0, size), [])

    def count(self) -> int:
        """See `File`."""
        lines, last = 0, b"\n"
        for piece in self._pieces():
            lines += piece.count(b"\n")
            last = piece[-1:]
        return lines + (last != b"\n")

    def batches(self, start: int, size: int) -> Iterator[Sequence[Row | BadRow | None]]:
        """See `File`."""
        waiting: list[Row | BadRow | None] = []
        for number, line in enumerate(self._lines()):
            if number < start:
                continue
            waiting.append(_parsed(line.removeprefix(BYTE_ORDER_MARK) if line and not number else line))
            if len(waiting) == size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _lines(self) -> Iterator[bytes | None]:
        lines = Lines(LONGEST_LINE)
        for piece in self._pieces():
            yield from lines.feed(piece)
        last = lines.last()
        if last != b"":
            yield last

    def _pieces(self) -> Iterable[bytes]:
        with _reading(self._path), self._open(self._path, "rb") as file:
            while piece := file.read(PIECE):
                yield piece


def _parsed(line: bytes | None) -> Row | BadRow | None:
    if line is None:
        return BadRow(f"line too long: more than {LONGEST_LINE} bytes", "")
    if not line or line.isspace():
        return None
    try:
        line.decode()
        row = _object.decode(line)
        inner = bytes(row.get("event", b""))
        if inner[:1] == b"{" and "transaction_id" not in row:
            row = _object.decode(inner)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadRow(f"malformed JSON: {error}", line[:10_000].decode(errors="replace"))
    return {name: value for name, value in row.items() if bytes(value) != NULL}


def text_of(value: str | Raw) -> str:
    """A value as text: a JSON string's content, otherwise the literal."""
    if isinstance(value, str):
        return value
    literal = bytes(value)
    return _string.decode(literal) if literal[:1] == b'"' else literal.decode()


class _reading(AbstractContextManager[None]):  # noqa: N801 (used like a function)
    """Turns what goes wrong with a file into `Unreadable`."""

    def __init__(self, path: Path):
        self._path = path

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, PolarsError | OSError | EOFError | UnicodeDecodeError):
            reason = str(error).strip().split("\n")[0]
            raise Unreadable(f"{self._path}: {reason}") from error
