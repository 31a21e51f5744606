"""The spending minimum of a charge billed in arrears: what is missing becomes a fee of its own (metering spec 3.11)."""

from collections.abc import Sequence
from decimal import Decimal

from app.core.charges.fees import FeeAmounts
from app.core.charges.proration import ProratedSpan
from app.core.money import ZERO, exact, from_minor, minor_int

_ONE_UNIT = Decimal(1)


def true_up(min_amount_cents: int, fees: Sequence[FeeAmounts], span: ProratedSpan, currency: str) -> FeeAmounts | None:
    """What the fees of a charge lack of its minimum for a period, as a fee of one unit; None when there is no lack.

    ``fees`` are all the charge's, whatever their filter or group. The minimum counts for the days of the charges window
    out of those of the whole period, and never for more than these: a window that begins some hours early, after a
    change of timezone, touches a day too many. The day of an upgrade belongs to the new plan.

    The billed amount, rounded half-up once, is what the billed amounts lack, and the unrounded one what the unrounded
    ones do. Less than half a minor unit is no fee; the unrounded amount is never below 0, though rounding may have left
    less used than billed. Of a charge in pricing units all is in these, and ``currency`` is ``money.PRICING_UNIT``.
    """
    with exact():
        minimum = Decimal(min_amount_cents) * min(span.days, span.period_days) / span.period_days
        lack = minimum - sum(fee.amount_cents for fee in fees)
        cents = minor_int(max(lack, ZERO))
        if not cents:
            return None
        precise = max(minimum - sum((fee.precise_amount_cents for fee in fees), ZERO), ZERO)
    return FeeAmounts(_ONE_UNIT, cents, precise, from_minor(precise, currency), {})
