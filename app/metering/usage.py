"""Usage: the units of many windows at once, one query per aggregation type whatever their number."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from app.core.aggregation import Aggregation, Units
from app.metering.windows import HOUR_MS, Window
from app.stores.clickhouse import ClickHouse, Query

NOTHING = Units(Decimal(0), 0)

Kinds = dict[Aggregation, list[int]]
"""Positions of windows, by aggregation type."""

_threads = ThreadPoolExecutor(4, thread_name_prefix="usage")


def measure(clickhouse: ClickHouse, windows: Sequence[Window]) -> list[Units]:
    """The units and the number of events of each window, in the windows' order (metering spec 2.4). Unrounded."""
    kinds: Kinds = defaultdict(list)
    for index, one in enumerate(windows):
        if one.from_ms < one.end_ms:
            kinds[one.aggregation].append(index)
    units = [NOTHING] * len(windows)
    for aggregation, rows in _answers(clickhouse, windows, kinds):
        for index in kinds[aggregation]:
            units[index] = rows.get(index, NOTHING)
    return units


def _answers(
    clickhouse: ClickHouse, windows: Sequence[Window], kinds: Kinds
) -> list[tuple[Aggregation, dict[int, Units]]]:
    """Each aggregation's units by position; the aggregations are asked for at the same time."""
    spans = {(w.organization_id, w.external_subscription_id, w.from_ms, w.end_ms) for w in windows}
    ask = _of_one_subscription if len(spans) == 1 else _of_many

    def answer(aggregation: Aggregation) -> tuple[Aggregation, dict[int, Units]]:
        return aggregation, ask(clickhouse, aggregation, windows, kinds[aggregation])

    return list(_threads.map(answer, kinds)) if len(kinds) > 1 else [answer(one) for one in kinds]


def _of_one_subscription(
    clickhouse: ClickHouse, aggregation: Aggregation, windows: Sequence[Window], indexes: Sequence[int]
) -> dict[int, Units]:
    """The windows of one subscription over one span of time: a look-up by key, without the joins that many need."""
    span = windows[indexes[0]]
    first, end = span.hours
    parameters: dict[str, Any] = {
        "organization_id": span.organization_id,
        "external_subscription_id": span.external_subscription_id,
        "codes": sorted({windows[index].code for index in indexes}),
        "from_hour": first,
        "end_hour": end,
    }
    name = f"subscription_{aggregation}_hours"
    if span.edges:
        name = f"subscription_{aggregation}"
        whole = any(span.hours)
        parameters |= {
            "from_ms": span.from_ms,
            "before_hours_ms": first * HOUR_MS if whole else span.end_ms,
            "after_hours_ms": end * HOUR_MS if whole else span.end_ms,
            "end_ms": span.end_ms,
        }
    by_code = {code: Units(amount, count) for code, count, amount in clickhouse.rows(Query(name, parameters))}
    return {index: by_code[code] for index in indexes if (code := windows[index].code) in by_code}


def _of_many(
    clickhouse: ClickHouse, aggregation: Aggregation, windows: Sequence[Window], indexes: Sequence[int]
) -> dict[int, Units]:
    """The windows of any number of subscriptions, sent to the store as a table."""
    scope = [(index, windows[index]) for index in indexes]
    whole = [
        (index, w.organization_id, w.external_subscription_id, w.code, *w.hours) for index, w in scope if any(w.hours)
    ]
    edges = [
        (index, w.organization_id, w.external_subscription_id, w.code, *edge) for index, w in scope for edge in w.edges
    ]
    query = Query(
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
    return {index: Units(amount, count) for index, count, amount in clickhouse.rows(query)}
