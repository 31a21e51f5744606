"""Where the API is listened for."""

import asyncio
import socket

from app.config import Settings
from app.stores.data_dir import CannotStart


def base_url(settings: Settings) -> str:
    """Where the settings say that the API is."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def check_port(host: str, port: int) -> None:
    """See that nothing listens there yet.

    Raises:
        CannotStart: something does, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"Cannot listen on {host}:{port} ({error.strerror}); choose another port with --port."
            ) from error


async def until_listening(host: str, port: int, serving: asyncio.Task[None]) -> None:
    """Wait until a server that is being started listens; raises what it has failed with."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    serving.result()
