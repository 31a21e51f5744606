"""Recent events: found as long as they may be needed, and forgotten in the order in which they came."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering import recent
from app.metering.events import Event, Receipt
from app.metering.recent import RecentEvents

AT = datetime(2024, 5, 1, tzinfo=UTC)


def block(number: int, size: int) -> dict[tuple[str, str, str], Event]:
    """The events of a block."""
    keys = [("org", "sub", f"{number}-{one}") for one in range(size)]
    return {key: Event(key, "calls", 0, True, {}, {}, None, Receipt(AT)) for key in keys}


@given(
    sizes=st.lists(st.integers(1, 9), max_size=30), chunk=st.integers(1, 12), most=st.integers(0, 60), data=st.data()
)
def test_what_is_kept(sizes: list[int], chunk: int, most: int, data: st.DataObject) -> None:
    """All that is not rolled up, and of the rest the newest: `most` or a chunk's worth more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent, "CHUNK_EVENTS", chunk)
        events = RecentEvents()
        keys: list[tuple[int, tuple[str, str, str]]] = []
        rolled_up = 0
        for number, size in enumerate(sizes, start=1):
            mine = block(number, size)
            keys += [(number, key) for key in mine]
            events.add(mine, number)
            rolled_up = data.draw(st.integers(rolled_up, number))
            events.forget(rolled_up, most)
            found = events.find({key for _, key in keys})
            known = [(of, key) for of, key in keys if key in found]
            assert known == keys[len(keys) - len(known) :]
            assert len(known) >= min(most, len(keys))
            assert {of for of, _ in keys if of > rolled_up} <= {of for of, _ in known}
            unrolled = sum(of > rolled_up for of, _ in keys)
            assert len(known) < max(most, unrolled) + 2 * (chunk + max(sizes))


def test_all_is_forgotten() -> None:
    """Nothing is kept where nothing may be."""
    events = RecentEvents()
    for number in range(1, 4):
        events.add(block(number, 5), number)
    events.forget(3, 0)
    assert events.find({("org", "sub", "3-4")}) == {}
