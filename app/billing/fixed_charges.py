"""Fees of fixed charges: what was in force in a period, priced, and not billed twice (billing spec 2.3, 2.6)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import func, insert, or_, select
from sqlalchemy.orm import Session, aliased

from app.billing.adjustments import FeeKey
from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.terms import PRECISE_PLACES, FixedChargeTerms, TaxBook
from app.core.boundaries import SAME_END, Stretch
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.fixed_charges import UnitsChange, already_paid, period_usage, raised, units_in_force
from app.core.charges.proration import ProratedSpan
from app.core.charges.usage import BucketUsage, Priced
from app.core.money import ZERO, decimal_text, exact, minor_int, round_half_up
from app.core.periods import calendar_days, local_date, local_start
from app.core.values import replace
from app.models import BillingPeriod, Fee, FixedCharge, Invoice, OwnUnits, Subscription, SubscriptionUnits
from app.models.invoice import UNBILLED

Key = tuple[UUID, UUID]
"""A subscription and a fixed charge, the one that others are copies of."""


class Billed(NamedTuple):
    """Units that an invoice has billed in advance, until the end of a period, and when that was measured first."""

    to: datetime
    units: Decimal
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class PaidAhead:
    """What was paid in advance for an add-on, unrounded in minor units, from when it was billed to the end of its
    period."""

    precise_cents: Decimal
    from_: datetime
    to: datetime

    def for_rest(self, since: datetime, stretch: Stretch, tz: ZoneInfo) -> Decimal:
        """The part of it that is for the days of a stretch from an instant on."""
        days = calendar_days(since, min(self.to, stretch.to), tz)
        return already_paid(self.precise_cents, calendar_days(self.from_, self.to, tz), days)


@dataclass(frozen=True, slots=True)
class FixedUnits:
    """The changes of units, and the units billed in advance by the end of their period. `paid`: by subscription and add-on
    what was paid for the same days before an upgrade."""

    changes: Mapping[Key, Sequence[UnitsChange]] = field(default_factory=dict)
    billed: Mapping[Key, Sequence[Billed]] = field(default_factory=dict)
    paid: Mapping[tuple[UUID, UUID], Sequence[PaidAhead]] = field(default_factory=dict)

    def changes_of(self, key: Key, known_at: datetime | None = None) -> list[UnitsChange]:
        """The changes of a fixed charge's units; those that were recorded by an instant, if one is given."""
        known = self.changes.get(key, ())
        return [one for one in known if known_at is None or one.recorded_at is None or one.recorded_at <= known_at]

    def billed_for(self, key: Key, stretch: Stretch, before: datetime | None = None) -> Decimal | None:
        """The units billed for a period already, before an instant if one is given; None where nothing was."""
        units = [
            one.units
            for one in self.billed.get(key, ())
            if stretch.is_same_period(one.to) and (before is None or one.measured_at < before)
        ]
        return sum(units, ZERO) if units else None


def load_units(db: Session, lines: Iterable[BilledLine]) -> FixedUnits:
    """What the fixed charges of these lines are billed by, in two queries; none where no plan has fixed charges."""
    with_fixed = [line for line in lines if line.subscription.plan.fixed_charges]
    if not with_fixed:
        return FixedUnits()
    ids = [line.subscription.id for line in with_fixed]
    in_advance = [line for line in with_fixed if line.subscription.plan.has_fixed_charges_in_advance]
    ends = [ahead.to for line in in_advance if (ahead := line.boundaries.fixed_charges_ahead)]
    billed = _load_billed(db, ids, min(ends) - SAME_END) if ends else {}
    paid = {
        (line.subscription.id, add_on_id): paid
        for line in in_advance
        if line.upgraded_from is not None
        for add_on_id, paid in _load_paid(db, line.upgraded_from, line.billed_at).items()
    }
    return FixedUnits(load_changes(db, ids), billed, paid)


def load_changes(db: Session, subscription_ids: Collection[UUID]) -> dict[Key, list[UnitsChange]]:
    """All changes of units of these subscriptions, in the order they were written."""
    rows = db.execute(
        select(
            SubscriptionUnits.subscription_id,
            SubscriptionUnits.fixed_charge_id,
            SubscriptionUnits.units,
            SubscriptionUnits.effective_at,
            SubscriptionUnits.created_at,
            SubscriptionUnits.recorded_at,
        )
        .where(SubscriptionUnits.subscription_id.in_(subscription_ids))
        .order_by(SubscriptionUnits.number)
    )
    changes: dict[Key, list[UnitsChange]] = {}
    for subscription_id, charge_id, units, effective_at, created_at, recorded_at in rows:
        change = UnitsChange(units, effective_at, created_at, recorded_at)
        changes.setdefault((subscription_id, charge_id), []).append(change)
    return changes


