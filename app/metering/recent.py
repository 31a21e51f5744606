"""The events of the last blocks, for what is sent again is mostly sent again soon."""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass

from app.metering.events import Event
from app.metering.keys import Key

CHUNK_EVENTS = 20_000


@dataclass(slots=True)
class _Chunk:
    events: dict[Key, Event]
    last_block: int


class RecentEvents:
    """Events by key, in chunks of some blocks each: what is new costs nothing to keep and to forget, and the few that are
    looked for are sought chunk by chunk."""

    def __init__(self) -> None:
        self._chunks: deque[_Chunk] = deque()
        self._count = 0

    def find(self, keys: Set[Key]) -> dict[Key, Event]:
        """The events with these keys that have not been forgotten."""
        found: dict[Key, Event] = {}
        left = set(keys)
        for chunk in reversed(self._chunks):  # most were sent shortly before
            here = left & chunk.events.keys()
            found |= {key: chunk.events[key] for key in here}
            left -= here
        return found

    def add(self, events: dict[Key, Event], block: int) -> None:
        """Keep the events of the next block; the dictionary is taken over."""
        self._count += len(events)
        if self._chunks and len(self._chunks[-1].events) < CHUNK_EVENTS:
            self._chunks[-1].events.update(events)
            self._chunks[-1].last_block = block
        else:
            self._chunks.append(_Chunk(events, block))

    def forget(self, until_block: int, most: int) -> None:
        """Forget the oldest events of blocks up to one, until about `most` events are left."""
        while self._chunks and self._chunks[0].last_block <= until_block:
            left = self._count - len(self._chunks[0].events)
            if left < most:
                return
            self._chunks.popleft()
            self._count = left
