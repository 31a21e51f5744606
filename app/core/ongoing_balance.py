"""What of a customer's unbilled usage falls to each of its wallets (billing spec 7.5)."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from app.core.money import ZERO, exact, minor_int

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Holder:
    """A wallet that usage falls to: its settled balance in minor units, the buckets that it may pay, and whether it takes
    all of these that reaches it, however little it holds: so does one that is topped up at a threshold."""

    balance_cents: int
    pays: Collection[Hashable]
    takes_all: bool = False


def allot(holders: Sequence[Holder], buckets: Mapping[K, Decimal], net_total_cents: int) -> list[int]:
    """What of the usage in some buckets falls to each wallet, in minor units, in the order of the wallets: the one that is
    used first comes first. All are of one currency.

    Amounts of buckets are unrounded; one that is not positive is nothing. As on an invoice, a wallet takes the largest
    bucket first, and of each no more than it has left; the last one that may pay a bucket takes what is left of that. All
    together take no more than `net_total_cents`. The amounts are rounded so that their sum is the rounded sum.
    """
    left = dict(sorted(((key, amount) for key, amount in buckets.items() if amount > 0), key=lambda one: -one[1]))
    total = Decimal(max(net_total_cents, 0))
    taken, shares = ZERO, []
    with exact():
        for place, holder in enumerate(holders):
            before, room = taken, Decimal(max(holder.balance_cents, 0))
            for key, amount in left.items():
                if key not in holder.pays:
                    continue
                is_last = not any(key in other.pays for other in holders[place + 1 :])
                most = amount if holder.takes_all or is_last else min(amount, room)
                part = min(most, total - taken)
                left[key] = amount - part
                room = max(room - part, ZERO)
                taken += part
            shares.append(minor_int(taken) - minor_int(before))
    return shares
