"""Drafts that events have come for since they were measured, flagged to be made anew (billing spec 3.3).

Nothing is done for single events. Each run looks once at what has come since the run before: for organizations that have
drafts, at the subscriptions that had events, and for those of them that have drafts, whether an event lies in what the
draft bills. What was looked at is remembered by the process; the first look of a process goes back to when the drafts were
measured. Flagging twice does no harm, and a draft that becomes final is made anew in any case.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, any_, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Text

from app.metering.arrivals import busy_since, busy_subscriptions, last_arrival
from app.metering.windows import FIRST_MS, floor_ms
from app.models import BillableMetric, BillingPeriod, Charge, Invoice, Organization, Subscription, among
from app.stores.clickhouse import ClickHouse, Query
from app.stores.postgres import Postgres

RECENT = timedelta(minutes=1)
"""How far before what was looked at events are looked at again where other processes write: one may be seen later than
others that were ingested after it."""
CHUNK = 5_000
"""How many windows are sent to ClickHouse with one query."""
_BILLS_USAGE = ("subscription_periodic", "subscription_terminating")
_START = datetime(1970, 1, 1, tzinfo=UTC)

_DRAFT = (Invoice.finalization_due_at.is_not(None), Invoice.status == "draft", Invoice.ready_to_be_refreshed.is_(False))


class _Window(NamedTuple):
    """What a draft bills of the events of a subscription and code, half-open, and when it was measured."""

    invoice_id: UUID
    external_subscription_id: str
    code: str
    from_ms: int
    end_ms: int
    measured_at: datetime


class LateDrafts:
    """Finds the drafts that events have come for too late."""

    def __init__(self, postgres: Postgres, clickhouse: ClickHouse):
        self._postgres = postgres
        self._clickhouse = clickhouse
        self._looked: dict[UUID, datetime] = {}

    def flag(self, scope: ColumnElement[bool]) -> int:
        """Flag the late drafts of some organizations; returns how many these were."""
        with self._postgres.session() as db:
            marks = self._marks(db, scope)
        flagged = 0
        for organization_id in busy_since(self._clickhouse, list(marks.items())):
            after = marks[organization_id]
            until = last_arrival(self._clickhouse, organization_id, after)
            if until is not None:
                flagged += self._flag(organization_id, after, until)
                self._looked[organization_id] = until
        return flagged

    def _marks(self, db: Session, scope: ColumnElement[bool]) -> dict[UUID, datetime]:
        """The organizations that have drafts, and after when to look at what has come for them."""
        has_drafts = exists().where(Invoice.organization_id == Organization.id, *_DRAFT)
        with_drafts = db.scalars(select(Organization.id).where(scope, has_drafts)).all()
        unknown = [one for one in with_drafts if one not in self._looked]
        measured = (
            select(Invoice.organization_id, func.min(BillingPeriod.measured_at))
            .join(BillingPeriod, BillingPeriod.invoice_id == Invoice.id)
            .where(among(Invoice.organization_id, unknown), *_DRAFT)
            .group_by(Invoice.organization_id)
        )
        known = {**self._looked, **(dict(db.execute(measured).all()) if unknown else {})}
        back = timedelta(0) if self._clickhouse.embedded else RECENT
        return {one: max(known[one] - back, _START) for one in with_drafts if one in known}

    def _flag(self, organization_id: UUID, after: datetime, until: datetime) -> int:
        busy = busy_subscriptions(self._clickhouse, organization_id, after, until)
        with self._postgres.session() as db:
            windows = _windows(db, organization_id, busy) if busy else []
        late = {
            one.invoice_id for chunk in _chunks(windows) for one in self._late(organization_id, chunk, after, until)
        }
        if not late:
            return 0
        with self._postgres.session() as db:
            drafts = select(Invoice.id).where(among(Invoice.id, late), *_DRAFT).order_by(Invoice.id).with_for_update()
            db.execute(
                update(Invoice).where(Invoice.id.in_(drafts)).values(ready_to_be_refreshed=True),
                execution_options={"synchronize_session": False},
            )
        return len(late)

    def _late(
        self, organization_id: UUID, windows: Sequence[_Window], after: datetime, until: datetime
    ) -> Iterable[_Window]:
        rows = [(number, *window[1:]) for number, window in enumerate(windows)]
        parameters = {"organization_id": organization_id, "after": after, "until": until, "windows": rows}
        return [windows[number] for (number,) in self._clickhouse.rows(Query("late_windows", parameters))]


def _windows(db: Session, organization_id: UUID, external_ids: Collection[str]) -> list[_Window]:
    """What the drafts of these subscriptions bill of events; of a recurring metric also what was carried over."""
    lines = db.execute(
        select(
            Invoice.id,
            Subscription.external_id,
            Subscription.plan_id,
            BillingPeriod.charges_from_datetime,
            BillingPeriod.charges_to_datetime,
            BillingPeriod.measured_at,
        )
        .join(BillingPeriod, BillingPeriod.invoice_id == Invoice.id)
        .join(Subscription, Subscription.id == BillingPeriod.subscription_id)
        .where(
            Invoice.organization_id == organization_id,
            *_DRAFT,
            BillingPeriod.invoicing_reason.in_(_BILLS_USAGE),
            BillingPeriod.charges_from_datetime < BillingPeriod.charges_to_datetime,
            Subscription.external_id == any_(literal(list(external_ids), ARRAY(Text))),
        )
    ).all()
    codes: dict[UUID, list[tuple[str, bool]]] = {}
    billed = (
        select(Charge.plan_id, BillableMetric.code, BillableMetric.recurring)
        .distinct()
        .join(BillableMetric, BillableMetric.id == Charge.billable_metric_id)
        .where(
            among(Charge.plan_id, {one.plan_id for one in lines}),
            Charge.deleted_at.is_(None),
            ~Charge.pay_in_advance | BillableMetric.recurring,
        )
    )
    for plan_id, code, recurring in db.execute(billed):
        codes.setdefault(plan_id, []).append((code, recurring))
    return [
        _Window(invoice_id, name, code, FIRST_MS if recurring else floor_ms(from_), floor_ms(to) + 1, measured_at)
        for invoice_id, name, plan_id, from_, to, measured_at in lines
        for code, recurring in codes.get(plan_id, ())
        if from_ is not None and to is not None
    ]


def _chunks(windows: Sequence[_Window]) -> Iterable[Sequence[_Window]]:
    return (windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK))
