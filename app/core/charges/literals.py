"""The numbers in a charge's properties, as clients write them (metering spec 3.2).

Each reader takes any JSON value and gives None for what is not such a number. Fractional JSON numbers must have been
parsed as ``Decimal``; binary ones are refused.
"""

import re
from decimal import Decimal

from app.core.money import ZERO, decimal_places

# A price fits numeric(30, 15), a range bound fits an event value: longer ones are refused, not cut.
_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?|\.[0-9]{1,15}").fullmatch
_BOUND = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,18})?|\.[0-9]{1,18}").fullmatch
_LIMIT = 10**20
_BOUND_PLACES = 18


def amount(value: object) -> Decimal | None:
    """An amount in currency units, or a rate in percent: a string with a plain decimal (no sign, no exponent) of at
    most 15 digits before and 15 after the point.
    """
    return Decimal(value) if isinstance(value, str) and _AMOUNT(value) else None


def amount_or_zero(value: object) -> Decimal:
    """An amount that has been found valid, or 0 for one left out."""
    return amount(value) or ZERO


def bound(value: object) -> Decimal | None:
    """A bound of a range: an integer, a ``Decimal`` or a string, below 10**20 with at most 18 decimals."""
    match value:
        case bool():
            return None
        case int():
            return Decimal(value) if 0 <= value < _LIMIT else None
        case str():
            return Decimal(value) if _BOUND(value) else None
        case Decimal() if value.is_finite() and 0 <= value < _LIMIT:
            return value if decimal_places(value) <= _BOUND_PLACES else None
        case _:
            return None


def whole(value: object, least: int) -> int | None:
    """A JSON integer that is not below ``least``, below 10**20."""
    return value if type(value) is int and least <= value < _LIMIT else None
