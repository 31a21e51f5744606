"""What a client sent, as the rules see it, and the checks that several resources share.

`Changes` has the keys that were in the body and no others: null clears a field, an absent key leaves it unchanged
(billing spec 11.1).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from app.core.money import is_currency
from app.core.periods import is_timezone
from app.errors import Problems

Changes = Mapping[str, Any]

LONGEST_CODE = 255
"""How many characters a code and an external id may have; what is indexed must not be much longer."""

LONGEST_KEY, LONGEST_VALUE = 100, 255
"""How many characters a key and a value of metadata may have."""

_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+").fullmatch
_COUNTRY = re.compile(r"[A-Za-z]{2}").fullmatch


def empty(value: object) -> bool:
    """Null, or text without characters."""
    return value is None or value == ""


def assign(target: object, changes: Changes, fields: Iterable[str]) -> None:
    """Set the attributes of these names that were sent."""
    for field in fields:
        if field in changes:
            setattr(target, field, changes[field])


def as_uuid(text: object) -> UUID | None:
    """The id in a path or a body, or None where the text is not one."""
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def check_mandatory(problems: Problems, changes: Changes, fields: Iterable[str], *, creating: bool) -> None:
    """Note `value_is_mandatory` for fields that are sent empty, or when creating not sent."""
    for field in fields:
        if (creating or field in changes) and empty(changes.get(field)):
            problems.add(field, "value_is_mandatory")


def check_code(problems: Problems, changes: Changes) -> None:
    """Note `value_is_invalid` for a `code` that no path can name: one with an empty or dotted part between slashes; and
    `value_is_too_long` for one that is."""
    check_length(problems, changes, {"code": LONGEST_CODE})
    code = changes.get("code")
    if not empty(code) and not {"", ".", ".."}.isdisjoint(str(code).split("/")):
        problems.add("code", "value_is_invalid")


def check_external_id(problems: Problems, changes: Changes, field: str) -> None:
    """Note `value_is_invalid` for an external id that no path can name, and `value_is_too_long` for one that is."""
    check_length(problems, changes, {field: LONGEST_CODE})
    if "/" in (changes.get(field) or ""):
        problems.add(field, "value_is_invalid")


def check_length(problems: Problems, changes: Changes, longest: Mapping[str, int]) -> None:
    """Note `value_is_too_long` for fields with more characters than they may have."""
    for field, most in longest.items():
        if len(changes.get(field) or "") > most:
            problems.add(field, "value_is_too_long")


def check_metadata(problems: Problems, metadata: Mapping[str, str | None]) -> None:
    """Note on `metadata` what is wrong with its keys and values."""
    if any(len(key) > LONGEST_KEY or len(value or "") > LONGEST_VALUE for key, value in metadata.items()):
        problems.add("metadata", "value_is_too_long")
    if "" in metadata:
        problems.add("metadata", "value_is_invalid")


def check_one_of(
    problems: Problems, changes: Changes, field: str, allowed: Collection[object], code: str = "value_is_invalid"
) -> None:
    """Note a code for a field that is sent, is not empty and has none of the allowed values."""
    value = changes.get(field)
    if not empty(value) and value not in allowed:
        problems.add(field, code)


def check_currency(problems: Problems, changes: Changes, field: str) -> None:
    """Note `value_is_invalid` unless the field is empty or an ISO 4217 code that money can be counted in."""
    if not empty(changes.get(field)) and not is_currency(changes[field]):
        problems.add(field, "value_is_invalid")


def check_contact(problems: Problems, changes: Changes) -> None:
    """Note what is wrong with `country`, `email` and `timezone`, where they are not empty (billing spec 11.2)."""
    country, email, timezone = (changes.get(field) for field in ("country", "email", "timezone"))
    if not empty(country) and not _COUNTRY(country or ""):
        problems.add("country", "not_a_valid_country_code")
    if not empty(email) and not _EMAIL(email or ""):
        problems.add("email", "invalid_email_format")
    if not empty(timezone) and not is_timezone(timezone or ""):
        problems.add("timezone", "value_is_invalid")


def tidy(changes: Changes) -> dict[str, Any]:
    """The same changes with countries in upper case, and null for what text may not be empty."""
    tidied = dict(changes)
    for field in ("country", "email", "timezone", "currency"):
        if field in tidied:
            tidied[field] = tidied[field] or None
    if tidied.get("country"):
        tidied["country"] = tidied["country"].upper()
    return tidied
