"""`/api/v1/subscriptions/{external_id}/alerts`, `/api/v1/customers/{external_id}/wallets/{code}/alerts`, and when they were
triggered: `/api/v1/triggered_alerts` (billing spec 8.5)."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import Parameter
from msgspec import UNSET, Struct
from sqlalchemy.orm import Session

from app.api.billable_metrics import BillableMetricObject, metric_object
from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, post, put
from app.api.slashes import named
from app.api.subscriptions import check_statuses
from app.api.wire import Opt, PageMeta, Str, changes, instant, instant_or_none, number, paginate
from app.billing.wallets import find_wallet_of
from app.core.money import decimal_text
from app.customers.alerts import (
    OF_WALLETS,
    Target,
    alerts_on,
    create_alert,
    create_alerts,
    delete_alert,
    delete_alerts,
    find_alert,
    triggered_alerts,
    update_alert,
)
from app.customers.customers import find_customer
from app.customers.subscriptions import find_subscription
from app.errors import BadRequest
from app.models import Alert, Organization, TriggeredAlert

Status = Annotated[str | None, Parameter(query="subscription_status")]


class AlertThresholdInput(Struct):
    """`value` is a number, or a text that is one."""

    code: Str | Opt | None = UNSET
    value: Any = UNSET
    recurring: bool | Opt | None = UNSET


class AlertInput(Struct):
    alert_type: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    billable_metric_code: Str | Opt | None = UNSET
    thresholds: list[AlertThresholdInput] | Opt | None = UNSET


class AlertBody(Struct):
    alert: AlertInput


class AlertsBody(Struct):
    """One alert, or several."""

    alert: AlertInput | Opt = UNSET
    alerts: list[AlertInput] | Opt = UNSET


class AlertThresholdObject(Struct):
    code: str | None
    value: str
    recurring: bool


class AlertObject(Struct, kw_only=True):
    lago_id: UUID
    lago_organization_id: UUID
    external_subscription_id: str | None
    lago_wallet_id: UUID | None
    wallet_code: str | None
    billable_metric: BillableMetricObject | None
    alert_type: str
    code: str
    name: str | None
    direction: str
    previous_value: msgspec.Raw
    last_processed_at: str | None
    thresholds: list[AlertThresholdObject]
    created_at: str


class AlertAnswer(Struct):
    alert: AlertObject


class AlertsAnswer(Struct):
    alerts: list[AlertObject]
    meta: PageMeta | Opt = UNSET


class TriggeredAlertObject(Struct, kw_only=True):
    lago_id: UUID
    lago_organization_id: UUID
    lago_alert_id: UUID
    lago_subscription_id: UUID | None
    external_subscription_id: str | None
    lago_wallet_id: UUID | None
    external_customer_id: str
    billable_metric_code: str | None
    alert_name: str | None
    alert_code: str
    alert_type: str
    current_value: str
    previous_value: str
    crossed_thresholds: list[AlertThresholdObject]
    triggered_at: str


class TriggeredAlertsAnswer(Struct):
    triggered_alerts: list[TriggeredAlertObject]
    meta: PageMeta


def alert_object(alert: Alert) -> AlertObject:
    """An alert as it is on the wire."""
    return AlertObject(
        lago_id=alert.id,
        lago_organization_id=alert.organization_id,
        external_subscription_id=alert.external_subscription_id,
        lago_wallet_id=alert.wallet_id,
        wallet_code=alert.wallet.code if alert.wallet else None,
        billable_metric=None if alert.billable_metric is None else metric_object(alert.billable_metric),
        alert_type=alert.alert_type,
        code=alert.code,
        name=alert.name,
        direction="decreasing" if alert.alert_type in OF_WALLETS else "increasing",
        previous_value=number(alert.previous_value),
        last_processed_at=instant_or_none(alert.last_processed_at),
        thresholds=[AlertThresholdObject(**one) for one in alert.thresholds],
        created_at=instant(alert.created_at),
    )


def triggered_object(one: TriggeredAlert) -> TriggeredAlertObject:
    """A time when an alert was triggered, as it is on the wire."""
    alert = one.alert
    return TriggeredAlertObject(
        lago_id=one.id,
        lago_organization_id=one.organization_id,
        lago_alert_id=one.alert_id,
        lago_subscription_id=one.subscription_id,
        external_subscription_id=alert.external_subscription_id,
        lago_wallet_id=alert.wallet_id,
        external_customer_id=one.customer.external_id,
        billable_metric_code=None if alert.billable_metric is None else alert.billable_metric.code,
        alert_name=alert.name,
        alert_code=alert.code,
        alert_type=alert.alert_type,
        current_value=decimal_text(one.current_value),
        previous_value=decimal_text(one.previous_value),
        crossed_thresholds=[AlertThresholdObject(**crossed) for crossed in one.crossed_thresholds],
        triggered_at=instant(one.triggered_at),
    )


class SubscriptionAlertController(Controller):
    path = "/subscriptions/{external_id:str}/alerts"
    tags = ["alerts"]
    opt = {"resource": "alert"}

    @post()
    def create_subscription_alert(
        self, *, external_id: str, data: AlertsBody, db: Db, organization: Org, now: Now, status: Status = None
    ) -> AlertAnswer | AlertsAnswer:
        """Put an alert on a subscription, below `alert`, or several, below `alerts`: all or none. It holds for all that the
        customer's subscriptions with the external id come to, one after the other."""
        return _create(db, _target(db, organization, external_id, status), data, now)

    @get()
    def list_subscription_alerts(
        self,
        *,
        external_id: str,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        status: Status = None,
    ) -> AlertsAnswer:
        """The alerts on a subscription, oldest first."""
        service.wait_until_readable(organization.id)
        alerts, meta = paginate(db, alerts_on(_target(db, organization, external_id, status)), paging)
        return AlertsAnswer([alert_object(one) for one in alerts], meta)

    @delete()
    def remove_subscription_alerts(
        self, *, external_id: str, db: Db, organization: Org, now: Now, status: Status = None
    ) -> None:
        """Delete all alerts on a subscription."""
        delete_alerts(db, _target(db, organization, external_id, status), now)

    @get("/{code:str}")
    def get_subscription_alert(
        self, *, external_id: str, code: str, db: Db, service: Running, organization: Org, status: Status = None
    ) -> AlertAnswer:
        """One alert."""
        service.wait_until_readable(organization.id)
        target = _target(db, organization, external_id, status)
        return AlertAnswer(alert_object(find_alert(db, target, named(code))))

    @put("/{code:str}")
    def update_subscription_alert(
        self,
        *,
        external_id: str,
        code: str,
        data: AlertBody,
        db: Db,
        organization: Org,
        now: Now,
        status: Status = None,
    ) -> AlertAnswer:
        """Change an alert; thresholds that are sent replace those it has."""
        return _update(db, _target(db, organization, external_id, status), code, data, now)

    @delete("/{code:str}")
    def remove_subscription_alert(
        self, *, external_id: str, code: str, db: Db, organization: Org, now: Now, status: Status = None
    ) -> AlertAnswer:
        """Delete an alert; the times it was triggered stay readable."""
        return _delete(db, _target(db, organization, external_id, status), code, now)


