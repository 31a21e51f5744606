"""What a charge was when something was priced with it, so that a fee can be explained after the price has changed.

Thousands of fees are made with the same terms: they are kept once, under an id made of their content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.billing.terms import ChargeTerms
from app.core.aggregation import Aggregation
from app.core.buckets import Router, Values
from app.core.charges.usage import ChargeModel
from app.models import PricedTerms

_json = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_exact = msgspec.json.Decoder(float_hook=Decimal)


_KEPT = (
    "charge_model", "prorated", "properties", "metric_code", "aggregation", "field_name", "recurring",
    "rounding_function", "rounding_precision", "filters",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptFilter:
    """A charge filter: the values it takes, with every stand-in for all values replaced, and its own price."""

    id: UUID
    values: Values
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptTerms:
    """A charge with its metric and its filters, which are oldest first."""

    charge_id: UUID
    charge_model: ChargeModel
    prorated: bool
    properties: Mapping[str, Any]
    metric_code: str
    aggregation: Aggregation
    field_name: str | None
    recurring: bool
    rounding_function: str | None
    rounding_precision: int | None
    filters: tuple[KeptFilter, ...]

    @classmethod
    def of(cls, charge: ChargeTerms) -> "KeptTerms":
        """Those of a charge as it is."""
        return cls(
            charge_id=charge.id,
            charge_model=ChargeModel(charge.charge_model),
            prorated=charge.prorated,
            properties=charge.properties,
            metric_code=charge.metric_code,
            aggregation=charge.aggregation,
            field_name=charge.field_name,
            recurring=charge.recurring,
            rounding_function=charge.rounding_function,
            rounding_precision=charge.rounding_precision,
            filters=tuple(KeptFilter(one.id, one.values, one.properties) for one in charge.filters),
        )

    @classmethod
    def read(cls, row: PricedTerms) -> "KeptTerms":
        """Those that have been kept."""
        given = dict(row.terms)
        filters = tuple(KeptFilter(UUID(one["id"]), one["values"], one["properties"]) for one in given.pop("filters"))
        model, aggregation = ChargeModel(given.pop("charge_model")), Aggregation(given.pop("aggregation"))
        return cls(charge_id=row.charge_id, charge_model=model, aggregation=aggregation, filters=filters, **given)

    @property
    def text(self) -> str:
        """As JSON, the same for the same terms."""
        return _json.encode({name: getattr(self, name) for name in _KEPT}).decode()

    @property
    def id(self) -> UUID:
        """What they are kept under."""
        return uuid5(self.charge_id, self.text)

    @property
    def router(self) -> Router:
        """Which filter an event belongs to."""
        return Router([one.values for one in self.filters])

    def place_of(self, filter_id: UUID | None) -> int | None:
        """The position of a filter; None for the default bucket."""
        return None if filter_id is None else [one.id for one in self.filters].index(filter_id)

    def properties_of(self, filter_id: UUID | None) -> Mapping[str, Any]:
        """What the bucket of a filter, or the default one, is priced with."""
        place = self.place_of(filter_id)
        return self.properties if place is None else self.filters[place].properties


def keep(db: Session, organization_id: UUID, by_id: Mapping[UUID, KeptTerms], now: datetime) -> None:
    """Keep terms under their ids, those that are not there yet."""
    known = set(db.scalars(select(PricedTerms.id).where(PricedTerms.id.in_(list(by_id)))))
    rows = [
        {
            "id": id_,
            "organization_id": organization_id,
            "charge_id": by_id[id_].charge_id,
            "terms": _exact.decode(by_id[id_].text),
            "created_at": now,
        }
        for id_ in sorted(by_id.keys() - known)  # in one order everywhere: two closes may keep the same ones at once
    ]
    if rows:
        db.execute(insert(PricedTerms).on_conflict_do_nothing(), rows)


def find_terms(db: Session, organization_id: UUID, terms_id: UUID | None) -> KeptTerms | None:
    """The terms kept under an id."""
    if terms_id is None:
        return None
    row = db.scalar(
        select(PricedTerms).where(PricedTerms.organization_id == organization_id, PricedTerms.id == terms_id)
    )
    return None if row is None else KeptTerms.read(row)
