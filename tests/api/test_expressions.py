"""Metric expressions over HTTP: tried out, kept by metrics, evaluated for the events that are sent."""

from decimal import Decimal
from typing import Any

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
    send_batch,
    send_event,
    send_events,
    set_clock,
    standard,
    units_of,
)
from tests.support import Server

METRICS = "/api/v1/billable_metrics"
NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
STORAGE = "round(event.properties.mb / 1024, 3) * event.properties.replicas"
NESTED = "(" * 10_000 + "1" + ")" * 10_000
DEEP = b'{"expression": "1", "event": {"code": "c", "properties": {"a": ' + b"[" * 100_000
TAKEN = {"transaction_id": ["value_already_exist"]}


def failed(reason: str) -> str:
    return f"expression_evaluation_failed: {reason}"


def organization(api: httpx.Client) -> httpx.Client:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    return api


def subscribe(api: httpx.Client, *metrics: Json) -> None:
    make_plan(api, charges=[standard(metric) for metric in metrics])
    make_subscription(api)


@pytest.fixture
def storage(api: httpx.Client) -> httpx.Client:
    """`sub` meters `storage`, whose `gb` an expression makes of `mb` and `replicas`."""
    organization(api)
    subscribe(api, make_metric(api, "storage", "sum_agg", "gb", expression=STORAGE))
    return api


def stored(api: httpx.Client, transaction: str) -> Json:
    found: Json = ok(api.get(f"/api/v1/events/{transaction}"))["event"]["properties"]
    return found


def count(api: httpx.Client) -> int:
    return int(ok(api.get("/api/v1/events"))["meta"]["total_count"])


class TestTryingOut:
    def evaluate(self, api: httpx.Client, **body: Any) -> httpx.Response:
        return api.post(f"{METRICS}/evaluate_expression", json=body)

    @pytest.mark.parametrize(
        ("expression", "sent", "value"),
        [
            (STORAGE, {"code": "c", "properties": {"mb": 1500, "replicas": "2"}}, "2.930"),
            ("event.properties.a * 3", {"code": "c", "properties": {"a": 0.10}}, "0.3"),
            ("event.timestamp", {"code": "c", "timestamp": NOON}, str(NOON)),
            ("event.timestamp", {"code": "c", "timestamp": f"{NOON}.9", "properties": {}}, str(NOON)),
            ("event.timestamp", {"code": "c"}, "1714521600"),
            ("event.timestamp", {"code": "c", "timestamp": None}, "1714521600"),
            ("concat(event.code, '-', event.properties.on)", {"code": "c", "properties": {"on": True}}, "c-true"),
            ("1 + 1", {"code": "c", "transaction_id": "", "unknown": [1]}, "2"),
        ],
    )
    def test_it_gives_text(self, api: httpx.Client, expression: str, sent: Json, value: str) -> None:
        set_clock(api, "2024-05-01T00:00:00Z")
        answer = ok(self.evaluate(api, expression=expression, event=sent))
        assert answer == {"expression_result": {"value": value}}
        assert count(api) == 0

    def test_every_digit_of_a_number_counts(self, api: httpx.Client) -> None:
        sent = '{"code": "c", "properties": {"a": 0.1000000000000000000000001}}'
        body = '{"expression": "event.properties.a * 1", "event": ' + sent + "}"
        answer = api.post(f"{METRICS}/evaluate_expression", content=body, headers={"Content-Type": "application/json"})
        assert ok(answer)["expression_result"]["value"] == "0.1000000000000000000000001"

    @pytest.mark.parametrize(
        ("body", "answer"),
        [
            ({}, {"expression": ["value_is_mandatory"]}),
            ({"expression": "", "event": {"code": "c"}}, {"expression": ["value_is_mandatory"]}),
            ({"expression": None, "event": {"code": "c"}}, {"expression": ["value_is_mandatory"]}),
            ({"expression": "1 +", "event": {"code": "c"}}, {"expression": ["invalid_expression"]}),
            ({"expression": NESTED, "event": {"code": "c"}}, {"expression": ["invalid_expression"]}),
            ({"expression": 1, "event": {"code": "c"}}, {"expression": ["value_is_invalid"]}),
            ({"expression": "1"}, {"event": ["value_is_mandatory"]}),
            ({"expression": "1", "event": None}, {"event": ["value_is_mandatory"]}),
            ({"expression": "1", "event": []}, {"event": ["value_is_invalid"]}),
            ({"expression": "1", "event": {}}, {"event": ["invalid_event"]}),
            ({"expression": "1", "event": {"code": "c", "timestamp": "noon"}}, {"event": ["invalid_event"]}),
            ({"expression": "event.properties.a", "event": {"code": "c"}}, {"event": ["invalid_event"]}),
            ({"expression": "1 / 0", "event": {"code": "c"}}, {"event": ["invalid_event"]}),
        ],
    )  # fmt: skip
    def test_what_is_wrong(self, api: httpx.Client, body: Json, answer: Json) -> None:
        assert problems(self.evaluate(api, **body)) == answer

    def test_what_cannot_be_read_is_a_bad_request(self, api: httpx.Client) -> None:
        for body in (b"", b"[]", b"{", b'{"expression": "\xff"}', DEEP):
            answer = api.post(
                f"{METRICS}/evaluate_expression", content=body, headers={"Content-Type": "application/json"}
            )
            assert (answer.status_code, answer.json()["error"].split(":")[0]) == (400, "BadRequest"), body[:20]

    def test_it_takes_a_key(self, server: Server) -> None:
        with server.client() as http:
            http.headers.pop("Authorization", None)
            assert self.evaluate(http, expression="1", event={"code": "c"}).status_code == 401


