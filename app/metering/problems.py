"""Accepted but not billable: the events that are kept and not billed as they were meant, by reason (metering spec 1.10).

ClickHouse looks at the events, a stretch of subscriptions at a time; when each subscription could take events, and
which of its periods have been invoiced, comes from PostgreSQL. No event passes through Python but those of a page.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, collate, func, or_, select
from sqlalchemy.orm import Session

from app.core.aggregation import MAX_VALUE_TEXT, NUMBER, Aggregation
from app.metering.events import Event
from app.metering.instants import EPOCH
from app.metering.stored import event_of, within
from app.metering.windows import floor_ms
from app.models import BillableMetric, BillingPeriod, Invoice, Subscription
from app.stores.clickhouse import ClickHouse, Query

STRETCH = 5_000
"""How many subscriptions' spans are sent to ClickHouse with one query."""
NEVER = 2**62
INVOICED = ("finalized", "closed", "voided", "deleted")
BILLS_USAGE = ("subscription_periodic", "subscription_terminating")
NUMERIC = {Aggregation.SUM, Aggregation.MAX, Aggregation.LATEST, Aggregation.WEIGHTED_SUM}


class Reason(StrEnum):
    """Why an event is not billed as it was meant. The first five are not billed at all; of the others the event counts,
    with a value of 0, not at all in a unique count, under no filter, or as an addition."""

    UNKNOWN_CODE = "unknown_code"
    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    BEFORE_START = "before_start"
    AFTER_TERMINATION = "after_termination"
    PERIOD_FINALIZED = "period_finalized"
    MISSING_PROPERTY = "missing_property"
    NON_NUMERIC_VALUE = "non_numeric_value"
    INVALID_FILTER_VALUE = "invalid_filter_value"
    INVALID_OPERATION_TYPE = "invalid_operation_type"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events are looked at: those of an organization with `from_ <= timestamp <= to`, `to` None meaning all later
    ones; of one code or subscription where these are given."""

    organization_id: UUID
    from_: datetime
    to: datetime | None
    code: str | None = None
    external_subscription_id: str | None = None


Counts = dict[Reason, dict[str, int]]
"""Numbers of events, by reason and code. An event that has two reasons counts under both."""


def count_problems(db: Session, clickhouse: ClickHouse, scope: Scope) -> Counts:
    """How many events have each reason, exactly."""
    counts: Counts = {reason: defaultdict(int) for reason in Reason}
    metrics = _metrics(db, scope.organization_id)
    for stretch in _stretches(db, scope):
        query = Query("event_problems_count", {**_parameters(scope), **metrics, **stretch, "reason": ""})
        for reason, code, number in clickhouse.rows(query):
            counts[Reason(reason)][code] += number
    return counts


def list_problems(
    db: Session, clickhouse: ClickHouse, scope: Scope, reason: Reason, limit: int, offset: int
) -> tuple[list[Event], int]:
    """A page of the events with a reason, by subscription, code and time, and how many there are in all."""
    metrics = _metrics(db, scope.organization_id)
    events: list[Event] = []
    total = 0
    for stretch in _stretches(db, scope):
        parameters = {**_parameters(scope), **metrics, **stretch, "reason": reason.value}
        here = sum(row[2] for row in clickhouse.rows(Query("event_problems_count", parameters)))
        skip, wanted = max(offset - total, 0), limit - len(events)
        if skip < here and wanted:
            page = Query("event_problems_list", {**parameters, "limit": wanted, "offset": skip})
            events += [event_of(row[:-1]) for row in clickhouse.rows(page)]
        total += here
    return events, total


def _parameters(scope: Scope) -> dict[str, Any]:
    return {
        "organization_id": scope.organization_id,
        "external_subscription_id": scope.external_subscription_id or "",
        "any_subscription": scope.external_subscription_id is None,
        "code": scope.code or "",
        "any_code": scope.code is None,
        "from": within(scope.from_),
        "to": within(scope.to),
        "longest_number": MAX_VALUE_TEXT,
        "number": f"^(?:{NUMBER})$",
    }


def _metrics(db: Session, organization_id: UUID) -> dict[str, Any]:
    """What the queries must know of the organization's metrics."""
    metrics = db.execute(
        select(
            BillableMetric.code,
            BillableMetric.aggregation_type,
            BillableMetric.field_name,
            BillableMetric.recurring,
            func.nullif(BillableMetric.expression, "").is_not(None),
            BillableMetric.filters,
        ).where(BillableMetric.organization_id == organization_id, BillableMetric.deleted_at.is_(None))
    ).all()
    filters = [(code, each["key"], each["values"]) for code, *_, given in metrics for each in given]
    keys = defaultdict(list)
    for code, key, _ in filters:
        keys[code].append(key)
    return {
        "codes": [code for code, *_ in metrics],
        "numeric": [
            (code, name, by_expression) for code, kind, name, _, by_expression, _ in metrics if kind in NUMERIC and name
        ],
        "unique": [code for code, kind, *_ in metrics if kind == Aggregation.UNIQUE_COUNT],
        "recurring": [code for code, _, _, recurring, *_ in metrics if recurring],
        "filters": list(keys.items()),
        "allowed": [(code, key, value) for code, key, values in filters for value in values],
    }


