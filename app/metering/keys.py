"""Event keys: the memory of them, surely new or perhaps seen before (design: dedupe before the insert), and where they are
stored."""

import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from rbloom import Bloom
from xxhash import xxh3_64_intdigest

FIRST_CAPACITY = 1_000_000
FIRST_FALSE_POSITIVES = 0.00001
ORGANIZATION_BITS = 24
PLACES = 8
"""In how many places of a filter a key is marked. Filters of the least size have up to twice as many; but each place is a
miss of the processor's cache, which is most of what a key costs."""

Key = tuple[str, str, str]
"""Organization, external subscription id, transaction id."""


class KeyFilter:
    """Every key ever added is known; a key never added is almost always unknown.

    A chain of Bloom filters, each twice as large as the one before and mistaken twice as often, so that it grows with what
    it has seen: 3.7 bytes a key at first, 2.8 of 100 million.
    """

    def __init__(self) -> None:
        self._capacity = self._room = FIRST_CAPACITY
        self._false_positives = FIRST_FALSE_POSITIVES
        self._filters = [_filter(self._capacity, self._false_positives)]

    def perhaps_known(self, keys: Collection[Key]) -> set[Key]:
        """Those of the keys that have been added, and seldom others."""
        return {key for one in self._filters for key in filter(one.__contains__, keys)}

    def add(self, keys: Iterable[Key]) -> None:
        """Remember keys."""
        fresh = list(keys)
        while fresh:
            taken, fresh = fresh[: self._room], fresh[self._room :]
            self._filters[-1].update(taken)
            self._room -= len(taken)
            if not self._room:
                self._capacity *= 2
                self._room = self._capacity
                self._false_positives *= 2
                self._filters.append(_filter(self._capacity, self._false_positives))


def _filter(keys: int, false_positives: float) -> Bloom:
    """A filter that is mistaken so often when it has so many keys, each in `PLACES` places.

    The library sizes filters so that half of the places are marked when they are full, and their share of mistakes is
    ``0.5**PLACES`` then. Made for more keys than it is given, a filter is mistaken as often as wanted.
    """
    marked = false_positives ** (1 / PLACES)
    return Bloom(round(keys * math.log(0.5) / math.log(1 - marked)), 0.5**PLACES)


def slot_of(organization_id: str, transaction_id: str) -> int:
    """Where the key table has the events of an organization with a transaction id; seldom others, too.

    The first bits tell the organization: ids can be found whose hashes are the same, but nobody chooses an organization's.
    """
    return _organization_bits(organization_id) | _hash(organization_id + transaction_id) >> ORGANIZATION_BITS


@lru_cache(10_000)
def _organization_bits(organization_id: str) -> int:
    rest = 64 - ORGANIZATION_BITS
    return _hash(organization_id) >> rest << rest


def content_of(key: Key, code: str, properties: Mapping[str, str], precise_amount: str) -> int | None:
    """A hash of the content of an event as the key table has it: of two with one slot the same only where these are the
    same. None where the texts leave no telling, for there is a NUL in them. `properties` as they were sent, in their
    order."""
    count = len(properties)
    names_and_texts = "\0".join((*properties, *properties.values())) if count else "\0"
    text = f"{key[1]}\0{code}\0{precise_amount}\0{count}\0{names_and_texts}"
    separators = 4 + (2 * count - 1 if count else 1)
    return _hash(text) if text.count("\0") == separators else None


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
