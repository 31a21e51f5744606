"""Usage windows: which events count for one charge, how they are split, and how a window is cut into hours and edges."""

from collections.abc import Hashable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from app.core.aggregation import Aggregation, WeighedSpan
from app.core.values import replace

HOUR_MS = 3_600_000
FIRST_MS = 0
"""Where time begins: no earlier event is accepted."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def floor_ms(instant: datetime) -> int:
    """Milliseconds since 1970, rounded down. Many windows begin and end at the same few instants."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


class Split(Protocol):
    """How the usage of a window falls into buckets: by the values of some of its events' properties."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The properties looked at. They must be among the metric's dimension keys."""

    def bucket(self, values: tuple[str, ...]) -> Hashable:
        """The one bucket of events with these values, given in the order of `keys`; '' is an absent one."""


class _Whole:
    """Everything in one bucket, which is ()."""

    keys: tuple[str, ...] = ()

    @staticmethod
    def bucket(_: tuple[str, ...]) -> Hashable:
        return ()


WHOLE: Split = _Whole()


class Window(Struct, frozen=True):
    """The events of one metric and subscription with `from_ms <= timestamp < end_ms`, in milliseconds since 1970.

    The rule's window is closed, `floor_ms(from) <= timestamp <= to` (metering spec 1.9); timestamps being whole
    milliseconds, `end_ms` is the first millisecond after `to`. A `recurring` one counts what came before it too: sums
    and items from the beginning, a weighted sum from the level at `from_ms` (2.7). `period_days` is the length of the
    whole period, which a weighted sum is spread over. `from_raw`: the rollup is not split by all keys, do not use it.
    """

    organization_id: UUID
    external_subscription_id: str
    code: str
    aggregation: Aggregation
    from_ms: int
    end_ms: int
    recurring: bool = False
    period_days: int = 1
    split: Split = WHOLE
    from_raw: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no event can be in it."""
        return self.from_ms >= self.end_ms

    @property
    def span(self) -> WeighedSpan:
        """The time that a weighted sum is taken over."""
        return WeighedSpan.of(self.from_ms, self.end_ms, self.period_days)

    @property
    def counted(self) -> "Window":
        """The window whose events count in full."""
        if self.recurring and self.aggregation is not Aggregation.WEIGHTED_SUM:
            return replace(self, from_ms=FIRST_MS)
        return self

    @property
    def opening(self) -> "Window | None":
        """The window of what has made the level at `from_ms`, for a weighted sum that carries it over."""
        if self.recurring and self.aggregation is Aggregation.WEIGHTED_SUM:
            return replace(self, from_ms=FIRST_MS, end_ms=self.from_ms)
        return None

    @property
    def hours(self) -> tuple[int, int]:
        """The whole hours inside the window, half-open, in hours since 1970; empty ones are (0, 0)."""
        return _hours(self.from_ms, self.end_ms)

    @property
    def edges(self) -> Sequence[tuple[int, int]]:
        """What of the window lies outside its whole hours, half-open, in milliseconds."""
        return _edges(self.from_ms, self.end_ms)


@lru_cache(maxsize=4096)
def _hours(from_ms: int, end_ms: int) -> tuple[int, int]:
    first, end = -(-from_ms // HOUR_MS), end_ms // HOUR_MS
    return (first, end) if first < end else (0, 0)


def month_that_begins(hour: int) -> int | None:
    """The month of UTC that begins with an hour since 1970, as 202412 for December 2024; None where none does."""
    begin = _EPOCH + timedelta(hours=hour)
    return 100 * begin.year + begin.month if (begin.day, begin.hour) == (1, 0) else None


@lru_cache(maxsize=4096)
def _edges(from_ms: int, end_ms: int) -> tuple[tuple[int, int], ...]:
    if from_ms >= end_ms:
        return ()
    first, end = (hour * HOUR_MS for hour in _hours(from_ms, end_ms))
    if first == end:
        return ((from_ms, end_ms),)
    return tuple((low, high) for low, high in ((from_ms, first), (end, end_ms)) if low < high)


def window(
    organization_id: UUID,
    external_subscription_id: str,
    code: str,
    aggregation: Aggregation,
    from_: datetime,
    to: datetime,
    *,
    recurring: bool = False,
    period_days: int = 1,
    split: Split = WHOLE,
    from_raw: bool = False,
) -> Window:
    """The window of a closed interval of instants; nothing when `to` lies before `from_`."""
    from_ms = floor_ms(from_)
    return Window(
        organization_id,
        external_subscription_id,
        code,
        aggregation,
        from_ms,
        max(floor_ms(to) + 1, from_ms),
        recurring=recurring,
        period_days=period_days,
        split=split,
        from_raw=from_raw,
    )


Span = tuple[int, Window, tuple[int, int]]
"""A window's number, the window, and a stretch of it, half-open."""


def hours_table(spans: Sequence[Span]) -> dict[str, Any]:
    """Whole hours of windows, as the parameters that `windows.sql` reads."""
    first, end = _reach(spans)
    return {"windows": _table(spans), "first_hour": first, "end_hour": end}


def edges_table(spans: Sequence[Span]) -> dict[str, Any]:
    """What windows have outside of their whole hours, in milliseconds, as the parameters that `edges.sql` reads."""
    first, end = _reach(spans)
    return {"edges": _table(spans), "first_ms": first, "end_ms": end}


def _reach(spans: Sequence[Span]) -> tuple[int, int]:
    """From the first start to the last end."""
    return min((span[0] for *_, span in spans), default=0), max((span[1] for *_, span in spans), default=0)


def _table(spans: Sequence[Span]) -> str:
    """Spans as a list in JSON, those alike told together: a chunk of subscriptions has the same few over and over."""
    alike: dict[tuple[Any, ...], tuple[list[int], list[str]]] = {}
    for number, one, span in spans:
        numbers, names = alike.setdefault((one.organization_id, one.code, one.split.keys, *span), ([], []))
        numbers.append(number)
        names.append(one.external_subscription_id)
    return msgspec.json.encode([(*of, *members) for of, members in alike.items()]).decode()
