"""`/api/v1/events/batch` with newline-delimited JSON: what is taken, what is told, and how a stream may end."""

import gzip
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

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
from tests.support import Server, running, wait_for

URL = "/api/v1/events/batch"
NDJSON = {"Content-Type": "application/x-ndjson"}
NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
TAKEN = {"transaction_id": ["value_already_exist"]}


def meter(api: httpx.Client) -> None:
    """`sub` meters `calls` (count) and `bytes` (sum of `value`)."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, charges=[standard(one) for one in (make_metric(api, "calls"), make_metric(api, "bytes", "sum_agg"))])
    make_customer(api)
    make_subscription(api)


@pytest.fixture
def metered(api: httpx.Client) -> httpx.Client:
    meter(api)
    return api


def lines(*events: Json) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


def send(api: httpx.Client, body: Any, headers: dict[str, str] | None = None, **query: int) -> httpx.Response:
    return api.post(URL, content=body, headers={**NDJSON, **(headers or {})}, params=query)


def stream(api: httpx.Client, body: Any, headers: dict[str, str] | None = None, **query: int) -> Json:
    """What has become of a stream that ended well."""
    body = ok(send(api, body, headers, **query))
    assert body.keys() == {"stream"}
    taken: Json = body["stream"]
    assert taken.pop("complete") is True
    assert taken["received"] == taken["accepted"] + taken["replays"] + taken["rejected"]
    return taken


def taken(lines: int, accepted: int = 0, replays: int = 0, errors: list[Json] | None = None, left_off: int = 0) -> Json:
    """The counts of a stream without blank lines before its end."""
    rejected = len(errors or []) + left_off
    return {
        "lines": lines, "received": accepted + replays + rejected, "accepted": accepted, "replays": replays,
        "rejected": rejected, "errors": errors or [], "errors_left_off": left_off,
    }  # fmt: skip


def wrong(line: int, details: Any) -> Json:
    return {"line": line, "error_details": details}


def count(api: httpx.Client) -> int:
    return int(ok(api.get("/api/v1/events", params={"per_page": 1}))["meta"]["total_count"])


class TestLines:
    def test_each_valid_line_is_taken_and_each_invalid_one_told(self, metered: httpx.Client) -> None:
        good = [event("bytes", "sub", NOON, f"t{number}", value="0.1") for number in range(3)]
        body = (
            b"\xef\xbb\xbf" + lines(good[0])
            + b"\r\n   \n"
            + json.dumps({"event": good[1]}).encode() + b"\r\n"
            + b'{"transaction_id": "cut\n'
            + lines({**event("calls"), "transaction_id": ""}, event("calls", "sub", "soon"), {**event("c"), "code": 5}, {})
            + b'[1]\n"text"\n' + b'{"code": "\xff"}\n'
            + json.dumps(good[2]).encode()
        )  # fmt: skip
        answer = stream(metered, body)
        told = {one["line"]: one["error_details"] for one in answer.pop("errors")}
        assert answer == {
            "lines": 13, "received": 11, "accepted": 3, "replays": 0, "rejected": 8, "errors_left_off": 0
        }  # fmt: skip
        assert told.pop(5).startswith("malformed JSON: ")
        assert told.pop(12).startswith("malformed JSON: ")
        assert told == {
            6: {"transaction_id": ["value_is_mandatory"]},
            7: {"timestamp": ["invalid_format"]},
            8: {"code": ["value_is_invalid"]},
            9: {"transaction_id": ["value_is_mandatory"], "code": ["value_is_mandatory"]},
            10: "param is missing or the value is empty: event",
            11: "param is missing or the value is empty: event",
        }
        assert (count(metered), str(units_of(metered)["bytes"])) == (3, "0.3")

    @pytest.mark.parametrize("kind", ["application/x-ndjson; charset=utf-8", "application/ndjson", "Application/JSONL"])
    def test_the_names_of_the_format(self, api: httpx.Client, kind: str) -> None:
        assert stream(api, lines(event("c"), event("c")), {"Content-Type": kind}) == taken(2, 2)

    @pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n"])
    def test_nothing(self, api: httpx.Client, body: bytes) -> None:
        answer = stream(api, body)
        assert (answer["received"], answer["errors"], count(api)) == (0, [], 0)

    def test_an_event_with_a_field_called_event(self, api: httpx.Client) -> None:
        sent = {**event("c", "s", NOON, "t"), "event": {"transaction_id": "inner", "code": "d"}}
        assert stream(api, lines(sent, {**sent, "event": "click"})) == taken(2, 1, 1)
        assert ok(api.get("/api/v1/events/t"))["event"]["code"] == "c"

    def test_without_a_timestamp_it_is_the_organizations_now(self, metered: httpx.Client) -> None:
        assert stream(metered, lines(event("calls", transaction="t"))) == taken(1, 1)
        assert ok(metered.get("/api/v1/events/t"))["event"]["timestamp"] == "2024-05-01T00:00:00.000Z"

    def test_a_line_that_is_too_long(self, api: httpx.Client) -> None:
        long = [
            event("c", "s", NOON, f"long{number}", text="x" * size) for number, size in ((0, 1_000_000), (1, 1_048_576))
        ]
        huge = lines(event("c", "s", NOON, "huge", text="x" * 20_000_000))
        answer = stream(api, lines(*long) + huge + lines(event("c")) + b"x" * 1_048_577)
        why = "line too long: more than 1048576 bytes"
        assert answer == taken(5, 2, errors=[wrong(2, why), wrong(3, why), wrong(5, why)])
        assert count(api) == 2

    def test_how_many_errors_are_told(self, api: httpx.Client) -> None:
        body = b"x\n" * 5_000 + lines(event("c"))
        answer = stream(api, body)
        assert [one["line"] for one in answer["errors"]] == list(range(1, 101))
        assert (answer["accepted"], answer["rejected"], answer["errors_left_off"]) == (1, 5_000, 4_900)
        assert len(stream(api, body, errors=4_999)["errors"]) == 4_999
        assert stream(api, body, errors=0)["errors_left_off"] == 5_000
        for number in (-1, 10_001):
            assert problems(send(api, body, errors=number)) == {"errors": ["value_is_invalid"]}

    def test_pieces_of_any_size(self, metered: httpx.Client) -> None:
        body = lines(*(event("bytes", "sub", NOON, f"t{number}", value=1, name="ünï😀") for number in range(40))) + b"x"
        for size in (1, 7, 61, 1_000):
            pieces = (body[start : start + size] for start in range(0, len(body), size))
            assert stream(metered, pieces)["rejected"] == 1
        assert (count(metered), units_of(metered)["bytes"]) == (40, 40)


class TestRepeats:
    def test_sending_a_stream_again_counts_nothing_twice(self, metered: httpx.Client) -> None:
        body = lines(*(event("bytes", "sub", NOON + number % 60, f"t{number}", value=2) for number in range(6_000)))
        assert stream(metered, body) == taken(6_000, 6_000)
        assert units_of(metered)["bytes"] == 12_000
        assert stream(metered, body + body) == taken(12_000, 0, 12_000)
        assert (count(metered), units_of(metered)["bytes"]) == (6_000, 12_000)

    def test_a_conflict_rejects_its_line_alone(self, metered: httpx.Client) -> None:
        first = event("bytes", "sub", NOON, "stored", value=5)
        ok(send_event(metered, first))
        mine = event("bytes", "sub", NOON, "mine", value=1)
        changed = [{**first, "properties": {"value": 6}}, {**mine, "code": "calls"}, {**mine, "timestamp": NOON + 1}]
        answer = stream(
            metered, lines(changed[0], mine, *changed[1:], first, mine) + b"x\n" + lines(event("bytes", value=3))
        )
        malformed = answer["errors"].pop()
        assert malformed["line"] == 7
        assert [one["line"] for one in answer["errors"]] == [1, 3, 4]
        assert all(one["error_details"] == TAKEN for one in answer["errors"])
        assert (answer["accepted"], answer["replays"], answer["rejected"]) == (2, 2, 4)
        assert (count(metered), units_of(metered)) == (3, {"calls": 0, "bytes": 9})

    def test_a_line_is_held_against_lines_far_before_it(self, api: httpx.Client) -> None:
        first = event("c", "s", NOON, "t", value=1)
        others = lines(*(event("c", "s", NOON) for _ in range(5_500)))
        body = lines(first) + others + lines(first, {**first, "code": "d"})
        assert stream(api, body) == taken(5_503, 5_501, 1, [wrong(5_503, TAKEN)])


def test_events_whose_metric_has_an_expression(metered: httpx.Client) -> None:
    metric = make_metric(metered, "storage", "sum_agg", "gb", expression="event.properties.mb / 1000")
    make_plan(metered, "other", charges=[standard(metric)])
    make_subscription(metered, "other", "other")
    good = [event("storage", "other", NOON, f"t{number}", mb=1_500) for number in range(3)]
    body = lines(good[0], event("storage", "other", NOON, gb=1), good[1], good[0], good[2])
    failed = wrong(2, "expression_evaluation_failed: Variable: mb not found")
    assert stream(metered, body) == taken(5, 3, 1, [failed])
    assert stream(metered, body) == taken(5, 0, 4, [failed])
    assert units_of(metered, "other")["storage"] == Decimal("4.5")


class TestEndings:
    def test_a_stream_cut_in_the_middle(self, metered: httpx.Client) -> None:
        """The answer says up to where the stream was dealt with; sending it again takes the rest."""
        body = lines(*(event("bytes", "sub", NOON, f"t{number}", value=1) for number in range(6_000)))
        packed = gzip.compress(body, 1)
        response = send(metered, packed[: len(packed) // 2], {"Content-Encoding": "gzip"})
        answer = response.json()
        assert (response.status_code, answer["status"]) == (400, 400)
        assert answer["error"] == "BadRequest: the body is not valid gzip: it ends early"
        cut = answer["error_details"]["stream"]
        assert cut.pop("complete") is False
        assert 0 < cut["lines"] < 6_000
        assert cut == taken(cut["lines"], cut["lines"])
        assert count(metered) == cut["lines"]
        again = stream(metered, packed, {"Content-Encoding": "gzip"})
        assert again == taken(6_000, 6_000 - cut["lines"], cut["lines"])
        assert units_of(metered)["bytes"] == 6_000

    def test_a_client_that_goes_away(self, server: Server, metered: httpx.Client) -> None:
        sent = lines(*(event("bytes", "sub", NOON, f"t{number}", value=1) for number in range(10)))
        head = (
            f"POST {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: {metered.headers['Authorization']}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + sent + b'{"transaction_id": "cut')
        wait_for(lambda: count(metered) == 10, "what had arrived being taken")
        assert units_of(metered)["bytes"] == 10

    def test_who_may_not_send(self, server: Server, metered: httpx.Client) -> None:
        with server.client("wrong") as nobody:
            response = send(nobody, lines(event("c")))
            assert (response.status_code, response.json()["error"]) == (401, "Unauthorized")
        assert count(metered) == 0

    def test_two_organizations(self, api: httpx.Client, other: httpx.Client) -> None:
        body = lines(event("c", "s", NOON, "t"))
        assert stream(api, body) == stream(other, body) == taken(1, 1)
        assert (count(api), count(other)) == (1, 1)


class TestSize:
    def test_a_stream_larger_than_any_body_is_not_kept_in_memory(self, server: Server, api: httpx.Client) -> None:
        """300 MB, of which every line is filled up with blanks; the server has no room for a tenth of it."""
        warm = lines(*(event("c", "s", NOON) for _ in range(4_000)))
        assert stream(api, warm)["accepted"] == 4_000
        before = server.peak_memory()
        blanks = b" " * 300_000

        def pieces() -> Iterator[bytes]:
            for number in range(1_000):
                yield json.dumps(event("c", "big", NOON, f"t{number}")).encode() + blanks + b"\n"

        assert stream(api, pieces()) == taken(1_000, 1_000)
        assert server.peak_memory() - before < 30_000_000

    def test_a_small_stream_that_expands_to_much(self, server: Server, api: httpx.Client) -> None:
        packed = gzip.compress(b" " * 200_000_000 + b"\n" + lines(event("c")), 1)
        assert len(packed) < 2_000_000
        before = server.peak_memory()
        answer = stream(api, packed, {"Content-Encoding": "gzip"})
        assert answer == taken(2, 1, errors=[wrong(1, "line too long: more than 1048576 bytes")])
        assert server.peak_memory() - before < 30_000_000


TEXTS = st.sampled_from(["", "t", "c", "\x00", "sub", "1e400", "NaN", "é" * 50])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["transaction_id", "code", "external_subscription_id", "timestamp", "properties", "precise_total_amount_cents",
          "event"]  # fmt: skip
LINES = st.one_of(
    st.binary(max_size=20),
    st.builds(lambda value: json.dumps(value).encode(), VALUES | st.dictionaries(st.sampled_from(FIELDS), VALUES)),
    st.builds(lambda one: json.dumps(event("c", transaction=one)).encode(), TEXTS),
)


def test_no_stream_is_a_server_error(api: httpx.Client) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(LINES, max_size=8))
    def never_fails(sent: list[bytes]) -> None:
        body = b"\n".join(sent)
        answer = stream(api, body)
        whole = body.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n") if body else []
        assert answer["lines"] == len(whole)
        assert answer["received"] == sum(bool(one.strip()) for one in whole)

    never_fails()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in which few events may wait."""
    folder = tmp_path_factory.mktemp("narrow") / "data"
    with running(folder, max_queued_events=10, max_block_events=10) as one:
        yield one


