"""`/api/v1/customers/{external_id}/current_usage` (metering spec 5.1 to 5.3)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Now, Org, Running
from app.api.request import ExactRequest
from app.api.routes import get
from app.api.usage_options import usage_options
from app.api.wire import instant
from app.billing.book import ChargeFilterTerms, ChargeTerms
from app.billing.charge_usage import BucketFee, ChargeUsage
from app.billing.current_usage import CurrentUsage, Restriction, current_usage
from app.core.money import ZERO, decimal_text, exact
from app.errors import invalid


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


class PresentationObject(Struct):
    presentation_by: dict[str, str]
    units: str


class FilterUsageObject(Struct):
    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int
    invoice_display_name: str | None
    values: dict[str, list[str]] | None
    pricing_unit_details: None = None
    presentation_breakdowns: list[PresentationObject] = []


class GroupUsageObject(Struct):
    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int
    grouped_by: dict[str, str | None]
    filters: list[FilterUsageObject]
    pricing_unit_details: None = None
    presentation_breakdowns: list[PresentationObject] = []


class ChargeUsageObject(Struct):
    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int
    amount_currency: str
    charge: UsageCharge
    billable_metric: UsageMetric
    filters: list[FilterUsageObject]
    grouped_usage: list[GroupUsageObject]
    pricing_unit_details: None = None
    presentation_breakdowns: list[PresentationObject] = []


class UsageObject(Struct):
    from_datetime: str
    to_datetime: str
    issuing_date: str
    currency: str
    amount_cents: int
    total_amount_cents: int
    taxes_amount_cents: int
    lago_invoice_id: None
    charges_usage: list[ChargeUsageObject]


class UsageAnswer(Struct):
    customer_usage: UsageObject


class UsageController(Controller):
    path = "/customers/{external_id:str}"
    tags = ["usage"]
    opt = {"resource": "customer_usage"}

    @get("/current_usage")
    def get_current_usage(
        self,
        external_id: str,
        request: ExactRequest,
        db: Db,
        service: Running,
        organization: Org,
        now: Now,
        external_subscription_id: str | None = None,
        apply_taxes: bool = True,
        charge_id: UUID | None = None,
        charge_code: str | None = None,
        billable_metric_code: str | None = None,
        filter_by_charge_id: UUID | None = None,
        filter_by_charge_code: str | None = None,
        filter_by_metric_code: str | None = None,
        skip_grouping: bool = False,
        filter_by_presentation: str | None = None,
        full_usage: bool = False,
    ) -> UsageAnswer:
        """A subscription's usage in its current billing period, priced and taxed.

        `group[key]=value` keeps only the events whose property has the value, or one of several.
        """
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        options = usage_options(
            request.query_params, skip_grouping=skip_grouping, filter_by_presentation=filter_by_presentation
        )
        restriction = Restriction(
            charge_id or filter_by_charge_id,
            charge_code or filter_by_charge_code,
            billable_metric_code or filter_by_metric_code,
        )
        service.wait_until_readable(organization.id)
        usage = current_usage(
            db,
            service.meter,
            service.price_book,
            organization,
            external_id,
            external_subscription_id,
            restriction,
            now,
            apply_taxes=apply_taxes,
            full_usage=full_usage,
            options=options,
        )
        return UsageAnswer(_usage_object(usage))


def _usage_object(usage: CurrentUsage) -> UsageObject:
    return UsageObject(
        from_datetime=instant(usage.boundaries.charges_from),
        to_datetime=instant(usage.boundaries.charges_to),
        issuing_date=usage.issuing_date.isoformat(),
        currency=usage.currency,
        amount_cents=usage.amount_cents,
        total_amount_cents=usage.amount_cents + usage.taxes_amount_cents,
        taxes_amount_cents=usage.taxes_amount_cents,
        lago_invoice_id=None,
        charges_usage=[_charge_usage_object(one, usage.currency) for one in usage.charges],
    )


class _Figures(NamedTuple):
    """The sums over some of a charge's fees."""

    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int


def _sums(fees: Sequence[BucketFee]) -> _Figures:
    with exact():
        return _Figures(
            decimal_text(sum((fee.amounts.units for fee in fees), ZERO)),
            decimal_text(sum((fee.total_aggregated_units for fee in fees), ZERO)),
            sum(fee.events_count for fee in fees),
            sum(fee.amounts.amount_cents for fee in fees),
        )


def _charge_usage_object(one: ChargeUsage, currency: str) -> ChargeUsageObject:
    charge = one.charge
    return ChargeUsageObject(
        *_sums(one.fees),
        currency,
        charge=UsageCharge(charge.id, charge.code, charge.charge_model, charge.invoice_display_name),
        billable_metric=UsageMetric(charge.metric_id, charge.metric_name, charge.metric_code, charge.aggregation),
        filters=_filters(one.fees, charge),
        grouped_usage=_groups(one),
        presentation_breakdowns=_presented(fee for fee in one.fees if not fee.group and fee.filter is None),
    )


def _filters(fees: Sequence[BucketFee], charge: ChargeTerms) -> list[FilterUsageObject]:
    """One entry per filter and one for the default bucket, where the charge has filters at all."""
    if not charge.filters:
        return []
    by_filter: dict[ChargeFilterTerms | None, list[BucketFee]] = {}
    for fee in fees:
        by_filter.setdefault(fee.filter, []).append(fee)
    return [
        FilterUsageObject(
            *_sums(mine),
            invoice_display_name=filter_.invoice_display_name if filter_ else None,
            values=filter_.values_as_sent if filter_ else None,
            presentation_breakdowns=_presented(mine),
        )
        for filter_, mine in by_filter.items()
    ]


def _groups(one: ChargeUsage) -> list[GroupUsageObject]:
    """One entry per distinct group over all filters; none where nothing is grouped."""
    by_group: dict[tuple[tuple[str, str | None], ...], list[BucketFee]] = {}
    for fee in one.fees:
        if fee.group:
            by_group.setdefault(tuple(fee.group.items()), []).append(fee)
    return [
        GroupUsageObject(
            *_sums(mine),
            grouped_by=dict(group),
            filters=_filters(mine, one.charge),
            presentation_breakdowns=_presented(fee for fee in mine if fee.filter is None),
        )
        for group, mine in by_group.items()
    ]


def _presented(fees: Iterable[BucketFee]) -> list[PresentationObject]:
    return [PresentationObject(dict(part.by), decimal_text(part.units)) for fee in fees for part in fee.presented]
