from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.money import minor_int
from app.core.ongoing_balance import Bucket, allot
from app.core.wallets import Purse

quick = settings(max_examples=300, deadline=None, database=None)
API, SEATS = UUID(int=1), UUID(int=2)
BUCKETS = {
    "api": Bucket("charge", API, None),
    "seats": Bucket("charge", SEATS, None),
    "fee": Bucket("subscription", None, None),
}
LIMITS: dict[str, tuple[frozenset[str], frozenset[UUID]]] = {
    "all": (frozenset(), frozenset()),
    "api": (frozenset(), frozenset([API])),
    "seats": (frozenset(), frozenset([SEATS])),
    "fee": (frozenset(["subscription"]), frozenset()),
    "charge": (frozenset(["charge"]), frozenset()),
}


def shares(wallets: Sequence[tuple[object, ...]], net: int | None = None, **amounts: object) -> list[int]:
    """Wallets are (balance, what they pay), and True if they take all."""
    buckets = {BUCKETS[key]: Decimal(str(amount)) for key, amount in amounts.items()}
    purses = [purse(number, *wallet[:2]) for number, wallet in enumerate(wallets)]
    take_all = {UUID(int=number) for number, wallet in enumerate(wallets) if wallet[2:]}
    return allot(purses, take_all, buckets, minor_int(sum(buckets.values(), Decimal(0))) if net is None else net)


def purse(number: int, balance: object, pays: object = "all", code: str = "code") -> Purse:
    assert isinstance(balance, int)
    return Purse(UUID(int=number), code, balance, *LIMITS[str(pays)])


def test_the_first_is_used_up_before_the_next() -> None:
    assert shares([(2_500, "api"), (2_000, "all")], api=3_600, fee=1_200) == [2_500, 2_300]


def test_the_last_that_may_pay_goes_below_zero() -> None:
    assert shares([(1_000, "all"), (500, "all")], api=2_000) == [1_000, 1_000]
    assert shares([(1_000, "api"), (500, "seats")], api=2_000, seats=100) == [2_000, 100]


def test_the_largest_bucket_is_taken_first() -> None:
    wallets = [(1_000, "all"), (1_000, "seats")]
    assert shares(wallets, api=900, seats=400) == [1_000, 300]
    assert shares(wallets, seats=400, api=1_500) == [1_500, 400]


def test_one_with_a_threshold_keeps_what_comes_to_it() -> None:
    assert shares([(500, "all", True), (5_000, "all")], api=2_000) == [2_000, 0]
    assert shares([(500, "all"), (0, "all", True), (9, "all")], api=2_000) == [500, 1_500, 0]


def test_what_nobody_may_pay_falls_to_nobody() -> None:
    assert shares([(1_000, "api")], seats=500) == [0]
    assert shares([], seats=500) == []


def test_usage_that_names_a_wallet_falls_to_it_alone() -> None:
    named = {Bucket("charge", API, "second"): Decimal(300), Bucket("charge", API, "gone"): Decimal(50)}
    assert allot([purse(1, 1_000, code="first"), purse(2, 100, code="second")], (), named, 350) == [0, 300]


def test_no_more_than_the_net_total() -> None:
    assert shares([(1_000, "api")], api=500, fee=-300) == [200]
    assert shares([(1_000, "api")], net=-5, api=500, fee=-505) == [0]


def test_rounded_together() -> None:
    assert shares([(0, "api"), (0, "seats"), (0, "fee")], api=".4", seats=".4", fee=".4") == [0, 1, 0]


wallets = st.lists(
    st.tuples(st.integers(0, 3_000), st.sampled_from(list(LIMITS)), st.booleans()).map(
        lambda one: one if one[2] else one[:2]
    ),
    max_size=5,
)
amounts = st.dictionaries(
    st.sampled_from(list(BUCKETS)), st.builds(lambda n: Decimal(n).scaleb(-3), st.integers(-1_000_000, 3_000_000))
)


def may_pay(wallet: tuple[object, ...], key: str) -> bool:
    return purse(0, *wallet[:2]).pays(*BUCKETS[key])


@quick
@given(wallets, amounts, st.integers(-100, 9_000))
def test_conserved(wallets: list[tuple[object, ...]], amounts: dict[str, Decimal], net: int) -> None:
    allotted = shares(wallets, net, **amounts)
    payable = [amount for key, amount in amounts.items() if amount > 0 and any(may_pay(one, key) for one in wallets)]
    assert all(share >= 0 for share in allotted)
    assert sum(allotted) == min(minor_int(sum(payable, Decimal(0))), max(net, 0))


@quick
@given(wallets, amounts)
def test_who_may_exceed_its_balance(wallets: list[tuple[object, ...]], amounts: dict[str, Decimal]) -> None:
    for place, share in enumerate(shares(wallets, 10**9, **amounts)):
        one, later = wallets[place], wallets[place + 1 :]
        balance = one[0]
        assert isinstance(balance, int)
        used = [key for key in amounts if amounts[key] > 0 and may_pay(one, key)]
        if share > balance + 1:  # a cent may come from rounding
            assert one[2:] or any(not any(may_pay(other, key) for other in later) for key in used)
        if share > 1:
            assert used
        assert share <= sum(amounts[key] for key in used) + 1


@quick
@given(wallets, amounts, st.integers(0, 5_000))
def test_more_usage_is_never_less_for_the_first(
    wallets: list[tuple[object, ...]], amounts: dict[str, Decimal], more: int
) -> None:
    raised = {**amounts, "api": max(amounts.get("api", Decimal(0)), Decimal(0)) + more}
    before, after = shares(wallets, 10**9, **amounts), shares(wallets, 10**9, **raised)
    assert sum(after) >= sum(before)
    assert after[:1] >= before[:1]
