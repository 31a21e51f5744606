"""Rows as text for PostgreSQL's `COPY … FROM STDIN`, made in one call for each row; cell by cell, as the driver makes them,
takes many times as long."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy.orm import Session

FORMAT = r"""FORMAT csv, ESCAPE '\', NULL 'null'"""
"""What a row's text is: a list in JSON without its brackets is CSV of this kind, but for what JSON escapes by letters."""

_json = msgspec.json.Encoder(decimal_format="number", uuid_format="hex")
_ESCAPE = re.compile(rb"\\(?:u[0-9a-f]{4}|.)")
_LETTERS = {rb"\n": b"\n", rb"\t": b"\t", rb"\r": b"\r", rb"\b": b"\b", rb"\f": b"\f"}


def row_text(cells: Sequence[Any]) -> bytes:
    """The text of a row of texts, numbers, UUIDs, instants, dates, truth values and None. What is stored as JSON must be
    given as its text."""
    row = _json.encode(cells)[1:-1]
    # A backslash before anything else than a quotation mark is rare, and only then it must be looked at each.
    if row.count(b"\\") != row.count(rb"\""):
        row = _ESCAPE.sub(_unescaped, row)
    return row


def copy_rows(db: Session, table: str, columns: Iterable[str], rows: Iterable[bytes]) -> None:
    """Write rows, each as the text of these columns, in the session's transaction. Names are ours, never from outside."""
    cursor = db.connection().connection.cursor()
    with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN ({FORMAT})") as copy:
        copy.write(b"\n".join(rows))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """What JSON escapes by letters as itself; CSV escapes quotation marks and backslashes as JSON does."""
    found = escape[0]
    return msgspec.json.decode(b'"%s"' % found, type=str).encode() if found[1:2] == b"u" else _LETTERS.get(found, found)
