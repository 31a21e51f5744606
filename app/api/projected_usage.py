"""`/api/v1/customers/{external_id}/projected_usage` (metering spec 5.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Now, Org, Running
from app.api.routes import get
from app.api.usage_parts import (
    Part,
    PresentationObject,
    UsageMetric,
    by_filter,
    by_group,
    presentation_objects,
    shown_by_charge,
    shown_by_group,
    shown_filter,
    total_pricing_unit,
    total_units,
    usage_metric,
    usage_pricing_unit,
)
from app.api.wire import instant
from app.billing.charge_usage import BucketFee, ChargeUsage, Options
from app.billing.current_usage import CurrentUsage, Restriction, current_usage
from app.billing.terms import ChargeTerms
from app.errors import invalid


class ProjectedCharge(Struct):
    lago_id: UUID
    charge_model: str
    invoice_display_name: str | None


class ProjectedPricingUnit(Struct):
    amount_cents: int
    projected_amount_cents: int
    short_name: str
    conversion_rate: str


class ProjectedFigures(Struct, kw_only=True):
    units: str
    projected_units: str
    events_count: int
    amount_cents: int
    projected_amount_cents: int
    pricing_unit_details: ProjectedPricingUnit | None
    presentation_breakdowns: list[PresentationObject]
    projected_presentation_breakdowns: list[PresentationObject]


class ProjectedFilterObject(ProjectedFigures, kw_only=True):
    """`values` is empty for what no filter takes: Lago's own clients take no null here, as they do in current usage."""

    invoice_display_name: str | None
    values: dict[str, list[str]]


class ProjectedGroupObject(ProjectedFigures, kw_only=True):
    grouped_by: dict[str, str | None]
    filters: list[ProjectedFilterObject]


class ProjectedChargeObject(ProjectedFigures, kw_only=True):
    amount_currency: str
    charge: ProjectedCharge
    billable_metric: UsageMetric
    filters: list[ProjectedFilterObject]
    grouped_usage: list[ProjectedGroupObject]


class ProjectedUsageObject(Struct, kw_only=True):
    from_datetime: str
    to_datetime: str
    issuing_date: str
    lago_invoice_id: UUID | None = None
    currency: str
    amount_cents: int
    projected_amount_cents: int
    taxes_amount_cents: int
    total_amount_cents: int
    charges_usage: list[ProjectedChargeObject]


class ProjectedUsageAnswer(Struct):
    customer_projected_usage: ProjectedUsageObject


@dataclass(frozen=True, slots=True)
class ProjectedPart(Part):
    """A bucket, and what it will come to."""

    projected_units: Decimal
    projected_amount_cents: int
    projected_pricing_unit_cents: int
    projected_presented: Sequence[PresentationObject]


class ProjectedUsageController(Controller):
    path = "/customers/{external_id:str}/projected_usage"
    tags = ["usage"]
    opt = {"resource": "customer_usage"}

    @get()
    def get_projected_usage(
        self,
        external_id: str,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        external_subscription_id: str | None = None,
        apply_taxes: bool = True,
    ) -> ProjectedUsageAnswer:
        """A subscription's usage in its current billing period, and what it comes to at the period's end if it goes on
        growing with the days. Taxes and totals are those of the usage so far."""
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        service.wait_until_readable(organization.id)
        usage = current_usage(
            db,
            service.meter,
            service.price_book,
            organization,
            external_id,
            external_subscription_id,
            Restriction(),
            now,
            apply_taxes=apply_taxes,
            options=Options(project_at=now),
        )
        return ProjectedUsageAnswer(_usage_object(usage))


def _usage_object(usage: CurrentUsage) -> ProjectedUsageObject:
    charges = [_charge_object(one, usage.currency) for one in usage.charges]
    return ProjectedUsageObject(
        from_datetime=instant(usage.boundaries.charges_from),
        to_datetime=instant(usage.boundaries.charges_to),
        issuing_date=usage.issuing_date.isoformat(),
        currency=usage.currency,
        amount_cents=usage.amount_cents,
        projected_amount_cents=sum(one.projected_amount_cents for one in charges),
        taxes_amount_cents=usage.taxes_amount_cents,
        total_amount_cents=usage.amount_cents + usage.taxes_amount_cents,
        charges_usage=charges,
    )


def _charge_object(one: ChargeUsage, currency: str) -> ProjectedChargeObject:
    charge, has_filters = one.charge, bool(one.charge.filters)
    parts = [_part(fee, charge) for fee in one.fees]
    return ProjectedChargeObject(
        **_figures(parts, shown_by_charge(parts)),
        amount_currency=currency,
        charge=ProjectedCharge(charge.id, charge.charge_model, charge.invoice_display_name),
        billable_metric=usage_metric(charge),
        filters=_filters(parts) if has_filters else [],
        grouped_usage=[
            ProjectedGroupObject(
                **_figures(mine, shown_by_group(mine)),
                grouped_by=group,
                filters=_filters(mine) if has_filters else [],
            )
            for group, mine in by_group(parts)
        ],
    )


def _part(fee: BucketFee, charge: ChargeTerms) -> ProjectedPart:
    projected = fee.projected
    if projected is None:
        raise ValueError("the usage has not been projected")
    return ProjectedPart(
        filter=shown_filter(fee),
        group=fee.group,
        units=fee.amounts.units,
        total_aggregated_units=fee.total_aggregated_units,
        events_count=fee.events_count,
        amount_cents=fee.amounts.amount_cents,
        pricing_unit=usage_pricing_unit(charge, fee.priced.amount_cents),
        presented=presentation_objects(fee.presented),
        projected_units=projected.units,
        projected_amount_cents=projected.amount_cents,
        projected_pricing_unit_cents=projected.pricing_unit_cents or 0,
        projected_presented=presentation_objects(projected.presented),
    )


def _filters(parts: Sequence[ProjectedPart]) -> list[ProjectedFilterObject]:
    return [
        ProjectedFilterObject(
            **_figures(mine, mine),
            invoice_display_name=one.invoice_display_name if one else None,
            values=one.values if one else {},
        )
        for one, mine in by_filter(parts)
    ]


def _figures(parts: Sequence[ProjectedPart], presented: Sequence[ProjectedPart]) -> dict[str, Any]:
    return {
        "units": total_units(part.units for part in parts),
        "projected_units": total_units(part.projected_units for part in parts),
        "events_count": sum(part.events_count for part in parts),
        "amount_cents": sum(part.amount_cents for part in parts),
        "projected_amount_cents": sum(part.projected_amount_cents for part in parts),
        "pricing_unit_details": _pricing_unit(parts),
        "presentation_breakdowns": [one for part in presented for one in part.presented],
        "projected_presentation_breakdowns": [one for part in presented for one in part.projected_presented],
    }


def _pricing_unit(parts: Sequence[ProjectedPart]) -> ProjectedPricingUnit | None:
    now = total_pricing_unit(parts)
    if now is None:
        return None
    projected = sum(part.projected_pricing_unit_cents for part in parts)
    return ProjectedPricingUnit(now.amount_cents, projected, now.short_name, now.conversion_rate)