class WalletAlertController(Controller):
    path = "/customers/{external_id:str}/wallets/{wallet_code:str}/alerts"
    tags = ["alerts"]
    opt = {"resource": "alert"}

    @post()
    def create_wallet_alert(
        self, *, external_id: str, wallet_code: str, data: AlertsBody, db: Db, organization: Org, now: Now
    ) -> AlertAnswer | AlertsAnswer:
        """Put an alert on a wallet, below `alert`, or several, below `alerts`: all or none."""
        return _create(db, _wallet_target(db, organization, external_id, wallet_code), data, now)

    @get()
    def list_wallet_alerts(
        self, *, external_id: str, wallet_code: str, db: Db, service: Running, organization: Org, paging: Paging
    ) -> AlertsAnswer:
        """The alerts on a wallet, oldest first."""
        service.wait_until_readable(organization.id)
        target = _wallet_target(db, organization, external_id, wallet_code)
        alerts, meta = paginate(db, alerts_on(target), paging)
        return AlertsAnswer([alert_object(one) for one in alerts], meta)

    @delete()
    def remove_wallet_alerts(self, *, external_id: str, wallet_code: str, db: Db, organization: Org, now: Now) -> None:
        """Delete all alerts on a wallet."""
        delete_alerts(db, _wallet_target(db, organization, external_id, wallet_code), now)

    @get("/{code:str}")
    def get_wallet_alert(
        self, *, external_id: str, wallet_code: str, code: str, db: Db, service: Running, organization: Org
    ) -> AlertAnswer:
        """One alert."""
        service.wait_until_readable(organization.id)
        target = _wallet_target(db, organization, external_id, wallet_code)
        return AlertAnswer(alert_object(find_alert(db, target, named(code))))

    @put("/{code:str}")
    def update_wallet_alert(
        self, *, external_id: str, wallet_code: str, code: str, data: AlertBody, db: Db, organization: Org, now: Now
    ) -> AlertAnswer:
        """Change an alert; thresholds that are sent replace those it has."""
        return _update(db, _wallet_target(db, organization, external_id, wallet_code), code, data, now)

    @delete("/{code:str}")
    def remove_wallet_alert(
        self, *, external_id: str, wallet_code: str, code: str, db: Db, organization: Org, now: Now
    ) -> AlertAnswer:
        """Delete an alert; the times it was triggered stay readable."""
        return _delete(db, _wallet_target(db, organization, external_id, wallet_code), code, now)


