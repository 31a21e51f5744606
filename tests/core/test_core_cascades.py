"""What copies take over in a cascade, field by field (metering spec 6.9)."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.core.cascades import GROUPING, followed, followed_properties

KEYS = ("amount", "rate", *GROUPING)
VALUES = st.sampled_from(["1", "2", "3"])
PROPERTIES = st.dictionaries(st.sampled_from(KEYS), VALUES)


def price(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in GROUPING}


@given(VALUES, VALUES, VALUES)
def test_a_value_follows_where_it_is_still_the_old_one(child: str, old: str, new: str) -> None:
    assert followed(child, old, new) == {True: new, False: child}[child == old]


@given(PROPERTIES, PROPERTIES, PROPERTIES, st.booleans())
def test_properties_field_by_field(child: dict, old: dict, new: dict, same_model: bool) -> None:
    result = followed_properties(child, old, new, same_model=same_model)
    if same_model and price(child) == price(old):
        assert price(result) == price(new)
    else:
        assert price(result) == price(child)
    for key in GROUPING:
        wanted = child if old.get(key) == new.get(key) else new
        assert (key in result) == (key in wanted)
        assert result.get(key) == wanted.get(key)


@given(PROPERTIES, PROPERTIES, st.booleans())
def test_a_copy_that_was_never_changed_stays_one(old: dict, new: dict, same_model: bool) -> None:
    result = followed_properties(old, old, new, same_model=same_model)
    assert result == (new if same_model else {**price(old), **{key: new[key] for key in GROUPING if key in new}})


@given(PROPERTIES, PROPERTIES, st.booleans())
def test_nothing_changed_nothing_follows(child: dict, old: dict, same_model: bool) -> None:
    assert followed_properties(child, old, old, same_model=same_model) == child
