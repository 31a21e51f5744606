"""Usage thresholds: which of them usage passes, and how far it is to the next (billing spec 8.2, 8.4). All amounts are in
minor units."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from uuid import UUID

MOST_STEPS = 100
"""How many reached steps of a recurring threshold are told of: the latest."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """An amount of lifetime usage, more than 0; of a `recurring` one, the steps above the largest of the others."""

    id: UUID
    amount_cents: int
    recurring: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """What a subscription has used, before taxes: before it came here, as invoiced for earlier periods, and in the current
    period, of which `billed` is on a progressive invoice already."""

    historical: int
    invoiced: int
    current: int
    billed: int

    @property
    def before(self) -> int:
        """What has been invoiced in one way or the other."""
        return self.historical + self.invoiced + self.billed

    @property
    def since(self) -> int:
        """What has come since; negative where usage has gone down."""
        return self.current - self.billed

    @property
    def total(self) -> int:
        """The lifetime usage."""
        return self.historical + self.invoiced + self.current


@dataclass(frozen=True, slots=True)
class Completion:
    """How far usage is on the way to an amount from the one before: `ratio` is 1 where it is reached."""

    threshold: Threshold
    amount_cents: int
    ratio: Fraction


def passed(thresholds: Iterable[Threshold], used: Used) -> list[Threshold]:
    """The thresholds that usage has passed since it was last invoiced, smallest first, the recurring one last (billing spec
    8.2)."""
    if used.since < 0:
        return []
    fixed, recurring = _parts(thresholds)
    largest = fixed[-1].amount_cents if fixed else 0
    found: list[Threshold] = []
    steps = recurring.amount_cents if recurring else 0
    if used.before < largest:
        found = [one for one in fixed if used.before < one.amount_cents <= used.total]
        repeats = used.total - largest >= steps
    else:
        repeats = bool(steps) and used.since + used.before % steps >= steps
    return [*found, recurring] if recurring and repeats else found


def completions(thresholds: Iterable[Threshold], total: int) -> list[Completion]:
    """How far lifetime usage is to each threshold, in the order of amounts. A recurring one has an entry for each of its
    steps that is reached, the latest `MOST_STEPS` of them, and one for the next (billing spec 8.4)."""
    fixed, recurring = _parts(thresholds)
    amounts = [(one, one.amount_cents) for one in fixed]
    if recurring is not None:
        base, step = (fixed[-1].amount_cents if fixed else 0), recurring.amount_cents
        reached = max((total - base) // step, 0)
        steps = range(max(reached - MOST_STEPS, 0) + 1, reached + 2)
        amounts += [(recurring, base + number * step) for number in steps]
    found, previous = [], 0
    for one, amount in amounts:
        found.append(Completion(one, amount, min(Fraction(max(total - previous, 0), amount - previous), Fraction(1))))
        previous = amount
    return found


def _parts(thresholds: Iterable[Threshold]) -> tuple[list[Threshold], Threshold | None]:
    """The fixed ones, smallest first, and the recurring one."""
    by_amount = sorted(thresholds, key=lambda one: one.amount_cents)
    recurring = next((one for one in by_amount if one.recurring), None)
    return [one for one in by_amount if not one.recurring], recurring
