"""`/api/v1/customers/{external_id}/current_usage` and `past_usage` (metering spec 5.1 to 5.4)."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import Parameter
from msgspec import Struct

from app.api.given import Db, Now, Org, Paging, Running
from app.api.request import ExactRequest
from app.api.routes import get
from app.api.usage_options import usage_options
from app.api.usage_parts import (
    ChargeUsageObject,
    Part,
    PresentationObject,
    ShownFilter,
    UsageCharge,
    UsageMetric,
    UsageObject,
    UsagePricingUnit,
    charge_usage_object,
    part_of,
    usage_charge,
    usage_metric,
)
from app.api.wire import PageMeta, instant, paginate
from app.billing.current_usage import CurrentUsage, Restriction, current_usage
from app.billing.past_usage import charge_fees, past_periods
from app.catalog.metrics import find_metric
from app.core.money import ZERO
from app.errors import invalid
from app.models import BillingPeriod, Charge, Fee

MOST_PERIODS = 10**9


class UsageAnswer(Struct):
    customer_usage: UsageObject


class PastUsageAnswer(Struct):
    usage_periods: list[UsageObject]
    meta: PageMeta


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
            charge_code or filter_by_charge_code or None,
            billable_metric_code or filter_by_metric_code or None,
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

    @get("/past_usage")
    def get_past_usage(
        self,
        external_id: str,
        db: Db,
        organization: Org,
        paging: Paging,
        external_subscription_id: str | None = None,
        billable_metric_code: str | None = None,
        periods_count: Annotated[int | None, Parameter(ge=1, le=MOST_PERIODS)] = None,
    ) -> PastUsageAnswer:
        """The usage that a subscription was billed for, latest period first.

        The amounts of a period are those of its whole invoice; those of `charges_usage` are of usage alone.
        """
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        metric = find_metric(db, organization.id, billable_metric_code) if billable_metric_code else None
        query = past_periods(organization.id, external_id, external_subscription_id, periods_count)
        periods, meta = paginate(db, query, paging)
        fees = charge_fees(db, organization.id, periods, metric.id if metric else None)
        return PastUsageAnswer(
            [_past_object(one, fees.get((one.invoice_id, one.subscription_id), [])) for one in periods], meta
        )


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
        charges_usage=[
            charge_usage_object(
                usage_charge(one.charge),
                usage_metric(one.charge),
                usage.currency,
                [part_of(fee, one.charge) for fee in one.fees],
                has_filters=bool(one.charge.filters),
            )
            for one in usage.charges
        ],
    )


def _past_object(period: BillingPeriod, fees: Sequence[Fee]) -> UsageObject:
    """A period with its fees. The totals are those of the invoice, whatever else is on it (metering spec 5.4)."""
    invoice = period.invoice
    charges: dict[Charge, list[Fee]] = {}
    for fee in fees:
        if fee.charge is not None:
            charges.setdefault(fee.charge, []).append(fee)
    return UsageObject(
        from_datetime=instant(period.charges_from_datetime or period.from_datetime),
        to_datetime=instant(period.charges_to_datetime or period.to_datetime),
        issuing_date=invoice.issuing_date.isoformat(),
        currency=invoice.currency,
        amount_cents=invoice.fees_amount_cents,
        total_amount_cents=invoice.total_amount_cents,
        taxes_amount_cents=invoice.taxes_amount_cents,
        lago_invoice_id=invoice.id,
        charges_usage=[_past_charge(charge, mine, invoice.currency) for charge, mine in charges.items()],
    )


def _past_charge(charge: Charge, fees: Sequence[Fee], currency: str) -> ChargeUsageObject:
    metric = charge.billable_metric
    return charge_usage_object(
        UsageCharge(charge.id, charge.code, charge.charge_model, charge.invoice_display_name),
        UsageMetric(metric.id, metric.name, metric.code, metric.aggregation_type),
        currency,
        [_past_part(fee) for fee in fees],
        has_filters=bool(charge.filters) or any(fee.item_filters is not None for fee in fees),
    )


def _past_part(fee: Fee) -> Part:
    """A stored fee. One that makes up for a spending minimum has an amount and no usage."""
    is_usage = fee.true_up_parent_fee_id is None
    own, unit = fee.item_filters, fee.pricing_unit_usage
    return Part(
        filter=ShownFilter(fee.charge_filter_id, fee.filter_invoice_display_name, own)
        if fee.charge_filter_id is not None and own is not None
        else None,
        group=fee.grouped_by,
        units=fee.units if is_usage else ZERO,
        total_aggregated_units=fee.total_aggregated_units if is_usage else ZERO,
        events_count=fee.events_count or 0,
        amount_cents=fee.amount_cents,
        pricing_unit=UsagePricingUnit(unit["amount_cents"], unit["short_name"], unit["conversion_rate"])
        if unit
        else None,
        presented=[PresentationObject(**one) for one in fee.presentation_breakdowns],
    )
