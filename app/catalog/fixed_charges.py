"""Fixed charges: the rules of a plan's list of them (metering spec 3.14, billing spec 2.6, 1.11)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.strategy_options import _AbstractLoad

from app.catalog.add_ons import hold_add_ons
from app.catalog.codes import list_codes
from app.catalog.fixed_charge_copies import Former, cascade
from app.catalog.taxes import taxes_by_code
from app.core.charges.fixed_charges import FIXED_CHARGE_MODELS, fixed_charge_errors
from app.core.charges.pricing import compile_price
from app.core.charges.properties import clean_properties, default_properties
from app.core.charges.usage import BucketUsage, ChargeModel, Portion, Waterfall
from app.core.charges.validation import property_errors
from app.core.money import ZERO, decimal_places, to_minor
from app.customers.fixed_units import NewUnits, change_units
from app.errors import NotFound, Problems
from app.models import AddOn, FixedCharge, Plan
from app.validation import Changes, as_uuid, check_code, empty

FIXED_CHARGE_PARTS: tuple[_AbstractLoad, ...] = (selectinload(FixedCharge.add_on), selectinload(FixedCharge.taxes))
"""What must be loaded with a fixed charge to show it whole."""

MOST_UNITS = 10**15
UNIT_PLACES = 15
LARGEST_AMOUNT = 10**15
"""The most that the units of a fixed charge may come to in a period, in minor units."""

_DEFAULTS: dict[str, Any] = {"pay_in_advance": False, "prorated": False, "units": ZERO}
_EDITABLE_IN_USE = frozenset(
    {"id", "invoice_display_name", "units", "apply_units_immediately", "properties", "tax_codes"}
)


class _AddOns:
    """The add-ons that are named, held until the transaction ends."""

    def __init__(self, db: Session, organization_id: UUID, sent: Sequence[Changes]):
        ids = {known for changes in sent if (known := as_uuid(changes.get("add_on_id"))) is not None}
        codes = {code for changes in sent if (code := changes.get("add_on_code"))}
        found = hold_add_ons(db, organization_id, ids, codes)
        self._by_id = {one.id: one for one in found}
        self._by_code = {one.code: one for one in found}

    def named(self, changes: Changes) -> AddOn | None:
        """The one that is named by its id, else by its code."""
        if not empty(changes.get("add_on_id")):
            known = as_uuid(changes["add_on_id"])
            return None if known is None else self._by_id.get(known)
        return self._by_code.get(changes.get("add_on_code") or "")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A fixed charge as it will be: what was sent, beside the one it changes, if it changes one."""

    charge: FixedCharge | None
    changes: Changes
    add_on: AddOn

    def value(self, name: str) -> Any:
        """The field as it will be."""
        kept = getattr(self.charge, name) if self.charge is not None else None
        value = self.changes.get(name) if self.charge is None or name in self.changes else kept
        return _DEFAULTS.get(name) if empty(value) else value

    def properties(self, model: ChargeModel) -> dict[str, Any]:
        """What was sent, else what there is as long as the model stays, else the model's default; as it is stored."""
        sent: dict[str, Any] | None = self.changes.get("properties")
        charge = self.charge
        if sent is None and charge is not None and charge.charge_model == model and "properties" not in self.changes:
            sent = charge.properties
        cleaned = clean_properties(model, default_properties(model) if sent is None else sent)
        return {key: value for key, value in cleaned.items() if key in default_properties(model)}

    @property
    def sets_units(self) -> bool:
        """Whether subscriptions may have to follow: new units, or those of the plan at once."""
        if self.charge is None:
            return True
        at_once = "units" in self.changes and self.changes.get("apply_units_immediately") is True
        return at_once or self.value("units") != self.charge.units


def fixed_charges_of(plan: Plan) -> Select[FixedCharge]:
    """The query of a plan's fixed charges in their order, whole."""
    return (
        select(FixedCharge)
        .where(
            FixedCharge.organization_id == plan.organization_id,
            FixedCharge.plan_id == plan.id,
            FixedCharge.deleted_at.is_(None),
        )
        .order_by(FixedCharge.position, FixedCharge.id)
        .options(*FIXED_CHARGE_PARTS)
    )