def test_a_full_queue_holds_streams_up_and_does_not_end_them(narrow: Server) -> None:
    api = narrow.organization(sandbox=True)
    meter(api)
    key = api.headers["Authorization"].removeprefix("Bearer ")

    def one(number: int) -> Json:
        with narrow.client(key) as sender:
            sent = (event("bytes", "sub", NOON, f"{number}-{each}", value=1) for each in range(6_000))
            return stream(sender, lines(*sent))

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(one, range(6))) == [taken(6_000, 6_000)] * 6
    assert units_of(api)["bytes"] == 36_000


def test_a_store_that_is_lost_in_the_middle(tmp_path: Path) -> None:
    """What was taken until then is told, and everything can be sent again when the store is back."""
    one = Server(tmp_path / "data", stream_wait_seconds=1)
    try:
        api = one.start().organization()
        sent = [lines(*(event(code, "s", NOON) for _ in range(6_000))) for code in ("first", "second")]

        def pieces() -> Iterator[bytes]:
            yield sent[0]
            wait_for(lambda: count(api) == 5_000, "a block being taken")
            file = one.data_dir / "postgres" / "postmaster.pid"
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
            wait_for(lambda: api.get("/health").status_code == 503, "the end of PostgreSQL")
            yield sent[1]

        response = send(api, pieces())
        answer = response.json()
        assert (response.status_code, answer["code"]) == (503, "postgres_unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        assert answer["error_details"] == {"stream": {"complete": False, **taken(5_000, 5_000)}}
        one.kill()
        one.start()
        assert stream(api, b"".join(sent)) == taken(12_000, 7_000, 5_000)
        assert count(api) == 12_000
        cut_by_a_stop(one, api, idle=False)
        one.start()
        cut_by_a_stop(one, api, idle=True)
    finally:
        one.clean_up()


def cut_by_a_stop(server: Server, api: httpx.Client, *, idle: bool) -> None:
    """A stream without end, and one that nothing comes on, do not keep a server from stopping, and are told how far they
    came."""
    started, stopped = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        while not stopped.is_set():
            yield lines(*(event("first", "s", NOON) for _ in range(500)))
            started.set()
            if idle:
                stopped.wait()

    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(send, api, pieces())
        started.wait()
        server.stop()
        stopped.set()
        response = answer.result()
    told = response.json()
    assert (response.status_code, told["code"]) == (503, "service_unavailable")
    assert told["error_details"]["stream"]["received"] == told["error_details"]["stream"]["lines"]


def test_a_key_that_may_not_write_events(server: Server, admin: httpx.Client) -> None:
    made = ok(admin.post("/admin/organizations", json={"organization": {"name": "Reads"}}))["organization"]
    asked = {"api_key": {"name": "reader", "permissions": {"event": ["read"]}}}
    key = ok(admin.post(f"/admin/organizations/{made['lago_id']}/api_keys", json=asked))["api_key"]["value"]
    with server.client(key) as reader:
        assert refusal(send(reader, lines(event("c")))) == (403, "write_action_not_allowed_for_event")
