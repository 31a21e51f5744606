"""The key table's rows: those added last are kept, and what they tell of events that are sent again."""

import struct
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metering import told
from app.metering.told import UNKNOWN, ToldInMemory, ToldRows, firsts

Row = tuple[int, int, int, int]
"""Slot, content, time of the event and of its ingestion."""

SLOTS = st.integers(0, 2) | st.integers(0, 2**64 - 1)
CONTENTS = st.integers(1, 2) | st.just(2**64 - 1)
ROWS = st.tuples(SLOTS, CONTENTS | st.just(UNKNOWN), st.integers(0, 3), st.integers(0, 3))


def rows(*given: Row) -> ToldRows:
    return ToldRows.of_table(table(given))


def table(given: Sequence[Row]) -> pa.Table:
    texts = [struct.pack("<Qqq", *row[1:]) for row in given]
    return pa.table({"slot": pa.array([row[0] for row in given], pa.uint64()), "told": pa.array(texts, pa.binary(24))})


@given(parts=st.lists(st.lists(ROWS, max_size=12), max_size=4), data=st.data())
@settings(deadline=None)
def test_the_first_event_of_a_content_is_told(parts: list[list[Row]], data: st.DataObject) -> None:
    every = [row for part in parts for row in part]
    slots = st.sampled_from([row[0] for row in every]) | SLOTS if every else SLOTS
    sent = data.draw(st.lists(st.tuples(slots, CONTENTS), max_size=12))
    expected = {}
    for place, (slot, content) in enumerate(sent):
        there = [row for row in every if row[0] == slot]
        same = [(ingested, at) for _, one, at, ingested in there if one == content]
        if same and all(one != UNKNOWN for _, one, _, _ in there):
            ingested, at = min(same)
            expected[place] = (at, ingested)
    found = firsts([rows(*part) for part in parts], [slot for slot, _ in sent], [content for _, content in sent])
    assert {place: (at, ingested) for place, at, ingested in found} == expected


@given(parts=st.lists(st.lists(SLOTS, max_size=12), max_size=28), most=st.integers(48, 160))
@settings(deadline=None)
def test_what_was_added_last_is_kept(parts: list[list[int]], most: int) -> None:
    """Whatever is kept are the last ones, and not too few."""
    memory, added = ToldInMemory(most), []
    for slots in parts:
        memory.add(rows(*((slot, 1, 0, number) for number, slot in enumerate(slots, len(added)))))
        added += slots
    kept = sorted(number for part in memory.parts for number in part.told["ingested_us"].tolist())
    assert kept == list(range(len(added)))[len(added) - len(kept) :]
    assert len(kept) >= min(len(added), most - most // told.PARTS)
    first_kept = {slot: number for number, slot in reversed([*enumerate(added)][len(added) - len(kept) :])}
    told_of = {added[place]: ingested for place, _, ingested in firsts(memory.parts, added, [1] * len(added))}
    assert told_of == first_kept
    memory.forget()
    assert not memory.parts


@pytest.mark.parametrize("size", [1, 4, 10, 16, 25, 60])
def test_not_too_many_are_kept(size: int) -> None:
    memory = ToldInMemory(200)
    for first in range(0, 1_000, size):
        memory.add(rows(*((number, 1, 0, 0) for number in range(first, first + size))))
        kept = sum(map(len, memory.parts))
        assert min(first + size, 200 - max(50, size)) <= kept <= 200
        assert len(memory.parts) <= 12


def test_a_part_of_an_answer() -> None:
    """Columns of a table that is a part of another one begin somewhere in their buffers."""
    part = ToldRows.of_table(table([(5, 1, 0, 100), (3, 1, 0, 101), (9, 1, 0, 102), (7, 1, 0, 103)]).slice(1, 2))
    assert sorted(firsts([part], [5, 3, 9, 7], [1, 1, 1, 1])) == [(1, 0, 101), (2, 0, 102)]


@pytest.mark.parametrize("slots", [[], [1]])
def test_nothing_was_added(slots: list[int]) -> None:
    memory = ToldInMemory()
    memory.add(rows())
    assert not [*firsts(memory.parts, slots, slots)]
    assert not [*firsts([rows()], slots, slots)]
