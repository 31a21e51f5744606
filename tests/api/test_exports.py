"""`/api/v1/exports` and `meterhouse export`: files that hold exactly what was sent, and what was used."""

import io
import subprocess
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import polars as pl
import pytest

from tests.factories import (
    event,
    make_customer,
    make_metric,
    make_plan,
    make_subscription,
    ok,
    problems,
    send_events,
    set_clock,
    standard,
    units_of,
)
from tests.support import METERHOUSE, Server, environment

NOON = 1_715_342_400
VALUES = ["0.1", "1234567890.123456789012345678", "-7", "1e3", "2", "3"]
TEXTS = ["plain", "ü😀", 'quo"te', "com,ma", "new\nline", "\x00"]


@pytest.fixture
def may(api: httpx.Client) -> httpx.Client:
    set_clock(api, "2024-05-01T00:00:00Z")
    make_customer(api)
    make_plan(api, charges=[{**standard(make_metric(api, "bytes", "sum_agg")), "properties": {"amount": "0"}}])
    make_subscription(api)
    send_events(
        api,
        [
            event("bytes", "sub", NOON + number * 3_600, f"t{number}", value=value, text=TEXTS[number])
            for number, value in enumerate(VALUES)
        ],
    )
    return api


def exported(api: httpx.Client, what: str, kind: str, **query: str) -> pl.DataFrame:
    answer = api.get(f"/api/v1/exports/{what}", params={"format": kind, **query})
    assert answer.status_code == 200, answer.text
    file = io.BytesIO(answer.content)
    if kind == "parquet":
        return pl.read_parquet(file)
    return pl.read_csv(file, infer_schema=False) if kind == "csv" else pl.read_ndjson(file, infer_schema_length=None)


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_every_event_as_it_was_sent(may: httpx.Client, other: httpx.Client, kind: str) -> None:
    frame = exported(may, "events", kind)
    assert sorted(frame["transaction_id"]) == [f"t{number}" for number in range(6)]
    assert set(frame["external_subscription_id"]) == {"sub"}
    for row in frame.iter_rows(named=True):
        number = int(row["transaction_id"][1:])
        given = row["properties"]
        properties = msgspec.json.decode(given) if isinstance(given, str) else given
        assert properties == {"value": VALUES[number], "text": TEXTS[number]}
    assert exported(may, "events", kind, timestamp_from="2024-05-10T14:00:00Z").height == 4
    if kind != "ndjson":
        assert exported(other, "events", kind).height == 0


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_usage_of_each_day_adds_up(may: httpx.Client, kind: str) -> None:
    frame = exported(may, "usage", kind, from_date="2024-05-01", to_date="2024-05-31")
    total = sum(Decimal(str(units)) for units in frame["units"])
    assert total == sum(map(Decimal, VALUES)) == units_of(may)["bytes"]


def test_bad_requests(may: httpx.Client) -> None:
    assert may.get("/api/v1/exports/events", params={"format": "xls"}).status_code == 422
    bad = may.get("/api/v1/exports/events", params={"timestamp_from": "yesterday"})
    assert problems(bad) == {"timestamp_from": ["invalid_date"]}


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_what_was_exported_can_be_imported(
    server: Server, may: httpx.Client, other: httpx.Client, tmp_path: Path, kind: str
) -> None:
    """Where it came from all of it is there already; in another organization it is new. A failure writes no file."""
    file = tmp_path / f"events.{kind}"

    def run(name: str, key: str) -> int:
        command = [METERHOUSE, name, *(["events"] if name == "export" else []), str(file), "--url", server.base_url]
        ended = subprocess.run(
            [*command, "--api-key", key], env=environment(), capture_output=True, timeout=60, check=False
        )
        return ended.returncode

    def key_of(api: httpx.Client) -> str:
        return api.headers["Authorization"].removeprefix("Bearer ")

    assert run("export", "wrong") != 0
    assert not file.exists()
    assert run("export", key_of(may)) == 0
    for api in (may, other):
        assert run("import", key_of(api)) == 0
        assert ok(api.get("/api/v1/events"))["meta"]["total_count"] == 6
    sent = {one["transaction_id"]: one["properties"] for one in ok(other.get("/api/v1/events"))["events"]}
    assert sent == {f"t{number}": {"value": VALUES[number], "text": TEXTS[number]} for number in range(6)}
