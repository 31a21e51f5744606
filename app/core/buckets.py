"""Which bucket of a charge an event belongs to: one charge filter or none, and the group within it.

A charge's buckets partition its usage: every event is in exactly one of them. Metering spec 3.4, 3.5.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import and_
from typing import NamedTuple

ALL_VALUES = "__ALL_FILTER_VALUES__"
"""Stands alone in a charge filter's list of values for every value that the metric lists for the key."""

Properties = Mapping[str, str]
"""Texts of an event's properties. An empty text is an absent property."""
Values = Mapping[str, Sequence[str]]
"""The values that a filter accepts, by key."""
Sets = Mapping[str, frozenset[str]]
"""The same as sets."""


class Bucket(NamedTuple):
    """One bucket of a charge: the position of its filter (None: the default bucket), the values of the group keys in
    force there, and those of the charge's presentation keys, each in the order of the keys; None for an absent property.
    """

    filter: int | None
    group: tuple[str | None, ...] = ()
    presentation: tuple[str | None, ...] = ()


def expanded(values: Values, vocabulary: Values) -> dict[str, tuple[str, ...]]:
    """A charge filter's values with ``ALL_VALUES`` replaced by what the metric lists for the key at present."""
    return {key: tuple(vocabulary.get(key, ()) if takes_all(ones) else ones) for key, ones in values.items()}


def takes_all(ones: Sequence[str]) -> bool:
    """Whether a filter's list for a key stands for every value that the metric lists."""
    return list(ones) == [ALL_VALUES]


def group_of(properties: Properties, keys: Sequence[str]) -> tuple[str | None, ...]:
    """The values of group keys; None where the property is absent or empty."""
    return tuple(properties.get(key) or None for key in keys)


class Router:
    """Finds the one filter of a charge that an event belongs to, in a time that hardly depends on their number.

    Takes the filters oldest first, their values expanded. An event matches a filter when each of its keys is a property
    of the event whose text is in the filter's list. Of the matching filters those with the most keys are kept. Of these
    one is preferred whose value sets are a strict subset of another's on the same keys, as long as there is any: the most
    specific one goes first. Then the oldest (metering spec 3.4).

    Whatever matches a filter matches those it is a subset of too. So which of two filters goes first never depends on
    the event: the filters are sorted once, and each key and value remembers as bits of an integer which filters take it.
    """

    def __init__(self, filters: Sequence[Values]):
        known: dict[frozenset[str], frozenset[str]] = {}  # equal sets are one object: finding them again is cheap
        sets: list[Sets] = [
            {key: known.setdefault(ones := frozenset(values), ones) for key, values in one.items()} for one in filters
        ]
        depths = _depths(sets)
        self.keys: tuple[str, ...] = tuple(sorted({key for one in sets for key in one}))
        self._order = sorted(range(len(sets)), key=lambda index: (-len(sets[index]), -depths[index], index))
        self._everyone = (1 << len(sets)) - 1
        masks = _Masks([sets[index] for index in self._order])
        self._tables: list[tuple[dict[str, int], int]] = []
        for key in self.keys:
            indifferent = self._everyone & ~masks.having[key]
            takers = {value: mask | indifferent for value, mask in masks.taking[key].items()}
            self._tables.append((takers, indifferent))

    def route(self, properties: Properties) -> int | None:
        """The position of the filter that the event belongs to; None for the default bucket."""
        return self.route_values([properties.get(key) for key in self.keys])

    def route_values(self, values: Sequence[str | None]) -> int | None:
        """``route`` for values in the order of ``keys``, an absent one being None or empty."""
        matching = self._everyone
        for (takers, indifferent), value in zip(self._tables, values, strict=True):
            matching &= takers.get(value, indifferent) if value else indifferent
            if not matching:
                return None
        return self._order[(matching & -matching).bit_length() - 1] if matching else None


