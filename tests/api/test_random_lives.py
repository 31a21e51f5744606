"""Random lives of subscriptions over years: starts, usage, dearer and cheaper plans, moves to other timezones, an end.

Each life is lived twice, in sandboxes of their own: with a clock that moves on in small steps, and with one that jumps from
one thing that happens to the next, so that everything between is caught up at once. Both must be billed the same. Every day
is paid once, at the price that the plan of that day has, and every event is billed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import httpx
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from app.core.periods import BillingTime, Interval, period_containing
from app.core.subscription_fee import yearly_amount
from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_events,
    set_clock,
    standard,
)
from tests.support import Server

DAY = timedelta(days=1)
STEP = timedelta(days=27, hours=5)
ZONES = ("UTC", "America/Los_Angeles", "America/New_York", "Europe/Paris", "Asia/Kolkata", "Asia/Tokyo")
"""Places in which it is the same date when it is noon in Greenwich: then plans change, so that days can be counted."""
FARTHEST = timedelta(hours=26)


@dataclass(frozen=True)
class Priced:
    """A plan: a fee, and a cent for each call."""

    code: str
    interval: Interval
    cents: int
    in_advance: bool = False
    charges_monthly: bool = False

    @property
    def yearly(self) -> int:
        return yearly_amount(self.cents, self.interval)


PLANS = (
    Priced("week", Interval.WEEKLY, 701),
    Priced("month", Interval.MONTHLY, 3_333),
    Priced("month ahead", Interval.MONTHLY, 2_999, in_advance=True),
    Priced("quarter ahead", Interval.QUARTERLY, 10_007, in_advance=True),
    Priced("half", Interval.SEMIANNUAL, 19_000, charges_monthly=True),
    Priced("year", Interval.YEARLY, 36_500),
    Priced("year ahead", Interval.YEARLY, 45_001, in_advance=True, charges_monthly=True),
)


@dataclass(frozen=True)
class Happening:
    """Something that happens: a call is made, and what `what` says."""

    at: datetime
    what: str
    plan: Priced
    zone: str


@st.composite
def lives(draw: st.DrawFn) -> list[Happening]:
    """Two years or so of a subscription, from its start to its end. What depends on the date happens at noon, and two days
    or more after a move."""
    at = datetime(2023, 1, 1, 12, tzinfo=UTC) + draw(st.integers(0, 400)) * DAY
    found = []
    whats = st.sampled_from(["call", "plan", "plan", "zone", "zone"])
    for what in ["start", *draw(st.lists(whats, min_size=4, max_size=11)), "end"]:
        found.append(Happening(at, what, draw(st.sampled_from(PLANS)), draw(st.sampled_from(ZONES))))
        at += draw(st.integers(2, 75)) * DAY
        if draw(st.booleans()):  # near the start of a month, which is that of a period for most
            at = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, 12, tzinfo=UTC)
    moved = []
    for one in found:
        hours = draw(st.integers(-27 * 60, 13 * 60)) if one.what in {"call", "zone"} else 0
        moved.append(Happening(one.at + timedelta(minutes=hours), one.what, one.plan, one.zone))
    return sorted(moved, key=lambda one: one.at)


def live(api: httpx.Client, life: Sequence[Happening], billing_time: str, step: timedelta | None) -> None:
    """Let it happen. With a step the clock moves on by it, and each time what is due is run twice."""
    now = life[0].at
    set_clock(api, now.isoformat())
    calls = make_metric(api, "calls")
    for plan in PLANS:
        make_plan(
            api, plan.code, [standard(calls, "0.01")], interval=plan.interval, amount_cents=plan.cents,
            pay_in_advance=plan.in_advance, bill_charges_monthly=plan.charges_monthly,
        )  # fmt: skip
    for one in life:
        while step and now + step < one.at:
            now += step
            set_clock(api, now.isoformat())
            set_clock(api, now.isoformat())
        now = one.at
        set_clock(api, now.isoformat())
        if one.what == "zone":
            make_customer(api, timezone=one.zone)
        elif one.what == "start":
            make_customer(api, timezone=one.zone)
            make_subscription(api, plan=one.plan.code, billing_time=billing_time)
        elif one.what == "plan":
            make_subscription(api, plan=one.plan.code)
        send_events(api, [event("calls", timestamp=now.timestamp())])
        if one.what == "end":
            ok(api.delete("/api/v1/subscriptions/sub"))
    set_clock(api, (now + timedelta(days=400)).isoformat())


def billed(api: httpx.Client) -> tuple[list[Json], int]:
    """What was billed of each subscription in the order of time, and what was given back."""
    fees = ok(api.get("/api/v1/fees", params={"per_page": 1000}))["fees"]
    invoices = ok(api.get("/api/v1/invoices", params={"per_page": 1000}))["invoices"]
    numbers = {one["lago_id"]: one for one in invoices}
    names = ("amount_cents", "units", "from_date", "to_date", "events_count")
    found = [
        {
            **{name: fee[name] for name in names},
            "code": fee["item"]["code"], "type": fee["item"]["type"],
            "number": numbers[fee["lago_invoice_id"]]["sequential_id"],
            "issued": numbers[fee["lago_invoice_id"]]["issuing_date"],
            "total": numbers[fee["lago_invoice_id"]]["total_amount_cents"],
        }
        for fee in fees
    ]  # fmt: skip
    notes = ok(api.get("/api/v1/credit_notes", params={"per_page": 1000}))["credit_notes"]
    order = sorted(found, key=lambda one: (one["number"], one["type"], one["code"], one["from_date"]))
    return order, sum(one["total_amount_cents"] for one in notes)


def segments(life: Sequence[Happening], billing_time: str) -> list[tuple[Priced, date, date]]:
    """The plans one after the other, with the first and the last date of each."""
    anchor = life[0].at.date()
    found: list[tuple[Priced, date, date]] = []
    plan, since, waiting = life[0].plan, anchor, None

    def pass_by(until: date) -> None:
        nonlocal plan, since, waiting
        if waiting is not None and waiting[1] <= until:
            found.append((plan, since, waiting[1] - DAY))
            (plan, since), waiting = waiting, None

    for one in life[1:]:
        day = one.at.date()
        pass_by(day)
        if one.what == "end":
            found.append((plan, since, day))
        elif one.what == "plan" and one.plan is not plan:
            if one.plan.yearly >= plan.yearly:
                found.append((plan, since, day - DAY))
                plan, since, waiting = one.plan, day, None
            else:
                period = period_containing(day, plan.interval, BillingTime(billing_time), anchor)
                waiting = (one.plan, period.end + DAY)
    return found


def price(plan: Priced, first: date, last: date, billing_time: str, anchor: date) -> Fraction:
    """What the days of a plan cost, each the part of its own period that it is."""
    total, day = Fraction(0), first
    while day <= last:
        period = period_containing(day, plan.interval, BillingTime(billing_time), anchor)
        end = min(period.end, last)
        total += Fraction(plan.cents, period.days) * ((end - day).days + 1)
        day = end + DAY
    return total


def test_every_day_and_every_call_is_billed_once(server: Server) -> None:
    @settings(
        max_examples=5, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(lives(), st.sampled_from(["anniversary", "calendar"]))
    def lived(life: list[Happening], billing_time: str) -> None:
        for one in life:
            note(f"{one.at:%Y-%m-%d %H:%M} {one.what} {one.plan.code} {one.zone}")
        with server.organization("Step", sandbox=True) as steps, server.organization("Jump", sandbox=True) as jumps:
            live(steps, life, billing_time, STEP)
            live(jumps, life, billing_time, None)
            fees, given_back = billed(jumps)
            assert (fees, given_back) == billed(steps)
        check(life, billing_time, fees, given_back)

    def check(life: list[Happening], billing_time: str, fees: list[Json], given_back: int) -> None:
        calls = [one for one in fees if one["type"] == "charge"]
        assert sum(one["events_count"] for one in calls) == len(life)
        of_days = [one for one in fees if one["type"] == "subscription"]
        plans = segments(life, billing_time)
        note(str([(plan.code, str(first), str(last)) for plan, first, last in plans]))
        anchor = life[0].at.date()
        due = sum(price(*one, billing_time, anchor) for one in plans)
        paid = sum(one["amount_cents"] for one in of_days) - given_back
        assert abs(paid - due) <= len(of_days) + len(plans)
        for plan in PLANS:
            mine = sorted((one["from_date"], one["to_date"]) for one in of_days if one["code"] == plan.code)
            for (_, to), (from_, _) in pairwise(mine):
                gap = datetime.fromisoformat(from_) - datetime.fromisoformat(to)
                assert gap > -FARTHEST or sum(one[0] is plan for one in plans) > 1

    lived()
