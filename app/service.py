"""One running Meterhouse: its settings, its two stores, and what works on them."""

from dataclasses import dataclass

from app.config import Settings
from app.stores.clickhouse import ClickHouse, open_clickhouse
from app.stores.data_dir import DataDir
from app.stores.postgres import Postgres, open_postgres


@dataclass
class Service:
    """What the API and the scheduler share."""

    settings: Settings
    postgres: Postgres
    clickhouse: ClickHouse
    data_dir: DataDir | None = None

    def close(self) -> None:
        """Close the stores and let the data directory go."""
        self.clickhouse.close()
        self.postgres.close()
        if self.data_dir is not None:
            self.data_dir.release()


def open_service(settings: Settings) -> Service:
    """Open both stores and bring them up to date.

    Raises:
        CannotStart: with one line that says why and what to do.
    """
    data_dir = None
    if settings.embedded:
        data_dir = DataDir(settings.data_dir)
        data_dir.hold()
    root = data_dir.path if data_dir else settings.data_dir
    postgres = open_postgres(settings.database_url, root, settings.database_connections)
    clickhouse = open_clickhouse(settings.clickhouse_url, root, settings.clickhouse_handles)
    postgres.migrate()
    clickhouse.migrate()
    if data_dir is not None:
        data_dir.ready()
    return Service(settings, postgres, clickhouse, data_dir)