def start_units(db: Session, subscriptions: Sequence[Subscription], now: datetime) -> None:
    """Write down what subscriptions have when they start: their own units, else those of their plans (billing spec 1.6).
    Nobody may change these plans, or their units, before the transaction ends."""
    if not subscriptions:
        return
    rows = db.execute(
        select(FixedCharge.plan_id, func.coalesce(FixedCharge.parent_id, FixedCharge.id), FixedCharge.units).where(
            FixedCharge.plan_id.in_({one.plan_id for one in subscriptions}), FixedCharge.deleted_at.is_(None)
        )
    )
    of_plan: dict[UUID, list[tuple[UUID, Decimal]]] = {}
    for plan_id, charge_id, units in rows:
        of_plan.setdefault(plan_id, []).append((charge_id, units))
    if not of_plan:
        return
    own: dict[Key, Decimal] = {}
    for subscription_id, charge_id, units in db.execute(
        select(OwnUnits.subscription_id, OwnUnits.fixed_charge_id, OwnUnits.units).where(
            OwnUnits.subscription_id.in_([one.id for one in subscriptions])
        )
    ):
        own[subscription_id, charge_id] = units
    begun = [
        units_row(one, charge_id, own.get((one.id, charge_id), units), one.starts_at or now, now)
        for one in subscriptions
        for charge_id, units in of_plan.get(one.plan_id, ())
    ]
    write_units(db, begun)


def units_row(
    subscription: Subscription, charge_id: UUID, units: Decimal, effective_at: datetime, now: datetime
) -> Mapping[str, object]:
    """A row of the history of units."""
    return {
        "organization_id": subscription.organization_id,
        "subscription_id": subscription.id,
        "fixed_charge_id": charge_id,
        "units": units,
        "effective_at": effective_at,
        "created_at": now,
    }


