"""Pricing units: charges priced in a virtual currency, converted to the plan's (metering spec 3.13)."""

from dataclasses import dataclass
from decimal import Decimal

from app.core.charges.fees import FeeAmounts
from app.core.charges.usage import BucketUsage, Priced
from app.core.money import ZERO, exact, minor_int, to_minor

_PLACES = 2


@dataclass(frozen=True, slots=True)
class PricingUnitAmounts:
    """The amounts of a fee in pricing units: billed and unrounded hundredths, the unit price in hundredths rounded and
    in whole pricing units unrounded, and what one pricing unit is worth in currency units.
    """

    amount_cents: int
    precise_amount_cents: Decimal
    unit_amount_cents: int
    precise_unit_amount: Decimal
    conversion_rate: Decimal


def pricing_unit_amounts(usage: BucketUsage, priced: Priced, conversion_rate: Decimal) -> PricingUnitAmounts:
    """The amounts of a fee whose model's prices are pricing units; a negative fee is zero as in ``fee_amounts``."""
    zero = usage.units < 0 or priced.amount < 0
    with exact():
        precise = ZERO if zero else priced.amount.scaleb(_PLACES)
        unit_amount = ZERO if zero or usage.full < 0 else priced.unit_amount
        unit_cents = minor_int(unit_amount.scaleb(_PLACES))
    return PricingUnitAmounts(minor_int(precise), precise, unit_cents, unit_amount, conversion_rate)


def converted(
    units: Decimal, amounts: PricingUnitAmounts, amount_details: dict[str, object], currency: str
) -> FeeAmounts:
    """The amounts of the fee in money: the rounded pricing units are converted, and rounded half-up once more.

    ``units`` are the ones shown (the full ones, or 0 for a zero fee); ``amount_details`` stay in pricing units.
    Raises ``money.UnknownCurrency``.
    """
    precise = fiat_cents(amounts.amount_cents, amounts.conversion_rate, currency)
    with exact():
        unit_amount = amounts.precise_unit_amount * amounts.conversion_rate
    return FeeAmounts(max(units, ZERO), minor_int(precise), precise, unit_amount, amount_details)


def fiat_cents(pricing_unit_cents: int, conversion_rate: Decimal, currency: str) -> Decimal:
    """Hundredths of a pricing unit as unrounded minor units of the currency. Raises ``money.UnknownCurrency``."""
    with exact():
        return to_minor(Decimal(pricing_unit_cents).scaleb(-_PLACES) * conversion_rate, currency)
