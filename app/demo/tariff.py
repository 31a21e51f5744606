"""What an airport charges an airline: four metrics, one of each aggregation, a monthly fee and a tax."""

from dataclasses import dataclass
from typing import Any

TIMEZONE = "America/New_York"
CURRENCY = "USD"
PLAN_CODE = "airport_services"
MONTHLY_FEE_CENTS = 50_000
TAX_RATE = "8.875"


@dataclass(frozen=True, slots=True)
class Metric:
    """A billable metric and the charge that prices it."""

    code: str
    name: str
    aggregation: str
    field: str | None
    charge_model: str
    properties: dict[str, Any]


METRICS = (
    Metric("departures", "Departures", "count_agg", None, "standard", {"amount": "3.755"}),
    Metric(
        "air_minutes",
        "Air minutes",
        "sum_agg",
        "air_time",
        "graduated",
        {
            "graduated_ranges": [
                {"from_value": 0, "to_value": 10_000, "per_unit_amount": "0.0145", "flat_amount": "0"},
                {"from_value": 10_001, "to_value": 100_000, "per_unit_amount": "0.01175", "flat_amount": "25"},
                {"from_value": 100_001, "to_value": None, "per_unit_amount": "0.0085", "flat_amount": "150"},
            ]
        },
    ),
    Metric("longest_leg", "Longest leg (miles)", "max_agg", "distance", "standard", {"amount": "0.125"}),
    Metric("aircraft", "Distinct aircraft", "unique_count_agg", "tailnum", "standard", {"amount": "11.4"}),
)


def metric_body(metric: Metric) -> dict[str, Any]:
    """What makes the metric over the API."""
    body = {"name": metric.name, "code": metric.code, "aggregation_type": metric.aggregation}
    return {"billable_metric": body if metric.field is None else {**body, "field_name": metric.field}}


def plan_body(metric_ids: dict[str, str]) -> dict[str, Any]:
    """What makes the plan over the API; `metric_ids` has the id of each metric by its code."""
    return {
        "plan": {
            "name": "Airport services",
            "code": PLAN_CODE,
            "interval": "monthly",
            "amount_cents": MONTHLY_FEE_CENTS,
            "amount_currency": CURRENCY,
            "pay_in_advance": False,
            "charges": [
                {
                    "billable_metric_id": metric_ids[metric.code],
                    "charge_model": metric.charge_model,
                    "invoice_display_name": metric.name,
                    "properties": metric.properties,
                }
                for metric in METRICS
            ],
        }
    }
