"""What replays of the events stored last are told by, in memory: most of what is sent again was sent in the last minutes,
and looking for it in the store takes several times as long (metering spec 1.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_EVENTS = 2_000_000
"""How many are kept in memory at most, in 32 bytes each; when there would be more, the oldest part is forgotten."""
PARTS = 2
"""A part is no larger than this share of all, unless it came so."""
TOLD = np.dtype("V24")


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of the key table, sorted by slot."""

    slots: Any
    told: Any

    @staticmethod
    def of(slots: Any, told: Any) -> "_Part":
        order = np.argsort(slots, kind="stable")
        return _Part(slots[order], told[order])

    def __len__(self) -> int:
        return len(self.slots)


class ToldInMemory:
    """The key table's rows of the events stored last, in parts that come out of date one by one."""

    def __init__(self, most: int = MOST_EVENTS) -> None:
        self._most = most
        self._parts: list[_Part] = []

    def add(self, rows: Any) -> None:
        """Keep more rows, an Arrow table of `slot` and `told`, and forget the oldest if there are too many."""
        if not rows.num_rows:
            return
        told = rows["told"].combine_chunks()
        texts = np.frombuffer(told.buffers()[1], TOLD)[told.offset : told.offset + len(told)]
        parts = [*self._parts, _Part.of(rows["slot"].to_numpy(), texts)]
        # Parts of about the same size become one, so that a few have to be searched.
        while len(parts) > 1 and self._should_be_one(*map(len, parts[-2:])):
            last, before = parts.pop(), parts.pop()
            both = np.concatenate((before.slots, last.slots)), np.concatenate((before.told, last.told))
            parts.append(_Part.of(*both))
        while len(parts) > 1 and sum(map(len, parts)) > self._most:
            parts.pop(0)
        self._parts = parts

    def _should_be_one(self, before: int, last: int) -> bool:
        return before < 2 * last and before + last <= self._most // PARTS

    def find(self, slots: Sequence[int]) -> dict[int, list[bytes]]:
        """All that is kept of these slots."""
        every = np.unique(np.fromiter(slots, np.uint64, len(slots)))
        found: dict[int, list[bytes]] = {}
        for part in self._parts:
            wanted, places = every, part.slots.searchsorted(every)
            while wanted.size:  # once more than a slot has rows, which are mostly one or none
                hits = np.flatnonzero(part.slots.take(places, mode="clip") == wanted)
                hits = hits[places[hits] < len(part)]
                wanted, places = wanted[hits], places[hits]
                for slot, one in zip(wanted.tolist(), part.told[places].tolist(), strict=True):
                    found.setdefault(slot, []).append(one)
                places = places + 1
        return found

    def forget(self) -> None:
        """Forget everything."""
        self._parts = []
