"""Timestamps in files: what they are taken for, and what they become."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.importing.times import EPOCH, TimestampFormat, detect, unix_seconds

ISO, SECONDS, MILLISECONDS = TimestampFormat

INSTANTS = st.datetimes(datetime(1970, 1, 2), datetime(2299, 12, 31))  # noqa: DTZ001 (made aware below)


@given(INSTANTS, st.integers(-14 * 60, 14 * 60))
def test_iso_texts_are_exact_to_the_microsecond(wall: datetime, minutes: int) -> None:
    instant = wall.replace(tzinfo=UTC)
    text = unix_seconds(instant.astimezone(timezone(timedelta(minutes=minutes))).isoformat(), ISO, UTC)
    assert text is not None
    assert Decimal(text) == Decimal((instant - EPOCH) // timedelta(microseconds=1)) / 10**6


@pytest.mark.parametrize(
    ("text", "kind", "seconds"),
    [
        ("2024-05-10T12:00:00Z", ISO, "1715342400.000000"),
        ("2024-05-10 14:00:00.1239999999+02:00", ISO, "1715342400.123999"),
        (" 2024-05-10T12:00:00 ", ISO, "1715335200.000000"),
        ("2024-05-10", ISO, "1715292000.000000"),
        ("1969-12-31T23:59:59.5Z", ISO, "-1.500000"),
        ("10.5.2024", ISO, None),
        ("1715342400", ISO, None),
        ("1715342400.123456789", SECONDS, "1715342400.123456789"),
        (" 1.7153424e9", SECONDS, "1.7153424e9"),
        ("2024-05-10", SECONDS, None),
        ("NaN", SECONDS, None),
        ("1715342400123", MILLISECONDS, "1715342400.123"),
        ("1715342400123.999", MILLISECONDS, "1715342400.123"),
        ("1715342400007", MILLISECONDS, "1715342400.007"),
        ("", MILLISECONDS, None),
    ],
)
def test_what_they_become(text: str, kind: TimestampFormat, seconds: str | None) -> None:
    assert unix_seconds(text, kind, ZoneInfo("Europe/Berlin")) == seconds


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2024-05-10T12:00:00Z", ISO), ("2024-05-10", ISO), ("1715342400", SECONDS), ("1715342400.5", SECONDS),
        ("1715342400123", MILLISECONDS), ("99999999999", SECONDS), ("100000000000", MILLISECONDS),
        ("20240510", None), ("1715342400123456", None), ("yesterday", None), ("", None),
    ],
)  # fmt: skip
def test_what_they_are_taken_for(text: str, kind: TimestampFormat | None) -> None:
    assert detect([text]) == ({} if kind is None else {kind: text})


def test_of_each_format_the_first_example() -> None:
    assert detect(["?", "2024-05-10", "2024-05-11", "1715342400"]) == {ISO: "2024-05-10", SECONDS: "1715342400"}
