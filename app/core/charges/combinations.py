"""What a charge cannot be at once (metering spec 3.3)."""

from app.core.aggregation import Aggregation
from app.core.charges.usage import ChargeModel

_IN_ADVANCE = frozenset({Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT, Aggregation.CUSTOM})
_ONLY_WITH = {ChargeModel.DYNAMIC: Aggregation.SUM, ChargeModel.CUSTOM: Aggregation.CUSTOM}
_PRORATED_IN_ARREARS = frozenset({ChargeModel.STANDARD, ChargeModel.VOLUME, ChargeModel.GRADUATED})

_MISMATCH = "invalid_aggregation_type_or_charge_model"


def combination_errors(
    model: ChargeModel | None,
    aggregation: Aggregation,
    *,
    recurring: bool,
    pay_in_advance: bool,
    prorated: bool,
    invoiceable: bool,
    regroup_paid_fees: bool,
    min_amount_cents: int,
) -> dict[str, list[str]]:
    """Error codes by field, in the order of metering spec 3.3; empty when valid.

    ``recurring`` and ``aggregation`` are the metric's. ``regroup_paid_fees`` tells whether it is set. A model that is
    missing or unknown (None) breaks no rule here.
    """
    rules = [
        ("pay_in_advance", _MISMATCH, pay_in_advance and not _can_be_in_advance(model, aggregation)),
        ("charge_model", _MISMATCH, model in _ONLY_WITH and aggregation is not _ONLY_WITH[model]),
        (
            "prorated",
            "invalid_billable_metric_or_charge_model",
            prorated and not _can_be_prorated(model, aggregation, recurring=recurring, pay_in_advance=pay_in_advance),
        ),
        ("min_amount_cents", "not_compatible_with_pay_in_advance", pay_in_advance and min_amount_cents > 0),
        ("min_amount_cents", "value_is_out_of_range", min_amount_cents < 0),
        ("invoiceable", "must_be_true_unless_pay_in_advance", not invoiceable and not pay_in_advance),
        (
            "regroup_paid_fees",
            "only_compatible_with_pay_in_advance_and_non_invoiceable",
            regroup_paid_fees and (invoiceable or not pay_in_advance),
        ),
    ]
    return {field: [code] for field, code, broken in rules if broken}


def _can_be_in_advance(model: ChargeModel | None, aggregation: Aggregation) -> bool:
    return model is not ChargeModel.VOLUME and aggregation in _IN_ADVANCE


def _can_be_prorated(
    model: ChargeModel | None, aggregation: Aggregation, *, recurring: bool, pay_in_advance: bool
) -> bool:
    if not recurring or aggregation is Aggregation.WEIGHTED_SUM:
        return False
    return model is None or model in ({ChargeModel.STANDARD} if pay_in_advance else _PRORATED_IN_ARREARS)
