"""Codes with slashes in paths: a plan or a charge may be called `v2/storage`, and the router sees one segment of it."""

import re
from urllib.parse import unquote

_CODE = "(.+?)"
_ROOT = "/api/v1/"
_PATHS = [
    (path.partition("/")[0], re.compile(f"{_ROOT}{path.replace('CODE', _CODE)}/?", re.DOTALL))
    for path in (
        "plans/CODE/charges(?:/CODE(?:/filters(?:/[^/]+)?)?)?",
        "plans/CODE/fixed_charges(?:/CODE)?",
        "plans/CODE/entitlements(?:/CODE(?:/privileges/CODE)?)?",
        "plans/CODE/metadata(?:/CODE)?",
        "plans/CODE",
        "customers/[^/]+/wallets/CODE/metadata(?:/CODE)?",
        "customers/[^/]+/wallets/CODE/alerts(?:/CODE)?",
        "customers/[^/]+/wallets/CODE",
        "wallets/[^/]+/metadata(?:/CODE)?",
        "features/CODE(?:/privileges/CODE)?",
        "subscriptions/[^/]+/charges/CODE(?:/filters(?:/[^/]+)?)?",
        "subscriptions/[^/]+/fixed_charges/CODE",
        "subscriptions/[^/]+/alerts/CODE",
        "subscriptions/[^/]+/entitlements/CODE(?:/privileges/CODE)?",
    )
]
_BY_FIRST = {first: [path for one, path in _PATHS if one == first] for first, _ in _PATHS}
"""The paths with codes in them, by their first segment: the first that a path has the form of is what it is taken for."""


def joined(path: str) -> str:
    """The path with the slashes inside of codes encoded. `named` decodes them."""
    candidates = _BY_FIRST.get(path.removeprefix(_ROOT).partition("/")[0], ())
    match = next((found for one in candidates if (found := one.fullmatch(path))), None)
    if match is None:
        return path
    parts, end = [], 0
    for number, code in enumerate(match.groups(), start=1):
        if code is not None:
            parts += [path[end : match.start(number)], _encoded(code)]
            end = match.end(number)
    return "".join(parts) + path[end:]


def named(segment: str) -> str:
    """The code that a segment of a joined path stands for."""
    return unquote(segment)


def _encoded(code: str) -> str:
    return code.replace("%", "%25").replace("/", "%2F")
