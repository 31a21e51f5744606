"""Adjusting fees of drafts (billing spec 3.3): other units, another unit amount, another name, until the draft is final."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.billing.book import load_plans
from app.billing.drafts import hold_invoice
from app.billing.invoices import LARGEST_TOTAL
from app.billing.redrawing import redraw
from app.billing.terms import ChargeFilterTerms, ChargeTerms, FixedChargeTerms, PlanTerms
from app.core.charges.usage import ChargeModel
from app.errors import NotAllowed, NotFound, Problems, invalid
from app.metering.meter import Meter
from app.models import AdjustedFee, BillingPeriod, Fee, Invoice, Subscription
from app.validation import Changes, as_uuid

ADJUSTABLE = ("subscription", "charge", "fixed_charge")
MOST_MINOR_UNITS = 10_000
"""No currency has more of them in one of its units."""
LARGEST_NUMBER = Decimal(10) ** 15
_NAMING = ("invoice_id", "subscription_id", "fee_type", "charge_id", "charge_filter_id", "fixed_charge_id")
_NOT_BY_UNITS = (ChargeModel.PERCENTAGE, ChargeModel.DYNAMIC)

T = TypeVar("T", ChargeTerms, FixedChargeTerms, ChargeFilterTerms)


@dataclass(frozen=True, slots=True)
class _Which:
    """The fee that is meant."""

    subscription_id: UUID
    fee_type: str
    charge: ChargeTerms | None = None
    filter: ChargeFilterTerms | None = None
    fixed_charge: FixedChargeTerms | None = None
    group: dict[str, Any] = field(default_factory=dict)


def adjusted_fees(db: Session, organization_id: UUID, invoice_id: UUID | None) -> Sequence[AdjustedFee]:
    """What has been adjusted on an invoice, oldest first.

    Raises:
        NotFound: `invoice_not_found`.
    """
    invoice = hold_invoice(db, organization_id, invoice_id)
    query = select(AdjustedFee).where(
        AdjustedFee.organization_id == organization_id, AdjustedFee.invoice_id == invoice.id
    )
    return db.scalars(query.order_by(AdjustedFee.created_at, AdjustedFee.id)).all()


def adjust_fee(
    db: Session, organization_id: UUID, invoice_id: UUID | None, sent: Changes, now: datetime, meter: Meter
) -> AdjustedFee:
    """Set what a fee of a draft comes to, or is called, and make the draft anew. `sent` names the fee by `fee_id`, or by
    `subscription_id` with `charge_id` (and `charge_filter_id`) or `fixed_charge_id`, which may have no fee yet.

    Raises:
        NotFound: `invoice_not_found`, `fee_not_found`, `subscription_not_found`, `charge_not_found` and the like.
        NotAllowed: `not_adjustable`, where the invoice is no draft.
        Invalid: a field breaks a rule; the fee is adjusted already, or of a kind that cannot be.
    """
    invoice = _draft(db, organization_id, invoice_id)
    which = _by_fee(db, invoice, sent["fee_id"]) if sent.get("fee_id") else _by_charge(db, invoice, sent)
    _check(which, sent)
    made = AdjustedFee(
        organization_id=organization_id,
        invoice_id=invoice.id,
        subscription_id=which.subscription_id,
        fee_type=which.fee_type,
        charge_id=which.charge.id if which.charge else None,
        charge_filter_id=which.filter.id if which.filter else None,
        fixed_charge_id=which.fixed_charge.id if which.fixed_charge else None,
        grouped_by=which.group,
        units=sent.get("units"),
        unit_precise_amount=sent.get("unit_precise_amount"),
        invoice_display_name=sent.get("invoice_display_name") or None,
        created_at=now,
        updated_at=now,
    )
    if _same(db, made):
        raise invalid("adjusted_fee", "already_exists")
    db.add(made)
    db.flush()
    redraw(db, [invoice.id], now, now, meter, final=False)
    if db.scalar(select(Invoice.status).where(Invoice.id == invoice.id)) != "draft":
        raise invalid("units", "value_is_out_of_range")
    if not _is_on_invoice(db, made):
        raise invalid("adjusted_fee", "fee_not_on_invoice")
    return made


def remove_adjustment(
    db: Session,
    organization_id: UUID,
    invoice_id: UUID | None,
    adjusted_fee_id: UUID | None,
    now: datetime,
    meter: Meter,
) -> AdjustedFee:
    """Let a fee of a draft be what it comes to by itself again, and make the draft anew.

    Raises:
        NotFound: `invoice_not_found`, `adjusted_fee_not_found`.
        NotAllowed: `not_adjustable`, where the invoice is no draft.
    """
    invoice = _draft(db, organization_id, invoice_id)
    query = select(AdjustedFee).where(AdjustedFee.invoice_id == invoice.id, AdjustedFee.id == adjusted_fee_id)
    found = db.scalars(query).first() if adjusted_fee_id is not None else None
    if found is None:
        raise NotFound("adjusted_fee")
    db.delete(found)
    db.flush()
    redraw(db, [invoice.id], now, now, meter, final=False)
    return found


def _draft(db: Session, organization_id: UUID, invoice_id: UUID | None) -> Invoice:
    invoice = hold_invoice(db, organization_id, invoice_id)
    if invoice.status != "draft":
        raise NotAllowed("not_adjustable")
    return invoice


def _by_fee(db: Session, invoice: Invoice, sent_id: object) -> _Which:
    fee_id = as_uuid(sent_id)
    query = select(Fee).where(Fee.invoice_id == invoice.id, Fee.id == fee_id)
    fee = db.scalars(query).first() if fee_id is not None else None
    if fee is None or fee.subscription_id is None:
        raise NotFound("fee")
    if fee.fee_type not in ADJUSTABLE or fee.true_up_parent_fee_id is not None:
        raise invalid("fee_type", "value_is_invalid")
    plan = _plan(db, invoice, fee.subscription_id)
    charge = one_of(plan.charges, fee.charge_id, "charge") if fee.charge_id else None
    return _Which(
        subscription_id=fee.subscription_id,
        fee_type=fee.fee_type,
        charge=charge,
        filter=one_of(charge.filters, fee.charge_filter_id, "charge_filter")
        if charge and fee.charge_filter_id
        else None,
        fixed_charge=one_of(plan.fixed_charges, fee.fixed_charge_id, "fixed_charge") if fee.fixed_charge_id else None,
        group=fee.grouped_by,
    )


def _by_charge(db: Session, invoice: Invoice, sent: Changes) -> _Which:
    subscription_id = as_uuid(sent.get("subscription_id"))
    if subscription_id is None:
        raise NotFound("subscription")
    plan = _plan(db, invoice, subscription_id)
    if sent.get("fixed_charge_id"):
        fixed = one_of(plan.fixed_charges, as_uuid(sent["fixed_charge_id"]), "fixed_charge")
        return _Which(subscription_id, "fixed_charge", fixed_charge=fixed)
    if not sent.get("charge_id"):
        return _Which(subscription_id, "subscription")
    charge, sent_filter = one_of(plan.charges, as_uuid(sent["charge_id"]), "charge"), sent.get("charge_filter_id")
    filter_ = one_of(charge.filters, as_uuid(sent_filter), "charge_filter") if sent_filter else None
    keys = filter_.group_keys if filter_ else charge.group_keys
    return _Which(subscription_id, "charge", charge, filter_, group=dict.fromkeys(keys))


def _plan(db: Session, invoice: Invoice, subscription_id: UUID) -> PlanTerms:
    """The plan of a subscription that the invoice has a line of."""
    plan_id = db.scalar(
        select(Subscription.plan_id)
        .join(BillingPeriod, BillingPeriod.subscription_id == Subscription.id)
        .where(BillingPeriod.invoice_id == invoice.id, Subscription.id == subscription_id)
    )
    if plan_id is None:
        raise NotFound("subscription")
    return load_plans(db, [plan_id])[plan_id]


def one_of(found: Sequence[T], wanted: UUID | None, resource: str) -> T:
    """The charge, filter or fixed charge with an id.

    Raises:
        NotFound: there is none; `resource` says of what.
    """
    for one in found:
        if one.id == wanted:
            return one
    raise NotFound(resource)


def check_numbers(sent: Changes) -> None:
    """Whether `units` and `unit_precise_amount` are numbers that a fee can have.

    Raises:
        Invalid: `value_is_out_of_range`.
    """
    problems = Problems()
    units, unit_amount = sent.get("units"), sent.get("unit_precise_amount")
    for name, value in (("units", units), ("unit_precise_amount", unit_amount)):
        if value is not None and not (value.is_finite() and 0 <= value <= LARGEST_NUMBER):
            problems.add(name, "value_is_out_of_range")
    problems.check()
    if units is not None and unit_amount is not None and units * unit_amount * MOST_MINOR_UNITS > LARGEST_TOTAL:
        raise invalid("unit_precise_amount", "value_is_out_of_range")


def _check(which: _Which, sent: Changes) -> None:
    check_numbers(sent)
    problems = Problems()
    units, unit_amount = sent.get("units"), sent.get("unit_precise_amount")
    if units is None and (unit_amount is not None or not sent.get("invoice_display_name")):
        problems.add("units", "value_is_mandatory")
    if units is not None and unit_amount is None and not can_be_priced_by_units(which.charge or which.fixed_charge):
        problems.add("charge", "invalid_charge_model")
    problems.check()


def can_be_priced_by_units(charge: ChargeTerms | FixedChargeTerms | None) -> bool:
    """Whether a price follows from units alone: not where it looks at single events, or at when units came."""
    if isinstance(charge, ChargeTerms):
        model = ChargeModel(charge.charge_model)
        return model not in _NOT_BY_UNITS and not (charge.prorated and model is ChargeModel.GRADUATED)
    return charge is None or not charge.needs_days


def _is_on_invoice(db: Session, made: AdjustedFee) -> bool:
    """Whether there is such a fee now."""
    return (
        db.scalar(select(Fee.id).where(*_naming(Fee, made), Fee.true_up_parent_fee_id.is_(None)).limit(1)) is not None
    )


def _same(db: Session, made: AdjustedFee) -> bool:
    """Whether the same fee has been adjusted already."""
    known = db.scalars(select(AdjustedFee).where(*_naming(AdjustedFee, made)))
    return any(one.grouped_by == made.grouped_by for one in known)


def _naming(table: type[Fee] | type[AdjustedFee], made: AdjustedFee) -> list[ColumnElement[bool]]:
    return [getattr(table, name).is_not_distinct_from(getattr(made, name)) for name in _NAMING]
