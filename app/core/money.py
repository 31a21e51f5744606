"""Currencies, decimal precision and rounding.

Amounts come in two units: currency units (``Decimal``, e.g. 12.50 euros) and minor units ("cents" in field
names whatever the currency, e.g. 1250). Metering spec 0.1, 4.1, 4.3; billing spec 0.1.
"""

from contextlib import AbstractContextManager
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from functools import cache

from iso4217 import Currency

PRECISION = 100
"""Significant digits kept by core arithmetic; only divisions can ever need that many."""

PLACES_LIMIT = 50
"""Rounding to the left of the decimal point is supported up to this many digits."""

ZERO = Decimal(0)

PRICING_UNIT = "pricing unit"
"""Stands where a currency is asked for amounts in pricing units, which have 2 decimal places (metering spec 3.13)."""

_PRICING_UNIT_PLACES = 2

EXACT = Context(
    prec=PRECISION,
    rounding=ROUND_HALF_EVEN,
    Emin=MIN_EMIN,
    Emax=MAX_EMAX,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
"""The context of ``exact``, for a single operation by one of its own methods: entering it takes longer than that."""


class UnknownCurrency(ValueError):
    """The code is not a current ISO 4217 currency with a minor unit."""


def exact() -> AbstractContextManager[Context]:
    """Decimal context of core arithmetic: ``PRECISION`` digits, whatever context the caller has set.

    Sums and products of stored quantities are exact in it; a division keeps ``PRECISION`` digits. An undefined
    result (division by zero, infinity) raises a ``decimal`` signal instead of giving a NaN.
    """
    return localcontext(EXACT)


@cache
def _exponents() -> dict[str, int]:
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def is_currency(code: str) -> bool:
    """True for an upper-case code of a current ISO 4217 currency that has a minor unit (metering spec 4.1)."""
    return code in _exponents()


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit: JPY 0, EUR 2, KWD 3, CLF 4 (metering spec 4.1).

    Raises ``UnknownCurrency`` for unknown and withdrawn codes and for those without a minor unit (gold, SDR...).
    """
    if currency == PRICING_UNIT:
        return _PRICING_UNIT_PLACES
    try:
        return _exponents()[currency]
    except KeyError:
        raise UnknownCurrency(currency) from None


def decimal_places(x: Decimal) -> int:
    """Digits written after the point: 2 for 1.50, 0 for 7, -3 for 1E+3. ``ValueError`` when not finite."""
    places = x.as_tuple().exponent
    if not isinstance(places, int):
        raise ValueError("only a finite number has decimal places")
    return -places


def _quantize(x: Decimal, places: int, rounding: str) -> Decimal:
    if places < -PLACES_LIMIT:
        raise ValueError(f"places must be at least -{PLACES_LIMIT}")
    if places >= decimal_places(x):
        return x or ZERO  # already that short: nothing to round, and no zeros are appended
    with exact():
        # Adding 0 turns 12E+2 into 1200 and -0 into 0.
        return x.quantize(Decimal((0, (1,), -places)), rounding=rounding) + ZERO


def round_half_up(x: Decimal, places: int = 0) -> Decimal:
    """``x`` rounded to ``places`` decimals, ties away from zero: 2.5 -> 3, -2.5 -> -3 (metering spec 0.1).

    Negative places round to tens, hundreds... Zeros are never appended. ``ValueError`` when ``x`` is not finite
    or ``places`` is below ``-PLACES_LIMIT``; the same holds for ``ceil_to`` and ``floor_to``.
    """
    return _quantize(x, places, ROUND_HALF_UP)


def ceil_to(x: Decimal, places: int = 0) -> Decimal:
    """``x`` rounded toward plus infinity at ``places`` decimals (metering spec 2.8)."""
    return _quantize(x, places, ROUND_CEILING)


def floor_to(x: Decimal, places: int = 0) -> Decimal:
    """``x`` rounded toward minus infinity at ``places`` decimals (metering spec 2.8)."""
    return _quantize(x, places, ROUND_FLOOR)


def to_minor(amount: Decimal, currency: str) -> Decimal:
    """Currency units to minor units, unrounded: 12.3456 EUR -> 1234.56. Raises ``UnknownCurrency``."""
    return EXACT.scaleb(amount, exponent(currency))


def minor_int(x: Decimal) -> int:
    """Unrounded minor units to the integer that is billed: one half-up rounding (metering spec 4.2)."""
    return int(x.to_integral_value(ROUND_HALF_UP))


def from_minor(x: Decimal | int, currency: str) -> Decimal:
    """Minor units to currency units, unrounded: 1235 EUR cents -> 12.35. Raises ``UnknownCurrency``."""
    return EXACT.scaleb(Decimal(x), -exponent(currency))


def decimal_text(x: Decimal) -> str:
    """Wire text of a decimal (metering spec 4.3): plain notation, at least one fractional digit, no trailing
    zeros after it, never a negative zero: "10.0", "0.25". ``ValueError`` when ``x`` is not finite.
    """
    if not x.is_finite():
        raise ValueError("only a finite number has a wire form")
    whole, _, fraction = format(x, "f").partition(".")
    text = f"{whole}.{fraction.rstrip('0') or '0'}"
    return "0.0" if text == "-0.0" else text
