"""What every invoice must amount to, worked out from the published flights alone.

This is the other opinion: it uses none of the service's code and none of the demo's events. It has its own departure
dates (from wall times, not instants), its own aggregation (polars), prices and rounding (fractions of integers).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from typing import Any, NamedTuple

import polars as pl

MONTHS = range(1, 13)
_DAY_MINUTES = 24 * 60


class Amounts(NamedTuple):
    """The three amounts of an invoice, in cents."""

    fees: int
    taxes: int
    total: int


class Found(NamedTuple):
    """An invoice that the service made."""

    airline: str
    issuing_date: date
    amounts: Amounts


Expected = dict[tuple[str, int], Amounts]


class Prices(NamedTuple):
    """The terms of the plan. `charges` has the properties of each charge by the code of its metric; texts in it are
    amounts in dollars. The tax rate is in percent."""

    monthly_fee_cents: int
    charges: Mapping[str, Mapping[str, Any]]
    tax_rate: str


def half_up(amount: Fraction) -> int:
    """The nearest integer to an amount that is not negative, the upper one of two."""
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)


def graduated(units: int, ranges: Sequence[Mapping[str, Any]]) -> Fraction:
    """The price of some units: those up to the first upper bound at the first price, and so on, with the flat amount of
    each tier that is reached."""
    price, below = Fraction(0), 0
    for tier in ranges:
        bound = tier["to_value"]
        until = units if bound is None else min(units, int(bound))
        price += (until - below) * Fraction(tier["per_unit_amount"]) + Fraction(tier["flat_amount"])
        below = until
        if units == until:
            break
    return price


def charge_cents(units: int, properties: Mapping[str, Any]) -> int:
    """The fee of one charge, rounded to cents."""
    ranges = properties.get("graduated_ranges")
    price = units * Fraction(properties["amount"]) if ranges is None else graduated(units, ranges)
    return half_up(price * 100)


def departure_dates(flights: pl.DataFrame) -> pl.DataFrame:
    """The flights that departed, with the local date they departed on as `departed_on`.

    A row has the wall time of departure but the date of the schedule. The delay says how many days lie between, give or
    take the hour of a change of the clocks; 2400 is the first minute of the day after.
    """
    departed = _minutes("dep_time")
    apart = _minutes("sched_dep_time") + pl.col("dep_delay") - departed
    days = (apart + _DAY_MINUTES // 2) // _DAY_MINUTES + departed // _DAY_MINUTES
    scheduled_on = pl.date("year", "month", "day")
    return flights.filter(pl.col("dep_time").is_not_null()).with_columns(
        departed_on=scheduled_on + pl.duration(days=days)
    )


def usage(flights: pl.DataFrame, year: int) -> dict[tuple[str, int], dict[str, int]]:
    """The units of each charge, by airline and month of a year."""
    departed = departure_dates(flights).filter(pl.col("departed_on").dt.year() == year)
    months = departed.group_by("carrier", pl.col("departed_on").dt.month().alias("number")).agg(
        departures=pl.len(),
        air_minutes=pl.col("air_time").sum(),
        longest_leg=pl.col("distance").max(),
        aircraft=pl.col("tailnum").drop_nulls().n_unique(),
    )
    return {
        (row["carrier"], row["number"]): {
            code: row[code] or 0 for code in ("departures", "air_minutes", "longest_leg", "aircraft")
        }
        for row in months.to_dicts()
    }


def expected_invoices(flights: pl.DataFrame, airlines: Iterable[str], prices: Prices, year: int) -> Expected:
    """The amounts of each airline's invoice for each month, also for months without a flight."""
    used = usage(flights, year)
    expected: Expected = {}
    for airline in airlines:
        for month in MONTHS:
            units = used.get((airline, month), {})
            fees = prices.monthly_fee_cents + sum(
                charge_cents(units.get(code, 0), properties) for code, properties in prices.charges.items()
            )
            taxes = half_up(fees * Fraction(prices.tax_rate) / 100)
            expected[airline, month] = Amounts(fees, taxes, fees + taxes)
    return expected


def first_difference(expected: Expected, found: Iterable[Found], year: int) -> str | None:
    """What is wrong with the first invoice that is not as expected, or None when all are.

    An invoice is issued on the first day of the month after the one it bills.
    """
    by_place: dict[tuple[str, int], list[Amounts]] = {}
    for invoice in found:
        month = invoice.issuing_date.month - 1 or 12
        if invoice.issuing_date != _issued_on(year, month):
            return f"{invoice.airline}: an invoice issued on {invoice.issuing_date}, on which none is due"
        by_place.setdefault((invoice.airline, month), []).append(invoice.amounts)
    for (airline, month), amounts in expected.items():
        invoices = by_place.pop((airline, month), [])
        place = f"{airline}, {year}-{month:02}"
        if len(invoices) != 1:
            return f"{place}: expected 1 invoice, got {len(invoices)}"
        for name, wanted, got in zip(Amounts._fields, amounts, invoices[0], strict=True):
            if wanted != got:
                return f"{place}: expected {name} of {wanted} cents, got {got} cents"
    for airline, month in by_place:
        return f"{airline}, {year}-{month:02}: expected no invoice, got one"
    return None


def _minutes(column: str) -> pl.Expr:
    """Minutes since midnight of a wall time written as a number, 517 being 05:17."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _issued_on(year: int, month: int) -> date:
    return date(year + month // 12, month % 12 + 1, 1)
