"""The hourly check of events runs once for each hour, whatever happens; subscriptions in any number are looked at; and an
interrupted migration is taken up again."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support import environment

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_case(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.stores.event_hours", str(tmp_path / "data")],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4_000:]
    results = json.loads(ended.stdout.splitlines()[-1])
    assert len(results) == 13
    for case, (got, wanted) in results.items():
        assert got == wanted, case
