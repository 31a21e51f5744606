"""Wire formats shared by every resource: field types, dates, pages."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from litestar.datastructures import State
from litestar.params import Parameter
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.errors import invalid
from app.models import Base

S = TypeVar("S", bound=Struct)
T = TypeVar("T")

LARGEST_AMOUNT = 10**15

Str = Annotated[str, Meta(pattern="^[^\x00]*$")]
"""Text that PostgreSQL can hold: anything without NUL."""
Cents = Annotated[int, Meta(ge=0, le=LARGEST_AMOUNT)]
"""An amount in minor units that cannot be negative."""
Count = Annotated[int, Meta(ge=0, le=36_500)]
"""A number of days, or something of that size."""

Opt = UnsetType


def sent(value: object) -> bool:
    """Whether a key was in the body at all; null was, an absent key was not."""
    return value is not UNSET


def blank(value: object) -> bool:
    """Absent, null or empty."""
    return value is UNSET or value is None or value == ""


def instant(value: datetime) -> str:
    """ISO 8601 in UTC with seconds, as every datetime on the wire but events' and starts'."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant_or_none(value: datetime | None) -> str | None:
    """`instant` of what may be absent."""
    return None if value is None else instant(value)


def instant_ms(value: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    utc = value.astimezone(UTC)
    return f"{utc.strftime('%Y-%m-%dT%H:%M:%S')}.{utc.microsecond // 1000:03d}Z"


def instant_ms_or_none(value: datetime | None) -> str | None:
    """`instant_ms` of what may be absent."""
    return None if value is None else instant_ms(value)


def parse_instant(text: str, field: str) -> datetime:
    """An ISO 8601 date-time, or a date meaning its UTC midnight (billing spec 11.5).

    Raises:
        Invalid: `invalid_date` on the field.
    """
    try:
        if len(text) == len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        value = datetime.fromisoformat(text)
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "invalid_date") from None
    return value


def number(value: Decimal) -> msgspec.Raw:
    """A decimal as a JSON number, digit for digit."""
    text = format(value.normalize(), "f")
    return msgspec.Raw(text.encode())


_DIGITS = msgspec.json.Encoder(decimal_format="number")


def changes(value: Struct) -> dict[str, Any]:
    """The keys that were in a body, and in the objects within it."""
    return {field: _plain(getattr(value, field)) for field in value.__struct_fields__ if sent(getattr(value, field))}


def _plain(value: object) -> Any:
    if isinstance(value, Struct):
        return changes(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def fill(shape: type[S], row: Base, **given: Any) -> S:
    """A wire object: the given fields, and for the others the row's columns of the same name."""
    columns = row.__mapper__.column_attrs
    same = {name: getattr(row, name) for name in shape.__struct_fields__ if name in columns and name not in given}
    return shape(**same, **given)


def exact_json(value: object) -> msgspec.Raw:
    """Any JSON value with its decimals as numbers, digit for digit."""
    return msgspec.Raw(_DIGITS.encode(value))


class PageMeta(Struct):
    """Where a page stands in its list (billing spec 11.3)."""

    current_page: int
    next_page: int | None
    prev_page: int | None
    total_pages: int
    total_count: int


class Page(Struct, frozen=True):
    """Which part of a list is wanted."""

    page: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page

    def meta(self, total: int) -> PageMeta:
        """The `meta` of an answer: on an empty list `current_page` and `total_pages` are 0."""
        pages = -(-total // self.per_page)
        if total == 0:
            return PageMeta(0, None, None, 0, 0)
        return PageMeta(
            current_page=self.page,
            next_page=self.page + 1 if self.page < pages else None,
            prev_page=self.page - 1 if self.page > 1 else None,
            total_pages=pages,
            total_count=total,
        )


def provide_page(
    state: State,
    page: Annotated[int, Parameter(ge=1, le=10**9)] = 1,
    per_page: Annotated[int, Parameter(ge=1, le=10**9)] = 100,
) -> Page:
    """The page asked for. A `per_page` above the service's limit gets the limit."""
    return Page(page, min(per_page, state.service.settings.max_page_size))


def paginate(db: Session, query: Select[T], page: Page) -> tuple[Sequence[T], PageMeta]:
    """One page of a query's rows, and where it stands in the whole."""
    total = db.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    rows = db.scalars(query.limit(page.per_page).offset(page.offset)).unique().all() if total else []
    return rows, page.meta(total)
