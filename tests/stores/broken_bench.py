"""What the cases of `broken_rollups` are made with: an organization of a running service, and what it should count."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.clock import system_now
from app.core.aggregation import Aggregation, Sample, WeighedSpan, aggregate
from app.metering.events import Event, MetricDefinition, Receipt
from app.metering.ingest import encode_lines
from app.metering.listing import EventFilter, list_events
from app.metering.rows import EventRow, enriched
from app.metering.usage import NOTHING
from app.metering.windows import floor_ms, window
from app.service import Service

METRICS = {
    "calls": Aggregation.COUNT, "bytes": Aggregation.SUM, "peak": Aggregation.MAX, "users": Aggregation.UNIQUE_COUNT,
    "level": Aggregation.LATEST, "disk": Aggregation.WEIGHTED_SUM,
}  # fmt: skip
FROM, TO = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, 23, 59, 59, 999_000, tzinfo=UTC)
WEIGHTED = {Aggregation.WEIGHTED_SUM: {"weighted_interval": "seconds"}}
SPAN = WeighedSpan.of(floor_ms(FROM), floor_ms(TO) + 1, 31)
NOON = 1_715_342_400_000
HOUR = 3_600_000

Counted = dict[str, list[str | int]]


class Bench:
    """One organization of a running service; each case has a subscription of its own."""

    def __init__(self, service: Service, organization: UUID):
        self.service = service
        self.organization = organization
        self.results: dict[str, Any] = {}

    def event(self, case: str, code: str, number: int, shift: int = 0, **properties: str) -> Event:
        """An event whose values come from its number."""
        given = {"value": f"{number % 7}.5" if code != "users" else f"user{number % 5}", **properties}
        if code == "users" and number % 3 == 0:
            given.setdefault("operation_type", "remove")
        key = (str(self.organization), case, f"{code}-{number}")
        at = NOON + number * 1_000_000 + shift
        return Event(key, code, at, True, given, given, None, Receipt(system_now()))

    def events(self, case: str, count: int = 40, start: int = 0) -> list[Event]:
        return [self.event(case, code, number) for code in METRICS for number in range(start, start + count)]

    def rows(self, events: Sequence[Event]) -> list[EventRow]:
        now = system_now().strftime("%Y-%m-%d %H:%M:%S.%f")
        metrics = {
            (str(self.organization), code): MetricDefinition(aggregation, None if code == "calls" else "value")
            for code, aggregation in METRICS.items()
        }
        return enriched(events, metrics, now)

    def insert(self, table: str, events: Sequence[Event]) -> None:
        """Write events to one table only, past ingest."""
        self.service.clickhouse.insert_lines(table, encode_lines(self.rows(events)))

    async def accept(self, events: list[Event]) -> None:
        await self.service.ingest.accept(events, batch=True)
        await self.service.ingest.settled()

    def counted(self, case: str, measure: Callable[..., Any] | None = None) -> Counted:
        """What the service makes of a case's events."""
        windows = [
            window(self.organization, case, code, kind, FROM, TO, period_days=31) for code, kind in METRICS.items()
        ]
        units = (measure or self.service.meter.usage)(windows)
        return {
            code: [format(one.units.normalize(), "f"), one.events_count]
            for code, buckets in zip(METRICS, units, strict=True)
            for one in [buckets.get((), NOTHING)]
        }

    async def reconcile(self) -> int:
        """Put right what is wrong, as a start after a crash does."""
        self.service.upkeep._compared = None
        return await self.service.upkeep.reconcile()

    @staticmethod
    def right(events: Sequence[Event]) -> Counted:
        """What they should come to."""
        answer: Counted = {}
        for code, kind in METRICS.items():
            samples = [
                Sample(
                    one.timestamp_ms,
                    one.key[2],
                    Decimal(0) if code == "users" else Decimal(one.properties["value"]),
                    one.properties["value"],
                    one.properties.get("operation_type", "add"),
                )
                for one in events
                if one.code == code
            ]
            units = aggregate(kind, samples, SPAN)
            answer[code] = [format(units.units.normalize(), "f"), units.events_count]
        return answer

    def stored(self, case: str) -> int:
        """How many events of a case there are."""
        wanted = EventFilter(self.organization, case)
        return list_events(self.service.clickhouse, wanted, limit=1, offset=0)[1]

    def listed(self, case: str) -> int:
        """How many events of a case a list in the order of arrival gives, page by page."""
        wanted, seen = EventFilter(self.organization, case), set()
        for offset in range(0, 500, 100):
            page, _ = list_events(self.service.clickhouse, wanted, limit=100, offset=offset)
            seen |= {(one.key, one.received_at) for one in page}
        return len(seen)

    @staticmethod
    def came(events: Sequence[Event]) -> list[str]:
        """When these events came."""
        return [str(one.received_at) for one in events]

    def note(self, case: str, events: Sequence[Event], **more: Any) -> None:
        """Keep what was counted beside what should have been."""
        got, wanted = (
            {"usage": self.counted(case), "stored": self.stored(case), "listed": self.listed(case)},
            {"usage": self.right(events), "stored": len(events), "listed": len(events)},
        )
        for name, (seen, expected) in more.items():
            got[name], wanted[name] = seen, expected
        self.results[case] = [got, wanted]
