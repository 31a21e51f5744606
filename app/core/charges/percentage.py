"""Percentage charges: a share of the units and a fixed amount for each event (metering spec 3.7, 3.8)."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from app.core.charges.literals import amount, amount_or_zero, whole
from app.core.charges.usage import BucketUsage, Priced, PriceFunction, Run, Spent, per_unit
from app.core.charges.validation import Properties
from app.core.money import ZERO, decimal_text, exact

_HUNDRED = Decimal(100)
_NOTHING = decimal_text(ZERO)


@dataclass(frozen=True, slots=True)
class Percentage:
    """The properties, read: the rate in percent, the amounts in currency units; an allowance that is 0 is none."""

    rate: Decimal
    fixed: Decimal
    free_events: int
    free_units: Decimal
    lowest: Decimal | None
    highest: Decimal | None

    @classmethod
    def of(cls, properties: Properties) -> "Percentage":
        """Read properties that have been found valid."""
        return cls(
            rate=amount_or_zero(properties["rate"]),
            fixed=amount_or_zero(properties.get("fixed_amount")),
            free_events=whole(properties.get("free_units_per_events"), 1) or 0,
            free_units=amount_or_zero(properties.get("free_units_per_total_aggregation")),
            lowest=amount(properties.get("per_transaction_min_amount")),
            highest=amount(properties.get("per_transaction_max_amount")),
        )

    @property
    def has_allowance(self) -> bool:
        """Whether something is free."""
        return bool(self.free_events or self.free_units)

    @property
    def has_bounds(self) -> bool:
        """Whether each event is priced by itself."""
        return self.lowest is not None or self.highest is not None

    @property
    def looks_at_events(self) -> bool:
        """Whether units and the number of events do not say enough."""
        return self.has_allowance or self.has_bounds

    def transaction(self, value: Decimal) -> Decimal:
        """What one event of this value costs, within the bounds. To be called in ``money.exact()``."""
        cost = value * self.rate / _HUNDRED + self.fixed
        if self.lowest is not None:
            cost = max(cost, self.lowest)
        return cost if self.highest is None else min(cost, self.highest)

    @property
    def unspent(self) -> Spent:
        """Before the first event."""
        return Spent(room=self.free_units, events=0 if self.free_units else self.free_events)

    def spend(self, spent: Spent, value: Decimal) -> Spent:
        """After one more event. Told event by event, ``price`` comes to the same as with all their values at once."""
        taken, total, below = spent.taken, spent.total, spent.below
        room, events, bounded = spent.room, spent.events, spent.bounded
        with exact():
            ended = taken >= self.free_events if self.free_events else total > self.free_units
            if self.has_allowance and not ended:
                taken += 1
                total += value
                below += bool(self.free_units) and total < self.free_units
            if self.has_bounds:
                if events:
                    events -= 1
                elif room and (value <= 0 or value < room):
                    room -= value
                else:
                    bounded += self.transaction(value - room)
                    room = ZERO
        return Spent(taken, total, below, room, events, bounded)


def percentage(properties: Properties) -> PriceFunction:
    """``rate`` percent of the units that are not free, and ``fixed_amount`` for each event that is not free.

    With a lowest or highest amount per transaction the amount is the sum of the events' own ones, each within these
    bounds; the details show what that changed. ``ValueError`` for a usage without runs when they are needed.
    """
    terms = Percentage.of(properties)
    rate_text, fixed_text = decimal_text(terms.rate), decimal_text(terms.fixed)

    def priced(usage: BucketUsage) -> Priced:
        spent = usage.spent
        if terms.looks_at_events and usage.runs is None and spent is None:
            raise ValueError("this percentage price needs the single events")
        runs, units = usage.runs or (), usage.units
        with exact():
            free_units, free_events = ZERO, 0
            if terms.has_allowance:
                free_units, free_events = (
                    _free(terms, runs) if spent is None else _freed(terms, spent.total, spent.below)
                )
            paid_units = max(units - free_units, ZERO) if free_units else units
            paid_events = max(usage.events_count - free_events, 0) if units else 0
            share = paid_units * terms.rate / _HUNDRED
            fixed = paid_events * terms.fixed
            total = unbounded = share + fixed
            if terms.has_bounds:
                total = _bounded(terms, runs) if spent is None else spent.bounded
            details: dict[str, object] = {
                "units": decimal_text(units),
                "free_units": decimal_text(units - paid_units),
                "free_events": min(usage.events_count, free_events),
                "paid_units": decimal_text(paid_units),
                "rate": rate_text,
                "per_unit_total_amount": decimal_text(share),
                "paid_events": paid_events,
                "fixed_fee_unit_amount": fixed_text if paid_events else _NOTHING,
                "fixed_fee_total_amount": decimal_text(fixed),
                "min_max_adjustment_total_amount": decimal_text(total - unbounded),
            }
            return Priced(total, per_unit(total, usage.full), details)

    return priced


def _free(terms: Percentage, runs: Iterable[Run]) -> tuple[Decimal, int]:
    """The units and the number of events that are free.

    Running totals go over the first ``free_events``, or without that number until one is above ``free_units``. The
    smaller allowance ends what is free; an event that does not leave the total below ``free_units`` pays.
    """
    total, below, taken = ZERO, 0, 0
    for run in runs:
        room = terms.free_units - total
        if taken == terms.free_events if terms.free_events else room < 0:
            break
        times = min(run.times, terms.free_events - taken) if terms.free_events else _times_until_above(run, room)
        if terms.free_units:
            below += _times_below(run, times, room)
        taken += times
        total += times * run.value
    return _freed(terms, total, below)


def _freed(terms: Percentage, total: Decimal, below: int) -> tuple[Decimal, int]:
    """The same from the sum of the events that count for it, and how many of the running totals are below
    ``free_units``."""
    free_units = min(total, terms.free_units) if terms.free_units else total
    return free_units, min((count for count in (terms.free_events, below) if count), default=0)


def _times_until_above(run: Run, room: Decimal) -> int:
    """How many events of a run are added until their sum is above ``room``, at most all."""
    if run.value <= 0:
        return run.times
    return min(run.times, int(room // run.value) + 1)


def _times_below(run: Run, times: int, room: Decimal) -> int:
    """How many of the first sums ``value, 2 * value, …`` of a run are below ``room``."""
    if run.value > 0:
        return min(times, _steps_below(run.value, room))
    return sum(step * run.value < room for step in range(1, times + 1))


def _steps_below(step: Decimal, room: Decimal) -> int:
    """The greatest number of positive steps that stays below ``room``; 0 when none does."""
    steps, rest = divmod(room, step)
    return max(int(steps) - (not rest), 0)


def _bounded(terms: Percentage, runs: Iterable[Run]) -> Decimal:
    """The sum over single events, each within the bounds.

    While there is an allowance of units, an event below what is left of it is free and uses it up; the first other
    one pays for the rest of its value and ends both allowances. Without one, the first ``free_events`` are free.
    """
    total, room, free_events = ZERO, terms.free_units, 0 if terms.free_units else terms.free_events
    for run in runs:
        value, times = run.value, run.times
        free = min(times, free_events)
        free_events -= free
        times -= free
        if room and times:
            free = times if value <= 0 else min(times, _steps_below(value, room))
            room -= free * value
            times -= free
            if times:
                total += terms.transaction(value - room)
                room, times = ZERO, times - 1
        if times:
            total += times * terms.transaction(value)
    return total
