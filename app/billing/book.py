"""The price book: plans with everything that pricing needs of them, loaded set-wise and made ready to price with."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Select, Table, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from app.core.aggregation import Aggregation
from app.core.buckets import Splitter, expanded, takes_all
from app.core.charges.fees import FeeAmounts
from app.core.charges.instant_estimates import INSTANT_MODELS, compile_instant
from app.core.charges.percentage import Percentage
from app.core.charges.pricing import compile_price, needs_events
from app.core.charges.pricing_units import converted, unit_amount_cents
from app.core.charges.properties import group_keys
from app.core.charges.usage import ChargeModel, PriceFunction
from app.core.money import PRICING_UNIT, decimal_text, round_half_up
from app.core.taxes import TaxRate
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

PRECISE_PLACES = 30
"""As many decimals as the columns of unrounded amounts have."""


@dataclass(frozen=True, slots=True)
class AppliedTax:
    """A tax as it is when something is priced with it."""

    id: UUID
    code: str
    name: str
    description: str | None
    rate: Decimal

    @property
    def tax_rate(self) -> TaxRate:
        return TaxRate(str(self.id), self.rate)


Taxes = tuple[AppliedTax, ...]


@dataclass(frozen=True, slots=True)
class PricingUnitTerms:
    """The pricing unit of a charge, and what one is worth in the plan's currency (metering spec 3.13)."""

    id: UUID
    code: str
    short_name: str
    conversion_rate: Decimal

    def details(self, amounts: FeeAmounts) -> dict[str, Any]:
        """The amounts of a fee in pricing units, as they are stored and on the wire."""
        return {
            "lago_pricing_unit_id": str(self.id),
            "pricing_unit_code": self.code,
            "short_name": self.short_name,
            "amount_cents": amounts.amount_cents,
            "precise_amount_cents": decimal_text(round_half_up(amounts.precise_amount_cents, PRECISE_PLACES)),
            "unit_amount_cents": unit_amount_cents(amounts),
            "precise_unit_amount": decimal_text(round_half_up(amounts.precise_unit_amount, PRECISE_PLACES)),
            "conversion_rate": decimal_text(self.conversion_rate),
        }


@dataclass(frozen=True, slots=True)
class AdvanceTerms:
    """What the properties of a charge paid in advance, or of one of its filters, are to single events: `allowance` where
    the price looks at their values one by one, `instant` where it is told for an event by itself (metering spec 5.7)."""

    allowance: Percentage | None
    instant: Callable[[Decimal], Decimal] | None


@dataclass(frozen=True, slots=True, eq=False)
class ChargeFilterTerms:
    """A charge filter: what it takes, with every stand-in for all values replaced, and its price as a function."""

    id: UUID
    invoice_display_name: str | None
    values_as_sent: dict[str, list[str]]
    values: Mapping[str, Sequence[str]]
    group_keys: tuple[str, ...]
    price: PriceFunction
    advance: "AdvanceTerms | None" = None
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def display_name(self) -> str:
        """Its name on invoices: its own, else its values; a key that takes them all by its name (metering spec 4.3)."""
        names = [key if takes_all(values) else ", ".join(values) for key, values in self.values_as_sent.items()]
        return self.invoice_display_name or ", ".join(names)


@dataclass(frozen=True, slots=True)
class ChargeTerms:
    """A charge with its metric, and its price as a function. Its filters are in the order they were made in, which decides
    between equals; `display_order` is the order they are shown in.
    """

    id: UUID
    code: str
    charge_model: str
    invoice_display_name: str | None
    metric_id: UUID
    metric_code: str
    metric_name: str
    metric_description: str | None
    aggregation: Aggregation
    recurring: bool
    rounding_function: str | None
    rounding_precision: int | None
    taxes: Taxes
    price: PriceFunction
    properties: Mapping[str, Any] = field(default_factory=dict)
    field_name: str | None = None
    prorated: bool = False
    min_amount_cents: int = 0
    pricing_unit: PricingUnitTerms | None = None
    needs_events: bool = False
    filters: tuple[ChargeFilterTerms, ...] = ()
    display_order: tuple[int, ...] = ()
    group_keys: tuple[str, ...] = ()
    presentation_keys: tuple[str, ...] = ()
    invoice_presentation_keys: tuple[str, ...] = ()
    splitter: Splitter = field(default_factory=Splitter)
    dimension_keys: frozenset[str] = frozenset()
    dimensions_pending: bool = False
    pay_in_advance: bool = False
    invoiceable: bool = True
    accepts_target_wallet: bool = False
    advance: AdvanceTerms | None = None
    signature: str = ""

    @property
    def renews(self) -> bool:
        """Whether it is paid in advance, and each period bills what was carried over into it (metering spec 3.12)."""
        return self.pay_in_advance and self.recurring

    def priced_in(self, currency: str) -> str:
        """What its prices are in: the plan's currency, or pricing units."""
        return currency if self.pricing_unit is None else PRICING_UNIT

    def in_money(self, amounts: FeeAmounts, currency: str) -> FeeAmounts:
        """The amounts of a fee in the plan's currency, from those in what its prices are in."""
        unit = self.pricing_unit
        return amounts if unit is None else converted(amounts, unit.conversion_rate, currency)


@dataclass(frozen=True, slots=True)
class CommitmentTerms:
    """What a period of a plan costs at least."""

    amount_cents: int
    invoice_display_name: str | None
    taxes: Taxes


@dataclass(frozen=True, slots=True)
class FixedChargeTerms:
    """A fixed charge with its add-on, and its price as a function. Units are noted under `root_id`. `needs_days`: whether
    the price looks at how long each unit was there."""

    id: UUID
    root_id: UUID
    display_name: str
    add_on_id: UUID
    add_on_code: str
    add_on_name: str
    add_on_description: str | None
    pay_in_advance: bool
    prorated: bool
    taxes: Taxes
    price: PriceFunction
    needs_days: bool = False


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """A plan with its charges and fixed charges in their order."""

    id: UUID
    code: str
    name: str
    description: str | None
    invoice_display_name: str | None
    interval: str
    amount_cents: int
    currency: str
    pay_in_advance: bool
    taxes: Taxes
    charges: tuple[ChargeTerms, ...]
    charges_monthly: bool = False
    fixed_charges_monthly: bool = False
    commitment: CommitmentTerms | None = None
    fixed_charges: tuple[FixedChargeTerms, ...] = ()

    @property
    def has_fixed_charges_in_advance(self) -> bool:
        return any(charge.pay_in_advance for charge in self.fixed_charges)


@dataclass(frozen=True, slots=True)
class TaxBook:
    """Which taxes a fee carries when neither its charge nor its plan has any (billing spec 4.2)."""

    of_customer: Mapping[UUID, Taxes]
    """The customer's own, else those of its billing entity, also where another entity issues the invoice."""

    def taxes(self, *nearer: Taxes, customer_id: UUID) -> Taxes:
        """The first set that is not empty: the nearer ones in their order, then the customer's."""
        return next((one for one in nearer if one), self.of_customer.get(customer_id, ()))


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
        .where(Customer.id.in_(set(customer_ids)), Customer.taxes.any())
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
