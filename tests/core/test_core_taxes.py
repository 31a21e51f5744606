from decimal import ROUND_UP, Context, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.taxes import TaxLine, TaxRate, fee_taxes, invoice_taxes

quick = settings(max_examples=240, deadline=None, database=None)
VAT, CITY = TaxRate("vat", Decimal(20)), TaxRate("city", Decimal("5.5"))
BASES = [Decimal("8142.85714"), Decimal("2714.01429"), Decimal("543.12857")]


def test_fee_with_two_taxes() -> None:
    taxes = fee_taxes(Decimal(1235), Decimal("1234.75"), [VAT, CITY])
    assert taxes.lines == [("vat", 247), ("city", 68)]
    assert taxes.amount_cents == 315
    assert taxes.precise_amount_cents == Decimal("314.86125")
    assert taxes.rate == Decimal("25.5")


def test_fee_total_is_not_the_sum_of_its_lines() -> None:
    taxes = fee_taxes(Decimal(10), Decimal(10), [TaxRate("a", Decimal(5)), TaxRate("b", Decimal(5))])
    assert taxes.lines == [("a", 1), ("b", 1)]
    assert taxes.amount_cents == 1


def test_fee_without_tax() -> None:
    taxes = fee_taxes(Decimal(10), Decimal(10), [])
    assert (taxes.lines, taxes.amount_cents, taxes.precise_amount_cents, taxes.rate) == ([], 0, 0, 0)


@pytest.mark.parametrize(("base", "billed"), [*zip(BASES, [1_629, 543, 109], strict=True)])
def test_worked_example_fees(base: Decimal, billed: int) -> None:
    assert fee_taxes(base, base, [VAT]).amount_cents == billed


def test_worked_example_invoice() -> None:
    taxes = invoice_taxes([(base, [VAT]) for base in BASES], 11_400)
    assert taxes.lines == [TaxLine("vat", 2_280, 11_400)]
    assert (taxes.amount_cents, taxes.rate) == (2_280, 20)


def test_worked_example_with_a_tax_on_one_fee() -> None:
    rates = [[VAT, CITY], [VAT], [VAT]]
    with localcontext(Context(prec=3, rounding=ROUND_UP)):
        taxes = invoice_taxes(list(zip(BASES, rates, strict=True)), 11_400)
    assert taxes.lines == [TaxLine("vat", 2_280, 11_400), TaxLine("city", 448, 8_143)]
    assert taxes.amount_cents == 2_728
    assert taxes.rate == Decimal("23.92857")


def test_lines_come_in_order_of_appearance() -> None:
    taxes = invoice_taxes([(Decimal(100), []), (Decimal(100), [CITY]), (Decimal(100), [VAT, CITY])], 300)
    assert [line.tax_id for line in taxes.lines] == ["city", "vat"]


def test_empty_sub_total_weighs_by_fees() -> None:
    taxes = invoice_taxes([(Decimal(0), [VAT, CITY]), (Decimal(0), [VAT]), (Decimal(0), [])], 0)
    assert (taxes.amount_cents, taxes.rate) == (0, Decimal("15.16667"))
    assert taxes.lines == [TaxLine("vat", 0, 0), TaxLine("city", 0, 0)]


def test_empty_invoice() -> None:
    assert invoice_taxes([], 0).rate == 0
    assert invoice_taxes([], 0).lines == []


bases = st.builds(lambda n: Decimal(n).scaleb(-5), st.integers(0, 10**14))
rates = st.lists(
    st.builds(
        lambda i, n: TaxRate(f"t{i}", Decimal(n).scaleb(-4)), st.integers(0, 4), st.integers(0, 10**6)
    ),
    max_size=4,
    unique_by=lambda tax: tax.id,
)  # fmt: skip


@quick
@given(bases, bases, rates)
def test_fee_taxes_are_near_the_exact_ones(base: Decimal, precise: Decimal, taxes: list[TaxRate]) -> None:
    result = fee_taxes(base, precise, taxes)
    exact = [Fraction(base) * Fraction(tax.rate) / 100 for tax in taxes]
    half = Fraction(1, 2)
    assert [tax_id for tax_id, _ in result.lines] == [tax.id for tax in taxes]
    assert all(abs(amount - value) <= half for (_, amount), value in zip(result.lines, exact, strict=True))
    assert abs(result.amount_cents - sum(exact)) <= half
    assert Fraction(result.precise_amount_cents) == Fraction(precise) * sum(Fraction(tax.rate) for tax in taxes) / 100
    assert result.rate == sum(tax.rate for tax in taxes)


@quick
@given(st.lists(st.tuples(bases, rates), max_size=6))
def test_invoice_taxes_are_near_the_exact_ones(fees: list[tuple[Decimal, list[TaxRate]]]) -> None:
    sub_total = round(sum((Fraction(base) for base, _ in fees), Fraction(0)))
    result = invoice_taxes(fees, sub_total)
    half = Fraction(1, 2)
    total = Fraction(0)
    for line in result.lines:
        exact = sum(Fraction(base) * Fraction(t.rate) / 100 for base, ts in fees for t in ts if t.id == line.tax_id)
        covered = sum(Fraction(base) for base, ts in fees for t in ts if t.id == line.tax_id)
        assert abs(line.amount_cents - exact) <= half
        assert abs(line.fees_amount_cents - covered) <= half
        total += exact
    assert {line.tax_id for line in result.lines} == {tax.id for _, taxes in fees for tax in taxes}
    assert abs(result.amount_cents - total) <= half
    if sub_total:
        assert abs(Fraction(result.rate) - total * 100 / sub_total) <= Fraction(1, 2 * 10**5)
