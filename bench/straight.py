"""The limit of ingest: its rows, made before, inserted straight into the same tables."""

import time
from collections.abc import Callable
from uuid import uuid4

import msgspec

from app.clock import system_now
from app.config import Settings
from app.core.aggregation import Aggregation
from app.logs import configure_logging
from app.metering.events import EventBatchBody, MetricDefinition, Receipt, read_batch
from app.metering.ingest import encode_lines
from app.metering.rows import EventRow, enriched
from app.stores.clickhouse import open_clickhouse
from bench.load import METRICS, blocks, elsewhere, encode, folder

SIZES = (1_000, 10_000, 40_000, 80_000, 160_000, 320_000)
MOST_BLOCKS = 100


class Straight:
    """Rows inserted straight into the store, without HTTP or any check, in blocks of the size that suits that best."""

    def __init__(self, now: int, count: int):
        """`count`: how many are sent to the service, so that both pay for the merges that follow."""
        self._now, self._count = now, count
        self.tried = {size: elsewhere(insert_straight, "lines", size, now, count) for size in SIZES}
        self.best = max(self.tried, key=lambda size: self.tried[size])
        self.turns: dict[str, list[float]] = {form: [] for form in FORMS}

    def insert(self, form: str) -> None:
        """Do it once more."""
        self.turns[form].append(elsewhere(insert_straight, form, self.best, self._now, self._count))


def insert_straight(form: str, size: int, now: int, count: int) -> float:
    """Insert so many rows, or 100 blocks if that is less, of a size a block into the tables of a store of their own. How
    many a second."""
    table, name, write = FORMS[form]
    organization_id, received_at = str(uuid4()), system_now()
    metrics = {
        (organization_id, code): MetricDefinition(Aggregation(aggregation), field)
        for code, aggregation, field in METRICS
    }
    ingested_at = received_at.strftime("%Y-%m-%d %H:%M:%S.%f")
    decode = msgspec.json.Decoder(EventBatchBody).decode
    rows, ready = min(count, MOST_BLOCKS * size), []
    for sent in blocks("straight", now, rows, size):
        given = decode(encode({"events": sent})).events
        events, _ = read_batch(given, size, organization_id, received_at, Receipt(received_at))
        ready.append(write(enriched(events.values(), metrics, ingested_at)))
    settings = Settings()
    configure_logging(settings.log_level)
    with folder() as root:
        store = open_clickhouse("", root, settings.clickhouse_handles)
        store.migrate()
        with store._run("bench") as client:  # noqa: SLF001
            client.raw_insert(table, insert_block=ready[0], fmt=name)
            started = time.perf_counter()
            for lines in ready:
                client.raw_insert(table, insert_block=lines, fmt=name)
            seconds = time.perf_counter() - started
        store.close()
    return rows / seconds


def _named(rows: list[EventRow]) -> bytes:
    return b"\n".join(
        encode(dict(zip(EventRow.__struct_fields__, msgspec.structs.astuple(row), strict=True))) for row in rows
    )


FORMS: dict[str, tuple[str, str, Callable[[list[EventRow]], bytes]]] = {
    "lines": ("event_feed", "JSONCompactEachRow", encode_lines),
    "named": ("event_feed", "JSONEachRow", _named),
    "stored": ("events", "JSONCompactEachRow", encode_lines),
}
"""Ways to insert rows: into all tables as the lines that the service writes, or as objects with the columns' names, and
into `events` alone."""
