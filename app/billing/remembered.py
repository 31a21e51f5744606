"""Price books kept from one request to the next, for as long as the organization's catalog stays the same.

Reading a plan with its charges, filters and taxes takes several queries and compiles every price; a dashboard asks for
current usage every few seconds.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.billing.book import PlanTerms, Taxes, load_entity_taxes, load_plans
from app.models import Organization

MOST = 2_000

T = TypeVar("T")


class PriceBook:
    """Plans and billing entities' taxes by id. May be asked from any thread."""

    def __init__(self) -> None:
        self._plans: _Remembered[PlanTerms] = _Remembered()
        self._taxes: _Remembered[Taxes] = _Remembered()

    def plan(self, db: Session, organization: Organization, plan_id: UUID) -> PlanTerms:
        """A plan as it is now. `organization` must have been read in this transaction, before anything else is."""
        return self._plans.get(plan_id, organization.catalog_version, lambda: load_plans(db, [plan_id])[plan_id])

    def taxes(self, db: Session, organization: Organization, entity_id: UUID) -> Taxes:
        """The taxes of one of the organization's billing entities as they are now, on the same condition."""
        return self._taxes.get(
            entity_id,
            organization.catalog_version,
            lambda: load_entity_taxes(db, [entity_id]).get(entity_id, ()),
        )


class _Remembered(Generic[T]):
    """Values with the version they are of; what was used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[int, T]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: UUID, version: int, load: Callable[[], T]) -> T:
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0] == version:
                self._known.move_to_end(key)
                return known[1]
        value = load()
        with self._lock:
            self._known[key] = version, value
            self._known.move_to_end(key)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return value
