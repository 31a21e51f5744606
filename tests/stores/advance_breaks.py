"""Breaks a service while events are billed one by one, and prints which of them have fees in the end.

Run as `python -m tests.stores.advance_breaks DATA_DIR`: the embedded engine allows one data directory in a process. The
answer is a JSON object: for each case the transaction ids of the fees that there are, and what they should be.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.billing.advance_billing import AdvanceBilling
from app.catalog.metrics import create_metric
from app.catalog.plans import create_plan
from app.clock import system_now
from app.config import Settings
from app.core.values import replace
from app.customers.organizations import create_organization
from app.customers.subscriptions import create_subscription
from app.errors import StoreDown
from app.metering.events import Event, MetricDefinition, Receipt
from app.metering.ingest import encode_lines
from app.metering.rows import enriched
from app.models import AdvanceMark, Fee, Organization
from app.service import Service, open_service

CALLS = MetricDefinition.of("count_agg", None, None, [])


class Case:
    """An organization of a running service with a charge paid in advance, and a subscription for each case."""

    def __init__(self, service: Service, organization_id: UUID):
        self.service = service
        self.organization_id = organization_id
        self.results: dict[str, Any] = {}

    def event(self, transaction: str) -> Event:
        now = system_now()
        key = (str(self.organization_id), "sub", transaction)
        return Event(key, "calls", int(now.timestamp() * 1000), True, {}, {}, None, Receipt(now))

    async def send(self, transaction: str) -> None:
        await self.service.ingest.accept([self.event(transaction)], batch=False)

    def write_past_ingest(self, transaction: str, at: datetime) -> None:
        """What another process ingested at an instant."""
        event = self.event(transaction)
        metrics = {(event.key[0], event.code): CALLS}
        lines = encode_lines(enriched([event], metrics, at.strftime("%Y-%m-%d %H:%M:%S.%f")))
        for table in ("events", "rollup_feed"):
            self.service.clickhouse.insert_lines(table, lines)

    async def read(self) -> None:
        await asyncio.to_thread(self.service.wait_until_readable, self.organization_id)

    def fees(self, prefix: str) -> list[str]:
        with self.service.postgres.session() as db:
            found = db.scalars(select(Fee.event_transaction_id).where(Fee.event_id.is_not(None))).all()
        return sorted(one for one in found if one and one.startswith(prefix))

    def note(self, name: str, wanted: list[str]) -> None:
        self.results[name] = [self.fees(f"{name}-"), sorted(wanted)]


async def failed_trip(case: Case) -> None:
    """A trip of events to the store fails: those that come after them are not billed first, and none is forgotten."""
    service, clickhouse = case.service, case.service.clickhouse
    insert = clickhouse.insert_file
    clickhouse.insert_file = _away  # type: ignore[method-assign]
    await case.send("failed-1")
    await service.ingest.settled()
    try:
        await case.read()
        case.results["failed, read"] = ["answered", "refused"]
    except StoreDown:
        case.results["failed, read"] = ["refused", "refused"]
    clickhouse.insert_file = insert  # type: ignore[method-assign]
    await case.send("failed-2")
    await service.upkeep.reconcile()
    await case.read()
    case.note("failed", ["failed-1", "failed-2"])


def _away(*_: object) -> None:
    raise StoreDown("clickhouse")


async def clock_set_back(case: Case) -> None:
    """The mark lies ahead of the system's clock: what comes now is billed all the same."""
    with case.service.postgres.session() as db:
        db.get_one(AdvanceMark, case.organization_id).billed_until = ahead = system_now() + timedelta(hours=1)
    case.service.ingest.stamp_after(ahead)
    await case.send("back-1")
    await case.read()
    await case.send("back-2")
    await case.read()
    case.note("back", ["back-1", "back-2"])


async def seen_late(case: Case) -> None:
    """Several processes share the stores: an event that is seen after later ones is billed, and the others once."""
    service = case.service
    mark = await asyncio.to_thread(_mark, case)
    service.clickhouse.embedded = False
    billing = AdvanceBilling(service.postgres, service.clickhouse, service.meter, service.price_book)
    for shift, name in ((2, "late-2"), (-30, "late-1"), (-600, "late-0")):
        case.write_past_ingest(name, mark + timedelta(seconds=shift))
        await asyncio.to_thread(billing.bill, case.organization_id)
        await asyncio.to_thread(billing.bill, case.organization_id)
    case.results["late, at once"] = [case.fees("late-"), ["late-1", "late-2"]]
    busy = await asyncio.to_thread(billing.busy)
    case.results["late, busy"] = [[one == case.organization_id for one in busy], [True]]
    await asyncio.to_thread(service.advance.sweep)
    case.note("late", ["late-0", "late-1", "late-2"])
    service.clickhouse.embedded = True


def _mark(case: Case) -> datetime:
    with case.service.postgres.session() as db:
        return db.get_one(AdvanceMark, case.organization_id).billed_until


def _set_up(service: Service) -> UUID:
    now = datetime.now(UTC)
    with service.postgres.session() as db:
        organization, _ = create_organization(db, name="Ahead", now=now)
        metric = create_metric(
            db, organization.id, {"name": "c", "code": "calls", "aggregation_type": "count_agg"}, now
        )
        charge = {"billable_metric_id": str(metric.id), "charge_model": "standard", "pay_in_advance": True}
        plan = {"name": "p", "code": "p", "interval": "yearly", "amount_cents": 0, "amount_currency": "EUR",
                "pay_in_advance": False, "charges": [{**charge, "properties": {"amount": "1"}}]}  # fmt: skip
        create_plan(db, organization.id, plan, now)
        organization_id = organization.id
    with service.postgres.session() as db:
        organization = db.get_one(Organization, organization_id)
        sent = {"external_id": "sub", "external_customer_id": "c", "plan_code": "p", "subscription_at": now - YEAR}
        create_subscription(db, organization, sent, now, service.billing_meter)
    return organization_id


YEAR = timedelta(days=365)


async def main(data_dir: Path) -> dict[str, Any]:
    """Every case, one after the other, in one service."""
    settings = replace(Settings(), data_dir=data_dir, reconcile_seconds=3_600)
    service = open_service(settings)
    try:
        organization_id = await asyncio.to_thread(_set_up, service)
        await service.start()
        case = Case(service, organization_id)
        for one in (failed_trip, clock_set_back, seen_late):
            await one(case)
        await service.stop()
        return case.results
    finally:
        service.close()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
