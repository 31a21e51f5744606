"""Charge properties and what a quantity costs under them.

``properties`` is the JSON object of a charge or a charge filter: amounts are strings in currency units. Fractional
numbers in it must have been parsed as ``Decimal``; binary ones are refused. Metering spec 3.1, 3.2, 3.6 to 3.8, 3.10.
"""

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import cast

from app.core.money import ZERO, decimal_places, decimal_text, exact, minor_int, to_minor


class ChargeModel(StrEnum):
    """``charge_model`` of a charge (metering spec 3.7)."""

    STANDARD = "standard"
    GRADUATED = "graduated"
    PACKAGE = "package"
    PERCENTAGE = "percentage"
    VOLUME = "volume"
    GRADUATED_PERCENTAGE = "graduated_percentage"
    DYNAMIC = "dynamic"
    CUSTOM = "custom"


SUPPORTED_MODELS = frozenset({ChargeModel.STANDARD, ChargeModel.GRADUATED})

_MODEL_KEYS: dict[ChargeModel, tuple[str, ...]] = {
    ChargeModel.STANDARD: ("amount",),
    ChargeModel.GRADUATED: ("graduated_ranges",),
    ChargeModel.PACKAGE: ("amount", "package_size", "free_units"),
    ChargeModel.PERCENTAGE: (
        "rate",
        "fixed_amount",
        "free_units_per_events",
        "free_units_per_total_aggregation",
        "per_transaction_min_amount",
        "per_transaction_max_amount",
    ),
    ChargeModel.VOLUME: ("volume_ranges",),
    ChargeModel.GRADUATED_PERCENTAGE: ("graduated_percentage_ranges",),
    ChargeModel.DYNAMIC: (),
    ChargeModel.CUSTOM: (),
}
_RANGE_KEYS: dict[str, tuple[str, ...]] = {
    "graduated_ranges": ("from_value", "to_value", "per_unit_amount", "flat_amount"),
    "volume_ranges": ("from_value", "to_value", "per_unit_amount", "flat_amount"),
    "graduated_percentage_ranges": ("from_value", "to_value", "rate", "flat_amount"),
}

_OPEN_RANGE: dict[str, object] = {"from_value": 0, "to_value": None, "per_unit_amount": "0", "flat_amount": "0"}
_DEFAULTS: dict[ChargeModel, dict[str, object]] = {
    ChargeModel.STANDARD: {"amount": "0"},
    ChargeModel.GRADUATED: {"graduated_ranges": [_OPEN_RANGE]},
    ChargeModel.PACKAGE: {"package_size": 1, "amount": "0", "free_units": 0},
    ChargeModel.PERCENTAGE: {"rate": "0"},
    ChargeModel.VOLUME: {"volume_ranges": [_OPEN_RANGE]},
    ChargeModel.GRADUATED_PERCENTAGE: {
        "graduated_percentage_ranges": [{"from_value": 0, "to_value": None, "rate": "0", "flat_amount": "0"}]
    },
    ChargeModel.DYNAMIC: {},
    ChargeModel.CUSTOM: {},
}

# A price fits numeric(30, 15), a range bound fits an event value: longer ones are refused, not cut.
_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?|\.[0-9]{1,15}").fullmatch
_BOUND = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,18})?|\.[0-9]{1,18}").fullmatch
_BOUND_LIMIT = 10**20
_BOUND_PLACES = 18
_MAX_PRESENTATION_KEYS = 2


@dataclass(frozen=True, slots=True)
class Priced:
    """Price of a quantity, unrounded, in currency units, with the breakdown shown to clients."""

    amount: Decimal
    unit_amount: Decimal
    amount_details: dict[str, object]


@dataclass(frozen=True, slots=True)
class FeeAmounts:
    """Amounts of a charge fee: units, billed minor units, unrounded minor units, unit price in currency units."""

    units: Decimal
    amount_cents: int
    precise_amount_cents: Decimal
    precise_unit_amount: Decimal
    amount_details: dict[str, object]


PriceFunction = Callable[[Decimal, int], Priced]


