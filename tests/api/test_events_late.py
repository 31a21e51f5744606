"""Events before their metric, metrics that change, bodies that are too large, and more than the service can take."""

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.factories import (
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_batch,
    send_event,
    send_events,
    set_clock,
    standard,
    units_of,
    usage_of,
)
from tests.support import Server, running

NOON = 1_715_342_400
STORAGE = "round(event.properties.mb / 1024, 3) * event.properties.replicas"
EVENTS = [
    event("bytes", "sub", NOON + 3_600 * number, value=number, other=str(10 * number), item=f"i{number % 4}")
    for number in range(10)
]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in which few events may wait."""
    with running(tmp_path_factory.mktemp("narrow") / "data", max_queued_events=60) as one:
        yield one


@pytest.fixture
def may(narrow: Server) -> httpx.Client:
    """A sandbox in May 2024 with a customer. Its server has few partitions: changing a metric goes through all."""
    api = narrow.organization(sandbox=True)
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    return api


def plan_for(api: httpx.Client, metric: dict[str, object]) -> None:
    make_plan(api, charges=[standard(metric)])
    make_subscription(api)


def stored(api: httpx.Client, transaction: str) -> dict[str, str]:
    properties: dict[str, str] = ok(api.get(f"/api/v1/events/{transaction}"))["event"]["properties"]
    return properties


class TestMetricsThatComeLater:
    @pytest.mark.parametrize(
        ("aggregation", "field", "units"),
        [("count_agg", None, 10), ("sum_agg", "value", 45), ("max_agg", "other", 90), ("unique_count_agg", "item", 4)],
    )
    def test_earlier_events_count(self, may: httpx.Client, aggregation: str, field: str | None, units: int) -> None:
        send_events(may, EVENTS)
        plan_for(may, make_metric(may, "bytes", aggregation, field))
        assert units_of(may)["bytes"] == units
        replay = send_events(may, EVENTS)
        assert len({one["lago_id"] for one in replay}) == 10
        assert units_of(may)["bytes"] == units

    def test_a_metric_made_again_reads_its_events_anew(self, may: httpx.Client) -> None:
        make_metric(may, "bytes", "sum_agg")
        send_events(may, EVENTS)
        ok(may.delete("/api/v1/billable_metrics/bytes"))
        plan_for(may, make_metric(may, "bytes", "unique_count_agg", "item"))
        assert units_of(may)["bytes"] == 4

    def test_the_events_of_a_deleted_metric_go_with_it(self, may: httpx.Client) -> None:
        """Those of subscriptions that it priced; they may be sent again."""
        plan_for(may, make_metric(may, "bytes", "sum_agg"))
        send_events(may, EVENTS)
        unpriced = event("bytes", "elsewhere", NOON, "kept", value=1)
        send_events(may, [unpriced])
        assert units_of(may)["bytes"] == 45
        ok(may.delete("/api/v1/billable_metrics/bytes"))
        make_plan(may, "again", charges=[standard(make_metric(may, "bytes", "sum_agg"))])
        make_subscription(may, "elsewhere", plan="again")
        make_subscription(may, "other", plan="again")
        assert ok(may.get("/api/v1/events"))["meta"]["total_count"] == 1
        assert units_of(may, "elsewhere")["bytes"] == 1
        send_events(may, EVENTS[:3])
        assert ok(may.get("/api/v1/events"))["meta"]["total_count"] == 4

    def test_a_field_that_changes_before_use(self, may: httpx.Client) -> None:
        metric = make_metric(may, "bytes", "sum_agg")
        send_events(may, EVENTS)
        change = {"billable_metric": {"field_name": "other"}}
        ok(may.put("/api/v1/billable_metrics/bytes", json=change))
        send_events(may, [event("bytes", "sub", NOON, value=1, other=1_000)])
        plan_for(may, metric)
        assert units_of(may)["bytes"] == 1_450

    @pytest.mark.parametrize(("kind", "units"), [("max_agg", 9), ("count_agg", 11), ("unique_count_agg", 10)])
    def test_an_aggregation_that_changes_before_use(self, may: httpx.Client, kind: str, units: int) -> None:
        metric = make_metric(may, "bytes", "sum_agg")
        send_events(may, EVENTS)
        ok(may.put("/api/v1/billable_metrics/bytes", json={"billable_metric": {"aggregation_type": kind}}))
        send_events(may, [event("bytes", "sub", NOON, value=3)])
        plan_for(may, metric)
        assert units_of(may)["bytes"] == units

    def test_another_code_leaves_the_events_behind(self, may: httpx.Client) -> None:
        metric = make_metric(may, "bytes", "sum_agg")
        send_events(may, EVENTS)
        ok(may.put("/api/v1/billable_metrics/bytes", json={"billable_metric": {"code": "octets"}}))
        send_events(may, [event("octets", "sub", NOON, value=7)])
        plan_for(may, metric)
        assert units_of(may) == {"octets": 7}

    def test_an_event_before_its_subscription_counts_from_its_start(self, may: httpx.Client) -> None:
        set_clock(may, "2024-05-10T13:00:00Z")
        send_events(may, EVENTS)
        plan_for(may, make_metric(may, "bytes", "sum_agg"))
        assert usage_of(may)["from_datetime"] == "2024-05-10T13:00:00Z"
        assert units_of(may)["bytes"] == 45

    def test_sending_and_making_the_metric_at_once(self, may: httpx.Client) -> None:
        def keep_sending() -> None:
            for number in range(200):
                send_events(may, [event("bytes", "sub", NOON + number, f"race-{number}", value=1)])

        sender = threading.Thread(target=keep_sending)
        sender.start()
        metric = make_metric(may, "bytes", "sum_agg")
        sender.join()
        plan_for(may, metric)
        assert units_of(may)["bytes"] == 200


class TestExpressionsThatComeLater:
    def test_events_kept_for_a_metric_are_evaluated_when_it_comes(self, may: httpx.Client) -> None:
        sent = [event("storage", "sub", NOON + mb, f"t-{mb}", mb=mb, replicas=2) for mb in (512, 1024)]
        send_events(may, sent)
        plan_for(may, make_metric(may, "storage", "sum_agg", "gb", expression=STORAGE))
        send_events(may, sent)
        assert units_of(may) == {"storage": 3}
        assert stored(may, "t-512") == {"mb": "512", "replicas": "2", "gb": "1.0"}
        send_events(may, sent)
        assert units_of(may) == {"storage": 3}

    def test_one_without_a_result_counts_as_not_numeric(self, may: httpx.Client) -> None:
        """It has been acknowledged: it is kept as sent, and so is its replay; what it has in the field is no result."""
        sent = [
            event("storage", "sub", NOON, "bad", gb=100),
            event("storage", "sub", NOON, "good", mb=1024, replicas=2),
            event("users", "sub", NOON, "bad-user", gb="ann"),
            event("users", "sub", NOON, "good-user", mb=1024, replicas=2),
        ]
        send_events(may, sent)
        metric = make_metric(may, "storage", "sum_agg", "gb", expression=STORAGE)
        users = make_metric(may, "users", "unique_count_agg", "gb", expression=STORAGE)
        make_plan(may, charges=[standard(metric), standard(users)])
        make_subscription(may)
        assert units_of(may) == {"storage": 2, "users": 1}
        assert stored(may, "bad") == {"gb": "100"}
        send_events(may, sent)
        assert units_of(may) == {"storage": 2, "users": 1}

    def test_a_result_is_never_computed_again(self, may: httpx.Client) -> None:
        """Not even from itself, when the metric's events are read anew."""
        make_metric(may, "doubled", "sum_agg", "n", expression="event.properties.n * 2")
        send_events(may, [event("doubled", "sub", NOON, "t", n=5)])
        url = "/api/v1/billable_metrics/doubled"
        for change in ({"filters": [{"key": "k", "values": ["v"]}]}, {"expression": "event.properties.n * 3"}):
            ok(may.put(url, json={"billable_metric": change}))
        send_events(may, [event("doubled", "sub", NOON, "u", n=1)])
        ok(may.delete(url))
        plan_for(may, make_metric(may, "doubled", "sum_agg", "n", expression="event.properties.n * 100"))
        assert units_of(may) == {"doubled": 13}
        assert (stored(may, "t"), stored(may, "u")) == ({"n": "10"}, {"n": "3"})

    def test_events_of_a_metric_that_gets_an_expression_or_another_field(self, may: httpx.Client) -> None:
        metric = make_metric(may, "storage", "sum_agg", "n")
        send_events(may, [event("storage", "sub", NOON, "t", n=5)])
        url = "/api/v1/billable_metrics/storage"
        ok(may.put(url, json={"billable_metric": {"expression": "event.properties.n * 2"}}))
        assert stored(may, "t") == {"n": "10"}
        ok(may.put(url, json={"billable_metric": {"field_name": "m"}}))
        assert stored(may, "t") == {"n": "10", "m": "10"}
        assert ok(send_event(may, event("storage", "sub", NOON, "t", n=5)))["event"]["properties"]["m"] == "10"
        plan_for(may, metric)
        assert units_of(may) == {"storage": 10}

    def test_a_replay_after_the_expression_has_changed(self, may: httpx.Client) -> None:
        metric = make_metric(may, "storage", "sum_agg", "gb", expression="event.properties.mb / 1024")
        sent = [event("storage", "sub", NOON, f"t-{mb}", mb=mb) for mb in (1024, 2048)]
        send_events(may, sent)
        url = "/api/v1/billable_metrics/storage"
        for change in ("event.properties.mb / 2048", "event.properties.missing", None):
            ok(may.put(url, json={"billable_metric": {"expression": change}}))
            assert [one["properties"]["gb"] for one in send_events(may, sent)] == ["1", "2"]
        plan_for(may, metric)
        assert units_of(may) == {"storage": 3}


