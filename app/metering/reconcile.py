"""Reconcile: what an insert and its rollups disagree about after a crash is found and put right (design: reconcile).

The raw table is the truth. A cell is an hour of one subscription and metric. Each function here runs while this process
has no block between its two inserts (`Ingest.quiet`); cells that another process may be writing to are kept out by
`settled_before`: a cell with an event ingested at or after that instant is left for the next time.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import structlog

from app.core.aggregation import Aggregation
from app.metering.rollups import ROLLUPS
from app.metering.windows import HOUR_MS, floor_ms
from app.stores.clickhouse import ClickHouse, Query
from app.stores.files import filled, query_text

log = structlog.get_logger(__name__)

MOST_CELLS = 50_000
Cell = tuple[Any, ...]
"""Organization, external subscription id, code and hour."""
FIRST_HOUR, END_HOUR = 0, 2**31 - 1
"""Hours since 1970 between which every event lies."""


def reconcile_since(clickhouse: ClickHouse, since: datetime, settled_before: datetime, *, thorough: bool = True) -> int:
    """Put right everything that events ingested since an instant have touched; returns the number of cells mended.

    `thorough`: also what only an insert that was cut short can have left, or another process: events that were accepted
    twice, and keys and arrivals that are missing or too many.
    """
    if not clickhouse.rows(Query("any_since", {"since": since})):
        return 0
    mended = 0
    if thorough:
        clickhouse.command(Query("missing_keys", {"since": since}))
        mended = _drop_copies(clickhouse, since)
        surplus = [tuple(row) for row in clickhouse.rows(Query("surplus_arrivals", {"since": since}))]
        if surplus:  # all that are alike go, and one of them comes back
            clickhouse.command(Query("drop_copy_arrivals", {"copies": surplus}))
        clickhouse.command(Query("missing_arrivals", {"since": since}))
    return mended + _mend(clickhouse, "compare_since", {"since": since, "settled_before": settled_before})


def reconcile_metric(
    clickhouse: ClickHouse,
    organization_id: UUID,
    code: str,
    settled_before: datetime,
    hours: tuple[int, int] = (FIRST_HOUR, END_HOUR),
) -> int:
    """Put right the cells of one metric in a stretch of hours since 1970, half-open; without one all of them."""
    first, end = hours
    scope = {"organization_id": organization_id, "code": code, "first_hour": first, "end_hour": end}
    return _mend(clickhouse, "compare_metric", {**scope, "settled_before": settled_before})


def reconcile_cells(clickhouse: ClickHouse, cells: Sequence[Cell]) -> int:
    """Put right these cells, also where the raw table has nothing left in them."""
    return _mend(clickhouse, "compare_cells", {"cells": cells})


def _mend(clickhouse: ClickHouse, comparison: str, parameters: Mapping[str, Any]) -> int:
    wrong: dict[Aggregation, list[tuple[Any, ...]]] = defaultdict(list)
    too_full: dict[Aggregation, list[tuple[Any, ...]]] = defaultdict(list)
    rows = clickhouse.rows(Query(comparison, parameters, {"each_rollup": _each_rollup()}))
    for kind, *cell, least, _most in rows:
        aggregation = Aggregation(kind)
        wrong[aggregation].append(tuple(cell))
        if least < 0 and not ROLLUPS[aggregation].can_shrink:
            too_full[aggregation].append(tuple(cell))
    for aggregation, cells in wrong.items():
        log.warning("reconcile.mended", aggregation=aggregation, cells=len(cells))
        fragments = ROLLUPS[aggregation].fragments
        for part in _batched(too_full[aggregation], MOST_CELLS):
            clickhouse.command(Query("forget", {"cells": part}, fragments))
        for part in _batched(cells, MOST_CELLS):
            clickhouse.command(Query("rebuild", {"cells": part}, fragments))
    return len(rows)


@cache
def _each_rollup() -> str:
    return "".join(filled(query_text("compare_rollup"), rollup.fragments) for rollup in ROLLUPS.values())


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
    mended = reconcile_cells(clickhouse, cells)
    clickhouse.command(Query("drop_copy_arrivals", {"copies": copies}))
    clickhouse.command(Query("drop_copy_keys", {"copies": copies}))
    return mended


def _batched(cells: Sequence[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, len(cells), size):
        yield list(cells[start : start + size])
