"""Metric expressions: the grammar, what its parts give, and arithmetic held against a separate evaluation."""

import contextlib
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.expressions import (
    MAX_DEPTH,
    MAX_JOINED,
    MAX_LENGTH,
    EvaluationError,
    InvalidExpression,
    parse,
)

quick = settings(max_examples=300, deadline=None, database=None)
PROPERTIES = {
    "mb": "1500", "replicas": "2", "zero": "0", "neg": "-2.50", "exp": "1e3", "id": "007", "name": "eu-1", "empty": "",
    "flag": "true", "nan": "NaN", "inf": "Infinity", "spaced": " 1", "arabic": "\u0661", "under": "1_0", "A_b9": "4",
    "huge": "1e999999999", "tiny": "1e-999999999", "long": "1" * 200, "code": "x", "blob": "b" * MAX_JOINED,
}  # fmt: skip


def result(text: str, **properties: str) -> str:
    return parse(text).evaluate("calls", 1_714_500_000_987, {**PROPERTIES, **properties})


def p(name: str) -> str:
    return f"event.properties.{name}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"round({p('mb')} / 1024, 3) * {p('replicas')}", "2.930"),
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 4 - 3", "3"),
        ("64 / 4 / 2 * 3", "24"),
        ("2 * -3", "-6"),
        ("1 - -1", "2"),
        ("-(1 + 2)", "-3"),
        ("-round(2.5)", "-3"),
        ("  1+1  ", "2"),
        ("1+1", "2"),
        ("round  ( 2.345 ,2 )", "2.35"),
        ("007", "7"),
        ("1.50", "1.50"),
        ("0.1 + 0.2", "0.3"),
        ("-0", "0"),
        ("0 * -1", "0"),
        ("1 / 8", "0.125"),
        ("1 / 3", "0." + "3" * 100),
        ("2 / 3 * 3", "2." + "0" * 99),
        ("100000000000000000000000000000 * 10", "1000000000000000000000000000000"),
        (f"{p('exp')} * 1", "1000"),
        (f"{p('A_b9')} * 2", "8"),
        (f"{p('tiny')} + 1 - 1", "0." + "0" * 99),
        ("event.timestamp", "1714500000"),
        ("event.timestamp / 60", "28575000"),
        ("event.code", "calls"),
        ("''", ""),
        ("'1 + 1'", "1 + 1"),
        ("'a\nb\"'", 'a\nb"'),
    ],
)
def test_results(text: str, expected: str) -> None:
    assert result(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("ceil(2.1)", "3"),
        ("ceil(-2.9)", "-2"),
        ("floor(2.9)", "2"),
        ("floor(-2.1)", "-3"),
        ("round(2.345, 2)", "2.35"),
        ("ceil(2.341, 2)", "2.35"),
        ("floor(-2.341, 2)", "-2.35"),
        ("round(1550, -2)", "1600"),
        ("ceil(1, -1)", "10"),
        ("floor(19, -1)", "10"),
        ("round(2.345, 1.99)", "2.3"),
        ("round(2.345, -0.9)", "2"),
        ("round(2, 3)", "2"),
        ("round(2.5, 1000000)", "2.5"),
        ("round(2.5, 10000000000000000000000000000000000000000)", "2.5"),
        ("round(5, -50)", "0"),
        (f"round({p('neg')})", "-3"),
        (f"round(1 / 3, {p('replicas')})", "0.33"),
        ("least(3, 1.50, 2)", "1.50"),
        ("greatest(3, 1.5, -2)", "3"),
        ("least(1)", "1"),
        (f"greatest({p('neg')}, 0)", "0"),
        ("concat('a', 1 / 4, 'b', event.code)", "a0.25bcalls"),
        ("concat('a')", "a"),
        (f"concat({p('name')}, '/', {p('id')})", "eu-1/007"),
        ("concat('x', round(1.5))", "x2"),
    ],
)
def test_functions(text: str, expected: str) -> None:
    assert result(text) == expected
    name, rest = text.split("(", 1)
    assert result(f"{name.upper()}({rest}") == expected
    assert result(f"{name.capitalize()}({rest}") == expected


