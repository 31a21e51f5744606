"""Where the SQL files are: beside the package in a checkout, inside it when installed from a wheel."""

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def folder(name: str) -> Path:
    """The folder `clickhouse` or `postgres`."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


@cache
def query_text(name: str) -> str:
    """The text of `clickhouse/queries/{name}.sql`."""
    return (folder("clickhouse") / "queries" / f"{name}.sql").read_text()
