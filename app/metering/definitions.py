"""Which metric reads the events of a code, remembered so that ingest asks PostgreSQL once per code."""

import time
from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import select, tuple_

from app.metering.events import MetricDefinition
from app.models import BillableMetric
from app.stores.postgres import Postgres

REMEMBER_SECONDS = 5.0
MOST_CODES = 50_000

CodeKey = tuple[str, str]
"""An organization's id and an event code."""

Metrics = Mapping[CodeKey, MetricDefinition | None]
"""How events are read, by their codes; None for a code that has no metric."""


class Definitions:
    """Metric definitions by (organization, code); that a code has no metric is remembered too.

    A change made by this process is told at once (`forget`). One made by another process is seen after
    `REMEMBER_SECONDS`; events read with an old definition until then are put right by the metric's back-fill.
    """

    def __init__(self, postgres: Postgres):
        self._postgres = postgres
        self._known: dict[CodeKey, tuple[float, MetricDefinition | None]] = {}
        self._changes = 0

    def unknown(self, keys: Iterable[CodeKey]) -> list[CodeKey]:
        """Those of the keys that have to be loaded."""
        if len(self._known) > MOST_CODES:
            self._known.clear()
        now = time.monotonic()
        return [key for key in keys if (known := self._known.get(key)) is None or known[0] < now]

    def load(self, keys: list[CodeKey]) -> None:
        """Ask PostgreSQL for these keys, in one query."""
        changes = self._changes
        wanted = [(UUID(organization), code) for organization, code in keys if "\x00" not in code]
        found: dict[CodeKey, MetricDefinition] = {}
        if wanted:
            with self._postgres.session() as db:
                rows = db.execute(
                    select(
                        BillableMetric.organization_id,
                        BillableMetric.code,
                        BillableMetric.aggregation_type,
                        BillableMetric.field_name,
                        BillableMetric.expression,
                        BillableMetric.dimension_keys,
                    ).where(
                        BillableMetric.deleted_at.is_(None),
                        tuple_(BillableMetric.organization_id, BillableMetric.code).in_(wanted),
                    )
                )
                for organization, code, aggregation, field_name, expression, dimension_keys in rows:
                    metric = MetricDefinition.of(aggregation, field_name, expression, dimension_keys)
                    found[str(organization), code] = metric
        # What was read while something changed may be old already: it serves this block and is then read again.
        until = time.monotonic() + REMEMBER_SECONDS if changes == self._changes else 0.0
        for key in keys:
            self._known[key] = (until, found.get(key))

    def of(self, keys: Iterable[CodeKey]) -> Metrics:
        """The definitions of keys that have been loaded."""
        return {key: self._known[key][1] for key in keys}

    def forget(self, organization_id: UUID, code: str) -> None:
        """A metric has changed: load it anew for the next block. One that is being made keeps what it has loaded."""
        self._changes += 1
        known = self._known.get((str(organization_id), code))
        if known is not None:
            self._known[str(organization_id), code] = (0.0, known[1])


def with_expression(metrics: Metrics) -> dict[CodeKey, MetricDefinition]:
    """Those whose events have an expression to evaluate."""
    return {key: metric for key, metric in metrics.items() if metric is not None and metric.expression is not None}
