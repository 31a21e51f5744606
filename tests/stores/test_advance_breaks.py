"""Events billed one by one, while the store fails, the clock is set back, or another process is late."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import environment

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = ["failed, read", "failed", "back", "late, at once", "late, busy", "late"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Which fees there are after each case, and which there should be."""
    data_dir = tmp_path_factory.mktemp("advance") / "data"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.stores.advance_breaks", str(data_dir)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4_000:]
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def test_every_case_is_looked_at(results: dict[str, Any]) -> None:
    assert list(results) == CASES


@pytest.mark.parametrize("case", CASES)
def test_each_event_has_its_fee_once(results: dict[str, Any], case: str) -> None:
    got, wanted = results[case]
    assert got == wanted
