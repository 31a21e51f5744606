"""Instants of events, mostly as texts. Most events are of the same few seconds, and writing one out takes longer than
looking it up."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_SECONDS = 86_400
FIRST_DAY = date(1970, 1, 1).toordinal()
MOST = 20_000


class Remembered(dict[K, V]):
    """What a function makes of keys, made when they are first asked for. A dictionary, for a cache that knows what was used
    last takes three times as long to ask."""

    def __init__(self, make: Callable[[K], V]):
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= MOST:
            self.clear()
        made = self[key] = self._make(key)
        return made


def _instant(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _text(separator: str, zone: str, milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{_second_text(seconds, separator)}.{rest:03d}{zone}"


def _second_text(seconds: int, separator: str) -> str:
    days, rest = divmod(seconds, DAY_SECONDS)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{date.fromordinal(FIRST_DAY + days).isoformat()}{separator}{hour:02d}:{minute:02d}:{second:02d}"


ingestion_instant = Remembered(_instant).__getitem__
"""An instant given in microseconds since 1970; those of ingestion are the same for all events of a block."""
store_instant = Remembered(partial(_text, " ", "")).__getitem__
"""`2024-04-30 18:00:00.123`, the store's text form of an instant in UTC, given in milliseconds since 1970."""
wire_instant = Remembered(partial(_text, "T", "Z")).__getitem__
"""`2024-04-30T18:00:00.123Z`, an instant on the wire, given in milliseconds since 1970."""
