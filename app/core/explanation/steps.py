"""The steps of a price: lines that add up to it (metering spec 3.7 to 3.11, billing spec 1.4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from app.core.charges.literals import amount_or_zero, whole
from app.core.charges.package import packages
from app.core.charges.percentage import Percentage
from app.core.charges.ranges import Tier, place_of, tiers
from app.core.charges.usage import ChargeModel
from app.core.charges.validation import Properties
from app.core.explanation.figures import Figures
from app.core.money import ZERO, exact

Details = Mapping[str, Any]
"""``amount_details`` of a fee (metering spec 3.8)."""

_HUNDRED = Decimal(100)


class StepKind(StrEnum):
    """What a step does."""

    UNITS = "units"
    TIER = "tier"
    FLAT = "flat_amount"
    VOLUME = "volume"
    FREE_UNITS = "free_units"
    PACKAGES = "packages"
    RATE = "rate"
    FREE_EVENTS = "free_events"
    EVENTS = "events"
    BOUNDS = "transaction_bounds"
    OWN_AMOUNTS = "own_amounts"
    BELOW_ZERO = "below_zero"
    DIFFERENCE = "difference"
    DAYS = "days"
    WHOLE = "whole_period"
    MINIMUM = "minimum"
    SPENT = "spent"
    PAID = "already_paid"
    AMOUNT = "amount"
    ROUNDING = "rounding"


@dataclass(frozen=True, slots=True)
class Step:
    """One line: ``amount`` is what it adds, unrounded, in the unit of the prices (currency units, or pricing units).

    ``quantity`` is of units, packages, events or days; ``price`` what one of them costs, ``rate`` that in percent.
    ``above`` and ``up_to`` bound the tier (None: it has no end). ``size`` is that of a package, or of a period in days.
    ``least`` and ``most`` bound the amount of a single event.
    """

    kind: StepKind
    amount: Decimal = ZERO
    quantity: Decimal | None = None
    price: Decimal | None = None
    rate: Decimal | None = None
    above: Decimal | None = None
    up_to: Decimal | None = None
    size: int | None = None
    least: Decimal | None = None
    most: Decimal | None = None


def total(steps: Iterable[Step]) -> Decimal:
    """What the steps come to."""
    with exact():
        return sum((step.amount for step in steps), ZERO)


def charge_steps(
    model: ChargeModel, properties: Properties, figures: Figures, details: Details, *, prorated: bool = False
) -> list[Step]:
    """The steps from a bucket's usage to its price. ``properties`` are those it was priced with, ``details`` the
    ``amount_details`` that came out of it.

    What lies below zero is not billed: a last step says so, and makes up for it.
    """
    if figures.units < 0:
        return [Step(StepKind.BELOW_ZERO, quantity=figures.units)]
    with exact():
        if prorated and model is ChargeModel.GRADUATED:
            steps = _prorated_graduated(properties, figures)
        elif details or model in _WITHOUT_DETAILS:
            steps = _STEPS[model](properties, figures, details)
        else:
            steps = []  # the price was negative: a fee of nothing keeps no details
        missing = -total(steps)
        if missing > 0 or not steps:
            steps.append(Step(StepKind.BELOW_ZERO, max(missing, ZERO)))
    return steps


def difference(units: Decimal, amount: Decimal) -> list[Step]:
    """The step of one event paid in advance: what the period comes to with it, less what it came to before."""
    return [Step(StepKind.DIFFERENCE, amount, quantity=units)]


def period_fee(amount: Decimal, price: Decimal, days: int, period_days: int) -> list[Step]:
    """The step of a fee for a period: the whole price, or its share of the period's days."""
    if days == period_days:
        return [Step(StepKind.WHOLE, amount, price=price)]
    return [Step(StepKind.DAYS, amount, quantity=Decimal(days), price=price, size=period_days)]


def missing_to_minimum(minimum: Decimal, spent: Decimal) -> list[Step]:
    """The steps of a true-up: the minimum of the period, less what the charge has come to."""
    with exact():
        return [Step(StepKind.MINIMUM, minimum, price=minimum), Step(StepKind.SPENT, -spent, price=spent)]


def less_paid(amount: Decimal, whole: Decimal, units: Decimal, unit_amount: Decimal) -> list[Step]:
    """The steps of a fee of which a part was paid before: what its units cost, less that."""
    with exact():
        paid = whole - amount
        return [Step(StepKind.AMOUNT, whole, units, unit_amount), Step(StepKind.PAID, -paid, price=paid)]


def _standard(properties: Properties, figures: Figures, _: Details) -> list[Step]:
    price = amount_or_zero(properties["amount"])
    return [Step(StepKind.UNITS, figures.units * price, quantity=figures.units, price=price)]


