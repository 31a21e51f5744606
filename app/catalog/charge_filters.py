"""Charge filters: the rules of a charge's list, and what a change of the metric does to it (metering spec 2.9, 3.4)."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.buckets import takes_all
from app.core.charges.properties import clean_properties
from app.core.charges.usage import ChargeModel
from app.errors import Problems
from app.models import BillableMetric, Charge, ChargeFilter
from app.validation import Changes

Values = Mapping[str, Sequence[str]]


class FilterDraft(NamedTuple):
    """A charge filter as it will be: what was sent, beside the filter it changes, if it changes one."""

    filter: ChargeFilter | None
    changes: Changes

    @property
    def values(self) -> dict[str, list[str]]:
        """The values as they will be; without any when none were given."""
        kept = self.filter.values if self.filter is not None else {}
        values: dict[str, list[str]] = self.changes["values"] or {} if "values" in self.changes else kept
        return values

    @property
    def invoice_display_name(self) -> str | None:
        """The name as it will be."""
        kept = self.filter.invoice_display_name if self.filter is not None else None
        name: str | None = self.changes.get("invoice_display_name", kept)
        return name

    def properties(self, model: ChargeModel) -> dict[str, Any]:
        """The properties as they will be stored. A new filter has none unless they are given: it is not free by chance."""
        kept = self.filter.properties if self.filter is not None else {}
        sent = self.changes.get("properties")
        return clean_properties(model, kept if sent is None else sent, on_filter=True)


def draft_list(current: Iterable[ChargeFilter], sent: Sequence[Changes]) -> list[FilterDraft]:
    """The list that was sent. An entry changes the existing filter with the same values, the oldest one first."""
    known: defaultdict[object, deque[ChargeFilter]] = defaultdict(deque)
    for one in sorted(current, key=lambda one: one.number):
        known[identity(one.values)].append(one)
    drafts = []
    for changes in sent:
        same = known[identity(changes.get("values") or {})]
        drafts.append(FilterDraft(same.popleft() if same else None, changes))
    return drafts


def identity(values: Values) -> object:
    """What is the same for filters of the same values, in whatever order they are listed."""
    return frozenset((key, frozenset(ones)) for key, ones in values.items())


def check_values(problems: Problems, values: Values, metric: BillableMetric) -> None:
    """Note what is wrong with a filter's values: they choose from the filters of the metric (metering spec 3.4)."""
    vocabulary = vocabulary_of(metric)
    if not values or not all(values.values()):
        problems.add("values", "value_is_mandatory")
    for key, ones in values.items():
        if key not in vocabulary:
            problems.add("billable_metric_filter", "relation_must_exist")
        if not takes_all(ones) and not set(ones) <= vocabulary.get(key, set()):
            problems.add("values", "value_is_invalid")


def vocabulary_of(metric: BillableMetric) -> dict[str, set[str]]:
    """The values that a metric's filters list, by key."""
    return {one["key"]: set(one["values"]) for one in metric.filters}


def write_list(db: Session, charge: Charge, drafts: Sequence[FilterDraft], now: datetime) -> None:
    """Make a charge's filters those of the drafts, in their order; the others are removed. The charge must be stored."""
    model = ChargeModel(charge.charge_model)
    kept = {draft.filter.id for draft in drafts if draft.filter is not None}
    number = _last_number(db, charge)
    for one in charge.filters:
        if one.id not in kept:
            one.deleted_at = one.updated_at = now
    for position, draft in enumerate(drafts):
        one = draft.filter or ChargeFilter(
            id=uuid4(), organization_id=charge.organization_id, charge_id=charge.id, created_at=now
        )
        if draft.filter is None:
            number += 1
            one.number = number
            db.add(one)
        one.position = position
        one.values = draft.values
        one.properties = draft.properties(model)
        one.invoice_display_name = draft.invoice_display_name
        if draft.filter is None or db.is_modified(one):
            one.updated_at = now
    db.flush()


def has_filters(charge: Charge, drafts: Sequence[FilterDraft]) -> bool:
    """Whether the drafts leave a charge's filters as they are."""
    model = ChargeModel(charge.charge_model)
    return [draft.filter for draft in drafts] == charge.filters and all(
        draft.properties(model) == one.properties and draft.invoice_display_name == one.invoice_display_name
        for draft, one in zip(drafts, charge.filters, strict=True)
    )


def _last_number(db: Session, charge: Charge) -> int:
    query = select(func.max(ChargeFilter.number)).where(
        ChargeFilter.organization_id == charge.organization_id, ChargeFilter.charge_id == charge.id
    )
    return db.scalar(query) or 0


def trim_filters(db: Session, metric: BillableMetric, now: datetime) -> None:
    """Take from the metric's charge filters what its own filters no longer list (metering spec 2.9).

    A key that is gone leaves every filter, and a filter left without a key goes. A value that is gone leaves every list;
    a filter with a list that runs empty could match nothing any more, and goes too.
    """
    vocabulary = vocabulary_of(metric)
    filters = db.scalars(
        select(ChargeFilter)
        .join(Charge, Charge.id == ChargeFilter.charge_id)
        .where(
            Charge.organization_id == metric.organization_id,
            Charge.billable_metric_id == metric.id,
            Charge.deleted_at.is_(None),
            ChargeFilter.deleted_at.is_(None),
        )
    )
    for one in filters:
        values = {
            key: ones if takes_all(ones) else [value for value in ones if value in vocabulary[key]]
            for key, ones in one.values.items()
            if key in vocabulary
        }
        if values == one.values:
            continue
        one.updated_at = now
        if values and all(values.values()):
            one.values = values
        else:
            one.deleted_at = now
