"""Instant estimates: what one event costs by itself, whatever was before it (metering spec 5.7)."""

from collections.abc import Callable
from decimal import Decimal

from app.core.charges.literals import amount_or_zero
from app.core.charges.percentage import Percentage
from app.core.charges.usage import ChargeModel
from app.core.charges.validation import Properties
from app.core.money import ZERO, exact

INSTANT_MODELS = frozenset({ChargeModel.STANDARD, ChargeModel.PERCENTAGE})
"""Models that instant estimates exist for."""


def compile_instant(model: ChargeModel, properties: Properties) -> Callable[[Decimal], Decimal]:
    """A function of an event's units (after the metric's rounding) giving its amount, unrounded, in currency units.

    Percentages have their fixed amount and their bounds, and nothing free. Negative units cost nothing.
    ``ValueError`` for a model outside ``INSTANT_MODELS``.
    """
    match model:
        case ChargeModel.STANDARD:
            price = amount_or_zero(properties["amount"])
            cost: Callable[[Decimal], Decimal] = lambda units: units * price  # noqa: E731
        case ChargeModel.PERCENTAGE:
            cost = Percentage.of(properties).transaction
        case _:
            raise ValueError(f"{model} has no instant estimate")

    def priced(units: Decimal) -> Decimal:
        with exact():
            return ZERO if units < 0 else cost(units)

    return priced
