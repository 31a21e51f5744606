"""The query parameters that say how usage is looked at (metering spec 5.1)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.datastructures import MultiDict

from app.billing.charge_usage import Options
from app.errors import invalid

_json = msgspec.json.Decoder()


def usage_options(query: MultiDict[Any], *, skip_grouping: bool, filter_by_presentation: str | None) -> Options:
    """Options from `group[key]=value`, given several times or as a list for any of several values, or `group` as JSON; from
    `skip_grouping`; and from `filter_by_presentation`, a JSON list of keys.

    Raises:
        Invalid: a text that is not JSON of that shape.
    """
    only: dict[str, list[str]] = {}
    for name, value in query.multi_items():
        root, _, key = name.partition("[")
        if root not in {"group", "filter_by_group"}:
            continue
        if key:
            only.setdefault(key.removesuffix("[]").removesuffix("]"), []).append(str(value))
        elif value:
            only |= _group(root, str(value))
    return Options(only or None, skip_grouping, _keys(filter_by_presentation))


def read_group(text: str | None) -> dict[str, str | None]:
    """The group of a line of usage: a JSON object of texts, null for an absent property.

    Raises:
        Invalid: a text that is not that.
    """
    value = _decoded("grouped_by", text) if text else {}
    if not isinstance(value, Mapping) or not all(isinstance(one, str | None) for one in value.values()):
        raise invalid("grouped_by", "value_is_invalid")
    return dict(value)


def _group(field: str, text: str) -> dict[str, list[str]]:
    value = _decoded(field, text)
    if not isinstance(value, Mapping):
        raise invalid(field, "value_is_invalid")
    return {key: [str(one) for one in (ones if isinstance(ones, list) else [ones])] for key, ones in value.items()}


def _keys(text: str | None) -> list[str] | None:
    if text is None:
        return None
    value = _decoded("filter_by_presentation", text)
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise invalid("filter_by_presentation", "value_is_invalid")
    return list(dict.fromkeys(value))


def _decoded(field: str, text: str) -> Any:
    try:
        return _json.decode(text)
    except msgspec.DecodeError:
        raise invalid(field, "value_is_invalid") from None
