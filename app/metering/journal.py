"""The journal of the embedded store: events durable at once, written to ClickHouse together a moment later.

A part of one row costs ClickHouse as much to write as one of a thousand, about a dozen files. A block is therefore
appended to a file first, which answers its requests; what has come in half a second then goes to `events` and the rollups
in one piece. A crash of the process loses nothing of a file it has appended to; what it leaves there is written at the
next start. Two files take turns, so that one can be emptied while the other is written.
"""

import os
from pathlib import Path

import msgspec

from app.metering.keys import Key
from app.metering.rows import EventRow
from app.metering.stored import find_events
from app.stores.clickhouse import ClickHouse

PART = 20_000

_row = msgspec.json.Decoder(EventRow)


class Journal:
    """Two files of event rows, a JSON array a line."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self._paths = journal_files(folder)
        self._files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in self._paths]
        self._current = 0

    def append(self, lines: bytes) -> None:
        """Make rows durable. An error leaves the file as it was.

        Raises:
            OSError: the disk is full, or worse.
        """
        file = self._files[self._current]
        size = os.fstat(file).st_size
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            os.ftruncate(file, size)
            raise

    def turn(self) -> int:
        """Go on in the other file, which must be empty; returns the number of the one that was written until now."""
        written, self._current = self._current, 1 - self._current
        return written

    def feed(self, number: int, clickhouse: ClickHouse) -> None:
        """Send the rows of a file through `event_feed`, then empty it. If that fails, `restore` is for what is left."""
        clickhouse.insert_file("event_feed", self._paths[number])
        self._clear(number)

    def restore(self, clickhouse: ClickHouse) -> int:
        """Write to `events` what the files hold and it lacks, then empty them; returns the number of rows written.

        Nothing may be appended meanwhile. Safe to interrupt and to repeat. A last line that was cut short was never
        acknowledged and is dropped.
        """
        written = 0
        for number, path in enumerate(self._paths):
            lines = path.read_bytes().split(b"\n")[:-1]
            for start in range(0, len(lines), PART):
                written += _write_missing(clickhouse, lines[start : start + PART])
            self._clear(number)
        return written

    def close(self) -> None:
        """Close both files."""
        for file in self._files:
            os.close(file)

    def _clear(self, number: int) -> None:
        os.ftruncate(self._files[number], 0)


def journal_files(folder: Path) -> list[Path]:
    """The files of a journal; they need not be there."""
    return [folder / f"events-{number}.jsonl" for number in range(2)]


def _write_missing(clickhouse: ClickHouse, lines: list[bytes]) -> int:
    rows: dict[Key, bytes] = {}
    for line in lines:
        row = _row.decode(line)
        rows[row.organization_id, row.external_subscription_id, row.transaction_id] = line
    stored = find_events(clickhouse, [], sorted(rows))
    missing = [line for key, line in rows.items() if key not in stored]
    if missing:
        clickhouse.insert_lines("events", b"\n".join(missing))
    return len(missing)
