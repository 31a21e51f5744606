"""The data directory of the embedded engines: who holds it, and whether its first start was finished."""

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

LAYOUT = 1
MARKER = "meterhouse.json"
FRESH_MARKER = "meterhouse.new"
LOCK = "lock"
ENGINES = ("postgres", "clickhouse", "journal")
END_SECONDS = 10.0


class CannotStart(Exception):
    """The service cannot start; the message is one line that says what is wrong and what to do."""


class DataDir:
    """A data directory held by this process until `release`.

    Layout: `meterhouse.json` (state of the directory), `lock` (held while a process uses it), `postgres/`,
    `clickhouse/`, `journal/`.
    """

    def __init__(self, path: Path):
        self.path = path.expanduser().resolve()
        self._marker = self.path / MARKER
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Make the directory if need be and take it for this process. What a first start that did not finish has left is
        removed: events are accepted only after `ready`, so it holds none.

        Raises:
            CannotStart: it cannot be written, is another process's, is something else's, or its state cannot be told.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.state == "foreign":
                raise CannotStart(
                    f"{self.path} is not empty and not a Meterhouse data directory; choose another with --data-dir."
                )
            self.take()
            match self.state:
                case "empty":
                    self._write_state("initialising")
                case "initialising":
                    self._clear()
                case "unreadable":
                    raise CannotStart(
                        f"{self._marker} cannot be read, so what {self.path} holds cannot be told; "
                        "restore that file from a backup or choose another directory with --data-dir."
                    )
                case "newer":
                    raise CannotStart(f"{self.path} was made by a newer Meterhouse; install that one again.")
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotStart(
                f"Cannot write to the data directory {self.path} ({reason}); "
                "make it writable or choose another with --data-dir."
            ) from error

    @property
    def state(self) -> str:
        """What the directory is: `missing`, `empty`, `foreign` (something else's), `initialising` (its first start has
        not finished), `ready`, `newer` (of a later layout) or `unreadable`."""
        if not self.path.exists():
            return "missing"
        entries = {entry.name for entry in self.path.iterdir()} - {LOCK, FRESH_MARKER}
        if MARKER not in entries:
            return "foreign" if entries else "empty"
        try:
            marker = json.loads(self._marker.read_text())
            layout, state = marker["layout"], marker["state"]
        except (ValueError, KeyError, TypeError):
            return "unreadable"
        if isinstance(layout, int) and layout > LAYOUT:
            return "newer"
        return state if state in {"initialising", "ready"} else "unreadable"

    def holder(self) -> str | None:
        """The id of the process that uses the directory, `unknown` if it has not said; None when none does. Changes
        nothing."""
        try:
            lock = (self.path / LOCK).open()
        except FileNotFoundError:
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "unknown"
        return None

    def ready(self) -> None:
        """Note that initialisation was finished."""
        if self.state != "ready":
            self._write_state("ready")

    def take(self) -> None:
        """Take the directory, which must be there, and nothing more.

        Raises:
            CannotStart: another process has it.
        """
        lock = (self.path / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise CannotStart(
                f"Another Meterhouse (pid {holder}) is using {self.path}; stop it or choose another with --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Let the directory go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _clear(self) -> None:
        """Remove what an interrupted first start has made, and end what of it still runs."""
        _end_processes_on(self.path / "postgres")
        for name in ENGINES:
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)

    def _write_state(self, state: str) -> None:
        fresh = self.path / FRESH_MARKER
        with fresh.open("w") as file:
            file.write(json.dumps({"layout": LAYOUT, "state": state}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._marker)


def _end_processes_on(folder: Path) -> None:
    """End the PostgreSQL programs that work on a folder: they outlive a start that was killed, and would go on writing."""
    left = [
        process
        for process in psutil.process_iter(("name", "cmdline"))
        if process.info["name"] in {"initdb", "pg_ctl", "postgres"} and str(folder) in (process.info["cmdline"] or ())
    ]
    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, END_SECONDS)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, END_SECONDS)