@dataclass(slots=True)
class _Life:
    """When events of an external subscription id could be taken, in milliseconds, both ends inclusive; which stretches of
    usage have been invoiced, and when (in microseconds) they had been measured; and when the last ever had been."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    periods: list[tuple[int, int, int]] = field(default_factory=list)
    last_measured_us: int = NEVER
    last_end: int = -1
    last_subscription: UUID | None = None


def _stretches(db: Session, scope: Scope) -> Iterator[dict[str, Any]]:
    """The organization's subscriptions in stretches, ordered by external id as ClickHouse orders text; together they leave
    no gap, so that an unknown subscription's events fall into one, too."""
    mine = and_(
        Subscription.organization_id == scope.organization_id,
        or_(Subscription.started_at.is_not(None), Subscription.status.in_(("pending", "incomplete"))),
    )
    if scope.external_subscription_id is not None:
        # PostgreSQL holds no NUL, so that nothing there has such an id.
        mine &= Subscription.external_id == scope.external_subscription_id.replace("\x00", "")
    by_bytes = collate(Subscription.external_id, "C")
    after: str | None = None
    while True:
        here = mine if after is None else mine & (by_bytes > after)
        ids = list(db.scalars(select(by_bytes).where(here).distinct().order_by(by_bytes).limit(STRETCH)))
        last = ids[-1] if len(ids) == STRETCH else None
        lives = _lives(db, scope, here if last is None else here & (by_bytes <= last))
        yield {
            "subscriptions": [(name, life.spans, life.periods, life.last_measured_us) for name, life in lives.items()],
            "from_first": after is None,
            "after_subscription": after or "",
            "to_last": last is None,
            "last_subscription": last or "",
        }
        if last is None:
            return
        after = last


def _lives(db: Session, scope: Scope, which: ColumnElement[bool]) -> dict[str, _Life]:
    lives: dict[str, _Life] = defaultdict(_Life)
    spans = select(
        Subscription.external_id,
        Subscription.id,
        func.coalesce(Subscription.started_at, Subscription.gated_at, Subscription.subscription_at),
        Subscription.terminated_at,
    ).where(which)
    for name, subscription_id, start, end in db.execute(spans):
        life = lives[name]
        last = NEVER if end is None else floor_ms(end)
        life.spans.append((floor_ms(start), last))
        if last > life.last_end:
            life.last_end, life.last_subscription = last, subscription_id
    ends = BillingPeriod.invoicing_reason == "subscription_terminating"
    touches = BillingPeriod.charges_to_datetime >= scope.from_
    if scope.to is not None:
        touches &= BillingPeriod.charges_from_datetime <= scope.to
    periods = (
        select(
            Subscription.external_id,
            Subscription.id,
            BillingPeriod.charges_from_datetime,
            BillingPeriod.charges_to_datetime,
            BillingPeriod.measured_at,
            BillingPeriod.invoicing_reason,
        )
        .join(BillingPeriod, BillingPeriod.subscription_id == Subscription.id)
        .join(Invoice, Invoice.id == BillingPeriod.invoice_id)
        .where(which, Invoice.status.in_(INVOICED), BillingPeriod.invoicing_reason.in_(BILLS_USAGE), or_(touches, ends))
    )
    for name, subscription_id, from_, to, measured_at, reason in db.execute(periods):
        if from_ is None or to is None:  # a month in which no charges are billed
            continue
        life = lives[name]
        measured_us = (measured_at - EPOCH) // timedelta(microseconds=1)
        life.periods.append((floor_ms(from_), floor_ms(to), measured_us))
        if reason == "subscription_terminating" and subscription_id == life.last_subscription:
            life.last_measured_us = measured_us
    return lives
