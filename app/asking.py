"""Asking a Meterhouse that runs, over HTTP, from a command beside it."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from app.config import Settings

HEALTH_SECONDS = 10
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
