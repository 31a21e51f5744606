"""Bodies that are too large: refused in a way that the sender gets to read."""

from litestar.types import ASGIApp, Receive, Scope, Send

from app.errors import TooLarge

DRAINED_TIMES = 8


class LimitedBody:
    """Answers 413 to a request that announces more than `limit` bytes.

    What is sent is read and thrown away first: a connection closed while the sender is still sending looks to it like a
    failure of the network. Only a body of more than several times the limit is cut off.
    """

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        length = next((value for name, value in scope.get("headers", ()) if name == b"content-length"), b"")
        if not length.isdigit() or int(length) <= self._limit:
            await self._app(scope, receive, send)
            return
        left = min(int(length), self._limit * DRAINED_TIMES)
        while left > 0:
            message = await receive()
            part = message.get("body")
            left -= len(part) if isinstance(part, bytes) else 0
            if not message.get("more_body"):
                break
        raise TooLarge("body_too_large")
