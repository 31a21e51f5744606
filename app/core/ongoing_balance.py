"""What of a customer's unbilled usage falls to each of its wallets (billing spec 7.5)."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app.core.money import ZERO, exact, minor_int
from app.core.wallets import Purse


class Bucket(NamedTuple):
    """What usage is put together by: the type of its fee, its metric, and the code of the wallet that its events name."""

    fee_type: str
    metric_id: UUID | None
    target: str | None


def allot(
    purses: Sequence[Purse], take_all: Collection[UUID], buckets: Mapping[Bucket, Decimal], net_total_cents: int
) -> list[int]:
    """What of the usage in some buckets falls to each wallet, in minor units, in the order of the wallets: the one that is
    used first comes first. All are of one currency.

    Amounts of buckets are unrounded; one that is not positive is nothing. As on an invoice, a wallet takes the largest
    bucket first, and of each no more than it has left. Whoever is the last that may pay a bucket takes what is left of it,
    and so do those of `take_all`: what reaches a wallet that is topped up at a threshold must be seen there. All together
    take no more than `net_total_cents`. The amounts are rounded so that their sum is the rounded sum.
    """
    left = dict(sorted(((key, amount) for key, amount in buckets.items() if amount > 0), key=lambda one: -one[1]))
    last = {key: purse.id for purse in purses for key in left if purse.pays(*key)}
    total = Decimal(max(net_total_cents, 0))
    taken, shares = ZERO, []
    with exact():
        for purse in purses:
            before, room = taken, Decimal(max(purse.balance_cents, 0))
            for key, amount in left.items():
                if not purse.pays(*key):
                    continue
                most = amount if purse.id in take_all or last[key] == purse.id else min(amount, room)
                part = min(most, total - taken)
                left[key] = amount - part
                room = max(room - part, ZERO)
                taken += part
            shares.append(minor_int(taken) - minor_int(before))
    return shares
