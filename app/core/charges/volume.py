"""Volume charges: the whole quantity costs what the one tier says that it lies in (metering spec 3.7, 3.8)."""

from app.core.charges.ranges import place_of, tiers
from app.core.charges.usage import BucketUsage, Priced, PriceFunction, per_unit
from app.core.charges.validation import Properties
from app.core.money import ZERO, decimal_text, exact, round_half_up

_SHOWN_PLACES = 15


def volume(properties: Properties) -> PriceFunction:
    """``units * per_unit_amount + flat_amount`` of the tier with the full units.

    Prorated units are multiplied, full ones choose the tier; the price per full unit shown for them has 15 decimals.
    Below zero units it is the price of 0 units.
    """
    of = tiers(properties["volume_ranges"], "per_unit_amount")

    def priced(usage: BucketUsage) -> Priced:
        with exact():
            full = max(usage.full, ZERO)
            tier = of[place_of(full, of)]
            cost = max(usage.units, ZERO) * tier.price
            amount = cost + tier.flat
            each = tier.price if full else ZERO
            if usage.full_units is not None:
                each = round_half_up(per_unit(cost, full), _SHOWN_PLACES)
            details: dict[str, object] = {
                "flat_unit_amount": tier.flat_text,
                "per_unit_amount": decimal_text(each),
                "per_unit_total_amount": decimal_text(cost),
            }
            return Priced(amount, per_unit(amount, full), details)

    return priced
