import time
from decimal import ROUND_UP, Context, Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.charge_models import (
    SUPPORTED_MODELS,
    ChargeModel,
    Priced,
    clean_properties,
    compile_price,
    default_properties,
    fee_amounts,
    price,
    property_errors,
)
from app.core.money import UnknownCurrency, decimal_text

quick = settings(max_examples=240, deadline=None, database=None)
STANDARD, GRADUATED = ChargeModel.STANDARD, ChargeModel.GRADUATED


def tier(from_value: object, to_value: object, per_unit: object = "0.1", flat: object = "0") -> dict[str, object]:
    return {"from_value": from_value, "to_value": to_value, "per_unit_amount": per_unit, "flat_amount": flat}


def graduated(*ranges: object) -> dict[str, object]:
    return {"graduated_ranges": list(ranges)}


NEXT_BOUND = graduated(
    tier(0, 100, "0.10", "5"),
    tier(101, 1000, "0.08", "2"),
    tier(1001, None, "0.05", "0"),
)
SHARED_BOUND = graduated(
    tier("0", "100", "0.10", "5"),
    tier(Decimal("100.0"), 1000, "0.08", "2"),
    tier(1000, None, "0.05", "0"),
)
MIXED = graduated(
    tier(1, 100, "0.10", "5"),
    tier(101, "1000", "0.08", "2"),
    tier("1000", None, "0.05", "0"),
)


def test_standard() -> None:
    assert price(STANDARD, {"amount": "0.25"}, Decimal(10), 3) == Priced(Decimal("2.5"), Decimal("0.25"), {})
    assert price(STANDARD, {"amount": "0.25"}, Decimal(0), 0) == Priced(Decimal(0), Decimal(0), {})
    assert price(STANDARD, {"amount": "2"}, Decimal("-1.5"), 1).amount == -3


@pytest.mark.parametrize("properties", [NEXT_BOUND, SHARED_BOUND, MIXED])
@pytest.mark.parametrize(
    ("units", "amount"), [("0", "5"), ("100", "15"), ("100.5", "17.04"), ("250", "29"), ("1500", "114"), ("1000", "89")]
)
def test_graduated_table(properties: dict[str, object], units: str, amount: str) -> None:
    priced = price(GRADUATED, properties, Decimal(units), 1)
    assert priced.amount == Decimal(amount)
    if units == "0":
        assert priced.unit_amount == 0
    else:
        assert abs(priced.unit_amount * Decimal(units) - priced.amount) < Decimal("1e-20")


def test_graduated_details() -> None:
    assert price(GRADUATED, NEXT_BOUND, Decimal("100.5"), 1).amount_details == {
        "graduated_ranges": [
            {
                "from_value": 0,
                "to_value": 100,
                "flat_unit_amount": "5.0",
                "per_unit_amount": "0.1",
                "units": "100.0",
                "per_unit_total_amount": "10.0",
                "total_with_flat_amount": "15.0",
            },
            {
                "from_value": 101,
                "to_value": 1000,
                "flat_unit_amount": "2.0",
                "per_unit_amount": "0.08",
                "units": "0.5",
                "per_unit_total_amount": "0.04",
                "total_with_flat_amount": "2.04",
            },
        ]
    }


def test_graduated_details_without_usage() -> None:
    for units in ("0", "-3"):
        assert price(GRADUATED, MIXED, Decimal(units), 0).amount_details == {
            "graduated_ranges": [
                {
                    "from_value": 1,
                    "to_value": 100,
                    "flat_unit_amount": "5.0",
                    "per_unit_amount": "0.0",
                    "units": "0.0",
                    "per_unit_total_amount": "0.0",
                    "total_with_flat_amount": "5.0",
                }
            ]
        }


def test_bounds_are_shown_as_configured() -> None:
    details: Any = price(GRADUATED, SHARED_BOUND, Decimal(5000), 1).amount_details
    shown = [(entry["from_value"], entry["to_value"]) for entry in details["graduated_ranges"]]
    assert [(type(low), type(high)) for low, high in shown] == [(str, str), (Decimal, int), (int, type(None))]


