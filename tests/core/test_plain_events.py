"""Plain batches: read as `read_batch` reads them, or left to it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import Invalid
from app.metering.events import LATEST_MS, EventBatchBody, Receipt, read_batch
from app.metering.plain_events import read_plain_batch

AT = datetime(2024, 5, 1, tzinfo=UTC)
RECEIPT = Receipt(AT)
LIMIT = 3

TEXTS = st.text(max_size=6) | st.sampled_from(["", "null", "1.50", '"', "\\", "\x00", "é\U0001f600"])
NUMBERS = st.integers() | st.sampled_from([0, -1, 10**30])
VALUES = TEXTS | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans() | st.just([1])
SECONDS = st.sampled_from([0, -1, 1_714_521_600, LATEST_MS // 1000, LATEST_MS // 1000 + 1, 10**30])
MAYBE = st.none() | TEXTS | NUMBERS
PLAIN = st.fixed_dictionaries(
    {
        "transaction_id": st.text(min_size=1, max_size=6),
        "external_subscription_id": TEXTS,
        "code": st.text(min_size=1, max_size=6),
        "timestamp": st.integers(0, LATEST_MS // 1000),
    },
    optional={"properties": st.dictionaries(TEXTS, TEXTS | NUMBERS, max_size=3), "unknown": VALUES},
)
ANY = st.fixed_dictionaries(
    {},
    optional={
        "transaction_id": MAYBE,
        "external_subscription_id": MAYBE,
        "code": MAYBE,
        "timestamp": SECONDS | VALUES,
        "properties": st.dictionaries(TEXTS, VALUES, max_size=3) | st.none(),
        "precise_total_amount_cents": st.none() | TEXTS | NUMBERS,
    },
)


def same(body: bytes) -> bool:
    """Whether both read the same from a body, or the plain way leaves it to the other."""
    plain = read_plain_batch(body, LIMIT, "org", RECEIPT)
    if plain is None:
        return False
    events, wrong = read_batch(msgspec.json.decode(body, type=EventBatchBody).events, LIMIT, "org", AT, RECEIPT)
    assert not wrong
    assert [sent(one) for one in plain] == [sent(one) for one in events.values()]
    return True


def sent(event: Any) -> dict[str, Any]:
    """All of an event, with its echo as it is on the wire."""
    return {**msgspec.structs.asdict(event), "echo": msgspec.json.decode(msgspec.json.encode(event.echo))}


@given(st.lists(PLAIN, min_size=1, max_size=LIMIT))
def test_what_is_plain_is_read_alike(events: list[dict[str, Any]]) -> None:
    plain = all(0 not in one.get("properties", {}).values() for one in events)
    assert same(msgspec.json.encode({"events": events})) or not plain


@given(st.lists(PLAIN | ANY, max_size=LIMIT + 1))
@example([])
def test_whatever_is_not_is_left(events: list[dict[str, Any]]) -> None:
    body = msgspec.json.encode({"events": events})
    try:
        same(body)
    except Invalid:
        pytest.fail("read though it must be refused")


@pytest.mark.parametrize(
    "of", [b'"timestamp": 1.5', b'"timestamp": "1"', b'"properties": {"units": -0}', b'"properties": {"units": 1.0}']
)
def test_what_has_to_be_kept_as_it_was_sent_is_left(of: bytes) -> None:
    start = b'{"events": [{"transaction_id": "a", "external_subscription_id": "s", "code": "calls", "timestamp": 1, '
    assert same(start + b'"properties": {"units": "1", "n": 7}}]}')
    assert not same(start + of + b"}]}")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"events": {}}', b'{"events": [', b'{"events": [' * 10_000])
def test_what_is_no_batch_is_left(body: bytes) -> None:
    assert not same(body)
