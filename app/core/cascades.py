"""What a copy of a charge takes over when the charge it was copied from changes (metering spec 6.9, billing spec 1.11).

`old` and `new` are the charge before and after the change, `child` the copy. What did not change is not looked at: a copy
never takes over more than what was changed just now.
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
Properties = Mapping[str, object]
"""Properties of a charge or of a charge filter as they are stored."""

GROUPING = ("pricing_group_keys", "presentation_group_keys")
"""The properties that say how usage is split up and shown; the others are the price."""


def followed(child: T, old: T, new: T) -> T:
    """A value of the copy: the new one where the copy still has the old one, else its own."""
    return new if child == old else child


def followed_properties(child: Properties, old: Properties, new: Properties, *, same_model: bool) -> dict[str, object]:
    """The properties of the copy. Its price follows as one value, and only under the same charge model; grouping that was
    changed always follows, key by key.
    """
    price = followed(_price(child), _price(old), _price(new)) if same_model else _price(child)
    grouping = {key: (child if old.get(key) == new.get(key) else new).get(key) for key in GROUPING}
    return {**price, **{key: value for key, value in grouping.items() if value is not None}}


def _price(properties: Properties) -> dict[str, object]:
    return {key: value for key, value in properties.items() if key not in GROUPING}
