"""The minimum commitment of a plan: what a period's fees lack of it becomes a fee (billing spec 2.5)."""

from datetime import datetime
from zoneinfo import ZoneInfo

from app.core.money import minor_int
from app.core.periods import days
from app.core.subscription_fee import prorated


def commitment_true_up(
    amount_cents: int, fees_cents: int, from_: datetime, end: datetime, period_days: int, tz: ZoneInfo
) -> int:
    """What is missing, in minor units; 0 when nothing is.

    The commitment counts for the days from ``from_``, where the subscription's part of the period begins, to ``end``, out
    of the ``period_days`` of the whole one, and is rounded half-up. ``fees_cents`` is what the period's fees come to,
    before coupons and taxes.
    """
    committed = minor_int(prorated(amount_cents, max(days(from_, end, tz), 0), period_days))
    return max(committed - fees_cents, 0)
