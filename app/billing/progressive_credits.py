"""What was billed progressively in a period, taken off the next invoice that bills the period (billing spec 8.3)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.automatic_notes import credit_excess
from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft
from app.billing.settlement import Credited, Settlement
from app.core.money import ZERO, exact
from app.core.spreading import spread
from app.models import BillingPeriod, Charge, ChargeFilter, Credit, CreditNote, Fee, Invoice, among, instants, uuids

KEPT = ("finalized", "failed")
"""Statuses of progressive invoices that count."""
TAKING = ("draft", "pending", "failed", "finalized")
"""Statuses of invoices that keep what they took."""

Period = tuple[UUID, datetime]
"""A subscription, and an instant in the period of its charges."""

_json = msgspec.json.Encoder(order="sorted")


class Bucket(NamedTuple):
    """What fees are told apart by: charge, filter and group. A charge on a copy of a plan counts as the one it was copied
    from, and so does its filter: they may follow each other within a period."""

    charge_id: UUID
    filter_id: UUID | None
    group: bytes


@dataclass(frozen=True, slots=True)
class Progressive:
    """The latest progressive invoice of a period. Amounts in minor units, before taxes; `fees_cents` is all that the period
    had come to then."""

    organization_id: UUID
    invoice_id: UUID
    is_finalized: bool
    fees_cents: int
    coupons_cents: int


def latest_invoices(db: Session, periods: Collection[Period]) -> dict[Period, Progressive]:
    """The latest progressive invoice of each of these periods that has one, in one query."""
    if not periods:
        return {}
    ids, at = zip(*periods, strict=True)
    wanted = func.unnest(uuids(ids), instants(at)).table_valued("id", "at").render_derived()
    rows = db.execute(
        select(
            wanted.c.id,
            wanted.c.at,
            Invoice.organization_id,
            Invoice.id,
            Invoice.status,
            Invoice.fees_amount_cents,
            Invoice.coupons_amount_cents,
        )
        .distinct(wanted.c.id, wanted.c.at)
        .join(
            BillingPeriod,
            (BillingPeriod.subscription_id == wanted.c.id)
            & (BillingPeriod.charges_from_datetime <= wanted.c.at)
            & (BillingPeriod.charges_to_datetime >= wanted.c.at),
        )
        .join(Invoice, Invoice.id == BillingPeriod.invoice_id)
        .where(BillingPeriod.invoicing_reason == "progressive_billing", Invoice.status.in_(KEPT))
        .order_by(wanted.c.id, wanted.c.at, BillingPeriod.billed_at.desc(), Invoice.sequential_id.desc())
    )
    return {
        (subscription_id, at): Progressive(organization_id, invoice_id, status == "finalized", fees, coupons)
        for subscription_id, at, organization_id, invoice_id, status, fees, coupons in rows
    }


def take_progressive_credits(db: Session, settlements: Sequence[Settlement], now: datetime) -> None:
    """Take off invoices, also drafts, what has been billed for the same periods already: of each fee what was billed of the
    same bucket. Where more was billed than the period comes to, a final invoice brings a credit note for the rest."""
    periods = [
        (settlement, line, fees)
        for settlement in settlements
        for line, fees in settlement.draft.lines
        if line.boundaries.charges and (line.ends_charges or line.reason == "progressive_billing")
    ]
    latest = latest_invoices(db, {_period(line) for _, line, _ in periods})
    if not latest:
        return
    lines = [(one, line, [fee for fee in fees if fee.item.fee_type == "charge"]) for one, line, fees in periods]
    left = _left(db, latest.values(), [one.draft.id for one in settlements])
    billed = _fees(db, latest.values())
    known = _Roots(db, [*(fee for _, _, fees in lines for fee in fees), *(fee for of in billed.values() for fee in of)])
    for settlement, line, fees in lines:
        before = latest.get(_period(line))
        if before is None or not left[before.invoice_id]:
            continue
        amounts: dict[Bucket, int] = {}
        for fee in billed.get(before.invoice_id, ()):
            bucket = known.bucket(fee)
            amounts[bucket] = amounts.get(bucket, 0) + max(fee.amount_cents, 0)
        taken = _take(settlement, before, left[before.invoice_id], amounts, fees, known)
        left[before.invoice_id] -= taken
        if line.ends_charges and settlement.final and before.is_finalized and left[before.invoice_id]:
            credit_excess(db, before.organization_id, before.invoice_id, left[before.invoice_id], now)
            left[before.invoice_id] = 0


def _period(line: BilledLine) -> Period:
    return line.subscription.id, line.boundaries.charges_from


def _take(
    settlement: Settlement,
    before: Progressive,
    left: int,
    amounts: Mapping[Bucket, int],
    fees: Iterable[FeeDraft],
    known: "_Roots",
) -> int:
    """Take what is left of an earlier invoice off the fees of the same charges; returns the amount."""
    charges = {bucket.charge_id for bucket in amounts}
    same = [fee for fee in fees if known.bucket(fee).charge_id in charges]
    room = [max(settlement.left_of(fee), ZERO) for fee in same]
    with exact():
        taken = min(left, int(sum(room, ZERO)))
        if not taken:
            return 0
        matching = [
            ZERO if fee.true_up_parent_id else min(Decimal(amounts.get(known.bucket(fee), 0)), most)
            for fee, most in zip(same, room, strict=True)
        ]
        first = min(Decimal(taken), sum(matching, ZERO))
        shares = spread(first, matching)
        others = spread(taken - first, [most - share for most, share in zip(room, shares, strict=True)])
        for fee, share, other in zip(same, shares, others, strict=True):
            settlement.reduced[fee.id] = settlement.reduced_by(fee) + share + other
    settlement.credits.append(Credited(taken, progressive_invoice_id=before.invoice_id))
    return taken


def _left(db: Session, invoices: Collection[Progressive], taking: Collection[UUID]) -> dict[UUID, int]:
    """What of each invoice can still be taken off others: its fees less coupons, less what others than those that are
    `taking` now have taken, less the credit of its credit notes."""
    ids = [one.invoice_id for one in invoices]
    taken = dict(
        db.execute(
            select(Credit.progressive_invoice_id, func.sum(Credit.amount_cents))
            .join(Invoice, Invoice.id == Credit.invoice_id)
            .where(
                among(Credit.progressive_invoice_id, ids),
                Credit.invoice_id.not_in(taking),
                Invoice.status.in_(TAKING),
            )
            .group_by(Credit.progressive_invoice_id)
        ).all()
    )
    noted = dict(
        db.execute(
            select(CreditNote.invoice_id, func.sum(CreditNote.credit_amount_cents))
            .where(among(CreditNote.invoice_id, ids), CreditNote.credit_status.in_(("available", "consumed")))
            .group_by(CreditNote.invoice_id)
        ).all()
    )
    return {
        one.invoice_id: max(
            one.fees_cents - one.coupons_cents - int(taken.get(one.invoice_id, 0)) - int(noted.get(one.invoice_id, 0)),
            0,
        )
        for one in invoices
    }


def _fees(db: Session, invoices: Collection[Progressive]) -> dict[UUID, list[Fee]]:
    found: dict[UUID, list[Fee]] = {}
    for fee in db.scalars(select(Fee).where(among(Fee.invoice_id, {one.invoice_id for one in invoices}))):
        if fee.invoice_id is not None:
            found.setdefault(fee.invoice_id, []).append(fee)
    return found


class _Roots:
    """Knows what the charges and filters of fees are copies of."""

    def __init__(self, db: Session, fees: Sequence[FeeDraft | Fee]):
        self._charges = _roots(db, Charge, {one.charge_id for one in fees if one.charge_id})
        self._filters = _roots(db, ChargeFilter, {one.charge_filter_id for one in fees if one.charge_filter_id})

    def bucket(self, fee: FeeDraft | Fee) -> Bucket:
        """The bucket of a charge's fee."""
        if fee.charge_id is None:
            raise ValueError(f"fee {fee.id} is of no charge")
        group = fee.grouped_by if isinstance(fee, Fee) else fee.group
        filter_id = fee.charge_filter_id and self._filters.get(fee.charge_filter_id, fee.charge_filter_id)
        return Bucket(self._charges.get(fee.charge_id, fee.charge_id), filter_id, _json.encode(group))


def _roots(db: Session, model: type[Charge] | type[ChargeFilter], ids: Collection[UUID]) -> dict[UUID, UUID]:
    rows = db.execute(select(model.id, func.coalesce(model.parent_id, model.id)).where(among(model.id, ids)))
    return dict(rows.all()) if ids else {}
