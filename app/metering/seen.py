"""Which events are there already: written a moment ago, or stored (metering spec 1.4; design: dedupe before the insert)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.metering.acceptance import Request
from app.metering.definitions import CodeKey
from app.metering.events import Event
from app.metering.keys import Key, KeyFilter
from app.metering.recent import RecentEvents
from app.metering.stored import find_events, find_replayed
from app.metering.suspects import Suspects
from app.metering.told import ToldInMemory, ToldRows
from app.stores.clickhouse import ClickHouse, Query


@dataclass(slots=True)
class Sought:
    """What can be told of a block's events without the store: those `seen` are there; `suspects` may be stored; `doubtful`
    ones may be stored without their row in the key table. All others are new."""

    seen: dict[Key, Event]
    suspects: Suspects
    doubtful: list[Key]


class SeenEvents:
    """Tells new events from those that are there. Methods belong to the event loop unless they say otherwise."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._known = KeyFilter()
        self._recent = RecentEvents()
        self._told = ToldInMemory()
        self._doubtful: set[Key] = set()
        self.knows_all = False
        """Whether all stored keys have been learned: until then every key is looked up."""

    def learn(self, keys: Iterable[Key]) -> None:
        """There are events with these keys in the store, or may be."""
        self._known.add(keys)

    def write(self, fresh: dict[Key, Event], block: int) -> None:
        """The events of the next block are durable; the dictionary is taken over."""
        self._known.add(fresh)
        self._recent.add(fresh, block)

    def seek(self, requests: Sequence[Request], expressive: Collection[CodeKey]) -> Sought:
        """What can be told of the events of these requests without the store. Those with an `expressive` code are stored
        with more than was sent."""
        if self.knows_all:
            for request in requests:
                request.known = self._known.perhaps_known(request.by_key)
        known = {key: request.by_key[key] for request in requests for key in request.known}
        seen = self._recent.find(known.keys())
        left = {key: event for key, event in known.items() if key not in seen}
        doubtful = [key for key in left if key in self._doubtful]
        for key in doubtful:
            del left[key]
        suspects = Suspects.of(left, expressive)
        told = suspects.told(self._told.parts) if left else {}
        return Sought(seen | told, suspects.but(told), doubtful)

    def look_up(self, sought: Sought) -> dict[Key, Event]:
        """All that are there, with those in the store. For any thread."""
        seen = sought.seen
        if sought.suspects.events:
            seen = seen | find_replayed(self._clickhouse, sought.suspects)
        if sought.doubtful:
            seen = seen | find_events(self._clickhouse, (), sorted(sought.doubtful))
        return seen

    def remember(self, after: datetime, until: datetime) -> None:
        """Have events that were ingested after an instant, until another, and are stored, told from memory. For any thread;
        not while stored events are changed."""
        table = self._clickhouse.table(Query("told_between", {"after": after, "until": until}))
        self._told.add(ToldRows.of_table(table))

    def forget(self, until_block: int, most: int) -> None:
        """The events of blocks up to one are in the store: keep whole only about `most` of them."""
        self._recent.forget(until_block, most)

    def forget_stored(self, until_block: int) -> None:
        """Stored events, which are those of blocks up to one, have been changed or deleted: look at the store itself."""
        self._recent.forget(until_block, 0)
        self._told.forget()

    def doubt(self, keys: Iterable[Key]) -> None:
        """An insert with these keys has failed: whether and where they are in the store is not known."""
        self._doubtful.update(keys)

    def trust(self) -> None:
        """The store has been reconciled: doubtful keys are found like all others."""
        self._doubtful.clear()
