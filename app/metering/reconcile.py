"""Reconcile: what an insert and its rollups disagree about after a crash is found and put right (design: reconcile).

The raw table is the truth. A cell is an hour of one subscription and metric. Each function here runs while this process
has no block between its two inserts (`Ingest.quiet`); cells that another process may be writing to are kept out by
`settled_before`: a cell with an event ingested at or after that instant is left for the next time.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.core.aggregation import SUPPORTED, Aggregation
from app.metering.windows import HOUR_MS, Window, floor_ms
from app.stores.clickhouse import ClickHouse, Query

log = structlog.get_logger(__name__)

CANNOT_SHRINK = (Aggregation.MAX, Aggregation.UNIQUE_COUNT)
"""Rollups that cannot be lowered by adding a row; their cells are emptied first when they hold too much."""

MOST_CELLS = 50_000


def reconcile_since(clickhouse: ClickHouse, since: datetime, settled_before: datetime) -> int:
    """Put right everything that events ingested since an instant have touched; returns the number of cells mended."""
    mended = _drop_copies(clickhouse, since)
    clickhouse.command(Query("missing_keys", {"since": since}))
    return mended + _mend(clickhouse, Query("compare_since", {"since": since, "settled_before": settled_before}))


def reconcile_windows(clickhouse: ClickHouse, windows: Sequence[Window], settled_before: datetime) -> int:
    """Put right the cells of usage windows that are about to be billed."""
    if not windows:
        return 0
    spans = [(w.organization_id, w.external_subscription_id, w.code, *w.hours_touched) for w in windows]
    return _mend(
        clickhouse,
        Query(
            "compare_windows",
            {
                "windows": spans,
                "settled_before": settled_before,
                "first_hour": min(span[3] for span in spans),
                "end_hour": max(span[4] for span in spans),
            },
        ),
    )


def reconcile_metric(clickhouse: ClickHouse, organization_id: UUID, code: str, settled_before: datetime) -> int:
    """Put right all cells of one metric."""
    scope = {"organization_id": organization_id, "code": code, "settled_before": settled_before}
    return _mend(clickhouse, Query("compare_metric", scope))


def _mend(clickhouse: ClickHouse, comparison: Query) -> int:
    by_kind: dict[Aggregation, list[tuple[Any, ...]]] = defaultdict(list)
    too_full: dict[Aggregation, list[tuple[Any, ...]]] = defaultdict(list)
    rows = clickhouse.rows(comparison)
    for kind, *cell, missing in rows:
        aggregation = Aggregation(kind)
        by_kind[aggregation].append(tuple(cell))
        if missing < 0 and aggregation in CANNOT_SHRINK:
            too_full[aggregation].append(tuple(cell))
    for aggregation in SUPPORTED & by_kind.keys():
        cells = by_kind[aggregation]
        log.warning("reconcile.mended", aggregation=aggregation, cells=len(cells))
        for start in range(0, len(cells), MOST_CELLS):
            part = cells[start : start + MOST_CELLS]
            if too_full[aggregation]:
                clickhouse.command(Query(f"forget_{aggregation}", {"cells": too_full.pop(aggregation)}))
            clickhouse.command(Query(f"rebuild_{aggregation}", {"cells": part}))
    return len(rows)


def _drop_copies(clickhouse: ClickHouse, since: datetime) -> int:
    """Keep the first of several events with one key, which two processes may have accepted within milliseconds.

    Their keys go last: as long as they are there, an interrupted run finds the copies again and mends their cells.
    """
    copies = [tuple(row) for row in clickhouse.rows(Query("duplicates", {"since": since}))]
    if not copies:
        return 0
    log.warning("reconcile.copies", copies=len(copies))
    clickhouse.command(Query("drop_copies", {"copies": copies}))
    cells = sorted({(one[0], one[1], one[2], floor_ms(one[3]) // HOUR_MS) for one in copies})
    mended = _mend(clickhouse, Query("compare_cells", {"cells": cells}))
    clickhouse.command(Query("drop_copy_keys", {"copies": copies}))
    return mended
