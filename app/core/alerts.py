"""Alerts: which of their thresholds a value has crossed (billing spec 8.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from app.core.money import ZERO, exact

MOST_STEPS = 100
"""How many steps of a recurring threshold are told of at once: the latest."""


@dataclass(frozen=True, slots=True)
class AlertThreshold:
    """A value to be told of; of a `recurring` one, which is more than 0, each further step beyond the outermost of the
    others."""

    code: str | None
    value: Decimal
    recurring: bool = False


def crossed(
    thresholds: Sequence[AlertThreshold], previous: Decimal, current: Decimal, *, decreasing: bool = False
) -> list[AlertThreshold]:
    """What a value has crossed on its way from the last one looked at, in the order of the way; what is reached counts.
    Steps of a recurring threshold come with the values that they are at."""
    with exact():
        if decreasing:
            mirrored = [AlertThreshold(one.code, one.value if one.recurring else -one.value, one.recurring)
                        for one in thresholds]  # fmt: skip
            return [AlertThreshold(one.code, -one.value or ZERO, one.recurring)
                    for one in _crossed(mirrored, -previous, -current)]  # fmt: skip
        return _crossed(thresholds, previous, current)


def _crossed(thresholds: Sequence[AlertThreshold], previous: Decimal, current: Decimal) -> list[AlertThreshold]:
    once = [one for one in thresholds if not one.recurring]
    found = [one for one in once if previous < one.value <= current]
    base = max((one.value for one in once), default=ZERO)
    for one in thresholds:
        if one.recurring:
            last = _steps(base, one.value, current)
            first = max(_steps(base, one.value, previous), last - MOST_STEPS)
            found += [
                AlertThreshold(one.code, base + number * one.value, True) for number in range(first + 1, last + 1)
            ]
    return sorted(found, key=lambda one: one.value)


def _steps(base: Decimal, step: Decimal, value: Decimal) -> int:
    """How many whole steps beyond the base a value is."""
    return max(int(((value - base) / step).to_integral_value(ROUND_FLOOR)), 0)
