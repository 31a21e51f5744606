"""Boundaries of what is billed: nothing is left out and nothing is billed twice, whatever is billed monthly."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.boundaries import Boundaries, Stretch, Terms, current, joined, periodic, starting, terminating
from app.core.periods import BillingTime, Interval, Period, local_date, local_end, local_start
from app.core.values import replace

quick = settings(max_examples=150, deadline=None, database=None)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
ZONES = ("UTC", "America/New_York", "Europe/Paris", "Asia/Kolkata", "Pacific/Auckland")
YEARS = {Interval.WEEKLY: 1, Interval.MONTHLY: 3, Interval.QUARTERLY: 4, Interval.SEMIANNUAL: 4, Interval.YEARLY: 5}

instants = st.integers(0, 30 * 365 * 86_400).map(lambda s: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
zones = st.sampled_from(ZONES).map(ZoneInfo)


@st.composite
def some_terms(draw: st.DrawFn) -> Terms:
    interval = draw(st.sampled_from(Interval))
    may = interval in (Interval.SEMIANNUAL, Interval.YEARLY)
    anchor = draw(instants)
    return Terms(
        interval=interval,
        billing_time=draw(st.sampled_from(BillingTime)),
        pay_in_advance=draw(st.booleans()),
        anchor_at=anchor,
        started_at=draw(st.one_of(st.just(anchor), instants)),
        tz=draw(zones),
        charges_monthly=may and draw(st.booleans()),
        fixed_charges_monthly=may and draw(st.booleans()),
    )


def at(text: str, tz: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).astimezone(UTC)


def bills(terms: Terms, until: datetime) -> Iterable[tuple[datetime, Boundaries]]:
    """Every periodic bill up to an instant."""
    boundary = terms.next_boundary(terms.started_at)
    while boundary <= until:
        yield boundary, periodic(terms, boundary)
        assert terms.boundary_after(boundary) == terms.next_boundary(boundary)
        boundary = terms.next_boundary(boundary)


def tiles(stretches: list[Stretch]) -> None:
    """Each begins where the one before ended."""
    for one, following in pairwise(stretches):
        assert following.from_ == one.to + MICROSECOND
        assert following.period.start == one.period.end + DAY


@quick
@given(some_terms())
def test_charges_and_fees_tile_the_years(terms: Terms) -> None:
    until = terms.started_at + timedelta(days=366 * YEARS[terms.interval])
    billed = [one for _, one in bills(terms, until)]
    charges = [one.charges for one in billed if one.charges]
    fixed = [one.fixed_charges for one in billed if one.fixed_charges]
    opening = starting(terms, terms.started_at)
    ahead = [one.fixed_charges_ahead for one in (opening, *billed) if one.fixed_charges_ahead]
    for of in (charges, fixed, ahead):
        assert of[0].from_ == terms.started_at
        tiles(of)
    closed = [one.closes for one in billed if one.closes]
    for before, after in pairwise(closed):
        assert after.start == before.end + DAY
    first_day = local_date(terms.started_at, terms.tz)
    assert closed[0].start <= first_day <= closed[0].end
    fees = [(one.from_, one.to) for one in billed if one.closes]
    if terms.pay_in_advance:
        fees.insert(0, (opening.from_, opening.to))
    assert fees[0][0] == local_start(first_day, terms.tz)
    for (_, to), (from_, _) in pairwise(fees):
        assert from_ == to + MICROSECOND


@quick
@given(some_terms())
def test_every_bill_is_of_something_and_only_at_a_start(terms: Terms) -> None:
    until = terms.started_at + timedelta(days=366 * YEARS[terms.interval])
    for boundary, one in bills(terms, until):
        day = local_date(boundary, terms.tz)
        assert boundary == local_start(day, terms.tz)
        whole = terms.plan.containing(day).start == day
        assert (one.closes is not None) == whole
        assert (one.charges is not None) == (whole or terms.charges_monthly)
        assert (one.fixed_charges is not None) == (one.fixed_charges_ahead is not None)
        assert (one.fixed_charges is not None) == (whole or terms.fixed_charges_monthly)
        assert one.charges or one.fixed_charges
        if terms.charges_monthly and one.charges:
            assert one.charges.period.days <= 31
        assert (one.from_ > boundary) is False
        assert current(terms, boundary).fixed_charges_ahead == (
            one.fixed_charges_ahead or current(terms, boundary).fixed_charges
        )


@quick
@given(some_terms(), st.timedeltas(timedelta(0), timedelta(days=800)))
def test_the_end_bills_what_is_left(terms: Terms, later: timedelta) -> None:
    """From where the last bill ended to the end, in the period of each."""
    ends_at = terms.started_at + later
    bill = list(bills(terms, ends_at))
    billed = [one for _, one in bill]
    last = terminating(terms, ends_at, bill[-1][0] if bill else None)
    assert last == terminating(terms, ends_at)
    for of in ("charges", "fixed_charges"):
        before = [stretch for one in billed if (stretch := getattr(one, of))]
        final = getattr(last, of)
        assert final.to == ends_at
        assert final.from_ == (before[-1].to + MICROSECOND if before else terms.started_at)
    assert last.fixed_charges_ahead is None
    assert last.closes == terms.period_at(ends_at)


@quick
@given(some_terms(), st.timedeltas(timedelta(0), timedelta(days=800)))
def test_months_make_up_the_plans_period(terms: Terms, later: timedelta) -> None:
    monthly = replace(terms, charges_monthly=True, fixed_charges_monthly=True)
    if terms.interval is Interval.WEEKLY:
        return
    day = local_date(terms.started_at + later, terms.tz)
    period, month = monthly.plan.containing(day), monthly.charges.containing(day)
    assert period.start <= month.start <= month.end <= period.end
    assert monthly.charges.containing(period.start).start == period.start


@quick
@given(some_terms(), zones, st.timedeltas(timedelta(0), timedelta(days=800)))
def test_a_change_of_timezone_leaves_no_gap(terms: Terms, tz: ZoneInfo, later: timedelta) -> None:
    """The bill after a change goes on where the one before ended, and is the next one."""
    there = replace(terms, tz=tz)
    if there.anchor != terms.anchor:
        return
    before = list(bills(terms, terms.started_at + later + timedelta(days=400)))
    last, _ = before[-1]
    boundary = there.moved(terms.next_boundary(last))
    assert abs(boundary - terms.next_boundary(last)) <= timedelta(hours=26)
    assert there.boundary_after(last) == boundary
    after = periodic(there, boundary)
    ours = periodic(terms, terms.next_boundary(last))
    assert after.closes == ours.closes
    charges_to = max((one.charges.to for _, one in before if one.charges), default=None)
    fixed_to = max((one.fixed_charges.to for _, one in before if one.fixed_charges), default=None)
    whole = joined(after, charges_to, fixed_to)
    if whole.charges and charges_to:
        assert whole.charges.from_ == charges_to + MICROSECOND
        assert ours.charges is not None
        assert whole.charges.period == ours.charges.period
    if whole.fixed_charges and fixed_to:
        assert whole.fixed_charges.from_ == fixed_to + MICROSECOND


def test_the_last_day_of_a_billed_period_is_not_billed_again_in_the_west() -> None:
    """A month is billed in Auckland; in New York it is still its last day when the subscription ends."""
    there = Terms(Interval.MONTHLY, BillingTime.CALENDAR, False, at("2024-01-01"), at("2024-01-01"), ZoneInfo(ZONES[4]))
    boundary = there.next_boundary(at("2024-05-20"))
    here = replace(there, tz=ZoneInfo("America/New_York"))
    last = joined(terminating(here, boundary + timedelta(hours=2), boundary), boundary - MICROSECOND)
    assert last.closes == Period(date(2024, 6, 1), date(2024, 6, 30))
    assert (last.charges_from, last.charges_to) == (boundary, boundary + timedelta(hours=2))
    assert last.from_ > last.to


MONTHS = [
    # anchor, boundary, charges from and to, whole fixed charges: yearly with monthly charges
    ("2024-01-31T01:00", "2024-02-29", "2024-01-31T01:00", "2024-02-28", None),
    ("2024-01-31T01:00", "2024-03-31", "2024-02-29", "2024-03-30", None),
    ("2024-01-31T01:00", "2025-01-31", "2024-12-31", "2025-01-30", ("2024-01-31T01:00", "2025-01-30")),
]


@pytest.mark.parametrize(("anchor", "boundary", "from_", "last", "whole"), MONTHS)
def test_monthly_charges_of_a_year(
    anchor: str, boundary: str, from_: str, last: str, whole: tuple[str, str] | None
) -> None:
    terms = Terms(
        Interval.YEARLY, BillingTime.ANNIVERSARY, True, at(anchor), at(anchor), ZoneInfo("UTC"), charges_monthly=True
    )
    found = periodic(terms, at(boundary))
    end = local_end(date.fromisoformat(last), terms.tz)
    assert (found.charges_from, found.charges_to) == (at(from_), end)
    assert found.charges_period_days == (end.date() - at(from_).date()).days + 1
    fixed = found.fixed_charges
    assert (fixed and (fixed.from_, fixed.to)) == (
        whole and (at(whole[0]), local_end(date.fromisoformat(whole[1]), terms.tz))
    )
    year = 2025 if whole else 2024
    assert (found.from_, found.to) == (at(f"{year}-01-31"), local_end(date(year + 1, 1, 30), terms.tz))


def test_what_has_no_charges_says_so() -> None:
    terms = Terms(Interval.YEARLY, BillingTime.CALENDAR, False, at("2024-01-01"), at("2024-01-01"), ZoneInfo("UTC"))
    one = periodic(replace(terms, fixed_charges_monthly=True), at("2024-02-01"))
    with pytest.raises(ValueError, match="none are billed"):
        one.charges_from  # noqa: B018
