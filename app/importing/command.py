"""The options of `meterhouse import`, as they are typed, to what they mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console

from app.core.periods import is_timezone
from app.importing.files import Format
from app.importing.mapping import FIELDS, OPTIONS, Wanted
from app.importing.run import CANNOT_START, Options, run_import
from app.importing.times import TimestampFormat


class BadOption(ValueError):
    """An option that cannot be used; the message says why."""


def import_command(files: Sequence[Path], given: Mapping[str, Any], console: Console, errors: Console) -> int:
    """Run the command with its options by name; returns what it ends with."""
    try:
        options = _options(given)
    except BadOption as error:
        errors.print(f"meterhouse: {error}", markup=False)
        return CANNOT_START
    return run_import(files, options, console, errors)


def _options(given: Mapping[str, Any]) -> Options:
    if not given["api_key"] and not given["dry_run"]:
        raise BadOption("an API key is needed: --api-key or METERHOUSE_API_KEY")
    separator = given["separator"]
    if separator is not None and (len(separator) != 1 or not separator.isascii()):
        raise BadOption(f"--separator is one ASCII character, not {separator!r}")
    return Options(
        url=given["url"],
        key=given["api_key"] or "",
        wanted=_wanted(given),
        format=Format(given["kind"]) if given["kind"] else None,
        separator=separator,
        connections=given["connections"],
        rows=given["rows"],
        patience=given["patience"],
        folder=given["keep_in"],
        restart=given["restart"],
        dry_run=given["dry_run"],
    )


def _wanted(given: Mapping[str, Any]) -> Wanted:
    columns: dict[str, str] = {}
    for one in given["columns"]:
        name, equals, column = one.partition("=")
        if name not in FIELDS or not equals or not column:
            raise BadOption(f"--map {one}: it wants FIELD=COLUMN, where FIELD is one of {', '.join(FIELDS)}")
        if name in columns:
            raise BadOption(f"--map {one}: {name} is column {columns[name]!r} already")
        columns[name] = column
    sent = {"code": given["code"], "external_subscription_id": given["subscription"]}
    constants = {name: value for name, value in sent.items() if value is not None}
    if both := sorted(columns.keys() & constants.keys()):
        raise BadOption(f"{both[0]} is given twice: by --map and by {OPTIONS[both[0]]}")
    if not is_timezone(given["timezone"]):
        raise BadOption(f"--timezone {given['timezone']} is not the name of a timezone")
    properties, timestamps = given["properties"], given["timestamp_format"]
    return Wanted(
        columns=columns,
        constants=constants,
        properties=None if properties is None else [name for name in properties.split(",") if name],
        timestamps=TimestampFormat(timestamps) if timestamps else None,
        zone=ZoneInfo(given["timezone"]),
    )
