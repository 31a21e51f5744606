"""Very many rows made in PostgreSQL itself: copies of rows that were made over HTTP."""

from collections.abc import Mapping

from sqlalchemy import Table, TextClause, text


def copies(table: Table, different: Mapping[str, str], source: str) -> TextClause:
    """The statement that copies rows of a table within it.

    `source` is what comes after FROM, in which `origin` is the row to copy. `different` has the SQL of the columns that
    are not as there; ids are made anew, and numbers that the database gives.
    """
    columns = [column.name for column in table.columns if column.identity is None]
    values = ", ".join({"id": "gen_random_uuid()", **different}.get(name, f"origin.{name}") for name in columns)
    return text(f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {values} FROM {source}")  # noqa: S608