class TriggeredAlertController(Controller):
    path = "/triggered_alerts"
    tags = ["alerts"]
    opt = {"resource": "alert"}

    @get()
    def list_triggered_alerts(
        self,
        *,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        external_customer_id: str | None = None,
        external_subscription_id: str | None = None,
        alert_code: str | None = None,
    ) -> TriggeredAlertsAnswer:
        """The times when alerts were triggered, with the values that were crossed, latest first."""
        service.wait_until_readable(organization.id)
        query = triggered_alerts(
            organization.id,
            external_customer_id=external_customer_id,
            external_subscription_id=external_subscription_id,
            alert_code=alert_code,
        )
        found, meta = paginate(db, query, paging)
        return TriggeredAlertsAnswer([triggered_object(one) for one in found], meta)


def _create(db: Session, target: Target, data: AlertsBody, now: datetime) -> AlertAnswer | AlertsAnswer:
    if isinstance(data.alerts, list):
        made = create_alerts(db, target, [changes(one) for one in data.alerts], now)
        return AlertsAnswer([alert_object(one) for one in made])
    if not isinstance(data.alert, AlertInput):
        raise BadRequest("param is missing or the value is empty: alert")
    return AlertAnswer(alert_object(create_alert(db, target, changes(data.alert), now)))


def _update(db: Session, target: Target, code: str, data: AlertBody, now: datetime) -> AlertAnswer:
    alert = find_alert(db, target, named(code), lock=True)
    update_alert(db, target, alert, changes(data.alert), now)
    return AlertAnswer(alert_object(alert))


def _delete(db: Session, target: Target, code: str, now: datetime) -> AlertAnswer:
    alert = find_alert(db, target, named(code), lock=True)
    delete_alert(alert, now)
    return AlertAnswer(alert_object(alert))


def _wallet_target(db: Session, organization: Organization, external_id: str, wallet_code: str) -> Target:
    return Target.of_wallet(find_wallet_of(db, find_customer(db, organization.id, external_id), named(wallet_code)))


def _target(db: Db, organization: Organization, external_id: str, status: str | None) -> Target:
    check_statuses([status] if status else [])
    return Target.of(find_subscription(db, organization.id, external_id, status))
