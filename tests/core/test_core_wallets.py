from collections import defaultdict
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.money import exponent
from app.core.wallets import (
    Balance,
    Owed,
    Part,
    Purse,
    Source,
    credits_of,
    draw,
    granted_part,
    payments,
    spent,
    voided,
    worth,
)

quick = settings(max_examples=200, deadline=None, database=None)
A, B, C, API, SMS = (UUID(int=n) for n in range(5))

rates = st.decimals("0.00001", "1000", places=5)
currencies = st.sampled_from(["JPY", "EUR", "KWD"])


def owed(
    amount: str,
    fee_type: str = "charge",
    metric: UUID | None = None,
    target: str | None = None,
    base: str | None = None,
) -> Owed:
    return Owed(fee_type, metric, target, Decimal(base or amount), Decimal(amount))


def purse(
    id_: UUID,
    balance: int,
    fee_types: frozenset[str] = frozenset(),
    metrics: frozenset[UUID] = frozenset(),
    code: str = "any",
) -> Purse:
    return Purse(id_, code, balance, fee_types, metrics)


@pytest.mark.parametrize(
    ("credits_", "rate", "currency", "cents", "bought"),
    [
        ("1", "3", "EUR", 300, "1"),
        ("10.5", "0.003", "EUR", 3, "10"),
        ("10", "1.5", "JPY", 15, "10"),
        ("0.5", "1.5", "JPY", 1, "0.66667"),
        ("2.5", "0.1234", "KWD", 309, "2.50405"),
        ("0.00001", "1", "EUR", 0, "0"),
    ],
)
def test_credits_through_money_and_back(credits_: str, rate: str, currency: str, cents: int, bought: str) -> None:
    assert worth(Decimal(credits_), Decimal(rate), currency) == cents
    assert credits_of(cents, Decimal(rate), currency) == Decimal(bought)


@quick
@given(st.decimals("0", "1000000", places=5), rates, currencies)
def test_what_is_bought_is_worth_its_price(credits_: Decimal, rate: Decimal, currency: str) -> None:
    cents = worth(credits_, rate, currency)
    bought = credits_of(cents, rate, currency)
    error = rate.scaleb(exponent(currency)) * Decimal("0.000005")
    assert abs((bought * rate).scaleb(exponent(currency)) - cents) <= error
    if error < Decimal("0.5"):
        assert worth(bought, rate, currency) == cents


def test_the_worked_example() -> None:
    fees = [owed("1200", "subscription"), owed("3600", metric=API)]
    paid = payments(fees, 4_800, [purse(A, 2_500, metrics=frozenset({API})), purse(B, 2_000)])
    assert paid == {A: 2_500, B: 2_000}


def test_the_first_wallet_takes_the_largest_bucket_first() -> None:
    fees = [owed("1200", "subscription"), owed("3600", metric=API)]
    assert payments(fees, 4_800, [purse(A, 4_000), purse(B, 9_000, frozenset({"subscription"}))]) == {A: 4_000, B: 800}


def test_limits_are_alternatives() -> None:
    fees = [owed("100", "subscription"), owed("200", metric=API), owed("400", metric=SMS), owed("800", "fixed_charge")]
    both = purse(A, 9_999, frozenset({"subscription"}), frozenset({API}))
    assert payments(fees, 1_500, [both]) == {A: 300}
    assert payments(fees, 1_500, [purse(A, 9_999, frozenset({"commitment"}))]) == {}


def test_the_wallet_that_events_name_pays_alone() -> None:
    fees = [owed("100", metric=API, target="team"), owed("200", metric=API, target="gone"), owed("400", metric=API)]
    wallets = [purse(A, 9_999, code="main"), purse(B, 9_999, metrics=frozenset({SMS}), code="team")]
    assert payments(fees, 700, wallets) == {A: 400, B: 100}


def test_what_rounding_took_off_the_fees_is_paid_too() -> None:
    fees = [owed("1.4", metric=API, base="1"), owed("1.4", metric=SMS, base="1"), owed("0.16", metric=A, base="0")]
    assert payments(fees, 3, [purse(A, 100)]) == {A: 3}
    assert payments(fees, 3, [purse(A, 100, metrics=frozenset({SMS}))]) == {A: 1}
    assert payments(fees, 9, [purse(A, 100)]) == {A: 2}, "more than a unit for each is no rounding"


@st.composite
def invoices(draw_: st.DrawFn) -> tuple[list[Owed], int, list[Purse]]:
    kinds = [("charge", API), ("charge", SMS), ("subscription", None), ("fixed_charge", None)]
    fees = []
    for fee_type, metric in draw_(st.lists(st.sampled_from(kinds), max_size=6)):
        amount = draw_(st.decimals("0", "5000", places=3))
        target = draw_(st.sampled_from([None, None, "a", "b"])) if metric else None
        fees.append(Owed(fee_type, metric, target, amount, amount))
    total = max(int(sum(fee.amount for fee in fees)) + draw_(st.integers(-3, 3)), 0)
    purses = [
        Purse(
            uuid4(),
            code,
            draw_(st.integers(1, 8_000)),
            draw_(st.frozensets(st.sampled_from(["charge", "subscription"]))),
            draw_(st.frozensets(st.sampled_from([API, SMS]))),
        )
        for code in draw_(st.permutations(["a", "b", "c"]))
    ]
    return fees, total, purses


