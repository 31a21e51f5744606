import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.aggregation import Aggregation
from app.core.charges.pricing import compile_price, price
from app.core.charges.properties import clean_properties, default_properties
from app.core.charges.usage import SUPPORTED_MODELS, ChargeModel
from app.core.charges.validation import property_errors
from tests.pricing import (
    GRADUATED,
    GRADUATED_PERCENTAGE,
    PACKAGE,
    PERCENTAGE,
    RANGES_OF,
    STANDARD,
    graduated,
    quick,
    ranged,
    spent,
    tier,
    used,
)


@pytest.mark.parametrize("model", sorted(set(ChargeModel) - SUPPORTED_MODELS))
def test_unsupported_models(model: ChargeModel) -> None:
    for call in (property_errors, compile_price):
        with pytest.raises(ValueError, match="not supported"):
            call(model, default_properties(model))
    with pytest.raises(ValueError, match="not supported"):
        price(model, default_properties(model), used(1))


def test_invalid_properties_cannot_be_priced() -> None:
    with pytest.raises(ValueError, match="invalid_amount"):
        price(STANDARD, {}, used(1))
    with pytest.raises(ValueError, match="missing_graduated_ranges"):
        compile_price(GRADUATED, {})


GOOD_AMOUNTS = ["0", "0.0", "10", "2.50", ".5", "007", "999999999999999.999999999999999"]
BAD_AMOUNTS: list[object] = [
    None, 1, Decimal(1), True, False, [], ["1"], {}, {"a": "1"},
    "", " ", " 1", "1 ", "1\n", "-1", "+1", "-0.1", "abc", "NaN", "Infinity", "1e3", "1_0", "1,5", "1.", ".", "0x1",
    "\u0661", "\u00bd", "9" * 16, "9" * 400, "0." + "1" * 16, "0." + "1" * 400,
]  # fmt: skip


def with_amount(amount: object) -> list[tuple[ChargeModel, dict[str, object], str]]:
    """Every place of an amount or a rate, and the code it fails with."""
    ranges = [
        (model, ranged(model, [tier(0, 5, price, flat), tier(6, None, price, flat)]), code)
        for model, (_, key) in RANGES_OF.items()
        for price, flat, code in [
            (amount, "1", "invalid_rate" if key == "rate" else "invalid_amount"),
            ("1", amount, "invalid_amount"),
        ]
    ]
    return [
        (STANDARD, {"amount": amount}, "invalid_amount"),
        (PACKAGE, {"amount": amount, "package_size": 1, "free_units": 0}, "invalid_amount"),
        (PERCENTAGE, {"rate": amount}, "invalid_rate"),
        *ranges,
    ]


def with_optional_amount(amount: object) -> list[tuple[ChargeModel, dict[str, object], str]]:
    """The same for those that may be left out."""
    return [
        (PERCENTAGE, {"rate": "1", "fixed_amount": amount}, "invalid_fixed_amount"),
        (
            PERCENTAGE,
            {"rate": "1", "free_units_per_total_aggregation": amount},
            "invalid_free_units_per_total_aggregation",
        ),
        (PERCENTAGE, {"rate": "1", "per_transaction_min_amount": amount}, "invalid_amount"),
        (PERCENTAGE, {"rate": "1", "per_transaction_max_amount": amount}, "invalid_amount"),
    ]


