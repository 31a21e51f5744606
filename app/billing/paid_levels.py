"""What has been paid in advance in subscriptions' periods, for their current usage to come to (metering spec 5.3)."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.billing.advance_due import level_of
from app.billing.charge_usage import Item, Paid, PaidBucket
from app.core.aggregation import Aggregation
from app.models import AdvanceLevel, among


def paid_levels(db: Session, items: Sequence[Item]) -> Paid:
    """Where the periods stand, by subscription and charge, in one query. Of charges that are not prorated, only what lies
    below its highest level: the others have been charged for what they have."""
    charges = {
        (subscription.id, charge.id): (charge, boundaries.charges_from)
        for subscription, boundaries in items
        for charge in subscription.plan.charges
        if charge.pay_in_advance and charge.aggregation is not Aggregation.COUNT
    }
    if not charges:
        return {}
    prorated = {charge.id for charge, _ in charges.values() if charge.prorated}
    rows = db.scalars(
        select(AdvanceLevel).where(
            among(AdvanceLevel.subscription_id, {subscription_id for subscription_id, _ in charges}),
            among(AdvanceLevel.charge_id, {charge_id for _, charge_id in charges}),
            AdvanceLevel.from_datetime.in_({from_ for _, from_ in charges.values()}),
            or_(among(AdvanceLevel.charge_id, prorated), AdvanceLevel.maximum != AdvanceLevel.current),
        )
    )
    paid: dict[tuple[UUID, UUID], list[PaidBucket]] = {}
    for row in rows:
        key = row.subscription_id, row.charge_id
        charge, from_ = charges.get(key, (None, None))
        if charge is not None and row.from_datetime == from_ and row.signature == charge.signature:
            filter_id = row.bucket["filter"] and UUID(row.bucket["filter"])
            keys = next((one.group_keys for one in charge.filters if one.id == filter_id), charge.group_keys)
            group = dict(zip(keys, row.bucket["group"], strict=True))
            paid.setdefault(key, []).append(PaidBucket(filter_id, group, level_of(row)))
    return paid
