"""What is left after a server was killed: every acknowledged event counts once; and periods closed twice at once."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.crashing import EXPRESSIONS, FIELDS, MAY, METRICS, SUBSCRIPTIONS, Senders, key_of, model, send
from tests.factories import (
    Json,
    event,
    invoices_of,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    send_events,
    set_clock,
    standard,
    units_of,
)
from tests.support import Server, seeded, wait_for

ROUNDS = 4


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Server]:
    """A server of its own for a test that kills it."""
    one = Server(tmp_path / "data")
    try:
        yield one.start()
        one.stop()
    finally:
        one.clean_up()


def test_no_acknowledged_event_is_lost_or_counted_twice(crashing: Server) -> None:
    api = crashing.organization(sandbox=True)
    set_clock(api, "2024-05-01T00:00:00Z")
    metrics = [
        make_metric(api, code, kind, FIELDS.get(code), expression=EXPRESSIONS.get(code))
        for code, kind in METRICS.items()
    ]
    make_plan(api, charges=[standard(metric) for metric in metrics])
    make_customer(api)
    for subscription in SUBSCRIPTIONS:
        make_subscription(api, subscription)
    key = api.headers["Authorization"].removeprefix("Bearer ")
    chance = seeded(20_240_501)
    sent: list[Json] = []
    for number in range(ROUNDS):
        senders = Senders(crashing.base_url, key, number)
        senders.start()
        enough = chance.randint(5, 60)
        wait_for(lambda now=senders, least=enough: len(now.acknowledged) >= least, "acknowledged requests")
        crashing.kill()
        senders.join()
        crashing.start()
        again = [*senders.lost, *chance.sample(senders.acknowledged, min(5, len(senders.acknowledged)))]
        for request in again:
            assert send(api, request).status_code == 200
        sent += [one for request in (*senders.acknowledged, *senders.lost) for one in request]
        expected = model(sent)
        assert {subscription: units_of(api, subscription) for subscription in SUBSCRIPTIONS} == expected
        total = ok(api.get("/api/v1/events", params={"per_page": 1}))["meta"]["total_count"]
        assert total == len({key_of(one) for one in sent}) == len(sent)
    set_clock(api, "2024-06-01T00:00:00Z")
    fees = [fee for invoice in invoices_of(api) for fee in invoice["fees"] if fee["item"]["type"] == "charge"]
    billed = {(fee["external_subscription_id"], fee["item"]["code"]): Decimal(fee["units"]) for fee in fees}
    assert billed == {(s, code): units for s, of in model(sent).items() for code, units in of.items() if units}


CUSTOMERS = 50
PER_CUSTOMER = 5


def fill_with_subscriptions(api: httpx.Client) -> None:
    """Several hundred subscriptions, each with one more event than the one before."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, charges=[standard(make_metric(api, "calls"), "0.5")], amount_cents=1_000)

    def add(number: int) -> None:
        make_customer(api, f"c{number}", currency="EUR")
        for each in range(PER_CUSTOMER):
            # A purchase order of its own keeps each subscription on an invoice of its own.
            order = f"order {each}"
            make_subscription(api, f"c{number}s{each}", customer=f"c{number}", purchase_order_number=order)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(CUSTOMERS)))
    send_events(
        api,
        (
            event("calls", f"c{number}s{each}", MAY + 3_600 * count)
            for number in range(CUSTOMERS)
            for each in range(PER_CUSTOMER)
            for count in range(number % 7)
        ),
    )


def check_invoices(api: httpx.Client, boundaries: int) -> None:
    """One invoice for every subscription and boundary, numbered without gaps, with the right totals."""
    listed = ok(api.get("/api/v1/invoices", params={"per_page": 1000}))["invoices"]
    pages = ok(api.get("/api/v1/invoices", params={"per_page": 1000}))["meta"]["total_pages"]
    for page in range(2, pages + 1):
        listed += ok(api.get("/api/v1/invoices", params={"per_page": 1000, "page": page}))["invoices"]
    assert len(listed) == CUSTOMERS * PER_CUSTOMER * boundaries
    numbers, orders = defaultdict(list), defaultdict(list)
    for one in listed:
        customer = one["customer"]["external_id"]
        numbers[customer].append((one["sequential_id"], one["number"]))
        orders[customer, one["issuing_date"]].append(one["purchase_order_number"])
        usage = int(customer[1:]) % 7 * 50 if one["issuing_date"] == "2024-06-01" else 0
        assert one["total_amount_cents"] == 1_000 + usage
    wanted = [f"order {each}" for each in range(PER_CUSTOMER)]
    assert all(sorted(found) == wanted for found in orders.values())
    assert len(orders) == CUSTOMERS * boundaries
    for found in numbers.values():
        assert [number for number, _ in sorted(found)] == list(range(1, PER_CUSTOMER * boundaries + 1))
        assert all(text.endswith(f"-{number:03d}") for number, text in found)
    assert len({text for found in numbers.values() for _, text in found}) == len(listed)


