"""Asking a running server over HTTP."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import msgspec

from app.config import PREFIX, Settings
from app.doctor.findings import Finding, Report, ok, problem, warning

HEALTH_SECONDS = 10
REPORT_SECONDS = 900
"""Comparing all events with their rollups takes a while."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what to ask when a server listens everywhere)

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: a status and its body, None for one that is not JSON."""

    status: int
    body: Any


def address(settings: Settings) -> str:
    """Where the server of these settings is to be asked."""
    host = EVERYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask(
    url: str, key: str = "", *, method: str = "GET", seconds: float = HEALTH_SECONDS, body: object = None
) -> Answer | None:
    """One request, with a body as JSON if there is one; None when nothing answers there."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=sent, method=method, headers=headers)  # noqa: S310
    try:
        with _direct.open(request, timeout=seconds) as response:
            return Answer(response.status, _json(response.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _json(error.read()))
    except (OSError, ValueError):
        return None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def is_meterhouse(health: Answer | None) -> bool:
    """Whether that is the answer of a Meterhouse to `/health`."""
    return health is not None and isinstance(health.body, dict) and "stores" in health.body


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
