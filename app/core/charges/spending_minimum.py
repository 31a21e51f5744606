"""The spending minimum of a charge billed in arrears: what is missing becomes a fee of its own (metering spec 3.11)."""

from dataclasses import dataclass
from decimal import Decimal

from app.core.charges.proration import ProratedSpan
from app.core.money import ZERO, exact, minor_int


@dataclass(frozen=True, slots=True)
class TrueUp:
    """What the fees of a charge lack of its minimum: billed and unrounded, in minor units. Its fee has 1 unit, no events,
    no filter, and the default bucket's fee for a parent.
    """

    amount_cents: int
    precise_amount_cents: Decimal


def true_up(min_amount_cents: int, used_cents: int, precise_used_cents: Decimal, span: ProratedSpan) -> TrueUp | None:
    """The true-up of a charge for a period, None when there is none.

    The minimum counts for the days of the charges window out of those of the whole period; the day of an upgrade
    belongs to the new plan. ``used_cents`` is the sum of the billed amounts of all the charge's fees, whatever their
    filter or group, and ``precise_used_cents`` that of the unrounded ones. Rounded half-up once. Less than half a
    minor unit is no fee; the unrounded amount is never below 0, though rounding may have left less used than billed.

    Of a charge in pricing units everything is in hundredths of these, to be converted by ``pricing_units``.
    """
    with exact():
        minimum = Decimal(min_amount_cents) * span.days / span.period_days
        cents = minor_int(max(minimum - used_cents, ZERO))
        return TrueUp(cents, max(minimum - precise_used_cents, ZERO)) if cents else None
