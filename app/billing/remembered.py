"""Price books kept from one request to the next, for as long as the organization's catalog stays the same.

Reading a plan with its charges, filters and taxes takes several queries and compiles every price; a dashboard asks for
current usage every few seconds.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.billing.book import load_entity_taxes, load_plans
from app.billing.terms import PlanTerms, Taxes
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
        return self.plans(db, organization, [plan_id])[plan_id]

    def plans(self, db: Session, organization: Organization, plan_ids: Collection[UUID]) -> dict[UUID, PlanTerms]:
        """Several plans, on the same condition; those that are not known are read together."""
        return self._plans.get(plan_ids, organization.catalog_version, lambda unknown: load_plans(db, unknown))

    def taxes(self, db: Session, organization: Organization, entity_id: UUID) -> Taxes:
        """The taxes of one of the organization's billing entities as they are now, on the same condition."""
        return self.all_taxes(db, organization, [entity_id])[entity_id]

    def all_taxes(self, db: Session, organization: Organization, entity_ids: Collection[UUID]) -> dict[UUID, Taxes]:
        """Those of several, on the same condition; what is not known is read together."""

        def load(unknown: Collection[UUID]) -> dict[UUID, Taxes]:
            return {**dict.fromkeys(unknown, ()), **load_entity_taxes(db, unknown)}

        return self._taxes.get(entity_ids, organization.catalog_version, load)


class _Remembered(Generic[T]):
    """Values with the version they are of; what was used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[int, T]] = OrderedDict()
        self._lock = Lock()

    def get(
        self, keys: Collection[UUID], version: int, load: Callable[[Collection[UUID]], Mapping[UUID, T]]
    ) -> dict[UUID, T]:
        values: dict[UUID, T] = {}
        with self._lock:
            for key in keys:
                known = self._known.get(key)
                if known is not None and known[0] == version:
                    self._known.move_to_end(key)
                    values[key] = known[1]
        unknown = [key for key in keys if key not in values]
        if not unknown:
            return values
        loaded = load(unknown)
        with self._lock:
            for key, value in loaded.items():
                self._known[key] = version, value
                self._known.move_to_end(key)
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return {**values, **loaded}
