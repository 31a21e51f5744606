"""Ranges of graduated and volume charges (metering spec 3.6).

A tier covers the half-open interval above the previous ``to_value`` up to and including its own; both notations of
``from_value`` (the previous end, or that plus 1) mean the same tiers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from app.core.charges.literals import amount_or_zero, bound
from app.core.money import ZERO, decimal_text, exact

Range = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Tier:
    """What ``lower < units <= upper`` costs; ``upper`` is None for the last one. Bounds as the client wrote them beside.

    ``price`` is what ``price_key`` holds, per unit: currency units of a ``per_unit_amount``, percent of a ``rate``.
    """

    from_value: object
    to_value: object
    lower: Decimal
    upper: Decimal | None
    price: Decimal
    price_text: str
    flat: Decimal
    flat_text: str


def are_consecutive(ranges: Sequence[Range]) -> bool:
    """Whether the ranges cover everything from 0 once, in either notation; they may be mixed. The first may start at 1."""
    previous = ZERO
    for position, entry in enumerate(ranges, start=1):
        lower = bound(entry.get("from_value"))
        with exact():
            if lower is None or lower not in (previous, previous + 1):
                return False
        if position == len(ranges):
            return entry.get("to_value") is None
        upper = bound(entry.get("to_value"))
        if upper is None or upper <= lower:
            return False
        previous = upper
    return False


def tiers(ranges: object, price_key: str) -> list[Tier]:
    """The tiers of ranges that have been found valid."""
    found: list[Tier] = []
    lower = ZERO
    for entry in cast("list[Range]", ranges):
        to_value = entry.get("to_value")
        upper = None if to_value is None else bound(to_value)
        price, flat = amount_or_zero(entry[price_key]), amount_or_zero(entry["flat_amount"])
        found.append(
            Tier(
                from_value=entry["from_value"],
                to_value=to_value,
                lower=lower,
                upper=upper,
                price=price,
                price_text=decimal_text(price),
                flat=flat,
                flat_text=decimal_text(flat),
            )
        )
        lower = ZERO if upper is None else upper
    return found


def place_of(units: Decimal, of: Sequence[Tier]) -> int:
    """The position of the one tier that a quantity lies in; that of the first one for 0 and below."""
    return next((place for place, tier in enumerate(of) if tier.upper is None or units <= tier.upper), 0)
