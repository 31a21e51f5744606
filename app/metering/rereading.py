"""Reading stored events anew, because their metric has appeared, changed or gone, or splits its usage by more keys."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from app.metering.evaluation import evaluated_or_kept
from app.metering.events import MetricDefinition
from app.metering.ingest import encode_lines
from app.metering.reconcile import reconcile_metric
from app.metering.rollups import ROLLUPS
from app.metering.rows import enriched
from app.metering.stored import event_of
from app.models import BillableMetric
from app.stores.clickhouse import ClickHouse, Query
from app.stores.postgres import Postgres

CHUNK = 20_000
STRETCH_HOURS = 31 * 24
"""How many hours of a metric are made anew at a time: events are not taken in meanwhile."""

MetricKey = tuple[UUID, str]
"""An organization and an event code."""


def pending_readings(postgres: Postgres) -> list[MetricKey]:
    """The metrics whose events have yet to be read anew, or to be deleted."""
    living = BillableMetric.backfill_pending & BillableMetric.deleted_at.is_(None)
    return _keys(postgres, living | BillableMetric.events_to_delete.is_not(None))


def pending_dimensions(postgres: Postgres) -> list[MetricKey]:
    """The metrics whose usage has yet to be split by their keys."""
    return _keys(postgres, BillableMetric.dimensions_pending & BillableMetric.deleted_at.is_(None))


def read_anew(
    postgres: Postgres, clickhouse: ClickHouse, organization_id: UUID, code: str, settled_before: datetime
) -> None:
    """Bring a code's stored events in line with its metric as it is now. Safe to interrupt and to repeat."""
    _delete_events(postgres, clickhouse, organization_id, code)
    metric = _metric(postgres, organization_id, code)
    if metric is not None and not metric.backfill_pending:
        return
    scope = {"organization_id": organization_id, "code": code}
    read, unread = clickhouse.rows(Query("metric_events", scope))[0]
    if read:
        clickhouse.command(Query("unread_metric", scope))
        _clear(clickhouse, scope)
    if metric is None:
        return
    if read or unread:
        definition = MetricDefinition.of(
            metric.aggregation_type, metric.field_name, metric.expression, metric.dimension_keys
        )
        _backfill(clickhouse, definition, scope)
        reconcile_metric(clickhouse, organization_id, code, settled_before)
    with postgres.session() as db:
        db.execute(
            update(BillableMetric)
            .where(BillableMetric.id == metric.id, BillableMetric.updated_at == metric.updated_at)
            .values(backfill_pending=False)
        )


def split_anew(postgres: Postgres, clickhouse: ClickHouse, organization_id: UUID, code: str) -> "Splitting | None":
    """Begin to split a metric's stored usage by its dimension keys: its events are, its rollup is emptied."""
    metric = _metric(postgres, organization_id, code)
    if metric is None or not metric.dimensions_pending:
        return None
    scope = {"organization_id": organization_id, "code": code}
    stretches = []
    # Mostly keys are there before the first event. Events that come from now on are split by them already.
    if clickhouse.rows(Query("metric_events", scope))[0][0]:
        clickhouse.command(Query("redimension", {**scope, "keys": metric.dimension_keys}))
        _clear(clickhouse, scope)
        first, last = clickhouse.rows(Query("metric_hours", scope))[0]
        stretches = [(hour, hour + STRETCH_HOURS) for hour in range(first, last + 1, STRETCH_HOURS)]
    return Splitting(postgres, metric.id, metric.dimension_keys, stretches)


@dataclass(frozen=True, slots=True)
class Splitting:
    """A rollup that has been emptied, to be filled again by reconciling the metric stretch by stretch."""

    postgres: Postgres
    metric_id: UUID
    keys: list[str]
    stretches: list[tuple[int, int]]

    def finish(self) -> bool:
        """Note that all stretches are filled; False when the keys have grown meanwhile, and it is to be done again."""
        with self.postgres.session() as db:
            metric = db.get(BillableMetric, self.metric_id, with_for_update=True)
            if metric is not None and not set(metric.dimension_keys) <= set(self.keys):
                return False
            if metric is not None:
                metric.dimensions_pending = False
        return True


def _delete_events(postgres: Postgres, clickhouse: ClickHouse, organization_id: UUID, code: str) -> None:
    """Delete what deleted metrics of this code leave behind (metering spec 6.5)."""
    with postgres.session() as db:
        gone = db.scalars(
            select(BillableMetric).where(
                BillableMetric.organization_id == organization_id,
                BillableMetric.code == code,
                BillableMetric.events_to_delete.is_not(None),
            )
        ).all()
        for metric in gone:
            what = metric.events_to_delete or {}
            scope = {
                "organization_id": organization_id,
                "code": code,
                "subscriptions": what["subscriptions"],
                "before": datetime.fromisoformat(what["before"]),
            }
            for table in ("event_keys", "event_arrivals", "events"):
                clickhouse.command(Query("delete_events", scope, {"table": table}))
            metric.events_to_delete = None


def _clear(clickhouse: ClickHouse, scope: dict[str, Any]) -> None:
    for rollup in ROLLUPS.values():
        clickhouse.command(Query("clear_metric", scope, rollup.fragments))


def _backfill(clickhouse: ClickHouse, metric: MetricDefinition, scope: dict[str, Any]) -> None:
    """Write kept events again as the metric reads them. The rollups follow by reconciling the metric."""
    clickhouse.command(Query("drop_unread", scope))
    while rows := clickhouse.rows(Query("unread_events", {**scope, "limit": CHUNK})):
        events = [evaluated_or_kept(event_of(row), metric) for row in rows]
        anew = enriched(events, {(str(scope["organization_id"]), scope["code"]): metric}, "")
        for row, event in zip(anew, events, strict=True):
            row.ingested_at = event.received_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        clickhouse.insert_lines("events", encode_lines(anew))
        clickhouse.command(Query("drop_unread", scope))


def _metric(postgres: Postgres, organization_id: UUID, code: str) -> BillableMetric | None:
    with postgres.session() as db:
        return db.scalar(
            select(BillableMetric).where(
                BillableMetric.organization_id == organization_id,
                BillableMetric.code == code,
                BillableMetric.deleted_at.is_(None),
            )
        )


def _keys(postgres: Postgres, condition: Any) -> list[MetricKey]:
    with postgres.session() as db:
        rows = db.execute(select(BillableMetric.organization_id, BillableMetric.code).where(condition).distinct())
        return [(organization_id, code) for organization_id, code in rows]
