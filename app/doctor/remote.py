"""What a server that runs says of itself."""

import msgspec

from app.asking import Answer, ask
from app.config import PREFIX
from app.doctor.findings import Finding, Report, ok, problem, warning

REPORT_SECONDS = 900
"""Comparing all events with their rollups takes a while."""


def check_health(url: str, health: Answer) -> Finding:
    """What a Meterhouse says of itself."""
    if health.status == 200:  # noqa: PLR2004 (it is well)
        return ok("server", f"{url} answers, and both its stores do.")
    down = ", ".join(name for name, state in health.body["stores"].items() if state != "up")
    advice = "See that it runs and can be reached from the server; the service recovers by itself."
    return problem("server", f"{url} answers, but its {down} does not.", advice)


def ask_report(url: str, key: str) -> list[Finding]:
    """What the server finds in its own process and stores."""
    if not key:
        advice = f"Put its admin key into {PREFIX}ADMIN_KEY for the doctor."
        return [warning("server", "Only the running server can look into its stores, and asks for a key.", advice)]
    answer = ask(f"{url}/admin/doctor", key, seconds=REPORT_SECONDS)
    if answer is None or answer.status not in {200, 401}:
        found = "it does not answer" if answer is None else f"it answers {answer.status}"
        return [problem("server", f"The server was asked what it finds, and {found}.", "Look into its log.")]
    if answer.status == 401:  # noqa: PLR2004 (not its key)
        advice = f"Put the key that its first start printed, or that it was started with, into {PREFIX}ADMIN_KEY."
        return [warning("server", "The server does not take this admin key.", advice)]
    return msgspec.convert(answer.body["doctor"], Report).findings
