"""`/api/v1/invoices/{id}/adjusted_fees`: fees of drafts that somebody has adjusted (billing spec 3.3)."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org, Running
from app.api.routes import delete, get, post
from app.api.wire import Opt, Str, changes, instant
from app.billing.adjusted_fees import adjust_fee, adjusted_fees, remove_adjustment
from app.core.money import decimal_text
from app.models import AdjustedFee
from app.validation import as_uuid


class AdjustedFeeInput(Struct):
    fee_id: Str | Opt | None = UNSET
    subscription_id: Str | Opt | None = UNSET
    charge_id: Str | Opt | None = UNSET
    charge_filter_id: Str | Opt | None = UNSET
    fixed_charge_id: Str | Opt | None = UNSET
    units: Decimal | Opt | None = UNSET
    unit_precise_amount: Decimal | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET


class AdjustedFeeBody(Struct):
    adjusted_fee: AdjustedFeeInput


class AdjustedFeeObject(Struct):
    lago_id: UUID
    lago_invoice_id: UUID
    lago_subscription_id: UUID
    fee_type: str
    lago_charge_id: UUID | None
    lago_charge_filter_id: UUID | None
    lago_fixed_charge_id: UUID | None
    grouped_by: dict[str, Any]
    units: str | None
    unit_precise_amount: str | None
    invoice_display_name: str | None
    created_at: str


class AdjustedFeeAnswer(Struct):
    adjusted_fee: AdjustedFeeObject


class AdjustedFeesAnswer(Struct):
    adjusted_fees: list[AdjustedFeeObject]


def adjusted_fee_object(one: AdjustedFee) -> AdjustedFeeObject:
    """An adjustment as it is on the wire."""
    return AdjustedFeeObject(
        lago_id=one.id,
        lago_invoice_id=one.invoice_id,
        lago_subscription_id=one.subscription_id,
        fee_type=one.fee_type,
        lago_charge_id=one.charge_id,
        lago_charge_filter_id=one.charge_filter_id,
        lago_fixed_charge_id=one.fixed_charge_id,
        grouped_by=one.grouped_by,
        units=None if one.units is None else decimal_text(one.units),
        unit_precise_amount=None if one.unit_precise_amount is None else decimal_text(one.unit_precise_amount),
        invoice_display_name=one.invoice_display_name,
        created_at=instant(one.created_at),
    )


class AdjustedFeeController(Controller):
    path = "/invoices/{lago_id:str}/adjusted_fees"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @post()
    def adjust_fee(
        self, lago_id: str, data: AdjustedFeeBody, db: Db, service: Running, organization: Org, now: Now
    ) -> AdjustedFeeAnswer:
        """Set the units, the units and the unit amount, or the name of a fee of a draft. It stays so when the draft is
        refreshed, and when it becomes final."""
        service.wait_until_readable(organization.id)
        sent, meter = changes(data.adjusted_fee), service.billing_meter
        made = adjust_fee(db, organization.id, as_uuid(lago_id), sent, now, meter)
        return AdjustedFeeAnswer(adjusted_fee_object(made))

    @get()
    def list_adjusted_fees(self, lago_id: str, db: Db, organization: Org) -> AdjustedFeesAnswer:
        """The fees of an invoice that have been adjusted, oldest first."""
        found = adjusted_fees(db, organization.id, as_uuid(lago_id))
        return AdjustedFeesAnswer([adjusted_fee_object(one) for one in found])

    @delete("/{adjusted_fee_id:str}")
    def remove_adjusted_fee(
        self, lago_id: str, adjusted_fee_id: str, db: Db, service: Running, organization: Org, now: Now
    ) -> AdjustedFeeAnswer:
        """Let a fee of a draft be again what it comes to by itself."""
        service.wait_until_readable(organization.id)
        ids, meter = (as_uuid(lago_id), as_uuid(adjusted_fee_id)), service.billing_meter
        return AdjustedFeeAnswer(adjusted_fee_object(remove_adjustment(db, organization.id, *ids, now, meter)))
