"""`meterhouse import` against a running server: what arrives, what is told, and what an interruption leaves."""

import gzip
import json
import re
import signal
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import polars as pl
import pytest
from click.testing import CliRunner

from app.cli import main
from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    set_clock,
    standard,
    units_of,
)
from tests.support import METERHOUSE, Server, environment, free_port, wait_for

NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
DIGITS = "0.123456789012345678"
COLUMNS = ("--map", "transaction_id=id", "--map", "timestamp=at", "--code", "bytes", "--subscription", "sub")


@pytest.fixture
def metered(api: httpx.Client) -> httpx.Client:
    """`sub` meters `bytes` (sum of `value`)."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_plan(api, charges=[standard(make_metric(api, "bytes", "sum_agg"))])
    make_customer(api)
    make_subscription(api)
    return api


def key_of(api: httpx.Client) -> str:
    return api.headers["Authorization"].removeprefix("Bearer ")


def run(api: httpx.Client, *arguments: object) -> tuple[int, str]:
    """The command in this process: what it ended with, and all it printed."""
    command = ["import", "--url", str(api.base_url), "--api-key", key_of(api), *map(str, arguments)]
    ended = CliRunner().invoke(main, command)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.output


def counts(output: str) -> tuple[int, ...]:
    """Rows, new ones, those that were there already, and rejected ones."""
    found = re.findall(r": ([\d,]+) rows: ([\d,]+) new, ([\d,]+) already there, ([\d,]+) rejected\.", output)
    assert len(found) == 1, output
    return tuple(int(number.replace(",", "")) for number in found[0])


def imported(api: httpx.Client, *arguments: object) -> tuple[int, ...]:
    """An import in which every row is taken."""
    code, output = run(api, *arguments)
    assert code == 0, output
    return counts(output)


def total(api: httpx.Client) -> int:
    return int(ok(api.get("/api/v1/events", params={"per_page": 1}))["meta"]["total_count"])


def write_csv(path: Path, rows: Iterable[Iterable[object]], header: str = "id,at,value,region") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def left(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


class TestFormats:
    def test_csv(self, metered: httpx.Client, tmp_path: Path) -> None:
        rows = [(f"t{number}", f"2024-05-{number % 28 + 1:02d}T12:00:00.5Z", DIGITS, "eu") for number in range(5_000)]
        path = write_csv(tmp_path / "history.csv", rows)
        assert imported(metered, path, *COLUMNS) == (5_000, 5_000, 0, 0)
        assert units_of(metered)["bytes"] == Decimal(DIGITS) * 5_000
        found = ok(metered.get("/api/v1/events/t1"))["event"]
        assert (found["timestamp"], found["code"], found["external_subscription_id"]) == (
            "2024-05-02T12:00:00.500Z", "bytes", "sub",
        )  # fmt: skip
        assert found["properties"] == {"value": DIGITS, "region": "eu"}
        assert imported(metered, path, *COLUMNS, "--rows", 999) == (5_000, 0, 5_000, 0)
        assert units_of(metered)["bytes"] == Decimal(DIGITS) * 5_000
        assert left(tmp_path) == ["history.csv"]

    def test_ndjson(self, metered: httpx.Client, tmp_path: Path) -> None:
        """Events as the API takes them need no options; their numbers are not touched."""
        sent = [event("bytes", "sub", NOON + number, f"t{number}", value="?", on=True) for number in range(300)]
        for one in sent[::3]:
            one["precise_total_amount_cents"] = "?"
        lines = [json.dumps({"event": one} if place % 2 else one) for place, one in enumerate(sent)]
        path = tmp_path / "history.ndjson.gz"
        path.write_bytes(gzip.compress("\n\n".join(lines).replace('"?"', DIGITS).encode()))
        assert imported(metered, path) == (599, 300, 0, 0)
        assert units_of(metered)["bytes"] == Decimal(DIGITS) * 300
        found = ok(metered.get("/api/v1/events/t3"))["event"]
        assert found["properties"] == {"value": DIGITS, "on": "true"}
        assert found["precise_total_amount_cents"] == DIGITS

    def test_parquet(self, metered: httpx.Client, tmp_path: Path) -> None:
        instant = datetime(2024, 5, 10, 12, 0, 0, 123_000, UTC)
        frame = pl.DataFrame({"id": [f"t{number}" for number in range(3_000)]}).with_columns(
            at=pl.lit(instant).dt.convert_time_zone("Asia/Kathmandu"),
            value=pl.lit(Decimal(DIGITS)),
            tags=pl.concat_list(pl.lit(1), pl.lit(2)),
        )
        frame.write_parquet(tmp_path / "history.parquet")
        assert imported(metered, tmp_path / "history.parquet", *COLUMNS) == (3_000, 3_000, 0, 0)
        assert units_of(metered)["bytes"] == Decimal(DIGITS) * 3_000
        found = ok(metered.get("/api/v1/events/t7"))["event"]
        assert (found["timestamp"], found["properties"]["tags"]) == ("2024-05-10T12:00:00.123Z", "[1,2]")

    def test_several_files(self, metered: httpx.Client, tmp_path: Path) -> None:
        first = write_csv(tmp_path / "a.csv", [("t1", NOON, 1, "eu")])
        second = tmp_path / "b.ndjson"
        second.write_text(json.dumps({"id": "t2", "at": NOON * 1_000, "value": 2}))
        code, output = run(metered, first, second, *COLUMNS)
        assert (code, output.count("1 rows: 1 new")) == (0, 2), output
        assert "Unix seconds" in output
        assert "Unix milliseconds" in output
        assert units_of(metered)["bytes"] == 3
        empty = write_csv(tmp_path / "empty.csv", [])
        assert imported(metered, empty) == (0, 0, 0, 0)


class TestMapping:
    def test_columns_that_are_named_like_fields(self, api: httpx.Client, tmp_path: Path) -> None:
        header = "transaction_id,external_subscription_id,code,timestamp,precise_total_amount_cents,size"
        path = write_csv(tmp_path / "a.csv", [("t", "s", "c", NOON, "12.50", 5)], header)
        assert imported(api, path) == (1, 1, 0, 0)
        found = ok(api.get("/api/v1/events/t"))["event"]
        assert (found["precise_total_amount_cents"], found["properties"]) == ("12.5", {"size": "5"})

    def test_properties_that_are_named(self, api: httpx.Client, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", NOON, 5, "eu")])
        assert imported(api, path, *COLUMNS, "--properties", "region,id") == (1, 1, 0, 0)
        assert ok(api.get("/api/v1/events/t"))["event"]["properties"] == {"region": "eu", "id": "t"}
        path = write_csv(tmp_path / "b.csv", [("u", NOON, 5, "eu")])
        assert imported(api, path, *COLUMNS, "--properties", "") == (1, 1, 0, 0)
        assert ok(api.get("/api/v1/events/u"))["event"]["properties"] == {}

    @pytest.mark.parametrize(
        ("at", "options", "kept", "said"),
        [
            ("2024-05-10 14:00:00", ["--timezone", "Europe/Berlin"], "2024-05-10T12:00:00.000Z", "in Europe/Berlin"),
            ("1715342400123", [], "2024-05-10T12:00:00.123Z", "Unix milliseconds (detected"),
            ("1715342400.1239", [], "2024-05-10T12:00:00.123Z", "Unix seconds (detected"),
            ("5000", ["--timestamp-format", "ms"], "1970-01-01T00:00:05.000Z", "Unix milliseconds (as asked for)"),
            ("20240510", ["--timestamp-format", "iso"], "2024-05-10T00:00:00.000Z", "ISO 8601, in UTC"),
        ],
    )  # fmt: skip
    def test_timestamps(
        self, api: httpx.Client, tmp_path: Path, at: str, options: list[str], kept: str, said: str
    ) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", at, 5, "eu")])
        code, output = run(api, path, *COLUMNS, *options)
        assert (code, said in output) == (0, True), output
        assert ok(api.get("/api/v1/events/t"))["event"]["timestamp"] == kept

    def test_a_dry_run_sends_nothing(self, api: httpx.Client, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", NOON, DIGITS, "eu"), ("u", "", 1, "eu")])
        code, output = run(api, path, *COLUMNS, "--dry-run")
        assert code == 0
        assert f'"properties":{{"value":"{DIGITS}","region":"eu"}}' in output
        assert "value_is_mandatory" in output
        assert (total(api), left(tmp_path)) == (0, ["a.csv"])


class TestRejected:
    def test_rejected_rows_are_told_kept_and_can_be_mended(self, metered: httpx.Client, tmp_path: Path) -> None:
        rows: list[tuple[object, ...]] = [(f"t{number}", NOON, 1, "eu") for number in range(1, 41)]
        rows[2] = ("", NOON, 1, "eu")
        rows[6] = ("t7", "", 1, "eu")
        rows[20] = ("t21", "soon", 1, "eu")
        rows[33] = ("t1", NOON, 2, "eu")
        rows[39] = ("t40", "9" * 17, 1, "eu")
        path = write_csv(tmp_path / "history.csv", rows)
        code, output = run(metered, path, *COLUMNS, "--rows", 10, "--connections", 1)
        assert (code, counts(output)) == (1, (40, 35, 0, 5))
        wanted = {
            3: {"transaction_id": ["value_is_mandatory"]}, 7: {"timestamp": ["value_is_mandatory"]},
            21: {"timestamp": ["invalid_format"]}, 34: {"transaction_id": ["value_already_exist"]},
            40: {"timestamp": ["invalid_format"]},
        }  # fmt: skip
        for row, details in wanted.items():
            assert f"  row {row}: {json.dumps(details, separators=(',', ':'))}\n" in output
        assert (total(metered), units_of(metered)["bytes"]) == (35, 35)
        kept = tmp_path / "history.csv.rejected.ndjson"
        assert left(tmp_path) == ["history.csv", kept.name]
        lines = [json.loads(one) for one in kept.read_text().splitlines()]
        assert {one["row"]: one["error_details"] for one in lines} == wanted
        assert lines[2]["event"] == {
            "transaction_id": "t21", "external_subscription_id": "sub", "code": "bytes", "timestamp": "soon",
            "properties": {"value": "1", "region": "eu"},
        }  # fmt: skip
        for place, one in enumerate(lines):
            one["event"] |= {"transaction_id": f"mended{place}", "timestamp": NOON}
        kept.write_text("".join(json.dumps(one) + "\n" for one in lines))
        assert imported(metered, kept) == (5, 5, 0, 0)
        assert (total(metered), units_of(metered)["bytes"]) == (40, 41)

    def test_lines_that_are_no_rows(self, api: httpx.Client, tmp_path: Path) -> None:
        path = tmp_path / "history.ndjson"
        good = json.dumps(event("c", "s", NOON, "t"))
        wrong = json.dumps({**event("c", "s", NOON), "code": 5})
        path.write_text(f"{good}\n{{\n\n{good}\n{wrong}\n7")
        code, output = run(api, path)
        assert (code, counts(output)) == (1, (6, 1, 1, 3))
        kept = [json.loads(one) for one in (tmp_path / "history.ndjson.rejected.ndjson").read_text().splitlines()]
        assert [(one["row"], one.get("text")) for one in kept] == [(2, "{"), (5, None), (6, "7")]
        assert kept[1]["error_details"] == {"code": ["value_is_invalid"]}

    def test_only_the_first_are_printed(self, api: httpx.Client, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "a.csv", [("", NOON, 1, "eu")] * 300)
        code, output = run(api, path, *COLUMNS, "--rows", 250, "--keep-in", tmp_path)
        assert (code, counts(output), output.count("  row ")) == (1, (300, 0, 0, 300), 10)
        assert len((tmp_path / "a.csv.rejected.ndjson").read_text().splitlines()) == 300


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--map", "transaction_id=id"], "no column is the external_subscription_id: say --map"),
            ([*COLUMNS, "--map", "precise_total_amount_cents=amount"], "no column 'amount'; there are 'id', 'at'"),
            ([*COLUMNS, "--properties", "region,colour"], "no column 'colour'"),
            ([*COLUMNS, "--map", "colour=region"], "--map colour=region"),
            ([*COLUMNS, "--map", "code=region"], "code is given twice"),
            ([*COLUMNS, "--map", "timestamp=value"], "timestamp is column 'at' already"),
            ([*COLUMNS, "--timezone", "Mars/Olympus"], "Mars/Olympus"),
            ([*COLUMNS, "--separator", ";;"], "--separator"),
            ([*COLUMNS, "--format", "parquet"], "a.csv: "),
        ],
    )
    def test_what_cannot_be_read(self, api: httpx.Client, tmp_path: Path, options: list[str], said: str) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", NOON, 1, "eu")])
        code, output = run(api, path, *options)
        assert (code, said in output) == (2, True), output
        assert (total(api), left(tmp_path)) == (0, ["a.csv"])

    @pytest.mark.parametrize("stamps", [["2024-05-10", NOON], ["soon"], [20240510], [""]])
    def test_timestamps_that_do_not_tell_their_format(
        self, api: httpx.Client, tmp_path: Path, stamps: list[object]
    ) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", stamp, 1, "eu") for stamp in stamps])
        code, output = run(api, path, *COLUMNS)
        assert (code, "say --timestamp-format" in output) == (2, True), output

    def test_a_wrong_key_and_no_server(self, server: Server, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "a.csv", [("t", NOON, 1, "eu")])
        with server.client("wrong") as nobody:
            code, output = run(nobody, path, *COLUMNS)
        assert (code, "answers 401" in output) == (2, True), output
        with httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", headers={"Authorization": "Bearer x"}) as gone:
            code, output = run(gone, path, *COLUMNS)
        assert (code, "does not answer" in output) == (2, True), output
        assert left(tmp_path) == ["a.csv"]

    def test_a_file_that_breaks_in_the_middle(self, api: httpx.Client, tmp_path: Path) -> None:
        rows: list[tuple[object, ...]] = [(f"t{number}", NOON, 1, "eu") for number in range(100_000)]
        path = write_csv(tmp_path / "a.csv", [*rows, ("t", NOON, 1, "eu", "more"), ("last", NOON, 1, "eu")])
        code, output = run(api, path, *COLUMNS)
        assert (code, "a.csv: found more fields" in output) == (3, True), output
        write_csv(path, [*rows, ("last", NOON, 1, "eu")])
        code, output = run(api, path, *COLUMNS)
        assert (code, "have changed since it was last imported" in output) == (0, True), output
        assert (counts(output)[0], total(api)) == (100_001, 100_001)


class Running:
    """The command in a process of its own."""

    def __init__(self, api: httpx.Client, path: Path, *options: str):
        command = [METERHOUSE, "import", str(path), *COLUMNS, *options]
        settings = environment(url=api.base_url, api_key=key_of(api))
        self.path = path
        self.process = subprocess.Popen(
            command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_until_begun(self) -> None:
        """Wait until some rows are done."""
        wait_for(lambda: self._rows() > 0 or self.process.poll() is not None, "the first rows")

    def _rows(self) -> int:
        file = self.path.with_name(f"{self.path.name}.import-progress.json")
        kept: Json = json.loads(file.read_text()) if file.exists() else {"counts": {"rows": 0}}
        return int(kept["counts"]["rows"])

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


@pytest.fixture
def long_history(tmp_path: Path) -> Path:
    """8,000 rows, of which every thousandth has no timestamp."""
    rows = [(f"t{number}", NOON if number % 1_000 else "", 1, "eu") for number in range(8_000)]
    return write_csv(tmp_path / "long.csv", rows)


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_goes_on_where_it_was(
    metered: httpx.Client, long_history: Path, with_signal: signal.Signals
) -> None:
    first = Running(metered, long_history, "--rows", "50", "--connections", "2")
    first.wait_until_begun()
    first.process.send_signal(with_signal)
    code, output = first.end()
    assert code == (130 if with_signal is signal.SIGINT else -9), output
    assert ("goes on where this one stopped" in output) == (with_signal is signal.SIGINT)
    before = total(metered)
    assert 0 < before < 7_992
    code, output = run(metered, long_history, *COLUMNS)
    assert (code, "going on after row" in output) == (1, True), output
    rows, new, _, rejected = counts(output)
    assert (rows, rejected, total(metered), units_of(metered)["bytes"]) == (8_000, 8, 7_992, 7_992)
    assert new <= 7_992
    kept = long_history.with_name("long.csv.rejected.ndjson").read_text().splitlines()
    assert [json.loads(one)["row"] for one in kept] == list(range(1, 8_001, 1_000))


def test_a_server_that_is_gone_for_a_while(tmp_path: Path, long_history: Path) -> None:
    one = Server(tmp_path / "data")
    try:
        api = one.start().organization()
        sending = Running(api, long_history, "--rows", "50")
        sending.wait_until_begun()
        one.kill()
        one.start()
        code, output = sending.end()
        rows, new, there, rejected = counts(output)
        assert (code, rows, rejected, new + there) == (1, 8_000, 8, 7_992)
        assert total(api) == 7_992
        one.stop()
    finally:
        one.clean_up()
