"""Usage: the units of many windows at once, in a number of queries that does not grow with the windows or their splits."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from msgspec import Struct

from app.core.aggregation import Aggregation, Sample, Units, latest_units, weighted_units
from app.core.money import ZERO, exact
from app.core.values import replace
from app.metering.rereading import MetricKey
from app.metering.rollups import DAYS, HOURS, MONTHS, ROLLUPS, Rollup
from app.metering.windows import FIRST_MS, HOUR_MS, Window, edges_table, hours_table, month_that_begins
from app.stores.clickhouse import ClickHouse, Query

NOTHING = Units(ZERO, 0)

Usage = Mapping[Hashable, Units]
"""The units of each bucket that has events, or that carries something over."""

Events = Mapping[Hashable, list[Sample]]
"""The single events of each bucket, by time and then by transaction id."""

Kept = tuple[Any, ...]
"""What a rollup keeps, folded: the number of events, then the rollup's columns in their order. Of items: how many."""

DAY_HOURS = 24

_threads = ThreadPoolExecutor(2, thread_name_prefix="usage")


class _Read(Struct, frozen=True):
    """One stretch of events to fold: a window itself, or what opens a weighted one. `raw`: not from the rollup."""

    index: int
    window: Window
    opens: bool
    raw: bool

    @property
    def hours(self) -> tuple[int, int]:
        return (0, 0) if self.raw else self.window.hours

    @property
    def edges(self) -> Sequence[tuple[int, int]]:
        return [(self.window.from_ms, self.window.end_ms)] if self.raw else self.window.edges


def measure(
    clickhouse: ClickHouse, windows: Sequence[Window], unreliable: Collection[MetricKey] = frozenset()
) -> list[Usage]:
    """The units and the number of events of each window's buckets, in the windows' order (metering spec 2.4). Unrounded.

    The rollups of `unreliable` metrics are being made again: their windows are read from the raw events.
    """
    reads: dict[Aggregation, list[_Read]] = defaultdict(list)
    for index, one in enumerate(windows):
        raw = one.from_raw or (bool(unreliable) and (one.organization_id, one.code) in unreliable)
        if not one.is_empty:
            reads[one.aggregation].append(_Read(index, one.counted, False, raw))
        if (opening := one.opening) is not None and not opening.is_empty:
            reads[one.aggregation].append(_Read(index, opening, True, raw))
    found: list[dict[Hashable, Kept]] = [{} for _ in windows]
    opened: list[dict[Hashable, Kept]] = [{} for _ in windows]
    with exact():
        for rollup, batch, parts in _run(clickhouse, reads):
            for position, bucket, kept in parts:
                read = batch[position]
                into = (opened if read.opens else found)[read.index]
                into[bucket] = _fold(rollup, into[bucket], kept) if bucket in into else kept
        return [_units(one, *parts) for one, *parts in zip(windows, found, opened, strict=True)]


def single_events(clickhouse: ClickHouse, windows: Sequence[Window]) -> list[Events]:
    """The events of each window's buckets one by one, for prices that depend on them singly. Windows that carry something
    over begin with all that came before. They are held in memory."""
    found: list[dict[Hashable, list[Sample]]] = [{} for _ in windows]
    reads: dict[Aggregation, list[_Read]] = defaultdict(list)
    for index, one in enumerate(windows):
        whole = replace(one, from_ms=FIRST_MS) if one.recurring else one
        if not whole.is_empty:
            reads[one.aggregation].append(_Read(index, whole, opens=False, raw=True))
    for aggregation, batch in reads.items():
        alike = _alike(batch)
        table = _table([batch[places[0]] for places in alike])
        for number, split, *rest in clickhouse.rows(Query("events_many", table, ROLLUPS[aggregation].fragments)):
            sample, values = Sample(*rest), tuple(split)
            for read in (batch[position] for position in alike[number]):
                found[read.index].setdefault(read.window.split.bucket(values), []).append(sample)
    return list(found)


def _units(window: Window, found: Mapping[Hashable, Kept], opened: Mapping[Hashable, Kept]) -> Usage:
    finish = _FINISH[window.aggregation]
    buckets = [*found, *(bucket for bucket in opened if bucket not in found)]
    return {bucket: finish(window, found.get(bucket), opened.get(bucket)) for bucket in buckets}


