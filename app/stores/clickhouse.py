"""ClickHouse: opening it, embedded (chDB) or by URL, its migrations, and the one place where queries are run.

A client handle serialises its calls, so a small pool of them serves the threads of the API. Values from outside are
always bound (`{name:Type}` in the text), never formatted into it.
"""

import queue
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, OperationalError
from xxhash import xxh3_64_intdigest

from app.errors import StoreDown
from app.stores.data_dir import CannotStart
from app.stores.files import filled, folder, query_text

DATABASE = "meterhouse"
DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}").fullmatch
HANDLE_WAIT_SECONDS = 10
LONG = 1_000
SESSION_SETTINGS = {
    "async_insert": "0",
    "insert_deduplicate": "0",
    "max_execution_time": "60",
    "max_partitions_per_insert_block": "0",
    "max_query_size": str(64 * 1024 * 1024),
    # Keys narrow a read to a few granules already; planning a second filter costs a short query a fifth of its time.
    "optimize_move_to_prewhere": "0",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """A query file of `clickhouse/queries/`, the values bound to it, and the code's own texts that fill its places."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fragments: Mapping[str, str] = field(default_factory=dict)

    def to_sql(self) -> tuple[str, dict[str, Any]]:
        """The text and the parameters, as they are sent."""
        parameters = {name: _Long(value) if _is_long(value) else value for name, value in self.parameters.items()}
        return filled(query_text(self.name), self.fragments), parameters


class _Long:
    """A long text, escaped as the driver escapes texts, which does it character by character: whatever is none, it sends as
    `str` gives it."""

    def __init__(self, text: str):
        self._text = text

    def __str__(self) -> str:
        text = self._text.replace("\\", r"\\").replace("'", r"\'").replace("`", r"\`")
        return text.replace("\t", "\\\t").replace("\n", "\\\n")


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > LONG


class ClickHouse:
    """A pool of handles on one ClickHouse."""

    def __init__(self, connect: Callable[[], Client], handles: int, *, embedded: bool):
        self.embedded = embedded
        self._connect = connect
        self._handles: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(handles):
            self._handles.put(None)
        self._all: list[Client] = []

    def rows(self, query: Query) -> Sequence[Sequence[Any]]:
        """Run a query and return its rows.

        Raises:
            StoreDown: ClickHouse does not answer.
        """
        text, parameters = query.to_sql()
        with self._run(query.name) as client:
            return client.query(text, parameters=parameters).result_rows

    def row_parts(self, query: Query) -> Iterator[Any]:
        """Run a query and give its rows in parts as they come, so that a large answer need not fit in memory."""
        text, parameters = query.to_sql()
        with self._run(query.name) as client, client.query_row_block_stream(text, parameters=parameters) as stream:
            yield from stream

    def table(self, query: Query) -> Any:
        """Run a query and return its rows as an Arrow table."""
        text, parameters = query.to_sql()
        with self._run(query.name) as client:
            return client.query_arrow(text, parameters=parameters, use_strings=True)

    def command(self, query: Query) -> None:
        """Run a statement that returns nothing, such as an `INSERT … SELECT`."""
        text, parameters = query.to_sql()
        with self._run(query.name) as client:
            client.command(text, parameters=parameters)

    def insert_lines(self, table: str, lines: bytes) -> None:
        """Insert rows given as JSON, a line for each with the values of all columns in an array; they are durable when this
        returns. `table` is ours, never a value from outside."""
        with self._run(f"insert {table}") as client:
            client.raw_insert(table, insert_block=lines, fmt="JSONCompactEachRow")

    def insert_file(self, table: str, path: Path) -> None:
        """`insert_lines` of a file's, where the store is embedded: one that is elsewhere has no such file. The path is
        ours, too, and quoted by the driver, for INFILE takes no bound value."""
        with self._run(f"insert {table}") as client:
            statement = f"INSERT INTO {table} FROM INFILE %(path)s FORMAT JSONCompactEachRow"
            client.command(statement, parameters={"path": str(path)})

    def is_up(self) -> bool:
        """Whether ClickHouse answers."""
        try:
            with self._run("ping") as client:
                return bool(client.ping())
        except StoreDown:
            return False

    def migrate(self) -> None:
        """Apply the files of `clickhouse/migrations/` that have not been applied yet, in the order of their numbers.

        Every statement may be run again, so that an interrupted migration is taken up by the next. Hold
        `Postgres.start_lock` meanwhile where other processes may start on the same servers.

        Raises:
            CannotStart: one was applied with other statements than it has, so what the tables hold cannot be relied on.
        """
        with self._run("migrate") as client:
            client.command(
                "CREATE TABLE IF NOT EXISTS migrations (name String, applied_at DateTime DEFAULT now()) "
                "ENGINE = MergeTree ORDER BY name"
            )
            client.command("ALTER TABLE migrations ADD COLUMN IF NOT EXISTS statements_hash UInt64")
            rows: Any = client.query("SELECT name, statements_hash FROM migrations").result_rows
            applied: dict[str, int] = dict(rows)
            for one in migrations():
                if one.name not in applied:
                    for statement in one.statements:
                        client.command(statement)
                    client.command(
                        "INSERT INTO migrations (name, statements_hash) SELECT {name:String}, {hash:UInt64}",
                        parameters={"name": one.name, "hash": one.hash},
                    )
                elif applied[one.name] != one.hash:
                    raise CannotStart(
                        f"ClickHouse's tables were made by another Meterhouse, with other statements in {one.name}; "
                        "install that one again, or start with an empty data directory or new databases."
                    )

    def close(self) -> None:
        """Close every handle."""
        for client in self._all:
            client.close()
        self._all.clear()

    @contextmanager
    def _run(self, name: str) -> Iterator[Client]:
        """A handle for one call; times it, and maps errors to `StoreDown` where sending again may help."""
        try:
            client = self._handles.get(timeout=HANDLE_WAIT_SECONDS)
        except queue.Empty:
            raise StoreDown("clickhouse") from None
        started = time.perf_counter()
        try:
            if client is None:
                client = self._connect()
                self._all.append(client)
            yield client
        except (OperationalError, ConnectionError, TimeoutError) as error:
            log.warning("clickhouse.down", query=name, error=str(error)[:500])
            raise StoreDown("clickhouse") from error
        except (Error, UnicodeDecodeError) as error:
            log.error("clickhouse.failed", query=name, error=str(error)[:2_000])
            raise
        finally:
            self._handles.put(client)
            log.debug("clickhouse.query", query=name, ms=round((time.perf_counter() - started) * 1_000, 2))


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of `clickhouse/migrations/`."""

    name: str
    statements: Sequence[str]

    @property
    def hash(self) -> int:
        """What tells its statements from others."""
        return xxh3_64_intdigest("\0".join(self.statements).encode())


def migrations() -> list[Migration]:
    """The migrations there are, in order."""
    files = sorted((folder("clickhouse") / "migrations").glob("*.sql"))
    return [Migration(file.stem, statements(file.read_text())) for file in files]


def statements(text: str) -> list[str]:
    """The statements of a migration file: separated by a semicolon at the end of a line; comment lines are dropped."""
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [one.strip() for one in re.split(r";\s*(?:\n|$)", bare) if one.strip()]


def open_clickhouse(url: str, data_dir: Path, handles: int, *, create: bool = True) -> ClickHouse:
    """The ClickHouse at `url` (`http://user:password@host:8123/database`), or with an empty `url` the embedded one under
    `data_dir`. Its database is made if need be, unless `create` is False.

    Raises:
        CannotStart: it could not be reached or started.
    """
    try:
        if not url:
            path = data_dir / "clickhouse"
            if create:
                _embedded_client(path, "default").command(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
            store = ClickHouse(lambda: _embedded_client(path, DATABASE), handles, embedded=True)
        else:
            server = server_address(url)
            if create:
                _server_client(server, "default").command(
                    "CREATE DATABASE IF NOT EXISTS {name:Identifier}", parameters={"name": server.database}
                )
            store = ClickHouse(lambda: _server_client(server, server.database), handles, embedded=False)
        if not store.is_up():
            raise CannotStart("ClickHouse does not answer.")
    except (ClickHouseError, Error, ConnectionError, OSError) as error:
        reason = str(error).splitlines()[0][:300]
        where = "METERHOUSE_CLICKHOUSE_URL" if url else str(data_dir / "clickhouse")
        raise CannotStart(f"ClickHouse at {where} cannot be opened: {reason}") from error
    return store


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a ClickHouse server is, and as whom to speak to it."""

    host: str
    port: int
    secure: bool
    username: str
    password: str = field(repr=False)
    database: str


def server_address(url: str) -> ServerAddress:
    """Reads `http://user:password@host:8123/database`; what is left out has ClickHouse's defaults, the database
    `meterhouse`. Special characters in user, password and database are percent-encoded.

    Raises:
        CannotStart: it is not such an address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    database = unquote(parts.path.strip("/")) or DATABASE
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise CannotStart("METERHOUSE_CLICKHOUSE_URL must look like http://user:password@host:8123/database.")
    if not DATABASE_NAME(database):
        raise CannotStart(
            "The database in METERHOUSE_CLICKHOUSE_URL may have letters, digits, underscores and hyphens only."
        )
    secure = parts.scheme == "https"
    return ServerAddress(
        host=parts.hostname,
        port=port or (8443 if secure else 8123),
        secure=secure,
        username=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=database,
    )


def _embedded_client(path: Path, database: str) -> Client:
    return clickhouse_connect.get_client(
        interface="chdb", path=str(path), database=database, settings=dict(SESSION_SETTINGS), tz_mode="aware"
    )


def _server_client(server: ServerAddress, database: str) -> Client:
    return clickhouse_connect.get_client(
        host=server.host,
        port=server.port,
        secure=server.secure,
        username=server.username,
        password=server.password,
        database=database,
        settings=dict(SESSION_SETTINGS),
        autogenerate_session_id=False,
        form_encode_query_params=True,
        tz_mode="aware",
    )
