"""`meterhouse doctor`: an examination from outside, of a service that runs or of one that does not.

Embedded stores can be opened by one process only. Where a service has them open it is asked over HTTP; otherwise they
are opened here, and nothing is changed: no table is made, no journal restored, nothing mended.
"""

from collections.abc import Mapping
from pathlib import Path

from app import asking
from app.clock import system_now
from app.config import PREFIX, Settings, read_settings
from app.doctor import machine, remote
from app.doctor.findings import Finding, Report, note, ok, problem, report, warning
from app.doctor.stores import Failure, Stores, check_stores, settled_before
from app.listening import check_port
from app.metering.parity import differing_cells
from app.metering.reconcile import reconcile_cells
from app.service import Service
from app.stores.clickhouse import open_clickhouse
from app.stores.data_dir import CannotStart, DataDir
from app.stores.postgres import open_postgres

OK = 200


def examine(environment: Mapping[str, str], given: Mapping[str, object], *, mend: bool = False) -> Report:
    """Look at everything. With `mend`, first compare all rollups with the events and mend those that differ."""
    settings, findings = machine.check_settings(environment, given)
    if any(one.status == "problem" for one in findings):
        return report([*findings, note("the rest", "Not looked at.", "First correct the settings.")])
    url = asking.address(settings)
    health = asking.ask(f"{url}/health")
    directory = DataDir(settings.data_dir)
    holder = None
    if settings.embedded:
        findings += machine.check_directory(directory)
        if any(one.status == "problem" for one in findings):
            return report(findings)
        holder = directory.holder() if directory.path.exists() else None
    if health is not None and asking.is_meterhouse(health):
        findings.append(remote.check_health(url, health))
        if settings.embedded and holder is None:
            found = f"The Meterhouse that answers at {url} does not use {directory.path}."
            advice = "Give --data-dir or --port of the one that is meant; two need a port each."
            findings[-1] = warning("server", found, advice)
    else:
        findings.append(_no_server(settings, url, holder, answers=health is not None))
    if not settings.embedded:
        there = _with_stores(settings, directory.path, running=asking.is_meterhouse(health), mend=mend)
        return report([*findings, *_here(settings, directory.path), *there])
    if holder is None:
        return report([*findings, *_here(settings, directory.path), *_in_directory(settings, directory, mend=mend)])
    if health is None or not asking.is_meterhouse(health):
        return report([*findings, *_here(settings, directory.path)])
    if mend:
        findings.append(_ask_to_mend(url, settings.admin_key))
    return report([*findings, *remote.ask_report(url, settings.admin_key)])


def examine_service(service: Service, environment: Mapping[str, str]) -> Report:
    """The same from inside a running service, for `GET /admin/doctor`."""
    _, findings = machine.check_settings(environment, _differing(service.settings, environment))
    findings = [Finding("server's settings", one.status, one.found, one.advice) for one in findings]
    findings += _here(service.settings, service.settings.data_dir, own=True)
    return report([*findings, *check_stores(Stores(service.settings, service.postgres, service.clickhouse, True))])


def _differing(settings: Settings, environment: Mapping[str, str]) -> dict[str, object]:
    """What the command line has set: it goes before the environment."""
    from_environment, _ = read_settings(environment)
    names = ("data_dir", "host", "port")
    return {
        name: getattr(settings, name) for name in names if getattr(settings, name) != getattr(from_environment, name)
    }


def _here(settings: Settings, path: Path, *, own: bool = False) -> list[Finding]:
    """This machine."""
    disk = [machine.check_disk(path)] if settings.embedded else []
    return [*disk, machine.check_memory(own=own), *machine.check_time(system_now())]


def _no_server(settings: Settings, url: str, holder: str | None, *, answers: bool) -> Finding:
    """Nothing that is a Meterhouse answers where the settings say."""
    if holder is not None:
        found = f"Process {holder} uses the data directory, but no Meterhouse answers at {url}."
        return warning("server", found, "Give the doctor the server's --host and --port, or look into its log.")
    if answers:
        advice = "Choose another port with --port, or stop that program."
        return problem("server", f"Something that is not a Meterhouse answers at {url}.", advice)
    try:
        check_port(settings.host, settings.port)
    except CannotStart as error:
        return problem("server", str(error), "Choose another port with --port, or stop the program that has it.")
    return ok("server", f"None runs at {url}; the port is free.")


def _in_directory(settings: Settings, directory: DataDir, *, mend: bool) -> list[Finding]:
    """Nobody has the embedded stores open: hold the directory and open them."""
    if directory.state != "ready":
        return [note("stores", "There are none yet.", "The first start makes them.")]
    try:
        directory.take()
    except CannotStart as error:
        return [problem("stores", str(error), "Another process has just taken it; examine again.")]
    try:
        journal = [] if settings.clickhouse_url else machine.check_journal(directory.path / "journal")
        return [*journal, *_with_stores(settings, directory.path, running=False, mend=mend)]
    finally:
        directory.release()


def _with_stores(settings: Settings, root: Path, *, running: bool, mend: bool) -> list[Finding]:
    """Open both stores, as they are, and look at them."""
    if not settings.clickhouse_url and not (root / "clickhouse").is_dir():
        advice = "Restore the directory from a backup."
        return [problem("ClickHouse", f"{root / 'clickhouse'} is not there, though it was once.", advice)]
    postgres = clickhouse = None
    try:
        try:
            postgres = open_postgres(settings.database_url, root, settings.database_connections)
            clickhouse = open_clickhouse(settings.clickhouse_url, root, settings.clickhouse_handles, create=False)
        except CannotStart as error:
            where = "PostgreSQL" if postgres is None else "ClickHouse"
            if "UNKNOWN_DATABASE" in str(error):
                return [note(where, "Its database is not there yet.", "The first start makes it.")]
            return [problem(where, str(error), "See that it runs, and that its address and password are right.")]
        stores = Stores(settings, postgres, clickhouse, running)
        mended = [_mend(stores)] if mend else []
        return [*mended, *check_stores(stores)]
    finally:
        if clickhouse is not None:
            clickhouse.close()
        if postgres is not None:
            postgres.close()


def _mend(stores: Stores) -> Finding:
    try:
        mended = sum(
            reconcile_cells(stores.clickhouse, cells)
            for cells in differing_cells(stores.clickhouse, settled_before(stores))
        )
    except Failure as error:
        return problem("mending", f"It failed: {error}", "See that ClickHouse runs and answers, and try again.")
    return _mended(mended)


def _ask_to_mend(url: str, key: str) -> Finding:
    answer = asking.ask(f"{url}/admin/reconcile", key, method="POST", seconds=remote.REPORT_SECONDS)
    if answer is None or answer.status != OK:
        advice = f"Put the server's admin key into {PREFIX}ADMIN_KEY."
        return problem("mending", "The server could not be asked to mend its rollups.", advice)
    return _mended(answer.body["reconcile"]["cells_mended"])


def _mended(cells: int) -> Finding:
    return note("mending", f"{cells:,} hourly cells differed and were made anew." if cells else "Nothing to mend.")
