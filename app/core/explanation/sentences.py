"""Steps and measurements in plain English, for the people who pay for them."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from app.core.aggregation import Aggregation
from app.core.buckets import takes_all
from app.core.explanation.figures import Figures
from app.core.explanation.steps import Step, StepKind
from app.core.money import ZERO

_ONE = Decimal(1)


class Words(Protocol):
    """How numbers are written."""

    def money(self, amount: Decimal) -> str:
        """An amount in the unit of the prices: €1,234.50."""

    def number(self, value: Decimal) -> str:
        """A quantity: 1,234.5."""


def counted(value: Decimal | int, noun: str, words: Words) -> str:
    """A number of things: ``1 unit``, ``2.5 units``."""
    return f"{words.number(Decimal(value))} {noun}{'' if value == _ONE else 's'}"


def step_sentence(step: Step, words: Words) -> str:
    """What a step does."""
    return _SENTENCES[step.kind](step, words)


def rounding_sentence(precise: Decimal, rounded: Decimal, words: Words) -> str:
    """How an unrounded amount becomes the one that is billed."""
    if precise == rounded:
        return f"Together: {words.money(rounded)}."
    return f"Together {words.money(precise)}, rounded to {words.money(rounded)}."


def measured_sentence(
    aggregation: Aggregation, field: str | None, figures: Figures, words: Words, *, recurring: bool
) -> str:
    """What was measured, before anything is rounded or prorated."""
    units, events = counted(figures.measured, "unit", words), counted(figures.events_count, "event", words)
    named = f' in "{field}"' if field else ""
    since = ", including what was there before the period" if recurring else ""
    match aggregation:
        case Aggregation.UNIQUE_COUNT:
            values = counted(figures.measured, "different value", words)
            text = f"{values}{named} {_was(figures.measured)} active at the end of the period{since}: {units}."
        case _ if not figures.events_count and aggregation is not Aggregation.WEIGHTED_SUM:
            text = f"No event was counted: {units}."
        case Aggregation.COUNT:
            text = f"{events} {_was(figures.events_count)} counted: {units}."
        case Aggregation.SUM:
            text = f"The values{named} of {events}{since} add up to {units}."
        case Aggregation.MAX:
            text = f"The largest value{named} of {events} is {words.number(figures.measured)}: {units}."
        case Aggregation.LATEST:
            text = f"The newest value{named} of {events} counts: {units}."
        case _:
            text = (
                f"{events}{named} changed the level{since}; each level counts for the time that it lasted, "
                f"out of the whole period: {units}."
            )
    return text


def rounded_sentence(figures: Figures, function: str, precision: int, words: Words) -> str | None:
    """The rounding of the metric (metering spec 2.8); None where it changed nothing."""
    rounded = figures.units if figures.full_units is None else figures.full_units
    if rounded == figures.measured:
        return None
    how = {"ceil": "up", "floor": "down"}.get(function, "half up")
    where = f"to {counted(precision, 'decimal', words)}" if precision > 0 else "to whole units"
    if precision < 0:
        where = f"to {words.number(_ONE.scaleb(-precision))}s"
    return f"The metric rounds {how} {where}: {counted(rounded, 'unit', words)}."


def prorated_sentence(figures: Figures, words: Words) -> str:
    """The proration of units (metering spec 3.9)."""
    return (
        f"Units are charged for the days of the period that they were there, "
        f"out of {counted(figures.period_days, 'day', words)}: {counted(figures.units, 'unit', words)}."
    )


def bucket_sentences(
    values: Mapping[str, Sequence[str]] | None, other_filters: int, group: Mapping[str, str | None]
) -> list[str]:
    """Which events count here, of all the charge's: those of its filter, or of none of them; and of the group."""
    sentences = []
    if values:
        wanted = " and ".join(
            f"a {key} that the metric lists" if takes_all(ones) else f"{key} {_listed(ones, 'or')}"
            for key, ones in values.items()
        )
        better = ", unless a more specific filter takes them" if other_filters else ""
        sentences.append(f"Only events with {wanted} count here{better}.")
    elif other_filters:
        sentences.append("Only events that match none of the charge's filters count here.")
    if group:
        told = " and ".join(f"without {key}" if value is None else f"{key} {value}" for key, value in group.items())
        sentences.append(f"They are priced by {_listed(list(group))}; this is the part {_with(told)}.")
    return sentences


def _with(told: str) -> str:
    return told if told.startswith("without") else f"with {told}"


def _listed(names: Sequence[str], last: str = "and") -> str:
    *others, final = names or [""]
    return f"{', '.join(others)} {last} {final}" if others else final


def _was(value: Decimal | int) -> str:
    return "was" if value == _ONE else "were"


def _bounds(step: Step, words: Words) -> str:
    above, up_to = step.above or ZERO, step.up_to
    low, high = f"above {words.number(above)}", "" if up_to is None else f"up to {words.number(up_to)}"
    return " ".join(part for part in (low if above else "", high) if part)


def _units(step: Step, words: Words) -> str:
    return f"{_times(step, 'unit', words)}."


