"""What replays are told by: rows of the key table, sought by slot and content for many events at once. Those of the events
stored last are kept in memory: most of what is sent again was sent in the last minutes, and looking for it in the store
takes several times as long (metering spec 1.4)."""

import itertools
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_EVENTS = 2_000_000
"""How many are kept in memory at most, in about 40 bytes each; when there would be more, the oldest part is forgotten."""
PARTS = 4
"""A part is no larger than this share of all, unless it came so: that much is forgotten at once."""
TOLD = np.dtype([("content", "<u8"), ("timestamp_ms", "<i8"), ("ingested_us", "<i8")])
"""The key table's column `told`. The content is a hash; where it is not known it is 0, and so are the others."""
WIDTH = 4
"""How many parts of about the same size become one: each part has to be searched, and making one takes time as well."""
UNKNOWN = np.uint64(0)
SPREAD = np.uint64(secrets.randbits(64) | 1)
"""Nobody knows it, so that nobody can send events whose rows all come together."""


@dataclass(frozen=True, slots=True)
class ToldRows:
    """Rows of the key table, found by slot and content together: many events may have one slot, those with one transaction
    id. They are sorted by a hash of both, its first bits are the number of a shelf, and `starts` has where each begins."""

    hashes: Any
    told: Any
    starts: Any
    shift: Any
    has_unknown: bool

    @staticmethod
    def of(hashes: Any, told: Any) -> "ToldRows":
        """These rows, in any order."""
        order = np.argsort(hashes, kind="stable")
        bits = max(len(hashes).bit_length(), 1)
        shift = np.uint64(64 - bits)
        per_shelf = np.bincount((hashes >> shift).astype(np.int64), minlength=2**bits)
        starts = np.concatenate(([0], np.cumsum(per_shelf))).astype(np.int32)
        return ToldRows(hashes[order], told[order], starts, shift, bool((told["content"] == UNKNOWN).any()))

    @staticmethod
    def of_table(table: Any) -> "ToldRows":
        """Those of an Arrow table of `slot` and `told`."""
        told = table["told"].combine_chunks()
        rows = np.frombuffer(told.buffers()[1] or b"", TOLD, told.offset + len(told))[told.offset :]
        return ToldRows.of(_hashes(table["slot"].to_numpy(), rows["content"]), rows)

    def __len__(self) -> int:
        return len(self.told)

    def find(self, hashes: Any, contents: Any) -> tuple[Any, Any]:
        """For each row with one of these contents, and the hash that goes with it, their place; and what the rows tell."""
        shelves = (hashes >> self.shift).astype(np.int64)
        first = self.starts[shelves]
        counts = self.starts[shelves + 1] - first
        rows = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        places = np.repeat(np.arange(len(hashes)), counts)
        hits = self.hashes[rows] == hashes[places]
        places, told = places[hits], self.told[rows[hits]]
        same = told["content"] == contents[places]
        return places[same], told[same]


def firsts(
    parts: Sequence[ToldRows], slots: Collection[int], contents: Collection[int]
) -> Iterator[tuple[int, int, int]]:
    """Of events that were sent, by slot and content, those that are told to be replays: the place of each among them, and
    when the first event with its content in its slot was, in milliseconds, and was ingested, in microseconds.

    Nothing is told of a slot where the content of an event is not known.
    """
    in_slots = np.fromiter(slots, np.uint64, len(slots))
    places, told = _find(parts, in_slots, np.fromiter(contents, np.uint64, len(contents)))
    unknown, _ = _find([part for part in parts if part.has_unknown], in_slots, np.full(len(slots), UNKNOWN))
    if unknown.size:
        known = ~np.isin(places, unknown)
        places, told = places[known], told[known]
    order = np.lexsort((told["timestamp_ms"], told["ingested_us"], places))
    order = order[np.flatnonzero(np.diff(places[order], prepend=-1))]
    first = told[order]
    return zip(places[order].tolist(), first["timestamp_ms"].tolist(), first["ingested_us"].tolist(), strict=True)


def _find(parts: Sequence[ToldRows], slots: Any, contents: Any) -> tuple[Any, Any]:
    hashes = _hashes(slots, contents)
    found = [part.find(hashes, contents) for part in parts]
    places = np.concatenate([np.empty(0, np.int64), *(places for places, _ in found)])
    return places, np.concatenate([np.empty(0, TOLD), *(told for _, told in found)])


def _hashes(slots: Any, contents: Any) -> Any:
    """Of two pairs with one content the same only where their slots are."""
    return (slots ^ contents) * SPREAD


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
        while len(alike := _last_alike(parts)) >= WIDTH and len(fit := self._that_fit(alike)) > 1:
            hashes, told = [part.hashes for part in fit], [part.told for part in fit]
            first = len(parts) - len(alike)
            parts[first : first + len(fit)] = [ToldRows.of(np.concatenate(hashes), np.concatenate(told))]
        while len(parts) > 1 and sum(map(len, parts)) > self._most:
            parts.pop(0)
        self.parts = parts

    def _that_fit(self, parts: Sequence[ToldRows]) -> Sequence[ToldRows]:
        """The first of these that may become one part."""
        sizes = itertools.accumulate(map(len, parts))
        return parts[: sum(1 for size in sizes if size <= self._most // PARTS)]

    def forget(self) -> None:
        """Forget everything."""
        self.parts = ()


def _last_alike(parts: Sequence[ToldRows]) -> Sequence[ToldRows]:
    """The last of the parts, as far as none of them is twice as large as the very last."""
    alike = itertools.takewhile(lambda part: len(part) < 2 * len(parts[-1]), reversed(parts))
    return parts[len(parts) - sum(1 for _ in alike) :]
