"""Which metrics a transaction has changed, for those who read events with them to be told once it is committed."""

from uuid import UUID

from sqlalchemy.orm import Session

_METRICS = "metrics that have changed"


def metric_changed(db: Session, organization_id: UUID, code: str) -> None:
    """Note that the metric of a code was made, changed or deleted, or is split by other keys."""
    db.info.setdefault(_METRICS, set()).add((organization_id, code))


def changed_metrics(db: Session) -> set[tuple[UUID, str]]:
    """Organization and code of the metrics that were noted."""
    noted: set[tuple[UUID, str]] = db.info.get(_METRICS, set())
    return noted
