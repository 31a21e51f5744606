"""What can be looked at without the stores: settings, data directory, disk, memory, time, port, and the journal."""

import difflib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.config import PREFIX, Settings, read_settings, unknown_variables, variable_of
from app.doctor.findings import Finding, note, ok, problem, size, warning
from app.metering.journal import journal_files
from app.metering.rows import EventRow
from app.stores.clickhouse import server_address
from app.stores.data_dir import CannotStart, DataDir

GIB = 1024**3
DISK_PROBLEM, DISK_WARNING = GIB // 2, 2 * GIB
DISK_SHARE = 0.05
MEMORY_WARNING = GIB // 2
MADE = datetime(2025, 1, 1, tzinfo=UTC)
"""A time that has passed."""
CGROUP = Path("/sys/fs/cgroup")

_row = msgspec.json.Decoder(EventRow)


def check_settings(environment: Mapping[str, str], given: Mapping[str, object]) -> tuple[Settings, list[Finding]]:
    """The settings there are, unusable ones at their defaults, and what is wrong with them."""
    settings, wrong = read_settings(environment, given)
    subject = "settings"
    findings = [problem(subject, f"{one}.", "Correct it; nothing starts with it.") for one in wrong]
    known = [variable_of(name) for name in Settings.__dataclass_fields__]
    for name in unknown_variables(environment):
        close = difflib.get_close_matches(name, known, 1)
        meant = f"Did you mean {close[0]}? Nothing reads it as it is." if close else "Remove it: nothing reads it."
        findings.append(warning(subject, f"{name} is not a setting.", meant))
    if settings.database_url:
        try:
            make_url(settings.database_url)
        except (ArgumentError, ValueError):
            advice = "It must look like postgresql://user:password@host:5432/database."
            findings.append(problem(subject, f"{PREFIX}DATABASE_URL is not an address.", advice))
    if settings.clickhouse_url:
        try:
            server_address(settings.clickhouse_url)
        except CannotStart as error:
            findings.append(problem(subject, str(error), "Correct it; nothing starts with it."))
    if settings.max_queued_events < settings.max_batch_events:
        found = f"{PREFIX}MAX_QUEUED_EVENTS is less than {PREFIX}MAX_BATCH_EVENTS."
        findings.append(warning(subject, found, "Raise it: a large batch is refused as long as anything is queued."))
    if bool(settings.database_url) != bool(settings.clickhouse_url):
        found = "One store is a server and the other is embedded: only one process can run."
        findings.append(note(subject, found, "Give both URLs to run `meterhouse api` and `meterhouse worker`."))
    set_here = sum(name in environment for name in known)
    return settings, findings or [ok(subject, f"{set_here} of {len(known)} are set, all usable.")]


def check_directory(directory: DataDir) -> list[Finding]:
    """The data directory: what it is, who uses it, and whether it can be used."""
    subject, path = "data directory", directory.path
    try:
        state = directory.state
        holder = directory.holder() if state != "missing" else None
    except OSError as error:
        return [_unusable(path, error)]
    parent = _existing(path)
    if not os.access(parent, os.W_OK | os.X_OK):
        return [problem(subject, f"{parent} cannot be written.", "Make it writable or choose another with --data-dir.")]
    findings = [_state(path, state, holder)]
    if state != "missing":
        if path.stat().st_mode & stat.S_IWOTH:
            findings.append(warning(subject, f"Everybody may write to {path}.", f"Run: chmod o-w {path}"))
        findings += [
            problem(subject, f"{one} cannot be read and written.", "Run as the user who started Meterhouse first.")
            for one in _own_files(path)
            if not os.access(one, os.R_OK | os.W_OK)
        ]
    return findings


