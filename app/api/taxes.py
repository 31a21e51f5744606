"""`/api/v1/taxes` (billing spec 4.1)."""

from decimal import Decimal
from uuid import UUID

import msgspec
from litestar import Controller
from msgspec import UNSET, Struct
from sqlalchemy import select

from app.api.given import Db, Now, Org, Paging
from app.api.routes import delete, get, post, put
from app.api.wire import Opt, PageMeta, Str, blank, changes, instant, number, paginate, sent
from app.catalog.taxes import apply_to_organization, delete_tax, find_tax, live_taxes
from app.errors import Problems
from app.models import Tax
from app.validation import check_code

LARGEST_RATE = Decimal(1_000_000)


class TaxInput(Struct):
    name: Str | Opt | None = UNSET
    code: Str | Opt | None = UNSET
    rate: Decimal | Opt | None = UNSET
    description: Str | Opt | None = UNSET
    applied_to_organization: bool | Opt | None = UNSET


class TaxBody(Struct):
    tax: TaxInput


class TaxObject(Struct):
    lago_id: UUID
    name: str
    code: str
    rate: msgspec.Raw
    description: str | None
    applied_to_organization: bool
    created_at: str
    add_ons_count: int = 0
    customers_count: int = 0
    plans_count: int = 0
    charges_count: int = 0
    commitments_count: int = 0


class TaxAnswer(Struct):
    tax: TaxObject


class TaxesAnswer(Struct):
    taxes: list[TaxObject]
    meta: PageMeta


def tax_object(tax: Tax) -> TaxObject:
    """A tax as it is on the wire."""
    return TaxObject(
        lago_id=tax.id,
        name=tax.name,
        code=tax.code,
        rate=number(tax.rate),
        description=tax.description,
        applied_to_organization=tax.applied_to_organization,
        created_at=instant(tax.created_at),
    )


class TaxController(Controller):
    path = "/taxes"
    tags = ["taxes"]
    opt = {"resource": "tax"}

    @post()
    def create_tax(self, data: TaxBody, db: Db, organization: Org, now: Now) -> TaxAnswer:
        """Make a tax."""
        sent_tax = data.tax
        _check(db, organization.id, sent_tax, None)
        tax = Tax(organization_id=organization.id, created_at=now)
        _assign(tax, sent_tax, now)
        db.add(tax)
        db.flush()
        apply_to_organization(db, tax, sent_tax.applied_to_organization is True)
        return TaxAnswer(tax_object(tax))

    @get()
    def list_taxes(self, db: Db, organization: Org, paging: Paging) -> TaxesAnswer:
        """All taxes, newest first."""
        taxes, meta = paginate(db, live_taxes(organization.id), paging)
        return TaxesAnswer([tax_object(tax) for tax in taxes], meta)

    @get("/{code:path}")
    def get_tax(self, code: str, db: Db, organization: Org) -> TaxAnswer:
        """One tax."""
        return TaxAnswer(tax_object(find_tax(db, organization.id, code[1:])))

    @put("/{code:path}")
    def update_tax(self, code: str, data: TaxBody, db: Db, organization: Org, now: Now) -> TaxAnswer:
        """Change a tax. Issued invoices keep the rate they were issued with."""
        tax = find_tax(db, organization.id, code[1:])
        _check(db, organization.id, data.tax, tax)
        _assign(tax, data.tax, now)
        if isinstance(data.tax.applied_to_organization, bool):
            apply_to_organization(db, tax, data.tax.applied_to_organization)
        return TaxAnswer(tax_object(tax))

    @delete("/{code:path}")
    def remove_tax(self, code: str, db: Db, organization: Org, now: Now) -> TaxAnswer:
        """Delete a tax."""
        tax = find_tax(db, organization.id, code[1:])
        delete_tax(tax, now)
        return TaxAnswer(tax_object(tax))


def _check(db: Db, organization_id: UUID, sent_tax: TaxInput, tax: Tax | None) -> None:
    problems = Problems()
    check_code(problems, changes(sent_tax))
    for field in ("name", "code", "rate"):
        value = getattr(sent_tax, field)
        if blank(value) and (tax is None or sent(value)):
            problems.add(field, "value_is_mandatory")
    if isinstance(sent_tax.rate, Decimal) and not (sent_tax.rate.is_finite() and 0 <= sent_tax.rate <= LARGEST_RATE):
        problems.add("rate", "value_is_out_of_range")
    if isinstance(sent_tax.code, str) and (tax is None or sent_tax.code != tax.code):
        taken = db.scalar(select(Tax.id).where(live_taxes(organization_id).whereclause, Tax.code == sent_tax.code))  # type: ignore[arg-type]
        if taken is not None:
            problems.add("code", "value_already_exist")
    problems.check()


def _assign(tax: Tax, sent_tax: TaxInput, now: Now) -> None:
    for field in ("name", "code", "rate", "description"):
        if sent(getattr(sent_tax, field)):
            setattr(tax, field, getattr(sent_tax, field))
    tax.updated_at = now
