"""What a block takes of its requests: as if their events had come one by one."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering.acceptance import Request, decide
from app.metering.events import Event

RECEIVED = datetime(2024, 5, 1, tzinfo=UTC)


def event(number: int, text: str) -> Event:
    """One of the events with a key."""
    return Event(("org", "sub", str(number)), "calls", 0, True, {"text": text}, {"text": text}, None, RECEIVED)


EVENTS = st.builds(event, st.integers(0, 12), st.sampled_from("aaab"))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@given(blocks=st.lists(st.lists(EVENTS, max_size=6), max_size=5), stored=st.lists(EVENTS, max_size=4))
def test_as_if_one_by_one(loop: asyncio.AbstractEventLoop, blocks: list[list[Event]], stored: list[Event]) -> None:
    """A request is taken whole or not at all; what is in it is new, or what came first with its key."""
    seen = {one.key: one for one in stored}
    requests = [Request(events, True, loop.create_future()) for events in blocks]
    accepted = decide(requests, seen, {})

    there, taken, refused = dict(seen), [], []
    for request in requests:
        mine = dict(there)
        conflicts = []
        for position, one in enumerate(request.events):
            if mine.setdefault(one.key, one).properties != one.properties:
                conflicts.append(str(position))
        if conflicts:
            refused.append((request, conflicts))
        else:
            there = mine
            taken.append((request, [mine[one.key] for one in request.events]))

    assert accepted.fresh == {key: one for key, one in there.items() if key not in seen}
    assert [(request, [*map(id, answer)]) for request, answer in accepted.answers] == [
        (request, [*map(id, answer)]) for request, answer in taken
    ]
    told = [(request, list(error.details)) for request, error in accepted.refused if isinstance(error.details, dict)]
    assert told == refused
