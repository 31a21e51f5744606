"""Billable metrics: finding them, and the rules for making and changing them (metering spec 2.1, 2.9)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from app.catalog.changes import metric_changed
from app.catalog.charge_filters import trim_filters
from app.catalog.dimensions import dimension_keys, refresh_dimensions
from app.core.expressions import InvalidExpression, parse
from app.errors import Forbidden, NotFound, Problems
from app.models import Alert, BillableMetric, Charge, ChargeFilter, Plan, Subscription, catalog_changed
from app.validation import Changes, assign, check_code, check_mandatory, check_one_of, empty

COUNT, WEIGHTED_SUM = "count_agg", "weighted_sum_agg"
SUPPORTED_AGGREGATIONS = (COUNT, "sum_agg", "max_agg", "latest_agg", "unique_count_agg", WEIGHTED_SUM)
RECURRING_AGGREGATIONS = ("sum_agg", "unique_count_agg", WEIGHTED_SUM)
SECONDS = "seconds"
"""The one unit of time that a weighted sum is weighted by."""
ROUNDING_FUNCTIONS = ("round", "ceil", "floor")
TRY_OUT = "evaluate_expression"
"""What stands in a path where a metric's code does, and can therefore be no metric's."""

_EDITABLE = ("name", "description")
_FROZEN_IN_USE = (
    "code", "aggregation_type", "field_name", "expression", "recurring", "weighted_interval",
    "rounding_function", "rounding_precision",
)  # fmt: skip
_READ_BY_EVENTS = ("code", "aggregation_type", "field_name", "expression")


def live_metrics(organization_id: UUID) -> Select[BillableMetric]:
    """An organization's metrics that have not been deleted, newest first."""
    return (
        select(BillableMetric)
        .where(BillableMetric.organization_id == organization_id, BillableMetric.deleted_at.is_(None))
        .order_by(BillableMetric.created_at.desc(), BillableMetric.id)
    )


def find_metric(db: Session, organization_id: UUID, code: str, *, lock: bool = False) -> BillableMetric:
    """The metric with a code.

    Raises:
        NotFound: `billable_metric_not_found`.
    """
    query = live_metrics(organization_id).where(BillableMetric.code == code)
    metric = db.scalar(query.with_for_update() if lock else query)
    if metric is None:
        raise NotFound("billable_metric")
    return metric


def field_names(db: Session, organization_id: UUID, codes: Collection[str]) -> dict[str, str | None]:
    """The property that the events of each of these codes are aggregated by; codes without a metric are not in it."""
    query = select(BillableMetric.code, BillableMetric.field_name).where(
        BillableMetric.organization_id == organization_id,
        BillableMetric.deleted_at.is_(None),
        BillableMetric.code.in_([code for code in codes if "\x00" not in code]),
    )
    return dict(db.execute(query).all())


