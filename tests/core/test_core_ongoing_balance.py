from collections.abc import Sequence
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.money import minor_int
from app.core.ongoing_balance import Holder, allot

quick = settings(max_examples=300, deadline=None, database=None)
KEYS = ("api", "seats", "fee")


def shares(holders: Sequence[Holder], net: int | None = None, **amounts: object) -> list[int]:
    buckets = {key: Decimal(str(amount)) for key, amount in amounts.items()}
    return allot(holders, buckets, minor_int(sum(buckets.values(), Decimal(0))) if net is None else net)


def test_the_first_is_used_up_before_the_next() -> None:
    assert shares([Holder(2_500, ["api"]), Holder(2_000, KEYS)], api=3_600, fee=1_200) == [2_500, 2_300]


def test_the_last_that_may_pay_goes_below_zero() -> None:
    assert shares([Holder(1_000, KEYS), Holder(500, KEYS)], api=2_000) == [1_000, 1_000]
    assert shares([Holder(1_000, ["api"]), Holder(500, ["seats"])], api=2_000, seats=100) == [2_000, 100]


def test_the_largest_bucket_is_taken_first() -> None:
    holders = [Holder(1_000, KEYS), Holder(1_000, ["seats"])]
    assert shares(holders, api=900, seats=400) == [1_000, 300]
    assert shares(holders, seats=400, api=1_500) == [1_500, 400]


def test_one_with_a_threshold_keeps_what_comes_to_it() -> None:
    assert shares([Holder(500, KEYS, takes_all=True), Holder(5_000, KEYS)], api=2_000) == [2_000, 0]
    assert shares([Holder(500, KEYS), Holder(0, KEYS, takes_all=True), Holder(9, KEYS)], api=2_000) == [500, 1_500, 0]


def test_what_nobody_may_pay_falls_to_nobody() -> None:
    assert shares([Holder(1_000, ["api"])], seats=500) == [0]
    assert shares([], seats=500) == []


def test_no_more_than_the_net_total() -> None:
    assert shares([Holder(1_000, ["api"])], api=500, fee=-300) == [200]
    assert shares([Holder(1_000, ["api"])], net=-5, api=500, fee=-505) == [0]


def test_rounded_together() -> None:
    assert shares([Holder(0, ["api"]), Holder(0, ["seats"]), Holder(0, ["fee"])], api=".4", seats=".4", fee=".4") == [
        0, 1, 0,
    ]  # fmt: skip


holders = st.lists(
    st.builds(Holder, st.integers(0, 3_000), st.sets(st.sampled_from(KEYS)), st.booleans()), max_size=5
)  # fmt: skip
buckets = st.dictionaries(
    st.sampled_from(KEYS), st.builds(lambda n: Decimal(n).scaleb(-3), st.integers(-1_000_000, 3_000_000))
)


@quick
@given(holders, buckets, st.integers(-100, 9_000))
def test_conserved(holders: list[Holder], buckets: dict[str, Decimal], net: int) -> None:
    allotted = allot(holders, buckets, net)
    payable = sum(
        (amount for key, amount in buckets.items() if amount > 0 and any(key in one.pays for one in holders)),
        Decimal(0),
    )
    assert all(share >= 0 for share in allotted)
    assert sum(allotted) == min(minor_int(payable), max(net, 0))


@quick
@given(holders, buckets)
def test_who_may_exceed_its_balance(holders: list[Holder], buckets: dict[str, Decimal]) -> None:
    for place, share in enumerate(allot(holders, buckets, 10**9)):
        one, later = holders[place], holders[place + 1 :]
        if share > one.balance_cents + 1:
            assert one.takes_all or any(not any(key in other.pays for other in later) for key in one.pays)
        if share > 1:  # a cent may come from rounding
            assert any(buckets.get(key, 0) > 0 for key in one.pays)


@quick
@given(holders, buckets, st.data())
def test_more_usage_never_frees_the_first_wallet(
    holders: list[Holder], buckets: dict[str, Decimal], data: st.DataObject
) -> None:
    more = {**buckets, "api": max(buckets.get("api", Decimal(0)), Decimal(0)) + data.draw(st.integers(0, 5_000))}
    before, after = allot(holders, buckets, 10**9), allot(holders, more, 10**9)
    assert sum(after) >= sum(before)
    if holders:
        assert after[0] >= before[0] or not holders[0].pays
