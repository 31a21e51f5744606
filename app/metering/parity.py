"""Parity: in which cells (hours of a subscription and metric) the rollups hold other numbers of events than there are.

Reconciling looks at what was ingested since it last did; this looks at everything, a block of hours at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from app.core.aggregation import Aggregation
from app.metering.reconcile import MOST_CELLS, Cell
from app.metering.rollups import ROLLUPS
from app.metering.windows import floor_ms
from app.stores.clickhouse import ClickHouse, Query
from app.stores.files import filled, query_text

BLOCK_HOURS = 30 * 24
"""What is compared with one query, so that neither its time nor its memory grows with the years."""


def count_differences(clickhouse: ClickHouse, settled_before: datetime) -> dict[Aggregation, int]:
    """How many cells differ, by aggregation; those that do not are left out.

    Cells with an event ingested at or after `settled_before` may be between their two inserts and are not looked at.
    """
    cells: Counter[Aggregation] = Counter()
    for scope in _blocks(clickhouse, settled_before):
        for aggregation, number in clickhouse.rows(_query("parity", scope)):
            cells[Aggregation(aggregation)] += number
    return dict(cells)


def differing_cells(clickhouse: ClickHouse, settled_before: datetime) -> Iterator[list[Cell]]:
    """These cells, in parts of at most `MOST_CELLS`. Each part is to be mended before the next is asked for."""
    for scope in _blocks(clickhouse, settled_before):
        left = sum(row[1] for row in clickhouse.rows(_query("parity", scope)))
        while left > 0:
            cells = [tuple(row) for row in clickhouse.rows(_query("parity_cells", {**scope, "limit": MOST_CELLS}))]
            if not cells:
                break
            yield cells
            left -= len(cells)


def _blocks(clickhouse: ClickHouse, settled_before: datetime) -> Iterator[dict[str, int]]:
    parts = {"each_rollup": _each_rollup("parity_rollup_hours")}
    for (block,) in clickhouse.rows(Query("parity_blocks", {"block": BLOCK_HOURS}, parts)):
        yield {
            "from_hour": block * BLOCK_HOURS,
            "end_hour": (block + 1) * BLOCK_HOURS,
            "settled_before_us": floor_ms(settled_before) * 1_000,
        }


def _query(name: str, parameters: Mapping[str, int]) -> Query:
    return Query(name, parameters, {"each_rollup": _each_rollup("parity_rollup")})


def _each_rollup(part: str) -> str:
    return "".join(filled(query_text(part), rollup.fragments) for rollup in ROLLUPS.values())
