"""The hourly check: what is wrong with the events of the last full hour, for each organization (metering spec 1.11).

The hour is that of ingestion, on the system's clock. A sandbox is checked when its clock moves past a full hour, over
what it was sent since its last check. What is found is announced, and kept for `KEPT`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.aggregation import Aggregation
from app.metering.arrivals import last_arrival
from app.metering.instants import EPOCH
from app.models import BillableMetric, EventCheck, Organization, Setting
from app.stores.clickhouse import ClickHouse, Query
from app.stores.postgres import Postgres

HOUR = timedelta(hours=1)
ONE_STEP = timedelta(microseconds=1)
SETTLED = timedelta(minutes=2)
"""How long after an hour its events are surely in the store, whichever process took them."""
KEPT = timedelta(days=30)
MOST_IDS = 1_000
"""The most transaction ids in one list; the counts are complete."""
ORGANIZATIONS = 500
"""How many organizations are checked with one query."""
MARK = "events_checked_until"

ERRORS = ("invalid_code", "missing_aggregation_property", "invalid_filter_values")
KINDS = {Aggregation.COUNT: "count", Aggregation.CUSTOM: "count", Aggregation.UNIQUE_COUNT: "item"}
"""What an aggregation reads, where it is not a number."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong with the events of an organization: for each error how many events have it, and the first of their
    transaction ids in the order of text."""

    organization_id: UUID
    hour: datetime
    counts: Mapping[str, int]
    transaction_ids: Mapping[str, Sequence[str]]


class EventChecks:
    """Runs the checks. Any number of processes may: an hour is checked once."""

    def __init__(self, postgres: Postgres, clickhouse: ClickHouse):
        self._postgres = postgres
        self._clickhouse = clickhouse

    def run_live(self, now: datetime) -> int:
        """Check every full hour that has not been checked, for every organization on the system's time. Returns how many
        organizations were found to have errors, counting each hour; 0 while another process is at it."""
        found = 0
        until = _full_hour(now - SETTLED)
        while True:
            with self._postgres.session() as db:
                mark = _take_mark(db, MARK, until - HOUR, wait=False)
                if mark is None or mark >= until:
                    return found
                first = self._clickhouse.rows(Query("first_ingested", {"from": mark}))
                hour = min(_full_hour(first[0][0]), until) if first else until
                if hour < until:
                    live = self._live_organizations(db, hour, hour + HOUR)
                    found += self._check(db, live, hour, hour, hour + HOUR, now)
                    hour += HOUR
                db.execute(delete(EventCheck).where(EventCheck.checked_at < now - KEPT))
                _move_mark(db, MARK, hour)

    def run_sandbox(self, organization_id: UUID, before: datetime, until: datetime, now: datetime) -> int:
        """Check a sandbox whose clock moves from `before` to `until`, if that is past a full hour; `now` is the system's
        time, before which all that counts has been ingested."""
        hour = _full_hour(before)
        if _full_hour(until) == hour:
            return 0
        name = f"{MARK}:{organization_id}"
        with self._postgres.session() as db:
            mark = _take_mark(db, name, EPOCH, wait=True) or EPOCH
            if last_arrival(self._clickhouse, organization_id, mark - ONE_STEP) is None:
                return 0
            found = self._check(db, [organization_id], hour, mark, now, now)
            _move_mark(db, name, now)
        return found

    def _live_organizations(self, db: Session, from_: datetime, end: datetime) -> list[UUID]:
        rows = self._clickhouse.rows(Query("ingested_organizations", {"from": from_, "end": end}))
        busy = [row[0] for row in rows]
        return list(
            db.scalars(select(Organization.id).where(Organization.id.in_(busy), Organization.sandbox.is_(False)))
        )

    def _check(
        self, db: Session, organizations: Sequence[UUID], hour: datetime, from_: datetime, end: datetime, now: datetime
    ) -> int:
        found: list[Found] = []
        for start in range(0, len(organizations), ORGANIZATIONS):
            some = organizations[start : start + ORGANIZATIONS]
            parameters = {
                **_metrics(db, some),
                "organizations": some,
                "from": from_,
                "end": end,
                "most_ids": MOST_IDS,
            }
            counts: dict[UUID, dict[str, int]] = defaultdict(dict)
            ids: dict[UUID, dict[str, Sequence[str]]] = defaultdict(dict)
            for organization, error, number, some_ids in self._clickhouse.rows(Query("event_errors", parameters)):
                counts[organization][error], ids[organization][error] = number, some_ids
            found += [Found(one, hour, counts[one], ids[one]) for one in counts]
        announce(db, found, now)
        return len(found)


def announce(db: Session, found: Sequence[Found], now: datetime) -> None:
    """Tell organizations what is wrong with their events. Called once for each organization and hour with errors, in the
    transaction that notes the hour as checked."""
    for one in found:
        db.execute(
            insert(EventCheck)
            .values(
                id=uuid4(),
                organization_id=one.organization_id,
                hour=one.hour,
                counts={error: one.counts.get(error, 0) for error in ERRORS},
                errors=payload(one),
                checked_at=now,
            )
            .on_conflict_do_nothing()
        )


def payload(found: Found) -> dict[str, Any]:
    """The body of `events.errors`. Group keys are not checked, which null says."""
    lists = {error: list(found.transaction_ids.get(error, ())) for error in ERRORS}
    return {**lists, "missing_group_key": None}


def event_checks(organization_id: UUID) -> Select[EventCheck]:
    """The checks that found something, newest first."""
    return (
        select(EventCheck)
        .where(EventCheck.organization_id == organization_id)
        .order_by(EventCheck.hour.desc(), EventCheck.id)
    )


def _metrics(db: Session, organizations: Sequence[UUID]) -> dict[str, Any]:
    rows = db.execute(
        select(
            BillableMetric.organization_id,
            BillableMetric.code,
            BillableMetric.aggregation_type,
            BillableMetric.field_name,
            func.nullif(BillableMetric.expression, "").is_not(None),
            BillableMetric.filters,
        ).where(BillableMetric.organization_id.in_(organizations), BillableMetric.deleted_at.is_(None))
    ).all()
    return {
        "metrics": [
            (
                organization,
                code,
                KINDS.get(Aggregation(kind), "number"),
                field or "",
                by_expression,
                [one["key"] for one in filters],
            )
            for organization, code, kind, field, by_expression, filters in rows
        ],
        "allowed": [
            (organization, code, one["key"], value)
            for organization, code, _, _, _, filters in rows
            for one in filters
            for value in one["values"]
        ],
    }


def _full_hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _take_mark(db: Session, name: str, first: datetime, *, wait: bool) -> datetime | None:
    """Until when events have been checked, kept for this transaction; None when another has it, unless told to wait."""
    db.execute(insert(Setting).values(name=name, value={"at": first.isoformat()}).on_conflict_do_nothing())
    mark = db.scalar(select(Setting.value).where(Setting.name == name).with_for_update(skip_locked=not wait))
    return None if mark is None else datetime.fromisoformat(mark["at"])


def _move_mark(db: Session, name: str, at: datetime) -> None:
    db.get_one(Setting, name).value = {"at": at.isoformat()}
