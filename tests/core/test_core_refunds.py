"""What credit notes come to, all of those of an invoice together, and what an early end pays back."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.core.credit_notes import NoteItem, note_amounts, paid_for_unused, part_of, unused_amount
from app.core.taxes import TaxRate

cents = st.integers(0, 10**9)
rates = st.sampled_from(["0", "5.5", "7.7", "19", "20", "33.333"]).map(Decimal)


@given(st.lists(st.tuples(cents, rates), min_size=1, max_size=4), cents)
def test_amounts_brought_to_a_total_keep_their_sum(items: list[tuple[int, Decimal]], total: int) -> None:
    amounts = note_amounts([NoteItem(Decimal(amount), [TaxRate(str(rate), rate)]) for amount, rate in items])
    assert abs(amounts.total_cents - amounts.expected_cents) <= 1
    brought = amounts.coming_to(total)
    assert brought.total_cents == brought.expected_cents == total
    assert brought.taxes.amount_cents >= 0
    untaxed = note_amounts([NoteItem(Decimal(amount), []) for amount, _ in items]).coming_to(total)
    assert (untaxed.sub_total_cents, untaxed.taxes.amount_cents) == (total, 0)


@given(st.lists(cents.map(Decimal), min_size=1, max_size=5), st.data())
def test_a_part_is_spread_over_all_amounts(amounts: list[Decimal], data: st.DataObject) -> None:
    whole = int(sum(amounts)) or 1
    wanted = data.draw(st.integers(0, whole))
    parts = part_of(amounts, wanted, whole)
    assert all(0 <= part <= amount for part, amount in zip(parts, amounts, strict=True))
    short = Decimal("0.00001") * len(amounts)
    assert 0 <= min(sum(amounts), Decimal(wanted)) - sum(parts) <= short
    assert part_of(amounts, whole, whole) == amounts


def test_what_a_month_that_ends_early_pays_back() -> None:
    """30.00 in April, ended on the 16th."""
    unused = unused_amount(3_000, 30, 14, Decimal(3_000))
    assert unused == 1_400
    assert paid_for_unused(3_000, 3_000, 3_000, 1_600, 1_400) == 1_400
    assert paid_for_unused(1_500, 3_000, 3_000, 1_600, 1_400) == 0
    assert paid_for_unused(2_000, 3_000, 3_000, 1_600, 1_400) == 400
    assert paid_for_unused(6_000, 6_000, 3_000, 1_600, 1_400) == 1_400
    assert paid_for_unused(0, 0, 0, 0, 0) == 0


@given(cents, cents, cents, cents, cents)
def test_no_more_is_paid_back_than_was_paid_or_is_unused(
    paid: int, invoice: int, fee: int, used: int, unused: int
) -> None:
    back = paid_for_unused(min(paid, invoice), invoice, min(fee, invoice), used, unused)
    assert 0 <= back <= min(paid, unused)
