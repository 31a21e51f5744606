"""Charges: the rules of a plan's list of them (metering spec 3.1 to 3.3, 6.7)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, selectinload

from app.catalog.changes import billed_by_event
from app.catalog.charge_filters import FilterDraft, check_values, draft_list, has_filters, write_list
from app.catalog.codes import list_codes
from app.catalog.dimensions import refresh_dimensions
from app.catalog.metrics import lock_metrics
from app.catalog.pricing_units import check_conversion_rate, pricing_units_by_code
from app.catalog.taxes import taxes_by_code
from app.core.aggregation import Aggregation
from app.core.charges.combinations import combination_errors
from app.core.charges.properties import clean_properties, default_properties
from app.core.charges.usage import SUPPORTED_MODELS, ChargeModel
from app.core.charges.validation import property_errors
from app.errors import NotFound, Problems
from app.models import BillableMetric, Charge, ChargeFilter, Plan, PricingUnit
from app.validation import Changes, as_uuid, check_code, check_one_of, empty

CHARGE_PARTS = (
    selectinload(Charge.billable_metric),
    selectinload(Charge.pricing_unit),
    selectinload(Charge.taxes),
    selectinload(Charge.filters),
)
"""What must be loaded with a charge to show it whole."""

Metrics = Mapping[UUID | None, BillableMetric]
"""Locked metrics by their ids."""
PricingUnits = Mapping[str, PricingUnit]
"""Pricing units by their codes, which are there for as long as the transaction."""

_DEFAULTS: dict[str, Any] = {
    "pay_in_advance": False, "prorated": False, "invoiceable": True, "regroup_paid_fees": None, "min_amount_cents": 0,
    "accepts_target_wallet": False,
}  # fmt: skip
_IN_FORCE = (
    "prorated", "min_amount_cents", "accepts_target_wallet", "pay_in_advance", "invoiceable", "regroup_paid_fees",
)  # fmt: skip
"""Of these, what billing goes by. The others are checked, and stay as if they had not been sent."""
_EDITABLE_IN_USE = frozenset(
    {
        "id",
        "invoice_display_name",
        "properties",
        "filters",
        "tax_codes",
        "accepts_target_wallet",
        "applied_pricing_unit",
    }
)
_OVERRIDABLE = frozenset(
    {
        "charge_model",
        "invoice_display_name",
        "min_amount_cents",
        "properties",
        "filters",
        "tax_codes",
        "applied_pricing_unit",
    }
)
"""What of a charge one subscription can have otherwise than its plan (billing spec 1.11)."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A charge as it will be: what was sent, beside the charge it changes, if it changes one, its pricing unit and its
    filters."""

    charge: Charge | None
    changes: Changes
    metric: BillableMetric
    pricing_unit: PricingUnit | None = None
    filters: Sequence[FilterDraft] = field(default=())

    def value(self, name: str) -> Any:
        """The field as it will be."""
        kept = getattr(self.charge, name) if self.charge is not None else None
        value = self.changes.get(name) if self.charge is None or name in self.changes else kept
        return _DEFAULTS.get(name) if empty(value) else value

    def stored(self, name: str) -> Any:
        """The field as it is stored: what is not in force has its default."""
        return self.value(name) if name in _IN_FORCE or name not in _DEFAULTS else _DEFAULTS[name]

    def properties(self, model: ChargeModel) -> dict[str, Any]:
        """What was sent, else what the charge has as long as its model stays, else the model's default; as it is stored."""
        sent: dict[str, Any] | None = self.changes.get("properties")
        charge = self.charge
        if sent is None and charge is not None and charge.charge_model == model and "properties" not in self.changes:
            sent = charge.properties
        return clean_properties(model, default_properties(model) if sent is None else sent)

    @property
    def conversion_rate(self) -> Decimal | None:
        """What its pricing unit is worth, which is the one thing of it that may change; None where it has none."""
        sent: Changes = self.changes.get("applied_pricing_unit") or {}
        kept = self.charge.conversion_rate if self.charge is not None else None
        rate: Decimal | None = sent.get("conversion_rate", kept)
        return rate if self.pricing_unit is not None else None


def charges_of(plan: Plan) -> Select[Charge]:
    """The query of a plan's charges in their order, whole."""
    return (
        select(Charge)
        .where(Charge.organization_id == plan.organization_id, Charge.plan_id == plan.id, Charge.deleted_at.is_(None))
        .order_by(Charge.position, Charge.id)
        .options(*CHARGE_PARTS)
    )


