"""`meterhouse doctor`: what it finds in an installation that runs, is stopped, was killed, or is broken."""

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.doctor import machine
from app.doctor.findings import Finding, Status, report
from app.doctor.show import summary
from app.doctor.stores import _clock
from app.stores.data_dir import DataDir
from tests.factories import event, make_metric, ok, send_events
from tests.support import Server, environment, free_port, run_command

Found = dict[str, list[tuple[str, str]]]
"""By subject, the statuses and what was found."""

IN_STORES = {
    "PostgreSQL", "ClickHouse", "migrations", "parity", "back-fills", "reconciling", "billing", "ledgers", "events"
}  # fmt: skip


def doctor(*arguments: str, **settings: object) -> Found:
    """The findings; the exit code must fit them, and nothing else may be printed."""
    ended = run_command("doctor", "--json", *arguments, **settings)
    assert ended.stderr == ""
    answer = json.loads(ended.stdout)
    found: Found = {}
    for one in answer["findings"]:
        assert one.keys() == {"subject", "status", "found", "advice"}
        assert one["advice"] or one["status"] in {"ok", "note"}, one
        found.setdefault(one["subject"], []).append((one["status"], one["found"]))
    assert ended.returncode == (1 if answer["status"] in {"warning", "problem"} else 0), answer
    return found


def at(server: Server, *arguments: str, **settings: object) -> Found:
    return doctor("--data-dir", str(server.data_dir), "--port", str(server.port), *arguments, **settings)


def statuses(found: Found, subject: str) -> set[str]:
    return {status for status, _ in found[subject]}


class TestRunning:
    def test_everything_is_looked_at(self, server: Server) -> None:
        found = at(server, admin_key=server.admin_key)
        assert found.keys() >= IN_STORES | {
            "settings",
            "data directory",
            "server",
            "server's settings",
            "disk",
            "memory",
        }
        assert f"process {server.pid}" in found["data directory"][0][1]
        for subject in ("data directory", "server", "PostgreSQL", "ClickHouse", "migrations", "clock", "timezones"):
            assert statuses(found, subject) == {"ok"}, found[subject]

    def test_as_a_table(self, server: Server) -> None:
        ended = run_command(
            "doctor", "--data-dir", str(server.data_dir), "--port", str(server.port), admin_key="adm", pot=1
        )
        assert (ended.returncode, ended.stderr) == (1, "")
        assert "METERHOUSE_PORT" in ended.stdout
        assert ended.stdout.rstrip().endswith("1 warning.")

    @pytest.mark.parametrize("key", ["", "wrong"])
    def test_without_the_key_the_stores_are_not_seen(self, server: Server, key: str) -> None:
        found = at(server, admin_key=key)
        assert statuses(found, "server") == {"ok", "warning"}
        assert not found.keys() & IN_STORES

    def test_at_another_port(self, server: Server) -> None:
        found = doctor("--data-dir", str(server.data_dir), "--port", str(free_port()), admin_key="adm")
        assert statuses(found, "server") == {"warning"}

    def test_a_port_of_another_meterhouse(self, server: Server, tmp_path: Path) -> None:
        found = doctor("--data-dir", str(tmp_path / "none"), "--port", str(server.port))
        assert statuses(found, "server") == {"warning"}
        assert found["data directory"][0][0] == "note"
        assert not (tmp_path / "none").exists()

    def test_only_with_the_admin_key(self, admin: httpx.Client, api: httpx.Client) -> None:
        assert api.get("/admin/doctor").status_code == 401
        assert api.post("/admin/reconcile").status_code == 401
        assert ok(admin.post("/admin/reconcile"))["reconcile"]["cells_mended"] == 0
        assert ok(admin.get("/admin/doctor"))["doctor"]["findings"]


BREAK = """
import sys
from app.stores.clickhouse import open_clickhouse
from pathlib import Path
store = open_clickhouse("", Path(sys.argv[1]), 1, create=False)
with store._run("break") as client:
    for statement in sys.argv[2:]:
        client.command(statement)
store.close()
"""


def change(server: Server, *statements: str) -> None:
    """Run statements on the event store of a stopped service."""
    subprocess.run([sys.executable, "-c", BREAK, str(server.data_dir), *statements], env=environment(), check=True)


