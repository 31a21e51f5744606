"""What a transaction has changed of how events are read and billed, for those who do it to be told once it is committed."""

from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import system_now
from app.models import AdvanceMark, UsageMark

_METRICS = "metrics that have changed"
_IN_ADVANCE = "organizations with a charge paid in advance"
_WATCHED = "organizations with usage thresholds or alerts"


def metric_changed(db: Session, organization_id: UUID, code: str) -> None:
    """Note that the metric of a code was made, changed or deleted, or is split by other keys."""
    db.info.setdefault(_METRICS, set()).add((organization_id, code))


def changed_metrics(db: Session) -> set[tuple[UUID, str]]:
    """Organization and code of the metrics that were noted."""
    noted: set[tuple[UUID, str]] = db.info.get(_METRICS, set())
    return noted


def billed_by_event(db: Session, organization_id: UUID) -> None:
    """Note that a charge paid in advance was made: from now on the organization's events are looked at one by one."""
    mark = insert(AdvanceMark).values(organization_id=organization_id, billed_until=system_now())
    db.execute(mark.on_conflict_do_nothing())
    db.info.setdefault(_IN_ADVANCE, set()).add(organization_id)


def billed_in_advance(db: Session) -> set[UUID]:
    """The organizations that were noted."""
    noted: set[UUID] = db.info.get(_IN_ADVANCE, set())
    return noted


def watch_usage(db: Session, organization_id: UUID) -> None:
    """Note that a usage threshold or an alert was made: from now on events are followed by a look at what they come to."""
    mark = insert(UsageMark).values(organization_id=organization_id, looked_until=system_now())
    db.execute(mark.on_conflict_do_nothing())
    db.info.setdefault(_WATCHED, set()).add(organization_id)


def watched(db: Session) -> set[UUID]:
    """The organizations that were noted."""
    noted: set[UUID] = db.info.get(_WATCHED, set())
    return noted
