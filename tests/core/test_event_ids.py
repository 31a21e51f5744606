"""Ids of events: UUIDs that depend on nothing but the key."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from app.metering.event_ids import MANY, event_id, event_ids

TEXTS = st.text(st.characters(), max_size=6)  # half a surrogate pair, too
KEYS = st.tuples(TEXTS, TEXTS, TEXTS)


@given(st.lists(KEYS, max_size=2 * MANY))
def test_each_has_its_own_wherever_it_is_asked_for(keys: list[tuple[str, str, str]]) -> None:
    """One by one and many at once, they are the same."""
    ids = event_ids(keys)
    assert ids == [event_id(key) for key in keys]
    assert len(set(ids)) == len({"\x00".join(key) for key in keys})
    for one in map(UUID, ids):
        assert (one.version, one.variant) == (8, RFC_4122)


def test_they_stay_as_they_are() -> None:
    """Answers that were given must be true tomorrow."""
    assert event_id(("org", "sub", "tx")) == "18595030-301a-8d54-9c57-0416aee426ec"
    assert event_id(("", "é\ud800", "")) == "deb91c55-514a-8b41-9cbd-122780bec94b"
