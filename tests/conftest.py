"""Fixtures: one real server for the whole run, and organizations on it."""

import os
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support import Server, running


def pytest_configure(config: pytest.Config) -> None:
    """Where nothing compiled may be kept beside its source, keep it in pytest's cache: to compile all that it imports takes
    a server longer than everything else of its start."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if sys.dont_write_bytecode and cache is not None:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("compiled"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`meterhouse up` on a fresh data directory; stopped with SIGINT at the end, which must go well.

    Whatever it was sent, it must not have logged an error of its own, and all that was billed must balance.
    """
    with running(tmp_path_factory.mktemp("meterhouse") / "data") as one:
        yield one
        assert one.defects() == []
        with one.client(timeout=300) as admin:
            findings = admin.get("/admin/doctor").json()["doctor"]["findings"]
        (ledgers,) = [finding for finding in findings if finding["subject"] == "ledgers"]
        assert ledgers["status"] == "ok", ledgers["found"]


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    """With the admin key."""
    with server.client() as http:
        yield http


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    """With the key of a fresh sandbox organization."""
    with server.organization("Sandbox", sandbox=True) as http:
        yield http


@pytest.fixture
def other(server: Server) -> Iterator[httpx.Client]:
    """With the key of another fresh sandbox organization."""
    with server.organization("Other", sandbox=True) as http:
        yield http


@pytest.fixture
def live(server: Server) -> Iterator[httpx.Client]:
    """With the key of a fresh organization on the system's time."""
    with server.organization("Live") as http:
        yield http
