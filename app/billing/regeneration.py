"""Voided invoices made anew (billing spec 3.7): another invoice bills the same lines, with the fees that are wanted of the
voided one, as they were or adjusted, and with others; coupons, taxes and credits are settled as they stand now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session, aliased, selectinload

from app.billing.adjusted_fees import can_be_priced_by_units, check_numbers, one_of
from app.billing.adjustments import Adjustment, FeeKey, at_unit_amount, group_key
from app.billing.billed import BilledLine, Buyer
from app.billing.book import applied_taxes, load_taxes
from app.billing.charge_usage import BucketFee, ChargeUsage, Presented
from app.billing.fees import FeeDraft, FeeItem, line_fees, tax_amounts
from app.billing.fixed_charges import fixed_charge_fee
from app.billing.invoice_drafts import InvoiceDraft
from app.billing.invoices import write_invoices
from app.billing.issued import find_invoice, lock_invoice
from app.billing.one_off import add_on_fee
from app.billing.payers import payer_of
from app.billing.stored_lines import load_invoices, stored_lines
from app.billing.terms import ChargeFilterTerms, ChargeTerms, FixedChargeTerms, TaxBook, Taxes
from app.catalog.add_ons import hold_add_ons
from app.catalog.taxes import taxes_by_code
from app.core.charges.fees import FeeAmounts, fee_amounts
from app.core.charges.usage import BucketUsage
from app.core.money import ZERO
from app.core.values import replace
from app.errors import AmountTooLarge, NotAllowed, NotFound, invalid
from app.models import AppliedUsageThreshold, BillingPeriod, Fee, FeeTax, Invoice, Tax, among
from app.validation import Changes, as_uuid

REGENERABLE = ("subscription", "progressive_billing", "one_off")
"""Types of invoices that can be made anew. Prepaid credits are rather bought again, and a statement lists what was paid."""
_AS_MEASURED = (
    "from_datetime", "to_datetime", "charges_from_datetime", "charges_to_datetime", "fixed_charges_from_datetime",
    "fixed_charges_to_datetime", "measured_at", "first_measured_at",
)  # fmt: skip
_NOTHING = FeeAmounts(ZERO, 0, ZERO, ZERO, {})

T = TypeVar("T", ChargeTerms, ChargeFilterTerms, FixedChargeTerms)


@dataclass(frozen=True, slots=True)
class _Voided:
    """A voided invoice: its lines by subscription, on the plans as they are now, and its fees. `taxes` are those of its
    customer, and `taxes_of` those that its fees had, by fee."""

    invoice: Invoice
    lines: Mapping[UUID, BilledLine]
    fees: Mapping[UUID, Fee]
    taxes: TaxBook
    taxes_of: Mapping[UUID, Taxes]

    @property
    def buyer(self) -> Buyer:
        return Buyer(self.invoice.organization_id, self.invoice.customer_id, self.invoice.currency)


def regenerate_invoice(
    db: Session, organization_id: UUID, invoice_id: UUID | None, sent: Changes, now: datetime
) -> Invoice:
    """Make another invoice in place of a voided one: final at once, dated as of the day on which the voided one was made.

    Each of `fees` names a fee of the voided invoice by `fee_id`, with other `units`, a `unit_precise_amount` in currency
    units or an `invoice_display_name` if it is to have them, or a fee that was not on it; fees that are not named are left
    out. Without `fees` all are taken as they were.

    Raises:
        NotFound: `invoice_not_found`, `fees_not_found` where there are none, `fee_not_found`, `subscription_not_found`,
            `charge_not_found` and the like.
        NotAllowed: `not_voided`, `not_regenerable` for its type, `already_regenerated`.
        Invalid: a field breaks a rule.
    """
    voided = lock_invoice(db, organization_id, invoice_id)
    if voided.status != "voided":
        raise NotAllowed("not_voided")
    if voided.invoice_type not in REGENERABLE:
        raise NotAllowed("not_regenerable")
    if voided.regenerated is not None:
        raise NotAllowed("already_regenerated")
    passed = list(voided.applied_usage_thresholds)
    before = _load(db, voided.id)
    wanted = sent.get("fees")
    fees = _fees(db, before, [{"fee_id": str(one)} for one in before.fees] if wanted is None else wanted, now)
    draft = _draft(before, fees)
    periods = update(BillingPeriod).execution_options(synchronize_session=False)
    db.execute(periods.where(BillingPeriod.invoice_id == before.invoice.id).values(regenerated_invoice_id=draft.id))
    try:
        write_invoices(db, [draft], now)
    except AmountTooLarge:
        raise invalid("units", "value_is_out_of_range") from None
    old = aliased(BillingPeriod)
    same_line = (old.invoice_id == before.invoice.id) & (old.position == BillingPeriod.position)
    measured = {name: getattr(old, name) for name in _AS_MEASURED}
    db.execute(periods.where(BillingPeriod.invoice_id == draft.id, same_line).values(measured))
    db.add_all(_passed_again(one, draft.id) for one in passed)
    db.flush()
    db.expire_all()
    return find_invoice(db, organization_id, draft.id)


def _load(db: Session, invoice_id: UUID) -> _Voided:
    (invoice,) = load_invoices(db, [invoice_id])
    lines = {line.subscription.id: line for line in stored_lines(db, [invoice])[invoice.id]}
    query = select(Fee).where(Fee.organization_id == invoice.organization_id, Fee.invoice_id == invoice.id)
    fees = list(db.scalars(query.order_by(Fee.position).options(selectinload(Fee.applied_taxes))))
    rates: list[FeeTax] = [tax for fee in fees for tax in fee.applied_taxes]
    found = db.scalars(select(Tax).where(among(Tax.id, {one.tax_id for one in rates})))
    present = {one.id: one for one in found}
    taxes_of = {fee.id: applied_taxes(present[one.tax_id] for one in fee.applied_taxes) for fee in fees}
    return _Voided(invoice, lines, {one.id: one for one in fees}, load_taxes(db, [invoice.customer_id]), taxes_of)


def _draft(before: _Voided, fees: Sequence[FeeDraft]) -> InvoiceDraft:
    invoice = before.invoice

    def of_line(line: BilledLine) -> tuple[FeeDraft, ...]:
        return tuple(one for one in fees if one.subscription and one.subscription.id == line.subscription.id)

    return InvoiceDraft(
        payer=replace(payer_of(invoice.customer, invoice.billing_entity), finalize_zero=True),
        currency=invoice.currency,
        billed_at=invoice.created_at,
        purchase_order_number=invoice.purchase_order_number,
        lines=tuple((line, of_line(line)) for line in before.lines.values()),
        other_fees=tuple(one for one in fees if one.subscription is None),
        invoice_type=invoice.invoice_type,
        voided_invoice_id=invoice.id,
    )


def _fees(db: Session, before: _Voided, wanted: Sequence[Changes], now: datetime) -> list[FeeDraft]:
    """The fees that are wanted, in their order. What makes up for the spending minimum of another fee still belongs to it,
    if both are there."""
    if not wanted:
        raise NotFound("fees")
    fees: list[FeeDraft] = []
    for one in wanted:
        check_numbers(one)
        known = one.get("fee_id")
        made = _copied(before, known, one) if known else _new(db, before, one, now)
        fees.append(_with_taxes(db, made, one))
    keys = [(one.subscription.id, one.key) for one in fees if one.subscription is not None]
    copied = [one.original_fee_id for one in fees if one.original_fee_id is not None]
    if len(set(keys)) < len(keys) or len(set(copied)) < len(copied):
        raise invalid("fees", "value_already_exist")
    ids = {one.original_fee_id: one.id for one in fees}
    return [replace(one, true_up_parent_id=one.true_up_parent_id and ids.get(one.true_up_parent_id)) for one in fees]


def _copied(before: _Voided, sent_id: object, sent: Changes) -> FeeDraft:
    """A fee of the voided invoice, adjusted as was sent; still with the id of the voided parent, if it has one."""
    fee_id = as_uuid(sent_id)
    fee = before.fees.get(fee_id) if fee_id is not None else None
    if fee is None:
        raise NotFound("fee")
    line = before.lines.get(fee.subscription_id) if fee.subscription_id is not None else None
    plan = line.subscription.plan if line is not None else None
    charge = _find(plan.charges, fee.charge_id) if plan else None
    fixed = _find(plan.fixed_charges, fee.fixed_charge_id) if plan else None
    adjustment = _adjustment(sent, fee.units)
    pricing_unit: Mapping[str, Any] | None = fee.pricing_unit_usage
    amounts = FeeAmounts(
        fee.units, fee.amount_cents, fee.precise_amount_cents, fee.precise_unit_amount, fee.amount_details
    )
    is_changed = adjustment.units is not None
    if is_changed:
        amounts, pricing_unit = _adjusted(fee, amounts, adjustment, charge, fixed)
    keeps_terms = fee.priced_terms_id is not None and not is_changed
    item = FeeItem(
        fee_type=fee.fee_type,
        id=fee.item_id,
        code=fee.item_code,
        name=fee.item_name,
        description=fee.item_description,
        display_name=adjustment.display_name or fee.invoice_display_name,
        filters=fee.item_filters,
        filter_display_name=fee.filter_invoice_display_name,
    )
    return FeeDraft(
        id=uuid4(),
        buyer=before.buyer,
        subscription=line.subscription if line else None,
        item=item,
        amounts=amounts,
        from_=fee.from_datetime,
        to=fee.to_datetime,
        taxes=_taxes(before, fee, line, charge or fixed),
        tax_amounts=tax_amounts(amounts, ()),
        charge_id=fee.charge_id,
        charge_filter_id=fee.charge_filter_id,
        fixed_charge_id=fee.fixed_charge_id,
        true_up_parent_id=fee.true_up_parent_fee_id,
        pay_in_advance=fee.pay_in_advance,
        invoiceable=fee.invoiceable,
        event_transaction_id=fee.event_transaction_id,
        group=fee.grouped_by,
        aggregated_units=None if is_changed else fee.total_aggregated_units,
        events_count=fee.events_count,
        presented=[Presented(one["presentation_by"], Decimal(one["units"])) for one in fee.presentation_breakdowns],
        pricing_unit=pricing_unit,
        terms=charge if keeps_terms else None,
        figures=None if is_changed else fee.figures,
        original_fee_id=fee.id,
        priced_terms_id=fee.priced_terms_id if keeps_terms else None,
    )


def _adjustment(sent: Changes, units: Decimal | None) -> Adjustment:
    """What was sent for a fee. A price of one without units is for as many as there were."""
    unit_amount = sent.get("unit_precise_amount")
    wanted = sent.get("units")
    if wanted is None and unit_amount is not None:
        wanted = units
    return Adjustment(wanted, unit_amount, sent.get("invoice_display_name") or None)


def _adjusted(
    fee: Fee,
    amounts: FeeAmounts,
    adjustment: Adjustment,
    charge: ChargeTerms | None,
    fixed: FixedChargeTerms | None,
) -> tuple[FeeAmounts, Mapping[str, Any] | None]:
    """The amounts of a fee with other units or at another price, and the same in pricing units if it has such. Units alone
    are priced by the charge as it is now; what is of no charge keeps its price of one."""
    is_of_charge = (fee.charge_id is not None or fee.fixed_charge_id is not None) and not fee.true_up_parent_fee_id
    filter_ = _find(charge.filters, fee.charge_filter_id) if charge else None
    terms = charge if filter_ is not None or fee.charge_filter_id is None else None
    if adjustment.unit_amount is None and is_of_charge:
        _check_by_units(terms or fixed)
    priced_by = filter_ or terms or fixed
    price = None if priced_by is None else priced_by.price
    priced_in = charge.priced_in(fee.currency) if charge else fee.currency

    def reprice(units: Decimal) -> FeeAmounts:
        if price is None or not is_of_charge:
            return at_unit_amount(units, fee.precise_unit_amount, fee.currency)
        usage = BucketUsage(units, fee.events_count or 0)
        return fee_amounts(usage, price(usage), priced_in)

    priced = adjustment.amounts(amounts, priced_in, reprice)
    if fee.fee_type == "subscription":
        priced = replace(priced, amount_details=fee.amount_details)
    if charge is None or charge.pricing_unit is None:
        return priced, None
    return charge.in_money(priced, fee.currency), charge.pricing_unit.details(priced)


def _new(db: Session, before: _Voided, sent: Changes, now: datetime) -> FeeDraft:
    """A fee that the voided invoice has not: of an add-on on a one-off invoice, else of a charge of a subscription that it
    is for."""
    if before.invoice.invoice_type == "one_off":
        return _new_add_on_fee(db, before, sent, now)
    subscription_id = as_uuid(sent.get("subscription_id"))
    line = before.lines.get(subscription_id) if subscription_id is not None else None
    if line is None:
        raise NotFound("subscription")
    adjustment = _adjustment(sent, None)
    if adjustment.units is None:
        raise invalid("units", "value_is_mandatory")
    plan, taxes = line.subscription.plan, before.taxes
    if sent.get("fixed_charge_id"):
        fixed = one_of(plan.fixed_charges, as_uuid(sent["fixed_charge_id"]), "fixed_charge")
        return _new_fixed_charge_fee(line, fixed, adjustment, taxes)
    charge = one_of(plan.charges, as_uuid(sent.get("charge_id")), "charge")
    filter_id = as_uuid(sent.get("charge_filter_id"))
    filter_ = one_of(charge.filters, filter_id, "charge_filter") if sent.get("charge_filter_id") else None
    return _new_charge_fee(line, charge, filter_, adjustment, taxes)


def _new_charge_fee(
    line: BilledLine, charge: ChargeTerms, filter_: ChargeFilterTerms | None, adjustment: Adjustment, taxes: TaxBook
) -> FeeDraft:
    if not charge.invoiceable:
        raise invalid("charge_id", "value_is_invalid")
    if adjustment.unit_amount is None:
        _check_by_units(charge)
    group: dict[str, str | None] = dict.fromkeys(filter_.group_keys if filter_ else charge.group_keys)
    key = FeeKey("charge", charge.id, filter_.id if filter_ else None, group=group_key(group))
    bucket = BucketFee(filter_, group, _NOTHING, _NOTHING, ZERO, 0)
    usage = ChargeUsage(replace(charge, min_amount_cents=0), (bucket,))
    fees = line_fees(replace(line, adjustments={key: adjustment}), [usage], taxes)
    return next(one for one in fees if one.charge_id == charge.id)


def _new_fixed_charge_fee(
    line: BilledLine, charge: FixedChargeTerms, adjustment: Adjustment, taxes: TaxBook
) -> FeeDraft:
    boundaries = line.boundaries
    stretch = boundaries.fixed_charges_ahead if charge.pay_in_advance else boundaries.fixed_charges
    if stretch is None:
        raise invalid("fixed_charge_id", "value_is_invalid")
    if adjustment.unit_amount is None:
        _check_by_units(charge)
    key = FeeKey("fixed_charge", fixed_charge_id=charge.id)
    none = BucketUsage(ZERO, 0)
    adjusted = replace(line, adjustments={key: adjustment})
    return fixed_charge_fee(adjusted, charge, stretch, none, charge.price(none), taxes)


def _new_add_on_fee(db: Session, before: _Voided, sent: Changes, now: datetime) -> FeeDraft:
    code, buyer = sent.get("add_on_code"), before.buyer
    add_on = next(iter(hold_add_ons(db, buyer.organization_id, (), [code])), None) if code else None
    if add_on is None:
        raise NotFound("add_on")
    unit_amount = sent.get("unit_precise_amount")
    if unit_amount is None and add_on.amount_currency != buyer.currency:
        raise invalid("currency", "currencies_does_not_match")
    named = {name: sent[name] for name in ("units", "description", "invoice_display_name") if name in sent}
    made = add_on_fee(db, named, add_on, buyer, before.taxes, now)
    if unit_amount is None:
        return made
    return replace(made, amounts=at_unit_amount(made.amounts.units, unit_amount, buyer.currency))


def _check_by_units(charge: ChargeTerms | FixedChargeTerms | None) -> None:
    """Units without a price of one need a charge that is still there, and a price that follows from them."""
    if charge is None or not can_be_priced_by_units(charge):
        raise invalid("charge", "invalid_charge_model")


def _taxes(before: _Voided, fee: Fee, line: BilledLine | None, charge: ChargeTerms | FixedChargeTerms | None) -> Taxes:
    """The taxes of a copied fee as they are now: those of its charge, its plan or its customer; of what was sold once
    those that it had, for they may have been its own (billing spec 4.2)."""
    nearer: list[Taxes] = []
    if line is None:
        nearer.append(before.taxes_of[fee.id])
    else:
        plan = line.subscription.plan
        if charge is not None:
            nearer.append(charge.taxes)
        elif fee.fee_type == "commitment" and plan.commitment is not None:
            nearer.append(plan.commitment.taxes)
        nearer.append(plan.taxes)
    return before.taxes.taxes(*nearer, customer_id=fee.customer_id)


def _with_taxes(db: Session, fee: FeeDraft, sent: Changes) -> FeeDraft:
    """A fee with the taxes of its own that were sent, and with what its taxes come to."""
    taxes = fee.taxes
    if sent.get("tax_codes"):
        taxes = applied_taxes(taxes_by_code(db, fee.buyer.organization_id, sent["tax_codes"]))
    return replace(fee, taxes=taxes, tax_amounts=tax_amounts(fee.amounts, taxes))


def _find(found: Iterable[T], wanted: UUID | None) -> T | None:
    return next((one for one in found if one.id == wanted), None) if wanted is not None else None


def _passed_again(one: AppliedUsageThreshold, invoice_id: UUID) -> AppliedUsageThreshold:
    """A threshold that the voided invoice was made of. It is not the passing itself, which is told once."""
    same = ("organization_id", "subscription_id", "usage_threshold_id", "invoiced_usage_amount_cents",
            "lifetime_usage_amount_cents", "created_at")  # fmt: skip
    return AppliedUsageThreshold(**{name: getattr(one, name) for name in same}, invoice_id=invoice_id, is_highest=False)
