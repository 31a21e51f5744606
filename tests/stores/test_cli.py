"""`meterhouse up` where it cannot start: it says why in one line; and what a second start leaves as it is."""

import re
import socket
from pathlib import Path

import pytest

from tests.factories import event, make_customer, make_metric, ok, send_events
from tests.support import Server, free_port, run_up, running


def reason(*arguments: str, **settings: object) -> str:
    """The one line with which a start is refused."""
    ended = run_up(*arguments, **settings)
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("meterhouse: ")
    return lines[0]


def up(data_dir: Path, port: int | None = None) -> str:
    return reason("--data-dir", str(data_dir), "--port", str(port or free_port()))


def contents(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.name != "lock")


class TestRefusals:
    def test_a_taken_port(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = up(tmp_path / "data", port)
        assert str(port) in line
        assert "--port" in line
        assert contents(tmp_path) == []

    def test_a_directory_that_another_server_uses(self, server: Server) -> None:
        line = up(server.data_dir)
        assert f"pid {server.pid}" in line
        with server.client() as admin:
            assert admin.get("/health").status_code == 200

    def test_a_port_and_a_directory_of_another_server(self, server: Server) -> None:
        assert "--port" in up(server.data_dir, server.port)

    def test_a_path_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("kept")
        for path in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/meterhouse")):
            assert "--data-dir" in up(path)
        assert (tmp_path / "file").read_text() == "kept"

    def test_somebody_elses_directory(self, tmp_path: Path) -> None:
        (tmp_path / "holiday.jpg").write_bytes(b"x")
        assert "--data-dir" in up(tmp_path)
        assert contents(tmp_path) == ["holiday.jpg"]

    @pytest.mark.parametrize(
        "marker", ["", "[]", '{"layout": 1}', '{"layout": 1, "state": "x"}', '{"layout": 2, "state": "ready"}']
    )
    def test_a_directory_whose_state_cannot_be_told(self, tmp_path: Path, marker: str) -> None:
        (tmp_path / "meterhouse.json").write_text(marker)
        (tmp_path / "postgres").mkdir()
        assert str(tmp_path) in up(tmp_path)
        assert contents(tmp_path) == ["meterhouse.json", "postgres"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("port", "abc"), ("port", "0"), ("port", "65536"), ("max_body_bytes", "-1"), ("close_chunk", "1.5")],
    )
    def test_a_setting_that_cannot_be_used(self, tmp_path: Path, name: str, value: str) -> None:
        line = reason("--data-dir", str(tmp_path / "data"), **{name: value})
        assert f"METERHOUSE_{name.upper()}" in line
        assert contents(tmp_path) == []

    def test_an_address_that_is_none(self, tmp_path: Path) -> None:
        line = reason("--data-dir", str(tmp_path / "data"), "--port", str(free_port()), clickhouse_url="ftp://ch")
        assert "METERHOUSE_CLICKHOUSE_URL" in line

    def test_a_database_that_does_not_answer(self, tmp_path: Path) -> None:
        url = f"postgresql://127.0.0.1:{free_port()}/none"
        line = reason("--data-dir", str(tmp_path / "data"), "--port", str(free_port()), database_url=url)
        assert "METERHOUSE_DATABASE_URL" in line
        with running(tmp_path / "data") as corrected, corrected.organization() as api:
            ok(api.get("/api/v1/events"))


def test_a_second_start_keeps_everything_and_shows_no_key_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, admin_key="") as first:
        shown = first.output.read_text()
        (admin_key,) = re.findall(r"Admin key.*: +(\S+)", shown)
        (key,) = re.findall(r"API key of your organization.*: +(\S+)", shown)
        with first.client(key) as api:
            make_metric(api, "calls")
            make_customer(api)
            send_events(api, [event("calls", "sub", 1_715_342_400, f"t{number}") for number in range(10)])
        first.stop()
        first.output.write_text("")
        first.start()
        again = first.output.read_text()
        assert first.base_url in again
        assert "key" not in again.lower()
        with first.client(key) as api, first.client(admin_key) as admin:
            assert ok(api.get("/api/v1/events"))["meta"]["total_count"] == 10
            assert ok(api.get("/api/v1/billable_metrics"))["meta"]["total_count"] == 1
            assert ok(api.get("/api/v1/customers/customer"))["customer"]["external_id"] == "customer"
            assert ok(admin.get("/admin/organizations"))["meta"]["total_count"] == 1
        assert first.errors.read_text() == ""
