"""Alerts: made, changed and deleted, and the times they were triggered (billing spec 8.5)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from sqlalchemy import ColumnElement, Numeric, Select, cast, select, update
from sqlalchemy.orm import Session, joinedload

from app.catalog.changes import watch_usage
from app.core.alerts import AlertThreshold
from app.core.money import decimal_text
from app.errors import Details, Invalid, NotFound, Problems
from app.models import Alert, BillableMetric, Customer, Subscription, TriggeredAlert, Wallet
from app.models.base import Json
from app.validation import Changes, assign, check_code, check_mandatory, empty

OF_METRICS = (
    "billable_metric_current_usage_amount", "billable_metric_current_usage_units", "billable_metric_lifetime_usage_units"
)  # fmt: skip
"""Types of alerts that look at the usage of one billable metric."""
OF_SUBSCRIPTIONS = ("current_usage_amount", "lifetime_usage_amount", *OF_METRICS)
OF_WALLETS: dict[str, ColumnElement[Decimal]] = {
    "wallet_balance_amount": cast(Wallet.balance_cents, Numeric),
    "wallet_credits_balance": cast(Wallet.credits_balance, Numeric),
    "wallet_ongoing_balance_amount": cast(Wallet.ongoing_balance_cents, Numeric),
    "wallet_credits_ongoing_balance": cast(Wallet.credits_ongoing_balance, Numeric),
}
"""Types of alerts on wallets, which look at what falls, and what of a wallet each looks at."""
MOST_THRESHOLDS = 20
MOST_DIGITS = 40
"""How many digits, before the point and after it, a value may have."""


@dataclass(frozen=True, slots=True)
class Target:
    """What alerts are on: a customer's subscriptions with an external id, or a wallet."""

    organization_id: UUID
    customer_id: UUID
    external_subscription_id: str | None = None
    wallet: Wallet | None = None

    @classmethod
    def of(cls, subscription: Subscription) -> "Target":
        """The target that a subscription is of."""
        return cls(subscription.organization_id, subscription.customer_id, subscription.external_id)

    @classmethod
    def of_wallet(cls, wallet: Wallet) -> "Target":
        """A wallet as a target."""
        return cls(wallet.organization_id, wallet.customer_id, wallet=wallet)

    @property
    def types(self) -> Collection[str]:
        """The types of alerts that can be on it."""
        return OF_SUBSCRIPTIONS if self.wallet is None else OF_WALLETS

    @property
    def owns(self) -> ColumnElement[bool]:
        """The alerts that are on it."""
        if self.wallet is not None:
            its_own = Alert.wallet_id == self.wallet.id
        else:
            its_own = Alert.external_subscription_id == self.external_subscription_id
        return (
            (Alert.organization_id == self.organization_id)
            & (Alert.customer_id == self.customer_id)
            & its_own
            & Alert.deleted_at.is_(None)
        )


def alerts_on(target: Target) -> Select[Alert]:
    """The alerts on a target, oldest first."""
    query = select(Alert).where(target.owns).order_by(Alert.created_at, Alert.code, Alert.id)
    return query.options(joinedload(Alert.billable_metric), joinedload(Alert.wallet))


def find_alert(db: Session, target: Target, code: str, *, lock: bool = False) -> Alert:
    """The alert with a code.

    Raises:
        NotFound: `alert_not_found`.
    """
    query = alerts_on(target).where(Alert.code == code)
    alert = db.scalar(query.with_for_update(of=Alert) if lock else query)
    if alert is None:
        raise NotFound("alert")
    return alert


