"""Coupons taken off invoices when these are made final, and given back by those that are voided (billing spec 5.3, 3.7)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Boolean, Integer, Uuid, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.billing.fees import FeeDraft
from app.billing.settlement import Credited, Settlement
from app.core.coupons import Discount, discount
from app.core.money import exact
from app.models import AppliedCoupon, Coupon, Credit, Invoice, Plan, among
from app.models.coupon import coupon_metrics, coupon_plans
from app.models.invoice import DROPPED

METRICS, PLANS, UNLIMITED = range(3)
"""What coupons are limited to, in the order in which they take."""


@dataclass(slots=True)
class HeldCoupon:
    """A coupon that a customer has, locked, and how it stands. `amount_cents`: the most it takes of an invoice, of one that
    is spent bit by bit what is left of it; `currency` is that of the amount. `invoices_left`: how many more a recurring one
    lowers. `targets`: the metrics or plans that it is limited to."""

    id: UUID
    rate: Decimal | None
    amount_cents: int
    currency: str | None
    frequency: str
    invoices_left: int | None
    limit: int
    targets: Collection[UUID]
    used: bool = False
    ended: bool = False

    def discount(self, draft_currency: str, fees: Sequence[FeeDraft]) -> Discount | None:
        """What it takes of an invoice with these fees; None where it has nothing to do with it."""
        if self.ended or self.currency not in (None, draft_currency):
            return None
        places = None if self.limit == UNLIMITED else [at for at, fee in enumerate(fees) if self._is_for(fee)]
        return None if places == [] else Discount(self.rate, self.amount_cents, places)

    def use(self, taken_cents: int) -> None:
        """Count that an invoice was lowered by so much (billing spec 5.3)."""
        self.used = True
        if self.frequency == "recurring":
            self.invoices_left = max((self.invoices_left or 0) - 1, 0)
            self.ended = not self.invoices_left
        elif self.frequency == "once" and self.rate is None:
            self.amount_cents -= taken_cents
            self.ended = not self.amount_cents
        else:
            self.ended = self.frequency == "once"

    def _is_for(self, fee: FeeDraft) -> bool:
        if self.limit == METRICS:
            return fee.item.fee_type == "charge" and fee.item.id in self.targets
        return fee.subscription is not None and fee.subscription.plan.id in self.targets


def take_coupons(db: Session, settlements: Sequence[Settlement], now: datetime) -> None:
    """Let the customers' coupons lower what the invoices come to before taxes, one invoice after the other.

    The coupons are locked: what two invoices want at the same time is taken by one of them. The number of queries does not
    depend on how many invoices or coupons there are.
    """
    lowered = [one for one in settlements if one.takes_credits and one.sub_total_cents > 0]
    held = _hold(db, lowered) if lowered else {}
    for one in lowered if held else ():
        lower(one, held.get(one.draft.payer.customer_id, ()))
    _write(db, [coupon for coupons in held.values() for coupon in coupons if coupon.used], now)


def give_back_coupons(db: Session, invoice: Invoice, now: datetime) -> None:
    """Give back the coupons that lowered an invoice, which is being voided: a recurring one lowers one more, and one that
    was used up is there again, unless it is given to nobody any more. One that was taken away stays away. The caller holds
    the customer.
    """
    rows = db.execute(
        select(AppliedCoupon, Coupon)
        .join(Coupon, Coupon.id == AppliedCoupon.coupon_id)
        .where(AppliedCoupon.id.in_(select(Credit.applied_coupon_id).where(Credit.invoice_id == invoice.id)))
        .order_by(AppliedCoupon.id)
        .with_for_update(of=AppliedCoupon, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    taken = _taken(db, [applied.id for applied, _ in rows], including=invoice.id)
    for applied, coupon in rows:
        is_used_up = _is_used_up(applied, taken.get(applied.id, 0))
        if applied.frequency_duration_remaining is not None:
            applied.frequency_duration_remaining += 1
        if is_used_up and coupon.terminated_at is None and coupon.deleted_at is None:
            applied.terminated_at = None
        applied.updated_at = now
    db.flush()


def _is_used_up(applied: AppliedCoupon, taken_cents: int) -> bool:
    """Whether nothing is left of a coupon that has lowered an invoice."""
    if applied.frequency == "recurring":
        return not applied.frequency_duration_remaining
    return applied.frequency == "once" and (applied.amount_cents is None or taken_cents >= applied.amount_cents)


def lower(settlement: Settlement, held: Iterable[HeldCoupon]) -> None:
    """Let coupons lower one invoice before taxes, and count it on them, in their order. Nothing is stored."""
    fees = settlement.fees
    there = {one.applied_coupon_id for one in settlement.credits}
    wanted = [(one, one.discount(settlement.draft.currency, fees)) for one in held if one.id not in there]
    coupons = [(one, terms) for one, terms in wanted if terms is not None]
    if not coupons:
        return
    before = [settlement.left_of(fee) for fee in fees]
    after = discount(before, settlement.sub_total_cents, [terms for _, terms in coupons])
    for (coupon, _), cents in zip(coupons, after.credits_cents, strict=True):
        if cents:
            coupon.use(cents)
            settlement.credits.append(Credited(cents, applied_coupon_id=coupon.id))
    with exact():
        for fee, was, left in zip(fees, before, after.fees_left, strict=True):
            if left != was:
                settlement.reduced[fee.id] = settlement.reduced_by(fee) + was - left


def _hold(db: Session, settlements: Sequence[Settlement]) -> dict[UUID, list[HeldCoupon]]:
    """The coupons of the invoices' customers that have not ended, locked, in the order in which they take."""
    limit = case((Coupon.limited_billable_metrics, METRICS), (Coupon.limited_plans, PLANS), else_=UNLIMITED)
    rows = db.execute(
        select(
            AppliedCoupon.id,
            AppliedCoupon.customer_id,
            AppliedCoupon.coupon_id,
            AppliedCoupon.percentage_rate,
            AppliedCoupon.amount_cents,
            AppliedCoupon.amount_currency,
            AppliedCoupon.frequency,
            AppliedCoupon.frequency_duration_remaining,
            AppliedCoupon.created_at,
            AppliedCoupon.number,
            limit.label("limit"),
        )
        .join(Coupon, Coupon.id == AppliedCoupon.coupon_id)
        .where(
            among(AppliedCoupon.customer_id, {one.draft.payer.customer_id for one in settlements}),
            AppliedCoupon.terminated_at.is_(None),
        )
        .order_by(AppliedCoupon.id)
        .with_for_update(of=AppliedCoupon, key_share=True)
    ).all()
    targets = _targets(db, {row.coupon_id: row.limit for row in rows}, settlements)
    taken = _taken(db, [row.id for row in rows if row.frequency == "once" and row.percentage_rate is None])
    held: dict[UUID, list[HeldCoupon]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.limit, row.created_at, row.number)):
        held[row.customer_id].append(
            HeldCoupon(
                id=row.id,
                rate=row.percentage_rate,
                amount_cents=(row.amount_cents or 0) - taken.get(row.id, 0),
                currency=row.amount_currency,
                frequency=row.frequency,
                invoices_left=row.frequency_duration_remaining,
                limit=row.limit,
                targets=targets[row.coupon_id],
            )
        )
    return held