money_text = st.builds(lambda n, p: decimal_text(Decimal(n).scaleb(-p)), st.integers(0, 10**6), st.integers(0, 9))
tables = st.lists(st.tuples(st.integers(1, 12), money_text, money_text), min_size=1, max_size=5)


def ranges_of(table: list[tuple[int, str, str]], step: int) -> dict[str, object]:
    """Tiers of the given widths; each starts at the previous end plus ``step``. Widths grow past 1 so that both
    notations stay valid.
    """
    ranges, lower = [], 0
    for position, (width, per_unit, flat) in enumerate(table):
        upper = lower + width + 1
        last = position == len(table) - 1
        ranges.append(tier(lower + step if position else 0, None if last else upper, per_unit, flat))
        lower = upper
    return graduated(*ranges)


def naive_graduated(table: list[tuple[int, str, str]], units: int) -> Fraction:
    """Price unit after unit, each at the tier it falls in."""
    uppers, upper = [], 0
    for width, _, _ in table:
        upper += width + 1
        uppers.append(upper)
    total = Fraction(table[0][2])
    entered = 0
    for unit in range(1, units + 1):
        position = next((i for i, bound in enumerate(uppers[:-1]) if unit <= bound), len(table) - 1)
        while entered < position:
            entered += 1
            total += Fraction(table[entered][2])
        total += Fraction(table[position][1])
    return total


@quick
@given(tables, st.integers(0, 70))
def test_graduated_is_the_per_unit_price(table: list[tuple[int, str, str]], units: int) -> None:
    expected = naive_graduated(table, units)
    for step in (0, 1):
        assert Fraction(price(GRADUATED, ranges_of(table, step), Decimal(units), 1).amount) == expected


@quick
@given(tables, st.decimals(0, 70, places=4), st.decimals(0, 70, places=4))
def test_graduated_is_monotone_and_adds_up(table: list[tuple[int, str, str]], one: Decimal, other: Decimal) -> None:
    shared, following = (compile_price(GRADUATED, ranges_of(table, step)) for step in (0, 1))
    low, high = sorted((one, other))
    assert shared(low, 1).amount == following(low, 1).amount
    assert shared(low, 1).amount <= shared(high, 1).amount
    details: Any = shared(high, 1).amount_details
    entries = details["graduated_ranges"]
    assert sum(Fraction(entry["units"]) for entry in entries) == Fraction(high)
    assert sum(Fraction(entry["total_with_flat_amount"]) for entry in entries) == Fraction(shared(high, 1).amount)


@quick
@given(tables, st.integers(1, 4))
def test_graduated_jumps_by_the_flat_amount_only(table: list[tuple[int, str, str]], index: int) -> None:
    if index >= len(table):
        return
    priced = compile_price(GRADUATED, ranges_of(table, 1))
    bound = Decimal(sum(width + 1 for width, _, _ in table[:index]))
    tiny = Decimal("1e-9")
    jump = priced(bound + tiny, 1).amount - priced(bound, 1).amount
    assert jump == Decimal(table[index][2]) + tiny * Decimal(table[index][1])


@quick
@given(money_text, st.decimals(0, 10**9, places=9))
def test_one_open_tier_is_the_standard_price(amount: str, units: Decimal) -> None:
    standard = price(STANDARD, {"amount": amount}, units, 1)
    assert price(GRADUATED, graduated(tier(0, None, amount)), units, 1).amount == standard.amount


def test_callers_context_has_no_influence() -> None:
    many = Decimal("1234.56789")
    free = [price(GRADUATED, NEXT_BOUND, many, 1), price(STANDARD, {"amount": "1.23456"}, many, 1)]
    with localcontext(Context(prec=2, rounding=ROUND_UP, traps=[Inexact])):
        bound = [price(GRADUATED, NEXT_BOUND, many, 1), price(STANDARD, {"amount": "1.23456"}, many, 1)]
        fees = [fee_amounts(Decimal(7), priced, "EUR") for priced in bound]
    assert free == bound
    assert fees == [fee_amounts(Decimal(7), priced, "EUR") for priced in free]


@pytest.mark.parametrize("model", sorted(set(ChargeModel) - SUPPORTED_MODELS))
def test_unsupported_models(model: ChargeModel) -> None:
    for call in (property_errors, compile_price):
        with pytest.raises(ValueError, match="not supported"):
            call(model, default_properties(model))
    with pytest.raises(ValueError, match="not supported"):
        price(model, default_properties(model), Decimal(1), 1)


