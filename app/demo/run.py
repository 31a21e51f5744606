"""The demo from the first request to the verdict, over HTTP alone."""

import time
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

import httpx
import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.demo import show
from app.demo.check import Amounts, Found, Prices, expected_invoices, first_difference
from app.demo.client import Client, Refused
from app.demo.data import DataMissing, batches, departures, load, subscription_of
from app.demo.tariff import (
    CURRENCY,
    METRICS,
    MONTHLY_FEE_CENTS,
    PLAN_CODE,
    TAX_RATE,
    TIMEZONE,
    metric_body,
    plan_body,
)

YEAR = 2013
SHOWN_AIRLINE = "B6"
_LOCAL = ZoneInfo(TIMEZONE)


def run_demo(base_url: str, admin_key: str, console: Console) -> bool:
    """Bill a year of departures on a running service; whether every invoice is as the check says.

    What the demo needs and does not get (data, an answer that is no error) is printed, and the result is False.
    """
    started = time.monotonic()
    try:
        flights, airlines = load()
        with Client(base_url, admin_key) as admin:
            key: str = admin.post(
                "/admin/organizations",
                {"organization": {"name": "New York departures", "sandbox": True, "timezone": TIMEZONE}},
            )["organization"]["api_key"]
        console.print("A new sandbox organization is made for each run of the demo; earlier ones stay as they are.")
        with Client(base_url, key) as client:
            agreed = _bill_year(client, flights, airlines, console)
    except (DataMissing, Refused, httpx.HTTPError) as error:
        console.print(f"[red]The demo stopped:[/red] {escape(str(error))}", highlight=False)
        return False
    console.print(f"The whole demo took {time.monotonic() - started:.1f} s.")
    _print_where(base_url, key, console)
    return agreed


def _bill_year(client: Client, flights: pl.DataFrame, airlines: Mapping[str, str], console: Console) -> bool:
    departed = departures(flights)
    console.print(
        f"{flights.height:,} flights left New York in {YEAR} on paper, {departed.height:,} departed. "
        f"Each is sent as {len(METRICS)} events, one for each metric."
    )
    client.set_clock(_midnight(date(YEAR, 1, 1)))
    _make_catalog(client)
    _make_customers(client, airlines)
    with _Year(client, departed, airlines[SHOWN_AIRLINE], console) as year:
        for month in range(1, 13):
            year.bill(month)
    invoices = list(_invoices(client, airlines))
    console.print()
    show.totals(console, invoices, airlines, YEAR)
    console.print(show.names(airlines), highlight=False)
    console.print()
    console.print(f"{year.events:,} events sent in {year.seconds:.1f} s, {year.events / year.seconds:,.0f} a second.")
    late = departed.filter(pl.col("departed").dt.year() > YEAR).height
    console.print(f"{late} flights of 31 December left after midnight: sent too, and January {YEAR + 1}'s to bill.")
    console.print(f"{len(invoices)} invoices; {len(airlines)} airlines in 12 months make {len(airlines) * 12}.")
    return _verdict(flights, airlines, invoices, console)


def _make_catalog(client: Client) -> None:
    tax = {"name": "Sales tax", "code": "sales_tax", "rate": TAX_RATE, "applied_to_organization": True}
    client.post("/api/v1/taxes", {"tax": tax})
    made = [client.post("/api/v1/billable_metrics", metric_body(metric))["billable_metric"] for metric in METRICS]
    client.post("/api/v1/plans", plan_body({metric["code"]: metric["lago_id"] for metric in made}))


def _make_customers(client: Client, airlines: Mapping[str, str]) -> None:
    for carrier, name in airlines.items():
        customer = {"external_id": carrier, "name": name, "timezone": TIMEZONE, "currency": CURRENCY}
        client.post("/api/v1/customers", {"customer": customer})
        subscription = {
            "external_customer_id": carrier,
            "plan_code": PLAN_CODE,
            "external_id": subscription_of(carrier),
            "name": f"Airport services for {name}",
            "billing_time": "calendar",
            "subscription_at": _midnight(date(YEAR, 1, 1)).isoformat(),
        }
        client.post("/api/v1/subscriptions", {"subscription": subscription})


