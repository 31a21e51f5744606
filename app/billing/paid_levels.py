"""What has been paid in advance in a subscription's period, for its current usage to come to (metering spec 5.3)."""

from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.billing.advance_due import level_of
from app.billing.billed import BilledSubscription
from app.billing.charge_usage import Paid, PaidBucket
from app.core.aggregation import Aggregation
from app.core.boundaries import Boundaries
from app.models import AdvanceLevel


def paid_levels(db: Session, subscription: BilledSubscription, boundaries: Boundaries) -> Paid:
    """Where the period stands, by charge. Of charges that are not prorated, only what lies below its highest level: the
    others have been charged for what they have."""
    charges = {
        one.id: one
        for one in subscription.plan.charges
        if one.pay_in_advance and one.aggregation is not Aggregation.COUNT
    }
    if not charges:
        return {}
    prorated = [one.id for one in charges.values() if one.prorated]
    rows = db.scalars(
        select(AdvanceLevel).where(
            AdvanceLevel.subscription_id == subscription.id,
            AdvanceLevel.charge_id.in_(charges),
            AdvanceLevel.from_datetime == boundaries.charges_from,
            or_(AdvanceLevel.charge_id.in_(prorated), AdvanceLevel.maximum != AdvanceLevel.current),
        )
    )
    paid: dict[UUID, list[PaidBucket]] = {}
    for row in rows:
        charge = charges[row.charge_id]
        if row.signature == charge.signature:
            filter_id = row.bucket["filter"] and UUID(row.bucket["filter"])
            keys = next((one.group_keys for one in charge.filters if one.id == filter_id), charge.group_keys)
            group = dict(zip(keys, row.bucket["group"], strict=True))
            paid.setdefault(charge.id, []).append(PaidBucket(filter_id, group, level_of(row)))
    return paid
