from decimal import ROUND_UP, Context, Decimal, localcontext
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.coupons import Discount, credit_cents, discount
from app.core.money import minor_int
from app.core.taxes import TaxRate, invoice_taxes

quick = settings(max_examples=240, deadline=None, database=None)
EXAMPLE = [Decimal(10_000), Decimal(3_333), Decimal(667)]
STEP = Decimal("0.00001")

amounts = st.integers(0, 10**7).map(Decimal)
"""Minor units of any currency: nothing here knows how many of them make a unit."""
percentages = st.builds(Discount, rate=st.decimals("0.01", "150", places=2))
fixed = st.builds(Discount, amount_cents=st.integers(1, 10**7))

Given = tuple[list[Decimal], list[Discount]]


def limited(coupon: Discount, places: list[int]) -> Discount:
    return Discount(coupon.rate, coupon.amount_cents, places)


@st.composite
def invoices(draw: st.DrawFn) -> Given:
    """Fees, and coupons of which the first are limited to some of them."""
    fees = draw(st.lists(amounts, min_size=1, max_size=8))
    some = st.lists(st.sampled_from(range(len(fees))), min_size=1, unique=True)
    narrow = [limited(one, draw(some)) for one in draw(st.lists(percentages | fixed, max_size=3))]
    return fees, narrow + draw(st.lists(percentages | fixed, max_size=3))


def test_worked_example() -> None:
    fifteen, five = Discount(rate=Decimal(15)), Discount(amount_cents=500)
    first = discount(EXAMPLE, 14_000, [fifteen])
    assert first.credits_cents == [2_100]
    assert taken(EXAMPLE, first.fees_left) == [1_500, Decimal("499.95"), Decimal("100.05")]
    both = discount(EXAMPLE, 14_000, [fifteen, five])
    assert both.credits_cents == [2_100, 500]
    assert taken(EXAMPLE, both.fees_left) == [Decimal("1857.14286"), Decimal("618.98571"), Decimal("123.87143")]


def taken(before: list[Decimal], after: list[Decimal]) -> list[Decimal]:
    return [one - other for one, other in zip(before, after, strict=True)]


def test_a_percentage_is_rounded_half_up_and_may_not_exceed_the_base() -> None:
    half = Discount(rate=Decimal(50))
    assert [credit_cents(half, Decimal(base), 1) for base in (1, 3, 5, 2)] == [1, 2, 3, 1]
    assert credit_cents(Discount(rate=Decimal(150)), Decimal(7), 1) == 7
    assert credit_cents(Discount(rate=Decimal("0.01")), Decimal(7), 1) == 0


def test_a_limited_coupon_takes_whole_cents_of_what_is_left() -> None:
    spread, rest = Discount(amount_cents=1_000, fees=[0, 1, 2]), Discount(rate=Decimal(100), fees=[0])
    after = discount([Decimal(1_000)] * 3, 3_000, [spread, rest])
    assert after.credits_cents == [1_000, 666]
    assert after.fees_left == [Decimal("0.66667"), Decimal("666.66667"), Decimal("666.66667")]


def test_rounded_shares_do_not_keep_the_last_cent() -> None:
    everything = [0, 1, 2]
    two, rest = Discount(amount_cents=2, fees=everything), Discount(rate=Decimal(100), fees=everything)
    after = discount([Decimal(1)] * 3, 3, [two, rest])
    assert (after.credits_cents, after.fees_left) == ([2, 1], [0, 0, 0])


def test_what_was_taken_before_is_not_taken_again() -> None:
    after = discount([Decimal(3_000), Decimal(1_000)], 4_000, [Discount(rate=Decimal(50))])
    assert (after.credits_cents, after.fees_left) == ([2_000], [1_500, 500])


def test_nothing_left_gives_nothing() -> None:
    after = discount([Decimal(5), Decimal(0)], 5, [Discount(amount_cents=9)] * 2)
    assert (after.credits_cents, after.fees_left) == ([5, 0], [0, 0])
    nothing = discount([Decimal(0)], 0, [Discount(rate=Decimal(50)), Discount(amount_cents=1, fees=[0])])
    assert (nothing.credits_cents, nothing.fees_left) == ([0, 0], [0])


@quick
@given(invoices())
def test_shares_add_up_and_none_exceeds_its_fee(given_: Given) -> None:
    fees, coupons = given_
    sub_total = int(sum(fees))
    after = discount(fees, sub_total, coupons)
    credited = sum(after.credits_cents)
    assert 0 <= credited <= sub_total
    assert all(0 <= left <= fee for fee, left in zip(fees, after.fees_left, strict=True))
    left = sum(after.fees_left)
    assert abs(sub_total - left - credited) <= STEP * len(fees) * len(coupons)
    assert sub_total - credited == minor_int(Decimal(left))


@quick
@given(invoices())
def test_each_coupon_sees_what_the_ones_before_have_left(given_: Given) -> None:
    fees, coupons = given_
    at_once = discount(fees, int(sum(fees)), coupons)
    one_by_one, left = fees, int(sum(fees))
    for coupon, credit in zip(coupons, at_once.credits_cents, strict=True):
        step = discount(one_by_one, left, [coupon])
        assert step.credits_cents == [credit]
        one_by_one, left = step.fees_left, left - credit
    assert one_by_one == at_once.fees_left


@quick
@given(invoices())
def test_limited_coupons_leave_other_fees_alone(given_: Given) -> None:
    fees, coupons = given_
    narrow = [coupon for coupon in coupons if coupon.fees is not None]
    after = discount(fees, int(sum(fees)), narrow)
    touched = {place for coupon in narrow for place in coupon.fees or ()}
    assert all(after.fees_left[place] == fee for place, fee in enumerate(fees) if place not in touched)


@quick
@given(invoices(), st.integers(0, 40))
def test_the_tax_on_what_is_left_is_that_of_the_sub_total(given_: Given, rate: int) -> None:
    fees, coupons = given_
    after = discount(fees, int(sum(fees)), coupons)
    left = int(sum(fees)) - sum(after.credits_cents)
    taxes = invoice_taxes([(one, [TaxRate("vat", Decimal(rate))]) for one in after.fees_left], left)
    assert abs(taxes.amount_cents - Decimal(left * rate) / 100) <= Decimal("0.51")


@quick
@given(st.lists(amounts, min_size=1, max_size=8), st.lists(fixed, min_size=1, max_size=6))
def test_amounts_are_taken_in_full_until_nothing_is_left(fees: list[Decimal], coupons: list[Discount]) -> None:
    after = discount(fees, int(sum(fees)), coupons)
    totals = accumulate(coupon.amount_cents for coupon in coupons)
    assert list(accumulate(after.credits_cents)) == [min(total, sum(fees)) for total in totals]


def test_the_callers_decimal_context_does_not_matter() -> None:
    coupons = [Discount(amount_cents=7, fees=[0, 1]), Discount(rate=Decimal(15), fees=[1]), Discount(amount_cents=500)]
    with localcontext(Context(prec=3, rounding=ROUND_UP)):
        narrow = discount(EXAMPLE, 14_000, coupons)
    assert narrow == discount(EXAMPLE, 14_000, coupons)
