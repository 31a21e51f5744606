import time
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal, Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.aggregation import (
    MAX_VALUE_TEXT,
    SUPPORTED,
    Aggregation,
    Sample,
    Units,
    WeighedSpan,
    aggregate,
    decimal_value,
    round_units,
    weighted_units,
)
from app.core.money import decimal_places, exact

quick = settings(max_examples=300, deadline=None, database=None)
values = st.builds(lambda n: Decimal(n).scaleb(-18), st.integers(-(10**38) + 1, 10**38 - 1))
samples = st.builds(
    Sample,
    timestamp_ms=st.integers(0, 5),
    transaction_id=st.text("abc", min_size=1, max_size=4),
    value=values,
    item=st.sampled_from([None, "", "a", "b", "1", "1.0"]),
    operation=st.sampled_from(["add", "add", "remove", "", "REMOVE", "other"]),
)
events = st.lists(samples, max_size=25, unique_by=lambda s: s.transaction_id)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", "10"),
        ("0.1", "0.1"),
        ("-2.50", "-2.50"),
        ("+3", "3"),
        ("1e3", "1000"),
        ("1E+3", "1000"),
        ("1.5e-3", "0.0015"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007", "7"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0e999999999", "0"),
        ("0.1234567890123456789", "0.123456789012345678"),
        ("-0.1234567890123456789", "-0.123456789012345678"),
        ("0.0000000000000000019", "0.000000000000000001"),
        ("-0.0000000000000000009", "0"),
        ("1e-999999999", "0"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ("99999999999999999999.9999999999999999999", "99999999999999999999.999999999999999999"),
        ("0000000000000000000000000000001", "1"),
        ("9.9e19", "99000000000000000000"),
        ("0." + "3" * 60, "0." + "3" * 18),
    ],
)
def test_decimal_value(text: str, expected: str) -> None:
    value = decimal_value(text)
    assert value is not None
    assert format(value, "f") == expected


@pytest.mark.parametrize(
    "text",
    [None, "", " ", "abc", "NaN", "nan", "sNaN", "Infinity", "-inf", "1_000", " 1", "1 ", "1\n", "1,5",
     "\u0661\u0662", "\uff11\uff12", "0x10", "1e", "e5", ".", "-", "+-1", "--1", "1.2.3", "true",
     "1e999999999", "-1e999999999",
     "1e99999999999999999999", "1e-99999999999999999999", "100000000000000000000", "1e20", "9" * 400, "0." + "3" * 400,
     "1" * 10_000_000, "[1]", "{}", "½", "1\0"],
    ids=lambda text: ascii(text)[:40],
)  # fmt: skip
def test_not_a_value(text: str | None) -> None:
    assert decimal_value(text) is None


def test_value_text_bound() -> None:
    assert decimal_value("0" * MAX_VALUE_TEXT) == 0
    assert decimal_value("0" * (MAX_VALUE_TEXT + 1)) is None


def test_hostile_values_are_cheap() -> None:
    began = time.perf_counter()
    for text in ("1e999999999", "1e-999999999", "9" * 1_000_000, "1e+" + "9" * 1_000_000, "-." * 500_000):
        decimal_value(text)
    assert time.perf_counter() - began < 1


