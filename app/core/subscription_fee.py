"""What a subscription costs for the part of a period it covers (billing spec 1.4)."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.core.money import exact
from app.core.periods import Interval, days

_PER_YEAR = {
    Interval.WEEKLY: 52, Interval.MONTHLY: 12, Interval.QUARTERLY: 4, Interval.SEMIANNUAL: 2, Interval.YEARLY: 1
}  # fmt: skip


def yearly_amount(amount_cents: int, interval: Interval) -> int:
    """What a plan costs in a year, in minor units: by this plans are told apart as dearer and cheaper, whatever their
    currencies (billing spec 1.1)."""
    return amount_cents * _PER_YEAR[interval]


def prorated(amount_cents: int, days_used: int, period_days: int) -> Decimal:
    """Unrounded minor units for ``days_used`` days of a period of ``period_days`` days.

    Multiplies before dividing, so a whole period costs exactly ``amount_cents``. ``ValueError`` when the period
    has no day.
    """
    if period_days <= 0:
        raise ValueError("a period has at least one day")
    with exact():
        return Decimal(amount_cents) * days_used / period_days


def day_price(amount_cents: int, period_days: int) -> Decimal:
    """Unrounded minor units of one day of a whole period (billing spec 1.3)."""
    return prorated(amount_cents, 1, period_days)


def subscription_fee(
    amount_cents: int,
    whole: bool,
    from_: datetime,
    to: datetime,
    period_days: int,
    tz: ZoneInfo,
    minus_a_day: bool = False,
    trial_ends_at: datetime | None = None,
) -> Decimal:
    """Subscription fee in unrounded minor units (billing spec 1.4).

    ``whole`` bills ``amount_cents`` as it is. Otherwise the days from ``from_`` to ``to`` (the clamped
    boundaries, aware instants) are billed at the day price of the whole period of ``period_days`` days.
    ``minus_a_day`` leaves out the last day, which an upgrade bills on the new plan. Never below zero days. A trial
    that ends within the boundaries leaves the days from its end; one that ends with them or later leaves nothing.
    """
    if whole and (trial_ends_at is None or trial_ends_at <= from_):
        return Decimal(amount_cents)
    used = days_billed(from_, to, tz, minus_a_day=minus_a_day, trial_ends_at=trial_ends_at)
    return prorated(amount_cents, used, period_days)


def days_billed(
    from_: datetime, to: datetime, tz: ZoneInfo, *, minus_a_day: bool = False, trial_ends_at: datetime | None = None
) -> int:
    """The days that ``subscription_fee`` bills where it does not bill the whole period."""
    if trial_ends_at is not None and trial_ends_at >= to:
        return 0
    since = from_ if trial_ends_at is None else max(from_, trial_ends_at)
    return max(days(since, to, tz) - minus_a_day, 0)
