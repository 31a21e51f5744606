"""Pricing usage in hand (no store, no HTTP, one core), and reading the usage of a plan with very many prices over HTTP.

    python -m bench.pricing

100,000 subscriptions with 5 charges each, of different models, from what was measured to the amounts of their fees. The
goal: below 10 s of processor time. Then the current usage of one subscription whose plan has 50 charges with 1,000 filters
together, with 20,000 events. The goals: p95 below 100 ms, and no more ClickHouse queries than for 5 charges and 5 filters.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

from app.billing.charge_usage import bucket_usage
from app.billing.terms import ChargeTerms
from app.core.aggregation import Aggregation, Units
from app.core.charges.fees import fee_amounts
from app.core.charges.pricing import compile_price
from app.core.charges.usage import ChargeModel
from bench.load import METRICS, Api, drive, end_well_when_told, folder, new_account, percentile, verdict
from tests.support import Server, running

SUBSCRIPTIONS = 100_000
GOAL_SECONDS = 10
EVENTS = 20_000
READS = 200
WARM_READS = 20
COUNTED_READS = 5
GOAL_MS = 100

_RANGES = [
    {"from_value": 0, "to_value": 100, "per_unit_amount": "0.10", "flat_amount": "5"},
    {"from_value": 101, "to_value": 1000, "per_unit_amount": "0.08", "flat_amount": "2"},
    {"from_value": 1001, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"},
]
CHARGES: list[tuple[ChargeModel, Aggregation, dict[str, object]]] = [
    (ChargeModel.STANDARD, Aggregation.SUM, {"amount": "0.0125"}),
    (ChargeModel.GRADUATED, Aggregation.SUM, {"graduated_ranges": _RANGES}),
    (ChargeModel.VOLUME, Aggregation.SUM, {"volume_ranges": _RANGES}),
    (ChargeModel.PACKAGE, Aggregation.SUM, {"amount": "4.5", "package_size": 100, "free_units": 50}),
    (
        ChargeModel.PERCENTAGE,
        Aggregation.COUNT,
        {"rate": "2", "fixed_amount": "0.5", "free_units_per_events": 10, "per_transaction_max_amount": "0.51"},
    ),
]


@dataclass(frozen=True, slots=True)
class Shape:
    """A plan of so many charges, each on a metric of its own, with so many filters on each."""

    charges: int
    filters: int


SHAPES = (Shape(5, 1), Shape(50, 1), Shape(50, 20))


def main() -> None:
    """Measure and print."""
    end_well_when_told()
    price_in_hand()
    read_over_http()


def price_in_hand() -> None:
    """From what was measured to the amounts of fees."""
    charges = [terms(*one) for one in CHARGES]
    summed = list(usages())
    counted = [Units(Decimal(one.events_count), one.events_count) for one in summed]
    used, total = [0.0] * len(charges), 0
    for position, charge in enumerate(charges):
        measured = counted if charge.aggregation is Aggregation.COUNT else summed
        began = time.process_time()
        for usage in measured:
            bucket = bucket_usage(charge, usage, "EUR")
            total += fee_amounts(bucket, charge.price(bucket), "EUR").amount_cents
        used[position] = time.process_time() - began
    print(f"Pricing {SUBSCRIPTIONS:,} subscriptions x {len(charges)} charges, one core; {total / 100:,.2f} EUR in all")
    for charge, seconds in zip(charges, used, strict=True):
        print(f"  {charge.charge_model:<12} {seconds / SUBSCRIPTIONS * 1_000_000:6.1f} µs for one fee")
    print(f"  together     {sum(used):6.1f} s   goal < {GOAL_SECONDS} s: {verdict(sum(used) < GOAL_SECONDS)}")


def read_over_http() -> None:
    """Current usage of plans of several shapes, each in an organization of its own."""
    print(f"\nCurrent usage over HTTP of one subscription with {EVENTS:,} events")
    fewest = 0
    with folder() as root, running(root / "data", log_level="debug") as server:
        for shape in SHAPES:
            api = new_account(server)
            fill(api, shape)
            request = api.request("GET", "/api/v1/customers/c/current_usage?external_subscription_id=s")
            drive(api.port, [request] * WARM_READS, 1, 60)
            queries = queries_of_a_read(server, api, request)
            fewest = fewest or queries
            load = drive(api.port, [request] * READS, 1, 120)
            if load.refused:
                raise RuntimeError(f"{load.refused} reads were refused")
            p50, p95 = (percentile(load.latencies, share) * 1000 for share in (0.5, 0.95))
            name = f"{shape.charges} charges, {shape.charges * shape.filters:,} filters"
            print(f"  {name:<26} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   {queries} queries")
    print(f"  goal: p95 < {GOAL_MS} ms: {verdict(p95 < GOAL_MS)}; queries as for {SHAPES[0].charges} charges: ", end="")
    print(verdict(queries <= fewest))


def fill(api: Api, shape: Shape) -> None:
    """Metrics, a plan, a subscription and its events, which are of all filters alike."""
    regions = [f"r{number}" for number in range(20)]
    charges, codes = [], []
    for number in range(shape.charges):
        name, aggregation, field = METRICS[number % len(METRICS)]
        code = f"{name}_{number}"
        metric: dict[str, Any] = {"name": code, "code": code, "aggregation_type": aggregation, "field_name": field}
        metric["filters"] = [{"key": "region", "values": regions}]
        made = api.call("POST", "/api/v1/billable_metrics", {"billable_metric": metric})["billable_metric"]
        filters = [
            {"values": {"region": [region]}, "properties": {"amount": "0.02"}} for region in regions[: shape.filters]
        ]
        price = {"charge_model": "standard", "properties": {"amount": "0.01"}, "filters": filters}
        charges.append({"billable_metric_id": made["lago_id"], **price})
        codes.append((code, field))
    plan = {"name": "p", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
    api.call("POST", "/api/v1/plans", {"plan": {**plan, "pay_in_advance": False, "charges": charges}})
    subscription = {"external_customer_id": "c", "external_id": "s", "plan_code": "p"}
    api.call("POST", "/api/v1/subscriptions", {"subscription": subscription})
    for begin in range(0, EVENTS, 10_000):
        events = []
        for number in range(begin, begin + 10_000):
            code, field = codes[number % len(codes)]
            properties = {
                "region": regions[number // len(codes) % len(regions)],
                **({field: f"{number}"} if field else {}),
            }
            events.append(
                {
                    "transaction_id": f"t{number}", "external_subscription_id": "s", "code": code,
                    "properties": properties,
                }
            )  # fmt: skip
        api.call("POST", "/api/v1/events/batch", {"events": events})


def queries_of_a_read(server: Server, api: Api, request: bytes) -> int:
    """How many ClickHouse queries a read takes: the fewest of a few, for upkeep asks now and then, too."""
    counts = []
    for _ in range(COUNTED_READS):
        before = queries_logged(server)
        drive(api.port, [request], 1, 60)
        counts.append(queries_logged(server) - before)
    return min(counts)


def queries_logged(server: Server) -> int:
    """How many ClickHouse queries the server has told of so far."""
    return server.errors.read_bytes().count(b"clickhouse.query")


def terms(model: ChargeModel, aggregation: Aggregation, properties: dict[str, object]) -> ChargeTerms:
    """A charge of a model, as the price book has it."""
    return ChargeTerms(
        id=uuid4(),
        code=model,
        charge_model=model,
        invoice_display_name=None,
        metric_id=uuid4(),
        metric_code="metric",
        metric_name="Metric",
        metric_description=None,
        aggregation=aggregation,
        recurring=False,
        rounding_function="round" if aggregation is Aggregation.SUM else None,
        rounding_precision=6,
        taxes=(),
        price=compile_price(model, properties),
    )


def usages() -> Iterator[Units]:
    """What was measured of each subscription: up to 3,000 units with many decimals, spread over all ranges."""
    chance = random.Random(1)
    for _ in range(SUBSCRIPTIONS):
        yield Units(Decimal(chance.randrange(3_000 * 10**9)).scaleb(-9), chance.randrange(1, 500))


if __name__ == "__main__":
    main()
