"""Dynamic charges: each event brings its own amount (metering spec 3.7)."""

from app.core.charges.usage import BucketUsage, Priced, PriceFunction, per_unit
from app.core.charges.validation import Properties
from app.core.money import ZERO, exact


def dynamic(_properties: Properties) -> PriceFunction:
    """The sum of the events' own amounts; nothing where there are no units."""

    def priced(usage: BucketUsage) -> Priced:
        with exact():
            amount = usage.precise_total_amount if usage.units else ZERO
            return Priced(amount, per_unit(amount, usage.units), {})

    return priced
