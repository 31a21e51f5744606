"""What an examination finds: a status for each subject, what was seen, and what to do about it."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    """How a subject is. A note is something to know; a warning is to be looked after; a problem keeps the service from
    working or from being right."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


SEVERITY = list(Status)


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    subject: str
    status: Status
    found: str
    advice: str = ""


class Report(Struct, frozen=True):
    """All findings, and the worst status among them."""

    status: Status
    findings: list[Finding]


def report(findings: Sequence[Finding]) -> Report:
    """Findings with their worst status."""
    return Report(worst(findings), list(findings))


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status there is; ok where there is none."""
    return max((one.status for one in findings), key=SEVERITY.index, default=Status.OK)


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Status.OK, found)


def note(subject: str, found: str, advice: str = "") -> Finding:
    """Something to know."""
    return Finding(subject, Status.NOTE, found, advice)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Something to look after."""
    return Finding(subject, Status.WARNING, found, advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Something that keeps the service from working or from being right."""
    return Finding(subject, Status.PROBLEM, found, advice)


def size(number: float) -> str:
    """A number of bytes, readable."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 (a binary unit)
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