@quick
@given(invoices())
def test_nobody_pays_more_than_is_there_or_owed(invoice: tuple[list[Owed], int, list[Purse]]) -> None:
    fees, total, purses = invoice
    paid = payments(fees, total, purses)
    assert sum(paid.values()) <= total
    assert list(paid) == [one.id for one in purses if one.id in paid], "in the order of the wallets"
    for one in purses:
        amount = paid.get(one.id, 0)
        assert 0 <= amount <= one.balance_cents
        mine = [fee for fee in fees if one.pays(fee.fee_type, fee.metric_id, fee.target)]
        kinds = len({fee[:3] for fee in fees})
        assert amount <= sum(fee.amount for fee in mine) + len({fee[:3] for fee in mine}) + kinds
    assert all(paid.values())


@quick
@given(invoices())
def test_a_wallet_without_limits_pays_all_that_no_other_is_named_for(
    invoice: tuple[list[Owed], int, list[Purse]],
) -> None:
    fees, _, _ = invoice
    free = [fee._replace(target=None) for fee in fees]
    total = sum(int(fee.amount) for fee in free)
    if total:
        assert payments(free, total, [purse(A, 10**9)]) == {A: total}


@quick
@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 50)), max_size=8),
    st.integers(0, 120),
)
def test_what_goes_out_comes_from_the_sources_in_order(left: list[tuple[int, bool, int]], amount: int) -> None:
    sources = [Source(uuid4(), priority, granted, n, cents) for n, (priority, granted, cents) in enumerate(left)]
    if amount > sum(one.left_cents for one in sources):
        with pytest.raises(ValueError, match="less than"):
            draw(sources, amount)
        return
    parts = draw(sources, amount)
    assert sum(part.amount_cents for part in parts) == amount
    assert 0 <= granted_part(parts) <= amount
    drawn = {part.source: part.amount_cents for part in parts}
    assert len(drawn) == len(parts)
    order = sorted(sources, key=lambda one: (one.priority, not one.granted, one.number))
    assert [part.source for part in parts] == [one.id for one in order if one.id in drawn]
    for one in order:
        assert 0 <= drawn.get(one.id, 0) <= one.left_cents
    started = [one for one in order if drawn.get(one.id, 0) < one.left_cents]
    assert all(one.id not in drawn for one in started[1:]), "no source is touched before the one ahead of it is empty"


def test_order_of_sources() -> None:
    sources = [Source(A, 2, False, 1, 30), Source(B, 2, True, 2, 30), Source(C, 1, False, 3, 10)]
    assert draw(sources, 55) == [Part(C, False, 10), Part(B, True, 30), Part(A, False, 15)]
    assert granted_part(draw(sources, 55)) == 30


moves = st.lists(
    st.tuples(st.sampled_from(["buy", "grant", "spend", "void"]), st.decimals("0.00001", "200", places=5)), max_size=30
)


@quick
@given(moves, rates, currencies)
def test_a_life_of_a_wallet(life: list[tuple[str, Decimal]], rate: Decimal, currency: str) -> None:
    """Neither money nor credits are ever negative, and what is left of the top-ups is the balance."""
    balance, left = Balance(0, Decimal(0)), dict[UUID, int]()
    flows = defaultdict[UUID, int](int)
    put_in = 0
    for what, amount in life:
        cents = worth(amount, rate, currency)
        if not cents:
            continue
        if what in ("buy", "grant"):
            credits_ = credits_of(cents, rate, currency) if what == "buy" else amount
            left[uuid4()] = cents
            put_in += cents
            balance = Balance(balance.amount_cents + cents, balance.credits + credits_)
            continue
        if what == "spend":
            going = spent(balance, min(cents, balance.amount_cents), rate, currency)
        else:
            going = voided(balance, min(amount, balance.credits), rate, currency)
        sources = [Source(id_, 50, True, n, cents) for n, (id_, cents) in enumerate(left.items())]
        for part in draw(sources, going.amount_cents):
            left[part.source] -= part.amount_cents
            flows[part.source] += part.amount_cents
        balance = Balance(balance.amount_cents - going.amount_cents, balance.credits - going.credits)
        assert balance.amount_cents >= 0
        assert balance.credits >= 0
        assert what == "void" or balance.amount_cents or not balance.credits, "no credits stay that are worth nothing"
    assert balance.amount_cents == sum(left.values())
    assert sum(flows.values()) + balance.amount_cents == put_in
