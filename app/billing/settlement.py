"""An invoice on its way from its fees to its total, with what lowers it on the way (billing spec 3.5). No I/O."""

from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from app.billing.fees import FeeDraft
from app.billing.invoice_drafts import InvoiceDraft
from app.core.money import ZERO, exact
from app.core.taxes import UNTAXED_INVOICE, FeeTaxes, InvoiceTaxes, fee_taxes, invoice_taxes

CREDITED_TYPES = ("subscription", "progressive_billing")
"""Invoices that take credits; what is bought once, and prepaid credits themselves, are paid in full."""


@dataclass(frozen=True, slots=True)
class Credited:
    """What lowers an invoice, in minor units, and what it comes from: one of a credit note, an applied coupon, and an
    earlier invoice of progressive billing. Coupons and invoices lower it before taxes."""

    amount_cents: int
    credit_note_id: UUID | None = None
    applied_coupon_id: UUID | None = None
    progressive_invoice_id: UUID | None = None


@dataclass(slots=True)
class Settlement:
    """A draft and what has been taken off it so far. Amounts in minor units; each step may take what is left, and adds to
    `credits`.

    `final`: whether the invoice is made final now; until then it takes no coupon, credit note or prepaid credit.
    `reduced`: by fee what progressive billing and coupons have taken of it before taxes. `noted`: by fee what credit notes
    have taken of it after taxes.
    """

    draft: InvoiceDraft
    final: bool = True
    fees: list[FeeDraft] = field(init=False)
    fees_cents: int = field(init=False)
    credits: list[Credited] = field(default_factory=list)
    reduced: dict[UUID, Decimal] = field(default_factory=dict)
    noted: dict[UUID, Decimal] = field(default_factory=dict)
    taxes: InvoiceTaxes = UNTAXED_INVOICE
    prepaid_cents: int = 0
    prepaid_granted_cents: int | None = None
    prepaid_purchased_cents: int | None = None

    def __post_init__(self) -> None:
        self.fees = self.draft.fees
        self.fees_cents = sum([fee.amounts.amount_cents for fee in self.fees])

    @property
    def is_closed(self) -> bool:
        """Whether it is left out for want of an amount, as its customer wants (billing spec 2.4)."""
        return self.final and not self.fees_cents and not self.draft.payer.finalize_zero

    @property
    def status(self) -> str:
        """The status of the invoice that it makes."""
        if self.draft.failure is not None:
            return "failed"
        if not self.final:
            return "draft"
        if self.is_closed:
            return "closed"
        return "open" if self.draft.paid_first and self.total_cents else "finalized"

    @property
    def takes_credits(self) -> bool:
        """Whether coupons, credit notes and prepaid credits may lower it now."""
        return self.final and not self.is_closed and self.draft.invoice_type in CREDITED_TYPES

    @property
    def progressive_cents(self) -> int:
        return sum([one.amount_cents for one in self.credits if one.progressive_invoice_id is not None])

    @property
    def coupons_cents(self) -> int:
        return sum([one.amount_cents for one in self.credits if one.applied_coupon_id is not None])

    @property
    def notes_cents(self) -> int:
        return sum([one.amount_cents for one in self.credits if one.credit_note_id is not None])

    @property
    def sub_total_cents(self) -> int:
        """What is taxed."""
        return self.fees_cents - self.progressive_cents - self.coupons_cents

    @property
    def with_taxes_cents(self) -> int:
        return self.sub_total_cents + self.taxes.amount_cents

    @property
    def total_cents(self) -> int:
        """What is left to pay."""
        return self.with_taxes_cents - self.notes_cents - self.prepaid_cents

    def reduced_by(self, fee: FeeDraft) -> Decimal:
        """What has been taken of a fee before taxes."""
        return self.reduced.get(fee.id, ZERO) if self.reduced else ZERO

    def noted_on(self, fee: FeeDraft) -> Decimal:
        """What credit notes have taken of a fee after taxes."""
        return self.noted.get(fee.id, ZERO) if self.noted else ZERO

    def left_of(self, fee: FeeDraft) -> Decimal:
        """What of a fee is still to be paid before taxes, unrounded."""
        with exact():
            return Decimal(fee.amounts.amount_cents) - self.reduced_by(fee)

    def fee_taxes(self, fee: FeeDraft) -> FeeTaxes:
        """The taxes of what is left of a fee (billing spec 4.3)."""
        reduced = self.reduced_by(fee)
        if not reduced or not fee.taxes:
            return fee.tax_amounts
        with exact():
            precise = fee.amounts.precise_amount_cents - reduced
        return fee_taxes(self.left_of(fee), precise, [tax.tax_rate for tax in fee.taxes])

    def take_taxes(self) -> None:
        """Reckon the taxes of what is left of the fees (billing spec 4.4)."""
        if any(fee.taxes for fee in self.fees):
            bases = [(self.left_of(fee), [tax.tax_rate for tax in fee.taxes]) for fee in self.fees]
            self.taxes = invoice_taxes(bases, self.sub_total_cents)
