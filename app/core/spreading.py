"""What lowers a whole invoice, shared out over its fees (billing spec 5.3, 6.5)."""

from collections.abc import Sequence
from decimal import Decimal

from app.core.money import ZERO, exact, round_half_up

PLACES = 5


def spread(amount: Decimal, bases: Sequence[Decimal]) -> list[Decimal]:
    """Each base's share of an amount, all in minor units, rounded half up to 5 decimals and no more than the base.

    Shares go by the bases' part of their sum; without a sum there is nothing to share.
    """
    with exact():
        total = sum(bases, ZERO)
        if total <= 0:
            return [ZERO for _ in bases]
        return [min(round_half_up(amount * base / total, PLACES), base) for base in bases]