def find_fixed_charge(db: Session, plan: Plan, code: str) -> FixedCharge:
    """The fixed charge of a plan with a code, whole and as it is stored now.

    Raises:
        NotFound: `fixed_charge_not_found`.
    """
    query = fixed_charges_of(plan).where(FixedCharge.code == code).execution_options(populate_existing=True)
    charge = db.scalars(query).one_or_none()
    if charge is None:
        raise NotFound("fixed_charge")
    return charge


def write_fixed_charges(
    db: Session, plan: Plan, sent: Sequence[Changes], *, in_use: bool, now: datetime, cascades: bool = False
) -> None:
    """Make a plan's fixed charges those that were sent: changed by `id`, made without one, and removed when absent.

    On a plan with subscriptions, what may not change is ignored, and the subscriptions get the new units; what is due in
    advance for them at once is invoiced. With `cascades`, copies of the plan follow. The plan must be locked.

    Raises:
        NotFound: `add_ons_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    add_ons = _AddOns(db, plan.organization_id, sent)
    current = db.scalars(fixed_charges_of(plan).execution_options(populate_existing=True)).all()
    by_id = {charge.id: charge for charge in current}
    drafts = []
    for changes in sent:
        known = as_uuid(changes.get("id"))
        charge = by_id.pop(known, None) if known else None
        drafts.append(_draft(charge, changes, add_ons, in_use=in_use, missing="add_ons"))
    codes = _checked(drafts, plan.amount_currency, taken=())
    for charge in by_id.values():
        _remove(plan, charge, now)
    for draft, code in zip(drafts, codes, strict=True):
        if draft.charge is not None and draft.charge.code != code:
            draft.charge.code = str(draft.charge.id)  # out of the way: codes may change hands
    db.flush()
    numbered = zip(drafts, codes, range(len(drafts)), strict=True)
    _write_all(db, plan, numbered, list(by_id), in_use=in_use, now=now, cascades=cascades)


def write_fixed_charge(
    db: Session,
    plan: Plan,
    charge: FixedCharge | None,
    changes: Changes,
    *,
    in_use: bool,
    now: datetime,
    cascades: bool = False,
) -> FixedCharge:
    """Change one fixed charge of a plan, or add one to its end. As `write_fixed_charges`, but `add_on_not_found`."""
    draft = _draft(charge, changes, _AddOns(db, plan.organization_id, [changes]), in_use=in_use, missing="add_on")
    others = fixed_charges_of(plan)
    if charge is not None:
        others = others.where(FixedCharge.id != charge.id)
    siblings = db.execute(others.with_only_columns(FixedCharge.code, FixedCharge.position)).all()
    (code,) = _checked([draft], plan.amount_currency, taken=[code for code, _ in siblings])
    last = max((position for _, position in siblings), default=-1)
    position = last + 1 if charge is None else charge.position
    plan.updated_at = now
    _write_all(db, plan, [(draft, code, position)], (), in_use=in_use, now=now, cascades=cascades)
    return find_fixed_charge(db, plan, code)


def remove_fixed_charge(db: Session, plan: Plan, charge: FixedCharge, now: datetime, *, cascades: bool = False) -> None:
    """Remove a fixed charge of a plan, with `cascades` its copies too: what has not been billed of it is not billed any
    more."""
    _remove(plan, charge, now)
    if cascades:
        cascade(db, plan, (), {}, [charge.id], now, at_once={})


def check_units(problems: Problems, units: object, charge: FixedCharge, currency: str) -> None:
    """Note what is wrong with a number of units that a subscription is to have of a fixed charge."""
    model = ChargeModel(charge.charge_model)
    _check_units(problems, units, model, charge.properties, currency, prorated=charge.prorated)


def _remove(plan: Plan, charge: FixedCharge, now: datetime) -> None:
    charge.deleted_at = charge.updated_at = plan.updated_at = now


def _draft(charge: FixedCharge | None, changes: Changes, add_ons: _AddOns, *, in_use: bool, missing: str) -> _Draft:
    if charge is not None and in_use:
        changes = {name: value for name, value in changes.items() if name in _EDITABLE_IN_USE}
    if charge is not None and "add_on_id" not in changes and "add_on_code" not in changes:
        return _Draft(charge, changes, charge.add_on)
    add_on = add_ons.named(changes)
    if add_on is None:
        raise NotFound(missing)
    return _Draft(charge, changes, add_on)


def _checked(drafts: Sequence[_Draft], currency: str, taken: Collection[str]) -> list[str]:
    """Refuse what is wrong with the drafts; gives the code of each. The `taken` codes are those of other fixed charges."""
    problems = Problems()
    for draft in drafts:
        check_code(problems, draft.changes)
        model = draft.value("charge_model")
        if empty(model):
            problems.add("charge_model", "value_is_mandatory")
        elif model not in FIXED_CHARGE_MODELS:
            problems.add("charge_model", "value_is_invalid")
        else:
            _check_priced(problems, draft, ChargeModel(model), currency)
    problems.check()
    return list_codes([draft.value("code") for draft in drafts], [draft.add_on.code for draft in drafts], taken)


def _check_priced(problems: Problems, draft: _Draft, model: ChargeModel, currency: str) -> None:
    properties, prorated = draft.properties(model), draft.value("prorated")
    combined = fixed_charge_errors(model, pay_in_advance=draft.value("pay_in_advance"), prorated=prorated)
    for name, codes in combined.items():
        problems.extend(name, codes)
    broken = property_errors(model, properties)
    problems.extend("properties", broken)
    if not broken:
        _check_units(problems, draft.value("units"), model, properties, currency, prorated=prorated)


def _check_units(
    problems: Problems,
    units: object,
    model: ChargeModel,
    properties: dict[str, Any],
    currency: str,
    *,
    prorated: bool,
) -> None:
    """A number that is not negative, can be kept as it is, and has a price that an invoice can hold."""
    if not isinstance(units, Decimal) or not units.is_finite() or not 0 <= units < MOST_UNITS:
        problems.add("units", "value_is_out_of_range")
    elif decimal_places(units.normalize()) > UNIT_PLACES:
        problems.add("units", "value_is_invalid")
    else:
        whole = Waterfall((Portion(units, 1),), 1)
        price = compile_price(model, properties, prorated=prorated)
        if to_minor(price(BucketUsage(units, 0, waterfall=whole)).amount, currency) > LARGEST_AMOUNT:
            problems.add("units", "value_is_out_of_range")


def _write_all(
    db: Session,
    plan: Plan,
    drafts: Iterable[tuple[_Draft, str, int]],
    removed: Sequence[UUID],
    *,
    in_use: bool,
    now: datetime,
    cascades: bool,
) -> None:
    """Write drafts with their codes and positions, and give new units to the subscriptions of the plan, and of its copies
    where these follow."""
    units: dict[UUID, list[NewUnits]] = {plan.id: []}
    at_once: dict[UUID, bool] = {}
    new: list[FixedCharge] = []
    changed: dict[UUID, tuple[Former, FixedCharge]] = {}
    for draft, code, position in drafts:
        sets_units, former = draft.sets_units, None if draft.charge is None else Former.of(draft.charge)
        charge = _write(db, plan, draft, code, position, now)
        if former is None:
            new.append(charge)
        else:
            changed[charge.id] = former, charge
        if sets_units:
            at_once[charge.id] = draft.changes.get("apply_units_immediately") is True
            units[plan.id].append(NewUnits(charge.root_id, charge.units, charge.pay_in_advance, at_once[charge.id]))
    db.flush()
    db.expire(plan, ["fixed_charges"])
    if cascades:
        units |= cascade(db, plan, new, changed, removed, now, at_once=at_once)
    if in_use and any(units.values()):
        change_units(db, plan.organization_id, units, now)


def _write(db: Session, plan: Plan, draft: _Draft, code: str, position: int, now: datetime) -> FixedCharge:
    model = ChargeModel(draft.value("charge_model"))
    charge = draft.charge or FixedCharge(
        id=uuid4(), organization_id=plan.organization_id, plan_id=plan.id, created_at=now, taxes=[]
    )
    charge.properties = draft.properties(model)
    charge.code = code
    charge.position = position
    charge.charge_model = model.value
    charge.add_on = draft.add_on
    charge.invoice_display_name = draft.value("invoice_display_name")
    for name in _DEFAULTS:
        setattr(charge, name, draft.value(name))
    if "tax_codes" in draft.changes:
        charge.taxes = taxes_by_code(db, charge.organization_id, draft.changes["tax_codes"] or ())
    charge.updated_at = now
    db.add(charge)
    return charge
