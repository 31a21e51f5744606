"""Simulating a plan's draft against a month of very many subscriptions, beside its limit: measuring the usage alone.

    python -m bench.simulate
    python -m bench.simulate --subscriptions 10000 --events 6000000 --data-dir /path/to/keep

A year of events on 4 metrics is written past HTTP; the month simulated is November. The draft has another subscription fee,
changes one charge's price, groups one by a property that its metric's usage is not split by, so that it is read from the
raw events, and leaves two charges as they are. The goal: 10 s. The limit is the same usage, measured in the same queries
without pricing anything.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select

from app.billing.simulation import Simulation, simulate
from app.config import Settings
from app.logs import configure_logging
from app.metering.meter import Meter
from app.metering.usage import Events, Usage
from app.metering.windows import Window
from app.models import Charge
from app.running import calm_garbage_collection
from app.service import Service, open_service
from bench.load import counted, elsewhere, end_well_when_told, folder, verdict
from bench.year import NOW, Account, Year, fill, open_account

SUBSCRIPTIONS = 10_000
EVENTS = 4_000_000
NOVEMBER = date(2024, 11, 15)
GOAL_SECONDS = 10
TIERS = [
    {"from_value": 0, "to_value": 500, "per_unit_amount": "0.002", "flat_amount": "0"},
    {"from_value": 501, "to_value": None, "per_unit_amount": "0.0015", "flat_amount": "1"},
]


@dataclass(slots=True)
class CountingMeter:
    """A meter that notes what it was asked, how long that took, and how many queries it made."""

    service: Service
    windows: list[Sequence[Window]] = field(default_factory=list)
    seconds: float = 0
    queries: int = 0

    def usage(self, windows: Sequence[Window]) -> list[Usage]:
        """As a meter."""
        self.windows.append(windows)
        found: list[Usage] = self._timed("usage", windows)
        return found

    def events(self, windows: Sequence[Window]) -> list[Events]:
        """As a meter."""
        found: list[Events] = self._timed("events", windows)
        return found

    def _timed(self, what: str, windows: Sequence[Window]) -> Any:
        began = time.perf_counter()
        with counted(self.service) as queries:
            found = getattr(self.service.meter, what)(windows)
        self.seconds += time.perf_counter() - began
        self.queries += queries.total()
        return found


def main() -> None:
    """Fill, simulate and print."""
    end_well_when_told()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--subscriptions", type=int, default=SUBSCRIPTIONS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    with nullcontext(given.data_dir) if given.data_dir else folder() as root:
        open_account(root)
        elsewhere(fill, root, Year(given.events, given.subscriptions))
        elsewhere(measure, root, given.subscriptions, given.events)


def measure(root: Path, subscriptions: int, events: int) -> None:
    """Simulate twice, the first time to warm up, and print."""
    configure_logging("error")
    calm_garbage_collection()  # as a server does
    service = open_service(Settings(data_dir=root / "data"))
    try:
        run(service, Account.of(root))
        found, seconds, meter = run(service, Account.of(root))
        began = time.perf_counter()
        for windows in meter.windows:
            service.meter.usage(windows)
        alone = time.perf_counter() - began
    finally:
        service.close()
    month = events * 30 // 365
    print(f"A draft against November of {subscriptions:,} subscriptions, about {month:,} events in it, on 2 cores")
    print(f"  revenue {found.total.before / 100:,.2f} -> {found.total.after / 100:,.2f} {found.currency}")
    print(
        f"  {sum(map(len, meter.windows)):,} windows in {meter.queries} queries, of {found.subscriptions:,} subscriptions"
    )
    print(f"  simulated  {seconds:6.2f} s, of which measuring {meter.seconds:.2f} s")
    print(f"  limit      {alone:6.2f} s for measuring alone; ratio {alone / seconds:.2f}")
    print(f"  goal < {GOAL_SECONDS} s: {verdict(seconds < GOAL_SECONDS)}")


def run(service: Service, account: Account) -> tuple[Simulation, float, CountingMeter]:
    """Simulate once."""
    meter = CountingMeter(service)
    metered = cast("Meter", meter)
    with service.postgres.session() as db:
        owned = select(Charge).where(Charge.organization_id == account.organization_id)
        charges = {one.code: one for one in db.scalars(owned)}

        def charge(code: str, **more: Any) -> dict[str, Any]:
            one = charges[code]
            kept = {"id": str(one.id), "code": code, "billable_metric_id": str(one.billable_metric_id)}
            return {**kept, "charge_model": "standard", "properties": one.properties, **more}

        draft = {
            "amount_cents": 1_200,
            "charges": [
                charge("requests"),
                charge("bytes", charge_model="graduated", properties={"graduated_ranges": TIERS}),
                charge("peak", properties={"amount": "0.002", "pricing_group_keys": ["region"]}),
                charge("users"),
            ],
        }
        began = time.perf_counter()
        found = simulate(
            db,
            service.postgres,
            metered,
            account.organization_id,
            "bench",
            draft,
            None,
            NOVEMBER,
            NOW,
        )
        return found, time.perf_counter() - began, meter


if __name__ == "__main__":
    main()
