"""The request as this API reads it: numbers in bodies are decimals, never floats."""

from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request

from app.errors import BadRequest

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading JSON that is broken, not UTF-8 or nested too deep raises."""

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class ExactRequest(Request[Any, Any, Any]):
    """A request whose JSON keeps every digit."""

    async def json(self) -> Any:
        """The body; nothing for an empty one.

        Raises:
            BadRequest: it is not JSON, not UTF-8, or nested too deep to be read.
        """
        body = await self.body()
        try:
            return _decoder.decode(body) if body else None
        except UNREADABLE as error:
            raise BadRequest(f"malformed JSON: {error}") from error
