"""Minimum commitments: what the fees of a plan's period lack of it, on the invoice that closes the period, or in advance on
the next one (billing spec 2.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.terms import CommitmentTerms, TaxBook
from app.core.charges.fees import FeeAmounts
from app.core.minimum_commitment import commitment_true_up
from app.core.money import from_minor
from app.core.periods import Period, local_date, local_end, local_start
from app.models import Fee, Invoice
from app.models.invoice import UNBILLED

NAME = "Minimum commitment"
COUNTED = ("subscription", "charge", "fixed_charge")


@dataclass(frozen=True, slots=True)
class _Reckoning:
    """A period of a plan that is reckoned up: from where the subscription's part begins to the end of the period, or of the
    subscription."""

    line: BilledLine
    commitment: CommitmentTerms
    period: Period
    from_: datetime
    end: datetime

    def covers(self, from_: datetime, to: datetime) -> bool:
        """Whether a fee with these boundaries is one of the period's."""
        tz = self.line.subscription.tz
        return local_start(self.period.start, tz) <= from_ and to <= local_end(self.period.end, tz)

    def lacking(self, fees_cents: int) -> int:
        """What is missing where the period's fees come to so much, in minor units."""
        return commitment_true_up(
            self.commitment.amount_cents,
            fees_cents,
            self.from_,
            self.end,
            self.period.days,
            self.line.subscription.tz,
        )


def commitment_fees(
    db: Session, drafted: Sequence[tuple[BilledLine, Sequence[FeeDraft]]], taxes: TaxBook
) -> Mapping[UUID, list[FeeDraft]]:
    """The fees for what lacks, by subscription; nothing where nothing does. One query for all lines."""
    reckonings = [(one, fees) for line, fees in drafted if (one := _reckoning(line)) is not None]
    if not reckonings:
        return {}
    billed = _billed(db, [one for one, _ in reckonings])
    found: dict[UUID, list[FeeDraft]] = {}
    for one, fees in reckonings:
        subscription = one.line.subscription
        drafts = sum(fee.amounts.amount_cents for fee in fees if one.covers(fee.from_, fee.to))
        spent = billed.get(subscription.id, 0) + drafts
        if lacking := one.lacking(spent):
            found[subscription.id] = [_fee(one, lacking, spent, taxes)]
    return found


def lacking_alone(line: BilledLine, fees_cents: int) -> int:
    """What a line lacks of its plan's commitment where its fees, in minor units, are all that there is for the period."""
    reckoning = _reckoning(line)
    return 0 if reckoning is None else reckoning.lacking(fees_cents)


def _reckoning(line: BilledLine) -> _Reckoning | None:
    """What a line reckons up: in arrears the period that it closes; in advance the one before, and the last one at the end
    of the subscription. An invoice of a month within a period reckons up nothing."""
    subscription = line.subscription
    commitment = subscription.plan.commitment
    period, tz = line.boundaries.closes, subscription.tz
    if commitment is None or period is None or line.reason == "subscription_starting":
        return None
    start = local_start(period.start, tz)
    first_day = local_start(local_date(subscription.started_at, tz), tz)
    end = min(local_end(period.end, tz), line.boundaries.charges_to)
    return _Reckoning(line, commitment, period, max(start, first_day), end)


def _billed(db: Session, reckonings: Sequence[_Reckoning]) -> dict[UUID, int]:
    """What the fees that are there already come to, by subscription."""
    windows = func.unnest(
        [one.line.subscription.id for one in reckonings],
        [local_start(one.period.start, one.line.subscription.tz) for one in reckonings],
        [local_end(one.period.end, one.line.subscription.tz) for one in reckonings],
    ).table_valued("id", "start", "finish")
    window = windows.render_derived()
    rows = db.execute(
        select(Fee.subscription_id, func.sum(Fee.amount_cents))
        .join(window, (window.c.id == Fee.subscription_id) & (Fee.from_datetime >= window.c.start))
        .outerjoin(Invoice, Invoice.id == Fee.invoice_id)
        .where(
            Fee.organization_id.in_({one.line.subscription.organization_id for one in reckonings}),
            Fee.to_datetime <= window.c.finish,
            Fee.fee_type.in_(COUNTED),
            Fee.deleted_at.is_(None),
            func.coalesce(Invoice.status, "").not_in(UNBILLED),
            func.coalesce(Invoice.invoice_type, "") != "progressive_billing",
        )
        .group_by(Fee.subscription_id)
    )
    return {subscription_id: int(total) for subscription_id, total in rows if subscription_id is not None}


def _fee(one: _Reckoning, lacking: int, spent: int, taxes: TaxBook) -> FeeDraft:
    subscription = one.line.subscription
    plan = subscription.plan
    own = taxes.taxes(
        one.commitment.taxes,
        plan.taxes,
        customer_id=subscription.customer_id,
    )
    name = one.commitment.invoice_display_name or NAME
    amounts = FeeAmounts(Decimal(1), lacking, Decimal(lacking), from_minor(lacking, plan.currency), {})
    return FeeDraft(
        id=uuid4(),
        buyer=subscription.buyer,
        subscription=subscription,
        item=FeeItem("commitment", subscription.id, plan.code, name, None, name),
        amounts=amounts,
        from_=one.from_,
        to=one.end,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
        figures={"spent_cents": spent, "period_days": one.period.days},
    )