def lock_metrics(db: Session, organization_id: UUID, ids: Collection[UUID]) -> dict[UUID | None, BillableMetric]:
    """Those of the metrics with these ids that there are, by id, as they are now and stay until the transaction ends.

    Whatever changes charges locks their metrics first, in the order of their ids: a change of the metric and one of its
    charges wait for each other.
    """
    query = (
        live_metrics(organization_id)
        .where(BillableMetric.id.in_(ids))
        .order_by(None)
        .order_by(BillableMetric.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {metric.id: metric for metric in db.scalars(query)} if ids else {}


def share_metrics(db: Session, organization_id: UUID, ids: Collection[UUID]) -> None:
    """Keep these metrics from being changed or deleted until the transaction ends, while their charges are copied. They can
    still be measured, and their charges changed.
    """
    query = select(BillableMetric.id).where(
        BillableMetric.organization_id == organization_id, BillableMetric.id.in_(ids)
    )
    db.execute(query.order_by(BillableMetric.id).with_for_update(read=True, key_share=True))


def is_in_use(db: Session, metric: BillableMetric) -> bool:
    """Whether a charge of a live plan prices the metric."""
    query = (
        select(Charge.id)
        .join(Plan, Plan.id == Charge.plan_id)
        .where(
            Charge.organization_id == metric.organization_id,
            Charge.billable_metric_id == metric.id,
            Charge.deleted_at.is_(None),
            Plan.deleted_at.is_(None),
        )
        .limit(1)
    )
    return db.scalar(query) is not None


def create_metric(db: Session, organization_id: UUID, changes: Changes, now: datetime) -> BillableMetric:
    """A new metric; events of its code that came before it are counted too, by a backfill.

    Raises:
        Invalid: a field breaks a rule.
        Forbidden: `feature_unavailable`, for a custom aggregation.
    """
    check_metric(db, organization_id, changes, None)
    metric = BillableMetric(organization_id=organization_id, filters=[], backfill_pending=True, created_at=now)
    _write(metric, changes, now)
    metric.dimension_keys = dimension_keys(metric, ())
    db.add(metric)
    db.flush()
    metric_changed(db, organization_id, metric.code)
    return metric


def update_metric(db: Session, metric: BillableMetric, changes: Changes, now: datetime) -> None:
    """Change a metric. Once it is in use only its name, description and filters change, the rest is ignored.

    Raises:
        Invalid: a field breaks a rule.
        Forbidden: `feature_unavailable`, for a custom aggregation.
    """
    if is_in_use(db, metric):
        changes = {field: changes[field] for field in (*_EDITABLE, "filters") if field in changes}
    check_metric(db, metric.organization_id, changes, metric)
    before = [getattr(metric, field) for field in _READ_BY_EVENTS]
    metric_changed(db, metric.organization_id, metric.code)
    _write(metric, changes, now)
    metric_changed(db, metric.organization_id, metric.code)
    if before != [getattr(metric, field) for field in _READ_BY_EVENTS]:
        metric.backfill_pending = True
    db.flush()
    if "filters" in changes:
        trim_filters(db, metric, now)
        refresh_dimensions(db, [metric])
        db.flush()


def delete_metric(db: Session, metric: BillableMetric, now: datetime, received_before: datetime) -> None:
    """Delete a metric, its charges from all plans, and its alerts (metering spec 6.5). Past fees stay readable.

    Its events of the subscriptions on these plans, as far as they were received before an instant of the real time, are
    noted to be deleted.
    """
    metric.deleted_at = metric.updated_at = now
    db.execute(
        update(Alert)
        .where(Alert.billable_metric_id == metric.id, Alert.deleted_at.is_(None))
        .values(deleted_at=now, updated_at=now)
    )
    priced = db.scalars(
        select(Subscription.external_id)
        .join(Charge, Charge.plan_id == Subscription.plan_id)
        .where(
            Subscription.organization_id == metric.organization_id,
            Charge.billable_metric_id == metric.id,
            Charge.deleted_at.is_(None),
        )
        .distinct()
    ).all()
    if priced:
        metric.events_to_delete = {"subscriptions": sorted(priced), "before": received_before.isoformat()}
    charges = update(Charge).where(
        Charge.organization_id == metric.organization_id,
        Charge.billable_metric_id == metric.id,
        Charge.deleted_at.is_(None),
    )
    removed = db.scalars(charges.values(deleted_at=now, updated_at=now).returning(Charge.id)).all()
    db.execute(
        update(ChargeFilter)
        .where(
            ChargeFilter.organization_id == metric.organization_id,
            ChargeFilter.charge_id.in_(removed),
            ChargeFilter.deleted_at.is_(None),
        )
        .values(deleted_at=now, updated_at=now)
    )
    catalog_changed(db, metric.organization_id)
    metric_changed(db, metric.organization_id, metric.code)


def check_metric(db: Session, organization_id: UUID, changes: Changes, metric: BillableMetric | None) -> None:
    """Refuse what is wrong with a metric as it would be after the change (metering spec 2.1).

    Raises:
        Invalid: with every field that breaks a rule.
        Forbidden: `feature_unavailable`, for a custom aggregation.
    """
    aggregation = changes.get("aggregation_type", metric.aggregation_type if metric else None)
    if aggregation == "custom_agg":
        raise Forbidden("feature_unavailable")
    problems = Problems()
    check_mandatory(problems, changes, ("name", "code"), creating=metric is None)
    check_code(problems, changes)
    if changes.get("code") == TRY_OUT:
        problems.add("code", "value_is_invalid")
    if aggregation not in SUPPORTED_AGGREGATIONS:
        problems.add("aggregation_type", "value_is_invalid")
    field_name = changes.get("field_name", metric.field_name if metric else None)
    if aggregation != COUNT and empty(field_name):
        problems.add("field_name", "value_is_mandatory")
    recurring = changes.get("recurring", metric.recurring if metric else False)
    if recurring and aggregation in SUPPORTED_AGGREGATIONS and aggregation not in RECURRING_AGGREGATIONS:
        problems.add("recurring", "not_compatible_with_aggregation_type")
    _check_expression(problems, changes.get("expression"))
    check_one_of(problems, changes, "weighted_interval", (SECONDS,))
    interval = changes.get("weighted_interval", metric.weighted_interval if metric else None)
    if aggregation == WEIGHTED_SUM and interval != SECONDS:
        problems.add("weighted_interval", "value_is_invalid")
    check_one_of(problems, changes, "rounding_function", ROUNDING_FUNCTIONS)
    code = changes.get("code")
    if not empty(code) and (metric is None or code != metric.code):
        taken = db.scalar(live_metrics(organization_id).where(BillableMetric.code == code))
        if taken is not None:
            problems.add("code", "value_already_exist")
    _check_filters(problems, changes.get("filters") or ())
    problems.check()


def _check_expression(problems: Problems, text: str | None) -> None:
    if text:
        try:
            parse(text)
        except InvalidExpression:
            problems.add("expression", "invalid_expression")


def _check_filters(problems: Problems, filters: Sequence[dict[str, Any]]) -> None:
    keys = [one.get("key") for one in filters]
    if any(empty(key) for key in keys):
        problems.add("key", "value_is_mandatory")
    if len(set(keys)) < len(keys):
        problems.add("key", "value_already_exist")
    if not all(one.get("values") for one in filters):
        problems.add("values", "value_is_mandatory")


def _write(metric: BillableMetric, changes: Changes, now: datetime) -> None:
    assign(metric, changes, (*_EDITABLE, *_FROZEN_IN_USE))
    metric.rounding_function = metric.rounding_function or None
    metric.recurring = bool(metric.recurring)
    metric.expression = metric.expression or None
    if metric.aggregation_type == COUNT:
        metric.field_name = None
    if metric.aggregation_type != WEIGHTED_SUM:
        metric.weighted_interval = None
    if "filters" in changes:
        filters = [{"key": one["key"], "values": sorted(set(one["values"]))} for one in changes["filters"] or ()]
        metric.filters = sorted(filters, key=lambda one: one["key"])
    metric.updated_at = now
