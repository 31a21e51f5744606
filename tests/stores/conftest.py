"""A PostgreSQL of its own for each module that works on the tables."""

from collections.abc import Iterator

import pytest

from app.stores.postgres import Postgres, open_postgres


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    store = open_postgres("", tmp_path_factory.mktemp("postgres"), 5)
    store.migrate()
    yield store
    store.close()
