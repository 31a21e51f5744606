"""Graduated charges: each tier's part of the quantity costs what that tier says (metering spec 3.7 to 3.9)."""

from collections.abc import Sequence
from decimal import Decimal

from app.core.charges.ranges import Tier, place_of, tiers
from app.core.charges.usage import BucketUsage, Priced, PriceFunction, Waterfall, per_unit
from app.core.charges.validation import Properties
from app.core.money import ZERO, decimal_text, exact

_PERCENT = Decimal("0.01")
_ONE = Decimal(1)
_NOTHING = decimal_text(ZERO)


def graduated(properties: Properties) -> PriceFunction:
    """Over the tiers reached, the units in each times its ``per_unit_amount``, and its ``flat_amount``."""
    return _tiered(
        tiers(properties["graduated_ranges"], "per_unit_amount"), "graduated_ranges", "per_unit_amount", _ONE
    )


def graduated_percentage(properties: Properties) -> PriceFunction:
    """Over the tiers reached, ``rate`` percent of the units in each, and its ``flat_amount``."""
    of = tiers(properties["graduated_percentage_ranges"], "rate")
    return _tiered(of, "graduated_percentage_ranges", "rate", _PERCENT)


def _tiered(of: Sequence[Tier], details_key: str, price_key: str, scale: Decimal) -> PriceFunction:
    def details(tier: Tier, inside: Decimal, cost: Decimal) -> dict[str, object]:
        return {
            "from_value": tier.from_value,
            "to_value": tier.to_value,
            "flat_unit_amount": tier.flat_text,
            price_key: tier.price_text if inside or price_key == "rate" else _NOTHING,
            "units": decimal_text(inside),
            "per_unit_total_amount": decimal_text(cost),
            "total_with_flat_amount": decimal_text(cost + tier.flat),
        }

    # What a tier comes to when it is used up never changes.
    prices: list[Decimal] = []
    full_details: list[dict[str, object]] = []
    amounts_below = [ZERO]
    with exact():
        for tier in of:
            prices.append(tier.price * scale)
            if tier.upper is not None:
                inside = tier.upper - tier.lower
                cost = inside * prices[-1]
                full_details.append(details(tier, inside, cost))
                amounts_below.append(amounts_below[-1] + cost + tier.flat)

    def priced(usage: BucketUsage) -> Priced:
        units = usage.units
        # The first tier is always reached: its flat amount is due even without usage.
        top = place_of(units, of)
        tier = of[top]
        with exact():
            inside = max(units - tier.lower, ZERO)
            cost = inside * prices[top]
            amount = amounts_below[top] + cost + tier.flat
            shown = [*map(dict, full_details[:top]), details(tier, inside, cost)]
            return Priced(amount, per_unit(amount, usage.full), {details_key: shown})

    return priced


def prorated_graduated(properties: Properties) -> PriceFunction:
    """The portions of the waterfall, laid on the tiers by their full value, each slice at its tier's price for the
    portion's share of the period (metering spec 3.9).

    A negative portion takes its slices off the top, at their tiers' prices for the removing portion's share; below 0
    there is nothing to price. The flat amounts of all tiers up to the highest one touched are due in full. Nothing
    is due when the portions add up to less than 0. ``ValueError`` for a usage without waterfall.
    """
    of = tiers(properties["graduated_ranges"], "per_unit_amount")

    def priced(usage: BucketUsage) -> Priced:
        if usage.waterfall is None:
            raise ValueError("a prorated graduated price needs the single events")
        with exact():
            unit_days, level, highest = _poured(of, usage.waterfall)
            if level < 0:
                return Priced(ZERO, ZERO, {})
            reached = place_of(highest, of) + 1
            # Divided once, so that what comes out even stays even.
            whole = sum((days * tier.price for tier, days in zip(of, unit_days, strict=True)), ZERO)
            amount = whole / usage.waterfall.period_days + sum((tier.flat for tier in of[:reached]), ZERO)
            return Priced(amount, per_unit(amount, level), {}, tuple(unit_days[:reached]))

    return priced


def _poured(of: Sequence[Tier], waterfall: Waterfall) -> tuple[list[Decimal], Decimal, Decimal]:
    """The slices in each tier times the days they last, the level in the end, and the highest one on the way."""
    unit_days = [ZERO for _ in of]
    level = highest = ZERO
    for portion in waterfall.portions:
        before, level = level, level + portion.value
        highest = max(highest, level)
        bottom, top = sorted((before, level))
        days = portion.days if portion.value > 0 else -portion.days
        for place, tier in enumerate(of):
            unit_days[place] += _between(tier, bottom, top) * days
    return unit_days, level, highest


def _between(tier: Tier, bottom: Decimal, top: Decimal) -> Decimal:
    """How much of the stretch from ``bottom`` to ``top`` lies in the tier."""
    end = top if tier.upper is None else min(top, tier.upper)
    return max(end - max(bottom, tier.lower), ZERO)
