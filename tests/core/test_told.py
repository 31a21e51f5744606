"""The key table's rows in memory: those added last are found, and told apart, however they came."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.metering import told
from app.metering.told import ToldInMemory

SLOTS = st.integers(0, 2**64 - 1)
NEAR = st.integers(0, 40)


def rows(slots: list[int], first: int) -> pa.Table:
    texts = [number.to_bytes(24, "little") for number in range(first, first + len(slots))]
    return pa.table({"slot": pa.array(slots, pa.uint64()), "told": pa.array(texts, pa.binary(24))})


@given(
    parts=st.lists(st.lists(SLOTS | NEAR, max_size=12), max_size=14),
    asked=st.lists(SLOTS | NEAR, max_size=8),
    most=st.integers(24, 80),
)
@settings(deadline=None)
def test_what_was_added_last_is_found(parts: list[list[int]], asked: list[int], most: int) -> None:
    memory, added = ToldInMemory(most), []
    for slots in parts:
        memory.add(rows(slots, len(added)))
        added += slots
    kept = added[max(len(added) - most // told.PARTS, 0) :]
    found = memory.find([*added, *asked])
    assert set(kept) <= found.keys() <= set(added)
    for slot, there in found.items():
        numbers = [int.from_bytes(one, "little") for one in there]
        assert {added[number] for number in numbers} == {slot}
        there_last = [number for number in range(len(added) - len(kept), len(added)) if added[number] == slot]
        assert sorted(numbers)[len(numbers) - len(there_last) :] == there_last
    memory.forget()
    assert memory.find([*added, *asked]) == {}


def test_not_too_many_are_kept() -> None:
    memory = ToldInMemory(100)
    for first in range(0, 1_000, 10):
        memory.add(rows(list(range(first, first + 10)), first))
        found = memory.find(range(first + 10))
        assert len(found) <= 100
        assert set(range(max(first - 40, 0), first + 10)) <= found.keys()


def test_a_part_of_an_answer() -> None:
    """Columns of a table that is a part of another one begin somewhere in their buffers."""
    memory = ToldInMemory()
    memory.add(rows([5, 3, 9, 7], 100).slice(1, 2))
    assert {slot: int.from_bytes(one, "little") for slot, (one,) in memory.find([5, 3, 9, 7]).items()} == {
        3: 101,
        9: 102,
    }


@pytest.mark.parametrize("slots", [[], [1]])
def test_nothing_was_added(slots: list[int]) -> None:
    memory = ToldInMemory()
    memory.add(rows([], 0))
    assert memory.find(slots) == {}
