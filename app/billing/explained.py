"""The facts of fees as they were issued, and of the lines of current usage, ready to be explained."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.billing.book import load_plans
from app.billing.charge_usage import Item, Options
from app.billing.current_usage import CurrentUsage
from app.billing.explanation import PRICING_UNIT_PLACES, Conversion, Facts, Reduction, TaxFacts
from app.billing.priced_terms import KeptTerms, find_terms
from app.billing.terms import ChargeTerms
from app.core.money import exact, from_minor
from app.core.values import replace
from app.metering.behind import Behind
from app.metering.stored import END
from app.metering.windows import FIRST_MS, floor_ms
from app.models import BillingEntity, BillingPeriod, Charge, Customer, Fee, Invoice


def fee_facts(db: Session, fee: Fee) -> Facts:
    """What is known of a fee that `find_fee` has found."""
    terms = find_terms(db, fee.organization_id, fee.priced_terms_id)
    conversion = _conversion(fee.pricing_unit_usage)
    return Facts(
        kind=kind_of(fee),
        name=fee.invoice_display_name or fee.item_name,
        currency=fee.currency,
        tz=_timezone(db, fee),
        from_=fee.from_datetime,
        to=fee.to_datetime,
        units=fee.units,
        precise_unit_amount=fee.precise_unit_amount,
        precise_amount=from_minor(fee.precise_amount_cents, fee.currency),
        amount_cents=fee.amount_cents,
        amount_details=fee.amount_details,
        events_count=fee.events_count,
        figures=fee.figures,
        terms=terms or _present_terms(db, fee),
        as_billed=terms is not None,
        filter_id=fee.charge_filter_id,
        filter_values=fee.item_filters,
        group=fee.grouped_by,
        conversion=conversion,
        spent=_spent(db, fee, conversion) if fee.true_up_parent_fee_id else None,
        event_transaction_id=fee.event_transaction_id,
        reduction=_reduction(db, fee),
        taxes=tuple(TaxFacts(tax.tax_code, tax.tax_name, tax.tax_rate, tax.amount_cents) for tax in fee.applied_taxes),
        taxes_amount_cents=fee.taxes_amount_cents,
    )


def kind_of(fee: Fee) -> str:
    """Which explanation a fee has."""
    if fee.true_up_parent_fee_id is not None:
        return "true_up"
    if fee.fee_type == "charge":
        return "usage" if fee.event_transaction_id is None else "event"
    return fee.fee_type


def usage_facts(usage: CurrentUsage) -> Iterator[tuple[ChargeTerms, Facts]]:
    """The lines of current usage that come to something, each with its charge and what is known of it."""
    boundaries, subscription = usage.boundaries, usage.subscription
    for one in usage.charges:
        terms, unit = KeptTerms.of(one.charge), one.charge.pricing_unit
        for bucket in one.fees:
            if bucket.is_nothing:
                continue
            amounts, filter_ = bucket.amounts, bucket.filter
            yield (
                one.charge,
                Facts(
                    kind="usage",
                    name=one.charge.invoice_display_name or one.charge.metric_name,
                    currency=usage.currency,
                    tz=subscription.tz,
                    from_=boundaries.charges_from,
                    to=boundaries.charges_to,
                    units=amounts.units,
                    precise_unit_amount=amounts.precise_unit_amount,
                    precise_amount=from_minor(amounts.precise_amount_cents, usage.currency),
                    amount_cents=amounts.amount_cents,
                    amount_details=amounts.amount_details,
                    events_count=bucket.events_count,
                    figures=bucket.figures.stored() if bucket.figures else None,
                    terms=terms,
                    filter_id=filter_.id if filter_ else None,
                    filter_values=filter_.values_as_sent if filter_ else None,
                    group=bucket.group,
                    conversion=_conversion(unit.details(bucket.priced)) if unit else None,
                ),
            )


def measured_at(db: Session, fee: Fee) -> datetime | None:
    """When the usage of an invoiced fee was measured: what came later came too late. None where that is not known."""
    if fee.invoice_id is None:
        return None
    return db.scalar(
        select(BillingPeriod.measured_at)
        .where(
            BillingPeriod.organization_id == fee.organization_id,
            BillingPeriod.invoice_id == fee.invoice_id,
            BillingPeriod.subscription_id == fee.subscription_id,
        )
        .order_by(BillingPeriod.position)
        .limit(1)
    )


def _present_terms(db: Session, fee: Fee) -> KeptTerms | None:
    """A fee that was made without keeping what it was priced with is told by the charge as it is now, if it still is."""
    if fee.charge_id is None:
        return None
    charge = db.scalar(select(Charge).where(Charge.organization_id == fee.organization_id, Charge.id == fee.charge_id))
    if charge is None or charge.deleted_at is not None:
        return None
    plan = load_plans(db, [charge.plan_id])[charge.plan_id]
    found = next((one for one in plan.charges if one.id == fee.charge_id), None)
    if found is None or fee.charge_filter_id not in {None, *(one.id for one in found.filters)}:
        return None
    return KeptTerms.of(found)


def _timezone(db: Session, fee: Fee) -> ZoneInfo:
    """The timezone that a fee's invoice was made in; of a fee that stands alone, the customer's."""
    if fee.invoice_id is not None:
        query = select(Invoice.timezone).where(Invoice.id == fee.invoice_id)
    else:
        query = (
            select(func.coalesce(func.nullif(Customer.timezone, ""), BillingEntity.timezone))
            .select_from(Customer)
            .join(Customer.billing_entity)
            .where(Customer.id == fee.customer_id)
        )
    return ZoneInfo(db.scalars(query).one())


def _conversion(stored: Mapping[str, Any] | None) -> Conversion | None:
    """The amounts of a fee in pricing units, from what is on the wire (metering spec 3.13)."""
    if stored is None:
        return None
    return Conversion(
        short_name=stored["short_name"],
        precise_amount=_from_hundredths(stored["precise_amount_cents"]),
        amount=_from_hundredths(stored["amount_cents"]),
        rate=Decimal(str(stored["conversion_rate"])),
    )


def _from_hundredths(value: object) -> Decimal:
    with exact():
        return Decimal(str(value)).scaleb(-PRICING_UNIT_PLACES)


def _reduction(db: Session, fee: Fee) -> Reduction | None:
    """What was taken of a fee before taxes, and what its invoice says that it was for."""
    if not fee.precise_coupons_amount_cents:
        return None
    query = select(Invoice.progressive_billing_credit_amount_cents, Invoice.coupons_amount_cents)
    billed_before, coupons = db.execute(query.where(Invoice.id == fee.invoice_id)).one()
    names = (("what was billed before", billed_before), ("coupons", coupons))
    return Reduction(fee.precise_coupons_amount_cents, tuple(name for name, cents in names if cents))


def _spent(db: Session, fee: Fee, conversion: Conversion | None) -> tuple[Decimal, Decimal]:
    """What the other fees of a true-up's charge come to, billed and unrounded, in the unit of its prices."""
    others = db.execute(
        select(Fee.amount_cents, Fee.precise_amount_cents, Fee.pricing_unit_usage).where(
            Fee.organization_id == fee.organization_id,
            Fee.invoice_id == fee.invoice_id,
            Fee.subscription_id == fee.subscription_id,
            Fee.charge_id == fee.charge_id,
            Fee.true_up_parent_fee_id.is_(None),
        )
    ).all()
    billed = precise = Decimal(0)
    with exact():
        for amount_cents, precise_cents, usage in others:
            inside = _conversion(usage) if conversion is not None else None
            billed += from_minor(amount_cents, fee.currency) if inside is None else inside.amount
            precise += from_minor(precise_cents, fee.currency) if inside is None else inside.precise_amount
    return billed, precise


