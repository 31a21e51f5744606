"""Whatever a crash or a race leaves in the event store, it is put right: usage is exact again, and counts once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import environment

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = [
    "nothing broken", "emptied calls", "emptied bytes", "emptied peak", "emptied users",
    "emptied level", "emptied disk", "raw only", "counted twice",
    "before billing", "compared once",
    "journal only", "on the way", "same twice", "other twice", "moved twice", "store away",
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a service counts after it was broken in every way, and what it should."""
    data_dir = tmp_path_factory.mktemp("reconcile") / "data"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.stores.broken_rollups", str(data_dir)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4_000:]
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("case", CASES)
def test_put_right(results: dict[str, Any], case: str) -> None:
    got, wanted = results[case]
    assert got == wanted


def test_every_case_is_looked_at(results: dict[str, Any]) -> None:
    assert list(results) == CASES