def find_charge(db: Session, plan: Plan, code: str) -> Charge:
    """The charge of a plan with a code, whole and as it is stored now.

    Raises:
        NotFound: `charge_not_found`.
    """
    query = charges_of(plan).where(Charge.code == code).execution_options(populate_existing=True)
    charge = db.scalars(query).one_or_none()
    if charge is None:
        raise NotFound("charge")
    return charge


def write_charges(db: Session, plan: Plan, sent: Sequence[Changes], *, in_use: bool, now: datetime) -> None:
    """Make a plan's charges those that were sent: changed by `id`, made without one, and removed when absent.

    On a plan with subscriptions, what may not change is ignored. The plan must be locked. The metrics are locked from
    here on: nothing may be measured after this in the same transaction, for that may wait for them.

    Raises:
        NotFound: `billable_metrics_not_found`, `pricing_unit_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    used = db.scalars(charges_of(plan).with_only_columns(Charge.billable_metric_id))
    metrics = lock_metrics(db, plan.organization_id, {*used, *_metric_ids(sent)})
    current = db.scalars(charges_of(plan).execution_options(populate_existing=True)).all()
    by_id = {charge.id: charge for charge in current}
    pairs = []
    for changes in sent:
        known = as_uuid(changes.get("id"))
        pairs.append((by_id.pop(known, None) if known else None, changes))
    units = _pricing_units(db, plan, [changes for charge, changes in pairs if charge is None])
    drafts = [
        _draft(charge, changes, metrics, units, _editable(charge, in_use=in_use), missing="billable_metrics")
        for charge, changes in pairs
    ]
    codes = _checked(drafts, taken=())
    for charge in by_id.values():
        _remove(charge, now)
    for draft, code in zip(drafts, codes, strict=True):
        if draft.charge is not None and draft.charge.code != code:
            draft.charge.code = str(draft.charge.id)  # out of the way: codes may change hands
    db.flush()
    for position, (draft, code) in enumerate(zip(drafts, codes, strict=True)):
        _write(db, plan, draft, code, position, now)
    refresh_dimensions(db, metrics.values())


def write_charge(
    db: Session, plan: Plan, charge: Charge | None, changes: Changes, *, in_use: bool, now: datetime
) -> Charge:
    """Change one charge of a plan, or add one to its end. As `write_charges`, but `billable_metric_not_found`."""
    used = [charge.billable_metric_id] if charge is not None else []
    metrics = lock_metrics(db, plan.organization_id, {*used, *_metric_ids([changes])})
    if charge is not None:
        charge = find_charge(db, plan, charge.code)
    units = _pricing_units(db, plan, [changes] if charge is None else [])
    draft = _draft(charge, changes, metrics, units, _editable(charge, in_use=in_use), missing="billable_metric")
    others = charges_of(plan).where(Charge.id != charge.id) if charge is not None else charges_of(plan)
    siblings = db.execute(others.with_only_columns(Charge.code, Charge.position)).all()
    (code,) = _checked([draft], taken=[code for code, _ in siblings])
    last = max((position for _, position in siblings), default=-1)
    written = _write(db, plan, draft, code, last + 1 if charge is None else charge.position, now)
    refresh_dimensions(db, metrics.values())
    plan.updated_at = now
    db.flush()
    return find_charge(db, plan, written.code)


def override_charges(db: Session, plan: Plan, sent: Sequence[Changes], now: datetime) -> None:
    """Change charges of the plan of one subscription, as far as these can be its own. The others stay as they are.

    Each is named by its `id` or that of the charge it is a copy of, else by its `code`. The metrics are locked from here
    on, as by `write_charges`.

    Raises:
        NotFound: `charge_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    charges = db.scalars(charges_of(plan)).all()
    metrics = lock_metrics(db, plan.organization_id, {_named(charges, one).billable_metric_id for one in sent})
    charges = db.scalars(charges_of(plan).execution_options(populate_existing=True)).all()
    named = [_named(charges, changes) for changes in sent]
    drafts = [
        _draft(charge, changes, metrics, {}, _OVERRIDABLE, missing="billable_metric")
        for charge, changes in zip(named, sent, strict=True)
    ]
    _checked(drafts, taken=())
    for draft, charge in zip(drafts, named, strict=True):
        _write(db, plan, draft, charge.code, charge.position, now)
    refresh_dimensions(db, metrics.values())


def has_charges(plan: Plan, sent: Sequence[Changes]) -> bool:
    """Whether `override_charges` would find these charges and leave them as they are. The plan must be loaded whole."""
    for changes in sent:
        try:
            charge = _named(plan.charges, changes)
        except NotFound:
            return False
        draft = _draft(
            charge, changes, {charge.billable_metric_id: charge.billable_metric}, {}, _OVERRIDABLE, missing=""
        )
        model = draft.value("charge_model")
        if model not in SUPPORTED_MODELS:
            return False
        fields = ("charge_model", "invoice_display_name", "min_amount_cents")
        kept = [getattr(charge, name) for name in fields]
        if [draft.stored(name) for name in fields] != kept or draft.properties(model) != charge.properties:
            return False
        if draft.conversion_rate != charge.conversion_rate or not has_filters(charge, draft.filters):
            return False
        if "tax_codes" in changes and {tax.code for tax in charge.taxes} != set(changes["tax_codes"] or ()):
            return False
    return True


def _named(charges: Iterable[Charge], changes: Changes) -> Charge:
    wanted, code = as_uuid(changes.get("id")), changes.get("code")
    for charge in charges:
        if (wanted in {charge.id, charge.parent_id}) if wanted is not None else (charge.code == code):
            return charge
    raise NotFound("charge")


def remove_charge(db: Session, plan: Plan, charge: Charge, now: datetime) -> None:
    """Remove a charge of a plan: its usage of the period is not billed (metering spec 6.8)."""
    metrics, charge = _locked(db, plan, charge)
    _remove(charge, now)
    _touch(db, plan, metrics, now)


def find_filter(charge: Charge, filter_id: str) -> ChargeFilter:
    """The filter of a charge with an id, be it that of the filter it is a copy of.

    Raises:
        NotFound: `charge_filter_not_found`.
    """
    wanted = as_uuid(filter_id)
    for one in charge.filters:
        if wanted is not None and wanted in {one.id, one.parent_id}:
            return one
    raise NotFound("charge_filter")


def write_filter(
    db: Session, plan: Plan, charge: Charge, filter_id: str | None, changes: Changes, now: datetime
) -> ChargeFilter:
    """Change one filter of a charge, or add one to its end.

    Raises:
        NotFound: `charge_filter_not_found`.
        Invalid: a field breaks a rule.
    """
    metrics, charge = _locked(db, plan, charge)
    changed = find_filter(charge, filter_id) if filter_id is not None else None
    filters = [FilterDraft(one, changes if one is changed else {}) for one in charge.filters]
    if changed is None:
        filters.append(FilterDraft(None, changes))
    problems = Problems()
    _check_properties(
        problems,
        ChargeModel(charge.charge_model),
        _Draft(charge, {}, charge.billable_metric, charge.pricing_unit, filters),
    )
    problems.check()
    write_list(db, charge, filters, now)
    charge.updated_at = now
    _touch(db, plan, metrics, now)
    written = find_charge(db, plan, charge.code).filters
    return written[-1] if changed is None else next(one for one in written if one.id == changed.id)


def remove_filter(db: Session, plan: Plan, charge: Charge, filter_id: str, now: datetime) -> ChargeFilter:
    """Remove a filter of a charge: what it took falls to the remaining buckets.

    Raises:
        NotFound: `charge_filter_not_found`.
    """
    metrics, charge = _locked(db, plan, charge)
    removed = find_filter(charge, filter_id)
    write_list(db, charge, [FilterDraft(one, {}) for one in charge.filters if one is not removed], now)
    charge.updated_at = now
    _touch(db, plan, metrics, now)
    return removed


def _locked(db: Session, plan: Plan, charge: Charge) -> tuple[Metrics, Charge]:
    metrics = lock_metrics(db, plan.organization_id, {charge.billable_metric_id})
    return metrics, find_charge(db, plan, charge.code)


def _touch(db: Session, plan: Plan, metrics: Metrics, now: datetime) -> None:
    plan.updated_at = now
    refresh_dimensions(db, metrics.values())
    db.flush()


def _metric_ids(sent: Iterable[Changes]) -> set[UUID]:
    """The metrics that are named."""
    return {known for changes in sent if (known := as_uuid(changes.get("billable_metric_id"))) is not None}


def _pricing_units(db: Session, plan: Plan, made: Iterable[Changes]) -> PricingUnits:
    """The pricing units that new charges name."""
    codes = {code for changes in made if not empty(code := _unit_code(changes))}
    return pricing_units_by_code(db, plan.organization_id, codes)


def _unit_code(changes: Changes) -> Any:
    return (changes.get("applied_pricing_unit") or {}).get("code")


def _editable(charge: Charge | None, *, in_use: bool) -> Collection[str] | None:
    """What may change of a charge that has been there on a plan in use; None where everything may."""
    return _EDITABLE_IN_USE if in_use and charge is not None else None


def _draft(
    charge: Charge | None,
    changes: Changes,
    metrics: Metrics,
    units: PricingUnits,
    editable: Collection[str] | None,
    missing: str,
) -> _Draft:
    if editable is not None:
        changes = {name: value for name, value in changes.items() if name in editable}
    metric_id = charge.billable_metric_id if charge is not None else None
    if charge is None or "billable_metric_id" in changes:
        metric_id = as_uuid(changes.get("billable_metric_id"))
    if metric_id not in metrics:
        raise NotFound(missing)
    current = charge.filters if charge is not None else []
    filters = [FilterDraft(one, {}) for one in current]
    if "filters" in changes:
        filters = draft_list(current, changes["filters"] or ())
    unit = charge.pricing_unit if charge is not None else units.get(_unit_code(changes))
    return _Draft(charge, changes, metrics[metric_id], unit, filters)


def _checked(drafts: Sequence[_Draft], taken: Collection[str]) -> list[str]:
    """Refuse what is wrong with the drafts; gives the code of each. The `taken` codes are those of other charges."""
    problems = Problems()
    for draft in drafts:
        _check(problems, draft)
    problems.check()
    return list_codes([draft.value("code") for draft in drafts], [draft.metric.code for draft in drafts], taken)


def _check(problems: Problems, draft: _Draft) -> None:
    check_code(problems, draft.changes)
    model = draft.value("charge_model")
    if empty(model):
        problems.add("charge_model", "value_is_mandatory")
    elif model not in SUPPORTED_MODELS:
        problems.add("charge_model", "value_is_invalid")
    else:
        _check_properties(problems, ChargeModel(model), draft)
    _check_combination(problems, draft, model)
    _check_pricing_unit(problems, draft)


def _check_pricing_unit(problems: Problems, draft: _Draft) -> None:
    if draft.pricing_unit is None:
        if draft.charge is None and draft.changes.get("applied_pricing_unit") is not None:
            problems.add("applied_pricing_unit", "value_is_mandatory")
    else:
        check_conversion_rate(problems, draft.conversion_rate)


def _check_properties(problems: Problems, model: ChargeModel, draft: _Draft) -> None:
    """Note what is wrong with the properties of a charge and of its filters, and with what the filters take."""
    aggregation = draft.metric.aggregation_type
    for properties in (draft.properties(model), *(one.properties(model) for one in draft.filters)):
        problems.extend("properties", property_errors(model, properties, aggregation))
    for one in draft.filters:
        check_values(problems, one.values, draft.metric)


def _check_combination(problems: Problems, draft: _Draft, model: str | None) -> None:
    check_one_of(problems, draft.changes, "regroup_paid_fees", ("invoice",))
    errors = combination_errors(
        ChargeModel(model) if model in SUPPORTED_MODELS else None,
        Aggregation(draft.metric.aggregation_type),
        recurring=draft.metric.recurring,
        pay_in_advance=draft.value("pay_in_advance"),
        prorated=draft.value("prorated"),
        invoiceable=draft.value("invoiceable"),
        regroup_paid_fees=draft.value("regroup_paid_fees") is not None,
        min_amount_cents=draft.value("min_amount_cents"),
    )
    for name, codes in errors.items():
        problems.extend(name, codes)


def _write(db: Session, plan: Plan, draft: _Draft, code: str, position: int, now: datetime) -> Charge:
    model = ChargeModel(draft.value("charge_model"))
    charge = draft.charge or Charge(
        id=uuid4(), organization_id=plan.organization_id, plan_id=plan.id, created_at=now, taxes=[], filters=[]
    )
    charge.properties = draft.properties(model)
    for name in _DEFAULTS:
        setattr(charge, name, draft.stored(name))
    charge.code = code
    charge.position = position
    charge.charge_model = model.value
    charge.billable_metric = draft.metric
    charge.pricing_unit, charge.conversion_rate = draft.pricing_unit, draft.conversion_rate
    charge.invoice_display_name = draft.value("invoice_display_name")
    if "tax_codes" in draft.changes:
        charge.taxes = taxes_by_code(db, charge.organization_id, draft.changes["tax_codes"] or ())
    charge.updated_at = now
    if charge.pay_in_advance:
        billed_by_event(db, charge.organization_id)
    db.add(charge)
    db.flush()
    write_list(db, charge, draft.filters, now)
    return charge


def _remove(charge: Charge, now: datetime) -> None:
    charge.deleted_at = charge.updated_at = now
    for one in charge.filters:
        one.deleted_at = one.updated_at = now
