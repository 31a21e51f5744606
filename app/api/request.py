"""The request as this API reads it: numbers in bodies are decimals, never floats."""

from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class ExactRequest(Request[Any, Any, Any]):
    """A request whose JSON keeps every digit."""

    async def json(self) -> Any:
        """The body; nothing for an empty one.

        Raises:
            msgspec.DecodeError: it is not JSON.
        """
        body = await self.body()
        return _decoder.decode(body) if body else None
