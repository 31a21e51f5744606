"""Instants of events, mostly as texts. Most events are of the same few seconds, and writing one out takes longer than
looking it up."""

from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_SECONDS = 86_400
FIRST_DAY = date(1970, 1, 1).toordinal()
REMEMBERED = 20_000


class _Texts(dict[int, str]):
    """The texts of instants in milliseconds, written out when they are first asked for. A dictionary, for a cache that
    knows what was used last takes three times as long to ask."""

    def __init__(self, separator: str, zone: str):
        super().__init__()
        self._separator = separator
        self._milliseconds = [f".{number:03d}{zone}" for number in range(1_000)]

    def __missing__(self, milliseconds: int) -> str:
        if len(self) >= REMEMBERED:
            self.clear()
        seconds, rest = divmod(milliseconds, 1_000)
        text = self[milliseconds] = f"{_second_text(seconds, self._separator)}{self._milliseconds[rest]}"
        return text


class _Instants(dict[int, datetime]):
    """Instants in microseconds since 1970, made when they are first asked for."""

    def __missing__(self, microseconds: int) -> datetime:
        if len(self) >= REMEMBERED:
            self.clear()
        made = self[microseconds] = EPOCH + timedelta(microseconds=microseconds)
        return made


ingestion_instant = _Instants().__getitem__
"""An instant given in microseconds since 1970; those of ingestion are the same for all events of a block."""
store_instant = _Texts(" ", "").__getitem__
"""`2024-04-30 18:00:00.123`, the store's text form of an instant in UTC, given in milliseconds since 1970."""
wire_instant = _Texts("T", "Z").__getitem__
"""`2024-04-30T18:00:00.123Z`, an instant on the wire, given in milliseconds since 1970."""


def _second_text(seconds: int, separator: str) -> str:
    days, rest = divmod(seconds, DAY_SECONDS)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{date.fromordinal(FIRST_DAY + days).isoformat()}{separator}{hour:02d}:{minute:02d}:{second:02d}"
