"""`POST /api/v1/invoices/preview`: an invoice that has not been made (billing spec 3.8)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct

from app.api.customers import AddressInput
from app.api.errors import from_msgspec
from app.api.given import Now, Org, Running
from app.api.invoice_objects import InvoiceAnswer, InvoiceObject, whole_invoice
from app.api.routes import post
from app.api.wire import Cents, Count, Opt, Str, changes, parse_instant
from app.billing.preview import Asked, preview
from app.errors import ApiError, BadRequest, invalid
from app.models import Invoice


class PreviewCustomerInput(Struct):
    external_id: Str | Opt | None = UNSET
    name: Str | Opt | None = UNSET
    currency: Str | Opt | None = UNSET
    timezone: Str | Opt | None = UNSET
    address_line1: Str | Opt | None = UNSET
    address_line2: Str | Opt | None = UNSET
    city: Str | Opt | None = UNSET
    state: Str | Opt | None = UNSET
    zipcode: Str | Opt | None = UNSET
    country: Str | Opt | None = UNSET
    tax_identification_number: Str | Opt | None = UNSET
    shipping_address: AddressInput | Opt | None = UNSET


class PreviewCouponInput(Struct):
    code: Str
    name: Str | Opt | None = UNSET
    coupon_type: Str | Opt | None = UNSET
    amount_cents: Cents | Opt | None = UNSET
    amount_currency: Str | Opt | None = UNSET
    percentage_rate: Decimal | Opt | None = UNSET
    frequency: Str | Opt | None = UNSET
    frequency_duration: Count | Opt | None = UNSET


class PreviewSubscriptionsInput(Struct):
    external_ids: list[Str] | Opt | None = UNSET
    plan_code: Str | Opt | None = UNSET
    terminated_at: Str | Opt | None = UNSET


class PreviewBody(Struct):
    """`coupons` is a list of coupons, `subscriptions` an object with `external_ids` and, for the end of one or for another
    plan, `terminated_at` or `plan_code`."""

    customer: PreviewCustomerInput | Opt | None = UNSET
    plan_code: Str | Opt | None = UNSET
    subscription_at: Str | Opt | None = UNSET
    billing_time: Str | Opt | None = UNSET
    coupons: Any = UNSET
    subscriptions: Any = UNSET
    billing_entity_code: Str | Opt | None = UNSET


class InvoicePreviewController(Controller):
    path = "/invoices/preview"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @post()
    def preview_invoice(self, data: PreviewBody, service: Running, organization: Org, now: Now) -> InvoiceAnswer:
        """The invoice that a new subscription would begin with, the next one of subscriptions, or the one that the end of
        a subscription or another plan would lead to, with all that would lower it. Nothing is stored."""
        asked = _asked(data)
        service.wait_until_readable(organization.id)

        def read(invoice: Invoice) -> InvoiceObject:
            return _shown(whole_invoice(invoice, now), invoice.billing_entity.document_number_prefix)

        return InvoiceAnswer(preview(service.postgres, organization.id, asked, now, service.meter, read))


def _asked(data: PreviewBody) -> Asked:
    sent = changes(data)
    if not sent.get("customer"):
        raise invalid("customer", "value_is_mandatory")
    coupons = _read(sent.get("coupons"), list, list[PreviewCouponInput], "coupons_must_be_an_array")
    found = _read(sent.get("subscriptions"), dict, PreviewSubscriptionsInput, "subscriptions_must_be_an_object")
    of: Mapping[str, Any] = changes(found) if found else {}
    return Asked(
        customer=sent["customer"],
        plan_code=sent.get("plan_code"),
        billing_time=sent.get("billing_time"),
        subscription_at=_instant(sent, "subscription_at"),
        external_ids=of.get("external_ids") or (),
        new_plan_code=of.get("plan_code"),
        terminated_at=_instant(of, "terminated_at"),
        billing_entity_code=sent.get("billing_entity_code"),
        coupons=[changes(one) for one in coupons or ()],
    )


def _read(value: Any, kind: type, shape: Any, otherwise: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, kind):
        raise _refusal(otherwise)
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None


def _refusal(code: str) -> ApiError:
    """A 400 that is told by its code alone."""
    error = BadRequest(code)
    error.error = code
    return error


def _instant(sent: Mapping[str, Any], field: str) -> datetime | None:
    value = sent.get(field)
    return parse_instant(value, field) if value else None


def _shown(invoice: InvoiceObject, prefix: str) -> InvoiceObject:
    """An invoice as one that is not there: without a number, and its fees without ids to find them by."""
    invoice.number, invoice.sequential_id, invoice.status = f"{prefix}-DRAFT", None, "draft"
    for fee in invoice.fees:
        fee.lago_id = fee.lago_invoice_id = fee.lago_true_up_fee_id = fee.lago_true_up_parent_fee_id = None
    return invoice
