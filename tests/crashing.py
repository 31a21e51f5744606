"""What tests and benches that kill a server share: random events, threads that send them, and what they must come to."""

import random
import threading
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

import httpx

from tests.factories import Json, event, send_batch, send_event
from tests.support import client, seeded

SUBSCRIPTIONS = [f"sub{number}" for number in range(6)]
METRICS = {"calls": "count_agg", "bytes": "sum_agg", "peak": "max_agg", "users": "unique_count_agg"}
FIELDS = {"users": "user"}
EXPRESSIONS = {"bytes": "event.properties.value * 1.000"}
REGIONS = ["eu", "us", "asia"]
SENDERS = 4
MAY = 1_714_521_600
"""All events are in May 2024."""

Units = dict[str, Decimal]
"""What a subscription has used of each metric."""


def key_of(one: Json) -> tuple[str, str]:
    """What makes an event one event in its organization."""
    return one["external_subscription_id"], one["transaction_id"]


def random_request(chance: random.Random, name: str) -> list[Json]:
    """A batch, or now and then a single event, of all metrics and subscriptions."""
    size = 1 if chance.random() < 0.3 else chance.randint(2, 300)
    return [
        event(
            chance.choice(list(METRICS)),
            chance.choice(SUBSCRIPTIONS),
            f"{MAY + chance.randrange(31 * 86_400)}.{chance.randrange(1_000):03d}",
            f"{name}-{position}",
            value=f"{chance.randint(-500, 90_000)}.{chance.randint(0, 99):02d}",
            user=f"user{chance.randrange(300)}",
            operation_type=chance.choice(["add", "add", "remove"]),
            region=chance.choice(REGIONS),
        )
        for position in range(size)
    ]


def send(api: httpx.Client, request: list[Json]) -> httpx.Response:
    """Send a request of `random_request`."""
    return send_event(api, request[0]) if len(request) == 1 else send_batch(api, request)


class Senders:
    """Threads that send random requests for as long as the server answers, and keep count of what it has acknowledged."""

    def __init__(self, base_url: str, key: str, seed: int):
        self.acknowledged: list[list[Json]] = []
        self.lost: list[list[Json]] = []
        self.refused: list[str] = []
        self._base_url, self._key = base_url, key
        self._threads = [threading.Thread(target=self._send, args=(seed, number)) for number in range(SENDERS)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until the server is gone for all of them; while it was there it must have refused nothing."""
        for thread in self._threads:
            thread.join()
        assert self.refused == []

    def _send(self, seed: int, number: int) -> None:
        chance = seeded(seed * 100 + number)
        with client(self._base_url, self._key) as api:
            for turn in range(10_000):
                request = random_request(chance, f"{seed}-{number}-{turn}")
                try:
                    answer = send(api, request)
                except httpx.TransportError:
                    self.lost.append(request)
                    return
                if answer.status_code != 200:
                    self.refused.append(answer.text)
                    return
                self.acknowledged.append(request)


def model(events: Iterable[Json]) -> dict[str, Units]:
    """The units of each subscription and metric, by the rules and without the service."""
    grouped: dict[str, list[Json]] = defaultdict(list)
    for one in events:
        grouped[one["external_subscription_id"]].append(one)
    return {
        subscription: {code: max(units, Decimal(0)) for code, units in units_by_metric(grouped[subscription]).items()}
        for subscription in SUBSCRIPTIONS
    }


def units_by_metric(events: Iterable[Json]) -> Units:
    """The units of each metric of one subscription, as they are counted: those of a sum may be below 0."""
    grouped: dict[str, list[Json]] = defaultdict(list)
    for one in events:
        grouped[one["code"]].append(one)
    return {code: _units(kind, grouped[code]) for code, kind in METRICS.items()}


def _units(aggregation: str, events: list[Json]) -> Decimal:
    values = [Decimal(one["properties"]["value"]) for one in events]
    if aggregation == "sum_agg":
        return sum(values, Decimal(0))
    if aggregation == "max_agg":
        return max(*values, Decimal(0)) if values else Decimal(0)
    if aggregation == "count_agg":
        return Decimal(len(events))
    last: dict[str, str] = {}
    for one in sorted(events, key=lambda one: (Decimal(one["timestamp"]), one["transaction_id"])):
        last[one["properties"]["user"]] = one["properties"]["operation_type"]
    return Decimal(sum(operation == "add" for operation in last.values()))
