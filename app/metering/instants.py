"""Instants of events as texts. Most events are of the same few seconds, and writing one out takes longer than looking it
up."""

from datetime import date
from functools import lru_cache

DAY_SECONDS = 86_400
FIRST_DAY = date(1970, 1, 1).toordinal()
REMEMBERED = 20_000
STORE_MILLISECONDS = [f"{number:03d}" for number in range(1_000)]
WIRE_MILLISECONDS = [f"{number:03d}Z" for number in range(1_000)]


@lru_cache(maxsize=REMEMBERED)
def store_instant(milliseconds: int) -> str:
    """`2024-04-30 18:00:00.123`, the store's text form of an instant in UTC."""
    return _second_text(milliseconds // 1000, " ") + STORE_MILLISECONDS[milliseconds % 1000]


@lru_cache(maxsize=REMEMBERED)
def wire_instant(milliseconds: int) -> str:
    """`2024-04-30T18:00:00.123Z`, an instant on the wire."""
    return _second_text(milliseconds // 1000, "T") + WIRE_MILLISECONDS[milliseconds % 1000]


@lru_cache(maxsize=REMEMBERED)
def _second_text(seconds: int, separator: str) -> str:
    days, rest = divmod(seconds, DAY_SECONDS)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{date.fromordinal(FIRST_DAY + days).isoformat()}{separator}{hour:02d}:{minute:02d}:{second:02d}."
