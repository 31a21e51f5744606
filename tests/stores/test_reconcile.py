"""Whatever a crash or a race leaves in the event store, it is put right: usage is exact again, and counts once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import environment

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = [
    "nothing broken", "by span", "emptied calls", "emptied bytes", "emptied peak", "emptied users",
    "emptied level", "emptied disk", "raw only", "counted twice",
    "before billing", "compared once",
    "journal only", "on the way", "told by keys", "one id", "same twice", "other twice", "moved twice", "store away",
]  # fmt: skip


def test_put_right(tmp_path: Path) -> None:
    """What a service counts after it was broken in every way is what it should."""
    data_dir = tmp_path / "data"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.stores.broken_rollups", str(data_dir)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4_000:]
    results: dict[str, tuple[Any, Any]] = json.loads(ended.stdout.splitlines()[-1])
    assert list(results) == CASES
    assert {case: got for case, (got, _) in results.items()} == {case: wanted for case, (_, wanted) in results.items()}
