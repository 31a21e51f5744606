"""What a block takes of its requests: as if their events had come one by one."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering.acceptance import Request, decide
from app.metering.events import Event, Receipt

RECEIPT = Receipt(datetime(2024, 5, 1, tzinfo=UTC))
NOW_MS = 1


def event(number: int, text: str, given_ms: int | None) -> Event:
    """One of the events with a key; without a time it is of now."""
    timestamp_ms = NOW_MS if given_ms is None else given_ms
    given = given_ms is not None
    return Event(("org", "sub", str(number)), "calls", timestamp_ms, given, {"text": text}, {}, None, RECEIPT)


EVENTS = st.builds(event, st.integers(0, 12), st.sampled_from("aaaab"), st.sampled_from([None, 0, 0, 0, NOW_MS]))


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
            first = mine.setdefault(one.key, one)
            other_time = one.timestamp_given and one.timestamp_ms != first.timestamp_ms
            if first.properties != one.properties or other_time:
                conflicts.append(str(position))
        if conflicts:
            refused.append((request, conflicts))
        else:
            there = mine
            taken.append((request, [mine[one.key] for one in request.events]))

    assert [*accepted.fresh.items()] == [(key, one) for key, one in there.items() if key not in seen]
    assert [(request, [*map(id, answer)]) for request, answer in accepted.answers] == [
        (request, [*map(id, answer)]) for request, answer in taken
    ]
    told = [(request, list(error.details)) for request, error in accepted.refused if isinstance(error.details, dict)]
    assert told == refused
