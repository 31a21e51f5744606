"""Usage as it is shown: the figures of fees, stored ones or ones to come, summed for a charge, for each of its filters and
for each of its groups (metering spec 5.3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from msgspec import Struct

from app.billing.charge_usage import BucketFee, Group, Presented
from app.billing.terms import ChargeTerms
from app.core.money import ZERO, decimal_text, exact


class UsageCharge(Struct):
    lago_id: UUID
    code: str
    charge_model: str
    invoice_display_name: str | None


class UsageMetric(Struct):
    lago_id: UUID
    name: str
    code: str
    aggregation_type: str


class UsagePricingUnit(Struct):
    amount_cents: int
    short_name: str
    conversion_rate: str


class PresentationObject(Struct):
    presentation_by: dict[str, str]
    units: str


class UsageFigures(Struct, kw_only=True):
    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int
    pricing_unit_details: UsagePricingUnit | None
    presentation_breakdowns: list[PresentationObject]


class FilterUsageObject(UsageFigures, kw_only=True):
    invoice_display_name: str | None
    values: dict[str, list[str]] | None


class GroupUsageObject(UsageFigures, kw_only=True):
    grouped_by: dict[str, str | None]
    filters: list[FilterUsageObject]


class ChargeUsageObject(UsageFigures, kw_only=True):
    amount_currency: str
    charge: UsageCharge
    billable_metric: UsageMetric
    filters: list[FilterUsageObject]
    grouped_usage: list[GroupUsageObject]


class UsageObject(Struct, kw_only=True):
    from_datetime: str
    to_datetime: str
    issuing_date: str
    currency: str
    amount_cents: int
    total_amount_cents: int
    taxes_amount_cents: int
    lago_invoice_id: UUID | None
    charges_usage: list[ChargeUsageObject]


class ShownFilter(NamedTuple):
    """A charge filter; one that has been changed since is shown as it was."""

    id: UUID
    invoice_display_name: str | None
    values: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """What one fee adds to its charge, filter and group. No filter is the default bucket; the group is empty where nothing
    is grouped."""

    filter: ShownFilter | None
    group: Group
    units: Decimal
    total_aggregated_units: Decimal
    events_count: int
    amount_cents: int
    pricing_unit: UsagePricingUnit | None
    presented: Sequence[PresentationObject]


P = TypeVar("P", bound=Part)


def part_of(fee: BucketFee, charge: ChargeTerms) -> Part:
    """The part of a bucket that has not been billed."""
    return Part(
        filter=shown_filter(fee),
        group=fee.group,
        units=fee.amounts.units,
        total_aggregated_units=fee.total_aggregated_units,
        events_count=fee.events_count,
        amount_cents=fee.amounts.amount_cents,
        pricing_unit=usage_pricing_unit(charge, fee.priced.amount_cents),
        presented=presentation_objects(fee.presented),
    )


def usage_charge(charge: ChargeTerms) -> UsageCharge:
    """A charge as usage names it."""
    return UsageCharge(charge.id, charge.code, charge.charge_model, charge.invoice_display_name)


def usage_metric(charge: ChargeTerms) -> UsageMetric:
    """A charge's metric as usage names it."""
    return UsageMetric(charge.metric_id, charge.metric_name, charge.metric_code, charge.aggregation)


def shown_filter(fee: BucketFee) -> ShownFilter | None:
    """The filter of a bucket."""
    one = fee.filter
    return None if one is None else ShownFilter(one.id, one.invoice_display_name, one.values_as_sent)


def usage_pricing_unit(charge: ChargeTerms, cents: int) -> UsagePricingUnit | None:
    """An amount in the pricing units of a charge."""
    unit = charge.pricing_unit
    return None if unit is None else UsagePricingUnit(cents, unit.short_name, decimal_text(unit.conversion_rate))


def presentation_objects(presented: Iterable[Presented]) -> list[PresentationObject]:
    """Breakdowns as they are on the wire."""
    return [PresentationObject(dict(part.by), decimal_text(part.units)) for part in presented]


def total_units(units: Iterable[Decimal]) -> str:
    """A sum, on the wire."""
    with exact():
        return decimal_text(sum(units, ZERO))


def total_pricing_unit(parts: Sequence[Part]) -> UsagePricingUnit | None:
    """The sum in pricing units, where the charge has them."""
    amounts = [part.pricing_unit for part in parts if part.pricing_unit is not None]
    if not amounts:
        return None
    cents = sum(amount.amount_cents for amount in amounts)
    return UsagePricingUnit(cents, amounts[0].short_name, amounts[0].conversion_rate)


def by_filter(parts: Iterable[P]) -> list[tuple[ShownFilter | None, list[P]]]:
    """The parts of each filter and of the default bucket, in their order."""
    found: dict[UUID | None, tuple[ShownFilter | None, list[P]]] = {}
    for part in parts:
        key = part.filter.id if part.filter else None
        found.setdefault(key, (part.filter, []))[1].append(part)
    return list(found.values())


def by_group(parts: Iterable[P]) -> list[tuple[dict[str, str | None], list[P]]]:
    """The parts of each distinct group over all filters; those without a group are in none."""
    found: dict[tuple[tuple[str, str | None], ...], list[P]] = {}
    for part in parts:
        if part.group:
            found.setdefault(tuple(part.group.items()), []).append(part)
    return [(dict(group), mine) for group, mine in found.items()]


def shown_by_charge(parts: Iterable[P]) -> list[P]:
    """The parts whose breakdowns the charge itself shows: those with neither filter nor group."""
    return [part for part in parts if not part.group and part.filter is None]


def shown_by_group(parts: Iterable[P]) -> list[P]:
    """The parts whose breakdowns a group shows: those without a filter."""
    return [part for part in parts if part.filter is None]


def charge_usage_object(
    charge: UsageCharge, metric: UsageMetric, currency: str, parts: Sequence[Part], *, has_filters: bool
) -> ChargeUsageObject:
    """A charge with its figures. `has_filters`: they are shown filter by filter, too."""
    return ChargeUsageObject(
        **_figures(parts, shown_by_charge(parts)),
        amount_currency=currency,
        charge=charge,
        billable_metric=metric,
        filters=_filters(parts) if has_filters else [],
        grouped_usage=[
            GroupUsageObject(
                **_figures(mine, shown_by_group(mine)),
                grouped_by=group,
                filters=_filters(mine) if has_filters else [],
            )
            for group, mine in by_group(parts)
        ],
    )


def _filters(parts: Sequence[Part]) -> list[FilterUsageObject]:
    return [
        FilterUsageObject(
            **_figures(mine, mine),
            invoice_display_name=one.invoice_display_name if one else None,
            values=one.values if one else None,
        )
        for one, mine in by_filter(parts)
    ]


def _figures(parts: Sequence[Part], presented: Iterable[Part]) -> dict[str, Any]:
    return {
        "units": total_units(part.units for part in parts),
        "total_aggregated_units": total_units(part.total_aggregated_units for part in parts),
        "events_count": sum(part.events_count for part in parts),
        "amount_cents": sum(part.amount_cents for part in parts),
        "pricing_unit_details": total_pricing_unit(parts),
        "presentation_breakdowns": [one for part in presented for one in part.presented],
    }
