"""Privileges of features: which values they may have, and what a subscription has of a feature (billing spec 8.6)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

Value = int | bool | str
Values = Mapping[str, Value]
"""Values by the codes of their privileges."""

MOST = 2**63 - 1
_INTEGER = re.compile(r"-?[0-9]{1,19}").fullmatch
_BOOLEANS = {"true": True, "false": False}


class ValueType(StrEnum):
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRING = "string"
    SELECT = "select"


@dataclass(frozen=True, slots=True)
class Privilege:
    """What can be said of a feature: a value of a type, which for `select` is one of the options."""

    code: str
    name: str | None
    value_type: ValueType
    select_options: tuple[str, ...] = ()

    def value(self, sent: object) -> Value | None:
        """The value that was sent, in the privilege's type; None where it cannot have it. Integers (of 64 bits) and
        booleans may be sent as text."""
        match self.value_type:
            case ValueType.INTEGER:
                number = int(sent) if isinstance(sent, str) and _INTEGER(sent) else sent
                fits = isinstance(number, int) and not isinstance(number, bool) and -MOST - 1 <= number <= MOST
                return number if fits and isinstance(number, int) else None
            case ValueType.BOOLEAN:
                truth = _BOOLEANS.get(sent) if isinstance(sent, str) else sent
                return truth if isinstance(truth, bool) else None
            case ValueType.STRING:
                return sent if isinstance(sent, str) else None
            case ValueType.SELECT:
                return sent if isinstance(sent, str) and sent in self.select_options else None


@dataclass(frozen=True, slots=True)
class Override:
    """What a subscription has of a feature otherwise than its plan says: values of its own, privileges that it does not
    have, or nothing of the feature at all."""

    values: Values
    removed_privileges: Collection[str] = ()
    is_removed: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.values or self.removed_privileges or self.is_removed)


@dataclass(frozen=True, slots=True)
class Granted:
    """The value of a privilege that a subscription has: its own, else its plan's."""

    plan_value: Value | None
    override_value: Value | None

    @property
    def value(self) -> Value | None:
        return self.plan_value if self.override_value is None else self.override_value


def granted(of_plan: Values | None, override: Override | None) -> dict[str, Granted] | None:
    """What a subscription has of a feature, by the codes of its privileges; None where it does not have the feature.

    `of_plan` are the plan's values, None where the plan does not include the feature. A feature that is not in the plan can
    be given to a subscription by an override.
    """
    if override is None:
        return None if of_plan is None else {code: Granted(value, None) for code, value in of_plan.items()}
    if override.is_removed:
        return None
    known = {**(of_plan or {}), **override.values}
    return {
        code: Granted((of_plan or {}).get(code), override.values.get(code))
        for code in known
        if code not in override.removed_privileges
    }


def with_values(of_plan: Values | None, override: Override, sent: Values) -> Override:
    """The override after values were set: what was removed of them is back, and a value that is the plan's needs none."""
    plan = of_plan or {}
    own = {code: value for code, value in sent.items() if not _same(plan.get(code), value)}
    kept = {code: value for code, value in override.values.items() if code not in sent}
    removed = [code for code in override.removed_privileges if code not in sent]
    return Override({**kept, **own}, removed)


def without_privilege(of_plan: Values | None, override: Override, code: str) -> Override:
    """The override after a privilege was taken from the subscription, be it the plan's or its own."""
    values = {known: value for known, value in override.values.items() if known != code}
    removed = [*override.removed_privileges, code] if code in (of_plan or {}) else override.removed_privileges
    return Override(values, removed, override.is_removed)


def _same(one: Value | None, other: Value) -> bool:
    """Whether values are equal and of one type: 1 is not true."""
    return type(one) is type(other) and one == other