@pytest.mark.parametrize("name", ["id", "exp", "name", "empty", "nan", "long", "blob"])
def test_a_property_that_is_only_passed_on_keeps_its_text(name: str) -> None:
    assert result(p(name)) == PROPERTIES[name]
    assert result(f"concat({p(name)})") == PROPERTIES[name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((f"{p(name)} + 1", "Expected a decimal") for name in (
            "name", "empty", "flag", "nan", "inf", "spaced", "arabic", "under", "long",
        )),
        ("'5' + 1", "Expected a decimal"),
        ("1 * '5'", "Expected a decimal"),
        ("-'5'", "Expected a decimal"),
        ("event.code * 1", "Expected a decimal"),
        ("round('5')", "Expected a decimal"),
        ("round(5, '1')", "Expected a decimal"),
        ("least(1, 'a')", "Expected a decimal"),
        ("concat('1') + 1", "Expected a decimal"),
        (p("missing"), "Variable: missing not found"),
        (f"1 + {p('missing')}", "Variable: missing not found"),
        (f"concat('a', {p('missing')})", "Variable: missing not found"),
        (f"1 + concat({p('missing')})", "Variable: missing not found"),
        ("1 / 0", "Division by zero"),
        ("0 / 0", "Division by zero"),
        (f"1 / {p('zero')}", "Division by zero"),
        (f"1 / ({p('mb')} - 1500.00)", "Division by zero"),
        (f"{p('huge')} + 1", "Number out of range"),
        ("*".join(["9" * 90] * 3), "Number out of range"),
        ("round(5, -51)", "Number out of range"),
        ("round(5, -1000000000000)", "Number out of range"),
        (f"concat({p('blob')}, 'b')", "Text too long"),
    ],
)  # fmt: skip
def test_what_has_no_result_says_why(text: str, reason: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        result(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+", "1 +", "* 1", "+1", "--1", "- -1", "1 2", "1 (2)", "(1", "1)", "()", "1..2", ".5", "5.", "1e3",
        "1.2.3", "1,2", "'a", "a'", "'it''s'", "\"a\"", "a", "event", "event.", "event.name", "event.codes", "event.code.x",
        "event . code", "event.properties", "event.properties.", "event.properties.1a", "event.properties._a",
        "event.properties.a-b", "event.properties.a.b", "event.properties.\u00e9", "Event.code", "round", "round()",
        "round(1,2,3)", "ceil(1,2,3)", "floor(,1)", "round(1,)", "least()", "concat()", "abs(1)", "rOUND(1)", "rounder(1)",
        "1\t+ 1", "1\n+ 1", "1 +\u00a01", "\u0661", "1 % 2", "1 ^ 2", "1 = 1", "#", "\x00", "1;1", "9" * 101,
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(InvalidExpression):
        parse(text)


@pytest.mark.parametrize(
    ("opened", "closed"), [("(", ")"), ("-(", ")"), ("round(", ")"), ("concat('',", ")"), ("1 + 2 * (", ")")]
)
def test_depth_is_limited(opened: str, closed: str) -> None:
    result(opened * MAX_DEPTH + "1" + closed * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 300, 10_000):
        for text in (opened * depth + "1" + closed * depth, opened * depth):
            with pytest.raises(InvalidExpression):
                parse(text)


def test_length_is_limited() -> None:
    longest = "+".join(["1"] * (MAX_LENGTH // 2)) + " "
    assert len(longest) == MAX_LENGTH
    assert result(longest) == str(MAX_LENGTH // 2)
    assert result("(" + ")+(".join(["1"] * (MAX_LENGTH // 4)) + ")") == str(MAX_LENGTH // 4)
    with pytest.raises(InvalidExpression):
        parse(longest + " ")


class Tree(NamedTuple):
    """A random expression: its text, with as few parentheses as its grammar needs, and its value."""

    text: str
    rank: int
    value: Decimal | None


REFERENCE = Context(prec=100, Emax=199, Emin=-199)
SUM, PRODUCT, ATOM, PRIMARY = range(4)


def within(tree: Tree, rank: int) -> str:
    return tree.text if tree.rank >= rank else f"({tree.text})"


def binary(left: Tree, operator: str, right: Tree) -> Tree:
    rank = SUM if operator in "+-" else PRODUCT
    text = f"{within(left, rank)} {operator} {within(right, rank + 1)}"
    if left.value is None or right.value is None or (operator == "/" and not right.value):
        return Tree(text, rank, None)
    operate = {"+": REFERENCE.add, "-": REFERENCE.subtract, "*": REFERENCE.multiply, "/": REFERENCE.divide}[operator]
    return Tree(text, rank, operate(left.value, right.value))


def negative(tree: Tree) -> Tree:
    return Tree(f"-{within(tree, PRIMARY)}", ATOM, None if tree.value is None else REFERENCE.minus(tree.value))


def rounded(function: str, tree: Tree, places: int) -> Tree:
    text = f"{function}({tree.text}, {places})"
    if tree.value is None:
        return Tree(text, PRIMARY, None)
    rounding = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}[function]
    wide = Context(prec=400)
    shifted = wide.scaleb(tree.value, places).to_integral_value(rounding)
    return Tree(text, PRIMARY, wide.scaleb(shifted, -places))


def extreme(function: str, trees: list[Tree]) -> Tree:
    values = [tree.value for tree in trees]
    text = f"{function}({', '.join(tree.text for tree in trees)})"
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Tree(text, PRIMARY, None)
    return Tree(text, PRIMARY, min(known) if function == "least" else max(known))


decimals = st.decimals(min_value=0, max_value=10**6, places=3).map(
    lambda value: Tree(format(value, "f"), PRIMARY, value)
)
whole = st.integers(0, 12).map(lambda value: Tree(str(value), PRIMARY, Decimal(value)))
variables = st.sampled_from(["mb", "replicas", "zero", "neg", "exp"]).map(
    lambda name: Tree(p(name), PRIMARY, Decimal(PROPERTIES[name]))
)
trees = st.recursive(
    decimals | whole | variables,
    lambda inner: (
        st.builds(binary, inner, st.sampled_from("+-*/"), inner)
        | st.builds(negative, inner)
        | st.builds(rounded, st.sampled_from(["round", "ceil", "floor"]), inner, st.integers(-4, 6))
        | st.builds(extreme, st.sampled_from(["least", "greatest"]), st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=12,
)


@quick
@given(trees)
def test_arithmetic_is_that_of_decimals(tree: Tree) -> None:
    if tree.value is None:
        with pytest.raises(EvaluationError, match="Division by zero"):
            result(tree.text)
        return
    text = result(tree.text)
    assert Decimal(text) == tree.value
    assert "E" not in text
    assert text != "-0"


@quick
@given(trees, st.data())
def test_spaces_between_tokens_change_nothing(tree: Tree, data: st.DataObject) -> None:
    spread = "".join(
        one.replace(" ", " " * data.draw(st.integers(0, 3))) if one == " " else one
        for one in tree.text.replace("(", " ( ").replace(",", " , ")
    )
    if tree.value is not None:
        assert result(spread) == result(tree.text)


@quick
@given(st.text("0123456789.+-*/(),' abceilrounvtpsgdm\t_" + "\u00e9", max_size=60))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        expression = parse(text)
    except InvalidExpression:
        return
    with contextlib.suppress(EvaluationError):
        assert isinstance(expression.evaluate("c", 0, {}), str)
