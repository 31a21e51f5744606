"""Metric expressions: a value computed from an event's fields, in exact decimals (metering spec 2.3).

``round(event.properties.mb / 1024, 3) * event.properties.replicas`` is parsed once and evaluated for every event. An
expression says what an event counts for, so it must mean the same wherever it runs: the language is small, has no
loops and no state, and its cost is bounded by its length.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import NamedTuple, NoReturn, TypeVar

from app.core.aggregation import read_number
from app.core.money import PRECISION, ceil_to, floor_to, round_half_up

T = TypeVar("T")

MAX_LENGTH = 2_000
"""Characters of an expression."""

MAX_DEPTH = 50
"""Parentheses and function calls within each other."""

MAX_EXPONENT = 199
"""Numbers reach 10**200 at most, far beyond what an event value can be; more is an error."""

MAX_JOINED = 10_000
"""Characters that ``concat`` may make."""

NOT_A_DECIMAL = "Expected a decimal"
DIVISION_BY_ZERO = "Division by zero"
OUT_OF_RANGE = "Number out of range"
TOO_LONG = "Text too long"

_CONTEXT = Context(
    prec=PRECISION,
    rounding=ROUND_HALF_EVEN,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)

_TOKENS = re.compile(
    r"""
    (?P<variable> event\. (?: code | timestamp | properties\.[A-Za-z][A-Za-z0-9_]* ))
    | (?P<name> [A-Za-z]+)
    | (?P<decimal> [0-9]+ (?: \.[0-9]+ )?)
    | (?P<string> '[^']*')
    | (?P<symbol> [-+*/(),])
    | (?P<space> [ ]+)
    """,
    re.VERBOSE,
)


class InvalidExpression(ValueError):
    """The text is not an expression."""


class EvaluationError(ValueError):
    """An expression has no result for this event; the text says why, for whoever sent the event."""


class _Event(NamedTuple):
    code: str
    timestamp: int
    properties: Mapping[str, str]


class _Node:
    """A part of an expression: its value for an event, as a number or as text, whichever is asked for."""

    def number(self, event: _Event) -> Decimal:
        raise NotImplementedError

    def text(self, event: _Event) -> str:
        """Plain notation, with the decimals that the arithmetic gave: 1.465 * 2 is "2.930"."""
        value = self.number(event)
        return format(value or value.copy_abs(), "f")


class Expression:
    """A parsed expression; made by ``parse``."""

    def __init__(self, root: _Node):
        self._root = root

    def evaluate(self, code: str, timestamp_ms: int, properties: Mapping[str, str]) -> str:
        """The result for an event, as text: a number in plain notation, never with an exponent, or other text.

        ``timestamp_ms`` is in milliseconds since 1970; the expression sees whole seconds. ``properties`` are texts;
        what looks like a decimal is one where a number is needed, and stays as it is where text is: an id "007" that
        is only passed on is not turned into "7". Sums, differences and products are exact up to ``PRECISION``
        significant digits, quotients have as many.

        Raises ``EvaluationError``.
        """
        try:
            return self._root.text(_Event(code, timestamp_ms // 1000, properties))
        except Overflow:
            raise EvaluationError(OUT_OF_RANGE) from None


def parse(text: str) -> Expression:
    """The expression that a text says.

    Raises ``InvalidExpression``: it breaks the grammar, is longer than ``MAX_LENGTH`` or nested deeper than
    ``MAX_DEPTH``.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"more than {MAX_LENGTH} characters")
    return Expression(_Parser(text).root())


@dataclass(frozen=True, slots=True)
class _Decimal(_Node):
    value: Decimal

    def number(self, event: _Event) -> Decimal:  # noqa: ARG002 (the same for every event)
        return self.value


class _Textual(_Node):
    """A part that is text whatever it looks like."""

    def number(self, event: _Event) -> Decimal:
        self.text(event)  # what is wrong within it is told first
        raise EvaluationError(NOT_A_DECIMAL)


@dataclass(frozen=True, slots=True)
class _String(_Textual):
    value: str

    def text(self, event: _Event) -> str:  # noqa: ARG002 (the same for every event)
        return self.value


class _Code(_Textual):
    def text(self, event: _Event) -> str:
        return event.code


class _Timestamp(_Node):
    def number(self, event: _Event) -> Decimal:
        return Decimal(event.timestamp)


@dataclass(frozen=True, slots=True)
class _Property(_Node):
    name: str

    def number(self, event: _Event) -> Decimal:
        value = read_number(self.text(event))
        if value is None:
            raise EvaluationError(NOT_A_DECIMAL)
        return _CONTEXT.plus(value)

    def text(self, event: _Event) -> str:
        value = event.properties.get(self.name)
        if value is None:
            raise EvaluationError(f"Variable: {self.name} not found")
        return value


@dataclass(frozen=True, slots=True)
class _Negative(_Node):
    operand: _Node

    def number(self, event: _Event) -> Decimal:
        return _CONTEXT.minus(self.operand.number(event))