def _run(
    clickhouse: ClickHouse, reads: Mapping[Aggregation, list[_Read]]
) -> Iterator[tuple[Rollup, list[_Read], Iterable[tuple[int, Hashable, Kept]]]]:
    """The answers of all queries, which are asked at the same time: rows of (position in the batch, bucket, kept)."""
    owners = {
        (one.window.organization_id, one.window.external_subscription_id) for all_ in reads.values() for one in all_
    }
    work: list[tuple[Rollup, list[_Read], Callable[..., Any]]] = []
    for aggregation, batch in reads.items():
        rollup = ROLLUPS[aggregation]
        if len(owners) > 1:
            work.append((rollup, batch, _of_many))
            continue
        spans: dict[object, list[_Read]] = defaultdict(list)
        for one in batch:
            spans[one.window.from_ms, one.window.end_ms, one.raw].append(one)
        work += [(rollup, part, _of_one) for part in spans.values()]
    if len(work) == 1:
        rollup, batch, ask = work[0]
        yield rollup, batch, ask(clickhouse, rollup, batch)
        return
    work.sort(key=lambda one: not one[0].by_item)
    answers = _threads.map(lambda one: one[2](clickhouse, one[0], one[1]), work)
    for (rollup, batch, _), rows in zip(work, answers, strict=True):
        yield rollup, batch, rows


def _of_one(clickhouse: ClickHouse, rollup: Rollup, reads: Sequence[_Read]) -> list[tuple[int, Hashable, Kept]]:
    """Metrics of one subscription over one span of time: a look-up by key, without the joins that many need."""
    span = reads[0]
    first, end = span.hours
    edges = span.edges
    keys = sorted({key for one in reads for key in one.window.split.keys})
    parameters: dict[str, Any] = {
        "organization_id": span.window.organization_id,
        "external_subscription_id": span.window.external_subscription_id,
        "codes": sorted({one.window.code for one in reads}),
        "from_hour": first,
        "end_hour": end,
    }
    if edges:
        whole = first < end
        parameters |= {
            "from_ms": span.window.from_ms,
            "before_hours_ms": first * HOUR_MS if whole else span.window.end_ms,
            "after_hours_ms": end * HOUR_MS if whole else span.window.end_ms,
            "end_ms": span.window.end_ms,
        }
    splitting = {"kept_split": "", "raw_split": "", "part_split": "", "by_split": ""}
    if keys:
        parameters["keys"] = keys
        splitting["kept_split"] = "arrayMap(k -> u.dimensions[k], {keys:Array(String)}) AS split,"
        splitting["raw_split"] = "arrayMap(k -> v.properties[k], {keys:Array(String)}) AS split,"
        splitting["part_split"], splitting["by_split"] = "part.split AS split,", ", split"
    span_shape = "" if edges else "_hours"
    if rollup.by_item and not keys:
        return _unsplit(reads, _present(clickhouse, rollup, parameters, span_shape))
    shape = ("items_one" if rollup.by_item else "usage_one") + span_shape
    rows = clickhouse.rows(Query(shape, parameters, {**rollup.fragments, **splitting}))
    if not keys:
        return _unsplit(reads, rows)
    by_code: dict[str, list[tuple[Any, Kept]]] = defaultdict(list)
    for code, split, *kept in rows:
        by_code[code].append((split, tuple(kept)))
    buckets = _buckets_of_items if rollup.by_item else _bucket_of_split
    answer: list[tuple[int, Hashable, Kept]] = []
    for position, one in enumerate(reads):
        places = [keys.index(key) for key in one.window.split.keys]
        for split, counted in by_code.get(one.window.code, ()):
            answer += [(position, bucket, counted) for bucket in buckets(one.window, places, split)]
    return answer


def _present(
    clickhouse: ClickHouse, rollup: Rollup, parameters: Mapping[str, Any], span_shape: str
) -> Sequence[Sequence[Any]]:
    """How many items of each metric are present: where none was removed all there are, which is far quicker to find than
    what became of each."""
    if span_shape:
        span, first, end = _whole_spans(parameters["from_hour"], parameters["end_hour"])
        spans = {**parameters, "from_span": first, "end_span": end}
        rows = clickhouse.rows(Query("items_added_spans", spans, {**rollup.fragments, "span": span}))
    else:
        rows = clickhouse.rows(Query("items_added", parameters, rollup.fragments))
    added = [(code, present) for code, present, removed in rows if present and not removed]
    codes = [code for code, _, removed in rows if removed]
    if not codes:
        return added
    others = Query(f"items_unsplit{span_shape}", {**parameters, "codes": codes}, rollup.fragments)
    return [*added, *clickhouse.rows(others)]


def _whole_spans(first: int, end: int) -> tuple[str, int, int]:
    """The longest spans for which items are kept that these hours are made of: which, and the first of them to before the
    last."""
    from_month, end_month = month_that_begins(first), month_that_begins(end)
    if from_month is not None and end_month is not None:
        return MONTHS, from_month, end_month
    if first % DAY_HOURS == end % DAY_HOURS == 0:
        return DAYS, first // DAY_HOURS, end // DAY_HOURS
    return HOURS, first, end