def _graduated(properties: Properties, _: Figures, details: Details) -> list[Step]:
    of = tiers(properties["graduated_ranges"], "per_unit_amount")
    return _tiered(of, details["graduated_ranges"], by_rate=False)


def _graduated_percentage(properties: Properties, _: Figures, details: Details) -> list[Step]:
    of = tiers(properties["graduated_percentage_ranges"], "rate")
    return _tiered(of, details["graduated_percentage_ranges"], by_rate=True)


def _tiered(of: Sequence[Tier], shown: Sequence[Details], *, by_rate: bool) -> list[Step]:
    """The tiers reached; one without units is told where it is all there is."""
    steps: list[Step] = []
    for tier, figures in zip(of, shown, strict=False):
        units = Decimal(figures["units"])
        if units or len(shown) == 1:
            cost = Decimal(figures["per_unit_total_amount"])
            price, rate = (None, tier.price) if by_rate else (tier.price, None)
            steps.append(Step(StepKind.TIER, cost, units, price, rate, above=tier.lower, up_to=tier.upper))
        steps += _flat(tier)
    return steps


def _flat(tier: Tier) -> list[Step]:
    return [Step(StepKind.FLAT, tier.flat, above=tier.lower, up_to=tier.upper)] if tier.flat else []


def _prorated_graduated(properties: Properties, figures: Figures) -> list[Step]:
    steps: list[Step] = []
    of = tiers(properties["graduated_ranges"], "per_unit_amount")
    for tier, unit_days in zip(of, figures.unit_days, strict=False):
        if unit_days or len(figures.unit_days) == 1:
            cost = unit_days * tier.price / figures.period_days
            units = unit_days / figures.period_days
            steps.append(Step(StepKind.TIER, cost, units, tier.price, above=tier.lower, up_to=tier.upper))
        steps += _flat(tier)
    return steps


def _volume(properties: Properties, figures: Figures, details: Details) -> list[Step]:
    of = tiers(properties["volume_ranges"], "per_unit_amount")
    full = figures.units if figures.full_units is None else figures.full_units
    tier = of[place_of(max(full, ZERO), of)]
    cost = Decimal(details["per_unit_total_amount"])
    return [
        Step(StepKind.VOLUME, cost, figures.units, tier.price, above=tier.lower, up_to=tier.upper),
        *_flat(tier),
    ]


def _package(properties: Properties, figures: Figures, details: Details) -> list[Step]:
    price, size = amount_or_zero(properties["amount"]), whole(properties["package_size"], 1) or 1
    paid = Decimal(details["paid_units"])
    count = packages(paid, Decimal(size))
    steps = [Step(StepKind.PACKAGES, count * price, count, price, size=size)]
    if free := figures.units - paid:
        steps.insert(0, Step(StepKind.FREE_UNITS, quantity=free))
    return steps


def _percentage(properties: Properties, _: Figures, details: Details) -> list[Step]:
    terms = Percentage.of(properties)
    free_units, free_events = Decimal(details["free_units"]), Decimal(details["free_events"])
    paid_units, paid_events = Decimal(details["paid_units"]), Decimal(details["paid_events"])
    share, fixed = Decimal(details["per_unit_total_amount"]), Decimal(details["fixed_fee_total_amount"])
    steps = [Step(StepKind.FREE_UNITS, quantity=free_units)] if free_units else []
    steps.append(Step(StepKind.RATE, share, paid_units, rate=terms.rate))
    if terms.fixed:
        steps += [Step(StepKind.FREE_EVENTS, quantity=free_events)] if free_events else []
        steps.append(Step(StepKind.EVENTS, fixed, paid_events, terms.fixed))
    if adjustment := Decimal(details["min_max_adjustment_total_amount"]):
        steps.append(Step(StepKind.BOUNDS, adjustment, least=terms.lowest, most=terms.highest))
    return steps


def _dynamic(_: Properties, figures: Figures, __: Details) -> list[Step]:
    amount = figures.own_amount if figures.units else ZERO
    return [Step(StepKind.OWN_AMOUNTS, amount, quantity=figures.units)]


_WITHOUT_DETAILS = frozenset({ChargeModel.STANDARD, ChargeModel.DYNAMIC})
_STEPS: Mapping[ChargeModel, Callable[[Properties, Figures, Details], list[Step]]] = {
    ChargeModel.STANDARD: _standard,
    ChargeModel.GRADUATED: _graduated,
    ChargeModel.GRADUATED_PERCENTAGE: _graduated_percentage,
    ChargeModel.VOLUME: _volume,
    ChargeModel.PACKAGE: _package,
    ChargeModel.PERCENTAGE: _percentage,
    ChargeModel.DYNAMIC: _dynamic,
}