@dataclass(frozen=True, slots=True)
class _Chain(_Node):
    """Operands of operators of one rank, taken from left to right."""

    first: _Node
    rest: tuple[tuple[Callable[[Decimal, Decimal], Decimal], _Node], ...]

    def number(self, event: _Event) -> Decimal:
        value = self.first.number(event)
        for operate, operand in self.rest:
            value = operate(value, operand.number(event))
        return value


@dataclass(frozen=True, slots=True)
class _Rounded(_Node):
    function: Callable[[Decimal, int], Decimal]
    operand: _Node
    places: _Node

    def number(self, event: _Event) -> Decimal:
        value, places = self.operand.number(event), int(self.places.number(event))
        try:
            return self.function(value, places)
        except ValueError:
            raise EvaluationError(OUT_OF_RANGE) from None


@dataclass(frozen=True, slots=True)
class _Extreme(_Node):
    function: Callable[[list[Decimal]], Decimal]
    operands: tuple[_Node, ...]

    def number(self, event: _Event) -> Decimal:
        return self.function([operand.number(event) for operand in self.operands])


@dataclass(frozen=True, slots=True)
class _Concat(_Textual):
    operands: tuple[_Node, ...]

    def text(self, event: _Event) -> str:
        parts = [operand.text(event) for operand in self.operands]
        if sum(map(len, parts)) > MAX_JOINED:
            raise EvaluationError(TOO_LONG)
        return "".join(parts)


def _divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    if not divisor:
        raise EvaluationError(DIVISION_BY_ZERO)
    return _CONTEXT.divide(dividend, divisor)


_SUMS = {"+": _CONTEXT.add, "-": _CONTEXT.subtract}
_PRODUCTS = {"*": _CONTEXT.multiply, "/": _divide}
_ROUNDINGS = {"round": round_half_up, "ceil": ceil_to, "floor": floor_to}
_EXTREMES = {"least": min, "greatest": max}
_FUNCTIONS = {
    spelled: name for name in (*_ROUNDINGS, *_EXTREMES, "concat") for spelled in (name, name.upper(), name.capitalize())
}
_DEFAULT_PLACES = _Decimal(Decimal(0))


class _Parser:
    """Recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str):
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def root(self) -> _Node:
        node = self._sum()
        self._expect("end")
        return node

    def _sum(self) -> _Node:
        return self._chain(_SUMS, self._product)

    def _product(self) -> _Node:
        return self._chain(_PRODUCTS, self._atom)

    def _chain(
        self, operators: Mapping[str, Callable[[Decimal, Decimal], Decimal]], operand: Callable[[], _Node]
    ) -> _Node:
        first = operand()
        rest = []
        while (operate := operators.get(self._kind)) is not None:
            self._next += 1
            rest.append((operate, operand()))
        return _Chain(first, tuple(rest)) if rest else first

    def _atom(self) -> _Node:
        if self._kind == "-":
            self._next += 1
            return _Negative(self._primary())
        return self._primary()

    def _primary(self) -> _Node:
        kind, text = self._tokens[self._next]
        self._next += 1
        if kind == "decimal":
            return _Decimal(Decimal(text)) if len(text) <= PRECISION else _refuse(text)
        if kind == "string":
            return _String(text[1:-1])
        if kind == "variable":
            return _variable(text)
        if kind == "name" and text in _FUNCTIONS:
            self._expect("(")
            return _call(_FUNCTIONS[text], self._within(self._arguments))
        if kind == "(":
            return self._within(self._sum)
        return _refuse(text)

    def _within(self, rule: Callable[[], T]) -> T:
        """What stands between an opening parenthesis, already taken, and its closing one."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidExpression(f"nested deeper than {MAX_DEPTH}")
        inner = rule()
        self._expect(")")
        self._depth -= 1
        return inner

    def _arguments(self) -> tuple[_Node, ...]:
        arguments = [self._sum()]
        while self._kind == ",":
            self._next += 1
            arguments.append(self._sum())
        return tuple(arguments)

    @property
    def _kind(self) -> str:
        return self._tokens[self._next][0]

    def _expect(self, kind: str) -> None:
        if self._kind != kind:
            _refuse(self._tokens[self._next][1])
        self._next += 1


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kinds and texts, an "end" last; a symbol is its own kind."""
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKENS.match(text, position)
        if match is None:
            _refuse(text[position])
        kind, token = match.lastgroup or "", match.group()
        if kind != "space":
            tokens.append((token if kind == "symbol" else kind, token))
        position = match.end()
    return [*tokens, ("end", "")]


def _variable(text: str) -> _Node:
    if text == "event.code":
        return _Code()
    if text == "event.timestamp":
        return _Timestamp()
    return _Property(text.removeprefix("event.properties."))


def _call(name: str, arguments: tuple[_Node, ...]) -> _Node:
    if name == "concat":
        return _Concat(arguments)
    if name in _EXTREMES:
        return _Extreme(_EXTREMES[name], arguments)
    if len(arguments) > 2:  # noqa: PLR2004 (the number and its places)
        raise InvalidExpression(f"{name} takes one or two arguments")
    return _Rounded(_ROUNDINGS[name], arguments[0], arguments[1] if arguments[1:] else _DEFAULT_PLACES)


def _refuse(token: str) -> NoReturn:
    raise InvalidExpression(f"unexpected {token!r}" if token else "unexpected end")
