"""What tests that work on the tables share: no usage to measure, the statements sent, and who waits for a lock."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import event, text

from app.metering.meter import Meter
from app.stores.postgres import Postgres


class Unasked:
    """There is no usage to measure."""

    def usage(self, windows: Sequence[object]) -> list[object]:
        assert not windows
        return []

    def events(self, windows: Sequence[object]) -> list[object]:
        assert not windows
        return []


METER = cast("Meter", Unasked())


def statements(postgres: Postgres, action: Callable[[], object]) -> list[str]:
    """The statements that an action sends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(postgres.engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(postgres.engine, "before_cursor_execute", note)
    return sent


def somebody_waits(postgres: Postgres) -> bool:
    """Whether a transaction waits for a lock. Asked in a transaction of its own: within one the answer never changes."""
    with postgres.session() as db:
        return bool(db.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))