@pytest.mark.parametrize("amount", GOOD_AMOUNTS)
def test_good_amounts(amount: str) -> None:
    for model, properties, _ in with_amount(amount) + with_optional_amount(amount):
        assert property_errors(model, properties) == []
        assert price(model, properties, spent(1, 1)).amount >= 0
    assert Fraction(price(STANDARD, {"amount": amount}, used(2)).amount) == 2 * Fraction(Decimal(amount))


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_bad_amounts(amount: object) -> None:
    for model, properties, code in with_amount(amount):
        assert property_errors(model, properties) == [code]
    for model, properties, code in with_optional_amount(amount):
        absent = amount is None or (amount == "" and code == "invalid_amount")
        assert property_errors(model, properties) == ([] if absent else [code])


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"package_size": 0}, ["invalid_package_size"]),
        ({"package_size": "10"}, ["invalid_package_size"]),
        ({"package_size": Decimal("1.5")}, ["invalid_package_size"]),
        ({"package_size": True}, ["invalid_package_size"]),
        ({"package_size": None}, ["invalid_package_size"]),
        ({"package_size": 10**400}, ["invalid_package_size"]),
        ({"free_units": -1}, ["invalid_free_units"]),
        ({"free_units": None}, ["invalid_free_units"]),
        ({"free_units": False}, ["invalid_free_units"]),
        ({"free_units": "0"}, ["invalid_free_units"]),
        ({"amount": 1, "package_size": -1, "free_units": []},
         ["invalid_amount", "invalid_package_size", "invalid_free_units"]),
        ({"amount": None, "free_units": {}}, ["invalid_amount", "invalid_free_units"]),
    ],
)  # fmt: skip
def test_package_errors(changes: dict[str, object], errors: list[str]) -> None:
    assert property_errors(PACKAGE, {"amount": "1", "package_size": 10, "free_units": 0, **changes}) == errors
    assert property_errors(PACKAGE, {"amount": "1", "package_size": 10}) == ["invalid_free_units"]


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"free_units_per_events": 1}, []),
        ({"free_units_per_events": 0}, ["invalid_free_units_per_events"]),
        ({"free_units_per_events": "3"}, ["invalid_free_units_per_events"]),
        ({"free_units_per_events": True}, ["invalid_free_units_per_events"]),
        ({"free_units_per_events": Decimal(2)}, ["invalid_free_units_per_events"]),
        ({"per_transaction_min_amount": "1", "per_transaction_max_amount": "1"}, []),
        ({"per_transaction_min_amount": "1.01", "per_transaction_max_amount": "1"},
         ["per_transaction_max_lower_than_per_transaction_min"]),
        ({"per_transaction_min_amount": "2", "per_transaction_max_amount": ""}, []),
        ({"per_transaction_min_amount": "", "per_transaction_max_amount": None}, []),
        ({"per_transaction_min_amount": "2", "per_transaction_max_amount": 1}, ["invalid_amount"]),
        ({"rate": 1, "fixed_amount": 1, "free_units_per_events": -1, "free_units_per_total_aggregation": 5,
          "per_transaction_min_amount": "x"},
         ["invalid_rate", "invalid_fixed_amount", "invalid_free_units_per_events",
          "invalid_free_units_per_total_aggregation", "invalid_amount"]),
    ],
)  # fmt: skip
def test_percentage_errors(changes: dict[str, object], errors: list[str]) -> None:
    assert property_errors(PERCENTAGE, {"rate": "1", **changes}) == errors


@pytest.mark.parametrize("model", sorted(SUPPORTED_MODELS))
def test_a_rate_of_the_latest_value_is_refused(model: ChargeModel) -> None:
    refused = ["invalid_value"] if model in (PERCENTAGE, GRADUATED_PERCENTAGE) else []
    assert property_errors(model, default_properties(model), Aggregation.LATEST) == refused
    assert property_errors(model, default_properties(model), "latest_agg") == refused
    for other in set(Aggregation) - {Aggregation.LATEST}:
        assert property_errors(model, default_properties(model), other) == []


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
    for model in RANGES_OF:
        assert property_errors(model, ranged(model, (tier(*pair) for pair in bounds))) == []


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
    for model, (key, _) in RANGES_OF.items():
        assert property_errors(model, ranged(model, (tier(*pair) for pair in bounds))) == [f"invalid_{key}"]


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


@pytest.mark.parametrize("model", sorted(RANGES_OF))
def test_missing_ranges(model: ChargeModel) -> None:
    key, price_key = RANGES_OF[model]
    bad_price = "invalid_rate" if price_key == "rate" else "invalid_amount"
    for properties in ({}, {key: None}, {key: []}):
        assert property_errors(model, properties) == [f"missing_{key}"]
    for ranges in ({}, "0-10", [1], [[tier(0, None)]], [None]):
        assert property_errors(model, {key: ranges}) == [f"invalid_{key}"]
    both = list(dict.fromkeys([f"invalid_{key}", "invalid_amount", bad_price]))
    assert property_errors(model, {key: [{}]}) == both
    # Two places further on there is a hole: no range would hold the units between.
    holed = ranged(model, [tier(0, 10), tier(12, None)])
    assert property_errors(model, holed) == [f"invalid_{key}"]


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
        assert price(model, default_properties(model), used(12)).amount == 0
        assert price(model, default_properties(model), used(0, 0)).amount == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=8) | st.sampled_from(["0", "1", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["from_value", "to_value", "per_unit_amount", "rate", "flat_amount", "value", "options", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
property_names = st.sampled_from([
    *sorted({key for model in ChargeModel for key in default_properties(model)}),
    "fixed_amount", "free_units_per_events", "free_units_per_total_aggregation", "per_transaction_min_amount",
    "per_transaction_max_amount", "pricing_group_keys", "grouped_by", "presentation_group_keys", "x",
])  # fmt: skip


@quick
@given(st.sampled_from(sorted(SUPPORTED_MODELS)), st.dictionaries(property_names, json_values, max_size=5))
def test_any_json_is_judged(model: ChargeModel, properties: dict[str, object]) -> None:
    cleaned = clean_properties(model, properties)
    errors = property_errors(model, properties)
    assert len(errors) == len(set(errors))
    if not errors:
        assert property_errors(model, cleaned) == []
        assert price(model, cleaned, spent(1, 2)).amount >= 0


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