class Splitter:
    """How a charge's usage falls into buckets, ready to be asked once per distinct combination of values.

    ``filters`` are oldest first with expanded values; ``filter_group_keys`` are the group keys of each, which replace
    the charge's own ``group_keys`` there; ``presentation_keys`` hold in every bucket.
    """

    def __init__(
        self,
        filters: Sequence[Values] = (),
        group_keys: Sequence[str] = (),
        filter_group_keys: Sequence[Sequence[str]] = (),
        presentation_keys: Sequence[str] = (),
    ):
        self.router = Router(filters)
        groups = [*filter_group_keys, group_keys]  # the last one is the default bucket's: position -1
        if len(groups) != len(filters) + 1:
            raise ValueError("every filter has group keys, be it none")
        needed = {*self.router.keys, *presentation_keys, *(key for keys in groups for key in keys)}
        self.keys: tuple[str, ...] = tuple(sorted(needed))
        place = {key: position for position, key in enumerate(self.keys)}
        self._routed = [place[key] for key in self.router.keys]
        self._groups = [[place[key] for key in keys] for keys in groups]
        self._presented = [place[key] for key in presentation_keys]
        self._only = None if self.keys else Bucket(None)

    def bucket(self, values: Sequence[str | None]) -> Bucket:
        """The bucket of events with these values, in the order of ``keys``; an absent one is None or empty."""
        if self._only is not None:
            return self._only
        chosen = self.router.route_values([values[place] for place in self._routed])
        group = self._groups[-1 if chosen is None else chosen]
        return Bucket(
            chosen,
            tuple(values[place] or None for place in group),
            tuple(values[place] or None for place in self._presented),
        )


class _Masks:
    """Filters as the bits of integers: ``of_set`` has those with a set of values on a key, ``having`` those with the key
    at all, ``taking`` those that take a value.
    """

    def __init__(self, filters: Sequence[Sets]):
        of_set: dict[str, dict[frozenset[str], list[int]]] = {}
        for index, sets in enumerate(filters):
            for key, values in sets.items():
                of_set.setdefault(key, {}).setdefault(values, []).append(index)
        self.of_set = {key: {values: _mask(places) for values, places in one.items()} for key, one in of_set.items()}
        self.having = {key: _mask(place for places in one.values() for place in places) for key, one in of_set.items()}
        self.taking: dict[str, dict[str, int]] = {}
        for key, one in self.of_set.items():
            taking = self.taking[key] = {}
            for values, mask in one.items():
                for value in values:
                    taking[value] = taking.get(value, 0) | mask


def _depths(filters: Sequence[Sets]) -> list[int]:
    """How specific each filter is: the length of the longest chain of strict supersets, on the same keys, above it."""
    depths = [0] * len(filters)
    on_same_keys: dict[frozenset[str], list[int]] = {}
    for index, sets in enumerate(filters):
        on_same_keys.setdefault(frozenset(sets), []).append(index)
    for indexes in on_same_keys.values():
        for index, depth in zip(indexes, _depths_on_same_keys([filters[index] for index in indexes]), strict=True):
            depths[index] = depth
    return depths


def _depths_on_same_keys(filters: Sequence[Sets]) -> list[int]:
    masks = _Masks(filters)
    covering: dict[tuple[str, frozenset[str]], int] = {}
    depths = [0] * len(filters)
    levels: list[int] = []
    # A strict superset has more values: with the largest filters first, all above a filter have their depth already.
    for index in sorted(range(len(filters)), key=lambda one: -sum(map(len, filters[one].values()))):
        above = same = (1 << len(filters)) - 1
        for key, values in filters[index].items():
            if (key, values) not in covering:
                takers = (masks.taking[key][value] for value in values)
                covering[key, values] = reduce(and_, takers, masks.having[key])
            above &= covering[key, values]
            same &= masks.of_set[key][values]
        above &= ~same
        depth = 0
        while depth < len(levels) and above & levels[depth]:
            depth += 1
        if depth == len(levels):
            levels.append(0)
        levels[depth] |= 1 << index
        depths[index] = depth
    return depths


def _mask(places: Iterable[int]) -> int:
    """The integer with these bits set."""
    bits = bytearray()
    for place in places:
        byte = place >> 3
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        bits[byte] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")
