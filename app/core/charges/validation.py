"""What may stand in the properties of a charge or a charge filter (metering spec 3.2)."""

from collections.abc import Mapping

from app.core.aggregation import Aggregation
from app.core.charges.literals import amount, whole
from app.core.charges.properties import pricing_group_keys
from app.core.charges.ranges import are_consecutive
from app.core.charges.usage import SUPPORTED_MODELS, ChargeModel

_MAX_PRESENTATION_KEYS = 2
_RATED_MODELS = (ChargeModel.PERCENTAGE, ChargeModel.GRADUATED_PERCENTAGE)

_RANGES = {
    ChargeModel.GRADUATED: ("graduated_ranges", "per_unit_amount", "invalid_amount"),
    ChargeModel.VOLUME: ("volume_ranges", "per_unit_amount", "invalid_amount"),
    ChargeModel.GRADUATED_PERCENTAGE: ("graduated_percentage_ranges", "rate", "invalid_rate"),
}

Properties = Mapping[str, object]


def property_errors(
    model: ChargeModel, properties: Properties, aggregation: Aggregation | str | None = None
) -> list[str]:
    """Error codes of the properties, each once, in the order of metering spec 3.2; empty when valid.

    What is a number there, ``literals`` says. With the ``aggregation`` of the metric, a model it cannot have is
    reported too. Takes any JSON value anywhere. ``ValueError`` for a model outside ``SUPPORTED_MODELS``.
    """
    if model not in SUPPORTED_MODELS:
        raise ValueError(f"{model} is not supported")
    errors = _model_errors(model, properties)
    if model in _RATED_MODELS and aggregation == Aggregation.LATEST:
        errors.append("invalid_value")
    if not _are_pricing_keys(pricing_group_keys(properties)):
        errors.append("invalid_type")
    errors.extend(_presentation_errors(properties.get("presentation_group_keys")))
    return list(dict.fromkeys(errors))


def _model_errors(model: ChargeModel, properties: Properties) -> list[str]:
    match model:
        case ChargeModel.STANDARD:
            return [] if amount(properties.get("amount")) is not None else ["invalid_amount"]
        case ChargeModel.PACKAGE:
            return _package_errors(properties)
        case ChargeModel.PERCENTAGE:
            return _percentage_errors(properties)
        case _ if model in _RANGES:
            return _range_errors(properties, *_RANGES[model])
        case _:
            return []


def _package_errors(properties: Properties) -> list[str]:
    rules = {
        "invalid_amount": amount(properties.get("amount")) is not None,
        "invalid_package_size": whole(properties.get("package_size"), 1) is not None,
        "invalid_free_units": whole(properties.get("free_units"), 0) is not None,
    }
    return [code for code, holds in rules.items() if not holds]


def _percentage_errors(properties: Properties) -> list[str]:
    fixed, free_events, free_units = (
        properties.get(key) for key in ("fixed_amount", "free_units_per_events", "free_units_per_total_aggregation")
    )
    rules = {
        "invalid_rate": amount(properties.get("rate")) is not None,
        "invalid_fixed_amount": fixed is None or amount(fixed) is not None,
        "invalid_free_units_per_events": free_events is None or whole(free_events, 1) is not None,
        "invalid_free_units_per_total_aggregation": free_units is None or amount(free_units) is not None,
    }
    return [code for code, holds in rules.items() if not holds] + _transaction_errors(properties)


def _transaction_errors(properties: Properties) -> list[str]:
    given = [properties.get(f"per_transaction_{which}_amount") for which in ("min", "max")]
    low, high = (amount(one) for one in given)
    if any(one not in (None, "") and amount(one) is None for one in given):
        return ["invalid_amount"]
    if low is not None and high is not None and low > high:
        return ["per_transaction_max_lower_than_per_transaction_min"]
    return []


def _range_errors(properties: Properties, key: str, price_key: str, price_code: str) -> list[str]:
    ranges = properties.get(key)
    if ranges is None or ranges == []:
        return [f"missing_{key}"]
    if not isinstance(ranges, list) or not all(isinstance(entry, Mapping) for entry in ranges):
        return [f"invalid_{key}"]
    rules = [
        (f"invalid_{key}", are_consecutive(ranges)),
        ("invalid_amount", all(amount(entry.get("flat_amount")) is not None for entry in ranges)),
        (price_code, all(amount(entry.get(price_key)) is not None for entry in ranges)),
    ]
    return [code for code, holds in rules if not holds]


def _are_pricing_keys(keys: object) -> bool:
    return keys is None or (isinstance(keys, list) and all(isinstance(key, str) and key for key in keys))


def _presentation_errors(keys: object) -> list[str]:
    if keys is None:
        return []
    if not isinstance(keys, list) or not all(_is_presentation_key(key) for key in keys):
        return ["invalid_type"]
    errors = []
    if len(keys) > _MAX_PRESENTATION_KEYS:
        errors.append("too_many_keys")
    if len({key["value"] for key in keys}) < len(keys):
        errors.append("value_is_duplicated")
    return errors


def _is_presentation_key(key: object) -> bool:
    if not isinstance(key, Mapping) or not isinstance(key.get("value"), str) or not key.keys() <= {"value", "options"}:
        return False
    options = key.get("options", {})
    if not isinstance(options, Mapping) or not options.keys() <= {"display_in_invoice"}:
        return False
    return isinstance(options.get("display_in_invoice", False), bool)
