"""The properties of a charge as they are stored: defaults, and what belongs to which model (metering spec 3.1)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import cast

from app.core.charges.usage import ChargeModel

TARGET_WALLET = "target_wallet_code"
"""The property that names the wallet an event is to be paid from."""

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
    grouping = pricing_group_keys(properties)
    if grouping is not None and grouping != []:
        kept["pricing_group_keys"] = grouping
    if properties.get("presentation_group_keys") and not on_filter:
        kept["presentation_group_keys"] = properties["presentation_group_keys"]
    return kept


def pricing_group_keys(properties: Mapping[str, object]) -> object:
    """The grouping that was sent, from the present or the legacy key; None when there is none. Not judged."""
    keys = properties.get("pricing_group_keys")
    if keys is not None:
        return keys
    legacy = properties.get("grouped_by")
    return [key for key in legacy if key != ""] if isinstance(legacy, list) else legacy


def group_keys(properties: Mapping[str, object], *, accepts_target_wallet: bool = False) -> tuple[str, ...]:
    """The keys that usage is grouped by under (valid, stored) properties of a charge or a charge filter.

    A charge that accepts a target wallet is grouped by ``TARGET_WALLET`` too (metering spec 3.5).
    """
    keys = cast("list[str]", properties.get("pricing_group_keys") or [])
    return tuple(dict.fromkeys([*keys, TARGET_WALLET] if accepts_target_wallet else keys))


def presentation_keys(properties: Mapping[str, object]) -> tuple[str, ...]:
    """The keys that a charge's usage is broken down by for show, under its (valid, stored) properties."""
    keys = cast("list[Mapping[str, str]]", properties.get("presentation_group_keys") or [])
    return tuple(key["value"] for key in keys)


def _clean_ranges(key: str, ranges: object) -> object:
    if not isinstance(ranges, list):
        return ranges
    names = _RANGE_KEYS[key]
    return [
        {name: entry[name] for name in names if name in entry} if isinstance(entry, Mapping) else entry
        for entry in ranges
    ]
