"""What went wrong when an invoice could not be made: whether it is the invoice's own fault, and how that is told."""

import psycopg
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import ApiError

LONGEST_REASON = 300
_PASSING = (
    ApiError,
    ClickHouseError,
    InterfaceError,
    MemoryError,
    OperationalError,
    OSError,
    PoolTimeout,
    psycopg.InterfaceError,
    psycopg.OperationalError,
)


def is_of_the_store(error: Exception) -> bool:
    """Whether a store was down, or refused for want of memory or the like: the same may well succeed when tried again. What
    PostgreSQL cannot hold is the invoice's own fault."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, _PASSING)


def reason_of(error: Exception) -> str:
    """The reason in one line."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]
