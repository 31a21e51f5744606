"""What goes into a price and what comes out of it (metering spec 3.7, 3.8)."""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from app.core.money import ZERO

ONE = Decimal(1)


class ChargeModel(StrEnum):
    """``charge_model`` of a charge (metering spec 3.7)."""

    STANDARD = "standard"
    GRADUATED = "graduated"
    PACKAGE = "package"
    PERCENTAGE = "percentage"
    VOLUME = "volume"
    GRADUATED_PERCENTAGE = "graduated_percentage"
    DYNAMIC = "dynamic"
    CUSTOM = "custom"


SUPPORTED_MODELS = frozenset(ChargeModel) - {ChargeModel.CUSTOM}
"""Models that have a price. A custom one would run the customer's own code."""


class Run(Struct, frozen=True):
    """``times`` events in a row with the same value."""

    value: Decimal
    times: int = 1


class Spent(Struct, frozen=True):
    """What the events of a bucket, told one after the other, have used of the allowances of a percentage price.

    ``taken`` events with a sum of ``total`` count for what is free, after ``below`` of them the sum lay below the free
    units. ``room`` and ``events`` are what is left of both allowances where each event is priced by itself, and
    ``bounded`` is the total of these prices, in currency units.
    """

    taken: int = 0
    total: Decimal = ZERO
    below: int = 0
    room: Decimal = ZERO
    events: int = 0
    bounded: Decimal = ZERO


class Portion(Struct, frozen=True):
    """A quantity that lasts for ``days`` days of a period; a negative one takes back what came before."""

    value: Decimal
    days: int


class Waterfall(Struct, frozen=True):
    """The portions of a prorated usage in the order of time, and the days of the whole period (metering spec 3.9)."""

    portions: tuple[Portion, ...]
    period_days: int


class BucketUsage(Struct, frozen=True):
    """The usage of one bucket of a charge, as its price sees it.

    ``units`` come after proration and the metric's rounding; ``full_units`` are the ones that are not prorated, None
    when they are the same. ``precise_total_amount`` is the sum of the events' own amounts, in currency units.
    ``runs`` are the values of the single events, and ``waterfall`` what each adds for how long, both in the order of
    time; None unless ``needs_events`` says that the price looks at them. ``spent`` may stand in for ``runs``.
    """

    units: Decimal
    events_count: int
    full_units: Decimal | None = None
    precise_total_amount: Decimal = ZERO
    runs: tuple[Run, ...] | None = None
    waterfall: Waterfall | None = None
    spent: Spent | None = None

    @property
    def full(self) -> Decimal:
        """The units that are shown, and that unit prices are per."""
        return self.units if self.full_units is None else self.full_units


class Priced(Struct, frozen=True):
    """Price of a usage, unrounded, in currency units, with the breakdown shown to clients. ``unit_days`` is that of a
    prorated graduated price, which shows none: the units in each tier reached, times the days that they last.
    """

    amount: Decimal
    unit_amount: Decimal
    amount_details: dict[str, object]
    unit_days: tuple[Decimal, ...] = ()


PriceFunction = Callable[[BucketUsage], Priced]


def ones(count: Decimal | int) -> tuple[Run, ...]:
    """The runs of a metric whose events each count as 1: count and unique count (metering spec 3.7)."""
    return (Run(ONE, int(count)),) if count > 0 else ()


def per_unit(amount: Decimal, units: Decimal) -> Decimal:
    """The unit price that is shown: 0 where there are no units. To be called in ``money.exact()``."""
    return amount / units if units else ZERO
