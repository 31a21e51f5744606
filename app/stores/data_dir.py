"""The data directory of the embedded engines: who holds it, and whether its first start was finished."""

import fcntl
import json
import os
from pathlib import Path
from typing import IO


class CannotStart(Exception):
    """The service cannot start; the message is one line that says what is wrong and what to do."""


class DataDir:
    """A data directory held by this process until `release`.

    Layout: `meterhouse.json` (state of the directory), `lock` (held while a process uses it), `postgres/`, `clickhouse/`.
    """

    def __init__(self, path: Path):
        self.path = path.expanduser().resolve()
        self._marker = self.path / "meterhouse.json"
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Make the directory if need be and take it for this process.

        Raises:
            CannotStart: it cannot be written, is another process's, is something else's, or was left half-initialised.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            entries = {entry.name for entry in self.path.iterdir()} - {"lock"}
            if entries and "meterhouse.json" not in entries:
                raise CannotStart(
                    f"{self.path} is not empty and not a Meterhouse data directory; choose another with --data-dir."
                )
            self._take_lock()
            if not entries:
                self._write_state("initialising")
            elif self._state() != "ready":
                raise CannotStart(
                    f"{self.path} was left half-initialised by a first start that did not finish and holds no data yet; "
                    f"remove it (rm -r {self.path}) and start again."
                )
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotStart(
                f"Cannot write to the data directory {self.path} ({reason}); "
                "make it writable or choose another with --data-dir."
            ) from error

    def ready(self) -> None:
        """Note that initialisation was finished."""
        if self._state() != "ready":
            self._write_state("ready")

    def release(self) -> None:
        """Let the directory go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        lock = (self.path / "lock").open("a+")
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

    def _state(self) -> str:
        try:
            state = json.loads(self._marker.read_text())["state"]
        except (ValueError, KeyError, TypeError):
            return "unreadable"
        return str(state)

    def _write_state(self, state: str) -> None:
        fresh = self._marker.with_suffix(".new")
        fresh.write_text(json.dumps({"layout": 1, "state": state}))
        fresh.replace(self._marker)