@dataclass(frozen=True, slots=True)
class _Tier:
    """A tier up to ``upper`` (None: without end), beside its bounds as the client wrote them."""

    from_value: object
    to_value: object
    upper: Decimal | None
    per_unit: Decimal
    flat: Decimal


def default_properties(model: ChargeModel) -> dict[str, object]:
    """Properties of a charge sent without any: everything free (metering spec 3.1). A new object each time."""
    return deepcopy(_DEFAULTS[model])


def clean_properties(
    model: ChargeModel, properties: Mapping[str, object], *, on_filter: bool = False
) -> dict[str, object]:
    """The properties that belong to the model, as they are stored (metering spec 3.1).

    Other keys are dropped, also inside ranges. The legacy ``grouped_by``, less its empty strings, becomes
    ``pricing_group_keys`` unless that is given too; empty grouping is dropped. ``presentation_group_keys`` is
    dropped on a filter. Values are not judged: malformed ones stay for ``property_errors`` to report.
    """
    kept: dict[str, object] = {}
    for key in _MODEL_KEYS[model]:
        if key in properties:
            kept[key] = _clean_ranges(key, properties[key]) if key in _RANGE_KEYS else properties[key]
    grouping = _pricing_group_keys(properties)
    if grouping is not None and grouping != []:
        kept["pricing_group_keys"] = grouping
    if properties.get("presentation_group_keys") and not on_filter:
        kept["presentation_group_keys"] = properties["presentation_group_keys"]
    return kept


def _clean_ranges(key: str, ranges: object) -> object:
    if not isinstance(ranges, list):
        return ranges
    names = _RANGE_KEYS[key]
    return [
        {name: entry[name] for name in names if name in entry} if isinstance(entry, Mapping) else entry
        for entry in ranges
    ]


def _pricing_group_keys(properties: Mapping[str, object]) -> object:
    keys = properties.get("pricing_group_keys")
    if keys is not None:
        return keys
    legacy = properties.get("grouped_by")
    return [key for key in legacy if key != ""] if isinstance(legacy, list) else legacy


def property_errors(model: ChargeModel, properties: Mapping[str, object]) -> list[str]:
    """Error codes of the properties, each once, in the order of metering spec 3.2; empty when valid.

    Amounts are strings holding a plain decimal (no sign, no exponent) of at most 15 digits before and 15 after
    the point. Range bounds are integers, ``Decimal`` or such strings below 10**20 with at most 18 decimals.
    Takes any JSON value anywhere. ``ValueError`` for a model outside ``SUPPORTED_MODELS``.
    """
    match model:
        case ChargeModel.STANDARD:
            errors = [] if _amount(properties.get("amount")) is not None else ["invalid_amount"]
        case ChargeModel.GRADUATED:
            errors = _graduated_errors(properties.get("graduated_ranges"))
        case _:
            raise ValueError(f"{model} is not supported")
    if not _are_pricing_keys(_pricing_group_keys(properties)):
        errors.append("invalid_type")
    errors.extend(_presentation_errors(properties.get("presentation_group_keys")))
    return list(dict.fromkeys(errors))


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


def _amount(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, str) and _AMOUNT(value) else None


def _bound(value: object) -> Decimal | None:
    match value:
        case bool():
            return None
        case int():
            return Decimal(value) if 0 <= value < _BOUND_LIMIT else None
        case str():
            return Decimal(value) if _BOUND(value) else None
        case Decimal() if value.is_finite() and 0 <= value < _BOUND_LIMIT:
            return value if decimal_places(value) <= _BOUND_PLACES else None
        case _:
            return None


def _graduated_errors(ranges: object) -> list[str]:
    if ranges is None or ranges == []:
        return ["missing_graduated_ranges"]
    if not isinstance(ranges, list) or not all(isinstance(entry, Mapping) for entry in ranges):
        return ["invalid_graduated_ranges"]
    errors = [] if _are_consecutive(ranges) else ["invalid_graduated_ranges"]
    for entry in ranges:
        if _amount(entry.get("per_unit_amount")) is None or _amount(entry.get("flat_amount")) is None:
            errors.append("invalid_amount")
            break
    return errors


