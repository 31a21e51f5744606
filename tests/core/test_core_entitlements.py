"""Privileges and what a subscription has of a feature."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.entitlements import MOST, Override, Privilege, Values, ValueType, granted, with_values, without_privilege

CODES = st.sampled_from(["a", "b", "c"])
ANY_VALUE = st.integers(0, 2) | st.booleans() | st.sampled_from(["", "0", "x"])
VALUES = st.dictionaries(CODES, ANY_VALUE)
OF_PLAN = st.none() | VALUES


@st.composite
def overrides(draw: st.DrawFn) -> Override:
    """What steps from nothing can lead to."""
    override = Override({})
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            override = with_values(draw(OF_PLAN), override, draw(VALUES))
        else:
            override = without_privilege(draw(OF_PLAN), override, draw(CODES))
    return override


def values_of(of_plan: Values | None, override: Override | None) -> dict[str, object]:
    found = granted(of_plan, override)
    assert found is not None
    return {code: one.value for code, one in found.items()}


class TestPrivilege:
    @given(st.integers())
    def test_integers_of_64_bits(self, number: int) -> None:
        privilege = Privilege("max", None, ValueType.INTEGER)
        wanted = number if -MOST - 1 <= number <= MOST else None
        assert privilege.value(number) == privilege.value(str(number)) == wanted

    @given(st.text() | st.booleans() | st.none() | st.floats() | st.lists(st.integers()))
    def test_a_value_has_its_privileges_type(self, sent: object) -> None:
        for value_type, shape in ((ValueType.INTEGER, int), (ValueType.BOOLEAN, bool), (ValueType.STRING, str)):
            value = Privilege("p", None, value_type).value(sent)
            assert value is None or type(value) is shape
        assert Privilege("p", None, ValueType.SELECT, ("a", "b")).value(sent) in {
            None,
            sent if sent in ("a", "b") else None,
        }
        assert Privilege("p", None, ValueType.STRING).value(sent) == (sent if isinstance(sent, str) else None)

    def test_text_for_numbers_and_truth(self) -> None:
        integer, boolean = Privilege("p", None, ValueType.INTEGER), Privilege("p", None, ValueType.BOOLEAN)
        assert [integer.value(one) for one in ("-7", "007", "1.0", " 1", "", "x", True, 1.0)] == [-7, 7] + [None] * 6
        assert [boolean.value(one) for one in ("true", "false", True, False, "TRUE", 1, 0, "")] == [
            True, False, True, False, None, None, None, None,
        ]  # fmt: skip


class TestGranted:
    @given(OF_PLAN)
    def test_without_override_it_is_the_plans(self, of_plan: Values | None) -> None:
        if of_plan is None:
            assert granted(of_plan, None) is None
            assert granted(of_plan, Override({})) == {}
        else:
            assert values_of(of_plan, None) == values_of(of_plan, Override({})) == of_plan

    @given(OF_PLAN, overrides())
    def test_removed_is_removed(self, of_plan: Values | None, override: Override) -> None:
        assert granted(of_plan, Override({}, (), is_removed=True)) is None
        values = values_of(of_plan, override)
        assert values.keys() == {*(of_plan or {}), *override.values} - set(override.removed_privileges)

    @given(OF_PLAN, overrides(), VALUES)
    def test_values_that_are_set_are_had(self, of_plan: Values | None, override: Override, sent: Values) -> None:
        before, after = values_of(of_plan, override), granted(of_plan, with_values(of_plan, override, sent))
        assert after is not None
        assert {code: one.value for code, one in after.items()} == {**before, **sent}
        for code in sent:
            same = code in (of_plan or {}) and repr((of_plan or {})[code]) == repr(sent[code])
            assert (after[code].override_value is None) == same

    @given(OF_PLAN, overrides(), CODES)
    def test_one_privilege_goes_and_comes_back(self, of_plan: Values | None, override: Override, code: str) -> None:
        before = values_of(of_plan, override)
        without = without_privilege(of_plan, override, code)
        assert values_of(of_plan, without) == {known: value for known, value in before.items() if known != code}
        if of_plan and code in of_plan:
            assert values_of(of_plan, with_values(of_plan, without, {code: of_plan[code]})) == {
                **before, code: of_plan[code]
            }  # fmt: skip
