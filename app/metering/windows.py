"""Usage windows: which events count for one charge, and how a window is cut into whole hours and edges."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.core.aggregation import Aggregation

HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def floor_ms(instant: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """The events of one metric and subscription with `from_ms <= timestamp < end_ms`, in milliseconds since 1970.

    The rule's window is closed, `floor_ms(from) <= timestamp <= to` (metering spec 1.9); timestamps being whole
    milliseconds, `end_ms` is the first millisecond after `to`.
    """

    organization_id: UUID
    external_subscription_id: str
    code: str
    aggregation: Aggregation
    from_ms: int
    end_ms: int

    @property
    def hours(self) -> tuple[int, int]:
        """The whole hours inside the window, half-open, in hours since 1970; empty ones are (0, 0)."""
        first, end = -(-self.from_ms // HOUR_MS), self.end_ms // HOUR_MS
        return (first, end) if first < end else (0, 0)

    @property
    def hours_touched(self) -> tuple[int, int]:
        """All hours the window has a part of, half-open."""
        return self.from_ms // HOUR_MS, max(-(-self.end_ms // HOUR_MS), self.from_ms // HOUR_MS)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """What of the window lies outside its whole hours, half-open, in milliseconds."""
        if self.from_ms >= self.end_ms:
            return []
        first, end = (hour * HOUR_MS for hour in self.hours)
        if first == end:
            return [(self.from_ms, self.end_ms)]
        return [(low, high) for low, high in ((self.from_ms, first), (end, self.end_ms)) if low < high]


def window(
    organization_id: UUID,
    external_subscription_id: str,
    code: str,
    aggregation: Aggregation,
    from_: datetime,
    to: datetime,
) -> Window:
    """The window of a closed interval of instants; nothing when `to` lies before `from_`."""
    from_ms = floor_ms(from_)
    return Window(organization_id, external_subscription_id, code, aggregation, from_ms, max(floor_ms(to) + 1, from_ms))