class TestTooMuch:
    def test_a_body_of_ten_megabytes(self, api: httpx.Client) -> None:
        body = b'{"event": {"transaction_id": "t", "code": "c", "properties": {"a": "' + b"x" * 10_000_000 + b'"}}}'
        for path in ("/api/v1/events", "/api/v1/events/batch", "/api/v1/customers"):
            response = api.post(path, content=body, headers={"Content-Type": "application/json"})
            wanted = {"status": 413, "error": "Content Too Large", "code": "body_too_large"}
            assert (response.status_code, response.json()) == (413, wanted)
            assert api.get("/health").status_code == 200
        ok(send_event(api, event("c", "s", NOON, "t")))

    def test_a_body_of_ten_megabytes_that_does_not_say_so(self, api: httpx.Client) -> None:
        """The client is told where the connection cannot go on, so that its next request is not lost on it."""
        for _ in range(3):
            chunks = iter([b'{"a": "', *[b"x" * 100_000] * 100, b'"}'])
            response = api.post("/api/v1/events", content=chunks, headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
            assert api.get("/health").status_code == 200

    def test_a_body_that_just_fits(self, api: httpx.Client) -> None:
        text = "x" * 8_000_000
        ok(send_event(api, event("c", "s", NOON, "t", a=text)))
        assert ok(api.get("/api/v1/events/t"))["event"]["properties"] == {"a": text}


def test_more_than_may_wait_is_told_to_come_again(narrow: Server) -> None:
    """Every sender repeats what was refused; in the end everything counts once."""
    refused: list[str | None] = []
    unexpected: list[str] = []
    started = threading.Barrier(16)
    main = narrow.organization(sandbox=True)
    key = main.headers["Authorization"].removeprefix("Bearer ")
    set_clock(main, "2024-05-01T00:00:00Z")
    make_customer(main)
    plan_for(main, make_metric(main, "bytes", "sum_agg"))

    def send(number: int) -> None:
        with narrow.client(key) as api:
            started.wait()
            for turn in range(10):
                batch = [event("bytes", "sub", NOON + turn, f"{number}-{turn}-{each}", value=1) for each in range(30)]
                while (answer := send_batch(api, batch)).status_code != 200:
                    if answer.status_code != 429 or answer.json()["code"] != "too_many_requests":
                        unexpected.append(answer.text)
                        return
                    refused.append(answer.headers.get("Retry-After"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unexpected == []
    assert refused
    assert all(seconds is not None and int(seconds) >= 1 for seconds in refused)
    assert units_of(main)["bytes"] == 16 * 10 * 30
    assert ok(main.get("/api/v1/events"))["meta"]["total_count"] == 16 * 10 * 30
