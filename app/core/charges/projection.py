"""Projected usage: what a period will come to if it goes on like this (metering spec 5.5)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.core.charges.usage import BucketUsage, ChargeModel, PriceFunction
from app.core.money import ZERO, exact, minor_int, round_half_up, to_minor
from app.core.periods import calendar_days

_PLACES = 2
_BY_UNITS = frozenset({ChargeModel.STANDARD, ChargeModel.GRADUATED, ChargeModel.VOLUME, ChargeModel.PACKAGE})


@dataclass(frozen=True, slots=True)
class Progress:
    """How many days of a period have been, and how many it has."""

    days: int
    of_days: int

    @classmethod
    def at(cls, instant: datetime, from_: datetime, to: datetime, tz: ZoneInfo) -> "Progress":
        """The progress of the window from one instant to another, both included: nothing before it, all of it after."""
        of_days = calendar_days(from_, to, tz)
        if instant < from_:
            return cls(0, of_days)
        return cls(of_days if instant > to else calendar_days(from_, instant, tz), of_days)

    def projected(self, units: Decimal) -> Decimal:
        """Units at the end of the period, if they go on growing with the days: to 2 decimals, half-up; never below 0."""
        if not self.days:
            return ZERO
        with exact():
            return max(round_half_up(units * self.of_days / self.days, _PLACES), ZERO)


class Projection(NamedTuple):
    """Projected units, and what they cost: billed minor units, one half-up rounding."""

    units: Decimal
    amount_cents: int


def project(
    model: ChargeModel,
    price: PriceFunction,
    usage: BucketUsage,
    currency: str,
    progress: Progress,
    *,
    recurring: bool,
) -> Projection:
    """The projection of one bucket. Every level above is the sum of its buckets' projections.

    What recurs stays as it is. Otherwise units grow with the days and are priced again where the model looks at units
    alone; where it looks at events, the present amount grows. Nothing is projected from no days or no units, flat
    amounts neither. Never below 0. Raises ``money.UnknownCurrency``.
    """
    if recurring:
        units, amount = max(usage.full, ZERO), _present(price, usage)
    elif not progress.days:
        units, amount = ZERO, ZERO
    else:
        units = progress.projected(usage.units)
        with exact():
            if model not in _BY_UNITS:
                amount = _present(price, usage) * progress.of_days / progress.days
            else:
                amount = price(BucketUsage(units, usage.events_count)).amount if units > 0 else ZERO
    return Projection(units, max(minor_int(to_minor(amount, currency)), 0))


def _present(price: PriceFunction, usage: BucketUsage) -> Decimal:
    return ZERO if usage.units < 0 else price(usage).amount
