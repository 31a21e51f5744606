"""A report as a person or a program reads it."""

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.doctor.findings import Report, Status

LOOKS = {
    Status.OK: ("✓", "green"),
    Status.NOTE: ("·", "cyan"),
    Status.WARNING: ("!", "bold yellow"),
    Status.PROBLEM: ("✗", "bold red"),
}


def show(report: Report, console: Console) -> None:
    """Print a table of all findings, what to do under each, and a summary."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for one in report.findings:
        sign, style = LOOKS[one.status]
        said = Text(one.found)
        if one.advice:
            said.append(f"\n→ {one.advice}", style=style if one.status != Status.NOTE else "")
        table.add_row(Text(sign, style=style), one.subject, said)
    console.print(table, soft_wrap=False)
    console.print(f"\n{summary(report)}")


def summary(report: Report) -> str:
    """One sentence: how many findings want something done."""
    counts = {status: sum(one.status == status for one in report.findings) for status in Status}
    parts = [
        f"{number} {status}{'s' if number > 1 else ''}"
        for status in (Status.PROBLEM, Status.WARNING)
        if (number := counts[status])
    ]
    return f"{' and '.join(parts)}." if parts else "All is well."


def as_json(report: Report) -> str:
    """The report as one JSON object: `status`, and `findings` with `subject`, `status`, `found` and `advice`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
