"""What the core must not contain, read from its syntax trees."""

import ast
from pathlib import Path

import pytest

import app.core

ALLOWED_OUTSIDE = {
    "calendar", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "itertools", "iso4217", "msgspec", "operator", "re", "typing", "uuid", "zoneinfo",
}  # fmt: skip
FILES = sorted(Path(app.core.__file__).parent.rglob("*.py"))
CLOCK_AND_IO = {"now", "today", "utcnow", "open", "print", "input", "getenv", "uuid1", "uuid4"}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_source(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) < 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant):
            assert type(node.value).__name__ not in ("float", "complex"), f"line {node.lineno}: binary number"
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            assert name not in {"float", "total_seconds"} | CLOCK_AND_IO, f"line {node.lineno}: {name}"
        for name in imported(node):
            top = name.split(".")[0]
            assert top in ALLOWED_OUTSIDE or name.startswith("app.core."), f"{name} does not belong in the core"


def test_every_module_is_read() -> None:
    names = {path.stem for path in FILES}
    assert {
        "money",
        "periods",
        "aggregation",
        "pricing",
        "percentage",
        "proration",
        "subscription_fee",
        "taxes",
    } <= names
