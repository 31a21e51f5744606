"""The dates of an invoice: when it is issued, made final and to be paid (billing spec 3.2)."""

from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

REMEMBERED = 4096
"""How many invoices' dates are remembered: those that are made together mostly have the same."""


class Anchor(StrEnum):
    """What the issuing date of a periodic invoice is counted from."""

    NEXT_PERIOD_START = "next_period_start"
    CURRENT_PERIOD_END = "current_period_end"


class Adjustment(StrEnum):
    """Whether that date moves with a grace period."""

    ALIGN_WITH_FINALIZATION_DATE = "align_with_finalization_date"
    KEEP_ANCHOR = "keep_anchor"


class IssuingRules(Struct, frozen=True):
    """What decides the dates of a customer's invoices; periods and terms in days."""

    grace_period: int = 0
    anchor: Anchor = Anchor.NEXT_PERIOD_START
    adjustment: Adjustment = Adjustment.ALIGN_WITH_FINALIZATION_DATE
    net_payment_term: int = 0


class IssuingDates(Struct, frozen=True):
    """The dates of one invoice. It is a draft until `finalization`."""

    issuing: date
    finalization: date
    payment_due: date


@lru_cache(maxsize=REMEMBERED)
def issuing_dates(billed_on: date, rules: IssuingRules, *, has_grace: bool, is_periodic: bool) -> IssuingDates:
    """The dates of an invoice that is billed on a local date. `has_grace`: whether it is of a kind that has a grace period;
    `is_periodic`: whether it closes a period."""
    grace = rules.grace_period if has_grace else 0
    shift = _periodic_shift(rules, grace) if has_grace and is_periodic else grace
    issuing = billed_on + timedelta(days=shift)
    due = issuing + timedelta(days=rules.net_payment_term)
    return IssuingDates(issuing, billed_on + timedelta(days=grace), due)


def finalized_dates(dates: IssuingDates, day: date, rules: IssuingRules, *, is_periodic: bool) -> IssuingDates:
    """The dates of a draft that is made final on a local date: it is issued then, unless its issuing date keeps to its
    period (billing spec 3.3)."""
    keeps = is_periodic and rules.adjustment is Adjustment.KEEP_ANCHOR
    issuing = dates.issuing if keeps else day
    return IssuingDates(issuing, dates.finalization, issuing + timedelta(days=rules.net_payment_term))


def _periodic_shift(rules: IssuingRules, grace: int) -> int:
    """The days from the start of the next period to the issuing date of the one that it closes."""
    if rules.adjustment is Adjustment.KEEP_ANCHOR:
        return -1 if rules.anchor is Anchor.CURRENT_PERIOD_END else 0
    if rules.anchor is Anchor.CURRENT_PERIOD_END and grace == 0:
        return -1
    return grace
