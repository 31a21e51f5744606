"""Fees of drafts that somebody has adjusted: other units, another unit amount, another name (billing spec 3.3). No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from app.core.charges.fees import FeeAmounts
from app.core.money import exact, from_minor, minor_int, to_minor


class FeeKey(NamedTuple):
    """Which fee of a line is meant, however often the fees are made anew."""

    fee_type: str
    charge_id: UUID | None = None
    charge_filter_id: UUID | None = None
    fixed_charge_id: UUID | None = None
    group: frozenset[tuple[str, str | None]] = frozenset()
    is_true_up: bool = False


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a fee has instead: units, or units and the price of one in currency units; and its name on the invoice."""

    units: Decimal | None = None
    unit_amount: Decimal | None = None
    display_name: str | None = None

    def amounts(self, before: FeeAmounts, currency: str, reprice: Callable[[Decimal], FeeAmounts]) -> FeeAmounts:
        """The amounts of a fee that came to `before`: new units alone are priced anew."""
        if self.units is None:
            return before
        if self.unit_amount is None:
            return reprice(self.units)
        return at_unit_amount(self.units, self.unit_amount, currency)


Adjustments = Mapping[FeeKey, Adjustment]


def group_key(group: Mapping[str, str | None]) -> frozenset[tuple[str, str | None]]:
    """A fee's group as a part of its key."""
    return frozenset(group.items())


def at_unit_amount(units: Decimal, unit_amount: Decimal, currency: str) -> FeeAmounts:
    """The amounts of so many units at a price in currency units, rounded once."""
    with exact():
        precise = to_minor(units * unit_amount, currency)
    return FeeAmounts(units, minor_int(precise), precise, unit_amount, {})


def times(units: Decimal, one: FeeAmounts, currency: str) -> FeeAmounts:
    """The amounts of so many times a fee of one unit, as a subscription fee is."""
    amounts = at_unit_amount(units, from_minor(one.amount_cents, currency), currency)
    return FeeAmounts(
        amounts.units, amounts.amount_cents, amounts.precise_amount_cents, amounts.precise_unit_amount,
        one.amount_details,
    )  # fmt: skip
