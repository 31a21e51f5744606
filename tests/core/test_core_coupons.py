from decimal import ROUND_UP, Context, Decimal, localcontext
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.coupons import Discount, ReducedFee, credit_cents, discount
from app.core.money import minor_int
from app.core.taxes import TaxRate, invoice_taxes

quick = settings(max_examples=240, deadline=None, database=None)
EXAMPLE = [ReducedFee(10_000), ReducedFee(3_333), ReducedFee(667)]
STEP = Decimal("0.00001")

amounts = st.integers(0, 10**7)
"""Minor units of any currency: nothing here knows how many of them make a unit."""
percentages = st.builds(Discount, rate=st.decimals("0.01", "150", places=2))
fixed = st.builds(Discount, amount_cents=st.integers(1, 10**7))


def limited(coupon: Discount, places: list[int]) -> Discount:
    return Discount(coupon.rate, coupon.amount_cents, places)


@st.composite
def invoices(draw: st.DrawFn) -> tuple[list[ReducedFee], list[Discount]]:
    """Fees, and coupons of which the first are limited to some of them."""
    fees = [ReducedFee(amount) for amount in draw(st.lists(amounts, min_size=1, max_size=8))]
    some = st.lists(st.sampled_from(range(len(fees))), min_size=1, unique=True)
    narrow = [limited(one, draw(some)) for one in draw(st.lists(percentages | fixed, max_size=3))]
    return fees, narrow + draw(st.lists(percentages | fixed, max_size=3))


def test_worked_example() -> None:
    fifteen, five = Discount(rate=Decimal(15)), Discount(amount_cents=500)
    first = discount(EXAMPLE, 14_000, [fifteen])
    assert first.credits_cents == [2_100]
    assert [fee.reduced_cents for fee in first.fees] == [1_500, Decimal("499.95"), Decimal("100.05")]
    both = discount(EXAMPLE, 14_000, [fifteen, five])
    assert both.credits_cents == [2_100, 500]
    reduced = [fee.reduced_cents for fee in both.fees]
    assert reduced == [Decimal("1857.14286"), Decimal("618.98571"), Decimal("123.87143")]


def test_a_percentage_is_rounded_half_up_and_may_not_exceed_the_base() -> None:
    half = Discount(rate=Decimal(50))
    assert [credit_cents(half, Decimal(base), 1) for base in (1, 3, 5, 2)] == [1, 2, 3, 1]
    assert credit_cents(Discount(rate=Decimal(150)), Decimal(7), 1) == 7
    assert credit_cents(Discount(rate=Decimal("0.01")), Decimal(7), 1) == 0


def test_a_limited_coupon_takes_whole_cents_of_what_is_left() -> None:
    fees = [ReducedFee(1_000), ReducedFee(1_000), ReducedFee(1_000)]
    spread, rest = Discount(amount_cents=1_000, fees=[0, 1, 2]), Discount(rate=Decimal(100), fees=[0])
    after = discount(fees, 3_000, [spread, rest])
    assert after.credits_cents == [1_000, 666]
    assert [fee.reduced_cents for fee in after.fees] == [
        Decimal("999.33333"), Decimal("333.33333"), Decimal("333.33333")
    ]  # fmt: skip


def test_rounded_shares_do_not_keep_the_last_cent() -> None:
    fees = [ReducedFee(1), ReducedFee(1), ReducedFee(1)]
    everything = [0, 1, 2]
    two, rest = Discount(amount_cents=2, fees=everything), Discount(rate=Decimal(100), fees=everything)
    after = discount(fees, 3, [two, rest])
    assert after.credits_cents == [2, 1]
    assert [fee.left_cents for fee in after.fees] == [0, 0, 0]


def test_what_was_taken_before_is_not_taken_again() -> None:
    fees = [ReducedFee(12_000, Decimal(9_000)), ReducedFee(1_000)]
    after = discount(fees, 4_000, [Discount(rate=Decimal(50))])
    assert after.credits_cents == [2_000]
    assert [fee.reduced_cents for fee in after.fees] == [10_500, 500]