def _are_consecutive(ranges: list[Mapping[str, object]]) -> bool:
    """Whether the ranges cover everything from 0 once, in either notation of bounds (metering spec 3.6)."""
    previous = ZERO
    for position, entry in enumerate(ranges, start=1):
        lower = _bound(entry.get("from_value"))
        with exact():
            if lower is None or lower not in (previous, previous + 1):
                return False
        if position == len(ranges):
            return entry.get("to_value") is None
        upper = _bound(entry.get("to_value"))
        if upper is None or upper <= lower:
            return False
        previous = upper
    return False


def compile_price(model: ChargeModel, properties: Mapping[str, object]) -> PriceFunction:
    """A function of (units, events count) giving the price under the properties, which are read only once.

    ``ValueError`` for a model outside ``SUPPORTED_MODELS`` or invalid properties. See ``price``.
    """
    errors = property_errors(model, properties)
    if errors:
        raise ValueError(", ".join(errors))
    if model is ChargeModel.STANDARD:
        return _standard(_amount(properties["amount"]) or ZERO)
    ranges = cast("list[Mapping[str, object]]", properties["graduated_ranges"])
    return _graduated([_tier(entry) for entry in ranges])


def price(model: ChargeModel, properties: Mapping[str, object], units: Decimal, events_count: int) -> Priced:
    """Price of ``units`` (after the metric's rounding), in currency units, unrounded (metering spec 3.7, 3.8).

    Decimals of the details are wire texts; range bounds are shown as configured. Below zero units a standard
    price is negative and a graduated one is that of 0 units: ``fee_amounts`` turns both into a zero fee.
    """
    return compile_price(model, properties)(units, events_count)


def _standard(amount: Decimal) -> PriceFunction:
    def priced(units: Decimal, _events_count: int) -> Priced:
        with exact():
            return Priced(units * amount, amount if units else ZERO, {})

    return priced


def _tier(entry: Mapping[str, object]) -> _Tier:
    to_value = entry.get("to_value")
    return _Tier(
        from_value=entry["from_value"],
        to_value=to_value,
        upper=None if to_value is None else _bound(to_value),
        per_unit=_amount(entry["per_unit_amount"]) or ZERO,
        flat=_amount(entry["flat_amount"]) or ZERO,
    )


def _graduated(tiers: list[_Tier]) -> PriceFunction:
    def priced(units: Decimal, _events_count: int) -> Priced:
        amount = lower = ZERO
        details: list[dict[str, object]] = []
        with exact():
            for tier in tiers:
                # The first tier is always reached: its flat amount is due even without usage.
                if details and units <= lower:
                    break
                upper = units if tier.upper is None else min(units, tier.upper)
                inside = max(upper - lower, ZERO)
                cost = inside * tier.per_unit
                amount += cost + tier.flat
                details.append(_tier_details(tier, inside, cost, cost + tier.flat))
                if tier.upper is None:
                    break
                lower = tier.upper
            unit_amount = amount / units if units else ZERO
        return Priced(amount, unit_amount, {"graduated_ranges": details})

    return priced


def _tier_details(tier: _Tier, inside: Decimal, cost: Decimal, cost_with_flat: Decimal) -> dict[str, object]:
    return {
        "from_value": tier.from_value,
        "to_value": tier.to_value,
        "flat_unit_amount": decimal_text(tier.flat),
        "per_unit_amount": decimal_text(tier.per_unit if inside else ZERO),
        "units": decimal_text(inside),
        "per_unit_total_amount": decimal_text(cost),
        "total_with_flat_amount": decimal_text(cost_with_flat),
    }


def fee_amounts(units: Decimal, priced: Priced, currency: str) -> FeeAmounts:
    """Amounts of the fee of a charge billed in arrears (metering spec 3.10, steps 1 and 2).

    Negative units or a negative amount make a zero fee, without details. Otherwise the amount is turned into
    minor units and rounded half-up once. Raises ``money.UnknownCurrency``.
    """
    precise = to_minor(priced.amount, currency)
    if units < 0 or priced.amount < 0:
        return FeeAmounts(ZERO, 0, ZERO, ZERO, {})
    return FeeAmounts(units, minor_int(precise), precise, priced.unit_amount, priced.amount_details)
