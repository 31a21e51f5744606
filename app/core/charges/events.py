"""Single events, for the prices that look at them (metering spec 1.9, 3.7, 3.9).

Events are ``Sample``s, each once, in any order: it is the order of time that counts, and that of transaction ids at one
instant.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from app.core.aggregation import Sample
from app.core.charges.usage import Run

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def moment(event: Sample) -> tuple[int, str]:
    """What orders events."""
    return event.timestamp_ms, event.transaction_id


def instant(event: Sample) -> datetime:
    """When the event was, in UTC."""
    return _EPOCH + event.timestamp_ms * _MILLISECOND


def in_order(events: Iterable[Sample]) -> list[Sample]:
    """Events as they follow each other."""
    return sorted(events, key=moment)


def split_at(events: Iterable[Sample], from_: datetime) -> tuple[list[Sample], list[Sample]]:
    """The events before a window that begins at an instant, and those from then on, both in order."""
    from_ms = (from_ - _EPOCH) // _MILLISECOND
    ordered = in_order(events)
    first = next((place for place, event in enumerate(ordered) if event.timestamp_ms >= from_ms), len(ordered))
    return ordered[:first], ordered[first:]


def runs(events: Iterable[Sample]) -> tuple[Run, ...]:
    """The values of events, as a percentage price looks at them (``BucketUsage.runs``)."""
    return tuple(Run(event.value) for event in in_order(events))
