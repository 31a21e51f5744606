from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.money import minor_int
from app.core.periods import BillingTime, Interval, local_end, local_start, period_containing
from app.core.subscription_fee import day_price, prorated, subscription_fee

quick = settings(max_examples=180, deadline=None, database=None)
NEW_YORK = ZoneInfo("America/New_York")


def first_fee(amount: int, start: date, interval: Interval, tz: ZoneInfo = NEW_YORK) -> Decimal:
    period = period_containing(start, interval, BillingTime.CALENDAR, start)
    return subscription_fee(amount, False, local_start(start, tz), local_end(period.end, tz), period.days, tz)


@pytest.mark.parametrize(
    ("amount", "start", "interval", "billed"),
    [
        (4_500, date(2027, 4, 17), Interval.MONTHLY, 2_100),
        (9_900, date(2027, 2, 12), Interval.MONTHLY, 6_011),
        (120_000, date(2027, 3, 15), Interval.YEARLY, 96_000),
        (3_100, date(2027, 3, 15), Interval.MONTHLY, 1_700),  # the days after a trial that ends on 15 March
        (6_000, date(2027, 4, 16), Interval.MONTHLY, 3_000),
    ],
)
def test_first_period(amount: int, start: date, interval: Interval, billed: int) -> None:
    for zone in ("UTC", "America/New_York", "Asia/Beirut", "Pacific/Auckland"):
        assert minor_int(first_fee(amount, start, interval, ZoneInfo(zone))) == billed


def test_unrounded_amount() -> None:
    with localcontext(Context(prec=3)):
        fee = first_fee(9_900, date(2027, 2, 12), Interval.MONTHLY)
    assert str(fee).startswith("6010.714285714285714285")
    assert abs(Fraction(fee) - Fraction(9_900 * 17, 28)) < Fraction(1, 10**90)


@pytest.mark.parametrize(("upgrade", "billed"), [(False, 6_600), (True, 6_270)])
def test_termination_in_arrears(upgrade: bool, billed: int) -> None:
    start = local_start(date(2027, 4, 1), NEW_YORK)
    ended = datetime(2027, 4, 20, 15, tzinfo=NEW_YORK)
    assert subscription_fee(9_900, False, start, ended, 30, NEW_YORK, minus_a_day=upgrade) == billed


def test_never_less_than_no_day() -> None:
    start = datetime(2027, 4, 20, 15, tzinfo=UTC)
    tz = ZoneInfo("UTC")
    assert subscription_fee(9_900, False, start, start, 30, tz, minus_a_day=True) == 0
    assert subscription_fee(9_900, False, start, start - timedelta(days=9), 30, tz) == 0


def test_whole_amount() -> None:
    start = datetime(2027, 4, 20, 15, tzinfo=UTC)
    assert subscription_fee(9_900, True, start, start, 30, ZoneInfo("UTC")) == 9_900


def test_a_period_has_days() -> None:
    with pytest.raises(ValueError, match="at least one day"):
        prorated(100, 1, 0)


@quick
@given(st.integers(0, 10**15), st.integers(1, 366), st.integers(0, 366))
def test_proration(amount: int, period_days: int, used: int) -> None:
    fee = prorated(amount, used, period_days)
    assert abs(Fraction(fee) - Fraction(amount * used, period_days)) < Fraction(1, 10**75)
    assert prorated(amount, period_days, period_days) == amount
    assert abs(day_price(amount, period_days) * period_days - amount) < Decimal("1e-8")
    if used <= period_days:
        # Both parts of a split period make the whole one, give or take the rounding of each.
        rest = prorated(amount, period_days - used, period_days)
        assert abs(minor_int(fee) + minor_int(rest) - amount) <= 1
