"""Charges paid in advance: what a single event bills (metering spec 3.12).

An event is priced by the difference that it makes: the price of the usage up to and with it, less the price of the
usage without what it bills. The quantity it bills is what it raises the highest level of the period by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from app.core.aggregation import Aggregation
from app.core.charges.fees import FeeAmounts
from app.core.charges.proration import PRORATED_PLACES, ProratedSpan, prorated_quantity
from app.core.charges.usage import BucketUsage, ChargeModel, PriceFunction, Run, Spent
from app.core.money import ZERO, ceil_to, decimal_text, exact, from_minor, minor_int, round_half_up, to_minor
from app.core.values import replace

_AVERAGE_PLACES = 2

Details = dict[str, object]


@dataclass(frozen=True, slots=True)
class HighWater:
    """How far the events of a period have moved the level of one bucket, and how far up they have brought it.

    Kept for each subscription, charge, filter and group; each period starts at 0, also below what was carried over.
    The maximum never falls, and never lies below 0. ``started`` tells whether an event has been charged yet.
    """

    current: Decimal = ZERO
    maximum: Decimal = ZERO
    started: bool = False


@dataclass(frozen=True, slots=True)
class AdvanceEvent:
    """What one event adds to its bucket.

    ``billed`` is the quantity it bills, ``shown`` the units its fee shows, ``counted`` by how many it raises the
    number of events. ``follows``: something has been charged before. ``precise_amount`` is the event's own amount in
    currency units, for a dynamic charge.
    """

    billed: Decimal
    shown: Decimal
    counted: int
    follows: bool
    precise_amount: Decimal = ZERO


def advance(
    aggregation: Aggregation, state: HighWater, change: Decimal, precise_amount: Decimal = ZERO
) -> tuple[HighWater, AdvanceEvent]:
    """The state after an event, and what the event bills.

    ``change`` is 1 for a count, the value for a sum, and for a unique count 1, -1 or 0: whether the item has come, has
    gone, or neither. Where nothing is billed, a sum shows the event's own value unless that is negative.
    """
    with exact():
        current = state.current + change
        maximum = max(state.maximum, current)
        billed = maximum - state.maximum
    unique = aggregation is Aggregation.UNIQUE_COUNT
    shown = billed if billed or unique else max(change, ZERO)
    counted = int(billed) if unique else 1
    started = state.started or (counted > 0 and current >= 0)
    event = AdvanceEvent(billed, shown, counted, state.started or not counted, precise_amount)
    return HighWater(current, maximum, started), event


def event_fee(
    model: ChargeModel,
    price: PriceFunction,
    usage: BucketUsage,
    event: AdvanceEvent,
    currency: str,
    spent_before: Spent | None = None,
) -> FeeAmounts:
    """The fee of one event; ``usage`` is that of its bucket up to and with it (window of metering spec 1.9), and
    ``spent_before`` its allowances before it, where they stand in for single events.

    The difference is rounded half-up for this event alone. A flat amount due at 0 units is charged with the first
    event: only for that one, and only without units carried over, the price before it counts as 0. The unit price is
    the rounded amount per unit shown. Details are the differences that the event makes, for percentage and graduated
    percentage charges. Raises ``money.UnknownCurrency``.
    """
    before = _without(usage, event, spent_before)
    known: Details = {}
    with exact():
        amount, details = _due(price, usage)
        if event.follows or before.units > 0:
            less, known = _due(price, before)
            amount -= less
    return _fee(event.shown, amount, _DIFFERENCES.get(model, _no_details)(details, known), currency)


def prorated_event_fee(
    price: PriceFunction, event: AdvanceEvent, days: int, period_days: int, currency: str
) -> FeeAmounts:
    """The fee of one event of a prorated (standard) charge: what it bills, for the ``days`` left with the event's own
    (``ProratedSpan.days_from``). The units shown are not prorated. Raises ``money.UnknownCurrency``.
    """
    quantity = prorated_quantity(event.billed, days, period_days)
    return _fee(event.shown, price(BucketUsage(quantity, 1, event.billed)).amount, {}, currency)


def paid_units(units: Decimal, state: HighWater) -> Decimal:
    """The units that usage is priced on while its events are paid in advance: those that have been charged, though the
    level may have fallen since (metering spec 5.3).
    """
    with exact():
        return units - state.current + state.maximum


def prorated_paid_units(units: Decimal, state: HighWater, billed: Decimal, span: ProratedSpan) -> Decimal:
    """The same for a prorated charge: what was carried over for the whole span, and ``billed``, the sum of the
    prorated quantities that the period's events have billed (metering spec 5.3).
    """
    with exact():
        carried = (units - max(state.current, ZERO)) * span.days / span.period_days
        return ceil_to(carried, PRORATED_PLACES) + billed


def _without(usage: BucketUsage, event: AdvanceEvent, spent: Spent | None) -> BucketUsage:
    with exact():
        return replace(
            usage,
            spent=spent,
            units=usage.units - event.billed,
            events_count=usage.events_count - event.counted,
            precise_total_amount=usage.precise_total_amount - event.precise_amount,
            runs=_without_last(usage.runs) if usage.runs and event.counted else usage.runs,
        )


def _without_last(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    *others, last = runs
    return (*others, Run(last.value, last.times - 1)) if last.times > 1 else tuple(others)


def _due(price: PriceFunction, usage: BucketUsage) -> tuple[Decimal, Details]:
    """The price as a fee in arrears has it: nothing for what is negative (metering spec 3.10)."""
    priced = price(usage)
    return (ZERO, {}) if usage.units < 0 or priced.amount < 0 else (priced.amount, priced.amount_details)


def _fee(shown: Decimal, amount: Decimal, details: Details, currency: str) -> FeeAmounts:
    precise = max(to_minor(amount, currency), ZERO)
    cents = minor_int(precise)
    with exact():
        unit_amount = from_minor(cents, currency) / shown if shown else ZERO
    return FeeAmounts(shown, cents, precise, unit_amount, details)


def _no_details(_after: Details, _before: Details) -> Details:
    return {}


def _percentage_details(after: Details, before: Details) -> Details:
    """Each figure less what it was; the rate and the fixed amount per event as they are."""
    return {
        key: value if key in {"rate", "fixed_fee_unit_amount"} else _less(value, before.get(key))
        for key, value in after.items()
    }


def _graduated_percentage_details(after: Details, before: Details) -> Details:
    """Of each tier the figures less what they were; the total per unit becomes an average, to 2 decimals half-up."""
    key = "graduated_percentage_ranges"
    tiers, known = cast("list[Details]", after.get(key, [])), cast("list[Details]", before.get(key, []))
    return {key: [_tier_details(tier, known[place] if place < len(known) else {}) for place, tier in enumerate(tiers)]}


def _tier_details(after: Details, before: Details) -> Details:
    changed = ("flat_unit_amount", "units", "per_unit_total_amount", "total_with_flat_amount")
    details = {key: _less(value, before.get(key)) if key in changed else value for key, value in after.items()}
    units, total = (Decimal(str(details[key])) for key in ("units", "per_unit_total_amount"))
    with exact():
        average = round_half_up(total / units, _AVERAGE_PLACES) if units else ZERO
    return {**details, "per_unit_total_amount": decimal_text(average)}


def _less(value: object, known: object) -> object:
    """A number less another one (none: 0), as the kind of number it is on the wire."""
    if isinstance(value, int):
        return value - (known if isinstance(known, int) else 0)
    with exact():
        return decimal_text(Decimal(str(value)) - Decimal(str(known or 0)))


_DIFFERENCES: Mapping[ChargeModel, Callable[[Details, Details], Details]] = {
    ChargeModel.PERCENTAGE: _percentage_details,
    ChargeModel.GRADUATED_PERCENTAGE: _graduated_percentage_details,
}
