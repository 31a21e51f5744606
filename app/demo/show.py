"""What the demo prints."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.demo.check import Found

_CELL, _TOTAL, _CODE = 11, 13, 4
_LAYOUTS = (12, 6, 4)


def money(cents: int) -> str:
    """Cents as dollars."""
    return f"{cents // 100:,}.{cents % 100:02}"


def usage_line(day: date, airline: str, usage: Mapping[str, Any]) -> str:
    """The usage of an airline's current month in one line."""
    units = [f"{one['billable_metric']['name'].lower()} {Decimal(one['units']):,.0f}" for one in usage["charges_usage"]]
    return f"{day:%d %b} {airline} so far: {', '.join(units)} = ${money(usage['amount_cents'])} before tax"


def totals(console: Console, invoices: Sequence[Found], airlines: Mapping[str, str], year: int) -> None:
    """Print the invoice totals by airline and month; on a narrow console the months come in several tables."""
    by_place: dict[tuple[str, int], int] = {}
    for invoice in invoices:
        place = invoice.airline, invoice.issuing_date.month - 1 or 12
        by_place[place] = by_place.get(place, 0) + invoice.amounts.total
    per_table = next((n for n in _LAYOUTS if _CODE + n * _CELL + _TOTAL <= console.width), _LAYOUTS[-1])
    for first in range(1, 13, per_table):
        months = range(first, first + per_table)
        console.print(_table(by_place, airlines, year, months, with_total=months[-1] == 12))  # noqa: PLR2004


def _table(
    by_place: Mapping[tuple[str, int], int], airlines: Iterable[str], year: int, months: range, *, with_total: bool
) -> Table:
    airlines = list(airlines)
    table = Table(
        title=f"Invoice totals in USD with tax, {date(year, months[0], 1):%B} to {date(year, months[-1], 1):%B %Y}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_footer=True,
        title_justify="left",
    )
    table.add_column("", footer="all", no_wrap=True)
    for month in months:
        column = sum(by_place.get((airline, month), 0) for airline in airlines)
        table.add_column(f"{date(year, month, 1):%b}", footer=money(column), justify="right", no_wrap=True)
    if with_total:
        everything = money(sum(by_place.values()))
        table.add_column(str(year), footer=everything, justify="right", no_wrap=True, style="bold")
    for airline in airlines:
        cells = [money(by_place.get((airline, month), 0)) for month in months]
        if with_total:
            cells.append(money(sum(total for (owner, _), total in by_place.items() if owner == airline)))
        table.add_row(airline, *cells)
    return table


def names(airlines: Mapping[str, str]) -> str:
    """Who is behind the two letters."""
    return ", ".join(f"{code} {name}" for code, name in airlines.items())
