"""Usages, properties and strategies for tests of prices."""

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st

from app.core.charges.proration import ProratedSpan
from app.core.charges.usage import BucketUsage, ChargeModel, Run
from app.core.money import decimal_text
from app.core.periods import local_end, local_start

quick = settings(max_examples=240, deadline=None, database=None)

STANDARD, GRADUATED, VOLUME = ChargeModel.STANDARD, ChargeModel.GRADUATED, ChargeModel.VOLUME
PACKAGE, PERCENTAGE, DYNAMIC = ChargeModel.PACKAGE, ChargeModel.PERCENTAGE, ChargeModel.DYNAMIC
GRADUATED_PERCENTAGE = ChargeModel.GRADUATED_PERCENTAGE
UTC_ZONE = ZoneInfo("UTC")
RANGES_OF = {
    GRADUATED: ("graduated_ranges", "per_unit_amount"),
    VOLUME: ("volume_ranges", "per_unit_amount"),
    GRADUATED_PERCENTAGE: ("graduated_percentage_ranges", "rate"),
}


def span(first: str, last: str, tz: ZoneInfo = UTC_ZONE, **more: bool) -> ProratedSpan:
    """Whole local days, in the period that is the month of the first one."""
    from_, to = date.fromisoformat(first), date.fromisoformat(last)
    month = (from_.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return ProratedSpan(local_start(from_, tz), local_end(to, tz), month.day, tz, **more)


APRIL = span("2024-04-01", "2024-04-30")


def used(units: object, events_count: int = 1, **more: Any) -> BucketUsage:
    """A usage of so many units."""
    return BucketUsage(Decimal(str(units)), events_count, **more)


def spent(*values: object) -> BucketUsage:
    """The usage of a sum over these event values, with its runs: equal values in a row are one."""
    exact_values = [Decimal(str(value)) for value in values]
    runs = tuple(Run(value, len(list(same))) for value, same in groupby(exact_values))
    return BucketUsage(sum(exact_values, Decimal(0)), len(values), runs=runs)


def tier(from_value: object, to_value: object, price: object = "0.1", flat: object = "0") -> dict[str, object]:
    """A range of a graduated or volume charge."""
    return {"from_value": from_value, "to_value": to_value, "per_unit_amount": price, "flat_amount": flat}


def graduated(*ranges: object) -> dict[str, object]:
    """Properties with these ranges."""
    return {"graduated_ranges": list(ranges)}


def ranged(model: ChargeModel, ranges: Iterable[dict[str, object]]) -> dict[str, object]:
    """Properties of a model with ranges; their price key is made the one of the model."""
    key, price_key = RANGES_OF[model]
    return {
        key: [
            {price_key if name == "per_unit_amount" else name: value for name, value in one.items()} for one in ranges
        ]
    }


NEXT_BOUND = [tier(0, 100, "0.10", "5"), tier(101, 1000, "0.08", "2"), tier(1001, None, "0.05", "0")]
SHARED_BOUND = [
    tier("0", "100", "0.10", "5"), tier(Decimal("100.0"), 1000, "0.08", "2"), tier(1000, None, "0.05", "0")
]  # fmt: skip
MIXED = [tier(1, 100, "0.10", "5"), tier(101, "1000", "0.08", "2"), tier("1000", None, "0.05", "0")]

money_text = st.builds(lambda n, p: decimal_text(Decimal(n).scaleb(-p)), st.integers(0, 10**6), st.integers(0, 9))
"""An amount as a client writes it."""

quantities = st.builds(lambda n, p: Decimal(f"{n}E-{p}"), st.integers(0, 10**38), st.integers(18, 30))
"""Units up to 10**20 with 18 decimals and more."""

Table = list[tuple[int, str, str]]
"""Widths of ranges (but for the 1 that is added, so that both notations stay valid), their prices and flat amounts."""

tables = st.lists(st.tuples(st.integers(1, 12), money_text, money_text), min_size=1, max_size=5)


def ranges_of(table: Table, step: int) -> list[dict[str, object]]:
    """Ranges of the given widths; each starts at the previous end plus ``step``, the last one is open."""
    ranges, lower = [], 0
    for position, (width, price, flat) in enumerate(table):
        upper = lower + width + 1
        last = position == len(table) - 1
        ranges.append(tier(lower + step if position else 0, None if last else upper, price, flat))
        lower = upper
    return ranges


def uppers(table: Table) -> list[int]:
    """Where the ranges end, but for the last one."""
    ends, upper = [], 0
    for width, _, _ in table[:-1]:
        upper += width + 1
        ends.append(upper)
    return ends


def tier_of(table: Table, unit: int) -> int:
    """The position of the range that a unit (1 is the first) lies in."""
    return next((i for i, end in enumerate(uppers(table)) if unit <= end), len(table) - 1)


def fraction(value: object) -> Fraction:
    """The exact value of a decimal or a text."""
    return Fraction(str(value))
