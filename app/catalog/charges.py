"""Charges: the rules of a plan's list of them (metering spec 3.1 to 3.3, 6.7)."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from app.catalog.metrics import metrics_by_id
from app.catalog.taxes import taxes_by_code
from app.core.aggregation import Aggregation
from app.core.charges.combinations import combination_errors
from app.core.charges.pricing import needs_events
from app.core.charges.properties import clean_properties, default_properties
from app.core.charges.usage import SUPPORTED_MODELS, ChargeModel
from app.core.charges.validation import property_errors
from app.errors import NotFound, Problems, invalid
from app.models import BillableMetric, Charge, Plan
from app.validation import Changes, as_uuid, check_one_of, empty

_EDITABLE_IN_USE = frozenset({"id", "invoice_display_name", "properties", "filters", "tax_codes"})
_GROUPING = ("pricing_group_keys", "presentation_group_keys")


class _Draft(NamedTuple):
    """One entry of the list that was sent, beside the charge it changes, if it changes one."""

    charge: Charge | None
    changes: Changes
    metric: BillableMetric

    def value(self, field: str) -> Any:
        """The field as it will be."""
        return self.changes.get(field) if self.charge is None or field in self.changes else getattr(self.charge, field)


def write_charges(
    db: Session, plan: Plan, current: Sequence[Charge], sent: Sequence[Changes], *, in_use: bool, now: datetime
) -> None:
    """Make a plan's charges those that were sent: changed by `id`, made without one, and removed when absent.

    On a plan with subscriptions, what may not change is ignored.

    Raises:
        NotFound: `billable_metrics_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    drafts = _drafts(db, plan.organization_id, current, sent, in_use=in_use)
    problems = Problems()
    for draft in drafts:
        _check(problems, draft)
    problems.check()
    codes = _codes(drafts)
    kept = {draft.charge.id for draft in drafts if draft.charge is not None}
    for charge in current:
        if charge.id not in kept:
            charge.deleted_at = charge.updated_at = now
    db.flush()
    for position, (draft, code) in enumerate(zip(drafts, codes, strict=True)):
        charge = draft.charge or Charge(
            id=uuid4(), organization_id=plan.organization_id, plan_id=plan.id, created_at=now, taxes=[]
        )
        _write(db, charge, draft, code, now)
        charge.position = position
        db.add(charge)
    db.flush()


def _drafts(
    db: Session, organization_id: UUID, current: Sequence[Charge], sent: Sequence[Changes], *, in_use: bool
) -> list[_Draft]:
    by_id = {charge.id: charge for charge in current}
    pairs: list[tuple[Charge | None, Changes]] = []
    for changes in sent:
        known = as_uuid(changes.get("id"))
        charge = by_id.pop(known, None) if known else None
        editable = _EDITABLE_IN_USE if charge is not None and in_use else changes.keys()
        pairs.append((charge, {field: value for field, value in changes.items() if field in editable}))
    wanted = [_metric_id(charge, changes) for charge, changes in pairs]
    metrics = metrics_by_id(db, organization_id, set(wanted))
    if not metrics.keys() >= set(wanted):
        raise NotFound("billable_metrics")
    return [_Draft(charge, changes, metrics[one]) for (charge, changes), one in zip(pairs, wanted, strict=True)]


def _metric_id(charge: Charge | None, changes: Changes) -> UUID:
    if charge is not None and "billable_metric_id" not in changes:
        return charge.billable_metric_id
    metric_id = as_uuid(changes.get("billable_metric_id"))
    if metric_id is None:
        raise NotFound("billable_metrics")
    return metric_id


def _check(problems: Problems, draft: _Draft) -> None:
    model = draft.value("charge_model")
    if empty(model):
        problems.add("charge_model", "value_is_mandatory")
    elif model not in SUPPORTED_MODELS:
        problems.add("charge_model", "value_is_invalid")
    else:
        _check_properties(problems, ChargeModel(model), draft)
    _check_combination(problems, draft, model)


def _check_properties(problems: Problems, model: ChargeModel, draft: _Draft) -> None:
    cleaned = [
        clean_properties(model, _properties(draft, model)),
        *(
            clean_properties(model, one.get("properties") or {}, on_filter=True)
            for one in draft.changes.get("filters") or ()
        ),
    ]
    for properties in cleaned:
        errors = property_errors(model, properties, draft.metric.aggregation_type)
        problems.extend("properties", errors)
        # Usage is not yet measured event by event: a price that looks at single events cannot be billed.
        if not errors and needs_events(model, properties, draft.metric.aggregation_type):
            problems.add("charge_model", "value_is_invalid")


def _check_combination(problems: Problems, draft: _Draft, model: str | None) -> None:
    changes = draft.changes
    check_one_of(problems, changes, "regroup_paid_fees", ("invoice",))
    errors = combination_errors(
        ChargeModel(model) if model in SUPPORTED_MODELS else None,
        Aggregation(draft.metric.aggregation_type),
        recurring=draft.metric.recurring,
        pay_in_advance=bool(changes.get("pay_in_advance")),
        prorated=bool(changes.get("prorated")),
        invoiceable=changes.get("invoiceable") is not False,
        regroup_paid_fees=not empty(changes.get("regroup_paid_fees")),
        min_amount_cents=changes.get("min_amount_cents") or 0,
    )
    for field, codes in errors.items():
        problems.extend(field, codes)


def _properties(draft: _Draft, model: ChargeModel) -> dict[str, Any]:
    """What was sent, else what the charge has as long as its model stays, else the model's default."""
    sent: dict[str, Any] | None = draft.changes.get("properties")
    if sent is not None:
        return sent
    if draft.charge is not None and draft.charge.charge_model == model and "properties" not in draft.changes:
        return draft.charge.properties
    return default_properties(model)


def _codes(drafts: Sequence[_Draft]) -> list[str]:
    """Each charge's code: the one it is given, else its metric's, made unique by a number."""
    given = [draft.value("code") or None for draft in drafts]
    taken = {code for code in given if code}
    if len(taken) < sum(code is not None for code in given):
        raise invalid("code", "value_already_exist")
    codes = []
    for draft, code in zip(drafts, given, strict=True):
        codes.append(code or next(_free(draft.metric.code, taken)))
        taken.add(codes[-1])
    return codes


def _free(code: str, taken: Collection[str]) -> Iterator[str]:
    if code not in taken:
        yield code
    yield from (f"{code}_{number}" for number in count(2) if f"{code}_{number}" not in taken)


def _write(db: Session, charge: Charge, draft: _Draft, code: str, now: datetime) -> None:
    model = ChargeModel(draft.value("charge_model"))
    properties = clean_properties(model, _properties(draft, model))
    charge.code = code
    charge.properties = {key: value for key, value in properties.items() if key not in _GROUPING}
    charge.charge_model = model.value
    charge.billable_metric = draft.metric
    charge.invoice_display_name = draft.value("invoice_display_name")
    if "tax_codes" in draft.changes:
        charge.taxes = taxes_by_code(db, charge.organization_id, draft.changes["tax_codes"] or ())
    charge.updated_at = now
