"""Where a bucket of a charge paid in advance stands in a period, told event by event (metering spec 3.12).

Events are told in the order in which they are billed. That is mostly the order of time. One that comes late bills what it
adds to all that was billed before it, so that what a period's events have billed comes to the same in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.core.aggregation import Aggregation, Sample
from app.core.charges.pay_in_advance import AdvanceEvent, HighWater, advance
from app.core.charges.percentage import Percentage
from app.core.charges.usage import ONE, Spent
from app.core.money import ZERO, exact

Moment = tuple[int, str]
"""What orders events: milliseconds since 1970, then the transaction id."""


@dataclass(frozen=True, slots=True)
class Level:
    """What a period's events have come to so far: the high-water state, their number, the sum of their own precise
    amounts in minor units, the sum of the prorated quantities that they have billed, and the allowances that they have
    used, where the price has some.
    """

    water: HighWater = field(default_factory=HighWater)
    events_count: int = 0
    precise_total_amount_cents: Decimal = ZERO
    prorated: Decimal = ZERO
    spent: Spent | None = None


class Presence:
    """Which items are there, by the last operation of each in the order of time, in whatever order events are told."""

    def __init__(self, last: Mapping[str, tuple[Moment, bool]]):
        """``last``: of each item that is known already its last operation, and whether that added it."""
        self._last = dict(last)

    def change(self, event: Sample) -> Decimal:
        """By how much an event changes the number of items: 1, -1 or 0. Without an item it changes nothing."""
        item = event.item
        if not item:
            return ZERO
        moment, adds = (event.timestamp_ms, event.transaction_id), event.operation != "remove"
        known = self._last.get(item)
        if known is not None and known[0] >= moment:
            return ZERO
        self._last[item] = moment, adds
        return ONE * (adds - (known is not None and known[1]))


def told(
    aggregation: Aggregation,
    level: Level,
    event: Sample,
    change: Decimal,
    precise_amount_cents: Decimal,
    precise_amount: Decimal,
    allowance: Percentage | None,
) -> tuple[Level, AdvanceEvent]:
    """The level after an event, and what the event bills.

    ``change`` is what the event adds to what is counted; its own precise amount comes in minor units and in currency
    units. ``allowance``: the properties of a price that looks at single values.
    """
    water, billed = advance(aggregation, level.water, change, precise_amount)
    spent = level.spent
    if allowance is not None:
        spent = allowance.spend(spent or allowance.unspent, event.value)
    with exact():
        precise_total = level.precise_total_amount_cents + precise_amount_cents
    return Level(water, level.events_count + billed.counted, precise_total, level.prorated, spent), billed
