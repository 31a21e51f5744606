"""The price book: plans with everything that pricing needs of them, loaded set-wise and made ready to price with."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Select, Table, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from app.billing.terms import (
    AdvanceTerms,
    AppliedTax,
    ChargeFilterTerms,
    ChargeTerms,
    CommitmentTerms,
    FixedChargeTerms,
    PlanTerms,
    PricingUnitTerms,
    TaxBook,
    Taxes,
)
from app.core.aggregation import Aggregation
from app.core.buckets import Splitter, expanded
from app.core.charges.instant_estimates import INSTANT_MODELS, compile_instant
from app.core.charges.percentage import Percentage
from app.core.charges.pricing import compile_price, needs_events
from app.core.charges.properties import group_keys
from app.core.charges.usage import ChargeModel, PriceFunction
from app.models import (
    Base,
    BillableMetric,
    Charge,
    ChargeFilter,
    Customer,
    FixedCharge,
    MinimumCommitment,
    Plan,
    PricingUnit,
    Tax,
    among,
)
from app.models.catalog import billing_entity_taxes, charge_taxes, commitment_taxes, live_tax, plan_taxes

Row = TypeVar("Row", Charge, ChargeFilter)

_json = msgspec.json.Encoder(order="sorted")


def load_plans(db: Session, plan_ids: Iterable[UUID]) -> dict[UUID, PlanTerms]:
    """The plans with these ids, in a fixed number of queries: subscriptions may all have plans of their own."""
    plans = {plan.id: plan for plan in db.scalars(select(Plan).where(among(Plan.id, set(plan_ids))))}
    charges = {charge.id: charge for charge in db.scalars(_live(Charge, Charge.plan_id, plans, Charge.position))}
    filters = db.scalars(_live(ChargeFilter, ChargeFilter.charge_id, charges, ChargeFilter.position))
    metric_ids = {charge.billable_metric_id for charge in charges.values()}
    metrics = {one.id: one for one in db.scalars(select(BillableMetric).where(among(BillableMetric.id, metric_ids)))}
    unit_ids = {charge.pricing_unit_id for charge in charges.values() if charge.pricing_unit_id is not None}
    units: dict[UUID | None, PricingUnit] = {
        one.id: one for one in db.scalars(select(PricingUnit).where(among(PricingUnit.id, unit_ids)))
    }
    for charge in charges.values():
        set_committed_value(charge, "billable_metric", metrics[charge.billable_metric_id])
        set_committed_value(charge, "pricing_unit", units.get(charge.pricing_unit_id))
    _attach(plans, "charges", ((charge.plan_id, charge) for charge in charges.values()))
    _attach(charges, "filters", ((one.charge_id, one) for one in filters))
    _attach(plans, "taxes", _taxes_of(db, plan_taxes, plans))
    _attach(charges, "taxes", _taxes_of(db, charge_taxes, charges))
    commitments = {
        one.plan_id: one for one in db.scalars(select(MinimumCommitment).where(among(MinimumCommitment.plan_id, plans)))
    }
    for plan in plans.values():
        set_committed_value(plan, "minimum_commitment", commitments.get(plan.id))
    by_id = {one.id: one for one in commitments.values()}
    _attach(by_id, "taxes", _taxes_of(db, commitment_taxes, by_id))
    fixed_charges = db.scalars(
        select(FixedCharge)
        .where(among(FixedCharge.plan_id, plans), FixedCharge.deleted_at.is_(None))
        .order_by(FixedCharge.position, FixedCharge.id)
        .options(selectinload(FixedCharge.taxes), joinedload(FixedCharge.add_on))
    )
    _attach(plans, "fixed_charges", ((one.plan_id, one) for one in fixed_charges))
    compiled = _Compiled()
    return {plan.id: _plan_terms(plan, compiled) for plan in plans.values()}


def _live(
    model: type[Row], owner: InstrumentedAttribute[UUID], owners: Iterable[UUID], order: InstrumentedAttribute[int]
) -> Select[Row]:
    """The query of what these have that has not been deleted, in its order."""
    return select(model).where(among(owner, owners), model.deleted_at.is_(None)).order_by(order, model.id)


def _taxes_of(db: Session, link: Table, owners: Iterable[UUID]) -> Iterable[tuple[UUID, Tax]]:
    owner = link.columns[0]
    query = select(owner, Tax).join(Tax, live_tax(link)).where(among(owner, owners)).order_by(Tax.code)
    return ((owner_id, tax) for owner_id, tax in db.execute(query))


def _attach(owners: Mapping[UUID, Base], name: str, owned: Iterable[tuple[UUID, object]]) -> None:
    """Make what was loaded the value of a relationship."""
    found: dict[UUID, list[object]] = {owner_id: [] for owner_id in owners}
    for owner_id, one in owned:
        found[owner_id].append(one)
    for owner_id, value in found.items():
        set_committed_value(owners[owner_id], name, value)


class _Compiled:
    """Prices and splitters by what they are made of, each compiled once: copies of a charge mostly have the same."""

    def __init__(self) -> None:
        self._prices: dict[tuple[ChargeModel, bool, bytes], PriceFunction] = {}
        self._splitters: dict[bytes, Splitter] = {}

    def price(self, model: ChargeModel, properties: Mapping[str, object], *, prorated: bool) -> PriceFunction:
        key = model, prorated, _json.encode(properties)
        known = self._prices.get(key)
        if known is None:
            known = self._prices[key] = compile_price(model, properties, prorated=prorated)
        return known

    def splitter(self, filters: Sequence[ChargeFilterTerms], group_keys: Sequence[str]) -> Splitter:
        key = _json.encode(([(one.values, one.group_keys) for one in filters], group_keys))
        known = self._splitters.get(key)
        if known is None:
            known = self._splitters[key] = Splitter(
                [one.values for one in filters], group_keys, [one.group_keys for one in filters]
            )
        return known


def load_taxes(db: Session, customer_ids: Iterable[UUID]) -> TaxBook:
    """The taxes of these customers and of their billing entities, in a fixed number of queries."""
    ids = set(customer_ids)
    belong = select(Customer.id, Customer.billing_entity_id).where(among(Customer.id, ids))
    rows = db.execute(belong).all()
    of_entity = load_entity_taxes(db, {entity for _, entity in rows})
    of_its_entity = {customer: of_entity[entity] for customer, entity in rows if entity in of_entity}
    return TaxBook({**of_its_entity, **load_customer_taxes(db, ids)})


def load_customer_taxes(db: Session, customer_ids: Iterable[UUID]) -> dict[UUID, Taxes]:
    """The taxes of those of the customers that have any of their own."""
    customers = db.scalars(
        select(Customer)
        .where(among(Customer.id, set(customer_ids)), Customer.taxes.any())
        .options(selectinload(Customer.taxes))
    )
    return {customer.id: applied_taxes(customer.taxes) for customer in customers}


def load_entity_taxes(db: Session, entity_ids: Iterable[UUID]) -> dict[UUID, Taxes]:
    """The taxes of those of the billing entities that have any, for all their customers."""
    of_entity: dict[UUID, list[Tax]] = {}
    link = billing_entity_taxes.c.billing_entity_id
    rows = db.execute(
        select(link, Tax).join(Tax, live_tax(billing_entity_taxes)).where(link.in_(set(entity_ids))).order_by(Tax.code)
    )
    for entity, tax in rows:
        of_entity.setdefault(entity, []).append(tax)
    return {entity: applied_taxes(taxes) for entity, taxes in of_entity.items()}


def _plan_terms(plan: Plan, compiled: _Compiled) -> PlanTerms:
    return PlanTerms(
        id=plan.id,
        code=plan.code,
        name=plan.name,
        description=plan.description,
        invoice_display_name=plan.invoice_display_name,
        interval=plan.interval,
        amount_cents=plan.amount_cents,
        currency=plan.amount_currency,
        pay_in_advance=plan.pay_in_advance,
        taxes=applied_taxes(plan.taxes),
        charges=tuple(_charge_terms(charge, compiled) for charge in plan.charges),
        charges_monthly=plan.bill_charges_monthly is True,
        fixed_charges_monthly=plan.bill_fixed_charges_monthly is True,
        commitment=_commitment_terms(plan.minimum_commitment),
        fixed_charges=tuple(_fixed_charge_terms(charge) for charge in plan.fixed_charges),
    )


def _commitment_terms(one: MinimumCommitment | None) -> CommitmentTerms | None:
    return CommitmentTerms(one.amount_cents, one.invoice_display_name, applied_taxes(one.taxes)) if one else None


def _charge_terms(charge: Charge, compiled: _Compiled) -> ChargeTerms:
    metric, model = charge.billable_metric, ChargeModel(charge.charge_model)
    vocabulary = {one["key"]: one["values"] for one in metric.filters}
    oldest_first = sorted(charge.filters, key=lambda one: one.number)
    filters = tuple(_filter_terms(one, charge, vocabulary, compiled) for one in oldest_first)
    own_keys = group_keys(charge.properties, accepts_target_wallet=charge.accepts_target_wallet)
    presentation = charge.properties.get("presentation_group_keys") or ()
    shown = tuple(one["value"] for one in presentation if (one.get("options") or {}).get("display_in_invoice"))
    own = _advance_terms(charge, charge.properties)
    return ChargeTerms(
        id=charge.id,
        code=charge.code,
        charge_model=charge.charge_model,
        invoice_display_name=charge.invoice_display_name,
        metric_id=metric.id,
        metric_code=metric.code,
        metric_name=metric.name,
        metric_description=metric.description,
        aggregation=Aggregation(metric.aggregation_type),
        recurring=metric.recurring,
        dimension_keys=frozenset(metric.dimension_keys),
        dimensions_pending=metric.dimensions_pending,
        rounding_function=metric.rounding_function,
        rounding_precision=metric.rounding_precision,
        taxes=applied_taxes(charge.taxes),
        price=compiled.price(model, charge.properties, prorated=charge.prorated),
        properties=charge.properties,
        prorated=charge.prorated,
        min_amount_cents=charge.min_amount_cents,
        pricing_unit=_pricing_unit_terms(charge),
        needs_events=any(
            needs_events(
                model, properties, metric.aggregation_type, prorated=charge.prorated and not charge.pay_in_advance
            )
            for properties in (charge.properties, *(one.properties for one in oldest_first))
        ),
        filters=filters,
        display_order=tuple(sorted(range(len(filters)), key=lambda index: oldest_first[index].position)),
        group_keys=own_keys,
        presentation_keys=tuple(one["value"] for one in presentation),
        invoice_presentation_keys=shown,
        splitter=compiled.splitter(filters, own_keys),
        pay_in_advance=charge.pay_in_advance,
        invoiceable=charge.invoiceable,
        field_name=metric.field_name,
        accepts_target_wallet=charge.accepts_target_wallet,
        advance=own,
        signature=_signature(filters, own_keys, own) if charge.pay_in_advance else "",
    )


def _pricing_unit_terms(charge: Charge) -> PricingUnitTerms | None:
    unit, rate = charge.pricing_unit, charge.conversion_rate
    return None if unit is None or rate is None else PricingUnitTerms(unit.id, unit.code, unit.short_name, rate)


def _fixed_charge_terms(charge: FixedCharge) -> FixedChargeTerms:
    add_on = charge.add_on
    return FixedChargeTerms(
        id=charge.id,
        root_id=charge.root_id,
        display_name=charge.display_name,
        add_on_id=add_on.id,
        add_on_code=add_on.code,
        add_on_name=add_on.name,
        add_on_description=add_on.description,
        pay_in_advance=charge.pay_in_advance,
        prorated=charge.prorated,
        taxes=applied_taxes(charge.taxes),
        price=compile_price(ChargeModel(charge.charge_model), charge.properties, prorated=charge.prorated),
        needs_days=charge.prorated and charge.charge_model == ChargeModel.GRADUATED,
    )


def _filter_terms(
    one: ChargeFilter, charge: Charge, vocabulary: Mapping[str, Sequence[str]], compiled: _Compiled
) -> ChargeFilterTerms:
    return ChargeFilterTerms(
        id=one.id,
        invoice_display_name=one.invoice_display_name,
        values_as_sent=one.values,
        values=expanded(one.values, vocabulary),
        group_keys=group_keys(one.properties, accepts_target_wallet=charge.accepts_target_wallet),
        price=compiled.price(ChargeModel(charge.charge_model), one.properties, prorated=charge.prorated),
        advance=_advance_terms(charge, one.properties),
        properties=one.properties,
    )


def _advance_terms(charge: Charge, properties: Mapping[str, object]) -> AdvanceTerms | None:
    if not charge.pay_in_advance:
        return None
    model = ChargeModel(charge.charge_model)
    looks = needs_events(model, properties, charge.billable_metric.aggregation_type)
    return AdvanceTerms(
        allowance=Percentage.of(properties) if looks else None,
        instant=compile_instant(model, properties) if model in INSTANT_MODELS else None,
    )


def _signature(filters: Sequence[ChargeFilterTerms], group_keys: Sequence[str], own: AdvanceTerms | None) -> str:
    """Equal for terms that tell events apart, and count what each of them has used, in the same way."""

    def splitting(one: ChargeFilterTerms) -> object:
        values = sorted((key, sorted(values)) for key, values in one.values.items())
        return one.id.hex, values, one.group_keys, one.advance.allowance if one.advance else None

    terms = ([splitting(one) for one in filters], tuple(group_keys), own.allowance if own else None)
    return hashlib.sha256(repr(terms).encode()).hexdigest()


def applied_taxes(taxes: Iterable[Tax]) -> Taxes:
    """Those of the taxes that have not been deleted, as they are now."""
    return tuple(
        AppliedTax(tax.id, tax.code, tax.name, tax.description, tax.rate) for tax in taxes if tax.deleted_at is None
    )
