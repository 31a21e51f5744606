"""What every table shares: the declarative base, column types and the constraint naming that migrations rely on."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    DateTime,
    Dialect,
    MetaData,
    Numeric,
    Text,
    TypeDecorator,
    Uuid,
    any_,
    literal,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, mapped_column
from sqlalchemy.orm.attributes import flag_modified

Json = dict[str, Any]

Id = Annotated[UUID, mapped_column(Uuid, primary_key=True, default=uuid4)]
Cents = Annotated[int, mapped_column(BigInteger)]
Rate = Annotated[Decimal, mapped_column(Numeric(30, 15))]
PreciseCents = Annotated[Decimal, mapped_column(Numeric(60, 30))]
PreciseUnits = Annotated[Decimal, mapped_column(Numeric(80, 30))]
FixedUnits = Annotated[Decimal, mapped_column(Numeric(30, 15))]


class Base(DeclarativeBase):
    """Declarative base of all tables: text without length limits, UTC instants, JSONB."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text,
        datetime: DateTime(timezone=True),
        Json: JSONB,
        list[str]: JSONB,
        list[Json]: JSONB,
    }


def write_alike(rows: Iterable[Base], *names: str) -> None:
    """Have the next flush write these columns of each row, also where they are as they were: rows of which the same columns
    are written take one statement together, others one each."""
    for row in rows:
        for name in names:
            flag_modified(row, name)


class UuidArray(TypeDecorator[Iterable[UUID]]):
    """UUIDs as the text of an array: thousands of them are bound many times as fast as one by one."""

    impl = ARRAY(Uuid)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002 (whichever it is)
        return _array_text


def _array_text(ids: Iterable[UUID | None]) -> str:
    return "{" + ",".join(["NULL" if one is None else one.hex for one in ids]) + "}"


def uuids(ids: Iterable[UUID]) -> BindParameter[Iterable[UUID]]:
    """UUIDs as one parameter, an array."""
    return literal(list(ids), UuidArray())


class InstantArray(TypeDecorator[Iterable[datetime | None]]):
    """Instants in the same way; many of them are equal."""

    impl = ARRAY(DateTime(timezone=True))
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002 (whichever it is)
        return _instants_text


def _instants_text(instants: Iterable[datetime | None]) -> str:
    texts = {one: "NULL" if one is None else f'"{one}"' for one in set(instants)}
    return "{" + ",".join([texts[one] for one in instants]) + "}"


def instants(given: Iterable[datetime | None]) -> BindParameter[Iterable[datetime | None]]:
    """Aware instants as one parameter, an array."""
    return literal(list(given), InstantArray())


def among(column: ColumnElement[Any] | InstrumentedAttribute[Any], ids: Iterable[UUID]) -> ColumnElement[bool]:
    """Whether a column of ids has one of these: one parameter, however many they are."""
    return column == any_(uuids(ids))
