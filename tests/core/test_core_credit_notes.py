"""Notes on an invoice that coupons have lowered: each takes its share, and all of them together what was invoiced."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.coupons import Discount, discount
from app.core.credit_notes import NoteAmounts, NoteItem, Rest, coupon_share, note_amounts
from app.core.taxes import TaxRate, invoice_taxes

quick = settings(max_examples=200, deadline=None, database=None)
VAT = TaxRate("vat", Decimal(20))


def test_by_hand() -> None:
    share = coupon_share(Decimal(4_000), 10_000, Decimal("1857.14286"))
    assert share == Decimal("742.857144")
    note = note_amounts([NoteItem(Decimal(4_000), [VAT], share)])
    assert (note.coupons_cents, note.sub_total_cents, note.taxes.amount_cents) == (743, 3_257, 651)
    assert (note.expected_cents, note.total_cents, note.taxes.rate) == (3_909, 3_908, 20)
    assert note.precise_taxes_cents == Decimal("651.4285712")


def test_the_last_note_makes_good_for_rounding() -> None:
    # 100 less 33: halves of 33.5 are both rounded up, and so is the tax on them.
    half = NoteItem(Decimal(50), [VAT], coupon_share(Decimal(50), 100, Decimal(33)))
    first = note_amounts([half])
    assert (first.sub_total_cents, first.taxes.amount_cents) == (34, 7)
    last = note_amounts([half], Rest(67 - 34, 13 - 7))
    assert (last.sub_total_cents, last.taxes.amount_cents, last.expected_cents) == (33, 6, 39)


def test_rounding_cannot_make_a_note_negative() -> None:
    last = note_amounts([NoteItem(Decimal(1), [VAT])], Rest(-1, -1))
    assert (last.sub_total_cents, last.taxes.amount_cents) == (0, 0)


def test_nothing_of_a_fee_of_nothing() -> None:
    assert coupon_share(Decimal(0), 0, Decimal(0)) == 0


@quick
@given(
    st.lists(st.tuples(st.integers(2, 10**6), st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(0, 100),
    st.integers(1, 99),
)
def test_two_notes_over_everything_come_to_the_invoice(fees: list[tuple[int, int]], off: int, part: int) -> None:
    sub_total = sum(cents for cents, _ in fees)
    after = discount([Decimal(cents) for cents, _ in fees], sub_total, [Discount(rate=Decimal(off))])
    sub_total -= after.credits_cents[0]
    rates = [[TaxRate(str(rate), Decimal(rate))] for _, rate in fees]
    taxes = invoice_taxes(list(zip(after.fees_left, rates, strict=True)), sub_total)

    def note(amounts: list[int], rest: Rest | None = None) -> NoteAmounts:
        items = [
            NoteItem(Decimal(amount), own, coupon_share(Decimal(amount), cents, cents - left))
            for amount, (cents, _), left, own in zip(amounts, fees, after.fees_left, rates, strict=True)
        ]
        return note_amounts(items, rest)

    some = [cents * part // 100 for cents, _ in fees]
    first = note(some)
    others = [cents - amount for amount, (cents, _) in zip(some, fees, strict=True)]
    alone = note(others)
    last = note(others, Rest(sub_total - first.sub_total_cents, taxes.amount_cents - first.taxes.amount_cents))
    assert first.sub_total_cents + last.sub_total_cents == max(sub_total, first.sub_total_cents)
    assert first.taxes.amount_cents + last.taxes.amount_cents == max(taxes.amount_cents, first.taxes.amount_cents)
    assert abs(last.sub_total_cents - alone.sub_total_cents) <= 1
    assert abs(last.taxes.amount_cents - alone.taxes.amount_cents) <= 1
    assert first.expected_cents - first.total_cents in {-1, 0, 1}
