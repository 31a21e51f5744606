"""Rows of invoices, their periods, fees and taxes, gathered and written with COPY."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.billing.billed import BilledLine
from app.billing.fees import FeeDraft
from app.billing.priced_terms import KeptTerms, keep
from app.billing.settlement import Credited
from app.billing.terms import AppliedTax, ChargeTerms
from app.core.explanation.figures import Figures
from app.core.money import ZERO, decimal_text
from app.core.taxes import FeeTaxes, TaxLine
from app.ids import new_id
from app.models import BillingPeriod, Credit, Fee, FeeTax, Invoice, InvoiceTax, balances_outdated
from app.stores.copying import copy_rows, row_text

_json = msgspec.json.Encoder(decimal_format="number")


class Rows:
    """What is to be written, all of it made at one instant."""

    def __init__(self, made_at: datetime):
        self._made_at = made_at
        self._tables = {table: _Table() for table in (Invoice, BillingPeriod, Fee, FeeTax, InvoiceTax, Credit)}
        self._customers: set[UUID] = set()
        self._changed: list[dict[str, Any]] = []
        self._terms: dict[UUID, dict[UUID, KeptTerms]] = defaultdict(dict)
        self._known_terms: dict[int, tuple[ChargeTerms, UUID]] = {}

    def add_invoice(self, *, error_details: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Add an invoice, of which these are the columns."""
        row = {
            "total_paid_amount_cents": 0,
            **values,
            "payment_overdue": False,
            "offset_amount_cents": 0,
            "ready_to_be_refreshed": False,
            "error_details": _encoded(error_details),
            "created_at": self._made_at,
            "updated_at": self._made_at,
        }
        self._tables[Invoice].add(row)
        self._customers.add(values["customer_id"])

    def change_invoice(self, invoice_id: UUID, **values: Any) -> None:
        """Change an invoice that is made anew: these are its columns."""
        self._changed.append({"id": invoice_id, **values, "ready_to_be_refreshed": False, "updated_at": self._made_at})

    def add_invoice_tax(
        self, invoice_id: UUID, organization_id: UUID, tax: AppliedTax, line: TaxLine, currency: str
    ) -> None:
        """Add a tax over a whole invoice."""
        self._tables[InvoiceTax].add(
            {
                **self._tax(tax, organization_id, currency),
                "invoice_id": invoice_id,
                "amount_cents": line.amount_cents,
                "fees_amount_cents": line.fees_amount_cents,
            }
        )

    def add_credit(
        self, invoice_id: UUID, organization_id: UUID, credited: Credited, position: int, currency: str
    ) -> None:
        """Add what lowers an invoice."""
        self._tables[Credit].add(
            {
                "id": new_id(),
                "organization_id": organization_id,
                "invoice_id": invoice_id,
                "credit_note_id": credited.credit_note_id,
                "applied_coupon_id": credited.applied_coupon_id,
                "progressive_invoice_id": credited.progressive_invoice_id,
                "position": position,
                "amount_cents": credited.amount_cents,
                "currency": currency,
                "created_at": self._made_at,
            }
        )

    def add_period(self, line: BilledLine, invoice_id: UUID, position: int) -> None:
        """Add what an invoice covers of a subscription."""
        boundaries, charges, fixed = line.boundaries, line.boundaries.charges, line.boundaries.fixed_charges
        self._tables[BillingPeriod].add(
            {
                "id": new_id(),
                "organization_id": line.subscription.organization_id,
                "invoice_id": invoice_id,
                "subscription_id": line.subscription.id,
                "position": position,
                "invoicing_reason": line.reason,
                "billed_at": line.billed_at,
                "from_datetime": boundaries.from_,
                "to_datetime": boundaries.to,
                "charges_from_datetime": charges and charges.from_,
                "charges_to_datetime": charges and charges.to,
                "fixed_charges_from_datetime": fixed and fixed.from_,
                "fixed_charges_to_datetime": fixed and fixed.to,
            }
        )

    def add_fee(
        self,
        fee: FeeDraft,
        invoice_id: UUID | None,
        position: int,
        *,
        paid: bool,
        reduced: Decimal = ZERO,
        noted: Decimal = ZERO,
        taxes: FeeTaxes | None = None,
    ) -> None:
        """Add a fee with its taxes; without an invoice it stands alone. `reduced`: what has been taken of it before taxes,
        which `taxes` are reckoned after; `noted`: what credit notes have paid of it."""
        buyer, item, amounts = fee.buyer, fee.item, fee.amounts
        taxes = taxes or fee.tax_amounts
        self._customers.add(buyer.customer_id)
        self._tables[Fee].add(
            {
                "id": fee.id,
                "organization_id": buyer.organization_id,
                "invoice_id": invoice_id,
                "customer_id": buyer.customer_id,
                "subscription_id": fee.subscription and fee.subscription.id,
                "charge_id": fee.charge_id,
                "charge_filter_id": fee.charge_filter_id,
                "fixed_charge_id": fee.fixed_charge_id,
                "true_up_parent_fee_id": fee.true_up_parent_id,
                "original_fee_id": fee.original_fee_id,
                "position": position,
                "fee_type": item.fee_type,
                "item_code": item.code,
                "item_name": item.name,
                "item_description": item.description,
                "invoice_display_name": item.display_name,
                "item_id": item.id,
                "item_filters": _encoded(item.filters),
                "filter_invoice_display_name": item.filter_display_name,
                "pay_in_advance": fee.pay_in_advance,
                "invoiceable": fee.invoiceable,
                "event_transaction_id": _storable(fee.event_transaction_id),
                "event_id": fee.event_id,
                "currency": buyer.currency,
                "amount_cents": amounts.amount_cents,
                "precise_amount_cents": amounts.precise_amount_cents,
                "precise_coupons_amount_cents": reduced,
                "precise_credit_notes_amount_cents": noted,
                "taxes_amount_cents": taxes.amount_cents,
                "taxes_precise_amount_cents": taxes.precise_amount_cents,
                "taxes_rate": taxes.rate,
                "grouped_by": _encoded(fee.group),
                "presentation_breakdowns": _encoded(_breakdowns(fee)),
                "units": amounts.units,
                "total_aggregated_units": amounts.units if fee.aggregated_units is None else fee.aggregated_units,
                "precise_unit_amount": amounts.precise_unit_amount,
                "events_count": fee.events_count,
                "amount_details": _encoded(amounts.amount_details),
                "pricing_unit_usage": _encoded(fee.pricing_unit),
                "priced_terms_id": self._terms_id(fee),
                "figures": _figures(fee),
                "payment_status": "succeeded" if paid else "pending",
                "from_datetime": fee.from_,
                "to_datetime": fee.to,
                "created_at": self._made_at,
                "succeeded_at": self._made_at if paid else None,
            }
        )
        amounts_by_tax = dict(taxes.lines) if fee.taxes else {}
        for tax in fee.taxes:
            self._tables[FeeTax].add(
                {
                    **self._tax(tax, buyer.organization_id, buyer.currency),
                    "fee_id": fee.id,
                    "amount_cents": amounts_by_tax[str(tax.id)],
                }
            )

    def _tax(self, tax: AppliedTax, organization_id: UUID, currency: str) -> dict[str, Any]:
        return {
            "id": new_id(),
            "organization_id": organization_id,
            "tax_id": tax.id,
            "tax_name": tax.name,
            "tax_code": tax.code,
            "tax_rate": tax.rate,
            "tax_description": tax.description,
            "currency": currency,
            "created_at": self._made_at,
        }

    def _terms_id(self, fee: FeeDraft) -> UUID | None:
        """What the terms of a fee are kept under, where they are kept."""
        if fee.priced_terms_id is not None or fee.terms is None:
            return fee.priced_terms_id
        return self._kept(fee.terms, fee.buyer.organization_id)

    def _kept(self, charge: ChargeTerms, organization_id: UUID) -> UUID:
        """The id that a charge's terms are kept under. It is made once for each charge that was loaded."""
        known = self._known_terms.get(id(charge))
        if known is None:
            terms = KeptTerms.of(charge)
            known = self._known_terms[id(charge)] = charge, terms.id
            self._terms[organization_id][terms.id] = terms
        return known[1]

    def copy(self, db: Session) -> None:
        """Write everything, parents first."""
        for organization_id, terms in self._terms.items():
            keep(db, organization_id, terms, self._made_at)
        if self._changed:
            db.execute(update(Invoice), self._changed, execution_options={"synchronize_session": None})
        for table, made in self._tables.items():
            if made.rows:
                copy_rows(db, table.__tablename__, made.columns, made.rows)
        balances_outdated(db, self._customers)


class _Table:
    """The rows of a table, as they are copied; all have the same columns."""

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self.rows: list[bytes] = []

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.rows:
            self.columns = tuple(row)
        self.rows.append(row_text(tuple(row.values())))


def _storable(text: str | None) -> str | None:
    """A sender's text without NUL, which PostgreSQL cannot hold."""
    return None if text is None else text.replace("\x00", "")


def _encoded(value: Mapping[str, Any] | Sequence[Any] | None) -> str | None:
    """As JSON, which is what it is stored as."""
    return None if value is None else _json.encode(value).decode()


def _figures(fee: FeeDraft) -> str | None:
    return _encoded(fee.figures.stored() if isinstance(fee.figures, Figures) else fee.figures)


def _breakdowns(fee: FeeDraft) -> list[dict[str, Any]]:
    return [{"presentation_by": one.by, "units": decimal_text(one.units)} for one in fee.presented]