def _times(step: Step, noun: str, words: Words) -> str:
    """``100 units × €0.10 = €10.00``."""
    each = words.money(step.price or ZERO)
    return f"{counted(step.quantity or ZERO, noun, words)} × {each} = {words.money(step.amount)}"


def _share(step: Step, words: Words) -> str:
    """``2% of 420 units = €8.40``."""
    units = counted(step.quantity or ZERO, "unit", words)
    return f"{words.number(step.rate or ZERO)}% of {units} = {words.money(step.amount)}"


def _tier(step: Step, words: Words) -> str:
    bounds = _bounds(step, words)
    cost = _share(step, words) if step.rate is not None else _times(step, "unit", words)
    return f"Units {bounds}: {cost}." if bounds else f"{cost}."


def _flat(step: Step, words: Words) -> str:
    bounds = _bounds(step, words)
    of = f" for the tier {bounds} units" if bounds else ""
    return f"Flat amount{of}: {words.money(step.amount)}."


def _volume(step: Step, words: Words) -> str:
    bounds = _bounds(step, words)
    where = f"All units have the price of the tier {bounds} units: " if bounds else ""
    return f"{where}{_times(step, 'unit', words)}."


def _free_units(step: Step, words: Words) -> str:
    quantity = step.quantity or ZERO
    return f"{counted(quantity, 'unit', words)} {'is' if quantity == _ONE else 'are'} free."


def _packages(step: Step, words: Words) -> str:
    return (
        f"Packages of {counted(step.size or 1, 'unit', words)}, begun ones in full: {_times(step, 'package', words)}."
    )


def _rate(step: Step, words: Words) -> str:
    return f"{_share(step, words)}."


def _free_events(step: Step, words: Words) -> str:
    quantity = step.quantity or ZERO
    return f"{counted(quantity, 'event', words)} {'is' if quantity == _ONE else 'are'} free of the fixed amount."


def _events(step: Step, words: Words) -> str:
    return f"Fixed amount: {_times(step, 'event', words)}."


def _transaction_bounds(step: Step, words: Words) -> str:
    bounds = [f"at least {words.money(step.least)}"] if step.least is not None else []
    bounds += [f"at most {words.money(step.most)}"] if step.most is not None else []
    does = "adds" if step.amount > 0 else "takes off"
    return f"Each event that is not free costs {' and '.join(bounds)}, which {does} {words.money(abs(step.amount))}."


def _own_amounts(step: Step, words: Words) -> str:
    return f"Each event carries its own amount; together they are {words.money(step.amount)}."


def _below_zero(step: Step, words: Words) -> str:
    if step.quantity is not None:
        return f"{counted(step.quantity, 'unit', words)}: usage below zero is not billed."
    return "An amount below zero is not billed."


def _difference(step: Step, words: Words) -> str:
    units = counted(step.quantity or ZERO, "unit", words)
    return (
        f"This event is billed for {units}: the period costs {words.money(step.amount)} more with it than without it."
    )


def _days(step: Step, words: Words) -> str:
    days, of = counted(step.quantity or ZERO, "day", words), counted(step.size or 1, "day", words)
    return f"{words.money(step.price or ZERO)} for {of}, of which {days} count: {words.money(step.amount)}."


def _whole(step: Step, words: Words) -> str:
    return f"The price of a whole period: {words.money(step.amount)}."


def _minimum(step: Step, words: Words) -> str:
    return f"The minimum of this period is {words.money(step.amount)}."


def _spent(step: Step, words: Words) -> str:
    return f"What counts towards it comes to {words.money(step.price or ZERO)}; the rest is billed here."


def _paid(step: Step, words: Words) -> str:
    return f"{words.money(step.price or ZERO)} of that was paid with the plan before."


def _amount(step: Step, words: Words) -> str:
    if step.quantity is None:
        return f"The amount is {words.money(step.amount)}."
    return f"{counted(step.quantity, 'unit', words)} cost {words.money(step.amount)}."


def _rounding(step: Step, words: Words) -> str:
    return f"Rounding: {words.money(step.amount)}."


_SENTENCES: Mapping[StepKind, Callable[[Step, Words], str]] = {
    StepKind.UNITS: _units,
    StepKind.TIER: _tier,
    StepKind.FLAT: _flat,
    StepKind.VOLUME: _volume,
    StepKind.FREE_UNITS: _free_units,
    StepKind.PACKAGES: _packages,
    StepKind.RATE: _rate,
    StepKind.FREE_EVENTS: _free_events,
    StepKind.EVENTS: _events,
    StepKind.BOUNDS: _transaction_bounds,
    StepKind.OWN_AMOUNTS: _own_amounts,
    StepKind.BELOW_ZERO: _below_zero,
    StepKind.DIFFERENCE: _difference,
    StepKind.DAYS: _days,
    StepKind.WHOLE: _whole,
    StepKind.MINIMUM: _minimum,
    StepKind.SPENT: _spent,
    StepKind.PAID: _paid,
    StepKind.AMOUNT: _amount,
    StepKind.ROUNDING: _rounding,
}
