"""What pricing needs to know of plans, charges and taxes, made ready to price with. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.core.aggregation import Aggregation
from app.core.buckets import Splitter, takes_all
from app.core.charges.fees import FeeAmounts
from app.core.charges.percentage import Percentage
from app.core.charges.pricing_units import converted, unit_amount_cents
from app.core.charges.usage import PriceFunction
from app.core.money import PRICING_UNIT, decimal_text, round_half_up
from app.core.taxes import TaxRate

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
        for one in nearer:
            if one:
                return one
        return self.of_customer.get(customer_id, ()) if self.of_customer else ()
