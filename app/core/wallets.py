"""Prepaid credits: what they are worth, which wallet pays what of an invoice, and out of which top-ups it does so
(billing spec 7.1 to 7.4).

Amounts are integers in minor units but where they are said to be precise; credits have 5 decimals.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app.core.money import ZERO, exact, from_minor, minor_int, round_half_up, to_minor

CREDIT_PLACES = 5


def worth(credit_amount: Decimal, rate: Decimal, currency: str) -> int:
    """What credits are worth at a price of ``rate`` currency units each, rounded half up to minor units."""
    with exact():
        return minor_int(to_minor(credit_amount * rate, currency))


def credits_of(amount_cents: int, rate: Decimal, currency: str) -> Decimal:
    """How many credits an amount buys, rounded half up to 5 decimals."""
    with exact():
        return round_half_up(from_minor(amount_cents, currency) / rate, CREDIT_PLACES)


class Balance(NamedTuple):
    """What a wallet holds: money, and the credits that stand for it. Neither is ever negative."""

    amount_cents: int
    credits: Decimal


def spent(balance: Balance, amount_cents: int, rate: Decimal, currency: str) -> Balance:
    """The money and credits that go out of a wallet when ``amount_cents`` of its balance is spent.

    Spending all the money takes all the credits with it, so that roundings leave nothing behind that is worth nothing.
    """
    if amount_cents >= balance.amount_cents:
        return balance
    return Balance(amount_cents, min(credits_of(amount_cents, rate, currency), balance.credits))


def voided(balance: Balance, credit_amount: Decimal, rate: Decimal, currency: str) -> Balance:
    """The money and credits that go out of a wallet when credits are voided, of which it must have as many. The last
    credit takes all the money that is left."""
    if credit_amount >= balance.credits:
        return balance
    return Balance(min(worth(credit_amount, rate, currency), balance.amount_cents), credit_amount)


class Owed(NamedTuple):
    """What one fee asks for, precise: with taxes, less coupons and credit notes. ``base``: its amount less coupons.
    ``metric_id`` for fees of charges; ``target``: the code of the wallet that its events name."""

    fee_type: str
    metric_id: UUID | None
    target: str | None
    base: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Purse:
    """A wallet that may pay, with what it is limited to: nothing where both limits are empty, otherwise fees of these
    types and fees of these metrics."""

    id: UUID
    code: str
    balance_cents: int
    fee_types: frozenset[str] = frozenset()
    metric_ids: frozenset[UUID] = frozenset()

    def pays(self, fee_type: str, metric_id: UUID | None, target: str | None) -> bool:
        """Whether it may pay fees of a type and metric. Where events name a wallet, that one pays and no other."""
        if target is not None:
            return self.code == target
        return not (self.fee_types or self.metric_ids) or fee_type in self.fee_types or metric_id in self.metric_ids


def payments(owed: Iterable[Owed], total_cents: int, purses: Iterable[Purse]) -> dict[UUID, int]:
    """What each wallet pays of an invoice with this total, by wallet, in the order of the wallets; those that pay nothing
    are left out (billing spec 7.4).

    Fees are put together by type, metric and target; largest first, each wallet pays what it may of them. What rounding
    has taken off them is added to the largest, at most a minor unit for each.
    """
    buckets = _buckets(owed, total_cents)
    left = total_cents
    paid: dict[UUID, int] = {}
    for purse in purses:
        balance = purse.balance_cents
        for key, amount in buckets.items():
            part = min(amount, balance, left) if purse.pays(*key) else 0
            if part > 0:
                buckets[key] -= part
                balance -= part
                left -= part
                paid[purse.id] = paid.get(purse.id, 0) + part
    return paid


def _buckets(owed: Iterable[Owed], total_cents: int) -> dict[tuple[str, UUID | None, str | None], int]:
    """What is owed by (fee type, metric, target), rounded, largest first."""
    precise: dict[tuple[str, UUID | None, str | None], Decimal] = defaultdict(lambda: ZERO)
    with exact():
        for one in owed:
            if one.base > 0 and one.amount > 0:
                precise[one.fee_type, one.metric_id, one.target] += one.amount
    ordered = sorted(precise.items(), key=lambda item: -item[1])
    buckets = {key: minor_int(amount) for key, amount in ordered}
    gap = total_cents - sum(buckets.values())
    if buckets and 0 < gap <= len(buckets):
        buckets[next(iter(buckets))] += gap
    return buckets


class Source(NamedTuple):
    """What has gone into a wallet at one time: how much of it is left, and in which order it is used: ``priority``, what
    was granted before what was bought, then by age, of which ``number`` is lower for the older."""

    id: UUID
    priority: int
    granted: bool
    number: int
    left_cents: int


class Part(NamedTuple):
    """What of a source goes out."""

    source: UUID
    granted: bool
    amount_cents: int


def draw(sources: Iterable[Source], amount_cents: int) -> list[Part]:
    """The sources that an amount comes out of, in the order in which they are used (billing spec 7.4).

    Raises ``ValueError`` when they hold less than that.
    """
    left, parts = amount_cents, []
    for source in sorted(sources, key=lambda one: (one.priority, not one.granted, one.number)):
        part = min(source.left_cents, left)
        if part > 0:
            left -= part
            parts.append(Part(source.id, source.granted, part))
    if left:
        raise ValueError(f"the sources hold {left} less than {amount_cents}")
    return parts


def granted_part(parts: Sequence[Part]) -> int:
    """How much of what goes out had been granted; the rest had been bought."""
    return sum(part.amount_cents for part in parts if part.granted)
