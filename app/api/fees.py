"""`/api/v1/fees` (billing spec 3.9, 11.6)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Paging, Running
from app.api.routes import delete, get, put
from app.api.wire import Opt, PageMeta, Str, exact_json, instant, instant_or_none, number, paginate, parse_instant
from app.billing.issued import (
    FEE_TYPES,
    find_fee,
    remove_fee,
    search_fees,
)
from app.billing.payment_status import FEE_PAYMENT_STATUSES, set_fee_payment_status
from app.core.money import decimal_text, from_minor, minor_int
from app.errors import Problems
from app.models import Fee, FeeTax, InvoiceTax
from app.validation import as_uuid, check_one_of

ITEM_TYPES = {
    "charge": "BillableMetric",
    "add_on": "AddOn",
    "fixed_charge": "AddOn",
    "credit": "WalletTransaction",
    "subscription": "Subscription",
    "commitment": "Subscription",
}


class FeeItem(Struct):
    type: str
    code: str
    name: str
    description: str | None
    invoice_display_name: str | None
    filters: dict[str, Any] | None
    filter_invoice_display_name: str | None
    lago_item_id: UUID
    item_type: str
    grouped_by: dict[str, str | None]


class AppliedTaxObject(Struct, kw_only=True):
    lago_id: UUID | None
    lago_fee_id: UUID | None = None
    lago_invoice_id: UUID | None = None
    lago_tax_id: UUID
    tax_name: str
    tax_code: str
    tax_rate: msgspec.Raw
    tax_description: str | None
    amount_cents: int
    amount_currency: str
    fees_amount_cents: int | None = None
    created_at: str | None


class FeeObject(Struct, kw_only=True):
    """A fee. One that is only estimated has no id and no times of its own."""

    lago_id: UUID | None
    lago_charge_id: UUID | None
    lago_charge_filter_id: UUID | None = None
    lago_fixed_charge_id: UUID | None = None
    lago_invoice_id: UUID | None
    lago_true_up_fee_id: UUID | None = None
    lago_true_up_parent_fee_id: UUID | None = None
    lago_original_fee_id: UUID | None = None
    lago_subscription_id: UUID | None
    external_subscription_id: str | None
    lago_customer_id: UUID
    external_customer_id: str
    item: FeeItem
    pay_in_advance: bool
    invoiceable: bool
    amount_cents: int
    amount_currency: str
    precise_amount: str
    precise_total_amount: str
    taxes_amount_cents: int
    taxes_precise_amount: str
    taxes_rate: msgspec.Raw
    total_aggregated_units: str
    total_amount_cents: int
    total_amount_currency: str
    units: str
    description: str | None = None
    precise_unit_amount: str
    precise_coupons_amount_cents: str = "0.0"
    sub_total_excluding_taxes_amount_cents: int
    sub_total_excluding_taxes_precise_amount_cents: str
    events_count: int | None
    payment_status: str
    created_at: str | None
    succeeded_at: str | None
    failed_at: str | None
    refunded_at: str | None
    amount_details: msgspec.Raw
    self_billed: bool = False
    pricing_unit_details: msgspec.Raw | None
    presentation_breakdowns: list[Any] = []
    from_date: str | None
    to_date: str | None
    event_transaction_id: str | None
    applied_taxes: list[AppliedTaxObject]


class FeeAnswer(Struct):
    fee: FeeObject


class FeesAnswer(Struct):
    fees: list[FeeObject]
    meta: PageMeta


class FeeInput(Struct):
    payment_status: Str | Opt | None = UNSET


class FeeBody(Struct):
    fee: FeeInput


def fee_object(fee: Fee) -> FeeObject:
    """A fee as it is on the wire."""
    precise = fee.precise_amount_cents
    return FeeObject(
        lago_id=fee.id,
        lago_charge_id=fee.charge_id,
        lago_charge_filter_id=fee.charge_filter_id,
        lago_fixed_charge_id=fee.fixed_charge_id,
        lago_invoice_id=fee.invoice_id,
        lago_true_up_fee_id=fee.true_up_fee.id if fee.true_up_fee else None,
        lago_true_up_parent_fee_id=fee.true_up_parent_fee_id,
        lago_original_fee_id=fee.original_fee_id,
        lago_subscription_id=fee.subscription_id,
        external_subscription_id=fee.subscription.external_id if fee.subscription else None,
        lago_customer_id=fee.customer_id,
        external_customer_id=fee.customer.external_id,
        item=FeeItem(
            type=fee.fee_type,
            code=fee.item_code,
            name=fee.item_name,
            description=fee.item_description,
            invoice_display_name=fee.invoice_display_name,
            filters=fee.item_filters,
            filter_invoice_display_name=fee.filter_invoice_display_name,
            lago_item_id=fee.item_id,
            item_type=ITEM_TYPES[fee.fee_type],
            grouped_by=fee.grouped_by,
        ),
        pay_in_advance=fee.pay_in_advance,
        invoiceable=fee.invoiceable,
        amount_cents=fee.amount_cents,
        amount_currency=fee.currency,
        precise_amount=decimal_text(from_minor(precise, fee.currency)),
        precise_total_amount=decimal_text(from_minor(precise + fee.taxes_precise_amount_cents, fee.currency)),
        taxes_amount_cents=fee.taxes_amount_cents,
        taxes_precise_amount=decimal_text(from_minor(fee.taxes_precise_amount_cents, fee.currency)),
        taxes_rate=number(fee.taxes_rate),
        total_aggregated_units=decimal_text(fee.total_aggregated_units),
        total_amount_cents=fee.amount_cents + fee.taxes_amount_cents,
        total_amount_currency=fee.currency,
        units=decimal_text(fee.units),
        description=fee.item_description if fee.fee_type == "add_on" else None,
        precise_unit_amount=decimal_text(fee.precise_unit_amount),
        precise_coupons_amount_cents=decimal_text(fee.precise_coupons_amount_cents),
        sub_total_excluding_taxes_amount_cents=minor_int(fee.amount_cents - fee.precise_coupons_amount_cents),
        sub_total_excluding_taxes_precise_amount_cents=decimal_text(precise - fee.precise_coupons_amount_cents),
        events_count=fee.events_count,
        payment_status=fee.payment_status,
        created_at=instant(fee.created_at),
        succeeded_at=instant_or_none(fee.succeeded_at),
        failed_at=instant_or_none(fee.failed_at),
        refunded_at=instant_or_none(fee.refunded_at),
        amount_details=exact_json(fee.amount_details),
        pricing_unit_details=None if fee.pricing_unit_usage is None else exact_json(fee.pricing_unit_usage),
        presentation_breakdowns=fee.presentation_breakdowns,
        from_date=instant(fee.from_datetime),
        to_date=instant(fee.to_datetime),
        event_transaction_id=fee.event_transaction_id,
        applied_taxes=[applied_tax_object(tax) for tax in fee.applied_taxes],
    )


def applied_tax_object(tax: FeeTax | InvoiceTax) -> AppliedTaxObject:
    """A tax as it was applied to a fee or an invoice."""
    return AppliedTaxObject(
        lago_id=tax.id,
        lago_fee_id=tax.fee_id if isinstance(tax, FeeTax) else None,
        lago_invoice_id=tax.invoice_id if isinstance(tax, InvoiceTax) else None,
        lago_tax_id=tax.tax_id,
        tax_name=tax.tax_name,
        tax_code=tax.tax_code,
        tax_rate=number(tax.tax_rate),
        tax_description=tax.tax_description,
        amount_cents=tax.amount_cents,
        amount_currency=tax.currency,
        fees_amount_cents=tax.fees_amount_cents if isinstance(tax, InvoiceTax) else None,
        created_at=instant(tax.created_at),
    )


class FeeController(Controller):
    path = "/fees"
    tags = ["fees"]
    opt = {"resource": "fee"}

    @get()
    def list_fees(
        self,
        db: Db,
        service: Running,
        organization: Org,
        paging: Paging,
        external_customer_id: str | None = None,
        external_subscription_id: str | None = None,
        event_transaction_id: str | None = None,
        billable_metric_code: str | None = None,
        currency: str | None = None,
        fee_type: str | None = None,
        payment_status: str | None = None,
        created_at_from: str | None = None,
        created_at_to: str | None = None,
        succeeded_at_from: str | None = None,
        succeeded_at_to: str | None = None,
        failed_at_from: str | None = None,
        failed_at_to: str | None = None,
        refunded_at_from: str | None = None,
        refunded_at_to: str | None = None,
    ) -> FeesAnswer:
        """The fees that pass all filters, oldest first."""
        service.wait_until_readable(organization.id)
        problems = Problems()
        check_one_of(problems, {"fee_type": fee_type}, "fee_type", FEE_TYPES)
        check_one_of(problems, {"payment_status": payment_status}, "payment_status", FEE_PAYMENT_STATUSES)
        problems.check()
        bounds = {
            "created_at": (created_at_from, created_at_to),
            "succeeded_at": (succeeded_at_from, succeeded_at_to),
            "failed_at": (failed_at_from, failed_at_to),
            "refunded_at": (refunded_at_from, refunded_at_to),
        }
        query = search_fees(
            organization.id,
            external_customer_id=external_customer_id,
            external_subscription_id=external_subscription_id,
            event_transaction_id=event_transaction_id,
            billable_metric_code=billable_metric_code,
            currency=currency,
            fee_type=fee_type,
            payment_status=payment_status,
            between={
                name: (_bound(f"{name}_from", low), _bound(f"{name}_to", high)) for name, (low, high) in bounds.items()
            },
        )
        fees, meta = paginate(db, query, paging)
        return FeesAnswer([fee_object(fee) for fee in fees], meta)

    @get("/{lago_id:str}")
    def get_fee(self, lago_id: str, db: Db, organization: Org) -> FeeAnswer:
        """One fee."""
        return FeeAnswer(fee_object(find_fee(db, organization.id, as_uuid(lago_id))))

    @put("/{lago_id:str}")
    def update_fee(self, lago_id: str, data: FeeBody, db: Db, organization: Org, now: Now) -> FeeAnswer:
        """Note how a fee's payment stands."""
        fee = find_fee(db, organization.id, as_uuid(lago_id))
        status = data.fee.payment_status
        set_fee_payment_status(fee, status if isinstance(status, str) else None, now)
        return FeeAnswer(fee_object(fee))

    @delete("/{lago_id:str}")
    def remove_fee(self, lago_id: str, db: Db, organization: Org, now: Now) -> FeeAnswer:
        """Delete a fee that stands alone. One on an invoice cannot be deleted."""
        fee = find_fee(db, organization.id, as_uuid(lago_id))
        remove_fee(fee, now)
        return FeeAnswer(fee_object(fee))


def _bound(field: str, text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text.replace(" ", "+") if "T" in text else text, field)
