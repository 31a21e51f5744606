"""Invoices that have not been stored: whom they are for, and which lines go on which (billing spec 2.2). No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft
from app.core.periods import local_date


@dataclass(frozen=True, slots=True)
class Payer:
    """What an invoice needs to know of its customer, and of the billing entity that issues it."""

    customer_id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_number: int
    tz: ZoneInfo
    issuer_tz: ZoneInfo
    net_payment_term: int
    finalize_zero: bool
    numbering: str
    prefix: str


Payers = Mapping[tuple[UUID, UUID], Payer]
"""By the customer and the billing entity."""


@dataclass(frozen=True, slots=True)
class InvoiceDraft:
    """An invoice that has not been numbered or stored: its lines, each with its fees, or the fees of none. `paid_first`: it
    is made final by being paid."""

    payer: Payer
    currency: str
    billed_at: datetime
    purchase_order_number: str | None
    lines: tuple[tuple[BilledLine, tuple[FeeDraft, ...]], ...] = ()
    other_fees: tuple[FeeDraft, ...] = ()
    invoice_type: str = "subscription"
    paid_first: bool = False
    id: UUID = field(default_factory=uuid4)

    @property
    def fees(self) -> list[FeeDraft]:
        return [*(fee for _, fees in self.lines for fee in fees), *self.other_fees]

    @property
    def issuing_date(self) -> date:
        """The local date of what is billed, however late the close runs."""
        return local_date(self.billed_at, self.payer.tz)


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
