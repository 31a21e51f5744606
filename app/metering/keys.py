"""The memory of event keys: surely new, or perhaps seen before (design: dedupe before the insert)."""

from collections.abc import Iterable

from rbloom import Bloom

FIRST_CAPACITY = 1_000_000
FALSE_POSITIVES = 0.001

Key = tuple[str, str, str]
"""Organization, external subscription id, transaction id."""


class KeyFilter:
    """Every key ever added is known; a key never added is almost always unknown.

    A chain of Bloom filters, each twice as large as the one before, so that it grows with what it has seen: about
    1.8 bytes a key.
    """

    def __init__(self) -> None:
        self._filters = [Bloom(FIRST_CAPACITY, FALSE_POSITIVES)]
        self._room = FIRST_CAPACITY
        self._capacity = FIRST_CAPACITY

    def __contains__(self, key: Key) -> bool:
        for one in self._filters:  # noqa: SIM110 (a generator costs more than the look-ups)
            if key in one:
                return True
        return False

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
                self._filters.append(Bloom(self._capacity, FALSE_POSITIVES))
