"""Timestamps in files: which form they have, and as the Unix seconds that events carry."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from app.core.aggregation import decimal_value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEAST_SECONDS, LEAST_MILLISECONDS, LEAST_MICROSECONDS = 10**8, 10**11, 10**14
"""Numbers from these on are taken for seconds, milliseconds, or neither: all mean 1973 to 5138."""


class TimestampFormat(StrEnum):
    """How an instant is written."""

    ISO = "iso"
    SECONDS = "s"
    MILLISECONDS = "ms"

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return {"iso": "ISO 8601", "s": "Unix seconds", "ms": "Unix milliseconds"}[self]


def detect(texts: Iterable[str]) -> dict[TimestampFormat, str]:
    """The formats that some texts have, each with its first example. Texts that have none are passed over."""
    found: dict[TimestampFormat, str] = {}
    for text in texts:
        kind = _format_of(text)
        if kind is not None:
            found.setdefault(kind, text)
    return found


def _format_of(text: str) -> TimestampFormat | None:
    value = decimal_value(text.strip())
    if value is None:
        return TimestampFormat.ISO if _instant(text, UTC) is not None else None
    if LEAST_SECONDS <= value < LEAST_MILLISECONDS:
        return TimestampFormat.SECONDS
    return TimestampFormat.MILLISECONDS if LEAST_MILLISECONDS <= value < LEAST_MICROSECONDS else None


def unix_seconds(text: str, kind: TimestampFormat, zone: tzinfo) -> str | None:
    """An instant as Unix seconds in decimal text; None when the text is not of this kind.

    `zone` is that of ISO 8601 texts that name none. Digits past the microsecond, and of milliseconds past the third of a
    second, are dropped: events are kept to the millisecond.
    """
    if kind is TimestampFormat.ISO:
        instant = _instant(text, zone)
        if instant is None:
            return None
        since = instant - EPOCH
        return f"{since // timedelta(seconds=1)}.{since.microseconds:06d}"
    stripped = text.strip()
    value = decimal_value(stripped)
    if value is None:
        return None
    if kind is TimestampFormat.SECONDS:
        return stripped
    seconds, rest = divmod(int(value), 1000)
    return f"{seconds}.{rest:03d}"


def _instant(text: str, zone: tzinfo) -> datetime | None:
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return value if value.tzinfo else value.replace(tzinfo=zone)