def test_two_closes_at_once_bill_everything_once(api: httpx.Client) -> None:
    fill_with_subscriptions(api)
    with ThreadPoolExecutor(2) as pool:
        for boundary, date in enumerate(("2024-06-01", "2024-07-01"), 1):
            list(pool.map(set_clock, [api, api], [f"{date}T00:00:00Z"] * 2))
            check_invoices(api, boundary)


def test_every_acknowledged_event_has_its_fee_once(crashing: Server) -> None:
    """The server is killed again and again while events come: most of those it has answered have no fee at that moment."""
    api = crashing.organization(sandbox=True)
    set_clock(api, "2024-05-01T00:00:00Z")
    metrics = {code: make_metric(api, code, METRICS[code], FIELDS.get(code)) for code in ("calls", "bytes", "users")}
    ahead: Json = {"pay_in_advance": True, "invoiceable": False}
    tiers = [{"from_value": 0, "to_value": 500, "per_unit_amount": "0.05", "flat_amount": "7"},
             {"from_value": 501, "to_value": None, "per_unit_amount": "0.02", "flat_amount": "3"}]  # fmt: skip
    charges = [
        standard(metrics["calls"], charge_model="graduated", properties={"graduated_ranges": tiers}, **ahead),
        standard(metrics["bytes"], "0.001", **ahead),
        standard(metrics["users"], "2", pay_in_advance=True),
    ]
    make_plan(api, charges=charges)
    make_customer(api)
    for subscription in SUBSCRIPTIONS:
        make_subscription(api, subscription)
    key = api.headers["Authorization"].removeprefix("Bearer ")
    chance = seeded(20_240_502)
    sent: list[Json] = []
    for number in range(ROUNDS // 2):
        senders = Senders(crashing.base_url, key, 100 + number)
        senders.start()
        enough = chance.randint(3, 12)
        wait_for(lambda now=senders, least=enough: len(now.acknowledged) >= least, "acknowledged requests")
        crashing.kill()
        senders.join()
        crashing.start()
        for request in senders.lost:
            assert send(api, request).status_code == 200
        sent += [one for request in (*senders.acknowledged, *senders.lost) for one in request]
        wanted = sorted((*key_of(one), one["code"]) for one in sent if one["code"] in metrics)
        fees = _fees(api)
        named = [(one["external_subscription_id"], one["event_transaction_id"], one["item"]["code"]) for one in fees]
        assert sorted(named) == wanted
    for subscription in SUBSCRIPTIONS:
        mine = [one for one in fees if one["external_subscription_id"] == subscription]
        usage = ok(api.get(USAGE, params={"external_subscription_id": subscription}))["customer_usage"]
        for used in usage["charges_usage"]:
            of_one = [one for one in mine if one["item"]["code"] == used["billable_metric"]["code"]]
            billed = sum((Decimal(one["precise_amount"]) for one in of_one), Decimal(0)) * 100
            assert abs(billed - used["amount_cents"]) <= Decimal("0.5")
    numbers = [one["sequential_id"] for one in _pages(api, "invoices")]
    assert sorted(numbers) == list(range(1, len([one for one in fees if one["item"]["code"] == "users"]) + 1))


USAGE = "/api/v1/customers/customer/current_usage"


def _fees(api: httpx.Client) -> list[Json]:
    return _pages(api, "fees", fee_type="charge")


def _pages(api: httpx.Client, name: str, **query: str) -> list[Json]:
    """All of a list."""
    found: list[Json] = []
    page: int | None = 1
    while page is not None:
        answer = ok(api.get(f"/api/v1/{name}", params={**query, "per_page": "1000", "page": str(page)}))
        found += answer[name]
        page = answer["meta"]["next_page"]
    return found
