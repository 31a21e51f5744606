"""The properties that a metric's usage is split by: what its charges can ask for (metering spec 3.4, 3.5, 6.11)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.changes import metric_changed
from app.core.charges.properties import group_keys, presentation_keys
from app.models import BillableMetric, Charge, ChargeFilter, Plan
from app.models.catalog import GROUPED_CHARGE, GROUPED_FILTER


def dimension_keys(metric: BillableMetric, uses: Iterable[tuple[Mapping[str, Any], bool]]) -> list[str]:
    """The metric's filter keys, and the group and presentation keys of the charges and charge filters on it, sorted.

    `uses` are their properties, each with whether the charge accepts a target wallet.
    """
    keys = {one["key"] for one in metric.filters}
    for properties, accepts_target_wallet in uses:
        keys.update(group_keys(properties, accepts_target_wallet=accepts_target_wallet), presentation_keys(properties))
    return sorted(keys)


def refresh_dimensions(db: Session, metrics: Collection[BillableMetric]) -> None:
    """Bring the metrics' dimension keys in line with the charges of live plans, overrides included.

    Keys that nothing asks for any more are dropped, though not while usage is still being split. When keys come in, what
    is stored has to be split anew: that is noted as pending, and the metric as changed. The metrics must be locked.
    """
    db.flush()
    uses = _uses(db, {metric.id for metric in metrics})
    for metric in metrics:
        keys = dimension_keys(metric, uses.get(metric.id, ()))
        if metric.dimensions_pending:
            keys = sorted({*keys, *metric.dimension_keys})
        if keys != metric.dimension_keys:
            metric.dimensions_pending |= not set(keys) <= set(metric.dimension_keys)
            metric.dimension_keys = keys
            metric_changed(db, metric.organization_id, metric.code)


def _uses(db: Session, metric_ids: Collection[UUID]) -> dict[UUID, list[tuple[Mapping[str, Any], bool]]]:
    """The distinct groupings in use on each metric. Only what groups at all is looked at: there are indexes of it."""
    uses: dict[UUID, list[tuple[Mapping[str, Any], bool]]] = {}
    of_metrics = (Charge.billable_metric_id.in_(metric_ids), Charge.deleted_at.is_(None), Plan.deleted_at.is_(None))
    charges = (
        select(
            Charge.billable_metric_id,
            Charge.properties["pricing_group_keys"],
            Charge.properties["presentation_group_keys"],
            Charge.accepts_target_wallet,
        )
        .join(Plan, Plan.id == Charge.plan_id)
        .where(*of_metrics, GROUPED_CHARGE)
        .distinct()
    )
    for metric_id, grouping, presentation, accepts_target_wallet in db.execute(charges):
        properties = {"pricing_group_keys": grouping or [], "presentation_group_keys": presentation or []}
        uses.setdefault(metric_id, []).append((properties, accepts_target_wallet))
    filters = (
        select(Charge.billable_metric_id, ChargeFilter.properties["pricing_group_keys"])
        .join(Charge, Charge.id == ChargeFilter.charge_id)
        .join(Plan, Plan.id == Charge.plan_id)
        .where(*of_metrics, GROUPED_FILTER)
        .distinct()
    )
    for metric_id, grouping in db.execute(filters):
        uses.setdefault(metric_id, []).append(({"pricing_group_keys": grouping}, False))
    return uses