def create_alert(db: Session, target: Target, sent: Changes, now: datetime) -> Alert:
    """Put an alert on a target; from then on it is looked at when events come, or the wallet changes. One on a wallet
    starts with what there is in it.

    Raises:
        NotFound: `billable_metric_not_found`.
        Invalid: a field breaks a rule.
    """
    metric = _metric(db, target.organization_id, sent)
    problems = Problems()
    if sent.get("alert_type") not in target.types:
        problems.add("alert_type", "invalid_type")
    else:
        _check_metric(problems, sent["alert_type"], metric)
    check_mandatory(problems, sent, ("code",), creating=True)
    thresholds = _thresholds(problems, sent.get("thresholds"))
    _check(db, problems, target, sent, None)
    if not problems.details:
        _check_alone(db, problems, target, sent["alert_type"], metric, None)
    problems.check()
    alert = Alert(
        organization_id=target.organization_id,
        customer_id=target.customer_id,
        external_subscription_id=target.external_subscription_id,
        wallet=target.wallet,
        billable_metric=metric,
        alert_type=sent["alert_type"],
        code=sent["code"],
        name=sent.get("name"),
        thresholds=thresholds,
        previous_value=_present(db, target, sent["alert_type"]),
        created_at=now,
        updated_at=now,
    )
    db.add(alert)
    watch_usage(db, target.organization_id)
    db.flush()
    return alert


def create_alerts(db: Session, target: Target, sent: Sequence[Changes], now: datetime) -> list[Alert]:
    """Put several alerts on a target, all or none.

    Raises:
        NotFound: `billable_metric_not_found`.
        Invalid: what is wrong, by the position of each alert that breaks a rule; `alerts` where there are none.
    """
    if not sent:
        raise Invalid({"alerts": ["value_is_mandatory"]})
    made, wrong = [], dict[str, Details | None]()
    for position, one in enumerate(sent):
        try:
            made.append(create_alert(db, target, one, now))
        except Invalid as error:
            wrong[str(position)] = error.details
    if wrong:
        raise Invalid(wrong)
    return made


def update_alert(db: Session, target: Target, alert: Alert, sent: Changes, now: datetime) -> None:
    """Change an alert, which must be locked; thresholds that were sent are all that it has. What it has found last stays.

    Raises:
        NotFound: `billable_metric_not_found`.
        Invalid: a field breaks a rule.
    """
    problems = Problems()
    metric = alert.billable_metric
    if "billable_metric_code" in sent:
        metric = _metric(db, target.organization_id, sent)
        _check_metric(problems, alert.alert_type, metric)
    check_mandatory(problems, sent, ("code",), creating=False)
    thresholds = _thresholds(problems, sent["thresholds"]) if "thresholds" in sent else alert.thresholds
    _check(db, problems, target, sent, alert)
    if not problems.details and metric is not alert.billable_metric:
        _check_alone(db, problems, target, alert.alert_type, metric, alert)
    problems.check()
    assign(alert, sent, ("code", "name"))
    alert.billable_metric = metric
    alert.thresholds = thresholds
    alert.updated_at = now
    db.flush()


def delete_alert(alert: Alert, now: datetime) -> None:
    """Delete an alert; the times it was triggered stay."""
    alert.deleted_at = alert.updated_at = now


def delete_alerts(db: Session, target: Target, now: datetime) -> None:
    """Delete all alerts on a target."""
    db.execute(update(Alert).where(target.owns).values(deleted_at=now, updated_at=now))


def thresholds_of(alert: Alert) -> list[AlertThreshold]:
    """The thresholds of an alert, with exact values."""
    return [AlertThreshold(one["code"], Decimal(one["value"]), one["recurring"]) for one in alert.thresholds]


def threshold_json(one: AlertThreshold) -> Json:
    """A threshold as it is stored, and on the wire."""
    return {"code": one.code, "value": decimal_text(one.value), "recurring": one.recurring}


def triggered_alerts(
    organization_id: UUID,
    *,
    external_customer_id: str | None = None,
    external_subscription_id: str | None = None,
    alert_code: str | None = None,
) -> Select[TriggeredAlert]:
    """The times when an organization's alerts were triggered, latest first."""
    query = (
        select(TriggeredAlert)
        .join(TriggeredAlert.alert)
        .where(TriggeredAlert.organization_id == organization_id)
        .order_by(TriggeredAlert.triggered_at.desc(), TriggeredAlert.number.desc())
        .options(
            joinedload(TriggeredAlert.alert).joinedload(Alert.billable_metric), joinedload(TriggeredAlert.customer)
        )
    )
    if external_customer_id is not None:
        query = query.where(TriggeredAlert.customer.has(Customer.external_id == external_customer_id))
    if external_subscription_id is not None:
        query = query.where(Alert.external_subscription_id == external_subscription_id)
    return query if alert_code is None else query.where(Alert.code == alert_code)


