from decimal import ROUND_CEILING, ROUND_DOWN, Context, Decimal, Inexact, getcontext, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import money

quick = settings(max_examples=240, deadline=None, database=None)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=18)
short = st.builds(lambda n, p: Decimal(n).scaleb(-p), st.integers(-(10**24), 10**24), st.integers(0, 18))


@pytest.mark.parametrize(
    ("codes", "places"),
    [
        ("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF", 0),
        ("EUR USD GBP CHF HUF MGA INR BRL", 2),
        ("BHD IQD JOD KWD LYD OMR TND", 3),
        ("CLF", 4),
    ],
)
def test_exponents(codes: str, places: int) -> None:
    for code in codes.split():
        assert money.is_currency(code)
        assert money.exponent(code) == places


@pytest.mark.parametrize(
    "code", ["XAU", "XAG", "XPT", "XDR", "XXX", "XTS", "MRO", "HRK", "eur", "EUR ", "", "ABC", "€"]
)
def test_rejected_currencies(code: str) -> None:
    assert not money.is_currency(code)
    with pytest.raises(money.UnknownCurrency):
        money.exponent(code)
    with pytest.raises(money.UnknownCurrency):
        money.to_minor(Decimal(1), code)
    assert issubclass(money.UnknownCurrency, ValueError)


@pytest.mark.parametrize(
    ("value", "places", "half_up", "ceil", "floor"),
    [
        ("1234.5", -2, "1200", "1300", "1200"),
        ("1250", -2, "1300", "1300", "1200"),
        ("2.345", 2, "2.35", "2.35", "2.34"),
        ("-2.5", 0, "-3", "-2", "-3"),
        ("2.5", 0, "3", "3", "2"),
        ("-0.4", 0, "0", "0", "-1"),
        ("7", 3, "7", "7", "7"),
        ("0.00", 1, "0.0", "0.0", "0.0"),
        ("49", -2, "0", "100", "0"),
        ("50", -2, "100", "100", "0"),
        ("1", -50, "0", "1" + "0" * 50, "0"),
    ],
)
def test_rounding_table(value: str, places: int, half_up: str, ceil: str, floor: str) -> None:
    x = Decimal(value)
    assert str(money.round_half_up(x, places)) == half_up
    assert str(money.ceil_to(x, places)) == ceil
    assert str(money.floor_to(x, places)) == floor


@pytest.mark.parametrize(("value", "places"), [("1", -51), ("1", -(10**30)), ("NaN", 2), ("Infinity", 0), ("sNaN", 0)])
def test_rounding_refuses(value: str, places: int) -> None:
    for rounding in (money.round_half_up, money.ceil_to, money.floor_to):
        with pytest.raises(ValueError, match="places"):
            rounding(Decimal(value), places)


def test_rounding_to_very_many_places_changes_nothing() -> None:
    assert money.round_half_up(Decimal("1.25"), 10**30) == Decimal("1.25")


@quick
@given(short, st.integers(-12, 20))
def test_rounding_is_nearest(x: Decimal, places: int) -> None:
    step = Fraction(10) ** -places
    exact = Fraction(x)
    near, up, down = (Fraction(f(x, places)) for f in (money.round_half_up, money.ceil_to, money.floor_to))
    assert all((value / step).denominator == 1 or value == exact for value in (near, up, down))
    assert down <= exact <= up
    assert up - exact < step
    assert exact - down < step
    assert abs(near - exact) * 2 <= step
    if abs(near - exact) * 2 == step:
        assert abs(near) > abs(exact)
    assert money.round_half_up(x.copy_negate(), places) == money.round_half_up(x, places).copy_negate()
    assert money.round_half_up(money.round_half_up(x, places), places) == money.round_half_up(x, places)


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "billed"),
    [
        ("12.5", "JPY", "12.5", 13),
        ("1.2345", "KWD", "1234.5", 1235),
        ("0.00005", "CLF", "0.5", 1),
        ("12.3475", "EUR", "1234.75", 1235),
        ("0.0049", "USD", "0.49", 0),
        ("-0.005", "EUR", "-0.5", -1),
    ],
)
def test_minor_units(amount: str, currency: str, minor: str, billed: int) -> None:
    precise = money.to_minor(Decimal(amount), currency)
    assert precise == Decimal(minor)
    assert money.minor_int(precise) == billed
    assert money.from_minor(precise, currency) == Decimal(amount)


def test_from_minor_takes_integers() -> None:
    assert money.from_minor(1235, "EUR") == Decimal("12.35")
    assert money.from_minor(10**40 + 1, "KWD") == Decimal("1" + "0" * 37 + ".001")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10", "10.0"),
        ("0.250", "0.25"),
        ("1E+3", "1000.0"),
        ("1E-7", "0.0000001"),
        ("-0", "0.0"),
        ("-0.000", "0.0"),
        ("-1.50", "-1.5"),
        ("0", "0.0"),
        ("100", "100.0"),
        ("21.66666666666666666667", "21.66666666666666666667"),
    ],
)
def test_decimal_text(value: str, text: str) -> None:
    assert money.decimal_text(Decimal(value)) == text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_decimal_text_refuses(value: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        money.decimal_text(Decimal(value))


@quick
@given(st.one_of(decimals, short, st.decimals(allow_nan=False, allow_infinity=False)))
def test_decimal_text_round_trips(x: Decimal) -> None:
    if abs(x.adjusted()) > 2000:
        return
    text = money.decimal_text(x)
    assert Decimal(text) == x
    whole, fraction = text.split(".")
    assert whole.removeprefix("-").isdigit()
    assert fraction.isdigit()
    assert fraction == "0" or not fraction.endswith("0")
    assert Decimal(text) != 0 or not text.startswith("-")


def test_callers_context_has_no_influence() -> None:
    hostile = Context(prec=3, rounding=ROUND_DOWN, Emin=-5, Emax=5, traps=[Inexact])
    x = Decimal("123456789.123456785")
    with localcontext(hostile):
        assert str(money.round_half_up(x, 8)) == "123456789.12345679"
        assert str(money.to_minor(x, "EUR")) == "12345678912.3456785"
        assert str(money.from_minor(x, "EUR")) == "1234567.89123456785"
        assert money.minor_int(Decimal("123456.5")) == 123457
        assert money.decimal_text(x) == "123456789.123456785"
        with money.exact() as context:
            assert context.prec == money.PRECISION
            assert str(Decimal(2) / 3).endswith("67")
        assert getcontext().prec == 3
    with localcontext(Context(rounding=ROUND_CEILING)):
        assert str(money.round_half_up(Decimal("-0.4"))) == "0"


def test_exact_raises_instead_of_giving_nan() -> None:
    with money.exact(), pytest.raises(ArithmeticError):
        _ = Decimal(1) / Decimal(0)
