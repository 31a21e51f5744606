"""`/api/v1/exports` and `meterhouse export`: everything is in the file, digit for digit, and the file goes back in."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from app.cli import main
from app.exporting import events as event_export
from tests.factories import (
    Json,
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    send_events,
    set_clock,
)
from tests.support import free_port, seeded

EVENTS = "/api/v1/exports/events"
USAGE = "/api/v1/exports/usage"
NOON = 1_715_342_400
"""2024-05-10 12:00 UTC."""
DIGITS = "12345678901234567890.123456789012345678"[1:]
NASTY = ["a'b", 'a"b', "a\\", "{x:String}", "a,b;c", "a\x00b", "😀", "\n\r\n", " ", "=1+1", "k" * 10_000]
COLUMNS = [
    "transaction_id", "external_subscription_id", "code", "timestamp", "properties", "precise_total_amount_cents", "value",
    "ingested_at",
]  # fmt: skip
USAGE_COLUMNS = [
    "from_datetime", "to_datetime", "billable_metric_code", "aggregation_type", "external_customer_id",
    "external_subscription_id", "grouped_by", "units", "events_count",
]  # fmt: skip


def parquet(content: bytes) -> list[Json]:
    rows: list[Json] = pa.parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows


def table(content: bytes) -> list[Json]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def lines(content: bytes) -> list[Json]:
    return [json.loads(line) for line in content.decode().split("\n") if line]


def fetched(api: httpx.Client, url: str, **query: Any) -> bytes:
    answer = api.get(url, params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture
def filled(api: httpx.Client, other: httpx.Client) -> list[Json]:
    """Events of every sort, as they were sent, in the order they are exported in; and some of another organization."""
    set_clock(api, "2024-05-01T00:00:00Z")
    make_metric(api, "bytes", "sum_agg")
    make_metric(api, "users", "unique_count_agg")
    make_metric(api, "computed", "sum_agg", expression="event.properties.a * 2")
    chance = seeded(11)
    sent = [
        event(
            code,
            f"s{number % 7}",
            f"{NOON + chance.randrange(10**6)}.{number % 1000:03d}",
            f"t{number}",
            value=str(number),
        )
        for number in range(6_000)
        for code in [chance.choice(["bytes", "users", "unread"])]
    ]
    sent += [event("computed", "s1", f"{NOON}.500", f"c{number}", a=f"{number}.25") for number in range(3)]
    sent += [event("unread", text, f"{NOON}.000", text, **{text: text}) for text in NASTY]
    sent += [
        {**event("bytes", "s0", f"{NOON}.001", "precise", value=DIGITS), "precise_total_amount_cents": DIGITS},
        {**event("bytes", "s0", f"{NOON}.001", "minus", value="-0.5"), "precise_total_amount_cents": "-1e-18"},
    ]
    del sent[0]["external_subscription_id"]
    send_events(api, sent)
    send_events(other, sent[:50])
    for one in sent:
        one.setdefault("external_subscription_id", "")
    return sorted(
        sent,
        key=lambda one: (
            one["external_subscription_id"].encode(),
            one["code"],
            Decimal(one["timestamp"]),
            one["transaction_id"].encode(),
        ),
    )  # fmt: skip


def instant(one: Json) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(Decimal(one["timestamp"]) * 1000))


def value_of(one: Json) -> Decimal | None:
    """What the event's metric reads as a number."""
    match one["code"]:
        case "bytes":
            return Decimal(one["properties"]["value"])
        case "computed":
            return Decimal(one["properties"]["a"]) * 2
    return None


