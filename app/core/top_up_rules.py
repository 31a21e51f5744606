"""When a wallet is topped up by itself, and by how much (billing spec 7.6). Amounts are credits."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from app.core.money import ZERO, exact
from app.core.periods import BillingTime, Interval, period_containing

PAUSE = timedelta(hours=1)
"""How long nothing is sold by a rule after a sale by a rule has failed."""


class Trigger(StrEnum):
    """What makes a rule top up: the anniversary of a day, or the ongoing balance."""

    INTERVAL = "interval"
    THRESHOLD = "threshold"


class Method(StrEnum):
    """How much a rule tops up by: fixed amounts, or as much as is missing to a target."""

    FIXED = "fixed"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Credits that are sold and credits that are given."""

    paid: Decimal = ZERO
    granted: Decimal = ZERO

    def __bool__(self) -> bool:
        return bool(self.paid or self.granted)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many credits may be sold at once; None where there is no limit."""

    least: Decimal | None = None
    most: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """How much a rule tops up by. `threshold` is that of a rule by threshold. `fixed` are the amounts of the fixed method;
    with the target method, `target` is given instead of sold where `grants_target`."""

    method: Method
    threshold: Decimal | None = None
    fixed: Amounts = Amounts()
    target: Decimal = ZERO
    grants_target: bool = False

    @property
    def sells(self) -> bool:
        """Whether it ever sells credits."""
        return bool(self.fixed.paid) if self.method is Method.FIXED else not self.grants_target


def is_reached(threshold: Decimal, ongoing: Decimal, pending: Decimal) -> bool:
    """Whether an ongoing balance is so low that a rule tops up, also with what has been bought and is not paid yet."""
    return ongoing <= threshold and ongoing + pending <= threshold


def top_up(rule: Rule, ongoing: Decimal, pending: Decimal, limits: Limits) -> Amounts:
    """What a rule tops up by, given that it is time to; nothing where the target has been reached.

    By threshold, a fixed amount is sold as often as it takes to come above the threshold, up to the limit; once in any
    case. What is sold to reach a target is raised to the least that may be sold.
    """
    with exact():
        if rule.method is Method.TARGET:
            return _up_to(rule, ongoing, limits)
        paid, granted = rule.fixed.paid, rule.fixed.granted
        if rule.threshold is None or not paid:
            return rule.fixed
        gap = rule.threshold - ongoing - granted - pending
        if gap >= paid:
            times = (gap / paid).to_integral_value(ROUND_FLOOR) + 1
            sold = paid * times
            paid = sold if limits.most is None else max(min(sold, limits.most), paid)
        return Amounts(paid, granted)


def _up_to(rule: Rule, ongoing: Decimal, limits: Limits) -> Amounts:
    missing = rule.target - ongoing
    if missing <= 0:
        return Amounts()
    if rule.grants_target:
        return Amounts(granted=missing)
    return Amounts(paid=missing if limits.least is None else max(missing, limits.least))


def is_paused(last_failed_at: datetime | None, last_settled_at: datetime | None, instant: datetime) -> bool:
    """Whether a rule sells nothing for the moment: a sale by a rule has failed less than an hour ago, and none, by a rule
    or not, has been paid for since."""
    if last_failed_at is None or instant - last_failed_at >= PAUSE:
        return False
    return last_settled_at is None or last_settled_at < last_failed_at


def next_top_up(interval: Interval, anchor: date, after: date) -> date:
    """The first local date after `after` on which a rule by interval tops up: an anniversary of `anchor`, or in a month
    that has no such day its last day. Never before `anchor`."""
    start = max(after, anchor - timedelta(days=1))
    period = period_containing(start, interval, BillingTime.ANNIVERSARY, anchor)
    return period.end + timedelta(days=1)
