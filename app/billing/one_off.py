"""One-off invoices: add-ons sold outside of any subscription, invoiced at once (billing spec 5.4)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from app.billing.billed import Buyer
from app.billing.book import applied_taxes, load_taxes
from app.billing.fees import FeeDraft, FeeItem, tax_amounts
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import write_invoices
from app.billing.locks import lock_customer
from app.billing.payers import payer_of
from app.billing.terms import TaxBook, Taxes
from app.catalog.add_ons import hold_add_ons
from app.catalog.taxes import taxes_by_code
from app.core.charges.fees import FeeAmounts
from app.core.money import decimal_places, exact, from_minor, minor_int
from app.core.values import replace
from app.customers.billing_entities import find_entity
from app.customers.customers import find_customer
from app.errors import NotFound, Problems, invalid
from app.models import AddOn, Customer
from app.validation import Changes, check_currency

MOST_UNITS = Decimal(10) ** 15
UNIT_PLACES = 15
LARGEST_FEE = 10**15
"""The most that one fee may come to, in minor units."""


def sell(db: Session, organization_id: UUID, sent: Changes, now: datetime) -> UUID:
    """Invoice add-ons to a customer at once, and return the invoice's id. `from_datetime` and `to_datetime` of the fees are
    instants. Taxes are those sent with a fee, else the add-on's,
    the customer's or its billing entity's. No coupon, credit note or prepaid credit is taken; amount 0 is invoiced, too.

    Raises:
        NotFound: `customer_not_found`, `billing_entity_not_found`, `fees_not_found`, `add_on_not_found`, `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    customer = find_customer(db, organization_id, sent.get("external_customer_id") or "")
    lock_customer(db, customer.id)
    code = sent.get("billing_entity_code")
    issuer = find_entity(db, organization_id, code) if code else None
    wanted: Sequence[Changes] = sent.get("fees") or ()
    if not wanted:
        raise NotFound("fees")
    add_ons = _add_ons(db, organization_id, wanted)
    currency = _currency(sent, customer, wanted, add_ons)
    buyer = Buyer(organization_id, customer.id, currency)
    taxes = load_taxes(db, [customer.id])
    fees = [add_on_fee(db, one, add_ons[one["add_on_code"]], buyer, taxes, now) for one in wanted]
    draft = InvoiceDraft(
        payer=replace(payer_of(customer, issuer), finalize_zero=True),
        currency=currency,
        billed_at=now,
        purchase_order_number=sent.get("purchase_order_number"),
        other_fees=tuple(fees),
        invoice_type="one_off",
    )
    customer.currency = customer.currency or currency
    db.flush()
    (invoice_id,) = write_invoices(db, [draft], now)
    return invoice_id


def _add_ons(db: Session, organization_id: UUID, wanted: Sequence[Changes]) -> dict[str, AddOn]:
    codes = {one.get("add_on_code") for one in wanted}
    found = {one.code: one for one in hold_add_ons(db, organization_id, (), [code for code in codes if code])}
    if codes - found.keys():
        raise NotFound("add_on")
    return found


def _currency(sent: Changes, customer: Customer, wanted: Sequence[Changes], add_ons: Mapping[str, AddOn]) -> str:
    """The currency sent, else the customer's, else the first add-on's. A price of an add-on stands in its own currency."""
    problems = Problems()
    check_currency(problems, sent, "currency")
    problems.check()
    first = add_ons[wanted[0]["add_on_code"]].amount_currency
    currency: str = sent.get("currency") or customer.currency or first
    priced = [add_ons[one["add_on_code"]] for one in wanted if one.get("unit_amount_cents") is None]
    if any(add_on.amount_currency != currency for add_on in priced):
        raise invalid("currency", "currencies_does_not_match")
    return currency


def add_on_fee(db: Session, sent: Changes, add_on: AddOn, buyer: Buyer, taxes: TaxBook, now: datetime) -> FeeDraft:
    """The fee of an add-on: `units` of it at `unit_amount_cents`, or at its own price.

    Raises:
        NotFound: `tax_not_found`.
        Invalid: a field breaks a rule.
    """
    unit_amount = sent.get("unit_amount_cents")
    amounts = _amounts(add_on.amount_cents if unit_amount is None else unit_amount, _units(sent), buyer.currency)
    explicit: Taxes = applied_taxes(taxes_by_code(db, buyer.organization_id, sent.get("tax_codes") or ()))
    own = taxes.taxes(
        explicit,
        applied_taxes(add_on.taxes),
        customer_id=buyer.customer_id,
    )
    from_, to = _boundaries(sent, now)
    description = sent.get("description")
    return FeeDraft(
        id=uuid4(),
        buyer=buyer,
        subscription=None,
        item=FeeItem(
            fee_type="add_on",
            id=add_on.id,
            code=add_on.code,
            name=add_on.name,
            description=add_on.description if description is None else description,
            display_name=sent.get("invoice_display_name") or add_on.invoice_display_name or add_on.name,
        ),
        amounts=amounts,
        from_=from_,
        to=to,
        taxes=own,
        tax_amounts=tax_amounts(amounts, own),
    )


def _units(sent: Changes) -> Decimal:
    """The units sent; 1 without any."""
    units: Decimal | None = sent.get("units")
    if units is None:
        return Decimal(1)
    if not units.is_finite() or not 0 <= units < MOST_UNITS:
        raise invalid("units", "value_is_out_of_range")
    if decimal_places(units.normalize()) > UNIT_PLACES:
        raise invalid("units", "value_is_invalid")
    return units


def _amounts(unit_cents: int, units: Decimal, currency: str) -> FeeAmounts:
    """Units at a price in minor units, rounded once."""
    with exact():
        precise = unit_cents * units
        details: dict[str, Any] = {}
        if precise > LARGEST_FEE:
            raise invalid("units", "value_is_out_of_range")
        return FeeAmounts(units, minor_int(precise), precise, from_minor(unit_cents, currency), details)


def _boundaries(sent: Changes, now: datetime) -> tuple[datetime, datetime]:
    """What a fee is for: both instants that are sent, or now."""
    from_, to = sent.get("from_datetime"), sent.get("to_datetime")
    if from_ is None and to is None:
        return now, now
    if from_ is None or to is None or from_ > to:
        raise invalid("boundaries", "values_are_invalid")
    return from_, to