class _Year:
    """Sends a year of flights and closes its months, under a progress bar."""

    def __init__(self, client: Client, departed: pl.DataFrame, shown_name: str, console: Console):
        self.events = 0
        self.seconds = 0.0
        self._client = client
        self._departed = departed
        self._shown_name = shown_name
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=departed.height * len(METRICS))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def bill(self, month: int) -> None:
        """Send the flights scheduled in a month, show the usage a day before its end, and close it.

        Flights that were delayed past midnight of the last day are sent before the month is closed, like all of its
        schedule; they must count for the next month.
        """
        last_day = date(YEAR + month // 12, month % 12 + 1, 1) - timedelta(days=1)
        of_month = self._departed.filter(pl.col("month") == month)
        on_last_day = pl.col("day") == last_day.day
        self._send(of_month.filter(~on_last_day), f"{last_day:%b %Y}: sending")
        self._progress.update(self._task, description=f"{last_day:%b %Y}: billing")
        self._client.set_clock(_midnight(last_day))
        usage = self._client.get(
            f"/api/v1/customers/{SHOWN_AIRLINE}/current_usage", external_subscription_id=subscription_of(SHOWN_AIRLINE)
        )["customer_usage"]
        self._progress.console.print(show.usage_line(last_day, self._shown_name, usage), highlight=False)
        self._send(of_month.filter(on_last_day), f"{last_day:%b %Y}: sending")
        self._progress.update(self._task, description=f"{last_day:%b %Y}: billing")
        self._client.set_clock(_midnight(last_day + timedelta(days=1)) + timedelta(hours=1))

    def _send(self, flights: pl.DataFrame, description: str) -> None:
        self._progress.update(self._task, description=description)
        started = time.monotonic()
        self._client.send(batches(flights), lambda events: self._progress.advance(self._task, events))
        self.seconds += time.monotonic() - started
        self.events += flights.height * len(METRICS)


def _midnight(day: date) -> datetime:
    """The first moment of a local day."""
    return datetime(day.year, day.month, day.day, tzinfo=_LOCAL)


def _invoices(client: Client, airlines: Mapping[str, str]) -> Iterator[Found]:
    for carrier in airlines:
        for invoice in client.pages("/api/v1/invoices", "invoices", external_customer_id=carrier):
            amounts = Amounts(
                invoice["fees_amount_cents"], invoice["taxes_amount_cents"], invoice["total_amount_cents"]
            )
            yield Found(carrier, date.fromisoformat(invoice["issuing_date"]), amounts)


def _verdict(flights: pl.DataFrame, airlines: Mapping[str, str], invoices: list[Found], console: Console) -> bool:
    prices = Prices(MONTHLY_FEE_CENTS, {metric.code: metric.properties for metric in METRICS}, TAX_RATE)
    expected = expected_invoices(flights, airlines, prices, YEAR)
    difference = first_difference(expected, invoices, YEAR)
    if difference is not None:
        console.print(f"[bold red]Check failed.[/bold red] {difference}", highlight=False)
        return False
    total = show.money(sum(amounts.total for amounts in expected.values()))
    console.print(
        f"[bold green]Check passed.[/bold green] All {len(expected)} invoices, recomputed from the published flights "
        f"without the service, agree to the cent: ${total}."
    )
    return True


def _print_where(base_url: str, key: str, console: Console) -> None:
    console.print(f"Service: {base_url} (interactive API reference at {base_url}/docs)", highlight=False)
    console.print(f"API key: {key}", highlight=False)
    console.print(
        f"curl -H 'Authorization: Bearer {key}' '{base_url}/api/v1/invoices?per_page=3'",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
