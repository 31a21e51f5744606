"""Standard charges: every unit costs the same (metering spec 3.7)."""

from app.core.charges.literals import amount_or_zero
from app.core.charges.usage import BucketUsage, Priced, PriceFunction, per_unit
from app.core.charges.validation import Properties
from app.core.money import EXACT, ZERO, exact


def standard(properties: Properties) -> PriceFunction:
    """``units * amount``. Of prorated units the unit price is per full unit, so it shows a diluted price."""
    price = amount_or_zero(properties["amount"])

    def priced(usage: BucketUsage) -> Priced:
        units = usage.units
        amount = EXACT.multiply(units, price)
        if usage.full_units is None:
            return Priced(amount, price if units else ZERO, {})
        with exact():
            return Priced(amount, per_unit(amount, usage.full_units), {})

    return priced
