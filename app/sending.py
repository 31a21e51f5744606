"""Sending many bodies to a server over HTTP: several under way at a time, each repeated until it is answered.

Events that are sent again count once, so a body whose answer was lost may be repeated like one that was refused for now.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

import httpx

T = TypeVar("T")

BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0


class Stopped(RuntimeError):
    """Sending was given up before this body was answered."""


class Sender:
    """POSTs bodies to one path of a server."""

    def __init__(self, http: httpx.Client, path: str, headers: Mapping[str, str], *, connections: int, patience: float):
        """While the server is busy, down or out of reach a body is repeated, for up to `patience` seconds."""
        self._http = http
        self._path = path
        self._headers = headers
        self._connections = connections
        self._patience = patience
        self._stopped = threading.Event()

    def send(self, bodies: Iterable[tuple[bytes, T]]) -> Generator[tuple[T, httpx.Response], None, None]:
        """Send each body; gives what came with it and its answer, in the order of the bodies.

        Bodies are taken one by one, no more than are under way and one. When this is closed, no body is sent any more.

        Raises:
            httpx.TransportError: the server cannot be reached, and patience is over.
        """
        waiting: deque[tuple[T, Future[httpx.Response]]] = deque()
        with ThreadPoolExecutor(self._connections, thread_name_prefix="send") as pool:
            try:
                for body, what in bodies:
                    waiting.append((what, pool.submit(self.post, body)))
                    while waiting and (len(waiting) > self._connections or waiting[0][1].done()):
                        first, answer = waiting.popleft()
                        yield first, answer.result()
                while waiting:
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            finally:
                if waiting:
                    self._stopped.set()
                    pool.shutdown(wait=True, cancel_futures=True)

    def post(self, body: bytes) -> httpx.Response:
        """Send one body and return its answer, which is only 429 or 503 when patience is over.

        Raises:
            httpx.TransportError: the server cannot be reached, and patience is over.
            Stopped: `send` was closed meanwhile.
        """
        deadline = time.monotonic() + self._patience
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self._http.post(self._path, content=body, headers=self._headers)
            except httpx.TransportError:
                if time.monotonic() + pause > deadline:
                    raise
                wanted = pause
            else:
                if answer.status_code not in BUSY:
                    return answer
                wanted = retry_after(answer, pause)
                if time.monotonic() + wanted > deadline:
                    return answer
            if self._stopped.wait(wanted):
                raise Stopped
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def retry_after(answer: httpx.Response, otherwise: float) -> float:
    """How many seconds a busy server asks to wait."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else otherwise
