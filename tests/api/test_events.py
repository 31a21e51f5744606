"""`/api/v1/events`: what is accepted, what is refused, and what is found again."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    refusal,
    send_batch,
    send_event,
    send_events,
    set_clock,
    standard,
    unique,
    units_of,
    usage_of,
)

URL = "/api/v1/events"
FIELDS = {
    "lago_id", "transaction_id", "lago_customer_id", "code", "timestamp", "precise_total_amount_cents", "properties",
    "lago_subscription_id", "external_subscription_id", "created_at",
}  # fmt: skip
NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
TAKEN = {"transaction_id": ["value_already_exist"]}


@pytest.fixture
def metered(api: httpx.Client) -> httpx.Client:
    """An organization in which `sub` meters `calls` (count) and `bytes` (sum of `value`)."""
    set_clock(api, "2024-05-01T00:00:00Z")
    metrics = [make_metric(api, "calls"), make_metric(api, "bytes", "sum_agg")]
    make_plan(api, charges=[standard(metric) for metric in metrics])
    make_customer(api)
    make_subscription(api)
    return api


def count(api: httpx.Client, **query: str) -> int:
    return int(ok(api.get(URL, params={"per_page": 1, **query}))["meta"]["total_count"])


def accepted(api: httpx.Client, one: Json) -> Json:
    body = ok(send_event(api, one))
    assert body.keys() == {"event"}
    found: Json = body["event"]
    assert found.keys() == FIELDS
    return found


def test_an_event_comes_back_as_it_was_sent(metered: httpx.Client) -> None:
    sent = event("calls", "sub", NOON, "t-1", region="eu", size=10, ratio=0.10, on=True)
    found = accepted(metered, {**sent, "precise_total_amount_cents": "12.5"})
    assert found["properties"] == {"region": "eu", "size": 10, "ratio": 0.1, "on": True}
    assert (found["transaction_id"], found["external_subscription_id"], found["code"]) == ("t-1", "sub", "calls")
    assert (found["timestamp"], found["precise_total_amount_cents"]) == ("2024-05-10T12:00:00.000Z", "12.5")
    stored = ok(metered.get(f"{URL}/t-1"))["event"]
    assert stored["properties"] == {"region": "eu", "size": "10", "ratio": "0.1", "on": "true"}
    subscription = ok(metered.get("/api/v1/subscriptions/sub"))["subscription"]
    assert stored["lago_subscription_id"] == subscription["lago_id"]
    assert stored["lago_customer_id"] == subscription["lago_customer_id"]
    same = FIELDS - {"properties", "lago_subscription_id", "lago_customer_id"}
    assert {key: stored[key] for key in same} == {key: found[key] for key in same}


def test_without_a_timestamp_it_is_the_organizations_now(metered: httpx.Client) -> None:
    assert accepted(metered, event("calls"))["timestamp"] == "2024-05-01T00:00:00.000Z"
    assert accepted(metered, {**event("calls"), "timestamp": None})["timestamp"] == "2024-05-01T00:00:00.000Z"


def test_unknown_fields_are_ignored(metered: httpx.Client) -> None:
    found = accepted(metered, {**event("calls"), "external_customer_id": "x", "colour": {"deep": [1]}})
    assert found.keys() == FIELDS
    assert units_of(metered)["calls"] == 1


def test_a_missing_subscription_is_an_empty_one(api: httpx.Client) -> None:
    assert accepted(api, {"transaction_id": "t", "code": "c"})["external_subscription_id"] == ""


@pytest.fixture(params=["kept in mind", "looked up"])
def a_moment_later(request: pytest.FixtureRequest, metered: httpx.Client) -> Callable[[], None]:
    """Lets events come into the store; what has just come is kept in mind, unless a metric has been made since."""

    def pass_time() -> None:
        if request.param == "looked up":
            make_metric(metered, unique("metric"))
        units_of(metered)

    return pass_time


class TestRepeats:
    def test_a_replay_is_answered_with_the_first_and_counts_once(
        self, metered: httpx.Client, a_moment_later: Callable[[], None]
    ) -> None:
        first = event("bytes", "sub", NOON, "t", value=5)
        stored = accepted(metered, first)
        a_moment_later()
        for again in (first, {**first, "timestamp": f"{NOON}.0004"}, {**first, "properties": {"value": "5"}}):
            replay = accepted(metered, again)
            assert {**replay, "properties": None} == {**stored, "properties": None}
        untimed = {key: value for key, value in first.items() if key != "timestamp"}
        assert accepted(metered, untimed)["timestamp"] == stored["timestamp"]
        assert ok(send_batch(metered, [first, untimed]))["events"][1]["lago_id"] == stored["lago_id"]
        assert (units_of(metered)["bytes"], count(metered)) == (5, 1)
        assert accepted(metered, first)["lago_id"] == stored["lago_id"]

    def test_a_replay_keeps_every_digit_of_a_precise_amount(
        self, metered: httpx.Client, a_moment_later: Callable[[], None]
    ) -> None:
        sent = {**event("calls", "sub", NOON, "t"), "precise_total_amount_cents": "0.1234567890123456789"}
        first = accepted(metered, sent)
        a_moment_later()
        assert accepted(metered, sent) == first

    @pytest.mark.parametrize(
        "change",
        [{"code": "calls"}, {"properties": {"value": 6}}, {"properties": {}}, {"timestamp": NOON + 1},
         {"timestamp": f"{NOON}.001"}, {"precise_total_amount_cents": "1"}],
    )  # fmt: skip
    def test_a_conflict_is_refused(
        self, metered: httpx.Client, change: Json, a_moment_later: Callable[[], None]
    ) -> None:
        first = event("bytes", "sub", NOON, "t", value=5)
        accepted(metered, first)
        a_moment_later()
        changed = {**first, **change}
        assert problems(send_event(metered, changed)) == TAKEN
        assert problems(send_batch(metered, [event("bytes", value=9), changed, first])) == {"1": TAKEN}
        assert (units_of(metered), count(metered)) == ({"calls": 0, "bytes": 5}, 1)

    def test_two_of_one_batch(self, metered: httpx.Client) -> None:
        first = event("bytes", "sub", NOON, "t", value=5)
        one, two = send_events(metered, [first, dict(first)])
        assert one == two
        other = event("bytes", "sub", NOON, "u", value=5)
        assert problems(send_batch(metered, [other, {**other, "properties": {"value": 6}}])) == {"1": TAKEN}
        assert (units_of(metered)["bytes"], count(metered)) == (5, 1)

    def test_one_transaction_under_two_subscriptions_is_two_events(self, metered: httpx.Client) -> None:
        make_subscription(metered, "sub2")
        one, two = send_events(metered, [event("calls", name, NOON, "t") for name in ("sub", "sub2")])
        assert one["lago_id"] != two["lago_id"]
        assert (units_of(metered)["calls"], units_of(metered, "sub2")["calls"], count(metered)) == (1, 1, 2)

    def test_one_transaction_in_two_organizations_is_two_events(
        self, metered: httpx.Client, other: httpx.Client
    ) -> None:
        sent = event("calls", "sub", NOON, "t")
        assert accepted(metered, sent)["lago_id"] != accepted(other, sent)["lago_id"]
        accepted(other, event("calls", "sub", NOON, "theirs"))
        assert refusal(metered.get(f"{URL}/theirs")) == (404, "event_not_found")
        assert (units_of(metered)["calls"], count(metered), count(other)) == (1, 1, 2)


class TestBatch:
    def test_all_or_nothing_with_positions(self, metered: httpx.Client) -> None:
        good = event("calls", "sub", NOON)
        batch = [good, {**event("calls"), "transaction_id": ""}, event("calls", "sub", "soon"), event("calls"), {}]
        assert problems(send_batch(metered, batch)) == {
            "1": {"transaction_id": ["value_is_mandatory"]},
            "2": {"timestamp": ["invalid_format"]},
            "4": {"transaction_id": ["value_is_mandatory"], "code": ["value_is_mandatory"]},
        }
        assert (count(metered), units_of(metered)["calls"]) == (0, 0)
        send_events(metered, [good])
        assert units_of(metered)["calls"] == 1

    def test_a_wrong_type_has_its_position(self, metered: httpx.Client) -> None:
        wrong = {**event("calls"), "code": 5}
        assert problems(send_batch(metered, [event("calls"), wrong])) == {"1": {"code": ["value_is_invalid"]}}
        assert count(metered) == 0

    @pytest.mark.parametrize("body", [{"events": []}, {"events": None}, {}])
    def test_none(self, api: httpx.Client, body: Json) -> None:
        assert problems(api.post(f"{URL}/batch", json=body)) == {"events": ["no_events"]}

    def test_too_many(self, api: httpx.Client) -> None:
        batch = [{"transaction_id": str(number), "code": "c"} for number in range(10_001)]
        assert problems(send_batch(api, batch)) == {"events": ["too_many_events"]}
        assert count(api) == 0
        assert len(send_events(api, batch[:-1])) == 10_000
        assert count(api) == 10_000

    def test_the_answer_keeps_the_order(self, api: httpx.Client) -> None:
        sent = [event("c", "s", NOON - number, f"t{number % 7}-{number}") for number in range(50)]
        assert [one["transaction_id"] for one in send_events(api, sent)] == [one["transaction_id"] for one in sent]


class TestTimestamps:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("1714500000.123", "2024-04-30T18:00:00.123Z"),
            ("1714500000.1239999", "2024-04-30T18:00:00.123Z"),
            ('"1714500000.123"', "2024-04-30T18:00:00.123Z"),
            ('"1714500000"', "2024-04-30T18:00:00.000Z"),
            ("1714500000", "2024-04-30T18:00:00.000Z"),
            ("1.7145000005e9", "2024-04-30T18:00:00.500Z"),
            ("0", "1970-01-01T00:00:00.000Z"),
            ("10413791999.999", "2299-12-31T23:59:59.999Z"),
        ],
    )
    def test_kept_to_the_millisecond(self, api: httpx.Client, sent: str, kept: str) -> None:
        body = f'{{"event": {{"transaction_id": "t", "code": "c", "timestamp": {sent}}}}}'
        assert ok(api.post(URL, content=body))["event"]["timestamp"] == kept
        assert ok(api.get(f"{URL}/t"))["event"]["timestamp"] == kept

    @pytest.mark.parametrize(
        "sent",
        ['"2024-05-01T00:00:00Z"', '""', '"12abc"', '" 1"', "true", "[]", "{}", "-1", '"-0.001"', "253402214400",
         "10413792000", "1714500000123", '"NaN"', '"Infinity"', '"1_000"', '"١٢"', '"0x10"', "1" * 400, '"1e400"',
         "1e999999999", '"\\u0000"'],
    )  # fmt: skip
    def test_refused(self, api: httpx.Client, sent: str) -> None:
        body = f'{{"event": {{"transaction_id": "t", "code": "c", "timestamp": {sent}}}}}'
        assert problems(api.post(URL, content=body)) == {"timestamp": ["invalid_format"]}
        batch = f'{{"events": [{{"transaction_id": "t", "code": "c", "timestamp": {sent}}}]}}'
        assert problems(api.post(f"{URL}/batch", content=batch)) == {"0": {"timestamp": ["invalid_format"]}}
        assert count(api) == 0


class TestBadBodies:
    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff\xfe", b"{'event': 1}", b'{"event": {"transaction_id": "t", "code": "c", "timestamp": NaN}}',
         b'{"event": {"transaction_id": "t", "code": "c", "properties": {"a": Infinity}}}', b'{"event": {}} x',
         b'{"event": {"code": "\xff"}}', b"[" * 100_000],
    )  # fmt: skip
    def test_not_json(self, api: httpx.Client, body: bytes) -> None:
        for path in (URL, f"{URL}/batch"):
            response = api.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["status"]) == (400, 400), response.text
            assert response.json()["error"].startswith("BadRequest: ")
        assert count(api) == 0

    @pytest.mark.parametrize("body", ["{}", "[]", "3", "null", '"event"'])
    def test_without_the_root_object(self, api: httpx.Client, body: str) -> None:
        response = api.post(URL, content=body)
        assert (response.status_code, response.json().keys()) == (400, {"status", "error"})

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"transaction_id": {}}, "transaction_id"),
            ({"transaction_id": 1.5}, "transaction_id"),
            ({"code": 5}, "code"),
            ({"external_subscription_id": 5}, "external_subscription_id"),
            ({"properties": []}, "properties"),
            ({"properties": "a"}, "properties"),
            ({"precise_total_amount_cents": "many"}, "precise_total_amount_cents"),
            ({"precise_total_amount_cents": "1e25"}, "precise_total_amount_cents"),
            ({"precise_total_amount_cents": []}, "precise_total_amount_cents"),
        ],
    )
    def test_wrong_types(self, api: httpx.Client, change: Json, field: str) -> None:
        sent = {**event("c"), **change}
        assert problems(send_event(api, sent)) == {field: ["value_is_invalid"]}
        assert problems(send_batch(api, [event("c"), sent])) == {"1": {field: ["value_is_invalid"]}}
        assert count(api) == 0

    @pytest.mark.parametrize("field", ["transaction_id", "code"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_mandatory(self, api: httpx.Client, field: str, value: Any) -> None:
        assert problems(send_event(api, {**event("c"), field: value})) == {field: ["value_is_mandatory"]}


class TestValues:
    @pytest.mark.parametrize(
        ("sent", "counts"),
        [("10", "10"), ('"10"', "10"), ("-0.5", "0"), ("1e3", "1000"), ('"1E-3"', "0.001"), ("9" * 400, "0"),
         ('"abc"', "0"), ("true", "0"), ("null", "0"), ('"NaN"', "0"), ("0.1234567890123456789", "0.123456789012345678"),
         ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
         ("100000000000000000000", "0"), ("[1]", "0"), ('""', "0"), ('"' + "7" * 200 + '"', "0")],
    )  # fmt: skip
    def test_what_a_value_counts(self, metered: httpx.Client, sent: str, counts: str) -> None:
        body = json.dumps({"event": event("bytes", "sub", NOON, "t", value="?")}).replace('"?"', sent)
        ok(metered.post(URL, content=body))
        usage = next(c for c in usage_of(metered)["charges_usage"] if c["billable_metric"]["code"] == "bytes")
        assert (Decimal(usage["units"]), usage["events_count"]) == (Decimal(counts), 1)

    @pytest.mark.parametrize(
        "text",
        ["a\x00b", "\x00", "it's", 'say "hi"', "back\\slash\\", "\\N", "\\x00", "{name:String}", "%s %(a)s", "; DROP",
         "😀 ünï ☃ 漢字", "\u202e\u0301", "tab\tnew\nline\r", " lead and trail ", "x" * 10_000, "😀" * 2_500,
         "a?b#c&d=e+f%41",
         "null", "\x7f\x1b[0m"],
        ids=lambda text: ascii(text[:12]),
    )  # fmt: skip
    def test_any_text_comes_back(self, api: httpx.Client, text: str) -> None:
        set_clock(api, "2024-05-10T00:00:00Z")
        sent = {
            "transaction_id": text, "external_subscription_id": text, "code": text, "properties": {text: text, "n": 1},
        }  # fmt: skip
        accepted(api, sent)
        assert accepted(api, sent)["properties"] == {text: text, "n": 1}
        assert problems(send_event(api, {**sent, "code": "other"})) == TAKEN
        (listed,) = ok(api.get(URL))["events"]
        assert {key: listed[key] for key in sent} == {**sent, "properties": {text: text, "n": "1"}}
        if len(text) < 5_000:
            found = ok(api.get(f"{URL}/{quote(text, safe='')}"))["event"]
            assert found["transaction_id"] == text
            assert count(api, code=text) == count(api, external_subscription_id=text) == 1
        assert count(api, code=text[:-1] + "-") == 0


class TestFind:
    def test_list(self, api: httpx.Client) -> None:
        for position in range(5):
            sent = event("even" if position % 2 == 0 else "odd", f"s{position % 3}", NOON + position, f"t{position}")
            send_events(api, [sent])
        page = ok(api.get(URL, params={"per_page": 2, "page": 2}))
        assert [one["transaction_id"] for one in page["events"]] == ["t2", "t1"]
        assert page["meta"] == {"current_page": 2, "next_page": 3, "prev_page": 1, "total_pages": 3, "total_count": 5}
        assert (count(api, code="even"), count(api, external_subscription_id="s1")) == (3, 2)
        assert count(api, code="odd", external_subscription_id="s0") == 1
        between = {"timestamp_from": "2024-05-10T12:00:01Z", "timestamp_to": "2024-05-10T12:00:03Z"}
        assert count(api, **between) == 3
        assert count(api, timestamp_from="2024-05-10T14:00:04+02:00") == 1
        assert count(api, timestamp_from="2300-01-01T00:00:00Z") == 0

    def test_from_the_subscriptions_start(self, metered: httpx.Client) -> None:
        send_events(metered, [event("calls", "sub", stamp) for stamp in (NOON - 20 * 86_400, NOON)])
        assert count(metered, timestamp_from_started_at="true", external_subscription_id="sub") == 1
        assert count(metered, timestamp_from_started_at="false", external_subscription_id="sub") == 2

    @pytest.mark.parametrize(
        ("query", "details"),
        [
            ({"timestamp_from": "soon"}, {"timestamp_from": ["invalid_date"]}),
            ({"timestamp_to": "1714500000"}, {"timestamp_to": ["invalid_date"]}),
            ({"timestamp_from_started_at": "yes"}, {"timestamp_from_started_at": ["value_is_invalid"]}),
            ({"timestamp_from_started_at": "true"},
             {"external_subscription_id": ["required with timestamp_from_started_at"]}),
            ({"timestamp_from_started_at": "true", "timestamp_from": "2024-05-01", "external_subscription_id": "s"},
             {"timestamp_from": ["cannot be used with timestamp_from_started_at"]}),
            ({"page": "0"}, {"page": ["value_is_invalid"]}),
        ],
    )  # fmt: skip
    def test_bad_filters(self, api: httpx.Client, query: dict[str, str], details: Json) -> None:
        assert problems(api.get(URL, params=query)) == details

    def test_of_several_the_latest_ingested(self, api: httpx.Client) -> None:
        for subscription in ("z", "a", "m"):
            send_events(api, [event("c", subscription, NOON, "t")])
        assert ok(api.get(f"{URL}/t"))["event"]["external_subscription_id"] == "m"
        assert refusal(api.get(f"{URL}/unknown")) == (404, "event_not_found")
