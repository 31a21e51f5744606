"""Events paid in advance from many clients at once: the fees that one client would make, each of them once."""

import threading
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.api.test_pay_in_advance import NOON, RANGES, charge, fees, subscribe
from tests.factories import (
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_event,
    set_clock,
)
from tests.support import Server

CLIENTS = 16


def at_once(server: Server, api: httpx.Client, work: Callable[[httpx.Client, int], object]) -> None:
    """Let so many clients do something at the same time."""
    key = api.headers["Authorization"].removeprefix("Bearer ")
    begin, failures = threading.Barrier(CLIENTS), list[BaseException]()

    def run(number: int) -> None:
        try:
            with server.client(key) as client:
                begin.wait()
                work(client, number)
        except BaseException as error:  # noqa: BLE001 (the test fails with it)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("step", [0, 1])
def test_many_clients_make_the_fees_of_one(server: Server, api: httpx.Client, step: int) -> None:
    """Events of one instant, and distinct ones, sent and read by many at once in any order: the same fees in all, each
    event's once."""
    set_clock(api, "2024-05-01T00:00:00Z")
    calls, gb = make_metric(api, "calls"), make_metric(api, "gb", "sum_agg")
    subscribe(api, charge(calls, "graduated", properties=RANGES), charge(gb, "graduated", True, properties=RANGES))
    each = 2

    def work(client: httpx.Client, number: int) -> None:
        for turn in range(each):
            at = NOON + step * ((number * 7 + turn * 5) % 50)
            for code in ("calls", "gb"):
                transaction = f"{code}-{number}-{turn}"
                ok(send_event(client, event(code, "sub", at, transaction, value=1)))
                if turn % 2:
                    assert len(fees(client, event_transaction_id=transaction)) == 1
            # What others send, too, counts once.
            ok(send_event(client, event("calls", "sub", NOON, f"shared-{turn}", value=1)))

    at_once(server, api, work)
    found = fees(api)
    once = Counter(one["event_transaction_id"] for one in found)
    assert set(once.values()) == {1}
    assert len(once) == CLIENTS * each * 2 + each
    for code, number in (("calls", CLIENTS * each + each), ("gb", CLIENTS * each)):
        amounts = Counter(one["amount_cents"] for one in found if one["item"]["code"] == code)
        assert amounts == {600: 1, 100: 9, 250: 1, 50: number - 11}
    listed = ok(api.get("/api/v1/invoices", params={"per_page": 1000}))["invoices"]
    assert sorted(one["sequential_id"] for one in listed) == list(range(1, CLIENTS * each + 1))


def test_fees_and_closes_at_once(server: Server, api: httpx.Client) -> None:
    """While periods are closed and subscriptions ended, events are billed all the same, and numbers have no gaps."""
    set_clock(api, "2024-05-01T00:00:00Z")
    metric = make_metric(api, "calls")
    make_plan(api, charges=[charge(metric, invoiceable=True)])
    for number in range(3):
        make_customer(api, f"c{number}")
        for each in range(CLIENTS):
            make_subscription(api, f"s{number}-{each}", customer=f"c{number}")

    def work(client: httpx.Client, number: int) -> None:
        for turn in range(3):
            ok(send_event(client, event("calls", f"s{turn}-{number}", NOON, f"{number}-{turn}")))
            if turn == 1:
                ok(client.delete(f"/api/v1/subscriptions/s{turn}-{number}"))
            elif number == 5:
                set_clock(client, f"2024-0{6 + turn}-01T00:00:00Z")

    at_once(server, api, work)
    assert len(fees(api)) == CLIENTS * 3
    for number in range(3):
        asked = {"per_page": 1000, "external_customer_id": f"c{number}"}
        numbers = sorted(one["sequential_id"] for one in ok(api.get("/api/v1/invoices", params=asked))["invoices"])
        assert numbers == list(range(1, len(numbers) + 1))
