"""The `meterhouse` command."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console

from app.config import Settings, SettingsError, load_settings
from app.running import Started, configure_logging, run
from app.stores.data_dir import CannotStart

CANNOT_START = 2
DEMO_FAILED = 1

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

    async def work(started: Started) -> bool:
        nonlocal agreed
        agreed = await asyncio.to_thread(run_demo, started.base_url, started.process_admin_key, console)
        if agreed and not exit_after:
            console.print(f"\nStill serving at [bold]{started.base_url}[/]; Ctrl-C stops it.")
        return agreed and not exit_after

    _run(settings, on_ready=work)
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
    _run(settings, http=False)


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
    try:
        run(settings, **how)
    except CannotStart as error:
        _refuse(str(error))


def _refuse(reason: str) -> Any:
    errors.print(f"meterhouse: {reason}", markup=False)
    sys.exit(CANNOT_START)


async def _greet(started: Started) -> bool:
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