def behind_fee(db: Session, fee: Fee, facts: Facts) -> Behind | None:
    """The events that a fee was made of; None for a fee that no events are behind."""
    terms = facts.terms
    if facts.kind not in {"usage", "event"}:
        return None
    scope = Behind(
        organization_id=fee.organization_id,
        external_subscription_id=fee.owning_subscription.external_id,
        code=fee.item_code,
        aggregation=terms.aggregation if terms else None,
        from_ms=floor_ms(facts.from_),
        end_ms=(facts.figures or {}).get("end_ms", floor_ms(facts.to) + 1),
    )
    if fee.event_transaction_id is not None:
        return replace(scope, from_ms=FIRST_MS, end_ms=floor_ms(END), transaction_id=fee.event_transaction_id)
    if terms is None:
        return None
    return replace(scope, **_bucket(terms, facts.filter_id, facts.group), measured_at=measured_at(db, fee))


def behind_usage(
    item: Item, terms: KeptTerms, filter_id: UUID | None, group: Mapping[str, str | None], options: Options
) -> Behind:
    """The events behind a line of current usage: a charge's, of one of its filters or (None) the default bucket, and of a
    group."""
    subscription, boundaries = item
    return Behind(
        organization_id=subscription.organization_id,
        external_subscription_id=subscription.external_id,
        code=terms.metric_code,
        aggregation=terms.aggregation,
        from_ms=floor_ms(boundaries.charges_from),
        end_ms=floor_ms(boundaries.charges_to) + 1,
        only=options.only or {},
        **_bucket(terms, filter_id, group),
    )


def _bucket(terms: KeptTerms, filter_id: UUID | None, group: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "recurring": terms.recurring,
        "filters": [one.values for one in terms.filters],
        "filter": terms.place_of(filter_id),
        "group": group,
    }