def _present(db: Session, target: Target, alert_type: str) -> Decimal:
    if target.wallet is None:
        return Decimal(0)
    return db.execute(select(OF_WALLETS[alert_type]).where(Wallet.id == target.wallet.id)).scalar_one()


def _metric(db: Session, organization_id: UUID, sent: Changes) -> BillableMetric | None:
    code = sent.get("billable_metric_code")
    if empty(code):
        return None
    metric = db.scalar(
        select(BillableMetric).where(
            BillableMetric.organization_id == organization_id,
            BillableMetric.code == code,
            BillableMetric.deleted_at.is_(None),
        )
    )
    if metric is None:
        raise NotFound("billable_metric")
    return metric


def _check_metric(problems: Problems, alert_type: str, metric: BillableMetric | None) -> None:
    if alert_type in OF_METRICS and metric is None:
        problems.add("billable_metric", "value_is_mandatory")
    if alert_type not in OF_METRICS and metric is not None:
        problems.add("billable_metric", "value_must_be_blank")


def _check(db: Session, problems: Problems, target: Target, sent: Changes, alert: Alert | None) -> None:
    check_code(problems, sent)
    code = sent.get("code")
    if empty(code) or (alert is not None and alert.code == code):
        return
    if db.scalar(select(Alert.id).where(target.owns, Alert.code == code)) is not None:
        problems.add("code", "value_already_exist")


def _check_alone(
    db: Session,
    problems: Problems,
    target: Target,
    alert_type: str,
    metric: BillableMetric | None,
    alert: Alert | None,
) -> None:
    """A target has one alert of a type, or for each metric."""
    others = select(Alert.id).where(target.owns, Alert.alert_type == alert_type)
    others = others.where(Alert.billable_metric_id == (metric.id if metric else None))
    if db.scalar(others if alert is None else others.where(Alert.id != alert.id)) is not None:
        problems.add("base", "alert_already_exists")


def _thresholds(problems: Problems, sent: Sequence[Changes] | None) -> list[Json]:
    """Thresholds as they are stored, in the order of their values, recurring ones last."""
    if not sent:
        problems.add("thresholds", "value_is_mandatory")
        return []
    if len(sent) > MOST_THRESHOLDS:
        problems.add("thresholds", "too_many_thresholds")
        return []
    found = []
    for one in sent:
        value, recurring = _value(one.get("value")), one.get("recurring") is True
        if value is None:
            problems.add("thresholds:value", "value_is_invalid")
        elif recurring and value <= 0:
            problems.add("thresholds:value", "recurring_value_is_negative")
        else:
            found.append(AlertThreshold(one.get("code"), value, recurring))
    if len({(one.value, one.recurring) for one in found}) < len(found):
        problems.add("thresholds", "duplicate_threshold_values")
    elif sum(one.recurring for one in found) > 1:
        problems.add("thresholds", "multiple_recurring_thresholds")
    return [threshold_json(one) for one in sorted(found, key=lambda one: (one.recurring, one.value))]


def _value(sent: object) -> Decimal | None:
    """A number, or the number in a text."""
    if isinstance(sent, bool) or not isinstance(sent, int | str | Decimal):
        return None
    try:
        value = Decimal(sent)
    except (InvalidOperation, ValueError):
        return None
    digits, exponent = value.as_tuple().digits, value.as_tuple().exponent
    if not isinstance(exponent, int) or max(len(digits) + abs(exponent), abs(value.adjusted())) > MOST_DIGITS:
        return None
    return value
