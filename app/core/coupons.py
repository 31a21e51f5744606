"""What coupons take of an invoice and of each of its fees, in minor units (billing spec 5.3).

An invoice loses whole cents; its fees lose their shares of them, to 5 decimals, so that taxes are only on what is left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from app.core.money import ZERO, exact, minor_int, round_half_up

_SHARE_PLACES = 5
_SHARE_STEP = Decimal("0.00001")
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class ReducedFee:
    """A fee before taxes, and what progressive credits and coupons have taken of it."""

    amount_cents: int
    reduced_cents: Decimal = ZERO

    @property
    def left_cents(self) -> Decimal:
        return self.amount_cents - self.reduced_cents


@dataclass(frozen=True, slots=True)
class Discount:
    """What a coupon takes: a rate in percent, or else up to an amount (of one that is spent bit by bit, what is left of
    it). `fees`: the places of those that it is limited to; None for the whole invoice."""

    rate: Decimal | None = None
    amount_cents: int = 0
    fees: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Discounted:
    """What each coupon took, in their order, 0 where it took nothing; and the fees after that."""

    credits_cents: list[int]
    fees: list[ReducedFee]


def discount(fees: Sequence[ReducedFee], sub_total_cents: int, coupons: Iterable[Discount]) -> Discounted:
    """Let coupons take from an invoice, one after the other. `sub_total_cents` is what is left of it before the first.

    None takes more than what is left of its fees, nor all of them together more than the sub total.
    """
    after, left, credits_cents = list(fees), sub_total_cents, []
    for coupon in coupons:
        places = range(len(after)) if coupon.fees is None else coupon.fees
        with exact():
            base = Decimal(left) if coupon.fees is None else sum((after[place].left_cents for place in places), ZERO)
        credit = min(credit_cents(coupon, base, len(places)), left)
        credits_cents.append(credit)
        if credit > 0:
            left -= credit
            for place in places:
                after[place] = _reduced(after[place], credit, base)
    return Discounted(credits_cents, after)


def credit_cents(coupon: Discount, base: Decimal, fees: int) -> int:
    """What a coupon takes of a base, which is what is left of so many fees: in whole cents, rounded half up, never more
    than the whole cents of the base."""
    with exact():
        # Shares are rounded: what is left of the fees can be a little less than the whole cents that it stands for.
        whole = int((base + fees * _SHARE_STEP).to_integral_value(ROUND_FLOOR))
        wanted = coupon.amount_cents if coupon.rate is None else minor_int(base * coupon.rate / _HUNDRED)
    return max(min(wanted, whole), 0)


def _reduced(fee: ReducedFee, credit: int, base: Decimal) -> ReducedFee:
    """A fee less its share of a credit, at most all of it."""
    with exact():
        share = round_half_up(credit * fee.left_cents / base, _SHARE_PLACES)
        return ReducedFee(fee.amount_cents, min(fee.reduced_cents + share, Decimal(fee.amount_cents)))
