"""Alerts on subscriptions, held against what these have used (billing spec 8.5)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.charge_usage import ChargeUsage, Item, charge_usage
from app.billing.lifetime_usage import UNDIVIDED
from app.core.alerts import crossed
from app.core.money import ZERO, exact
from app.core.usage_thresholds import Used
from app.core.values import replace
from app.customers.alerts import threshold_json, thresholds_of
from app.metering.meter import Meter
from app.models import Alert, Subscription, TriggeredAlert, among

LIFETIME = ("lifetime_usage_amount", "billable_metric_lifetime_usage_units")
UNITS_OF_A_LIFE = "billable_metric_lifetime_usage_units"


Alerts = dict[UUID, list[Alert]]
"""Alerts by the subscription that they are on."""


def alerts_of(db: Session, subscriptions: Collection[Subscription]) -> Alerts:
    """The alerts on these subscriptions."""
    targets = {(one.customer_id, one.external_id): one.id for one in subscriptions}
    found: Alerts = {}
    rows = db.scalars(
        select(Alert)
        .where(
            among(Alert.customer_id, {customer_id for customer_id, _ in targets}),
            Alert.external_subscription_id.in_({external_id for _, external_id in targets}),
            Alert.deleted_at.is_(None),
        )
        .order_by(Alert.id)
    )
    for alert in rows:
        subscription_id = targets.get((alert.customer_id, alert.external_subscription_id or ""))
        if subscription_id is not None:
            found.setdefault(subscription_id, []).append(alert)
    return found


def lock_alerts(db: Session, alerts: Alerts) -> Alerts | None:
    """Lock alerts that were read before their usage was measured; None where one has been held against usage since. Nothing
    is locked while usage is measured: that may have to wait for those who wait for locks."""
    read = {one.id: (one.previous_value, one.last_processed_at) for of in alerts.values() for one in of}
    if not read:
        return {}
    rows = db.scalars(
        select(Alert)
        .where(among(Alert.id, read))
        .order_by(Alert.id)
        .with_for_update(of=Alert)
        .execution_options(populate_existing=True)
    ).all()
    if any(read[one.id] != (one.previous_value, one.last_processed_at) for one in rows):
        return None
    return {id_: [one for one in of if one.deleted_at is None] for id_, of in alerts.items()}


def hold_against(
    db: Session,
    meter: Meter,
    alerts: Alerts,
    items: Sequence[Item],
    usage: Sequence[Sequence[ChargeUsage]],
    used: Mapping[UUID, Used],
    now: datetime,
) -> list[TriggeredAlert] | None:
    """Hold the usage of the subscriptions' present periods against their alerts, and store what thresholds it has crossed
    since it was looked at last. With each period the usage of a period begins anew, and may cross them again. None where
    somebody else has held usage against them since they were read: it must be measured anew then."""
    life = _units_of_lives(db, meter, alerts, items)
    held = lock_alerts(db, alerts)
    if held is None:
        return None
    triggered = []
    for (billed, boundaries), charges in zip(items, usage, strict=True):
        for alert in held.get(billed.id, ()):
            current = (
                life.get(alert.id, ZERO)
                if alert.alert_type == UNITS_OF_A_LIFE
                else _value(alert, charges, used[billed.id])
            )
            seen = alert.last_processed_at
            is_new = alert.alert_type not in LIFETIME and seen is not None and seen < boundaries.charges_from
            previous = ZERO if is_new else alert.previous_value
            found = crossed(thresholds_of(alert), previous, current)
            if found:
                triggered.append(
                    TriggeredAlert(
                        organization_id=alert.organization_id,
                        alert_id=alert.id,
                        customer_id=alert.customer_id,
                        subscription_id=billed.id,
                        current_value=current,
                        previous_value=previous,
                        crossed_thresholds=[threshold_json(one) for one in found],
                        triggered_at=now,
                    )
                )
            alert.previous_value, alert.last_processed_at = current, now
    db.add_all(triggered)
    db.flush()
    return triggered


def _value(alert: Alert, charges: Iterable[ChargeUsage], used: Used) -> Decimal:
    """What an alert looks at: minor units, or units of a metric."""
    if alert.alert_type == "lifetime_usage_amount":
        return Decimal(used.total)
    fees = [
        fee.amounts
        for one in charges
        if alert.billable_metric_id is None or one.charge.metric_id == alert.billable_metric_id
        for fee in one.fees
    ]
    with exact():
        if alert.alert_type == "billable_metric_current_usage_units":
            return sum((fee.units for fee in fees), ZERO)
        return Decimal(sum(fee.amount_cents for fee in fees))


def _units_of_lives(db: Session, meter: Meter, alerts: Alerts, items: Sequence[Item]) -> dict[UUID, Decimal]:
    """What the alerts that look at the units of a metric in a whole life find: all units since the first of the customer's
    subscriptions with the external id has started, in one measurement."""
    wanted = [
        (alert, item) for item in items for alert in alerts.get(item[0].id, ()) if alert.alert_type == UNITS_OF_A_LIFE
    ]
    if not wanted:
        return {}
    customers = {item[0].customer_id for _, item in wanted}
    began = {
        (customer_id, external_id): first
        for customer_id, external_id, first in db.execute(
            select(Subscription.customer_id, Subscription.external_id, func.min(Subscription.started_at))
            .where(among(Subscription.customer_id, customers))
            .group_by(Subscription.customer_id, Subscription.external_id)
        )
    }
    lives: list[Item] = []
    for alert, (billed, boundaries) in wanted:
        # Of several charges on a metric one is enough: each has all of its units.
        charges = [one for one in billed.plan.charges if one.metric_id == alert.billable_metric_id][:1]
        first = began.get((billed.customer_id, billed.external_id)) or billed.started_at
        plan = replace(billed.plan, charges=tuple(charges))
        lives.append((replace(billed, plan=plan), boundaries.with_charges(from_=first)))
    with exact():
        return {
            alert.id: sum((fee.total_aggregated_units for one in charges for fee in one.fees), ZERO)
            for (alert, _), charges in zip(wanted, charge_usage(meter, lives, UNDIVIDED), strict=True)
        }
