"""The memory of keys: it forgets none, and seldom takes one for known that is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering import keys
from app.metering.keys import Key, KeyFilter

PARTS = st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=3), st.text(max_size=3)), max_size=40))


@given(parts=PARTS, asked=st.lists(st.tuples(st.just("c"), st.text(max_size=3), st.text(max_size=3))))
def test_all_that_was_added_is_known(parts: list[list[Key]], asked: list[Key]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "FIRST_CAPACITY", 5)  # several filters
        known = KeyFilter()
        added: set[Key] = set()
        for part in parts:
            known.add(part)
            added |= set(part)
            assert added <= known.perhaps_known([*added, *asked]) <= added | set(asked)


def test_few_others_are_taken_for_known() -> None:
    known = KeyFilter()
    known.add([("org", "sub", f"seen {number}") for number in range(200_000)])
    assert len(known.perhaps_known([("org", "sub", f"unseen {number}") for number in range(200_000)])) < 20