class TestMetrics:
    def test_an_expression_is_kept_and_can_be_taken_away(self, api: httpx.Client) -> None:
        made = make_metric(api, "storage", "sum_agg", "gb", expression=STORAGE)
        assert made["expression"] == STORAGE
        url = f"{METRICS}/storage"
        assert ok(api.get(url))["billable_metric"]["expression"] == STORAGE
        for sent, kept in (({"name": "New"}, STORAGE), ({"expression": "1"}, "1"), ({"expression": ""}, None)):
            assert ok(api.put(url, json={"billable_metric": sent}))["billable_metric"]["expression"] == kept
        ok(api.put(url, json={"billable_metric": {"expression": "1"}}))
        assert ok(api.put(url, json={"billable_metric": {"expression": None}}))["billable_metric"]["expression"] is None

    @pytest.mark.parametrize("expression", ["1 +", "nothing", "(" * 1_000 + "1" + ")" * 1_000, "1" + "+1" * 2_000, " "])
    def test_what_does_not_parse_is_refused(self, api: httpx.Client, expression: str) -> None:
        sent = {"name": "x", "code": "x", "aggregation_type": "sum_agg", "field_name": "v", "expression": expression}
        wrong = {"expression": ["invalid_expression"]}
        assert problems(api.post(METRICS, json={"billable_metric": sent})) == wrong
        make_metric(api, "x", "sum_agg")
        assert problems(api.put(f"{METRICS}/x", json={"billable_metric": {"expression": expression}})) == wrong

    def test_in_use_it_stays(self, storage: httpx.Client) -> None:
        for change in ("1", None, "1 +"):
            changed = ok(storage.put(f"{METRICS}/storage", json={"billable_metric": {"expression": change}}))
            assert changed["billable_metric"]["expression"] == STORAGE


