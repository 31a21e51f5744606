"""What coupons take of an invoice and of each of its fees, in minor units (billing spec 5.3).

An invoice loses whole cents; its fees lose their shares of them, to 5 decimals, so that taxes are only on what is left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from app.core.money import ZERO, exact, minor_int
from app.core.spreading import PLACES, spread

_HUNDRED = Decimal(100)
_STEP = Decimal(1).scaleb(-PLACES)


@dataclass(frozen=True, slots=True)
class Discount:
    """What a coupon takes: a rate in percent, or else up to an amount (of one that is spent bit by bit, what is left of
    it). `fees`: the places of those that it is limited to; None for the whole invoice."""

    rate: Decimal | None = None
    amount_cents: int = 0
    fees: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Discounted:
    """What each coupon took, in their order, 0 where it took nothing; and what is left of each fee after that."""

    credits_cents: list[int]
    fees_left: list[Decimal]


def discount(fees_left: Sequence[Decimal], sub_total_cents: int, coupons: Iterable[Discount]) -> Discounted:
    """Let coupons take from an invoice, one after the other. `fees_left` is what is left of its fees before the first,
    `sub_total_cents` what is left of all of it.

    None takes more than what is left of its fees, nor all of them together more than the sub total.
    """
    after, left, credits_cents = list(fees_left), sub_total_cents, []
    for coupon in coupons:
        places = range(len(after)) if coupon.fees is None else coupon.fees
        bases = [after[place] for place in places]
        with exact():
            base = Decimal(left) if coupon.fees is None else sum(bases, ZERO)
            credit = min(credit_cents(coupon, base, len(bases)), left)
            for place, share in zip(places, spread(Decimal(credit), bases), strict=True):
                after[place] -= share
        left -= credit
        credits_cents.append(credit)
    return Discounted(credits_cents, after)


def credit_cents(coupon: Discount, base: Decimal, fees: int) -> int:
    """What a coupon takes of a base, which is what is left of so many fees: in whole cents, rounded half up, never more
    than the whole cents of the base."""
    with exact():
        # Shares are rounded: what is left of the fees can be a little less than the whole cents that it stands for.
        whole = int((base + fees * _STEP).to_integral_value(ROUND_FLOOR))
        wanted = coupon.amount_cents if coupon.rate is None else minor_int(base * coupon.rate / _HUNDRED)
    return max(min(wanted, whole), 0)
