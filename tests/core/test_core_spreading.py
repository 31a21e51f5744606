"""An amount shared out over bases: nothing is lost but what rounding takes, and no share is above its base."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.core.spreading import spread

BASES = st.lists(st.decimals(0, 10**9, places=2), min_size=1, max_size=12)


def test_by_hand() -> None:
    bases = [Decimal(8500), Decimal("2833.05"), Decimal("566.95")]
    assert spread(Decimal(500), bases) == [Decimal("357.14286"), Decimal("119.03571"), Decimal("23.82143")]
    assert spread(Decimal(2_100), [Decimal(10_000), Decimal(3_333), Decimal(667)]) == [
        Decimal(1500), Decimal("499.95"), Decimal("100.05"),
    ]  # fmt: skip


def test_nothing_to_share_by() -> None:
    assert spread(Decimal(5), []) == []
    assert spread(Decimal(5), [Decimal(0), Decimal(0)]) == [Decimal(0), Decimal(0)]


@given(BASES, st.integers(0, 100))
def test_shares_add_up(bases: list[Decimal], percent: int) -> None:
    amount = Decimal(round(sum(bases) * percent / 100))
    shares = spread(min(amount, sum(bases)), bases)
    assert all(0 <= share <= base for share, base in zip(shares, bases, strict=True))
    assert abs(sum(shares) - min(amount, sum(bases))) <= Decimal("0.00001") * len(bases)
