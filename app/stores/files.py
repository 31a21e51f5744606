"""Where the SQL files are: beside the package in a checkout, inside it when installed from a wheel."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

INCLUDE = re.compile(r"^ *-- include: (\w+)$", re.MULTILINE)
FRAGMENT = re.compile(r"\{\{(\w+)\}\}")

PACKAGE = Path(__file__).resolve().parent.parent


def folder(name: str) -> Path:
    """The folder `clickhouse` or `postgres`."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


@cache
def query_text(name: str, store: str = "clickhouse") -> str:
    """The text of `queries/{name}.sql` of a store; a line `-- include: other` stands for the text of that query."""
    text = (folder(store) / "queries" / f"{name}.sql").read_text()
    return INCLUDE.sub(lambda line: query_text(line[1], store), text)


def filled(text: str, fragments: Mapping[str, str]) -> str:
    """The text with its `{{name}}` places filled. Fragments are texts of the code's own, never values from outside."""
    return FRAGMENT.sub(lambda place: fragments[place[1]], text) if fragments else text
