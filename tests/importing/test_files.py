"""Files of history: every value as it is written, however large the file and however it is cut."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec import Raw

from app.importing import files
from app.importing.files import BadRow, File, Format, Unreadable, open_file, text_of


def rows_of(file: File, start: int = 0, size: int = 3) -> list[Any]:
    """All rows after the first `start`, literals as text."""
    rows: list[Any] = []
    for batch in file.batches(start, size):
        assert 0 < len(batch) <= size
        rows += [_plain(one) for one in batch]
    return rows


def _plain(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    return {name: bytes(value).decode() if isinstance(value, Raw) else value for name, value in row.items()}


def opened(path: Path, kind: Format | None = None, separator: str | None = None) -> File:
    return open_file(path, kind, separator)


class TestCsv:
    def test_values_are_texts_and_empty_ones_are_absent(self, tmp_path: Path) -> None:
        path = tmp_path / "history.csv"
        path.write_bytes(
            b'\xef\xbb\xbfid,amount,note\r\n1,0.12345678901234567890123456789,\r\n002,1e400,""\r\n'
            b'3,9007199254740993,"a ""b"", c\nd"\r\n,,\r\n5,-0.10,true'
        )
        wanted = [
            {"id": "1", "amount": "0.12345678901234567890123456789"},
            {"id": "002", "amount": "1e400", "note": ""},
            {"id": "3", "amount": "9007199254740993", "note": 'a "b", c\nd'},
            {},
            {"id": "5", "amount": "-0.10", "note": "true"},
        ]
        file = opened(path)
        assert file.columns() == ["id", "amount", "note"]
        assert (rows_of(file), file.count()) == (wanted, 5)
        assert [_plain(one) for one in file.sample(2)] == wanted[:2]
        for start in range(6):
            assert rows_of(file, start, 2) == wanted[start:]

    def test_separators_and_compressed_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.tsv").write_bytes(b"id\tnote\n1\tx,y\n")
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,note\n1,x\n"))
        (tmp_path / "a.txt").write_bytes(b"id;note\n1;x\n")
        assert rows_of(opened(tmp_path / "a.tsv")) == [{"id": "1", "note": "x,y"}]
        assert rows_of(opened(tmp_path / "a.csv.gz")) == [{"id": "1", "note": "x"}]
        assert rows_of(opened(tmp_path / "a.txt", Format.CSV, ";")) == [{"id": "1", "note": "x"}]
        assert rows_of(opened(tmp_path / "a.csv.gz"), start=1) == []

    @pytest.mark.parametrize("content", [b"", b"id\n1,2\n", b"id\n\xff\n"])
    def test_broken_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(Unreadable, match=r"a\.csv: "):
            rows_of(opened(tmp_path / "a.csv"))


class TestLines:
    def test_numbers_keep_their_digits(self, tmp_path: Path) -> None:
        path = tmp_path / "history.ndjson"
        path.write_bytes(
            b'\xef\xbb\xbf{"id": "1", "amount": 0.12345678901234567890, "deep": {"a": [1e400]}, "none": null}\r\n\n'
            b'{"event": {"transaction_id": "2", "amount": 9007199254740993.0}, "row": 17}\n[1]\n{"id": "\xff"}\n{"id": '
        )
        first = {"id": '"1"', "amount": "0.12345678901234567890", "deep": '{"a": [1e400]}'}
        file = opened(path)
        assert (file.columns(), file.count()) == (None, 6)
        rows = rows_of(file)
        assert rows[:3] == [first, None, {"transaction_id": '"2"', "amount": "9007199254740993.0"}]
        assert all(isinstance(one, BadRow) and one.why.startswith("malformed JSON: ") for one in rows[3:])
        assert [one.text for one in rows[3:]] == ["[1]", '{"id": "�"}', '{"id": ']
        for start in range(7):
            assert rows_of(file, start, 4) == rows[start:]

    def test_compressed_files_and_a_line_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "LONGEST_LINE", 100)
        path = tmp_path / "history.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"id": 1}\n{"id": "' + b"x" * 3_000_000 + b'"}\n{"id": 3}'))
        rows = rows_of(opened(path))
        assert (rows[0], rows[2], opened(path).count()) == ({"id": "1"}, {"id": "3"}, 3)
        assert rows[1] == BadRow("line too long: more than 100 bytes", "")
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(Unreadable):
            rows_of(opened(path))

    def test_texts(self) -> None:
        assert [text_of(one) for one in ("a", Raw(b'"\\u00e9"'), Raw(b"1.0"), Raw(b"true"))] == [
            "a",
            "é",
            "1.0",
            "true",
        ]


class TestParquet:
    def test_every_kind_of_column(self, tmp_path: Path) -> None:
        instant = datetime(2024, 5, 10, 12, 0, 0, 123_456, UTC)
        frame = pl.DataFrame(
            {
                "text": ["a", None],
                "whole": pl.Series([2**63 + 1, 0], dtype=pl.UInt64),
                "exact": [Decimal("5.00"), Decimal("-12345678901234567890.12")],
                "float": [0.1, float("nan")],
                "flag": [True, None],
                "local": [instant.replace(tzinfo=None), None],
                "instant": pl.Series([instant, None]).dt.convert_time_zone("Asia/Kathmandu"),
                "day": [date(2024, 5, 10), None],
                "span": [timedelta(seconds=90), None],
                "kind": pl.Series(["x", None], dtype=pl.Categorical),
                "bytes": [b"\xff", None],
                "list": [[1, 2], None],
                "properties": [{"code": Decimal("1.10"), "none": None}, None],
            }
        )
        frame.write_parquet(tmp_path / "history.parquet")
        file = opened(tmp_path / "history.parquet")
        first, second = rows_of(file)
        assert json.loads(first.pop("properties")) == {"code": "1.10"}
        assert first == {
            "text": "a", "whole": "9223372036854775809", "exact": "5.00", "float": "0.1", "flag": "true",
            "local": "2024-05-10T12:00:00.123456", "instant": "2024-05-10T17:45:00.123456+05:45", "day": "2024-05-10",
            "span": "PT1M30S", "kind": "x", "bytes": "/w==", "list": "[1,2]",
        }  # fmt: skip
        assert second == {"whole": "0", "exact": "-12345678901234567890.12", "float": "NaN"}
        assert file.count() == 2

    def test_many_rows_in_order(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"number": range(50_000)})
        frame.write_parquet(tmp_path / "a.pq", row_group_size=1_000)
        frame.write_csv(tmp_path / "a.csv")
        for name in ("a.pq", "a.csv"):
            for start in (0, 12_345):
                rows = rows_of(opened(tmp_path / name), start, 777)
                assert [int(one["number"]) for one in rows] == list(range(start, 50_000))

    def test_what_is_no_parquet_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1 it is not")
        with pytest.raises(Unreadable):
            opened(tmp_path / "a.parquet")


def test_a_name_that_does_not_tell(tmp_path: Path) -> None:
    for name in ("history", "history.gz", "history.xlsx"):
        with pytest.raises(Unreadable, match="--format"):
            opened(tmp_path / name)
