"""Windows that begin together and end one after the other, as a period looks day by day, measured without reading any event
more often than once where that can be."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise

from app.core.aggregation import Aggregation, Units
from app.core.money import exact
from app.core.values import replace
from app.metering.meter import Meter
from app.metering.usage import Events, Usage
from app.metering.windows import Window

ADDED_UP = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.MAX, Aggregation.LATEST})
"""Aggregations of two stretches of time that follow from those of each."""


class GrowingMeter(Meter):
    """Measures like another meter. Of windows that differ in their ends only, each is measured from the end of the one
    before, and then they are added up; but for aggregations where that would be wrong."""

    def __init__(self, meter: Meter):
        self._meter = meter

    def usage(self, windows: Sequence[Window]) -> list[Usage]:
        """See `Meter`."""
        series: dict[Hashable, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            series[_beginning(window) if window.aggregation in ADDED_UP else index].append(index)
        pieces = list(windows)
        for indexes in series.values():
            indexes.sort(key=lambda index: windows[index].end_ms)
            for before, index in pairwise(indexes):
                pieces[index] = replace(windows[index], from_ms=windows[before].end_ms, recurring=False)
        usage = self._meter.usage(pieces)
        with exact():
            for indexes in series.values():
                for before, index in pairwise(indexes):
                    usage[index] = _added(windows[index].aggregation, usage[before], usage[index])
        return usage

    def events(self, windows: Sequence[Window]) -> list[Events]:
        """See `Meter`."""
        return self._meter.events(windows)


def _beginning(window: Window) -> Hashable:
    """What windows have in common that differ in their ends only."""
    return (
        window.organization_id, window.external_subscription_id, window.code, window.aggregation, window.from_ms,
        window.recurring, window.from_raw, id(window.split),
    )  # fmt: skip


def _added(kind: Aggregation, before: Usage, after: Usage) -> Usage:
    """The usage of two stretches of time, of which one follows the other, together."""
    if not after:
        return before
    both: dict[Hashable, Units] = dict(before)
    for bucket, more in after.items():
        both[bucket] = _sum(kind, both[bucket], more) if bucket in both else more
    return both


def _sum(kind: Aggregation, one: Units, more: Units) -> Units:
    if not (one.events_count and more.events_count):
        return more if more.events_count else one
    match kind:
        case Aggregation.MAX:
            units = max(one.units, more.units)
        case Aggregation.LATEST:
            units = more.units
        case _:
            units = one.units + more.units
    return Units(
        units,
        one.events_count + more.events_count,
        precise_total_amount_cents=one.precise_total_amount_cents + more.precise_total_amount_cents,
    )