def test_invalid_properties_cannot_be_priced() -> None:
    with pytest.raises(ValueError, match="invalid_amount"):
        price(STANDARD, {}, Decimal(1), 1)
    with pytest.raises(ValueError, match="missing_graduated_ranges"):
        compile_price(GRADUATED, {})


GOOD_AMOUNTS = ["0", "0.0", "10", "2.50", ".5", "007", "999999999999999.999999999999999"]
BAD_AMOUNTS: list[object] = [
    None, 1, Decimal(1), True, False, [], ["1"], {}, {"a": "1"},
    "", " ", " 1", "1 ", "1\n", "-1", "+1", "-0.1", "abc", "NaN", "Infinity", "1e3", "1_0", "1,5", "1.", ".", "0x1",
    "\u0661", "\u00bd", "9" * 16, "9" * 400, "0." + "1" * 16, "0." + "1" * 400,
]  # fmt: skip


@pytest.mark.parametrize("amount", GOOD_AMOUNTS)
def test_good_amounts(amount: str) -> None:
    assert property_errors(STANDARD, {"amount": amount}) == []
    assert property_errors(GRADUATED, graduated(tier(0, None, amount, amount))) == []
    assert Fraction(price(STANDARD, {"amount": amount}, Decimal(2), 1).amount) == 2 * Fraction(Decimal(amount))


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_bad_amounts(amount: object) -> None:
    assert property_errors(STANDARD, {"amount": amount}) == ["invalid_amount"]
    assert property_errors(GRADUATED, graduated(tier(0, 5, amount), tier(6, None, amount))) == ["invalid_amount"]
    assert property_errors(GRADUATED, graduated(tier(0, None, "1", amount))) == ["invalid_amount"]


@pytest.mark.parametrize(
    "bounds",
    [
        [(0, None)],
        [(1, None)],
        [("0", None)],
        [(0, 10), (10, None)],
        [(0, 10), (11, None)],
        [(1, 10), (11, 20), (20, None)],
        [(0, "10.5"), ("11.5", Decimal("20.25")), (Decimal("20.25"), None)],
        [(0, Decimal("1E+3")), (1000, None)],
        [(0, 1), (1, 2), (2, None)],
    ],
)
def test_good_ranges(bounds: list[tuple[object, object]]) -> None:
    assert property_errors(GRADUATED, graduated(*(tier(*pair) for pair in bounds))) == []


@pytest.mark.parametrize(
    "bounds",
    [
        [(0, 10)],
        [(2, None)],
        [(-1, None)],
        [("0.5", None)],
        [(None, None)],
        [(0, None), (1, None)],
        [(0, 10), (12, None)],
        [(0, 10), (9, None)],
        [(0, 10), (5, 20), (21, None)],
        [(11, None), (0, 10)],
        [(0, 10), ("10.5", None)],
        [(0, 10), (11, 11), (12, None)],
        [(0, 0), (0, None)],
        [(0, 10), (11, 5), (6, None)],
        [(0, True), (1, None)],
        [(False, None)],
        [(0, "x"), (1, None)],
        [(0, "1e2"), (101, None)],
        [(0, "9" * 400), (1, None)],
        [(0, 10**400), (10**400, None)],
        [(0, Decimal("1e999999999")), (1, None)],
        [(0, Decimal("NaN")), (1, None)],
        [(0, Decimal("0." + "1" * 19)), (1, None)],
        [(0, 10), ([], None)],
        [(0, {}), (1, None)],
        [(0, ""), (1, None)],
        [(0, 10), (11, "")],
    ],
)
def test_bad_ranges(bounds: list[tuple[object, object]]) -> None:
    assert property_errors(GRADUATED, graduated(*(tier(*pair) for pair in bounds))) == ["invalid_graduated_ranges"]


def test_a_binary_bound_is_refused() -> None:
    binary = __import__("json").loads("10.5")
    assert property_errors(GRADUATED, graduated(tier(0, binary), tier(binary, None))) == ["invalid_graduated_ranges"]