def test_nothing_left_gives_nothing() -> None:
    after = discount([ReducedFee(5), ReducedFee(0)], 5, [Discount(amount_cents=9)] * 2)
    assert after.credits_cents == [5, 0]
    nothing = discount([ReducedFee(0)], 0, [Discount(rate=Decimal(50)), Discount(amount_cents=1, fees=[0])])
    assert (nothing.credits_cents, nothing.fees) == ([0, 0], [ReducedFee(0)])


@quick
@given(invoices())
def test_shares_add_up_and_none_exceeds_its_fee(given_: tuple[list[ReducedFee], list[Discount]]) -> None:
    fees, coupons = given_
    sub_total = sum(fee.amount_cents for fee in fees)
    after = discount(fees, sub_total, coupons)
    taken = sum(after.credits_cents)
    assert 0 <= taken <= sub_total
    assert all(0 <= fee.reduced_cents <= fee.amount_cents for fee in after.fees)
    assert [fee.amount_cents for fee in after.fees] == [fee.amount_cents for fee in fees]
    reduced = sum(fee.reduced_cents for fee in after.fees)
    assert abs(reduced - taken) <= STEP * len(fees) * len(coupons)
    assert sub_total - taken == minor_int(sum((fee.left_cents for fee in after.fees), Decimal(0)))


@quick
@given(invoices())
def test_each_coupon_sees_what_the_ones_before_have_left(given_: tuple[list[ReducedFee], list[Discount]]) -> None:
    fees, coupons = given_
    sub_total = sum(fee.amount_cents for fee in fees)
    at_once = discount(fees, sub_total, coupons)
    one_by_one, left = fees, sub_total
    for coupon, credit in zip(coupons, at_once.credits_cents, strict=True):
        step = discount(one_by_one, left, [coupon])
        assert step.credits_cents == [credit]
        one_by_one, left = step.fees, left - credit
    assert one_by_one == at_once.fees


@quick
@given(invoices())
def test_limited_coupons_leave_other_fees_alone(given_: tuple[list[ReducedFee], list[Discount]]) -> None:
    fees, coupons = given_
    after = discount(fees, sum(fee.amount_cents for fee in fees), coupons)
    if all(coupon.fees is not None for coupon in coupons):
        touched = {place for coupon in coupons for place in coupon.fees or ()}
        assert all(after.fees[place] == fee for place, fee in enumerate(fees) if place not in touched)


@quick
@given(invoices(), st.integers(0, 40))
def test_the_tax_on_what_is_left_is_that_of_the_sub_total(
    given_: tuple[list[ReducedFee], list[Discount]], rate: int
) -> None:
    fees, coupons = given_
    sub_total = sum(fee.amount_cents for fee in fees)
    after = discount(fees, sub_total, coupons)
    left = sub_total - sum(after.credits_cents)
    taxes = invoice_taxes([(fee.left_cents, [TaxRate("vat", Decimal(rate))]) for fee in after.fees], left)
    assert abs(taxes.amount_cents - Decimal(left * rate) / 100) <= Decimal("0.51")


@quick
@given(st.lists(amounts, min_size=1, max_size=8), st.lists(fixed, min_size=1, max_size=6))
def test_amounts_are_taken_in_full_until_nothing_is_left(sizes: list[int], coupons: list[Discount]) -> None:
    sub_total = sum(sizes)
    after = discount([ReducedFee(size) for size in sizes], sub_total, coupons)
    totals = accumulate(coupon.amount_cents for coupon in coupons)
    assert list(accumulate(after.credits_cents)) == [min(total, sub_total) for total in totals]


def test_the_callers_decimal_context_does_not_matter() -> None:
    coupons = [Discount(amount_cents=7, fees=[0, 1]), Discount(rate=Decimal(15), fees=[1]), Discount(amount_cents=500)]
    with localcontext(Context(prec=3, rounding=ROUND_UP)):
        narrow = discount(EXAMPLE, 14_000, coupons)
    assert narrow == discount(EXAMPLE, 14_000, coupons)
