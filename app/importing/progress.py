"""How far the import of a file has come, kept beside it so that an interrupted one goes on where it was.

The file with the progress is written anew after each answered part, and removed at the end: repeating an import that is
through sends everything again, and the service counts none of it twice.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from app.importing.mapping import OutEvent


class Counts(Struct):
    """Rows that are done: `accepted` are new, `replays` were there already."""

    rows: int = 0
    accepted: int = 0
    replays: int = 0
    rejected: int = 0


class Rejected(Struct, omit_defaults=True):
    """A row that was not taken: its event, or its text where it is none. Its line can be mended and imported again."""

    row: int
    error_details: Any
    event: OutEvent | None = None
    text: str | None = None


class _Kept(Struct):
    fingerprint: str
    counts: Counts
    rejected_bytes: int


class Progress:
    """The progress of one file, and its rejected rows."""

    def __init__(self, path: Path, folder: Path | None, fingerprint: str, *, restart: bool):
        """Goes on with what is kept of an import with the same fingerprint, unless it is to restart.

        Raises:
            OSError: the folder (where none is given, the file's own) cannot be written.
        """
        folder = folder or path.parent
        self.rejected_path = folder / f"{path.name}.rejected.ndjson"
        self._path = folder / f"{path.name}.import-progress.json"
        self._fingerprint = fingerprint
        kept = None if restart else self._kept()
        self.was_of_another = kept is not None and kept.fingerprint != fingerprint
        self.counts = kept.counts if kept is not None and not self.was_of_another else Counts()
        self._rejected_bytes = kept.rejected_bytes if kept is not None and not self.was_of_another else 0
        if self.rejected_path.exists():
            # What was written after the progress was kept comes again.
            os.truncate(self.rejected_path, min(self._rejected_bytes, self.rejected_path.stat().st_size))
        self._save()

    def done(self, rows: int, accepted: int, replays: int, rejected: Iterable[Rejected]) -> None:
        """Keep that everything up to this row is done."""
        lines = msgspec.json.Encoder().encode_lines(list(rejected))
        if lines:
            with self.rejected_path.open("ab") as file:
                file.write(lines)
            self._rejected_bytes += len(lines)
        self.counts.rows = rows
        self.counts.accepted += accepted
        self.counts.replays += replays
        self.counts.rejected += lines.count(b"\n")
        self._save()

    def end(self) -> None:
        """The file is through: what is left is its rejected rows, if there are any."""
        self._path.unlink(missing_ok=True)
        if not self._rejected_bytes:
            self.rejected_path.unlink(missing_ok=True)

    def _kept(self) -> _Kept | None:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        return None

    def _save(self) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(msgspec.json.encode(_Kept(self._fingerprint, self.counts, self._rejected_bytes)))
        new.replace(self._path)
