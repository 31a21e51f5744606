"""What a credit note comes to, and what an invoice leaves to be credited; in minor units (billing spec 6.2, 6.3, 6.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from app.core.money import ZERO, exact, minor_int
from app.core.subscription_fee import prorated
from app.core.taxes import InvoiceTaxes, TaxRate, invoice_taxes

_ITEM_PLACES = Decimal("0.00001")


@dataclass(frozen=True, slots=True)
class NoteItem:
    """What is taken back of one fee, before taxes, and the taxes that the fee has."""

    amount: Decimal
    rates: Sequence[TaxRate]


@dataclass(frozen=True, slots=True)
class NoteAmounts:
    """The amounts of a note: its items before taxes, rounded, their taxes, and the rounded sum of what is unrounded of
    both. `total_cents` is the sum of the two rounded ones: what is stored."""

    sub_total_cents: int
    taxes: InvoiceTaxes
    precise_taxes_cents: Decimal
    expected_cents: int

    @property
    def total_cents(self) -> int:
        return self.sub_total_cents + self.taxes.amount_cents


def note_amounts(items: Sequence[NoteItem]) -> NoteAmounts:
    """The amounts of a note with these items (billing spec 6.2)."""
    with exact():
        total = sum((item.amount for item in items), ZERO)
        precise = sum((item.amount * tax.rate / 100 for item in items for tax in item.rates), ZERO)
    taxes = invoice_taxes([(item.amount, item.rates) for item in items], total)
    with exact():
        return NoteAmounts(minor_int(total), taxes, precise, minor_int(total + precise))


def unused_amount(plan_amount_cents: int, period_days: int, unused_days: int, fee_left_cents: Decimal) -> Decimal:
    """What of a fee paid in advance is for days that are not used, cut to 5 decimals; at most what is left of the fee
    (billing spec 6.7)."""
    unused = prorated(plan_amount_cents, max(unused_days, 0), period_days)
    return min(unused, max(fee_left_cents, ZERO)).quantize(_ITEM_PLACES, ROUND_DOWN)
