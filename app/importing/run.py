"""The import of files, from the first look into them to the last count."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.compat import zstd
from app.importing.files import BadRow, File, Format, Row, Unreadable, open_file
from app.importing.mapping import CannotMap, OutEvent, RowReader, Wanted, make_reader
from app.importing.progress import Progress, Rejected
from app.metering.stream import Taken
from app.sending import BUSY, Sender

PATH = "/api/v1/events/batch"
HEADERS = {"Content-Type": "application/x-ndjson", "Content-Encoding": "zstd"}
"""Events are small and alike: zstd makes a tenth of them, in far less time than it takes to send and to read them."""

SAMPLE_ROWS = 1_000
SHOWN_EVENTS = 3
SHOWN_ERRORS = 10
SHOWN_BYTES = 300
TIMEOUT_SECONDS = 120
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

DONE, SOME_REJECTED, CANNOT_START, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
"""What the command ends with."""

_encoder = msgspec.json.Encoder()


class Refused(RuntimeError):
    """The server gave an answer with which the import cannot go on."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to import: the server and the key to it, what the files hold, and how to send it.

    `folder` is where progress and rejected rows are kept, instead of beside each file; `patience` is for how many seconds
    a server is asked again that is busy or gone.
    """

    url: str
    key: str
    wanted: Wanted = field(default_factory=Wanted)
    format: Format | None = None
    separator: str | None = None
    connections: int = 4
    rows: int = 5_000
    patience: float = 300.0
    folder: Path | None = None
    restart: bool = False
    dry_run: bool = False


class _Answer(Struct):
    stream: Taken


class _Told(Struct):
    """What is told of a rejected row."""

    row: int
    error_details: Any


@dataclass(slots=True)
class _Part:
    """Rows that are sent together: `last` is the number of the last, `numbers` those of the ones that are events."""

    last: int
    numbers: list[int] = field(default_factory=list)
    events: list[OutEvent] = field(default_factory=list)
    wrong: list[Rejected] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Prepared:
    path: Path
    file: File
    reader: RowReader | None
    """None for a file without rows."""


def run_import(paths: Sequence[Path], options: Options, console: Console, errors: Console) -> int:
    """Import files, one after the other; returns what the command ends with, everything else is printed."""
    try:
        prepared = [_prepare(path, options, console) for path in paths]
        if options.dry_run:
            return DONE
    except (Unreadable, CannotMap) as error:
        errors.print(f"meterhouse: {error}", markup=False)
        return CANNOT_START
    sending, ended = False, DONE
    try:
        with _client(options) as http:
            _knock(http)
            sending = True
            for one in prepared:
                ended = max(ended, _Import(one, http, options, console).run())
    except (Unreadable, Refused, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        errors.print(f"meterhouse: {str(error) or type(error).__name__}", markup=False)
        if not sending:
            return CANNOT_START
        ended = STOPPED
    except KeyboardInterrupt:
        errors.print("meterhouse: interrupted")
        ended = INTERRUPTED
    if ended in {STOPPED, INTERRUPTED}:
        errors.print("The same command goes on where this one stopped.")
    return ended


def _prepare(path: Path, options: Options, console: Console) -> _Prepared:
    """Look into a file, and say how it is read."""
    file = open_file(path, options.format, options.separator)
    sample = file.sample(SAMPLE_ROWS)
    if not sample:
        return _Prepared(path, file, None)
    rows = [one for one in sample if isinstance(one, dict)]
    try:
        reader, how = make_reader(options.wanted, file.columns(), rows)
    except CannotMap as error:
        raise CannotMap(f"{path}: {error}") from None
    console.print(f"{path}: {how}", markup=False)
    if options.dry_run:
        for row in islice(rows, SHOWN_EVENTS):
            event, wrong = reader.event(row)
            console.print(_encoder.encode(event).decode() + (f"  <- {wrong}" if wrong else ""), markup=False)
    return _Prepared(path, file, reader)


def _client(options: Options) -> httpx.Client:
    return httpx.Client(
        base_url=options.url,
        headers={"Authorization": f"Bearer {options.key}"},
        timeout=TIMEOUT_SECONDS,
        limits=httpx.Limits(max_connections=options.connections),
        trust_env=httpx.URL(options.url).host not in LOOPBACK,
    )


def _knock(http: httpx.Client) -> None:
    """Send nothing, to learn whether events would be taken.

    Raises:
        Refused: the server or the key is not the right one.
        httpx.TransportError: nothing answers.
    """
    try:
        answer = Sender(http, PATH, HEADERS, connections=1, patience=0).post(b"")
    except httpx.TransportError as error:
        raise Refused(f"{http.base_url} does not answer: {error}") from error
    _taken(answer)


def _taken(answer: httpx.Response) -> Taken:
    if answer.status_code == HTTPStatus.OK:
        try:
            return msgspec.json.decode(answer.content, type=_Answer).stream
        except msgspec.DecodeError as error:
            raise Refused(f"{answer.url} does not answer as this version of Meterhouse does: {error}") from error
    text = answer.text[:SHOWN_BYTES]
    still = "still " if answer.status_code in BUSY else ""
    raise Refused(
        f"{answer.request.method} {answer.url.copy_with(query=None)} {still}answers {answer.status_code}: {text}"
    )


class _Import:
    """The import of one file."""

    def __init__(self, prepared: _Prepared, http: httpx.Client, options: Options, console: Console):
        self._path, self._file, self._reader = prepared.path, prepared.file, prepared.reader
        self._options = options
        self._console = console
        path = f"{PATH}?errors={options.rows}"
        self._sender = Sender(http, path, HEADERS, connections=options.connections, patience=options.patience)
        self._progress = Progress(self._path, options.folder, self._fingerprint(), restart=options.restart)

    def run(self) -> int:
        """Send every row that has not been sent; returns `DONE` or `SOME_REJECTED`."""
        counts = self._progress.counts
        if self._progress.was_of_another:
            self._say("the file or the options have changed since it was last imported: beginning with its first row")
        elif counts.rows:
            self._say(f"going on after row {counts.rows:,}")
        if self._reader is not None:
            self._send(self._reader)
        self._report()
        self._progress.end()
        return SOME_REJECTED if counts.rejected else DONE

    def _send(self, reader: RowReader) -> None:
        counts = self._progress.counts
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        rows = self._file.count()
        with Bar(*columns, console=self._console) as bar:
            task = bar.add_task(self._path.name, total=rows, completed=counts.rows)
            with closing(self._sender.send(self._parts(reader, counts.rows))) as answers:
                for part, answer in answers:
                    self._settle(part, _taken(answer))
                    bar.update(task, completed=part.last)
        if counts.rows != rows:
            raise Unreadable(
                f"{self._path}: it had {rows:,} rows when the import began, of which {counts.rows:,} were read"
            )

    def _parts(self, reader: RowReader, start: int) -> Iterator[tuple[bytes, _Part]]:
        """The rows after the first `start`, as bodies to send."""
        number = start
        for batch in self._file.batches(start, self._options.rows):
            part = _Part(number + len(batch))
            for one in batch:
                number += 1
                _add(part, number, one, reader)
            lines = _encoder.encode_lines(part.events)
            yield zstd.compress(lines, level=1) if lines else b"", part

    def _settle(self, part: _Part, taken: Taken) -> None:
        rejected = part.wrong + [
            Rejected(part.numbers[one.line - 1], one.error_details, part.events[one.line - 1]) for one in taken.errors
        ]
        rejected.sort(key=lambda one: one.row)
        self._progress.done(part.last, taken.accepted, taken.replays, rejected)

    def _report(self) -> None:
        counts, path = self._progress.counts, self._progress.rejected_path
        self._say(
            f"{counts.rows:,} rows: {counts.accepted:,} new, {counts.replays:,} already there, "
            f"{counts.rejected:,} rejected"
        )
        if counts.rejected:
            with path.open("rb") as lines:
                for line in islice(lines, SHOWN_ERRORS):
                    one = msgspec.json.decode(line, type=_Told)
                    self._console.print(f"  row {one.row}: {_encoder.encode(one.error_details).decode()}", markup=False)
            self._say(f"all rejected rows are in {path}, which can be mended and imported in its turn")

    def _fingerprint(self) -> str:
        """What must be the same for an import to go on: the file, how it is read, and where it goes."""
        options, found = self._options, self._path.stat()
        parts = [
            str(found.st_size), str(found.st_mtime_ns), options.url, options.key, repr(options.wanted),
            str(options.format), str(options.separator),
        ]  # fmt: skip
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()

    def _say(self, text: str) -> None:
        self._console.print(f"{self._path}: {text}.", markup=False)


def _add(part: _Part, number: int, row: Row | BadRow | None, reader: RowReader) -> None:
    if isinstance(row, BadRow):
        part.wrong.append(Rejected(number, row.why, text=row.text))
    elif row is not None:
        event, wrong = reader.event(row)
        if wrong is not None:
            part.wrong.append(Rejected(number, wrong, event))
        else:
            part.numbers.append(number)
            part.events.append(event)
