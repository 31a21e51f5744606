"""What replays are told by: rows of the key table, sought by slot and content for many events at once. Those of the events
stored last are kept in memory: most of what is sent again was sent in the last minutes, and looking for it in the store
takes several times as long (metering spec 1.4)."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_EVENTS = 2_000_000
"""How many are kept in memory at most, in 32 bytes each; when there would be more, the oldest part is forgotten."""
PARTS = 2
"""A part is no larger than this share of all, unless it came so."""
TOLD = np.dtype([("content", "<u8"), ("timestamp_ms", "<i8"), ("ingested_us", "<i8")])
"""The key table's column `told`. The content is a hash; where it is not known it is 0, and so are the others."""
UNKNOWN = 0


@dataclass(frozen=True, slots=True)
class ToldRows:
    """Rows of the key table, sorted by slot."""

    slots: Any
    told: Any

    @staticmethod
    def of(slots: Any, told: Any) -> "ToldRows":
        """These rows, in any order."""
        order = np.argsort(slots, kind="stable")
        return ToldRows(slots[order], told[order])

    @staticmethod
    def of_table(table: Any) -> "ToldRows":
        """Those of an Arrow table of `slot` and `told`."""
        told = table["told"].combine_chunks()
        rows = np.frombuffer(told.buffers()[1] or b"", TOLD)
        return ToldRows.of(table["slot"].to_numpy(), rows[told.offset : told.offset + len(told)])

    def __len__(self) -> int:
        return len(self.slots)

    def in_slots(self, slots: Any) -> tuple[Any, Any]:
        """For each row in one of these slots, which are sorted, the slot's place among them; and what the rows tell."""
        first = self.slots.searchsorted(slots)
        places = np.flatnonzero(self.slots.take(first, mode="clip") == slots) if len(self) else first[:0]
        first = first[places]
        counts = self.slots.searchsorted(slots[places], "right") - first
        before = np.cumsum(counts) - counts
        rows = np.repeat(first - before, counts) + np.arange(counts.sum())
        return np.repeat(places, counts), self.told[rows]


def firsts(
    parts: Sequence[ToldRows], slots: Collection[int], contents: Collection[int]
) -> Iterator[tuple[int, int, int]]:
    """Of events that were sent, by slot and content, those that are told to be replays: the place of each among them, and
    when the first event with its content in its slot was, in milliseconds, and was ingested, in microseconds.

    Nothing is told of a slot where the content of an event is not known.
    """
    sought = np.fromiter(slots, np.uint64, len(slots))
    by_slot = np.argsort(sought)
    found = [part.in_slots(sought[by_slot]) for part in parts]
    places = by_slot[np.concatenate([by_slot[:0], *(places for places, _ in found)])]
    told = np.concatenate([np.empty(0, TOLD), *(told for _, told in found)])
    same = told["content"] == np.fromiter(contents, np.uint64, len(contents))[places]
    unknown = told["content"] == UNKNOWN
    if unknown.any():
        same &= ~np.isin(places, places[unknown])
    places, told = places[same], told[same]
    order = np.lexsort((told["timestamp_ms"], told["ingested_us"], places))
    order = order[np.flatnonzero(np.diff(places[order], prepend=-1))]
    first = told[order]
    return zip(places[order].tolist(), first["timestamp_ms"].tolist(), first["ingested_us"].tolist(), strict=True)


class ToldInMemory:
    """The key table's rows of the events stored last, in `parts` that come out of date one by one."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._most = most
        self.parts: Sequence[ToldRows] = ()

    def add(self, rows: ToldRows) -> None:
        """Keep more rows, and forget the oldest if there are too many."""
        if not len(rows):
            return
        parts = [*self.parts, rows]
        # Parts of about the same size become one, so that a few have to be searched.
        while len(parts) > 1 and self._should_be_one(*map(len, parts[-2:])):
            last, before = parts.pop(), parts.pop()
            both = np.concatenate((before.slots, last.slots)), np.concatenate((before.told, last.told))
            parts.append(ToldRows.of(*both))
        while len(parts) > 1 and sum(map(len, parts)) > self._most:
            parts.pop(0)
        self.parts = parts

    def _should_be_one(self, before: int, last: int) -> bool:
        return before < 2 * last and before + last <= self._most // PARTS

    def forget(self) -> None:
        """Forget everything."""
        self.parts = ()