@pytest.mark.parametrize(
    ("properties", "errors"),
    [
        ({}, ["missing_graduated_ranges"]),
        ({"graduated_ranges": None}, ["missing_graduated_ranges"]),
        ({"graduated_ranges": []}, ["missing_graduated_ranges"]),
        ({"graduated_ranges": {}}, ["invalid_graduated_ranges"]),
        ({"graduated_ranges": "0-10"}, ["invalid_graduated_ranges"]),
        ({"graduated_ranges": [1]}, ["invalid_graduated_ranges"]),
        ({"graduated_ranges": [[tier(0, None)]]}, ["invalid_graduated_ranges"]),
        ({"graduated_ranges": [None]}, ["invalid_graduated_ranges"]),
        (graduated(tier(0, 10, 1), tier(12, None, 2)), ["invalid_graduated_ranges", "invalid_amount"]),
        (graduated({}), ["invalid_graduated_ranges", "invalid_amount"]),
        ({**graduated(tier(0, 1, 1)), "pricing_group_keys": 3},
         ["invalid_graduated_ranges", "invalid_amount", "invalid_type"]),
    ],
)  # fmt: skip
def test_graduated_errors(properties: dict[str, object], errors: list[str]) -> None:
    assert property_errors(GRADUATED, properties) == errors


@pytest.mark.parametrize("keys", [None, [], ["region"], ["region", "tier"]])
def test_good_grouping(keys: object) -> None:
    assert property_errors(STANDARD, {"amount": "1", "pricing_group_keys": keys}) == []


@pytest.mark.parametrize("keys", ["region", {"a": 1}, [1], [None], [""], ["a", ""], [["a"]], 0, False, True])
def test_bad_grouping(keys: object) -> None:
    assert property_errors(STANDARD, {"amount": "1", "pricing_group_keys": keys}) == ["invalid_type"]
    assert property_errors(STANDARD, {"amount": 1, "pricing_group_keys": keys}) == ["invalid_amount", "invalid_type"]


def test_legacy_grouping() -> None:
    assert property_errors(STANDARD, {"amount": "1", "grouped_by": ["a", ""]}) == []
    assert property_errors(STANDARD, {"amount": "1", "grouped_by": [1]}) == ["invalid_type"]
    assert clean_properties(STANDARD, {"amount": "1", "grouped_by": ["a", "", "b"]}) == {
        "amount": "1",
        "pricing_group_keys": ["a", "b"],
    }
    both = {"amount": "1", "grouped_by": ["a"], "pricing_group_keys": ["b"]}
    assert clean_properties(STANDARD, both) == {"amount": "1", "pricing_group_keys": ["b"]}
    assert clean_properties(STANDARD, {"amount": "1", "grouped_by": [""]}) == {"amount": "1"}
    assert clean_properties(STANDARD, {"grouped_by": "a"}) == {"pricing_group_keys": "a"}


@pytest.mark.parametrize(
    ("keys", "errors"),
    [
        ([{"value": "a"}], []),
        ([{"value": "a", "options": {}}, {"value": "b", "options": {"display_in_invoice": True}}], []),
        ([{"value": "a"}, {"value": "a"}], ["value_is_duplicated"]),
        ([{"value": "a"}, {"value": "b"}, {"value": "c"}], ["too_many_keys"]),
        ([{"value": "a"}, {"value": "b"}, {"value": "a"}], ["too_many_keys", "value_is_duplicated"]),
        (["a"], ["invalid_type"]),
        ([{"value": 1}], ["invalid_type"]),
        ([{"value": "a", "other": 1}], ["invalid_type"]),
        ([{"value": "a", "options": {"display_in_invoice": "yes"}}], ["invalid_type"]),
        ([{"value": "a", "options": {"x": True}}], ["invalid_type"]),
        ([{"value": "a", "options": None}], ["invalid_type"]),
        ("a", ["invalid_type"]),
    ],
)
def test_presentation_keys(keys: object, errors: list[str]) -> None:
    assert property_errors(STANDARD, {"amount": "1", "presentation_group_keys": keys}) == errors


