"""`/api/v1/invoices/{lago_id}/regenerate`: a voided invoice made anew (billing spec 3.7)."""

from decimal import Decimal

from litestar import Controller
from msgspec import UNSET, Struct

from app.api.given import Db, Now, Org
from app.api.invoice_objects import InvoiceAnswer, whole_invoice
from app.api.routes import post
from app.api.wire import Opt, Str, changes
from app.billing.regeneration import regenerate_invoice
from app.validation import as_uuid


class RegeneratedFeeInput(Struct):
    """A fee of the voided invoice, named by `fee_id`, or another one: of a charge or a fixed charge of a subscription, or,
    on a one-off invoice, of an add-on."""

    fee_id: Str | Opt | None = UNSET
    subscription_id: Str | Opt | None = UNSET
    charge_id: Str | Opt | None = UNSET
    charge_filter_id: Str | Opt | None = UNSET
    fixed_charge_id: Str | Opt | None = UNSET
    add_on_code: Str | Opt | None = UNSET
    units: Decimal | Opt | None = UNSET
    unit_precise_amount: Decimal | Opt | None = UNSET
    invoice_display_name: Str | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    tax_codes: list[Str] | Opt | None = UNSET


class RegenerateInput(Struct):
    fees: list[RegeneratedFeeInput] | Opt | None = UNSET


class RegenerateBody(Struct):
    invoice: RegenerateInput


class RegenerationController(Controller):
    path = "/invoices/{lago_id:str}/regenerate"
    tags = ["invoices"]
    opt = {"resource": "invoice"}

    @post()
    def regenerate_invoice(
        self, lago_id: str, db: Db, organization: Org, now: Now, data: RegenerateBody | None = None
    ) -> InvoiceAnswer:
        """Make another invoice in place of a voided one, with the fees that are named, as they were or adjusted, and with
        others. Without `fees` it has all of them."""
        sent = {} if data is None else changes(data.invoice)
        invoice = regenerate_invoice(db, organization.id, as_uuid(lago_id), sent, now)
        return InvoiceAnswer(whole_invoice(invoice, now))
