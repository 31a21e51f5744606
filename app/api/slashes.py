"""Codes with slashes in paths: a plan or a charge may be called `v2/storage`, and the router sees one segment of it."""

import re
from urllib.parse import unquote

_OF_A_PLAN = re.compile(r"(/api/v1/plans/)(.+?)(?:(/charges)(?:(/)(.+?)(?:(/filters)(/[^/]+)?)?)?)?/?", re.DOTALL)
_CODES = (2, 5)
"""The groups that are codes."""


def joined(path: str) -> str:
    """The path with the slashes inside of codes encoded. `named` decodes them."""
    match = _OF_A_PLAN.fullmatch(path)
    if match is None:
        return path
    parts = enumerate(match.groups(default=""), start=1)
    return "".join(_encoded(part) if number in _CODES else part for number, part in parts)


def named(segment: str) -> str:
    """The code that a segment of a joined path stands for."""
    return unquote(segment)


def _encoded(code: str) -> str:
    return code.replace("%", "%25").replace("/", "%2F")
