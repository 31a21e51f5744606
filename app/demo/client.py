"""The demo's way to the service: HTTP only."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx

from app.sending import Sender

IN_FLIGHT = 3
PATIENCE_SECONDS = 20
PAGE = 100


class Refused(RuntimeError):
    """The service answered a request of the demo with an error."""


class Client:
    """A connection with one key."""

    def __init__(self, base_url: str, key: str):
        self._http = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {key}"}, timeout=300, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON at a path."""
        return _checked(self._http.get(path, params=parameters)).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a body."""
        return _checked(self._http.post(path, json=body)).json()

    def set_clock(self, now: datetime) -> None:
        """Move the test clock; what comes due until then has been done when this returns."""
        text = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _checked(self._http.put("/api/v1/test_clock", json={"test_clock": {"now": text}}))

    def pages(self, path: str, name: str, **parameters: str | int) -> Iterator[Any]:
        """Every entry of a list, over all its pages."""
        page: int | None = 1
        while page:
            answer = self.get(path, page=page, per_page=PAGE, **parameters)
            yield from answer[name]
            page = answer["meta"]["next_page"]

    def send(self, batches: Iterator[tuple[bytes, int]], sent: Callable[[int], None]) -> None:
        """Send batches of events, several at a time; `sent` is told the number of events of each that is stored."""
        json = {"Content-Type": "application/json"}
        sender = Sender(self._http, "/api/v1/events/batch", json, connections=IN_FLIGHT, patience=PATIENCE_SECONDS)
        for size, answer in sender.send(batches):
            _checked(answer)
            sent(size)


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        request = answer.request
        raise Refused(f"{request.method} {request.url.path} answered {answer.status_code}: {answer.text[:500]}")
    return answer
