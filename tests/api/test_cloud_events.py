"""CloudEvents 1.0 on `/api/v1/events` and `/events/batch`: what they become, and what is refused."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    send_event,
    set_clock,
    standard,
    units_of,
)

URL = "/api/v1/events"
PATHS = (URL, f"{URL}/batch")
SINGLE = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
TAKEN = {"id": ["value_already_exist"]}


def cloud_event(id: str = "42", **attributes: Any) -> Json:  # noqa: A002 (its name in CloudEvents)
    given = {
        "specversion": "1.0", "id": id, "source": "https://shop.example/eu", "type": "bytes", "subject": "sub",
        "time": "2024-05-10T14:00:00.1239+02:00", "datacontenttype": "application/json", "data": {"value": 5},
    }  # fmt: skip
    return {name: value for name, value in {**given, **attributes}.items() if value is not ...}


def send(api: httpx.Client, sent: Any, path: str = URL) -> httpx.Response:
    return api.post(path, content=json.dumps(sent), headers=BATCH if isinstance(sent, list) else SINGLE)


@pytest.fixture
def metered(api: httpx.Client) -> httpx.Client:
    """An organization in which `sub` meters `bytes` (sum of `value`)."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, charges=[standard(make_metric(api, "bytes", "sum_agg"))])
    make_customer(api)
    make_subscription(api)
    return api


def count(api: httpx.Client) -> int:
    return int(ok(api.get(URL, params={"per_page": 1}))["meta"]["total_count"])


class TestMapping:
    def test_what_becomes_of_the_attributes(self, metered: httpx.Client) -> None:
        extended = cloud_event(precisetotalamountcents="12.50", traceparent="00-ab", sequence=3)
        found = ok(send(metered, extended))["event"]
        transaction = "https%3A%2F%2Fshop.example%2Feu:42"
        assert (found["transaction_id"], found["code"], found["external_subscription_id"]) == (
            transaction, "bytes", "sub",
        )  # fmt: skip
        assert (found["timestamp"], found["properties"]) == ("2024-05-10T12:00:00.123Z", {"value": 5})
        assert found["precise_total_amount_cents"] == "12.5"
        stored = ok(metered.get(f"{URL}/{quote(transaction, safe='')}"))["event"]
        assert stored["lago_id"] == found["lago_id"]
        assert units_of(metered)["bytes"] == 5
        plain = event("bytes", "sub", "1715342400.123", transaction, value=5)
        assert (
            ok(send_event(metered, {**plain, "precise_total_amount_cents": "12.5"}))["event"]["lago_id"]
            == found["lago_id"]
        )

    def test_what_may_be_left_out(self, metered: httpx.Client) -> None:
        bare = {"specversion": "1.0", "id": "1", "source": "s", "type": "c"}
        found = ok(send(metered, bare))["event"]
        assert (found["transaction_id"], found["external_subscription_id"], found["properties"]) == ("s:1", "", {})
        assert found["timestamp"] == "2024-05-01T00:00:00.000Z"
        nothing = dict.fromkeys(["subject", "time", "data", "datacontenttype", "data_base64", "dataschema"])
        assert ok(send(metered, {**bare, **nothing}))["event"] == found

    @pytest.mark.parametrize(
        ("time", "kept"),
        [
            ("2024-05-10T12:00:00Z", "2024-05-10T12:00:00.000Z"),
            ("2024-05-10t12:00:00.5z", "2024-05-10T12:00:00.500Z"),
            ("2024-05-10T12:00:00.99999999999999999999Z", "2024-05-10T12:00:00.999Z"),
            ("2024-05-10T00:30:00.001+12:45", "2024-05-09T11:45:00.001Z"),
            ("1970-01-01T00:00:00-00:00", "1970-01-01T00:00:00.000Z"),
            ("2299-12-31T23:59:59.999Z", "2299-12-31T23:59:59.999Z"),
        ],
    )
    def test_times(self, api: httpx.Client, time: str, kept: str) -> None:
        assert ok(send(api, cloud_event(time=time)))["event"]["timestamp"] == kept

    def test_numbers_keep_every_digit(self, metered: httpx.Client) -> None:
        body = json.dumps(cloud_event(data={"value": "?"})).replace('"?"', "0.123456789012345678")
        ok(metered.post(URL, content=body, headers=SINGLE))
        assert str(units_of(metered)["bytes"]) == "0.123456789012345678"

    @pytest.mark.parametrize("path", PATHS)
    def test_one_and_many_on_either_path(self, metered: httpx.Client, path: str) -> None:
        assert ok(send(metered, cloud_event("1"), path)).keys() == {"event"}
        answer = ok(send(metered, [cloud_event("1"), cloud_event("2")], path))
        assert [one["transaction_id"].rpartition(":")[2] for one in answer["events"]] == ["1", "2"]
        assert (count(metered), units_of(metered)["bytes"]) == (2, 10)

    @pytest.mark.parametrize("path", PATHS)
    def test_attributes_in_headers(self, metered: httpx.Client, path: str) -> None:
        headers = {
            "ce-specversion": "1.0", "ce-id": "42", "ce-source": "https://shop.example/eu", "ce-type": "bytes",
            "ce-subject": "sub", "ce-time": "2024-05-10T12:00:00.123Z", "Content-Type": "application/json",
        }  # fmt: skip
        found = ok(metered.post(path, content=b'{"value": 5}', headers=headers))["event"]
        assert ok(send(metered, cloud_event()))["event"]["lago_id"] == found["lago_id"]
        assert units_of(metered)["bytes"] == 5
        bare = {**headers, "ce-id": "G%C3%BCte%20%25", "ce-subject": "", "Content-Type": ""}
        found = ok(metered.post(path, headers=bare))["event"]
        assert (found["transaction_id"].rpartition(":")[2], found["properties"]) == ("Güte %", {})
        assert problems(metered.post(path, content=b"5", headers={**headers, "ce-id": ""})) == {
            "id": ["value_is_mandatory"], "data": ["value_is_invalid"],
        }  # fmt: skip