def _state(path: Path, state: str, holder: str | None) -> Finding:
    subject = "data directory"
    match state:
        case "missing" | "empty":
            return note(subject, f"There is nothing in {path} yet.", "The first start makes it.")
        case "foreign":
            found = f"{path} is not empty and not a Meterhouse data directory."
            return problem(subject, found, "Choose another with --data-dir.")
        case "unreadable":
            found = f"{path / 'meterhouse.json'} cannot be read, so what the directory holds cannot be told."
            return problem(subject, found, "Restore that file from a backup or choose another directory.")
        case "newer":
            return problem(subject, f"{path} was made by a newer Meterhouse.", "Install that one again.")
        case "initialising" if holder is None:
            found = f"The first start on {path} was interrupted; it holds no events."
            return note(subject, found, "The next start begins anew.")
    used = f"in use by process {holder}" if holder else "not in use"
    return ok(subject, f"{path}, {'being made' if state == 'initialising' else 'ready'}, {used}.")


def _own_files(path: Path) -> Iterator[Path]:
    yield path
    for pattern in ("meterhouse.json", "lock", "journal", "journal/*", "clickhouse"):
        yield from path.glob(pattern)


def _unusable(path: Path, error: OSError) -> Finding:
    found = f"{path} cannot be used: {error.strerror or error}."
    return problem("data directory", found, "Make it readable and writable or choose another with --data-dir.")


def check_disk(path: Path) -> Finding:
    """Free space where the data directory is, or will be."""
    usage = shutil.disk_usage(_existing(path))
    return disk_finding(f"at {path}", usage.free, usage.total)


def disk_finding(where: str, free: int, total: int) -> Finding:
    """Whether that much free space is enough."""
    subject, found = "disk", f"{size(free)} of {size(total)} are free {where}."
    if free < DISK_PROBLEM:
        return problem(subject, found, "Make room now: when it is full, events are refused.")
    if free < DISK_WARNING or free < total * DISK_SHARE:
        return warning(subject, found, "Make room: when it is full, events are refused.")
    return ok(subject, found)


def check_memory(*, own: bool) -> Finding:
    """Memory that is left on this machine or in this container; `own` tells what this process uses, too."""
    memory = psutil.virtual_memory()
    left, total = memory.available, memory.total
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None and limit < total:
        left, total = min(left, limit - used), limit
    found = f"{size(left)} of {size(total)} are available."
    if own:
        found += f" This process uses {size(psutil.Process().memory_info().rss)}."
    if left < MEMORY_WARNING:
        return warning("memory", found, "Give it more: below 512 MiB large queries may fail.")
    return ok("memory", found)


def _cgroup(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text())
    except (OSError, ValueError):
        return None


def check_time(now: datetime) -> list[Finding]:
    """The system's clock, as far as that can be told, and its timezone data."""
    clock = "clock"
    findings = [ok(clock, f"It is {now:%Y-%m-%d %H:%M:%S} UTC here.")]
    if now < MADE:
        findings = [problem(clock, f"It is {now:%Y-%m-%d} here.", "Set the system's clock: events are dated with it.")]
    try:
        for name in ("Europe/Berlin", "America/New_York", "Asia/Kathmandu"):
            ZoneInfo(name)
        data = f"timezone data {version('tzdata')}"
    except (ZoneInfoNotFoundError, PackageNotFoundError) as error:
        advice = "Install the tzdata package again: periods end at local midnights."
        findings.append(problem("timezones", f"There is no timezone data ({error}).", advice))
    else:
        findings.append(ok("timezones", f"There is {data}."))
    return findings


def check_journal(root: Path) -> list[Finding]:
    """What a crash has left in the journal of a stopped embedded service."""
    subject = "journal"
    events, damaged = 0, []
    for file in journal_files(root):
        for number, line in enumerate(file.read_bytes().split(b"\n")[:-1] if file.exists() else (), 1):
            try:
                _row.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                damaged.append(f"{file}, line {number}")
            else:
                events += 1
    if damaged:
        advice = "No start can read it. Copy the file away, take these lines out of it, and report the fault."
        return [problem(subject, f"Damaged: {'; '.join(damaged[:5])}.", advice)]
    if events:
        return [
            note(subject, f"{events:,} acknowledged events wait there.", "The next start writes them to the store.")
        ]
    return [ok(subject, "Empty.")]


def _existing(path: Path) -> Path:
    """A path, or the nearest folder above it that there is."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
