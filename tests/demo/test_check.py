"""The demo's independent check, and the instants its events carry."""

import ast
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path

import msgspec
import polars as pl
import pytest

from app.demo import check
from app.demo.check import Amounts, Found, Prices
from app.demo.data import batches, departures
from app.demo.tariff import METRICS

RANGES = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.5", "flat_amount": "1"},
    {"from_value": 101, "to_value": 200, "per_unit_amount": "0.25", "flat_amount": "10"},
    {"from_value": 201, "to_value": None, "per_unit_amount": "0.1", "flat_amount": "0"},
]
PRICES = Prices(
    1_000,
    {
        "departures": {"amount": "0.005"},
        "air_minutes": {"graduated_ranges": RANGES},
        "longest_leg": {"amount": "0.01"},
        "aircraft": {"amount": "2"},
    },
    "10",
)

Row = tuple[int, int, int | None, int, int | None]


def flights(*rows: Row) -> pl.DataFrame:
    """Flights of one airline: month, day, dep_time, sched_dep_time and dep_delay, each of 100 minutes and miles."""
    columns: Sequence[str] = ("month", "day", "dep_time", "sched_dep_time", "dep_delay")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row").with_row_index("flight")
    return frame.with_columns(
        pl.col("flight").cast(pl.Int64),
        year=pl.lit(2013, pl.Int64),
        carrier=pl.lit("UA"),
        tailnum=pl.lit("N1"),
        origin=pl.lit("JFK"),
        dest=pl.lit("BOS"),
        air_time=pl.lit(100, pl.Int64),
        distance=pl.lit(100, pl.Int64),
        arr_delay=pl.lit(None, pl.Int64),
    )


@pytest.mark.parametrize(
    ("units", "dollars"),
    [(0, "1"), (99, "50.5"), (100, "51"), (101, "61.25"), (200, "86"), (201, "86.1"), (300, "96")],
)
def test_tiers_at_their_bounds(units: int, dollars: str) -> None:
    assert check.graduated(units, RANGES) == Fraction(dollars)


@pytest.mark.parametrize(("amount", "cents"), [("0", 0), ("0.5", 1), ("1.49", 1), ("1.5", 2), ("2.5", 3)])
def test_a_half_goes_up(amount: str, cents: int) -> None:
    assert check.half_up(Fraction(amount)) == cents


@pytest.mark.parametrize(
    ("row", "departed_on", "instant"),
    [
        ((1, 31, 2355, 2359, -4), date(2013, 1, 31), "2013-02-01T04:55:00+00:00"),
        ((1, 31, 2400, 2350, 10), date(2013, 2, 1), "2013-02-01T05:00:00+00:00"),
        ((1, 31, 15, 2200, 135), date(2013, 2, 1), "2013-02-01T05:15:00+00:00"),
        ((12, 31, 26, 2359, 27), date(2014, 1, 1), "2014-01-01T05:26:00+00:00"),
        ((1, 30, 900, 1000, 1380), date(2013, 1, 31), "2013-01-31T14:00:00+00:00"),
        ((3, 9, 605, 600, 5), date(2013, 3, 9), "2013-03-09T11:05:00+00:00"),
        ((3, 10, 605, 600, 5), date(2013, 3, 10), "2013-03-10T10:05:00+00:00"),
        ((3, 31, 2359, 2359, 0), date(2013, 3, 31), "2013-04-01T03:59:00+00:00"),
        ((3, 31, 1, 2359, 2), date(2013, 4, 1), "2013-04-01T04:01:00+00:00"),
        ((3, 9, 310, 2350, 140), date(2013, 3, 10), "2013-03-10T07:10:00+00:00"),
        ((11, 2, 150, 2350, 180), date(2013, 11, 3), "2013-11-03T06:50:00+00:00"),
    ],
    ids=[
        "early",
        "at midnight",
        "past midnight",
        "past the year",
        "nearly a day late",
        "winter time",
        "first day of summer time",
        "last minute of March",
        "first minutes of April",
        "over the start of summer time",
        "over the end of summer time",
    ],
)
def test_when_a_flight_departed(row: Row, departed_on: date, instant: str) -> None:
    given = flights(row)
    assert check.departure_dates(given)["departed_on"].to_list() == [departed_on]
    departed = departures(given)["departed"].dt.convert_time_zone("UTC")
    assert [one.isoformat() for one in departed] == [instant]


