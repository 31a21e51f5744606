"""Many clients at once: what they send together counts as if one of them had sent it."""

import threading

import httpx

from tests.factories import (
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_batch,
    set_clock,
    standard,
    units_of,
)
from tests.support import Server

CLIENTS = 16
NOON = 1_715_342_400


def test_the_same_batch_from_sixteen_clients_counts_once(server: Server, api: httpx.Client) -> None:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    metrics = [make_metric(api, "bytes", "sum_agg"), make_metric(api, "users", "unique_count_agg")]
    make_plan(api, charges=[standard(metric) for metric in metrics])
    make_subscription(api)
    batches = [
        [event(code, "sub", NOON + number, f"{code}-{turn}-{number}", value=number) for number in range(50)]
        for turn in range(4)
        for code in ("bytes", "users")
    ]
    key = api.headers["Authorization"].removeprefix("Bearer ")
    begin = threading.Barrier(CLIENTS)
    answers: list[list[str]] = []

    def send() -> None:
        with server.client(key) as client:
            begin.wait()
            ids: list[str] = []
            for batch in batches:
                ids += [one["lago_id"] for one in ok(send_batch(client, batch))["events"]]
            answers.append(ids)

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == CLIENTS
    assert all(ids == answers[0] for ids in answers)
    assert units_of(api) == {"bytes": 4 * sum(range(50)), "users": 50}
    assert ok(api.get("/api/v1/events"))["meta"]["total_count"] == 400
