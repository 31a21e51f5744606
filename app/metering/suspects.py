"""Events that were sent and may be stored already, and what they are told by (metering spec 1.4)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.metering.definitions import CodeKey
from app.metering.events import Event, Receipt, plain
from app.metering.instants import ingestion_instant
from app.metering.keys import Key, content_of, slot_of
from app.metering.told import ToldRows, firsts


@dataclass(frozen=True, slots=True)
class Suspects:
    """Events by key, the slots in which they would be stored, and hashes of their contents: of those that can be compared
    with stored ones."""

    events: Mapping[Key, Event]
    slots: Mapping[Key, int]
    contents: Mapping[Key, int]

    @staticmethod
    def of(events: Mapping[Key, Event], expressive: Collection[CodeKey]) -> "Suspects":
        """These events. Those with an `expressive` code are stored with more than was sent."""
        contents = {
            key: content
            for key, event in events.items()
            if (key[0], event.code) not in expressive and (content := _content_of(event)) is not None
        }
        return Suspects(events, {key: slot_of(key[0], key[2]) for key in events}, contents)

    def told(self, parts: Sequence[ToldRows]) -> dict[Key, Event]:
        """The stored events of those whose content is told of their slot."""
        found = {}
        keys = [*self.contents]
        for place, at, ingested_us in firsts(parts, [self.slots[key] for key in keys], self.contents.values()):
            key = keys[place]
            event = self.events[key]
            precise, receipt = event.precise_total_amount_cents, Receipt(ingestion_instant(ingested_us))
            found[key] = Event(key, event.code, at, True, event.properties, event.echo, precise, receipt)
        return found

    def but(self, found: Collection[Key]) -> "Suspects":
        """Those that were not found."""
        left = [key for key in self.events if key not in found]
        contents = {key: self.contents[key] for key in left if key in self.contents}
        return Suspects({key: self.events[key] for key in left}, {key: self.slots[key] for key in left}, contents)


def _content_of(event: Event) -> int | None:
    return content_of(event.key, event.code, event.properties, plain(event.precise_total_amount_cents) or "")