@quick
@given(st.integers(-(10**22), 10**22), st.integers(-25, 25))
def test_value_is_truncated_and_fits(coefficient: int, exponent: int) -> None:
    exact = Fraction(coefficient) * Fraction(10) ** exponent
    value = decimal_value(f"{coefficient}e{exponent}")
    if abs(exact) >= 10**20:
        assert value is None
        return
    assert value is not None
    scaled = exact * 10**18
    assert Fraction(value) * 10**18 == (scaled.numerator // scaled.denominator if scaled >= 0 else -(-scaled // 1))
    assert 0 <= decimal_places(value) <= 18


@quick
@given(st.text(max_size=40) | st.text("0123456789.eE+-", max_size=45))
def test_any_text_is_safe(text: str) -> None:
    value = decimal_value(text)
    if value is not None:
        assert abs(value) < 10**20
        with exact():
            assert abs(value - Decimal(text)) < Decimal("1e-18")


def sample(at: int, item: str | None, operation: str = "add", value: str = "1", transaction: str = "") -> Sample:
    return Sample(at, transaction or f"t{at}", Decimal(value), item, operation)


def test_unique_count_example() -> None:
    walk = [("a", "add"), ("b", "add"), ("a", "add"), ("b", "remove"), ("c", "remove"), ("b", "add")]
    window = [sample(i, item, operation) for i, (item, operation) in enumerate(walk)]
    assert aggregate(Aggregation.UNIQUE_COUNT, window) == Units(Decimal(2), 2)
    assert aggregate(Aggregation.UNIQUE_COUNT, reversed(window)) == Units(Decimal(2), 2)


@pytest.mark.parametrize(
    ("window", "units"),
    [
        ([], 0),
        ([sample(1, "a"), sample(2, "a", "remove")], 0),
        ([sample(1, "a", "remove")], 0),
        ([sample(1, "a", "remove"), sample(2, "a")], 1),
        ([sample(1, None), sample(2, "")], 0),
        ([sample(1, "1"), sample(2, "1.0"), sample(3, "A"), sample(4, "a")], 4),
        ([sample(1, "a", "drop"), sample(2, "b", ""), sample(3, "c", "Remove")], 3),
        ([sample(1, "a", transaction="x"), sample(1, "a", "remove", transaction="y")], 0),
        ([sample(1, "a", transaction="y"), sample(1, "a", "remove", transaction="x")], 1),
    ],
)
def test_unique_count(window: list[Sample], units: int) -> None:
    assert aggregate(Aggregation.UNIQUE_COUNT, window) == Units(Decimal(units), units)


def test_other_kinds() -> None:
    window = [sample(1, None, value="-2.5"), sample(2, None, value="-1"), sample(3, None, value="-7")]
    assert aggregate(Aggregation.COUNT, window) == Units(Decimal(3), 3)
    assert aggregate(Aggregation.SUM, window) == Units(Decimal("-10.5"), 3)
    assert aggregate(Aggregation.MAX, window) == Units(Decimal(-1), 3)
    for kind in SUPPORTED - {Aggregation.WEIGHTED_SUM}:
        assert aggregate(kind, iter([])) == Units(Decimal(0), 0)


@pytest.mark.parametrize("kind", [*sorted(set(Aggregation) - SUPPORTED), Aggregation.WEIGHTED_SUM])
def test_kinds_that_cannot_be_aggregated(kind: Aggregation) -> None:
    """A custom one never; a weighted sum not without the span that it is weighed over."""
    with pytest.raises(ValueError, match="cannot be aggregated"):
        aggregate(kind, [])


def test_latest() -> None:
    window = [
        Sample(2, "b", Decimal(5), None, "add", ingested=1),
        Sample(2, "c", Decimal(6), None, "add", ingested=0),
        Sample(2, "a", Decimal(7), None, "add", ingested=1),
        Sample(1, "z", Decimal(9), None, "add", ingested=9),
    ]
    assert aggregate(Aggregation.LATEST, window) == Units(Decimal(5), 4)
    assert aggregate(Aggregation.LATEST, [sample(3, None, value="-1")]) == Units(Decimal(0), 1)


DAY = 86_400
APRIL = WeighedSpan(0, 30 * DAY, 30)


def test_weighted_sum_example() -> None:
    window = [sample(5 * DAY * 1000, None, value="20"), sample(20 * DAY * 1000, None, value="-15")]
    units = aggregate(Aggregation.WEIGHTED_SUM, window, APRIL, Decimal(10))
    assert units == Units(Decimal("21.66666666666666666667"), 2, level=Decimal(15))
    assert units.total_aggregated_units == 15
    assert aggregate(Aggregation.WEIGHTED_SUM, [], APRIL, Decimal(10)).units == 10


def test_a_weighted_span_ends_with_the_second_of_its_last_millisecond() -> None:
    assert WeighedSpan.of(1_500, 10_000, 1) == WeighedSpan(1, 10, 1)
    assert WeighedSpan.of(1_000, 10_001, 1) == WeighedSpan(1, 10, 1)
    assert WeighedSpan.of(0, 10_002, 1) == WeighedSpan(0, 11, 1)


@quick
@given(
    st.lists(st.tuples(st.integers(0, 30 * DAY * 1000 - 1), st.decimals(-1000, 1000, places=18))), st.decimals(-9, 9)
)
def test_two_sums_are_enough_to_weigh_levels(changes: list[tuple[int, Decimal]], opening: Decimal) -> None:
    """The store keeps the sum of the changes and of each change times its second; the rule walks from level to level."""
    window = [sample(at, None, value=str(value), transaction=str(n)) for n, (at, value) in enumerate(changes)]
    walked = aggregate(Aggregation.WEIGHTED_SUM, window, APRIL, opening)
    with exact():
        total = sum((value for _, value in changes), Decimal(0))
        moment = sum((value * (at // 1000) for at, value in changes), Decimal(0))
        assert weighted_units(opening, total, moment, APRIL) == walked.units
        assert walked.level == opening + total


def naive_unique(window: list[Sample]) -> int:
    """The walk of the rule, step by step: +1 and -1 against the previous event of the same item."""
    total = 0
    previous: dict[str, str] = {}
    for event in sorted(window, key=lambda s: (s.timestamp_ms, s.transaction_id)):
        if event.item is None or event.item == "":
            continue
        operation = "remove" if event.operation == "remove" else "add"
        before = previous.get(event.item)
        if operation == "add" and before != "add":
            total += 1
        if operation == "remove" and before == "add":
            total -= 1
        previous[event.item] = operation
    return total


@quick
@given(events, st.randoms())
def test_twins_match_the_naive_rules(window: list[Sample], random: object) -> None:
    shuffled = list(window)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with localcontext(Context(prec=2, rounding=ROUND_UP)):
        results = {kind: aggregate(kind, shuffled, APRIL) for kind in SUPPORTED}
    assert results[Aggregation.COUNT] == Units(Decimal(len(window)), len(window))
    assert Fraction(results[Aggregation.SUM].units) == sum((Fraction(s.value) for s in window), Fraction(0))
    assert results[Aggregation.MAX].units == max([s.value for s in window], default=0)
    unique = naive_unique(window)
    assert results[Aggregation.UNIQUE_COUNT] == Units(Decimal(unique), unique)
    assert results[Aggregation.SUM].events_count == results[Aggregation.MAX].events_count == len(window)


@pytest.mark.parametrize(
    ("value", "precision", "expected"),
    [
        ("1234.5", -2, ("1200", "1300", "1200")),
        ("1250", -2, ("1300", "1300", "1200")),
        ("2.345", 2, ("2.35", "2.35", "2.34")),
        ("-2.5", 0, ("-3", "-2", "-3")),
        ("2.5", None, ("3", "3", "2")),
    ],
)
def test_round_units(value: str, precision: int | None, expected: tuple[str, str, str]) -> None:
    with localcontext(Context(prec=1, rounding=ROUND_DOWN, traps=[Inexact])):
        for function, result in zip(("round", "ceil", "floor"), expected, strict=True):
            assert str(round_units(Decimal(value), function, precision)) == result
    assert str(round_units(Decimal(value), None, precision)) == value


def test_round_units_refuses() -> None:
    with pytest.raises(ValueError, match="not a rounding function"):
        round_units(Decimal(1), "truncate", 2)
    with pytest.raises(ValueError, match="places"):
        round_units(Decimal(1), "ceil", -1000)
