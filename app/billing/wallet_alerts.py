"""Alerts on wallets, held against what is in these (billing spec 8.5).

Nobody has to tell that a wallet has changed: those are looked at whose value is not what was found last.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, select
from sqlalchemy.orm import Session

from app.core.alerts import crossed
from app.customers.alerts import OF_WALLETS, threshold_json, thresholds_of
from app.models import Alert, TriggeredAlert, Wallet

_VALUE: ColumnElement[Decimal] = case(*((Alert.alert_type == name, value) for name, value in OF_WALLETS.items()))
_CHANGED = Alert.deleted_at.is_(None) & (Wallet.status == "active") & (Alert.previous_value != _VALUE)


def organizations_with_changed_wallets() -> Select[UUID]:
    """The organizations that have wallets with alerts that have found something else."""
    return select(Alert.organization_id).distinct().join(Wallet, Wallet.id == Alert.wallet_id).where(_CHANGED)


def hold_wallets_against(db: Session, organization_id: UUID, now: datetime) -> list[TriggeredAlert]:
    """Hold what is in an organization's wallets against their alerts, and store what thresholds have been crossed on the
    way down since they were looked at last. A wallet that has ended is looked at no more."""
    rows = db.execute(
        select(Alert, _VALUE)
        .join(Wallet, Wallet.id == Alert.wallet_id)
        .where(Alert.organization_id == organization_id, _CHANGED)
        .order_by(Alert.id)
        .with_for_update(of=Alert)
        .execution_options(populate_existing=True)
    )
    triggered = []
    for alert, value in rows.all():
        found = crossed(thresholds_of(alert), alert.previous_value, value, decreasing=True)
        if found:
            triggered.append(
                TriggeredAlert(
                    organization_id=organization_id,
                    alert_id=alert.id,
                    customer_id=alert.customer_id,
                    current_value=value,
                    previous_value=alert.previous_value,
                    crossed_thresholds=[threshold_json(one) for one in found],
                    triggered_at=now,
                )
            )
        alert.previous_value, alert.last_processed_at = value, now
    db.add_all(triggered)
    db.flush()
    return triggered