def test_killed_broken_and_mended(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", rollup_linger_ms=60_000)
    try:
        server.start()
        with server.organization() as api:
            make_metric(api, "calls")
            ok(api.get("/api/v1/events"))  # waits until the metric has read its kept events, which empties the journal
            send_events(api, [event("calls", timestamp=3_600 * number) for number in range(1, 8)])
        server.kill()
        journal = {file.name: file.read_bytes() for file in (server.data_dir / "journal").iterdir()}

        found = at(server)
        assert found["journal"] == [("note", "7 acknowledged events wait there.")]
        assert found["events"] == [("ok", "There are none yet.")]
        assert statuses(found, "server") == {"ok"}
        assert {file.name: file.read_bytes() for file in (server.data_dir / "journal").iterdir()} == journal

        server.start()
        server.stop()
        one_cell = "SELECT * EXCEPT events_count, events_count, 0 FROM usage_count WHERE hour = 5"
        change(server, f"INSERT INTO usage_max {one_cell}", "DELETE FROM usage_count WHERE hour < 3")
        found = at(server)
        assert found["events"] == [("ok", "There are 7.")]
        assert statuses(found, "journal") == {"ok"}
        assert statuses(found, "parity") == {"warning"}
        assert "3 hourly cells" in found["parity"][0][1]
        assert "count_agg: 2, max_agg: 1" in found["parity"][0][1]

        server.start()
        found = at(server, "--mend", admin_key=server.admin_key)
        assert found["mending"] == [("note", "3 hourly cells differed and were made anew.")]
        assert statuses(found, "parity") == {"ok"}
        server.stop()

        change(server, "INSERT INTO usage_max (organization_id, hour, events_count) VALUES (generateUUIDv4(), 6, 1)")
        found = at(server, "--mend")
        assert found["mending"] == [("note", "1 hourly cells differed and were made anew.")]
        assert statuses(found, "parity") == {"ok"}

        change(server, "INSERT INTO migrations (name) VALUES ('9999_later')")
        found = at(server)
        assert statuses(found, "migrations") == {"ok", "problem"}
        assert "parity" not in found

        change(server, "ALTER TABLE migrations DELETE WHERE name = '9999_later' SETTINGS mutations_sync = 2")
        assert statuses(at(server), "migrations") == {"ok"}
        changed = (
            "ALTER TABLE migrations UPDATE statements_hash = 1 WHERE name = '0001_events' SETTINGS mutations_sync = 2"
        )
        for one in (changed, "ALTER TABLE migrations DROP COLUMN statements_hash"):
            change(server, one)
            found = at(server)["migrations"]
            assert ("problem", "ClickHouse's tables were made by another Meterhouse.") in found
        with pytest.raises(AssertionError, match=r"by another\s+Meterhouse, with other\s+statements in\s+0001_events"):
            server.start()
    finally:
        server.clean_up()


def test_a_running_server_is_asked_to_mend(server: Server) -> None:
    assert at(server, "--mend", admin_key=server.admin_key)["mending"] == [("note", "Nothing to mend.")]
    assert at(server, "--mend", admin_key="wrong")["mending"][0][0] == "problem"


def test_a_port_of_something_else(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = doctor("--data-dir", str(tmp_path / "none"), "--port", str(taken.getsockname()[1]))
    assert statuses(found, "server") == {"problem"}


def test_a_store_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / "meterhouse.json").write_text('{"layout": 1, "state": "ready"}')
    found = doctor("--data-dir", str(tmp_path), "--port", str(free_port()))
    assert statuses(found, "ClickHouse") == {"problem"}
    assert {file.name for file in tmp_path.iterdir()} == {"meterhouse.json", "lock"}


class TestSettings:
    def test_all_that_is_wrong_is_told(self, tmp_path: Path) -> None:
        found = doctor("--data-dir", str(tmp_path), port="none", close_chunk=0, log_level="loud", databaseurl="x")
        told = " ".join(text for _, text in found["settings"])
        for name in ("PORT", "CLOSE_CHUNK", "LOG_LEVEL", "DATABASEURL"):
            assert f"METERHOUSE_{name}" in told
        assert statuses(found, "settings") == {"problem", "warning"}
        assert list(tmp_path.iterdir()) == []

    def test_addresses(self) -> None:
        wrong = {"METERHOUSE_DATABASE_URL": "nowhere", "METERHOUSE_CLICKHOUSE_URL": "nowhere"}
        _, findings = machine.check_settings(wrong, {})
        assert [one.status for one in findings] == ["problem", "problem"]

    def test_what_goes_badly_together(self) -> None:
        given = {"METERHOUSE_MAX_QUEUED_EVENTS": "10", "METERHOUSE_DATABASE_URL": "postgresql://h/d"}
        _, findings = machine.check_settings(given, {})
        assert [one.status for one in findings] == ["warning", "note"]


def test_servers_that_do_not_answer() -> None:
    port = free_port()
    nowhere = {"database_url": f"postgresql://127.0.0.1:{port}/x", "clickhouse_url": f"http://127.0.0.1:{port}"}
    found = doctor("--port", str(port), **nowhere)
    assert statuses(found, "PostgreSQL") == {"problem"}


class TestDirectory:
    @pytest.mark.parametrize(
        ("marker", "status"),
        [
            (None, "problem"),
            ("", "problem"),
            ('{"layout": 2, "state": "ready"}', "problem"),
            ('{"layout": 1, "state": "initialising"}', "note"),
            ('{"layout": 1, "state": "ready"}', "ok"),
        ],
    )
    def test_states(self, tmp_path: Path, marker: str | None, status: str) -> None:
        (tmp_path / "something").touch()
        if marker is not None:
            (tmp_path / "meterhouse.json").write_text(marker)
        before = sorted(tmp_path.iterdir())
        (found,) = machine.check_directory(DataDir(tmp_path))
        assert found.status == status
        assert sorted(tmp_path.iterdir()) == before

    def test_one_that_everybody_may_write_to(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        assert [one.status for one in machine.check_directory(DataDir(tmp_path))] == ["note", "warning"]

    def test_one_that_is_held(self, tmp_path: Path) -> None:
        held = DataDir(tmp_path)
        held.hold()
        assert DataDir(tmp_path).holder() is not None
        held.release()
        assert DataDir(tmp_path).holder() is None

    def test_a_path_through_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert machine.check_directory(DataDir(tmp_path / "file"))[0].status == "problem"


class TestJournal:
    def test_a_last_line_that_was_cut_short_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "events-0.jsonl").write_text('{"organization_id": "')
        assert machine.check_journal(tmp_path)[0].status == "ok"

    def test_a_damaged_line(self, tmp_path: Path) -> None:
        (tmp_path / "events-1.jsonl").write_text("{}\n")
        assert machine.check_journal(tmp_path)[0].status == "problem"


@pytest.mark.parametrize(
    ("free", "total", "status"),
    [
        (50, 100, "ok"),
        (1.9, 100, "warning"),
        (4, 100, "warning"),
        (2.1, 20, "ok"),
        (0.4, 1, "problem"),
        (0, 100, "problem"),
    ],
)
def test_disk(free: float, total: float, status: str) -> None:
    assert machine.disk_finding("there", int(free * machine.GIB), int(total * machine.GIB)).status == status


@pytest.mark.parametrize(
    ("apart", "status"), [(0, "ok"), (-1, "ok"), (5, "warning"), (-5, "warning"), (60, "problem"), (-60, "problem")]
)
def test_clocks(apart: int, status: str) -> None:
    before = datetime(2026, 1, 1, tzinfo=UTC)
    after = before + timedelta(seconds=1)
    assert _clock("the store", before, before + timedelta(seconds=apart), after).status == status


def test_a_clock_that_was_never_set() -> None:
    assert machine.check_time(datetime(1970, 1, 1, tzinfo=UTC))[0].status == "problem"


def test_a_summary_counts_what_wants_to_be_done() -> None:
    def of(*each: str) -> str:
        return summary(report([Finding("x", Status(one), "y") for one in each]))

    assert of("ok", "note") == of() == "All is well."
    assert of("warning", "ok", "problem", "warning") == "1 problem and 2 warnings."
    assert report([]).status == "ok"
