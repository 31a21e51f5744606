"""Which columns of a file are which fields of an event."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

import msgspec
from msgspec import Raw, Struct

from app.importing.files import Row, text_of
from app.importing.times import TimestampFormat, detect, unix_seconds

FIELDS = ("transaction_id", "external_subscription_id", "code", "timestamp", "precise_total_amount_cents")
NEEDED = FIELDS[:4]
OPTIONS = {"code": "--code", "external_subscription_id": "--subscription"}
"""The options that give a field the same value in every row."""

_object = msgspec.json.Decoder(dict[str, Raw])


class CannotMap(ValueError):
    """The columns do not give the fields of an event; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: columns and constants by field, the properties' columns (None: all that are left), the
    timestamps' format (None: detected) and the timezone of those that name none."""

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    properties: Sequence[str] | None = None
    timestamps: TimestampFormat | None = None
    zone: tzinfo = UTC


class OutEvent(Struct, omit_defaults=True):
    """An event as it is sent."""

    transaction_id: str | Raw | None = None
    external_subscription_id: str | Raw | None = None
    code: str | Raw | None = None
    timestamp: str | None = None
    precise_total_amount_cents: str | Raw | None = None
    properties: dict[str, str | Raw] | None = None


class RowReader:
    """Makes events of rows."""

    def __init__(
        self,
        columns: Mapping[str, str],
        constants: Mapping[str, str],
        properties: Sequence[str] | None,
        timestamps: TimestampFormat,
        zone: tzinfo,
    ):
        self._columns = {name: column for name, column in columns.items() if name != "timestamp"}
        self._timestamp = columns["timestamp"]
        self._constants = constants
        self._properties = None if properties is None else set(properties)
        self._mapped = set(columns.values())
        self._timestamps = timestamps
        self._zone = zone

    def event(self, row: Row) -> tuple[OutEvent, dict[str, list[str]] | None]:
        """The event of a row, and what is wrong with it already: an event of the past needs its time."""
        given = {name: row[column] for name, column in self._columns.items() if column in row}
        event = OutEvent(**given, **self._constants, properties=self._properties_of(row))  # type: ignore[arg-type]
        written = row.get(self._timestamp)
        if written is None or not (text := text_of(written)):
            return event, {"timestamp": ["value_is_mandatory"]}
        event.timestamp = unix_seconds(text, self._timestamps, self._zone)
        if event.timestamp is None:
            event.timestamp = text
            return event, {"timestamp": ["invalid_format"]}
        return event, None

    def _properties_of(self, row: Row) -> dict[str, str | Raw]:
        if self._properties is not None:
            return {name: value for name, value in row.items() if name in self._properties}
        whole = row.get("properties")
        text = whole.encode() if isinstance(whole, str) else bytes(whole or b"")
        if text[:1] == b"{" and "properties" not in self._mapped:
            with suppress(msgspec.DecodeError):  # text that only begins like an object is a property like any other
                return _object.decode(text)  # type: ignore[return-value]
        return {name: value for name, value in row.items() if name not in self._mapped}


def make_reader(wanted: Wanted, known: Collection[str] | None, sample: Sequence[Row]) -> tuple[RowReader, str]:
    """A reader of rows with these columns, and a sentence or two on how they are read.

    Where every row has columns of its own, `known` is None: then those of the sample are, and those that are asked for.

    Raises:
        CannotMap: a column is not there, a field has none, or the timestamps do not tell their format.
    """
    named = [*wanted.columns.values(), *(wanted.properties or ())]
    if known is None:
        known = list(dict.fromkeys([*(name for row in sample for name in row), *named, FIELDS[-1]]))
    columns = dict(wanted.columns)
    for name in FIELDS:
        if name in known and name not in wanted.constants:
            columns.setdefault(name, name)
    if missing := [name for name in named if name not in known]:
        raise CannotMap(f"there is no column {_quoted(missing)}; there are {_quoted(known)}")
    for name in NEEDED:
        if name not in columns and name not in wanted.constants:
            or_constant = f" or {OPTIONS[name]} VALUE" if name in OPTIONS else ""
            raise CannotMap(
                f"no column is the {name}: say --map {name}=COLUMN{or_constant}; there are {_quoted(known)}"
            )
    timestamps, how = wanted.timestamps, "as asked for"
    if timestamps is None:
        timestamps, how = _detected(
            [text_of(row[columns["timestamp"]]) for row in sample if columns["timestamp"] in row]
        )
    reader = RowReader(columns, wanted.constants, wanted.properties, timestamps, wanted.zone)
    fields = [f"{name} = column {column!r}" for name, column in columns.items()]
    fields += [f"{name} = {value!r}" for name, value in wanted.constants.items()]
    where = f", in {wanted.zone} where they name no timezone" if timestamps is TimestampFormat.ISO else ""
    return reader, f"{'; '.join(fields)}.\nTimestamps are {timestamps.words}{where} ({how})."


def _detected(texts: Sequence[str]) -> tuple[TimestampFormat, str]:
    found = detect(texts)
    if len(found) != 1:
        seen = list(found.values()) or texts[:1]
        raise CannotMap(
            f"the timestamps do not tell their format ({_quoted(seen) or 'there are none'}): say --timestamp-format "
            "iso, s or ms"
        )
    [(kind, example)] = found.items()
    return kind, f"detected from the first {len(texts):,} rows, like {example!r}; --timestamp-format says otherwise"


def _quoted(names: Collection[str]) -> str:
    return ", ".join(_some(names))


def _some(names: Collection[str]) -> Iterator[str]:
    shown = list(names)[:20]
    yield from (repr(name) for name in shown)
    if len(names) > len(shown):
        yield "…"
