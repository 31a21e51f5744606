"""Tax arithmetic of fees and invoices, in minor units (billing spec 4.3, 4.4).

Lines, fee totals and invoice totals are each rounded once from unrounded figures, so none of them is the sum of
others: a cent of difference is expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import Struct

from app.core.money import ZERO, exact, minor_int, round_half_up

_HUNDRED = Decimal(100)
_RATE_PLACES = 5


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A tax by its id and its rate in percent (20 means 20 %)."""

    id: str
    rate: Decimal


class FeeTaxes(Struct, frozen=True):
    """Taxes of one fee: (tax id, rounded minor units) in the order of the rates, the rounded and the unrounded
    total in minor units, the summed rate in percent.
    """

    lines: list[tuple[str, int]]
    amount_cents: int
    precise_amount_cents: Decimal
    rate: Decimal


UNTAXED = FeeTaxes([], 0, ZERO, ZERO)
"""Those of a fee without taxes."""


class TaxLine(Struct, frozen=True):
    """One tax on an invoice: rounded tax and rounded sum of the bases it applies to, in minor units."""

    tax_id: str
    amount_cents: int
    fees_amount_cents: int


class InvoiceTaxes(Struct, frozen=True):
    """Taxes of one invoice: a line per tax, the total in minor units, the effective rate in percent."""

    lines: list[TaxLine]
    amount_cents: int
    rate: Decimal


UNTAXED_INVOICE = InvoiceTaxes([], 0, ZERO)
"""Those of an invoice of such fees."""


def fee_taxes(base: Decimal, precise_base: Decimal, rates: Sequence[TaxRate]) -> FeeTaxes:
    """Taxes of a fee (billing spec 4.3).

    ``base`` and ``precise_base`` are the billed and the unrounded amount in minor units, both less coupons. The
    rates add up, none is applied on top of another. The total is the half-up rounding of the unrounded sum.
    """
    with exact():
        amounts = [(tax.id, base * tax.rate / _HUNDRED) for tax in rates]
        rate = sum((tax.rate for tax in rates), ZERO)
        return FeeTaxes(
            lines=[(tax_id, minor_int(amount)) for tax_id, amount in amounts],
            amount_cents=minor_int(sum((amount for _, amount in amounts), ZERO)),
            precise_amount_cents=precise_base * rate / _HUNDRED,
            rate=rate,
        )


@dataclass(slots=True)
class _Total:
    amount: Decimal = field(default=ZERO)
    bases: Decimal = field(default=ZERO)


def invoice_taxes(fees: Sequence[tuple[Decimal, Sequence[TaxRate]]], sub_total: Decimal | int) -> InvoiceTaxes:
    """Taxes of an invoice (billing spec 4.4).

    ``fees`` gives for every fee, taxed or not, its unrounded base in minor units and its rates; ``sub_total`` is
    the invoice's total before taxes in minor units. Lines come in the order in which taxes first appear. The
    effective rate, to 5 decimals half-up, weighs each rate by the share of the sub total it applies to, or by the
    share of fees when the sub total is 0.
    """
    totals: dict[str, _Total] = {}
    with exact():
        weighted = ZERO
        for base, rates in fees:
            for tax in rates:
                total = totals.setdefault(tax.id, _Total())
                total.amount += base * tax.rate / _HUNDRED
                total.bases += base
                weighted += tax.rate * (base if sub_total else 1)
        divisor = sub_total or len(fees)
        return InvoiceTaxes(
            lines=[
                TaxLine(tax_id, minor_int(total.amount), minor_int(total.bases)) for tax_id, total in totals.items()
            ],
            amount_cents=minor_int(sum((total.amount for total in totals.values()), ZERO)),
            rate=round_half_up(weighted / divisor, _RATE_PLACES) if divisor else ZERO,
        )