def test_clean_properties() -> None:
    sent: dict[str, object] = {
        "amount": "1",
        "rate": "2",
        "graduated_ranges": [{**tier(0, None), "junk": {"deep": [1]}}, 7],
        "presentation_group_keys": [{"value": "a"}],
        "pricing_group_keys": [],
        "junk": 1,
    }
    kept = {"presentation_group_keys": [{"value": "a"}]}
    assert clean_properties(STANDARD, sent) == {"amount": "1", **kept}
    assert clean_properties(GRADUATED, sent) == {"graduated_ranges": [tier(0, None), 7], **kept}
    assert clean_properties(GRADUATED, sent, on_filter=True) == {"graduated_ranges": [tier(0, None), 7]}
    assert clean_properties(ChargeModel.PERCENTAGE, sent) == {"rate": "2", **kept}
    assert clean_properties(GRADUATED, {"graduated_ranges": "x"}) == {"graduated_ranges": "x"}


def test_default_properties() -> None:
    assert default_properties(STANDARD) == {"amount": "0"}
    assert default_properties(GRADUATED) == graduated(tier(0, None, "0", "0"))
    for model in ChargeModel:
        properties = default_properties(model)
        assert clean_properties(model, properties) == properties
        assert default_properties(model) is not properties
    for model in SUPPORTED_MODELS:
        assert property_errors(model, default_properties(model)) == []
        assert price(model, default_properties(model), Decimal(12), 1).amount == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=8) | st.sampled_from(["0", "1", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["from_value", "to_value", "per_unit_amount", "flat_amount", "value", "options", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
property_names = st.sampled_from(
    ["amount", "graduated_ranges", "pricing_group_keys", "grouped_by", "presentation_group_keys", "x"]
)


@quick
@given(st.sampled_from(sorted(SUPPORTED_MODELS)), st.dictionaries(property_names, json_values, max_size=5))
def test_any_json_is_judged(model: ChargeModel, properties: dict[str, object]) -> None:
    cleaned = clean_properties(model, properties)
    errors = property_errors(model, properties)
    assert len(errors) == len(set(errors))
    if not errors:
        assert property_errors(model, cleaned) == []
        assert price(model, cleaned, Decimal(3), 1).amount >= 0


def test_deep_nesting_and_long_texts_are_cheap() -> None:
    deep: object = "1"
    for _ in range(50_000):
        deep = [deep]
    began = time.perf_counter()
    for value in (deep, "9" * 5_000_000, {"a": deep}):
        property_errors(STANDARD, {"amount": value, "pricing_group_keys": value, "presentation_group_keys": value})
        property_errors(GRADUATED, graduated(tier(value, value, value, value)))
    assert time.perf_counter() - began < 1
    while isinstance(deep, list):  # taken apart by hand: nested deallocation is not what is tested
        deep = deep[0]


@pytest.mark.parametrize(
    ("amount", "currency", "cents", "precise"),
    [
        ("12.3475", "EUR", 1235, "1234.75"),
        ("12.5", "JPY", 13, "12.5"),
        ("1.2345", "KWD", 1235, "1234.5"),
        ("0.00005", "CLF", 1, "0.5"),
        ("0", "EUR", 0, "0"),
    ],
)
def test_fee_amounts(amount: str, currency: str, cents: int, precise: str) -> None:
    fee = fee_amounts(Decimal(15), Priced(Decimal(amount), Decimal("0.8"), {"a": 1}), currency)
    assert (fee.units, fee.amount_cents, fee.precise_unit_amount) == (15, cents, Decimal("0.8"))
    assert fee.precise_amount_cents == Decimal(precise)
    assert fee.amount_details == {"a": 1}


@pytest.mark.parametrize(("units", "amount"), [("-1", "5"), ("1", "-5"), ("-1", "-5")])
def test_negative_fees_are_zero(units: str, amount: str) -> None:
    fee = fee_amounts(Decimal(units), Priced(Decimal(amount), Decimal(5), {"a": 1}), "EUR")
    assert (fee.units, fee.amount_cents, fee.precise_amount_cents, fee.precise_unit_amount) == (0, 0, 0, 0)
    assert fee.amount_details == {}


def test_fee_needs_a_currency() -> None:
    with pytest.raises(UnknownCurrency):
        fee_amounts(Decimal(-1), Priced(Decimal(1), Decimal(1), {}), "XAU")
