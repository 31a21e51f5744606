"""Codes of what a plan lists: unique within the plan."""

from collections.abc import Collection, Iterator, Sequence
from itertools import count

from app.errors import invalid


def list_codes(given: Sequence[str | None], defaults: Sequence[str], taken: Collection[str]) -> list[str]:
    """The code of each entry: the one it is given, else its default, made unique by a number.

    The `taken` codes are those of other entries of the plan.

    Raises:
        Invalid: `value_already_exist`, when a given code is there twice.
    """
    named = [code for code in given if code]
    all_taken = {*taken, *named}
    if len(all_taken) < len(taken) + len(named):
        raise invalid("code", "value_already_exist")
    codes = []
    for code, default in zip(given, defaults, strict=True):
        codes.append(code or next(free_codes(default, all_taken)))
        all_taken.add(codes[-1])
    return codes


def free_codes(code: str, taken: Collection[str]) -> Iterator[str]:
    """The codes that an entry can have instead of this one where some are taken; the nearest first."""
    if code not in taken:
        yield code
    yield from (f"{code}_{number}" for number in count(2) if f"{code}_{number}" not in taken)
