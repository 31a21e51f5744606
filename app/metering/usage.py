"""Usage: the units of many windows at once, one query per aggregation type whatever their number."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from app.core.aggregation import Aggregation, Units
from app.metering.windows import Window
from app.stores.clickhouse import ClickHouse, Query

NOTHING = Units(Decimal(0), 0)

_threads = ThreadPoolExecutor(4, thread_name_prefix="usage")


def measure(clickhouse: ClickHouse, windows: Sequence[Window]) -> list[Units]:
    """The units and the number of events of each window, in the windows' order (metering spec 2.4). Unrounded."""
    by_aggregation: dict[Aggregation, list[int]] = defaultdict(list)
    for index, one in enumerate(windows):
        if one.from_ms < one.end_ms:
            by_aggregation[one.aggregation].append(index)
    units = [NOTHING] * len(windows)
    queries = [_query(aggregation, windows, indexes) for aggregation, indexes in by_aggregation.items()]
    answers = _threads.map(clickhouse.rows, queries) if len(queries) > 1 else map(clickhouse.rows, queries)
    for rows in answers:
        for index, events_count, amount in rows:
            units[index] = Units(amount, events_count)
    return units


def _query(aggregation: Aggregation, windows: Sequence[Window], indexes: Sequence[int]) -> Query:
    scope = [(index, windows[index]) for index in indexes]
    whole = [
        (index, w.organization_id, w.external_subscription_id, w.code, *w.hours) for index, w in scope if any(w.hours)
    ]
    edges = [
        (index, w.organization_id, w.external_subscription_id, w.code, *edge) for index, w in scope for edge in w.edges
    ]
    return Query(
        f"usage_{aggregation}",
        {
            "windows": whole,
            "edges": edges,
            "first_hour": min((one[4] for one in whole), default=0),
            "end_hour": max((one[5] for one in whole), default=0),
            "first_ms": min((one[4] for one in edges), default=0),
            "end_ms": max((one[5] for one in edges), default=0),
        },
    )
