"""What a body is, by its `Content-Type`."""

from litestar.types import Scope

NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
STREAMS = "streams"
"""The `opt` of a route that takes newline-delimited JSON of any length, and reads it piece by piece."""


def header(scope: Scope, name: bytes) -> str:
    """A header's value; where it was sent several times, all of them with commas between. Empty when absent."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def media_type(scope: Scope) -> str:
    """The body's media type in lower case, without parameters; empty when not said."""
    return header(scope, b"content-type").partition(";")[0].strip().lower()


def is_stream(scope: Scope) -> bool:
    """Whether this body is read piece by piece, and so may have any length."""
    return bool(scope["route_handler"].opt.get(STREAMS)) and media_type(scope) in NDJSON