class TestIngest:
    def test_the_result_is_what_is_stored_and_counted(self, storage: httpx.Client) -> None:
        sent = event("storage", "sub", NOON, "t", mb=1500, replicas="2", on=True)
        answer = ok(send_event(storage, sent))["event"]
        assert answer["properties"] == {"mb": 1500, "replicas": "2", "on": True, "gb": "2.930"}
        assert stored(storage, "t") == {"mb": "1500", "replicas": "2", "on": "true", "gb": "2.930"}
        batch = [event("storage", "sub", NOON, f"b-{mb}", mb=mb, replicas=1, gb="sent") for mb in (1024, 512)]
        assert [one["properties"]["gb"] for one in send_events(storage, batch)] == ["1", "0.5"]
        assert [stored(storage, one["transaction_id"])["gb"] for one in batch] == ["1", "0.5"]
        assert units_of(storage) == {"storage": Decimal("4.43")}

    def test_the_result_takes_the_place_of_what_it_was_made_of(self, api: httpx.Client) -> None:
        organization(api)
        subscribe(api, make_metric(api, "doubled", "sum_agg", "n", expression="event.properties.n * 2"))
        sent = event("doubled", "sub", NOON, "t", n=5)
        for _ in range(2):
            assert ok(send_event(api, sent))["event"]["properties"] == {"n": "10"}
            assert units_of(api) == {"doubled": 10}
        assert ok(send_event(api, sent))["event"]["properties"] == {"n": "10"}
        assert problems(send_event(api, {**sent, "properties": {"n": 10}})) == TAKEN

    def test_every_aggregation_reads_the_result(self, api: httpx.Client) -> None:
        organization(api)
        user = "concat(event.properties.team, '/', event.properties.id)"
        metrics = [
            make_metric(api, "peak", "max_agg", "n", expression="event.properties.n * 10"),
            make_metric(api, "users", "unique_count_agg", "user", expression=user),
            make_metric(api, "calls", "count_agg", expression="event.properties.missing"),
        ]
        subscribe(api, *metrics)
        send_events(api, [event("peak", "sub", NOON, n=n) for n in (1, 3, 2)])
        send_events(
            api, [event("users", "sub", NOON, team=team, id=id_) for team, id_ in ("a7", ("a", "07"), "a7", "b7")]
        )
        send_events(api, [event("calls", "sub", NOON) for _ in range(2)])
        assert units_of(api) == {"peak": 30, "users": 3, "calls": 2}

    @pytest.mark.parametrize(
        ("properties", "reason"),
        [
            ({"replicas": 1}, "Variable: mb not found"),
            ({"mb": "many", "replicas": 1}, "Expected a decimal"),
            ({"mb": True, "replicas": 1}, "Expected a decimal"),
            ({"mb": None, "replicas": 1}, "Expected a decimal"),
            ({"mb": "1e999999999", "replicas": 1}, "Number out of range"),
        ],
    )
    def test_an_event_without_a_result_is_refused(self, storage: httpx.Client, properties: Json, reason: str) -> None:
        sent = {**event("storage", "sub", NOON, "t"), "properties": properties}
        assert problems(send_event(storage, sent)) == failed(reason)
        assert count(storage) == 0
        ok(send_event(storage, event("storage", "sub", NOON, "t", mb=1, replicas=1)))

    def test_a_batch_is_refused_as_a_whole(self, storage: httpx.Client) -> None:
        ok(send_event(storage, event("storage", "sub", NOON, "old", mb=1024, replicas=1)))
        good = [event("storage", "sub", NOON, f"g-{number}", mb=1024, replicas=1) for number in range(3)]
        bad = event("storage", "sub", NOON, "bad", replicas=1)
        other = event("unknown", "sub", NOON)
        conflict = event("storage", "sub", NOON, "old", mb=2048, replicas=1)
        refused = send_batch(storage, [good[0], bad, other, {**bad}, good[1], conflict, good[2]])
        reason = failed("Variable: mb not found")
        assert problems(refused) == {"1": reason, "3": reason, "5": TAKEN}
        assert count(storage) == 1
        assert units_of(storage) == {"storage": 1}
        send_events(storage, good)
        assert units_of(storage) == {"storage": 4}

    def test_the_errors_of_fields_win(self, storage: httpx.Client) -> None:
        bad = event("storage", "sub", NOON, replicas=1)
        batch = [{**bad, "transaction_id": ""}, bad, event("calls", "sub", NOON), {**bad, "timestamp": "noon"}]
        assert problems(send_batch(storage, batch)) == {
            "0": {"transaction_id": ["value_is_mandatory"]},
            "1": failed("Variable: mb not found"),
            "3": {"timestamp": ["invalid_format"]},
        }
        assert problems(send_event(storage, {**bad, "timestamp": "noon"})) == {"timestamp": ["invalid_format"]}

    def test_another_organization_evaluates_its_own(self, storage: httpx.Client, other: httpx.Client) -> None:
        organization(other)
        subscribe(other, make_metric(other, "storage", "sum_agg", "gb"))
        assert ok(send_event(other, event("storage", "sub", NOON, gb=7)))["event"]["properties"] == {"gb": 7}
        assert problems(send_event(storage, event("storage", "sub", NOON, gb=7))) == failed("Variable: mb not found")
        assert units_of(other) == {"storage": 7}


class TestReplays:
    """An event is compared by what was sent, so a replay is one whatever its expression would say today."""

    def test_a_replay_counts_once(self, storage: httpx.Client) -> None:
        sent = event("storage", "sub", NOON, "t", mb=1024, replicas=3)
        first = ok(send_event(storage, sent))["event"]
        assert ok(send_event(storage, sent))["event"]["lago_id"] == first["lago_id"]
        assert units_of(storage) == {"storage": 3}
        again = send_events(storage, [sent, sent, event("storage", "sub", NOON, "u", mb=1024, replicas=1)])
        assert [one["properties"]["gb"] for one in again] == ["3", "3", "1"]
        assert units_of(storage) == {"storage": 4}

    def test_what_was_sent_in_the_field_is_compared(self, storage: httpx.Client) -> None:
        sent = event("storage", "sub", NOON, "t", mb=1024, replicas=3, gb="x")
        for _ in range(2):
            ok(send_event(storage, sent))
            for changed in ({"gb": "y"}, {"gb": "3"}):
                assert problems(send_event(storage, {**sent, "properties": {**sent["properties"], **changed}})) == TAKEN
            without = {name: value for name, value in sent["properties"].items() if name != "gb"}
            assert problems(send_event(storage, {**sent, "properties": without})) == TAKEN
            units_of(storage)

    def test_a_replay_without_timestamp_keeps_the_first_result(self, api: httpx.Client) -> None:
        organization(api)
        subscribe(api, make_metric(api, "clock", "sum_agg", "at", expression="event.timestamp"))
        sent = event("clock", "sub", transaction="t")
        first = ok(send_event(api, sent))["event"]["properties"]
        assert first == {"at": "1714521600"}
        set_clock(api, "2024-05-02T00:00:00Z")
        for _ in range(2):
            assert ok(send_event(api, sent))["event"]["properties"] == first
            assert units_of(api) == {"clock": 1_714_521_600}