class TestRepeats:
    def test_a_replay_counts_once_and_a_conflict_is_refused(self, metered: httpx.Client) -> None:
        first = ok(send(metered, cloud_event()))["event"]
        assert ok(send(metered, cloud_event(time="2024-05-10T12:00:00.123Z")))["event"]["lago_id"] == first["lago_id"]
        changed = cloud_event(data={"value": 6})
        assert problems(send(metered, changed)) == TAKEN
        assert problems(send(metered, [cloud_event("7"), changed])) == {"1": TAKEN}
        assert (count(metered), units_of(metered)["bytes"]) == (1, 5)

    def test_two_sources_may_use_the_same_id(self, metered: httpx.Client) -> None:
        sources = ["https://shop.example/eu", "https://shop.example/us", "/eu", "eu", "eu:4", "urn:eu", "%2Feu"]
        answer = ok(send(metered, [cloud_event("2" if one == "eu:4" else "42", source=one) for one in sources]))
        ids = [one["transaction_id"] for one in answer["events"]]
        assert ids[2:] == ["%2Feu:42", "eu:42", "eu%3A4:2", "urn%3Aeu:42", "%252Feu:42"]
        assert (len(set(ids)), count(metered), units_of(metered)["bytes"]) == (7, 7, 35)


def test_events_whose_metric_has_an_expression(metered: httpx.Client) -> None:
    make_metric(metered, "storage", "sum_agg", "gb", expression="event.properties.mb / 1000")
    found = ok(send(metered, cloud_event("1", type="storage", data={"mb": 1500})))["event"]
    assert found["properties"] == {"mb": 1500, "gb": "1.5"}
    failing, why = cloud_event("2", type="storage"), "expression_evaluation_failed: Variable: mb not found"
    response = send(metered, failing)
    assert (response.status_code, response.json()["error_details"]) == (422, why)
    response = send(metered, [cloud_event("3"), failing, cloud_event("4", time="soon")])
    assert response.json()["error_details"] == {"1": why, "2": {"time": ["invalid_format"]}}
    assert count(metered) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "details"),
        [
            ({"specversion": "0.3"}, {"specversion": ["value_is_invalid"]}),
            ({"specversion": "1.1"}, {"specversion": ["value_is_invalid"]}),
            ({"specversion": 1.0}, {"specversion": ["value_is_invalid"]}),
            ({"specversion": ...}, {"specversion": ["value_is_mandatory"]}),
            ({"id": ...}, {"id": ["value_is_mandatory"]}),
            ({"id": "", "source": None}, {"id": ["value_is_mandatory"], "source": ["value_is_mandatory"]}),
            ({"source": ""}, {"source": ["value_is_mandatory"]}),
            ({"type": ...}, {"type": ["value_is_mandatory"]}),
            ({"type": 5}, {"type": ["value_is_invalid"]}),
            ({"id": 5}, {"id": ["value_is_invalid"]}),
            ({"subject": {}}, {"subject": ["value_is_invalid"]}),
            ({"time": "1715342400"}, {"time": ["invalid_format"]}),
            ({"time": ""}, {"time": ["invalid_format"]}),
            ({"time": "2024-05-10"}, {"time": ["invalid_format"]}),
            ({"time": "2024-05-10T12:00:00"}, {"time": ["invalid_format"]}),
            ({"time": "2024-05-10 12:00:00Z"}, {"time": ["invalid_format"]}),
            ({"time": "2024-02-30T12:00:00Z"}, {"time": ["invalid_format"]}),
            ({"time": "0001-01-01T00:00:00+14:00"}, {"time": ["invalid_format"]}),
            ({"time": "1969-12-31T23:59:59.999Z"}, {"time": ["invalid_format"]}),
            ({"time": "2300-01-01T00:00:00Z"}, {"time": ["invalid_format"]}),
            ({"time": "٢٠٢٤-05-10T12:00:00Z"}, {"time": ["invalid_format"]}),
            ({"time": 1_715_342_400}, {"time": ["value_is_invalid"]}),
            ({"data": [1]}, {"data": ["value_is_invalid"]}),
            ({"data": "text"}, {"data": ["value_is_invalid"]}),
            ({"datacontenttype": "text/plain"}, {"datacontenttype": ["value_is_invalid"]}),
            ({"data": ..., "data_base64": "e30="}, {"data_base64": ["value_is_invalid"]}),
            ({"precisetotalamountcents": "many"}, {"precisetotalamountcents": ["value_is_invalid"]}),
        ],
    )
    def test_attributes(self, api: httpx.Client, change: Json, details: Json) -> None:
        sent = cloud_event(**change)
        assert problems(send(api, sent)) == details
        assert problems(send(api, [cloud_event("7"), sent])) == {"1": details}
        assert count(api) == 0

    def test_a_batch_is_all_or_nothing(self, api: httpx.Client) -> None:
        batch = [cloud_event("1"), cloud_event(""), cloud_event("3", specversion="2.0", data=5)]
        assert problems(send(api, batch)) == {
            "1": {"id": ["value_is_mandatory"]}, "2": {"specversion": ["value_is_invalid"], "data": ["value_is_invalid"]},
        }  # fmt: skip
        assert problems(send(api, [cloud_event(), 5])) == {"1": {"event": ["value_is_invalid"]}}
        assert problems(send(api, [])) == {"events": ["no_events"]}
        assert problems(send(api, [cloud_event(str(one)) for one in range(10_001)])) == {"events": ["too_many_events"]}
        assert count(api) == 0

    @pytest.mark.parametrize("body", [b"", b"{", b'{"id": "\xff"}', b"5", b"[]", b"[" * 100_000])
    def test_no_cloud_event_at_all(self, api: httpx.Client, body: bytes) -> None:
        response = api.post(URL, content=body, headers=SINGLE)
        assert (response.status_code, response.json().keys()) == (400, {"status", "error"}), response.text

    def test_other_formats(self, api: httpx.Client) -> None:
        for kind in ("application/cloudevents+avro", "application/cloudevents", "application/cloudevents+xml"):
            response = api.post(URL, content=b"x", headers={"Content-Type": kind})
            assert refusal(response) == (415, "unsupported_cloudevents_format")


TEXTS = st.sampled_from(["", "t", "1.0", "\x00", "2024-05-10T12:00:00Z", "é" * 50, "application/json"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CHANGES = st.dictionaries(
    st.sampled_from([*cloud_event(), "data_base64", "precisetotalamountcents"]), VALUES, max_size=3
)
EVENTS = st.builds(lambda changes: {**cloud_event(), **changes}, CHANGES)


def test_no_cloud_event_is_a_server_error(api: httpx.Client) -> None:
    @settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(EVENTS | st.lists(EVENTS | VALUES, max_size=3) | VALUES)
    def never_fails(sent: Any) -> None:
        response = send(api, sent)
        assert response.status_code in {200, 400, 422}, response.text
        if response.status_code != 200:
            assert response.json()["status"] == response.status_code

    never_fails()
