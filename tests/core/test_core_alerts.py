"""Which thresholds of an alert a value crosses."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.core.alerts import MOST_STEPS, AlertThreshold, crossed

VALUE = st.integers(-2_000, 2_000).map(lambda number: Decimal(number) / 4)
ONCE = st.sets(VALUE, max_size=4).map(lambda values: [AlertThreshold(str(one), one) for one in sorted(values)])
STEP = st.none() | st.integers(1, 400).map(lambda number: AlertThreshold("step", Decimal(number) / 4, recurring=True))
THRESHOLDS = st.tuples(ONCE, STEP).map(lambda parts: [*parts[0], *([parts[1]] if parts[1] else [])])


def values(found: list[AlertThreshold]) -> list[Decimal]:
    return [one.value for one in found]


def test_a_value_counts_when_it_is_reached_and_once() -> None:
    thresholds = [AlertThreshold("a", Decimal(10)), AlertThreshold("b", Decimal(20))]
    assert values(crossed(thresholds, Decimal(0), Decimal(10))) == [10]
    assert values(crossed(thresholds, Decimal(10), Decimal(25))) == [20]
    assert values(crossed(thresholds, Decimal(25), Decimal(5))) == []
    assert values(crossed(thresholds, Decimal(25), Decimal(10), decreasing=True)) == [20, 10]
    assert values(crossed(thresholds, Decimal(10), Decimal(9), decreasing=True)) == []


def test_steps_begin_beyond_the_outermost() -> None:
    thresholds = [AlertThreshold("a", Decimal(10)), AlertThreshold("s", Decimal("2.5"), recurring=True)]
    assert crossed(thresholds, Decimal(9), Decimal(16)) == [
        AlertThreshold("a", Decimal(10)),
        AlertThreshold("s", Decimal("12.5"), recurring=True),
        AlertThreshold("s", Decimal(15), recurring=True),
    ]
    assert values(crossed(thresholds, Decimal(11), Decimal(5), decreasing=True)) == [10, Decimal("7.5"), 5]


def test_the_latest_of_many_steps_are_told() -> None:
    found = crossed([AlertThreshold("s", Decimal(1), recurring=True)], Decimal(0), Decimal(10**9))
    assert values(found) == list(range(10**9 - MOST_STEPS + 1, 10**9 + 1))


@given(THRESHOLDS, VALUE, VALUE, VALUE)
def test_on_the_way_nothing_is_told_twice_or_lost(
    thresholds: list[AlertThreshold], first: Decimal, second: Decimal, third: Decimal
) -> None:
    a, b, c = sorted((first, second, third))
    whole = crossed(thresholds, a, c)
    parts = crossed(thresholds, a, b) + crossed(thresholds, b, c)
    if len(whole) < MOST_STEPS:
        assert parts == whole
    assert all(a < one.value <= c for one in whole)
    assert crossed(thresholds, a, a) == []
    assert crossed(thresholds, c, a) == []


@given(THRESHOLDS, VALUE, VALUE)
def test_down_is_up_mirrored(thresholds: list[AlertThreshold], previous: Decimal, current: Decimal) -> None:
    mirrored = [one if one.recurring else AlertThreshold(one.code, -one.value) for one in thresholds]
    down = crossed(thresholds, previous, current, decreasing=True)
    up = crossed(mirrored, -previous, -current)
    assert [(one.code, -one.value, one.recurring) for one in down] == [
        (one.code, one.value, one.recurring) for one in up
    ]
