"""The demo from the first request to the verdict, over HTTP alone."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

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


@dataclass(slots=True)
class _Sending:
    """How much has been sent, and the time spent on it."""

    events: int = 0
    seconds: float = 0.0


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
    except (DataMissing, Refused) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", highlight=False)
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
    sending = _Sending()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeElapsedColumn()
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=departed.height * len(METRICS))
        for month in range(1, 13):
            _bill_month(client, departed, airlines[SHOWN_AIRLINE], month, sending, progress, task)
    invoices = list(_invoices(client, airlines))
    console.print()
    show.totals(console, invoices, airlines, YEAR)
    console.print(show.names(airlines), highlight=False)
    console.print()
    rate = sending.events / sending.seconds
    console.print(f"{sending.events:,} events sent in {sending.seconds:.1f} s, {rate:,.0f} a second.")
    late = departed.filter(pl.col("departed").dt.year() > YEAR).height
    console.print(f"{late} flights of 31 December left after midnight: they belong to January {YEAR + 1}, not yet billed.")
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


def _bill_month(
    client: Client, departed: pl.DataFrame, name: str, month: int, sending: _Sending, progress: Progress, task: TaskID
) -> None:
    """Send the flights scheduled in a month, show the usage a day before its end, and close it.

    Flights that were delayed past midnight of the last day are sent before the month is closed, like all of its
    schedule; they must count for the next month.
    """
    last_day = date(YEAR + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    label = f"{last_day:%b %Y}"
    of_month = departed.filter(pl.col("month") == month)
    on_last_day = pl.col("day") == last_day.day

    def send(flights: pl.DataFrame) -> None:
        progress.update(task, description=f"{label}: sending")
        started = time.monotonic()
        client.send(batches(flights), lambda events: progress.advance(task, events))
        sending.seconds += time.monotonic() - started
        sending.events += flights.height * len(METRICS)

    send(of_month.filter(~on_last_day))
    progress.update(task, description=f"{label}: billing")
    client.set_clock(_midnight(last_day))
    usage = client.get(
        f"/api/v1/customers/{SHOWN_AIRLINE}/current_usage", external_subscription_id=subscription_of(SHOWN_AIRLINE)
    )["customer_usage"]
    progress.console.print(show.usage_line(last_day, name, usage), highlight=False)
    send(of_month.filter(on_last_day))
    progress.update(task, description=f"{label}: billing")
    client.set_clock(_midnight(last_day + timedelta(days=1)) + timedelta(hours=1))


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


def _verdict(
    flights: pl.DataFrame, airlines: Mapping[str, str], invoices: list[Found], console: Console
) -> bool:
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
