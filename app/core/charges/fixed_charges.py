"""Fixed charges: a stated number of units per period, changed at stated times (metering spec 3.14, billing spec 2.6)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from app.core.charges.proration import ProratedSpan
from app.core.charges.usage import BucketUsage, ChargeModel, Portion, Priced, PriceFunction, Waterfall, per_unit
from app.core.money import ZERO, exact, round_half_up
from app.core.periods import local_date

FIXED_CHARGE_MODELS = frozenset({ChargeModel.STANDARD, ChargeModel.GRADUATED, ChargeModel.VOLUME})

_PLACES = 6
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class UnitsChange:
    """A new number of units: since when it counts, and when it was written down (aware instants); `recorded_at` is the
    latter on the clock of the store, which tells what was known when something was measured."""

    units: Decimal
    effective_at: datetime
    created_at: datetime
    recorded_at: datetime | None = None


def fixed_charge_errors(model: ChargeModel, *, pay_in_advance: bool, prorated: bool) -> dict[str, list[str]]:
    """Error codes by field for what a fixed charge cannot combine; empty when valid."""
    errors: dict[str, list[str]] = {}
    if model not in FIXED_CHARGE_MODELS:
        errors["charge_model"] = ["value_is_invalid"]
    if pay_in_advance and model is ChargeModel.VOLUME:
        errors["pay_in_advance"] = ["invalid_charge_model"]
    if pay_in_advance and prorated and model is ChargeModel.GRADUATED:
        errors["prorated"] = ["invalid_charge_model"]
    return errors


def period_usage(changes: Iterable[UnitsChange], span: ProratedSpan, *, prorated: bool) -> BucketUsage:
    """What a period is priced by. The units shown are those at its end.

    Prorated units of a graduated charge are laid on its tiers as those of a recurring metric are (metering spec 3.9): each
    change as a portion that lasts for the days left of the period.
    """
    standing = list(changes)
    full = units_in_force(standing, span.to)
    if not prorated:
        return BucketUsage(full, 0)
    return BucketUsage(prorated_units(standing, span), 0, full_units=full, waterfall=_waterfall(standing, span))


def raised(
    price: PriceFunction, units: Decimal, billed: Decimal | None, days: int | None = None, period_days: int = 1
) -> tuple[BucketUsage, Priced]:
    """What new units cost in advance in the middle of a period, and the units it is for: those above the ones ``billed``
    for this period already (None: nothing was billed), at what they add to the price; prorated, for the ``days`` left.

    So what is billed in a period adds up to the price of the most units it had. Nothing below what was billed.
    """
    before = ZERO if billed is None else billed
    more = advance_units(units, before)
    if days is not None:
        usage = BucketUsage(advance_units(units, before, days, period_days), 0, full_units=more)
        return usage, price(usage)
    usage = BucketUsage(more, 0)
    if billed is None:
        return usage, price(usage)
    with exact():
        added = price(BucketUsage(before + more, 0)).amount - price(BucketUsage(before, 0)).amount
        return usage, Priced(added, per_unit(added, more), {})


def is_settled(changes: Iterable[UnitsChange], units: Decimal, since: datetime) -> bool:
    """Whether these units are what counts from an instant on, and no change of them is planned."""
    standing = _standing(changes)
    later = [change.units for change in standing if change.effective_at > since]
    return units_in_force(standing, since) == units and bool(standing) and all(one == units for one in later)


def units_in_force(changes: Iterable[UnitsChange], to: datetime) -> Decimal:
    """The units that a period ending at ``to`` is billed and shown with when it is not prorated; 0 without any change.

    A change is superseded by one that was written down later and counts from the same instant or an earlier one.
    """
    return next((change.units for change in reversed(_standing(changes)) if change.effective_at <= to), ZERO)


def prorated_units(changes: Iterable[UnitsChange], span: ProratedSpan) -> Decimal:
    """The units of a period by the local days each number counted, the day of the next change excluded.

    Each term is rounded half-up to 6 decimals, then they are added up.
    """
    standing = [(local_date(change.effective_at, span.tz), change.units) for change in _standing(changes)]
    first, after_last = local_date(span.from_, span.tz), local_date(span.to, span.tz) + _DAY
    ends = [day for day, _ in standing[1:]] + [after_last]
    with exact():
        return sum(
            (
                round_half_up(units * days / span.period_days, _PLACES)
                for (day, units), end in zip(standing, ends, strict=False)
                if (days := (min(end, after_last) - max(day, first)).days) > 0
            ),
            ZERO,
        )


def advance_units(units: Decimal, billed: Decimal, days: int | None = None, period_days: int = 1) -> Decimal:
    """What a change in the middle of a period bills in advance: the units above those ``billed`` for this period
    already, for the ``days`` left of it if prorated (to 6 decimals half-up). A decrease bills nothing.
    """
    with exact():
        more = max(units - billed, ZERO)
        return more if days is None else round_half_up(more * days / period_days, _PLACES)


def already_paid(paid_cents: Decimal, paid_days: int, days: int) -> Decimal:
    """What an upgrade takes off the new plan's first prorated fee for the same add-on: the old plan's advance fee, in
    minor units, scaled from the days it was paid for to those the new fee covers. Unrounded.
    """
    with exact():
        return paid_cents * days / paid_days


def _waterfall(changes: Iterable[UnitsChange], span: ProratedSpan) -> Waterfall:
    """What each change adds, with the local days it lasts; of several on one day the last one counts."""
    first, last = local_date(span.from_, span.tz), local_date(span.to, span.tz)
    of_day = {
        max(local_date(change.effective_at, span.tz), first): change.units
        for change in _standing(changes)
        if change.effective_at <= span.to
    }
    portions, before = [], ZERO
    with exact():
        for day, units in of_day.items():
            if units != before:
                portions.append(Portion(units - before, (last - day).days + 1))
            before = units
    return Waterfall(tuple(portions), span.period_days)


def _standing(changes: Iterable[UnitsChange]) -> list[UnitsChange]:
    """The changes that nothing supersedes, in the order of time."""
    standing: list[UnitsChange] = []
    for change in sorted(changes, key=lambda one: one.created_at):
        while standing and standing[-1].effective_at >= change.effective_at:
            standing.pop()
        standing.append(change)
    return standing
