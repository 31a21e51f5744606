"""Rows come back from PostgreSQL as they were given, whatever is in their texts."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.errors import DataError
from sqlalchemy import text

from app.stores.copying import copy_rows, row_text
from app.stores.postgres import Postgres

COLUMNS = {
    "place": "bigint",
    "a_text": "text",
    "other": "text",
    "number": "numeric",
    "id": "uuid",
    "at": "timestamptz",
    "day": "date",
    "said": "boolean",
    "given": "json",
}

# A column of PostgreSQL holds neither NUL nor halves of surrogate pairs.
ordinary = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(st.one_of(st.sampled_from("\\\"'\t\r\n\b\f\v,nNtu.{}[]:\x01\x7f \u2028"), ordinary), max_size=30)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30"))
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9, minutes=-30))])
instants = st.datetimes(datetime(1000, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001 (the zone is given)
rows = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    texts,
    texts,
    decimals,
    st.uuids(),
    instants,
    st.dates(date(1000, 1, 1), date(9999, 12, 31)),
    st.booleans(),
    texts.map(lambda one: msgspec.json.encode([one]).decode()),
)
with_gaps = st.tuples(rows, st.lists(st.booleans(), min_size=len(COLUMNS), max_size=len(COLUMNS))).map(
    lambda drawn: tuple(None if is_gap else value for value, is_gap in zip(*drawn, strict=True))
)


def read_back(postgres: Postgres, given_rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    with postgres.undone() as db:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        db.execute(text(f"CREATE TEMPORARY TABLE copied (number_of_row serial, {columns})"))
        copy_rows(db, "copied", COLUMNS, [row_text(row) for row in given_rows])
        columns = ", ".join(COLUMNS).replace("given", "given::text")
        read = text(f"SELECT {columns} FROM copied ORDER BY number_of_row")  # noqa: S608 (the names above)
        return [tuple(row) for row in db.execute(read)]


@given(st.lists(with_gaps, min_size=1, max_size=20))
def test_rows_come_back_as_they_were_given(postgres: Postgres, drawn: list[tuple[Any, ...]]) -> None:
    assert read_back(postgres, drawn) == drawn


@pytest.mark.parametrize(
    "awkward", ["", "null", "NULL", r"\N", r"\.", "a\n\\.\nb", '"', "\\", '\\"', r"\n", r"\u0041", "\\\\\n", "\x1b\x7f"]
)
def test_texts_that_mean_something_to_copy_are_texts(postgres: Postgres, awkward: str) -> None:
    row = (1, awkward, awkward, None, None, None, None, None, None)
    assert read_back(postgres, [row, row]) == [row, row]


def test_nul_is_refused(postgres: Postgres) -> None:
    with pytest.raises(DataError):
        read_back(postgres, [(1, "a\0b", "", *[None] * 6)])
