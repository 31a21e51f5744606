"""`/health`: whether the service can do its work."""

import asyncio
from typing import Any

import litestar
from litestar import Response
from litestar.datastructures import State

from app.service import Service


@litestar.get("/health", tags=["health"])
async def health(state: State) -> Response[dict[str, Any]]:
    """200 when both stores answer; 503 with the name of the one that does not."""
    service: Service = state.service
    up = await asyncio.gather(
        asyncio.to_thread(service.postgres.is_up),
        asyncio.to_thread(service.clickhouse.is_up),
    )
    stores = {name: "up" if is_up else "down" for name, is_up in zip(("postgres", "clickhouse"), up, strict=True)}
    healthy = all(up)
    return Response(
        {"status": "ok" if healthy else "unavailable", "stores": stores},
        status_code=200 if healthy else 503,
        headers={} if healthy else {"Retry-After": "2"},
    )
