"""Compressed bodies: `Content-Encoding: gzip` and `zstd`, expanded in pieces and never beyond the limit."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

from litestar.types import ASGIApp, Receive, Scope, Send

from app.api.limits import DRAINED_TIMES, drain
from app.api.media import header, is_stream
from app.compat import zstd
from app.errors import ApiError, BadRequest, TooLarge, UnsupportedMediaType

PIECE = 256 * 1024
WINDOW_LOG = 23
"""8 MiB, the largest window that zstd may use over HTTP (RFC 9659); the memory of a decoder is not much more."""

ZLIB_GZIP = zlib.MAX_WBITS | 16
ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}


class Expander(Protocol):
    """Expands a compressed body that comes in parts."""

    def expand(self, part: bytes) -> Iterator[bytes]:
        """What a part expands to, in pieces of at most `PIECE` bytes. Raises `zlib.error` or `zstd.ZstdError`."""

    @property
    def is_complete(self) -> bool:
        """Whether the body may end here."""


class Gzip:
    """One or more gzip members; zero bytes may follow a member, as in padded files."""

    def __init__(self) -> None:
        self._member: Any = None

    def expand(self, part: bytes) -> Iterator[bytes]:
        """See `Expander`."""
        while part:
            if self._member is None:
                part = part.lstrip(b"\x00")
                self._member = zlib.decompressobj(ZLIB_GZIP) if part else None
                continue
            member = self._member
            piece = member.decompress(part, PIECE)
            while piece:
                yield piece
                piece = b"" if member.eof else member.decompress(member.unconsumed_tail, PIECE)
            part = member.unused_data
            if member.eof:
                self._member = None

    @property
    def is_complete(self) -> bool:
        """See `Expander`."""
        return self._member is None


class Zstandard:
    """One or more zstd frames."""

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None

    def expand(self, part: bytes) -> Iterator[bytes]:
        """See `Expander`."""
        while part:
            frame = self._frame or zstd.ZstdDecompressor(options=ZSTD_OPTIONS)
            self._frame = frame
            piece = frame.decompress(part, PIECE)
            while piece:
                yield piece
                piece = b"" if frame.eof else frame.decompress(b"", PIECE)
            part = frame.unused_data if frame.eof else b""
            if frame.eof:
                self._frame = None

    @property
    def is_complete(self) -> bool:
        """See `Expander`."""
        return self._frame is None


EXPANDERS: dict[str, Callable[[], Expander]] = {"gzip": Gzip, "x-gzip": Gzip, "zstd": Zstandard}


class ExpandedBody:
    """Expands the bodies of requests that say how they are compressed; others pass untouched.

    Nothing is expanded before the body is read, so not for a caller who is refused for another reason. What expands to
    more than `limit` bytes is answered with 413, bodies that are read piece by piece excepted; what is not in the encoding
    it claims with 400; an encoding that is not known with 415.
    """

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that is not compressed."""
        named = [one.strip().lower() for one in header(scope, b"content-encoding").split(",")]
        encodings = [one for one in named if one not in {"", "identity"}]
        if encodings:
            limit = None if is_stream(scope) else self._limit
            receive = _expanded(receive, encodings, limit, self._limit * DRAINED_TIMES).__anext__
        await self._app(scope, receive, send)


async def _expanded(receive: Receive, encodings: list[str], limit: int | None, drained: int) -> AsyncIterator[Any]:
    """The messages of a request with its body expanded; an empty body is empty in any encoding."""
    expander, size, more = None, 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            yield message
            continue
        part, more = message["body"], message["more_body"]
        rest = receive if more else None
        if part and expander is None:
            make = EXPANDERS.get(encodings[0]) if len(encodings) == 1 else None
            if make is None:
                raise await _after_draining(_unknown(), rest, drained)
            expander = make()
        if expander is None:
            continue
        try:
            for piece in expander.expand(part):
                size += len(piece)
                if limit is not None and size > limit:
                    raise await _after_draining(TooLarge("body_too_large"), rest, drained)
                yield {"type": "http.request", "body": piece, "more_body": True}
                await asyncio.sleep(0)  # a small part may expand to much: others have their turn in between
        except (zlib.error, zstd.ZstdError) as error:
            raise await _after_draining(_not_valid(encodings[0], str(error)), rest, drained) from error
        if not more and not expander.is_complete:
            raise _not_valid(encodings[0], "it ends early")
    yield {"type": "http.request", "body": b"", "more_body": False}
    while True:
        yield await receive()


def _unknown() -> ApiError:
    return UnsupportedMediaType("unsupported_content_encoding", headers={"Accept-Encoding": "gzip, zstd"})


def _not_valid(encoding: str, why: str) -> ApiError:
    return BadRequest(f"the body is not valid {encoding}: {why}")


async def _after_draining(error: ApiError, receive: Receive | None, most: int) -> ApiError:
    """The error, once the sender has stopped sending or has sent too much."""
    if receive is not None and not await drain(receive, most):
        error.headers["Connection"] = "close"
    return error