class TestEvents:
    def test_parquet(self, api: httpx.Client, filled: list[Json]) -> None:
        content = fetched(api, EVENTS)
        schema = pa.parquet.read_schema(io.BytesIO(content))
        assert schema.names == COLUMNS
        assert schema.field("value").type == schema.field("precise_total_amount_cents").type == pa.decimal128(38, 18)
        assert schema.field("timestamp").type == pa.timestamp("ms", "UTC")
        rows = parquet(content)
        assert [
            (one["transaction_id"], one["external_subscription_id"], one["code"], one["timestamp"]) for one in rows
        ] == [(one["transaction_id"], one["external_subscription_id"], one["code"], instant(one)) for one in filled]
        assert [json.loads(one["properties"]) for one in rows] == [one["properties"] for one in filled]
        assert [one["value"] for one in rows] == [value_of(one) for one in filled]
        precise = [one.get("precise_total_amount_cents") for one in filled]
        assert [one["precise_total_amount_cents"] for one in rows] == [
            None if one is None else Decimal(one) for one in precise
        ]
        assert {one["ingested_at"].tzinfo.utcoffset(None) for one in rows} == {timedelta(0)}

    @pytest.mark.usefixtures("filled")
    def test_csv_and_ndjson(self, api: httpx.Client) -> None:
        """The same rows as texts."""
        wanted = parquet(fetched(api, EVENTS, format="parquet"))
        for kind, read in (("csv", table), ("ndjson", lines)):
            rows = read(fetched(api, EVENTS, format=kind))
            assert [list(one) for one in rows] == [COLUMNS] * len(wanted)
            for row, one in zip(rows, wanted, strict=True):
                properties = json.loads(row["properties"]) if kind == "csv" else row["properties"]
                assert properties == json.loads(one["properties"])
                assert datetime.fromisoformat(row["timestamp"]) == one["timestamp"]
                assert row["timestamp"][-5::4] == ".Z"
                assert datetime.fromisoformat(row["ingested_at"]) == one["ingested_at"]
                for name in ("value", "precise_total_amount_cents"):
                    assert (Decimal(row[name]) if row[name] else None) == one[name]
                    assert not row[name] or ("E" not in row[name] and not row[name].endswith(".0"))
                for name in ("transaction_id", "external_subscription_id", "code"):
                    assert row[name] == one[name]

    def test_what_is_asked_for(self, api: httpx.Client, other: httpx.Client, filled: list[Json]) -> None:
        def ids(**query: Any) -> list[str]:
            return [one["transaction_id"] for one in parquet(fetched(api, EVENTS, **query))]

        assert ids(code="bytes") == [one["transaction_id"] for one in filled if one["code"] == "bytes"]
        for text in ["", *NASTY]:
            mine = [one["transaction_id"] for one in filled if one["external_subscription_id"] == text]
            assert ids(external_subscription_id=text) == mine
            assert len(mine) == 1
        early = [one["transaction_id"] for one in filled if Decimal(one["timestamp"]) <= NOON + 1000]
        assert ids(timestamp_to="2024-05-10T12:16:40Z") == early
        assert 0 < len(early) < len(filled)
        assert ids(code="none") == ids(code="' OR 1=1 --") == []
        assert fetched(api, EVENTS, code="none", format="ndjson") == b""
        assert fetched(api, EVENTS, code="none", format="csv").count(b"\n") == 1
        assert len(parquet(fetched(other, EVENTS))) == 50

    def test_refused(self, api: httpx.Client) -> None:
        assert problems(api.get(EVENTS, params={"format": "xlsx"})) == {"format": ["value_is_invalid"]}
        assert problems(api.get(EVENTS, params={"timestamp_from": "x"})) == {"timestamp_from": ["invalid_date"]}
        assert api.get(EVENTS, headers={"Authorization": "Bearer none"}).status_code == 401

    def test_parts_of_any_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A part begins where the last one ended, and takes as many rows as should fit."""
        asked: list[dict[str, Any]] = []
        stored = [(f"s{n // 3}", "c", n // 2, f"t{n}") for n in range(10)]

        class Store:
            def table(self, query: Any) -> pa.Table:
                asked.append(dict(query.parameters))
                after = tuple(
                    query.parameters[f"after_{name}"] for name in ("subscription", "code", "ms", "transaction")
                )
                rows = [one for one in stored if query.parameters["is_first"] or one > after][
                    : query.parameters["limit"]
                ]
                columns = {
                    "transaction_id": [one[3] for one in rows], "external_subscription_id": [one[0] for one in rows],
                    "code": [one[1] for one in rows], "timestamp": [one[2] for one in rows],
                    "properties": ["{}"] * len(rows), "precise": [None] * len(rows), "value": [None] * len(rows),
                    "ingested_at": [0] * len(rows),
                }  # fmt: skip
                fields = [field.with_name(name) for field, name in zip(event_export.SCHEMA, columns, strict=True)]
                return pa.table(list(columns.values()), schema=pa.schema(fields))

        monkeypatch.setattr(event_export, "FIRST_ROWS", 2)
        monkeypatch.setattr(event_export, "PART_BYTES", 150)
        wanted = event_export.EventFilter(None)  # type: ignore[arg-type]
        parts = list(event_export.event_parts(Store(), wanted, datetime.now(UTC)))  # type: ignore[arg-type]
        assert [one for part in parts for one in part.column("transaction_id").to_pylist()] == [
            f"t{n}" for n in range(10)
        ]
        assert [one["is_first"] for one in asked] == [True] + [False] * (len(asked) - 1)
        assert 2 < len(asked) < 10


class TestUsage:
    def test_every_format(self, api: httpx.Client, other: httpx.Client) -> None:
        set_clock(api, "2024-05-20T00:00:00Z")
        make_plan(api)
        make_customer(api)
        make_subscription(api, "s1", subscription_at="2024-05-01T00:00:00Z")
        make_metric(api, "bytes", "sum_agg", filters=[{"key": "region", "values": ["eu", "us"]}])
        make_metric(api, "disk", "weighted_sum_agg", recurring=True)
        for client in (api, other):
            send_events(
                client,
                [
                    event(
                        code,
                        f"s{number % 2}",
                        NOON + number * 3600,
                        value=f"{number}.125",
                        region="eu" if number % 3 else "",
                    )
                    for number in range(100)
                    for code in ("bytes", "disk")
                ],
            )
        query = {"from_date": "2024-05-10", "to_date": "2024-05-16", "group_by": "region", "time_granularity": "daily"}
        shown: list[Json] = ok(
            api.get("/api/v1/analytics/usage_over_time", params={**query, "split_by": "subscription", "per_page": 1000})
        )["usage_over_time"]
        assert len(shown) > 30
        content = fetched(api, USAGE, **query)
        assert pa.parquet.read_schema(io.BytesIO(content)).field("units").type == pa.decimal128(38, 20)
        rows = parquet(content)
        assert [list(one) for one in rows] == [USAGE_COLUMNS] * len(shown)
        assert [(one["units"], one["events_count"], json.loads(one["grouped_by"])) for one in rows] == [
            (Decimal(one["units"]), one["events_count"], one["grouped_by"]) for one in shown
        ]
        names = ["billable_metric_code", "aggregation_type", "external_customer_id", "external_subscription_id"]
        assert [[one[name] for name in names] for one in rows] == [[one[name] for name in names] for one in shown]
        assert [one["from_datetime"].strftime("%Y-%m-%dT%H:%M:%SZ") for one in rows] == [
            one["from_datetime"] for one in shown
        ]
        for kind, read in (("csv", table), ("ndjson", lines)):
            texts = read(fetched(api, USAGE, **query, format=kind))
            assert [Decimal(one["units"]) for one in texts] == [one["units"] for one in rows]
            assert [one["to_datetime"] for one in texts] == [
                one["to_datetime"].strftime("%Y-%m-%dT%H:%M:%S.000Z") for one in rows
            ]
        by_customer = parquet(fetched(api, USAGE, **query, split_by="customer"))
        assert {one["external_customer_id"] for one in by_customer} == {None, "customer"}
        assert sum(one["events_count"] for one in by_customer) == sum(one["events_count"] for one in rows) == 200
        assert fetched(api, USAGE, from_date="2023-01-01", to_date="2023-01-02", format="ndjson") == b""

    def test_units_that_do_not_fit(self, api: httpx.Client) -> None:
        make_metric(api, "bytes", "sum_agg")
        send_events(api, [event("bytes", "s", NOON, value="9" * 19)])
        query = {"from_date": "2024-05-10", "to_date": "2024-05-10"}
        assert problems(api.get(USAGE, params=query)) == {"format": ["value_is_out_of_range"]}
        [row] = table(fetched(api, USAGE, **query, format="csv"))
        assert row["units"] == "9" * 19

    def test_refused(self, api: httpx.Client) -> None:
        assert problems(api.get(USAGE, params={"from_date": "x"})) == {"from_date": ["invalid_date"]}
        assert problems(api.get(USAGE, params={"timezone": "x"})) == {"timezone": ["value_is_invalid"]}


def command(api: httpx.Client, *arguments: object) -> tuple[int, str]:
    """The command in this process: what it ended with, and all it printed."""
    key = api.headers["Authorization"].removeprefix("Bearer ")
    given = [str(one) for one in arguments]
    ended = CliRunner().invoke(main, [*given, "--url", str(api.base_url), "--api-key", key])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.output


class TestCommand:
    @pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
    def test_there_and_back(
        self, api: httpx.Client, live: httpx.Client, filled: list[Json], tmp_path: Path, suffix: str
    ) -> None:
        """What was exported is imported elsewhere; where it came from all of it is there already."""
        file = tmp_path / f"events.{suffix}"
        code, output = command(api, "export", "events", file)
        assert (code, output) == (0, f"Wrote {file}: {file.stat().st_size:,} bytes.\n")
        assert [one.name for one in tmp_path.iterdir()] == [file.name]
        for name in ("computed", "bytes"):
            more = {"expression": "event.properties.a * 2"} if name == "computed" else {}
            make_metric(live, name, "sum_agg", **more)
        total = len(filled)
        code, output = command(api, "import", file, "--keep-in", tmp_path)
        assert f"{total:,} rows: 0 new, {total:,} already there, 0 rejected" in output, output
        code, output = command(live, "import", file, "--keep-in", tmp_path, "--restart")
        assert f"{total:,} rows: {total:,} new, 0 already there, 0 rejected" in output, output

        def kept(client: httpx.Client) -> list[Json]:
            rows = parquet(fetched(client, EVENTS))
            return [{name: one[name] for name in COLUMNS[:-1]} for one in rows]

        assert kept(live) == kept(api)

    def test_filters_and_usage(self, api: httpx.Client, filled: list[Json], tmp_path: Path) -> None:
        file = tmp_path / "some"
        code, _ = command(
            api, "export", "events", file, "--format", "ndjson", "--code", "bytes", "--subscription", "s0",
            "--from", "2024-05-10", "--to", "2024-05-12",
        )  # fmt: skip
        assert code == 0
        end = NOON + 2.5 * 86_400
        assert [one["transaction_id"] for one in lines(file.read_bytes())] == [
            one["transaction_id"]
            for one in filled
            if (one["code"], one["external_subscription_id"]) == ("bytes", "s0") and float(one["timestamp"]) < end
        ]
        usage = tmp_path / "usage.csv"
        code, _ = command(
            api, "export", "usage", usage, "--every", "week", "--by", "nobody", "--code", "bytes",
            "--from", "2024-05-01", "--to", "2024-05-31",
        )  # fmt: skip
        rows = table(usage.read_bytes())
        assert (code, {one["from_datetime"] for one in rows}) == (
            0, {"2024-05-06T00:00:00.000Z", "2024-05-13T00:00:00.000Z", "2024-05-20T00:00:00.000Z"}
        )  # fmt: skip
        assert sum(Decimal(one["units"]) for one in rows) == sum(
            value_of(one) or 0 for one in filled if one["code"] == "bytes"
        )

    def test_to_standard_output(self, api: httpx.Client) -> None:
        send_events(api, [event("c", "s", NOON, "t")])
        code, output = command(api, "export", "events", "-", "--format", "ndjson")
        assert (code, [one["transaction_id"] for one in lines(output.encode())]) == (0, ["t"])

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["events", "x.xlsx"], "x.xlsx: its name does not tell its format; say --format parquet, csv or ndjson"),
            (["events", "x.csv", "--from", "soon"], '422 Unprocessable Entity: {"timestamp_from": ["invalid_date"]}'),
            (["usage", "x.csv", "--code", "none"], '404 Not Found: "billable_metric_not_found"'),
        ],
    )
    def test_refused(
        self, api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert command(api, "export", *arguments) == (2, f"meterhouse: {reason}\n")
        assert list(tmp_path.iterdir()) == []

    def test_nobody_there(self, tmp_path: Path) -> None:
        file = tmp_path / "x.csv"
        options = ["--url", f"http://127.0.0.1:{free_port()}", "--api-key", "k"]
        ended = CliRunner().invoke(main, ["export", "events", str(file), *options])
        assert (ended.exit_code, "cannot be reached" in ended.output) == (2, True)
        for url in ("ftp://127.0.0.1", "127.0.0.1:3000"):
            ended = CliRunner().invoke(main, ["export", "events", str(file), "--url", url, "--api-key", "k"])
            assert (ended.exit_code, "is not the URL of a server" in ended.output) == (2, True)
        ended = CliRunner().invoke(main, ["export", "events", str(file)], env={"METERHOUSE_API_KEY": ""})
        assert (ended.exit_code, "an API key is needed" in ended.output) == (2, True)
        assert list(tmp_path.iterdir()) == []

    def test_what_breaks_off_is_no_file(self, tmp_path: Path, broken_server: str) -> None:
        (tmp_path / "x.csv").write_text("kept")
        ended = CliRunner().invoke(
            main, ["export", "events", str(tmp_path / "x.csv"), "--url", broken_server, "--api-key", "k"]
        )
        assert (ended.exit_code, "the export broke off" in ended.output) == (1, True)
        assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x.csv", "kept")]


class _BreaksOff(BaseHTTPRequestHandler):
    """Begins an answer and goes away in the middle of it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nhello\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def broken_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _BreaksOff)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
