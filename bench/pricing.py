"""Pricing usage in hand: no store, no HTTP, one core.

    python -m bench.pricing

100,000 subscriptions with 5 charges each, of different models, from what was measured to the amounts of their fees. The
goal: below 10 s of processor time.
"""

import random
import time
from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

from app.billing.book import ChargeTerms
from app.billing.charge_usage import bucket_usage
from app.core.aggregation import Aggregation, Units
from app.core.charges.fees import fee_amounts
from app.core.charges.pricing import compile_price
from app.core.charges.usage import ChargeModel

SUBSCRIPTIONS = 100_000
GOAL_SECONDS = 10

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


def main() -> None:
    """Measure and print."""
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
    verdict = "met" if sum(used) < GOAL_SECONDS else "MISSED"
    print(f"  together     {sum(used):6.1f} s   goal < {GOAL_SECONDS} s: {verdict}")


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