def _targets(db: Session, limits: Mapping[UUID, int], settlements: Sequence[Settlement]) -> dict[UUID, set[UUID]]:
    """The metrics that coupons are limited to, and of the invoices' plans those that are: with a plan its copies."""
    targets: dict[UUID, set[UUID]] = defaultdict(set)
    by_metric = [coupon for coupon, limit in limits.items() if limit == METRICS]
    by_plan = [coupon for coupon, limit in limits.items() if limit == PLANS]
    if by_metric:
        listed = select(coupon_metrics.c.coupon_id, coupon_metrics.c.billable_metric_id)
        for coupon_id, metric_id in db.execute(listed.where(among(coupon_metrics.c.coupon_id, by_metric))):
            targets[coupon_id].add(metric_id)
    if by_plan:
        plans = {fee.subscription.plan.id for one in settlements for fee in one.fees if fee.subscription}
        billed = (
            select(coupon_plans.c.coupon_id, Plan.id)
            .join(Plan, or_(Plan.id == coupon_plans.c.plan_id, Plan.parent_id == coupon_plans.c.plan_id))
            .where(among(coupon_plans.c.coupon_id, by_plan), among(Plan.id, plans))
        )
        for coupon_id, plan_id in db.execute(billed):
            targets[coupon_id].add(plan_id)
    return targets


def _taken(db: Session, applied_ids: Sequence[UUID], including: UUID | None = None) -> dict[UUID, int]:
    """What invoices have taken of applied coupons, in minor units; of those that have given it back only the one named."""
    if not applied_ids:
        return {}
    rows = db.execute(
        select(Credit.applied_coupon_id, func.sum(Credit.amount_cents))
        .join(Invoice, Invoice.id == Credit.invoice_id)
        .where(
            among(Credit.applied_coupon_id, applied_ids), or_(Invoice.status.not_in(DROPPED), Invoice.id == including)
        )
        .group_by(Credit.applied_coupon_id)
    )
    return {applied_id: int(cents) for applied_id, cents in rows if applied_id is not None}


def _write(db: Session, used: Sequence[HeldCoupon], now: datetime) -> None:
    """Store how coupons stand after they have lowered invoices."""
    if not used:
        return
    after = (
        func.unnest(
            literal([one.id for one in used], ARRAY(Uuid)),
            literal([one.invoices_left for one in used], ARRAY(Integer)),
            literal([one.ended for one in used], ARRAY(Boolean)),
        )
        .table_valued("id", "invoices_left", "ended")
        .render_derived()
    )
    db.execute(
        update(AppliedCoupon)
        .where(AppliedCoupon.id == after.c.id)
        .values(
            frequency_duration_remaining=after.c.invoices_left,
            terminated_at=case((after.c.ended, literal(now)), else_=None),
            updated_at=now,
        )
        .execution_options(synchronize_session=False)
    )
