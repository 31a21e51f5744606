"""Invoices that have not been stored: whom they are for, and which lines go on which (billing spec 2.2). No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft
from app.core.issuing_dates import IssuingDates, IssuingRules, issuing_dates
from app.core.periods import local_date
from app.ids import new_id


class Payer(Struct, frozen=True):
    """What an invoice needs to know of its customer, and of the billing entity that issues it."""

    customer_id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_number: int
    tz: ZoneInfo
    issuer_tz: ZoneInfo
    issuing: IssuingRules
    finalize_zero: bool
    numbering: str
    prefix: str

    @property
    def net_payment_term(self) -> int:
        """Days from the issuing date until an invoice is to be paid."""
        return self.issuing.net_payment_term


class Stored(Struct, frozen=True):
    """An invoice that is there already and is made anew under its own id: its dates, and whether it is final now."""

    dates: IssuingDates
    is_final: bool


Payers = Mapping[tuple[UUID, UUID], Payer]
"""By the customer and the billing entity."""


class InvoiceDraft(Struct, frozen=True):
    """An invoice that has not been numbered or stored, or that is made anew: its lines, each with its fees, or the fees of
    none. `failure`: why it has no fees, where they could not be made. `paid_first`: it is made final by being paid,
    unless nothing is to be paid.
    `voided_invoice_id`: the voided invoice in whose place it is made."""

    payer: Payer
    currency: str
    billed_at: datetime
    purchase_order_number: str | None
    lines: tuple[tuple[BilledLine, tuple[FeeDraft, ...]], ...] = ()
    other_fees: tuple[FeeDraft, ...] = ()
    invoice_type: str = "subscription"
    paid_first: bool = False
    id: UUID = field(default_factory=new_id)
    stored: Stored | None = None
    failure: str | None = None
    voided_invoice_id: UUID | None = None

    @property
    def fees(self) -> list[FeeDraft]:
        return [fee for fees in (*(own for _, own in self.lines), self.other_fees) for fee in fees]

    @property
    def has_grace(self) -> bool:
        """Whether it is of a kind that has a grace period: what single events or new units bring is final at once (billing
        spec 3.1), and so is what takes the place of a voided one, or is paid first."""
        is_advance = any(line.reason == "in_advance_charge" for line, _ in self.lines)
        at_once = is_advance or self.paid_first or self.voided_invoice_id is not None
        return self.invoice_type == "subscription" and bool(self.lines) and not at_once

    @property
    def is_periodic(self) -> bool:
        """Whether it closes a period."""
        return any(line.reason == "subscription_periodic" for line, _ in self.lines)

    @property
    def is_final(self) -> bool:
        """Whether it is final, and not a draft within its grace period."""
        if self.stored is not None:
            return self.stored.is_final
        return not (self.has_grace and self.payer.issuing.grace_period)

    @property
    def dates(self) -> IssuingDates:
        """Its dates, by the local date of what is billed, however late the close runs."""
        if self.stored is not None:
            return self.stored.dates
        billed_on = local_date(self.billed_at, self.payer.tz)
        return issuing_dates(billed_on, self.payer.issuing, has_grace=self.has_grace, is_periodic=self.is_periodic)


def group_lines(lines: Iterable[tuple[BilledLine, Sequence[FeeDraft]]], payers: Payers) -> list[InvoiceDraft]:
    """One invoice per customer, instant, currency, billing entity and purchase order; a subscription that does not
    consolidate has its own (billing spec 2.2). In time order."""
    groups: dict[tuple[Any, ...], list[tuple[BilledLine, tuple[FeeDraft, ...]]]] = defaultdict(list)
    for line, fees in lines:
        subscription = line.subscription
        alone = None if subscription.consolidate_invoice else subscription.id
        key = (
            subscription.payer_key,
            line.billed_at,
            subscription.plan.currency,
            subscription.purchase_order_number,
            alone,
        )
        groups[key].append((line, tuple(fees)))
    drafts = [
        InvoiceDraft(payers[payer], currency, billed_at, order, tuple(members))
        for (payer, billed_at, currency, order, _), members in groups.items()
    ]
    return sorted(drafts, key=lambda draft: draft.billed_at)
