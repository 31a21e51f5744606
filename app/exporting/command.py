"""`meterhouse export`: events and usage from a running server into a file."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import rich_click as click
from rich.console import Console

FAILED, CANNOT_START = 1, 2
STANDARD_OUTPUT = "-"
PIECE = 1024 * 1024
SILENCE_SECONDS = 300
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}

errors = Console(stderr=True, highlight=False, soft_wrap=True)


class CannotExport(RuntimeError):
    """Nothing was exported; the message says why."""


def shared_options(function: Any) -> Any:
    """What every export takes."""
    for option in (
        click.option("--to", help="A date, which is included, or an ISO 8601 instant."),
        click.option("--from", "from_", help="A date or an ISO 8601 instant."),
        click.option("--subscription", help="Only of this external_subscription_id."),
        click.option("--code", help="Only of the metric with this code."),
        click.option(
            "--format",
            "kind",
            type=click.Choice(["parquet", "csv", "ndjson"]),
            help="[default: by the file's name]",
        ),
        click.option("--api-key", envvar="METERHOUSE_API_KEY", help="A key that may read. [env: METERHOUSE_API_KEY]"),
        click.option(
            "--url", envvar="METERHOUSE_URL", default="http://127.0.0.1:3000", show_default=True, help="The server."
        ),
        click.argument("file"),
    ):
        function = option(function)
    return function


@click.group()
def export() -> None:
    """Write events or usage from a running server to a Parquet, CSV or NDJSON file; - is standard output."""


@export.command()
@shared_options
def events(
    file: str, from_: str | None, to: str | None, code: str | None, subscription: str | None, **how: Any
) -> None:
    """Every event as it was sent, by subscription, code and time. `meterhouse import` reads the file back.

    Dates are whole days in UTC; both ends are included.
    """
    query = {
        "code": code,
        "external_subscription_id": subscription,
        "timestamp_from": _first_instant(from_),
        "timestamp_to": _last_instant(to),
    }
    _export(file, "events", query, **how)


@export.command()
@shared_options
@click.option("--every", type=click.Choice(["hour", "day", "week", "month"]), default="day", show_default=True)
@click.option("--timezone", help="Whose hours, days, weeks or months. [default: the customer's or the organization's]")
@click.option("--customer", help="Only of this external_customer_id.")
@click.option("--by", type=click.Choice(["subscription", "customer", "nobody"]), default="subscription",
              show_default=True, help="Whose usage is told apart.")  # fmt: skip
@click.option(
    "--group-by", multiple=True, metavar="PROPERTY", help="A property to tell usage apart by; may be repeated."
)
def usage(file: str, every: str, by: str, group_by: Sequence[str], **given: Any) -> None:
    """Units used in each hour, day, week or month, by metric and subscription."""
    how = {name: given.pop(name) for name in ("url", "api_key", "kind")}
    query = {
        "time_granularity": {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}[every],
        "from_date": given["from_"],
        "to_date": given["to"],
        "timezone": given["timezone"],
        "billable_metric_code": given["code"],
        "external_customer_id": given["customer"],
        "external_subscription_id": given["subscription"],
        "split_by": by,
        "group_by": list(group_by) or None,
    }
    _export(file, "usage", query, **how)


def _export(file: str, what: str, query: Mapping[str, Any], *, url: str, api_key: str | None, kind: str | None) -> None:
    try:
        if not api_key:
            raise CannotExport("an API key is needed: --api-key or METERHOUSE_API_KEY")
        kind = kind or SUFFIXES.get(Path(file).suffix.lower())
        if kind is None:
            raise CannotExport(f"{file}: its name does not tell its format; say --format parquet, csv or ndjson")
        asked = urlencode({"format": kind, **{name: one for name, one in query.items() if one is not None}}, doseq=True)
        size = _download(f"{url.rstrip('/')}/api/v1/exports/{what}?{asked}", api_key, file)
    except CannotExport as error:
        errors.print(f"meterhouse: {error}", markup=False)
        sys.exit(CANNOT_START)
    except (OSError, HTTPException) as error:
        errors.print(f"meterhouse: the export broke off: {error or type(error).__name__}", markup=False)
        sys.exit(FAILED)
    if file != STANDARD_OUTPUT:
        errors.print(f"Wrote {file}: {size:,} bytes.", markup=False)


def _download(url: str, api_key: str, file: str) -> int:
    """Write what a URL gives to a file, under another name until it is complete; returns its size.

    Raises:
        CannotExport: the server refuses.
        OSError, HTTPException: the connection or the disk fails.
    """
    if not url.startswith(("http://", "https://")):
        raise CannotExport(f"{url.split('/api/', maxsplit=1)[0]} is not the URL of a server")
    request = Request(url, headers={"Authorization": f"Bearer {api_key}"})  # noqa: S310 (its scheme was looked at)
    try:
        answer = urlopen(request, timeout=SILENCE_SECONDS)  # noqa: S310
    except HTTPError as error:
        raise CannotExport(_reason(error)) from error
    except OSError as error:
        raise CannotExport(f"the server cannot be reached: {getattr(error, 'reason', error)}") from error
    with answer:
        if file == STANDARD_OUTPUT:
            shutil.copyfileobj(answer, sys.stdout.buffer, PIECE)
            return 0
        part = Path(f"{file}.part")
        try:
            with part.open("wb") as out:
                size = _copy(answer, out)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    return size


def _copy(answer: Any, out: IO[bytes]) -> int:
    shutil.copyfileobj(answer, out, PIECE)
    out.flush()
    os.fsync(out.fileno())
    return out.tell()


def _reason(error: HTTPError) -> str:
    """What the server says is wrong."""
    try:
        body = json.loads(error.read())
        return f"{body['status']} {body['error']}: {json.dumps(body.get('error_details') or body.get('code'))}"
    except (ValueError, TypeError, KeyError, OSError):
        return f"{error.code} {error.reason}"


def _first_instant(text: str | None) -> str | None:
    return f"{text}T00:00:00.000Z" if _is_date(text) else text


def _last_instant(text: str | None) -> str | None:
    return f"{text}T23:59:59.999Z" if _is_date(text) else text


def _is_date(text: str | None) -> bool:
    return text is not None and len(text) == len("2027-01-31")
