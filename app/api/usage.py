"""`/api/v1/customers/{external_id}/current_usage` (metering spec 5.1 to 5.3)."""

from typing import Any
from uuid import UUID

from litestar import Controller
from msgspec import Struct

from app.api.given import Db, Now, Org, Running
from app.api.routes import get
from app.api.wire import instant
from app.billing.current_usage import ChargeUsage, CurrentUsage, Restriction, current_usage
from app.core.money import decimal_text
from app.errors import NotAllowed, invalid


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


class ChargeUsageObject(Struct):
    units: str
    total_aggregated_units: str
    events_count: int
    amount_cents: int
    amount_currency: str
    charge: UsageCharge
    billable_metric: UsageMetric
    pricing_unit_details: None = None
    filters: list[Any] = []
    grouped_usage: list[Any] = []
    presentation_breakdowns: list[Any] = []


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
        full_usage: bool = False,
    ) -> UsageAnswer:
        """A subscription's usage in its current billing period, priced and taxed."""
        if not external_subscription_id:
            raise invalid("external_subscription_id", "value_is_mandatory")
        if full_usage:
            raise NotAllowed("full_usage_not_allowed")
        restriction = Restriction(
            charge_id or filter_by_charge_id,
            charge_code or filter_by_charge_code,
            billable_metric_code or filter_by_metric_code,
        )
        service.wait_until_readable(organization.id)
        usage = current_usage(
            db,
            organization.id,
            external_id,
            external_subscription_id,
            restriction,
            now,
            service.measure,
            apply_taxes=apply_taxes,
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


def _charge_usage_object(one: ChargeUsage, currency: str) -> ChargeUsageObject:
    charge, units = one.charge, decimal_text(one.amounts.units)
    return ChargeUsageObject(
        units=units,
        total_aggregated_units=units if one.measured.level is None else decimal_text(one.measured.level),
        events_count=one.events_count,
        amount_cents=one.amounts.amount_cents,
        amount_currency=currency,
        charge=UsageCharge(charge.id, charge.code, charge.charge_model, charge.invoice_display_name),
        billable_metric=UsageMetric(charge.metric_id, charge.metric_name, charge.metric_code, charge.aggregation),
    )