def test_months_are_local_and_flights_that_stayed_do_not_count() -> None:
    given = flights((3, 31, 2300, 2300, 0), (3, 31, 10, 2330, 40), (3, 31, None, 1200, None), (4, 30, 2400, 2359, 1))
    used = check.usage(given, 2013)
    assert {place: units["departures"] for place, units in used.items()} == {
        ("UA", 3): 1,
        ("UA", 4): 1,
        ("UA", 5): 1,
    }
    assert used["UA", 3] == {"departures": 1, "air_minutes": 100, "longest_leg": 100, "aircraft": 1}


def test_an_invoice_is_the_fee_the_charges_and_the_tax() -> None:
    expected = check.expected_invoices(flights((1, 5, 600, 600, 0)), ["UA", "HA"], PRICES, 2013)
    # 1 departure is half a cent, rounded up; then 51 dollars of minutes, 1 of miles, 2 of aircraft, 10 of fee.
    assert expected["UA", 1] == Amounts(6_401, 640, 7_041)
    # No flight: the fee, and the flat amount of the first tier.
    assert expected["HA", 12] == Amounts(1_100, 110, 1_210)
    assert len(expected) == 24


def test_what_is_unknown_of_a_flight_adds_nothing() -> None:
    given = flights((1, 5, 600, 600, 0), (1, 6, 600, 600, 0)).with_columns(
        air_time=pl.lit(None, pl.Int64), tailnum=pl.when(pl.col("day") == 5).then(pl.lit("N1"))
    )
    assert check.usage(given, 2013)["UA", 1] == {
        "departures": 2,
        "air_minutes": 0,
        "longest_leg": 100,
        "aircraft": 1,
    }


def year_of_invoices() -> tuple[check.Expected, list[Found]]:
    """What is expected of one airline, and the same as found."""
    expected = check.expected_invoices(flights((1, 5, 600, 600, 0)), ["UA"], PRICES, 2013)
    issued = [date(2013, month, 1) for month in range(2, 13)] + [date(2014, 1, 1)]
    return expected, [Found("UA", issued[month - 1], amounts) for (_, month), amounts in expected.items()]


def test_the_check_agrees_with_what_is_right() -> None:
    assert check.first_difference(*year_of_invoices(), 2013) is None


def test_the_check_finds_a_cent() -> None:
    expected, found = year_of_invoices()
    right = found[11].amounts
    found[11] = found[11]._replace(amounts=right._replace(total=right.total + 1))
    assert check.first_difference(expected, found, 2013) == "UA, 2013-12: expected total of 1210 cents, got 1211 cents"


def test_the_check_finds_missing_double_and_misplaced_invoices() -> None:
    expected, found = year_of_invoices()
    assert check.first_difference(expected, found[1:], 2013) == "UA, 2013-01: expected 1 invoice, got 0"
    assert check.first_difference(expected, [*found, found[3]], 2013) == "UA, 2013-04: expected 1 invoice, got 2"
    late = found[4]._replace(issuing_date=date(2013, 6, 2))
    message = "UA: an invoice issued on 2013-06-02, on which none is due"
    assert check.first_difference(expected, [*found[:4], late], 2013) == message
    stranger = found[0]._replace(airline="ZZ")
    assert check.first_difference(expected, [*found, stranger], 2013) == "ZZ, 2013-01: expected no invoice, got one"


def test_the_check_uses_nothing_of_the_service() -> None:
    tree = ast.parse(Path(check.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.split(".")[0] == "app"]


def test_a_flight_is_one_event_for_each_metric() -> None:
    [(body, size)] = batches(departures(flights((1, 31, 15, 2200, 135), (2, 1, None, 600, None))))
    events = msgspec.json.decode(body)["events"]
    assert size == len(events) == len(METRICS)
    assert [event["code"] for event in events] == [metric.code for metric in METRICS]
    assert events[0] == {
        "transaction_id": "2013-01-31-UA0-JFK-2200:departures",
        "external_subscription_id": "UA-airport-services",
        "code": "departures",
        "timestamp": 1_359_695_700,
        "properties": {
            "carrier": "UA",
            "flight": 0,
            "origin": "JFK",
            "dest": "BOS",
            "distance": 100,
            "dep_delay": 135,
            "tailnum": "N1",
            "air_time": 100,
        },
    }
