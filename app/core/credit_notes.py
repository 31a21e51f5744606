"""What a credit note comes to, and what an invoice leaves to be credited; in minor units (billing spec 6.2, 6.3, 6.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from app.core.money import ZERO, exact, minor_int
from app.core.subscription_fee import prorated
from app.core.taxes import InvoiceTaxes, TaxRate, invoice_taxes
from app.core.values import replace

_ITEM_PLACES = Decimal("0.00001")


@dataclass(frozen=True, slots=True)
class NoteItem:
    """What is taken back of one fee before taxes, what of that coupons have paid, and the taxes that the fee has."""

    amount: Decimal
    rates: Sequence[TaxRate]
    coupons: Decimal = ZERO

    @property
    def base(self) -> Decimal:
        """What is taxed."""
        return self.amount - self.coupons


@dataclass(frozen=True, slots=True)
class Rest:
    """What the notes on an invoice have left of its sub total and of its taxes, in minor units."""

    sub_total_cents: int
    taxes_cents: int

    @property
    def total_cents(self) -> int:
        return max(self.sub_total_cents + self.taxes_cents, 0)


@dataclass(frozen=True, slots=True)
class NoteAmounts:
    """The amounts of a note: its items before taxes and less coupons, rounded, their taxes, and the rounded sum of what is
    unrounded of both. `total_cents` is the sum of the two rounded ones: what is stored. `precise_coupons_cents`: what of
    the items coupons have paid."""

    sub_total_cents: int
    taxes: InvoiceTaxes
    precise_taxes_cents: Decimal
    expected_cents: int
    precise_coupons_cents: Decimal

    @property
    def total_cents(self) -> int:
        return self.sub_total_cents + self.taxes.amount_cents

    @property
    def coupons_cents(self) -> int:
        return minor_int(self.precise_coupons_cents)

    def coming_to(self, total_cents: int) -> "NoteAmounts":
        """The same amounts with a total of this: what rounding has made of it is put right in the taxes, as far as there
        are any, and in the sub total."""
        taxes = max(total_cents - self.sub_total_cents, 0) if self.taxes.lines else 0
        return replace(
            self,
            sub_total_cents=total_cents - taxes,
            taxes=replace(self.taxes, amount_cents=taxes),
            expected_cents=total_cents,
        )


def coupon_share(amount: Decimal, fee_cents: int, coupons_cents: Decimal) -> Decimal:
    """What coupons have paid of a part of a fee, of which all in all they have paid `coupons_cents` (billing spec 6.2)."""
    with exact():
        return coupons_cents * amount / fee_cents if fee_cents else ZERO


def note_amounts(items: Sequence[NoteItem], rest: Rest | None = None) -> NoteAmounts:
    """The amounts of a note with these items (billing spec 6.2). A note that takes back all that is left of an invoice is
    given the `rest` and comes to that: it makes good for what rounding has added to the notes before it or kept from them.
    """
    with exact():
        total = sum((item.base for item in items), ZERO)
        precise = sum((item.base * tax.rate / 100 for item in items for tax in item.rates), ZERO)
        coupons = sum((item.coupons for item in items), ZERO)
        taxes = invoice_taxes([(item.base, item.rates) for item in items], total)
        expected = minor_int(total + precise)
    sub_total = minor_int(total)
    if rest is not None:
        expected = rest.total_cents
        taxes = replace(taxes, amount_cents=min(max(rest.taxes_cents, 0), expected))
        sub_total = expected - taxes.amount_cents
    return NoteAmounts(sub_total, taxes, precise, expected, coupons)


def part_of(amounts: Sequence[Decimal], wanted_cents: int, whole_cents: int) -> list[Decimal]:
    """What of each amount makes a note come to `wanted_cents`, when all of them make one of `whole_cents`; cut to 5
    decimals (billing spec 3.7). All in minor units."""
    if wanted_cents >= whole_cents:
        return list(amounts)
    with exact():
        return [(amount * wanted_cents / whole_cents).quantize(_ITEM_PLACES, ROUND_DOWN) for amount in amounts]


def paid_for_unused(paid_cents: int, invoice_cents: int, fee_cents: int, used_cents: int, unused_cents: int) -> int:
    """What is paid back of a fee that ends early: its share of what was paid of its invoice, less what was used of it; at
    most what is unused (billing spec 6.7). All in minor units, with taxes and after coupons."""
    if not invoice_cents:
        return 0
    with exact():
        share = Decimal(paid_cents) * fee_cents / invoice_cents
        return max(min(minor_int(share - used_cents), unused_cents), 0)


def unused_amount(plan_amount_cents: int, period_days: int, unused_days: int, fee_cents: Decimal) -> Decimal:
    """What of a fee paid in advance is for days that are not used, cut to 5 decimals; at most the fee (billing spec
    6.7)."""
    unused = prorated(plan_amount_cents, max(unused_days, 0), period_days)
    return min(unused, max(fee_cents, ZERO)).quantize(_ITEM_PLACES, ROUND_DOWN)