def write_units(db: Session, rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows to the history of units."""
    if rows:
        db.execute(insert(SubscriptionUnits), list(rows))


def _load_billed(db: Session, subscription_ids: Collection[UUID], since: datetime) -> dict[Key, list[Billed]]:
    root_id = func.coalesce(FixedCharge.parent_id, FixedCharge.id)
    rows = db.execute(
        select(
            Fee.subscription_id,
            root_id,
            Fee.to_datetime,
            func.sum(Fee.units),
            func.min(BillingPeriod.first_measured_at),
        )
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .join(
            BillingPeriod,
            (BillingPeriod.invoice_id == Invoice.id) & (BillingPeriod.subscription_id == Fee.subscription_id),
        )
        .join(FixedCharge, FixedCharge.id == Fee.fixed_charge_id)
        .where(
            Fee.subscription_id.in_(subscription_ids),
            Fee.fixed_charge_id.is_not(None),
            Fee.pay_in_advance,
            Fee.to_datetime >= since,
            or_(Fee.units != 0, Fee.amount_cents != 0),
            Invoice.status.not_in(UNBILLED),
        )
        .group_by(Invoice.id, Fee.subscription_id, root_id, Fee.to_datetime)
    )
    billed: dict[Key, list[Billed]] = {}
    for subscription_id, charge_id, to, units, measured_at in rows:
        if subscription_id is not None:
            billed.setdefault((subscription_id, charge_id), []).append(Billed(to, units, measured_at))
    return billed


def _load_paid(db: Session, upgraded_from: UUID, since: datetime) -> dict[UUID, list[PaidAhead]]:
    """What was paid for days after an instant, prorated and in advance, by add-on: on the subscription that was upgraded,
    and on those that were upgraded to it, whose payments lowered what was paid on it."""
    lineage = select(Subscription.id, Subscription.previous_subscription_id).where(Subscription.id == upgraded_from)
    chain = lineage.cte("chain", recursive=True)
    before = aliased(Subscription)
    chain = chain.union(
        select(before.id, before.previous_subscription_id).where(
            before.id == chain.c.previous_subscription_id, before.replaced_by == "upgrade"
        )
    )
    rows = db.execute(
        select(
            FixedCharge.add_on_id, Fee.precise_amount_cents, Fee.from_datetime, BillingPeriod.billed_at, Fee.to_datetime
        )
        .join(FixedCharge, FixedCharge.id == Fee.fixed_charge_id)
        .join(Invoice, Invoice.id == Fee.invoice_id)
        .join(
            BillingPeriod,
            (BillingPeriod.invoice_id == Fee.invoice_id) & (BillingPeriod.subscription_id == Fee.subscription_id),
        )
        .where(
            Fee.subscription_id.in_(select(chain.c.id)),
            Fee.pay_in_advance,
            FixedCharge.prorated,
            Fee.to_datetime >= since,
            Invoice.status.not_in(UNBILLED),
        )
        .order_by(Fee.created_at, Fee.position)
    )
    paid: dict[UUID, list[PaidAhead]] = {}
    for add_on_id, precise_cents, from_, billed_at, to in rows:
        paid.setdefault(add_on_id, []).append(PaidAhead(precise_cents, max(from_, billed_at), to))
    return paid


def fixed_charge_fees(line: BilledLine, units: FixedUnits, taxes: TaxBook) -> list[FeeDraft]:
    """The fees of a line's fixed charges; one without units and amount is no fee (billing spec 2.3)."""
    subscription = line.subscription
    fees = []
    for charge in subscription.plan.fixed_charges:
        stretch = line.fixed_charges_ahead if charge.pay_in_advance else line.fixed_charges
        key = subscription.id, charge.root_id
        # What a draft has billed in advance stays as it was then: later changes have been billed by themselves.
        first = line.first_measured_at if charge.pay_in_advance else None
        if stretch is None or (charge.pay_in_advance and units.billed_for(key, stretch, first) is not None):
            continue
        span = _span(line, stretch, prorated=charge.prorated)
        usage = period_usage(units.changes_of(key, first), span, prorated=charge.prorated)
        paid = units.paid.get((subscription.id, charge.add_on_id), ()) if _is_paid_ahead(charge) else ()
        fees.append(fixed_charge_fee(line, charge, stretch, usage, charge.price(usage), taxes, paid))
    adjusted = line.adjustments
    return [fee for fee in fees if fee.amounts.units or fee.amounts.amount_cents or fee.key in adjusted]


def _span(line: BilledLine, stretch: Stretch, *, prorated: bool) -> ProratedSpan:
    """The days that are counted: those of the period itself, as a change of timezone that has moved the first instant has
    moved no day, and prorated without the day of an upgrade, which belongs to the new plan."""
    tz, to = line.subscription.tz, stretch.to
    first = max(stretch.from_, local_start(stretch.period.start, tz))
    if prorated and line.subscription.ended_by_upgrade:
        to = local_start(local_date(to, tz), tz) - timedelta(microseconds=1)
    return ProratedSpan(first, to, stretch.period.days, tz)


def raised_fees(line: BilledLine, charge_ids: Collection[UUID], units: FixedUnits, taxes: TaxBook) -> list[FeeDraft]:
    """The fees in advance for new units of these fixed charges: for what is above the units billed for the period already,
    and for the rest of the period where prorated. Less units are no fee."""
    subscription, stretch = line.subscription, line.boundaries.fixed_charges_ahead
    fees = []
    for charge in subscription.plan.fixed_charges:
        if stretch is None or charge.root_id not in charge_ids or not charge.pay_in_advance:
            continue
        key = subscription.id, charge.root_id
        new = units_in_force(units.changes_of(key), line.billed_at)
        days = calendar_days(line.billed_at, stretch.to, subscription.tz) if charge.prorated else None
        usage, priced = raised(charge.price, new, units.billed_for(key, stretch), days, stretch.period.days)
        fees.append(fixed_charge_fee(line, charge, stretch, usage, priced, taxes))
    return [fee for fee in fees if fee.amounts.units or fee.amounts.amount_cents]


def _is_paid_ahead(charge: FixedChargeTerms) -> bool:
    return charge.pay_in_advance and charge.prorated


def _lowered(amounts: FeeAmounts, paid_cents: Decimal) -> FeeAmounts:
    """A fee less what is paid already, not below 0."""
    with exact():
        left = max(amounts.precise_amount_cents - paid_cents, ZERO)
    return replace(amounts, amount_cents=minor_int(left), precise_amount_cents=left)


def fixed_charge_fee(
    line: BilledLine,
    charge: FixedChargeTerms,
    stretch: Stretch,
    usage: BucketUsage,
    priced: Priced,
    taxes: TaxBook,
    paid: Sequence[PaidAhead] = (),
) -> FeeDraft:
    """A fixed charge's fee for a stretch, as the line has adjusted it, less what was paid for the same add-on and days
    before an upgrade."""
    subscription = line.subscription
    plan = subscription.plan
    amounts, figures = fee_amounts(usage, priced, plan.currency), None
    if paid:
        whole = amounts
        with exact():
            cents = sum((one.for_rest(stretch.from_, stretch, subscription.tz) for one in paid), ZERO)
        amounts = _lowered(whole, cents)
        figures = {"whole_cents": decimal_text(round_half_up(whole.precise_amount_cents, PRECISE_PLACES))}
    adjustment = line.adjustments.get(FeeKey("fixed_charge", fixed_charge_id=charge.id))
    if adjustment is not None:
        amounts = adjustment.amounts(amounts, plan.currency, lambda new: _at(charge, new, plan.currency))
    own = taxes.taxes(
        charge.taxes,
        plan.taxes,
        customer_id=subscription.customer_id,
    )
    return FeeDraft(
        id=uuid4(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=FeeItem(
            fee_type="fixed_charge",
            id=charge.add_on_id,
            code=charge.add_on_code,
            name=charge.add_on_name,
            description=charge.add_on_description,
            display_name=(adjustment and adjustment.display_name) or charge.display_name,
        ),
        amounts=amounts,
        from_=stretch.from_,
        to=stretch.to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
        fixed_charge_id=charge.id,
        pay_in_advance=charge.pay_in_advance,
        figures=figures,
    )


def _at(charge: FixedChargeTerms, units: Decimal, currency: str) -> FeeAmounts:
    """What so many units of a fixed charge come to."""
    usage = BucketUsage(units, 0)
    return fee_amounts(usage, charge.price(usage), currency)