def _unsplit(reads: Sequence[_Read], rows: Iterable[Sequence[Any]]) -> list[tuple[int, Hashable, Kept]]:
    """What was found of each metric, where nothing splits it."""
    by_code = {code: tuple(kept) for code, *kept in rows}
    return [
        (position, one.window.split.bucket(()), by_code[one.window.code])
        for position, one in enumerate(reads)
        if one.window.code in by_code
    ]


def _of_many(clickhouse: ClickHouse, rollup: Rollup, reads: Sequence[_Read]) -> Iterator[tuple[int, Hashable, Kept]]:
    """The windows of any number of subscriptions, sent to the store as a table."""
    alike = _alike(reads)
    firsts = [reads[places[0]] for places in alike]
    query = "items_many" if rollup.by_item else "usage_many"
    if any(one.edges for one in firsts):
        parameters = _table(firsts)
    else:
        query += "_hours"
        parameters = hours_table([(number, one.window, one.hours) for number, one in enumerate(firsts)])
    rows = clickhouse.rows(Query(query, parameters, rollup.fragments))
    buckets = _buckets_of_items if rollup.by_item else _bucket_of_split
    return (
        (position, bucket, tuple(kept))
        for number, split, *kept in rows
        for position in alike[number]
        for bucket in buckets(reads[position].window, None, split)
    )


def _bucket_of_split(window: Window, places: Sequence[int] | None, split: Sequence[str]) -> Sequence[Hashable]:
    """The one bucket of events with these values. `places`: where the window's own are, if not all are."""
    return (window.split.bucket(_values(split, places)),)


def _buckets_of_items(
    window: Window, places: Sequence[int] | None, seen: Sequence[tuple[Sequence[str], bool]]
) -> Sequence[Hashable]:
    """The buckets in which items are present that were seen like this, the newest operation first: an item that comes with
    several splits of one bucket is there or not as the last of all its operations in it says."""
    present: dict[Hashable, bool] = {}
    for split, is_present in seen:
        present.setdefault(window.split.bucket(_values(split, places)), is_present)
    return [bucket for bucket, is_present in present.items() if is_present]


def _values(split: Sequence[str], places: Sequence[int] | None) -> tuple[str, ...]:
    return tuple(split) if places is None else tuple([split[place] for place in places])


def _alike(reads: Sequence[_Read]) -> list[list[int]]:
    """The positions of reads that take the same events by the same keys, though they may put them into other buckets: two
    charges on one metric, or one charge and the draft of it."""
    places: dict[tuple[Any, ...], list[int]] = {}
    for position, one in enumerate(reads):
        w = one.window
        key = (w.organization_id, w.external_subscription_id, w.code, w.split.keys, w.from_ms, w.end_ms, one.raw)
        places.setdefault(key, []).append(position)
    return list(places.values())


def _table(reads: Sequence[_Read]) -> dict[str, Any]:
    """The parameters that hold windows as tables: their whole hours, and what they have outside of them."""
    numbered = list(enumerate(reads))
    hours = [(number, one.window, one.hours) for number, one in numbered]
    return {
        **hours_table([one for one in hours if any(one[2])]),
        **edges_table([(number, one.window, edge) for number, one in numbered for edge in one.edges]),
    }


def _fold(rollup: Rollup, one: Kept, other: Kept) -> Kept:
    """Two of the same bucket as one: what the rollup keeps, and of items only how many there are."""
    columns = rollup.all_columns[: len(one)]
    return tuple(
        (a + b) if column.fold == "sum" else max(a, b) for column, a, b in zip(columns, one, other, strict=True)
    )


def _counted(_: Window, found: Kept | None, __: Kept | None) -> Units:
    count = found[0] if found else 0
    return Units(Decimal(count), count)


def _summed(_: Window, found: Kept | None, __: Kept | None) -> Units:
    return Units(found[1], found[0], precise_total_amount_cents=found[2]) if found else NOTHING


def _largest(_: Window, found: Kept | None, __: Kept | None) -> Units:
    return Units(found[1], found[0]) if found else NOTHING


def _newest(_: Window, found: Kept | None, __: Kept | None) -> Units:
    return Units(latest_units(found[1][-1]), found[0]) if found else NOTHING


def _weighted(window: Window, found: Kept | None, opened: Kept | None) -> Units:
    count, total, moment = found or (0, ZERO, ZERO)
    opening = opened[1] if opened else ZERO
    return Units(weighted_units(opening, total, moment, window.span), count, level=opening + total)


_FINISH: Mapping[Aggregation, Callable[[Window, Kept | None, Kept | None], Units]] = {
    Aggregation.COUNT: _counted,
    Aggregation.SUM: _summed,
    Aggregation.MAX: _largest,
    Aggregation.LATEST: _newest,
    Aggregation.UNIQUE_COUNT: _counted,
    Aggregation.WEIGHTED_SUM: _weighted,
}
