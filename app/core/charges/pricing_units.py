"""Pricing units: charges priced in a virtual currency, converted to the plan's (metering spec 3.13).

Prices in pricing units are computed like prices in money, with ``money.PRICING_UNIT`` for a currency, and then converted.
"""

from decimal import Decimal

from app.core.charges.fees import FeeAmounts
from app.core.money import PRICING_UNIT, exact, from_minor, minor_int, to_minor


def converted(amounts: FeeAmounts, conversion_rate: Decimal, currency: str) -> FeeAmounts:
    """The amounts in money of a fee that is priced in pricing units.

    ``conversion_rate`` is what one pricing unit is worth in currency units. What is converted are the rounded pricing
    units, and the result is rounded half-up once more; the unit price is converted unrounded. Units stay what they are,
    and details stay in pricing units. Raises ``money.UnknownCurrency``.
    """
    precise = fiat_cents(amounts.amount_cents, conversion_rate, currency)
    with exact():
        unit_amount = amounts.precise_unit_amount * conversion_rate
    return FeeAmounts(amounts.units, minor_int(precise), precise, unit_amount, amounts.amount_details)


def fiat_cents(pricing_unit_cents: int, conversion_rate: Decimal, currency: str) -> Decimal:
    """Hundredths of a pricing unit as unrounded minor units of the currency. Raises ``money.UnknownCurrency``."""
    with exact():
        return to_minor(from_minor(pricing_unit_cents, PRICING_UNIT) * conversion_rate, currency)


def unit_amount_cents(amounts: FeeAmounts) -> int:
    """The unit price of a fee in pricing units, in hundredths, rounded half-up."""
    return minor_int(to_minor(amounts.precise_unit_amount, PRICING_UNIT))
