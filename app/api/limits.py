"""Bodies that are too large: refused in a way that the sender gets to read."""

from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from app.api.media import is_stream
from app.errors import TooLarge

DRAINED_TIMES = 8


async def drain(receive: Receive, most: int) -> bool:
    """Read the rest of a body and throw it away; whether it was not more than `most` bytes.

    A connection closed while the sender is still sending looks to it like a failure of the network.
    """
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] != "http.request":
            break
        more = message["more_body"]
        size += len(message["body"])
    return size <= most


class LimitedBody:
    """Answers 413 to a request of more than `limit` bytes, whether it announces its length or not.

    What is sent is read and thrown away first. Only a body of more than several times the limit is cut off; its
    connection ends. Bodies that are read piece by piece have no limit.
    """

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        headers = dict(scope.get("headers", ()))
        length = headers.get(b"content-length", b"")
        if is_stream(scope):
            pass
        elif length.isdigit():
            if int(length) > self._limit:
                await self._refuse(receive, 0)
        elif b"transfer-encoding" in headers:
            receive = await self._read(receive)
        await self._app(scope, receive, send)

    async def _read(self, receive: Receive) -> Receive:
        """Read a body of unknown length, and give it again as one message."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return _once(message, receive)
            parts.append(message["body"])
            size += len(parts[-1])
            more = message["more_body"]
            if size > self._limit:
                await self._refuse(receive if more else None, size)
        return _once({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)

    async def _refuse(self, receive: Receive | None, size: int) -> None:
        ended = receive is None or await drain(receive, self._limit * DRAINED_TIMES - size)
        raise TooLarge("body_too_large", headers={} if ended else {"Connection": "close"})


def _once(message: Any, then: Receive) -> Receive:
    """A receiver that gives this message first."""
    waiting = [message]

    async def receive() -> Any:
        return waiting.pop() if waiting else await then()

    return receive
