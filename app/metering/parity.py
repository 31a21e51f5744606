"""Parity: in how many cells the rollups hold another number of events than the raw table."""

from collections import Counter
from datetime import datetime

from app.core.aggregation import Aggregation
from app.metering.rollups import ROLLUPS
from app.metering.windows import floor_ms
from app.stores.clickhouse import ClickHouse, Query
from app.stores.files import filled, query_text

BLOCK_HOURS = 30 * 24
"""What is compared with one query, so that neither its time nor its memory grows with the years."""


def count_differences(clickhouse: ClickHouse, settled_before: datetime) -> dict[Aggregation, int]:
    """How many cells (hours of a subscription and metric) differ, by aggregation; those that do not are left out.

    Cells with an event ingested at or after `settled_before` may be between their two inserts and are not looked at.
    """
    cells: Counter[Aggregation] = Counter()
    for (block,) in clickhouse.rows(_query("parity_blocks", "parity_rollup_hours", block=BLOCK_HOURS)):
        compared = _query(
            "parity",
            "parity_rollup",
            from_hour=block * BLOCK_HOURS,
            end_hour=(block + 1) * BLOCK_HOURS,
            settled_before_us=floor_ms(settled_before) * 1_000,
        )
        for aggregation, number in clickhouse.rows(compared):
            cells[Aggregation(aggregation)] += number
    return dict(cells)


def _query(name: str, of_each: str, **parameters: int) -> Query:
    """A query with a part for each rollup."""
    parts = "".join(filled(query_text(of_each), rollup.fragments) for rollup in ROLLUPS.values())
    return Query(name, parameters, {"each_rollup": parts})
