"""The `meterhouse` command."""

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.console import Console

from app.config import Settings, SettingsError, load_settings
from app.errors import Invalid
from app.exporting.command import export
from app.logs import configure_logging
from app.stores.data_dir import CannotStart

if TYPE_CHECKING:
    from app.running import Started

CANNOT_START = 2
DEMO_FAILED = 1
FOUND = 1

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meterhouse")
def main() -> None:
    """Usage metering and billing: counts events exactly, prices them, and turns them into invoices."""


def data_dir_option(function: Any) -> Any:
    """`--data-dir`, for the commands that may hold embedded engines."""
    return click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Where the embedded engines keep their data."
    )(function)


def port_option(function: Any) -> Any:
    """`--port`."""
    return click.option("--port", type=int, help="The port to listen on. [default: 3000]")(function)


def host_option(function: Any) -> Any:
    """`--host`."""
    return click.option("--host", help="The address to listen on. [default: 127.0.0.1]")(function)


@main.command()
@data_dir_option
@host_option
@port_option
def up(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Start everything in one process: stores, API, ingest and scheduler."""
    settings = _settings(data_dir=data_dir, host=host, port=port)
    _run(settings, on_ready=_greet)


@main.command()
@data_dir_option
@port_option
@click.option("--exit", "exit_after", is_flag=True, help="Stop when the demo is done instead of serving on.")
def demo(data_dir: Path | None, port: int | None, exit_after: bool) -> None:
    """Meter, price and invoice a real year: every flight that left New York in 2013, billed to its airlines."""
    from app.demo import run_demo  # noqa: PLC0415 (only the demo needs what it imports)

    settings = _settings(data_dir=data_dir, port=port)
    agreed = False

    async def work(started: "Started") -> bool:
        nonlocal agreed
        agreed = await asyncio.to_thread(run_demo, started.base_url, started.process_admin_key, console)
        if agreed and not exit_after:
            console.print(f"\nStill serving at [bold]{started.base_url}[/]; Ctrl-C stops it.")
        return agreed and not exit_after

    _run(settings, first_keys=False, on_ready=work)  # it has keys of its own; `up` shows the first ones
    if not agreed:
        sys.exit(DEMO_FAILED)


@main.command()
@host_option
@port_option
def api(host: str | None, port: int | None) -> None:
    """Serve the API only, on a ClickHouse and a PostgreSQL server. Any number of these may run."""
    settings = _settings(host=host, port=port)
    _need_servers(settings)
    _run(settings, scheduler=False, on_ready=_greet)


@main.command()
def worker() -> None:
    """Run the scheduler and the upkeep only, on a ClickHouse and a PostgreSQL server."""
    settings = _settings()
    _need_servers(settings)
    _run(settings, http=False, first_keys=False)  # nobody would see them


@main.command()
@data_dir_option
@host_option
@port_option
@click.option("--until", metavar="INSTANT", help="Bill what was due at this ISO 8601 instant. [default: now]")
@click.option("--dry-run", is_flag=True, help="Only tell what a run would begin with; --until may lie in the future.")
def bill(data_dir: Path | None, host: str | None, port: int | None, until: str | None, dry_run: bool) -> None:
    """Bill what is due at once, without waiting for the scheduler or for late events.

    A server that runs is asked over HTTP, for which its admin key is needed in METERHOUSE_ADMIN_KEY; otherwise the
    stores are opened here. Ends with 1 when something could not be billed. `GET /admin/billing_runs` lists the runs.
    """
    from app.api.wire import parse_instant  # noqa: PLC0415 (only this command needs what it imports)
    from app.bill_command import Refused  # noqa: PLC0415
    from app.bill_command import bill as run_bill  # noqa: PLC0415

    settings = _settings(data_dir=data_dir, host=host, port=port)
    try:
        instant = None if until is None else parse_instant(until, "until")
        ended = run_bill(settings, instant, dry_run=dry_run, console=console)
    except Invalid:
        _refuse(f"--until {until}: it wants an ISO 8601 instant, like 2026-06-01T00:00:00Z")
    except (CannotStart, Refused) as error:
        _refuse(str(error))
    else:
        sys.exit(ended)


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", envvar="METERHOUSE_URL", default="http://127.0.0.1:3000", show_default=True, help="The server.")
@click.option("--api-key", envvar="METERHOUSE_API_KEY", help="A key that may write events. [env: METERHOUSE_API_KEY]")
@click.option("--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="The column of an event's field.")
@click.option("--code", help="The code of every event, instead of a column.")
@click.option("--subscription", help="The external_subscription_id of every event, instead of a column.")
@click.option("--properties", metavar="COLUMN,…", help="The columns that are properties. [default: all that are left]")
@click.option("--timestamp-format", type=click.Choice(["iso", "s", "ms"]), help="[default: what the first rows show]")
@click.option("--timezone", default="UTC", show_default=True, help="Of ISO 8601 timestamps that name none.")
@click.option("--format", "kind", type=click.Choice(["csv", "ndjson", "parquet"]), help="[default: by the file's name]")
@click.option("--separator", help="Between the columns of CSV. [default: a comma; in .tsv a tab]")
@click.option("--connections", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests at a time.")
@click.option("--rows", type=click.IntRange(1, 10_000), default=5_000, show_default=True, help="Rows a request.")
@click.option("--patience", type=float, default=300.0, show_default=True, help="Seconds to ask a busy server again.")
@click.option("--keep-in", type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="Where progress and rejected rows are kept. [default: beside each file]")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin with the first row, whatever was imported before.")
@click.option("--dry-run", is_flag=True, help="Show how the files are read and the first events, and send nothing.")
def import_files(files: tuple[Path, ...], **given: Any) -> None:
    """Send history from CSV, NDJSON or Parquet files to a server, as events.

    Columns named like an event's fields are taken for them (transaction_id, external_subscription_id, code, timestamp,
    precise_total_amount_cents); --map names others. An import may be interrupted and repeated: it goes on where it was,
    and no event counts twice.
    """
    try:
        from app.importing.command import import_command  # noqa: PLC0415 (what it imports may not be installed)
    except ModuleNotFoundError as error:
        _refuse(f"import needs the package {error.name}: pip install 'meterhouse[import]'")
    sys.exit(import_command(files, given, console, errors))


@main.command()
@data_dir_option
@host_option
@port_option
@click.option("--json", "json_wanted", is_flag=True, help="Print the findings as JSON.")
@click.option("--mend", is_flag=True, help="Compare all rollups with the events first, and mend those that differ.")
def doctor(data_dir: Path | None, host: str | None, port: int | None, json_wanted: bool, mend: bool) -> None:
    """Examine an installation, running or stopped, and say what to do about what is found.

    Ends with 0 when nothing has to be done, with 1 when there are warnings or problems. A server with embedded stores is
    asked over HTTP, for which the doctor needs its admin key in METERHOUSE_ADMIN_KEY. Without --mend nothing is changed.
    """
    from app.doctor.examine import examine  # noqa: PLC0415 (only the doctor needs what it imports)
    from app.doctor.show import as_json, show  # noqa: PLC0415

    configure_logging("critical")
    report = examine(os.environ, {"data_dir": data_dir, "host": host, "port": port}, mend=mend)
    if json_wanted:
        click.echo(as_json(report))
    else:
        show(report, console)
    sys.exit(FOUND if report.status in {"warning", "problem"} else 0)


main.add_command(export)


def _settings(**given: object) -> Settings:
    try:
        settings = load_settings(given=given)
    except SettingsError as error:
        _refuse(str(error))
    configure_logging(settings.log_level)
    return settings


def _need_servers(settings: Settings) -> None:
    if settings.embedded:
        _refuse(
            "This command needs METERHOUSE_DATABASE_URL and METERHOUSE_CLICKHOUSE_URL; "
            "`meterhouse up` runs everything in one process without them."
        )


def _run(settings: Settings, **how: Any) -> None:
    gc.disable()  # all that is imported stays: looking through it for garbage would take a sixth of the time
    from app.running import run  # noqa: PLC0415 (the commands that ask a server need nothing of it)

    gc.freeze()
    gc.enable()
    try:
        run(settings, **how)
    except CannotStart as error:
        _refuse(str(error))


def _refuse(reason: str) -> Any:
    errors.print(f"meterhouse: {reason}", markup=False)
    sys.exit(CANNOT_START)


async def _greet(started: "Started") -> bool:
    """Say where the service is, and show the keys that this start has made."""
    url = started.base_url
    console.print(f"Meterhouse is ready at [bold]{url}[/]  (API reference: {url}/docs, health: {url}/health)")
    if started.admin_key is not None:
        console.print(f"Admin key, shown once:              {started.admin_key}", markup=False)
    if started.organization_key is not None:
        console.print(f"API key of your organization, shown once: {started.organization_key}\n", markup=False)
        console.print("Try it:", markup=False)
        console.print(
            f"curl -s {url}/api/v1/events -H 'Authorization: Bearer {started.organization_key}' "
            "-H 'Content-Type: application/json' "
            """-d '{"event": {"transaction_id": "first", "external_subscription_id": "sub_1", "code": "api_calls"}}'""",
            markup=False,
        )
    console.print("\nCtrl-C stops it.", markup=False)
    return True
