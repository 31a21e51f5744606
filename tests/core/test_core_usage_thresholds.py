"""Which usage thresholds are passed, and how far it is to the next."""

from fractions import Fraction
from uuid import UUID

from hypothesis import assume, given
from hypothesis import strategies as st

from app.core.usage_thresholds import MOST_STEPS, Threshold, Used, completions, passed


def threshold(amount: int, *, recurring: bool = False) -> Threshold:
    return Threshold(UUID(int=2 * amount + recurring), amount, recurring)


FIXED = st.sets(st.integers(1, 3_000), max_size=4).map(lambda amounts: [threshold(one) for one in amounts])
RECURRING = st.none() | st.integers(1, 1_500).map(lambda amount: threshold(amount, recurring=True))
THRESHOLDS = st.tuples(FIXED, RECURRING).map(lambda parts: [*parts[0], *([parts[1]] if parts[1] else [])])
AMOUNT = st.integers(0, 5_000)
USED = st.builds(Used, AMOUNT, AMOUNT, AMOUNT, AMOUNT)


def amounts(found: list[Threshold]) -> list[int | str]:
    return ["recurring" if one.recurring else one.amount_cents for one in found]


class TestPassed:
    def test_the_steps_of_a_period(self) -> None:
        """Thresholds of 10,000 and 20,000 and steps of 5,000: what is billed at 12,000, 21,000 and 30,000."""
        thresholds = [threshold(5_000, recurring=True), threshold(20_000), threshold(10_000)]
        billed = 0
        seen = []
        for usage in (9_999, 12_000, 13_000, 21_000, 23_999, 24_000, 30_000):
            found = amounts(passed(thresholds, Used(0, 0, usage, billed)))
            seen.append(found)
            billed = usage if found else billed
        assert seen == [[], [10_000], [], [20_000], [], [], ["recurring"]]

    def test_all_at_once(self) -> None:
        thresholds = [threshold(100), threshold(200), threshold(50, recurring=True)]
        assert amounts(passed(thresholds, Used(0, 0, 250, 0))) == [100, 200, "recurring"]
        assert amounts(passed(thresholds, Used(0, 0, 249, 0))) == [100, 200]

    @given(THRESHOLDS, USED)
    def test_nothing_below_what_is_invoiced_and_nothing_above_what_is_used(
        self, thresholds: list[Threshold], used: Used
    ) -> None:
        found = passed(thresholds, used)
        fixed = [one for one in found if not one.recurring]
        assert all(used.before < one.amount_cents <= used.total for one in fixed)
        assert found == [*sorted(fixed, key=lambda one: one.amount_cents), *(one for one in found if one.recurring)]
        if used.since <= 0:
            assert not found

    @given(FIXED, USED)
    def test_each_fixed_one_that_is_crossed_counts(self, thresholds: list[Threshold], used: Used) -> None:
        crossed = {one.amount_cents for one in thresholds if used.before < one.amount_cents <= used.total}
        assert {one.amount_cents for one in passed(thresholds, used)} == (crossed if used.since >= 0 else set())

    @given(THRESHOLDS, USED)
    def test_what_has_been_billed_is_not_passed_again(self, thresholds: list[Threshold], used: Used) -> None:
        billed = Used(used.historical, used.invoiced, used.current, used.current)
        assert passed(thresholds, billed) == []

    @given(st.integers(1, 1_500), USED)
    def test_a_whole_step_always_passes(self, step: int, used: Used) -> None:
        assume(used.since >= step)
        assert passed([threshold(step, recurring=True)], used)

    @given(FIXED, st.integers(1, 1_500), st.lists(AMOUNT, min_size=1, max_size=8))
    def test_no_more_than_a_step_stays_unbilled(self, fixed: list[Threshold], step: int, usage: list[int]) -> None:
        """Above the fixed ones, whoever is looked at again and again owes less than one step."""
        thresholds = [*fixed, threshold(step, recurring=True)]
        largest = max((one.amount_cents for one in fixed), default=0)
        billed = 0
        for current in sorted(usage):
            if passed(thresholds, Used(0, 0, current, billed)):
                billed = current
            if billed >= largest:
                assert current - billed < step


class TestCompletions:
    def test_ratios(self) -> None:
        thresholds = [threshold(300), threshold(100), threshold(50, recurring=True)]

        def shown(total: int) -> list[tuple[int, Fraction]]:
            return [(one.amount_cents, one.ratio) for one in completions(thresholds, total)]

        assert shown(0) == [(100, 0), (300, 0), (350, 0)]
        assert shown(150) == [(100, 1), (300, Fraction(1, 4)), (350, 0)]
        assert shown(300) == [(100, 1), (300, 1), (350, 0)]
        assert shown(410) == [(100, 1), (300, 1), (350, 1), (400, 1), (450, Fraction(1, 5))]

    @given(THRESHOLDS, st.integers(-10, 100_000))
    def test_full_then_one_in_part_then_none(self, thresholds: list[Threshold], total: int) -> None:
        found = completions(thresholds, total)
        ratios = [one.ratio for one in found]
        assert [one.amount_cents for one in found] == sorted({one.amount_cents for one in found})
        assert ratios == sorted(ratios, reverse=True)
        assert sum(0 < one < 1 for one in ratios) <= 1
        for one in found:
            assert (one.ratio == 1) == (total >= one.amount_cents)
        assert {one.threshold for one in found} == set(thresholds)
        assert len(found) <= len(thresholds) + MOST_STEPS
        if any(one.recurring for one in thresholds):
            assert ratios[-1] < 1
